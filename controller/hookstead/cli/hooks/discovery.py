"""Which pod is the environment's gateway: chosen from the pods that the chart labels as one. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from hookstead.cli.outcome import CommandError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

SELECTOR: Final = "app.kubernetes.io/name=hookstead,app.kubernetes.io/component=gateway"
INSTANCE: Final = "app.kubernetes.io/instance"
PORT_NAME: Final = "http"

Pod = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A pod that can be asked."""

    namespace: str
    pod: str
    port: int
    release: str

    def account(self, suffix: str) -> str:
        """The name of one of the release's ServiceAccounts: `<release>-reader`, `<release>-operator-user`."""
        return f"{self.release}-{suffix}"


def choose(pods: Sequence[Pod], *, release: str | None, place: str) -> Target:
    """The first live pod, by name, of the release: the given one, or the only one there is.

    `place` names the namespace. Raises CommandError that says what is missing.
    """
    by_release: dict[str, list[Pod]] = {}
    for pod in pods:
        by_release.setdefault(_labels(pod).get(INSTANCE, ""), []).append(pod)
    by_release.pop("", None)
    if not by_release:
        raise CommandError(
            f"no gateway in {place}: no pod there is labelled {SELECTOR} and {INSTANCE}=RELEASE. Name the "
            "environment's namespace with --namespace, or a gateway with --server URL; for `hookstead dev` that is "
            "http://127.0.0.1:8080."
        )
    if release is None and len(by_release) > 1:
        raise CommandError(
            f"{len(by_release)} releases have a gateway in {place}: choose with --release, one of "
            f"{', '.join(sorted(by_release))}."
        )
    chosen = release if release is not None else next(iter(by_release))
    if chosen not in by_release:
        raise CommandError(
            f"release {chosen} has no gateway in {place}: releases that have one are {', '.join(sorted(by_release))}."
        )
    return _first_live(by_release[chosen], release=chosen, place=place)


def _first_live(pods: Sequence[Pod], *, release: str, place: str) -> Target:
    for pod in sorted(pods, key=lambda one: str(one["metadata"]["name"])):
        port = _port(pod)
        if port is not None and _is_ready(pod) and not pod["metadata"].get("deletionTimestamp"):
            metadata = pod["metadata"]
            return Target(namespace=metadata["namespace"], pod=metadata["name"], port=port, release=release)
    if all(_port(pod) is None for pod in pods):
        raise CommandError(f"the gateway of release {release} in {place} has no port named {PORT_NAME}.")
    states = ", ".join(f"{pod['metadata']['name']}: {_state(pod)}" for pod in pods[:5])
    raise CommandError(f"no gateway of release {release} in {place} is Ready ({states}). Look at `kubectl get pods`.")


def _labels(pod: Pod) -> Mapping[str, str]:
    return pod["metadata"].get("labels") or {}


def _is_ready(pod: Pod) -> bool:
    conditions = (pod.get("status") or {}).get("conditions") or ()
    return any(one.get("type") == "Ready" and one.get("status") == "True" for one in conditions)


def _state(pod: Pod) -> str:
    if pod["metadata"].get("deletionTimestamp"):
        return "Terminating"
    return str((pod.get("status") or {}).get("phase") or "Unknown")


def _port(pod: Pod) -> int | None:
    for container in (pod.get("spec") or {}).get("containers") or ():
        for port in container.get("ports") or ():
            if port.get("name") == PORT_NAME:
                return int(port["containerPort"])
    return None
