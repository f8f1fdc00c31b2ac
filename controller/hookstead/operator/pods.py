"""Which gateways are live, from the pods that the selector picks: Ready, not terminating, a port named `internal`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

    from hookstead.operator.kube import Listing

PORT_NAME: Final = "internal"


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayPod:
    """A pod as far as it matters: `address` is host and port, None while it is not live."""

    uid: str
    resource_version: int
    address: str | None


@dataclass(slots=True)
class PodStore:
    """The selected pods by name."""

    pods: dict[str, GatewayPod] = field(default_factory=dict)

    def observe(self, event: str | None, body: Mapping[str, Any]) -> bool:
        """Take in one event of the watch; True when the live addresses may be different now."""
        meta = body["metadata"]
        name = meta["name"]
        before = self.pods.get(name)
        pod = GatewayPod(
            uid=meta["uid"],
            resource_version=int(meta["resourceVersion"]),
            address=live_address(body),
        )
        if before is not None and pod.resource_version < before.resource_version:
            return False
        if event == "DELETED":
            return self.pods.pop(name, None) is not None
        self.pods[name] = pod
        return before is None or before.address != pod.address

    def missing(self, listing: Listing) -> list[str]:
        """The pods of the list that the feed has not brought yet."""
        return [
            name
            for name, listed in listing.items.items()
            if name not in self.pods or self.pods[name].resource_version < listed.resource_version
        ]

    def sweep(self, listing: Listing) -> bool:
        """Remove what the list does not know and what is older than it; True when something went."""
        gone = [
            name
            for name, pod in self.pods.items()
            if pod.resource_version <= listing.resource_version
            and (name not in listing.items or listing.items[name].uid != pod.uid)
        ]
        for name in gone:
            del self.pods[name]
        return bool(gone)

    def addresses(self) -> frozenset[str]:
        """Host and port of every live pod."""
        return frozenset(pod.address for pod in self.pods.values() if pod.address is not None)


def live_address(body: Mapping[str, Any]) -> str | None:
    """`10.0.0.7:9443` or `[fd00::7]:9443`; None for a pod that is not Ready, terminates, or has no such port."""
    status = body.get("status") or {}
    ready = any(item.get("type") == "Ready" and item.get("status") == "True" for item in status.get("conditions") or ())
    host = status.get("podIP")
    port = _port(body)
    if not ready or not host or port is None or body["metadata"].get("deletionTimestamp"):
        return None
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _port(body: Mapping[str, Any]) -> int | None:
    for container in (body.get("spec") or {}).get("containers") or ():
        for port in container.get("ports") or ():
            if port.get("name") == PORT_NAME:
                return int(port["containerPort"])
    return None
