"""An operator process against the real API server, under the namespaced Role and nothing wider."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from cluster.apiserver import ApiError, ApiServer
from cluster.audit import AuditEntry
from cluster.child import Child
from cluster.fake_gateway import FakeGateway

ROLE: Final = Path(__file__).parent / "rbac" / "operator.yaml"
ACCOUNT: Final = "hookstead-operator"
API: Final = "hookstead.dev/v1alpha1"
PLURALS: Final = {
    "WebhookEnvironment": "webhookenvironments",
    "WebhookEndpoint": "webhookendpoints",
    "WebhookChannel": "webhookchannels",
    "WebhookEventType": "webhookeventtypes",
    "WebhookReplay": "webhookreplays",
}
LABEL: Final = {"hookstead.dev/endpoint-secret": "true"}
KEY: Final = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
START: Final = """
import asyncio, json, logging, sys
from pathlib import Path
from hookstead.operator.options import OperatorOptions
from hookstead.operator.run import run
logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s", stream=sys.stderr)
given = json.loads(sys.argv[1])
given["kubeconfig"] = Path(given["kubeconfig"])
given["gateways"] = tuple(given["gateways"])
if given.get("admin_listen"):
    given["admin_listen"] = tuple(given["admin_listen"])
sys.exit(asyncio.run(run(OperatorOptions(**given))))
"""


def eventually(what: str, holds: Callable[[], Any], *, seconds: float = 15.0) -> Any:
    """The first truthy answer. Raises AssertionError naming what never came to hold."""
    deadline = time.monotonic() + seconds
    last: Any = None
    while time.monotonic() < deadline:
        last = holds()
        if last:
            return last
        time.sleep(0.05)
    raise AssertionError(f"never within {seconds:.0f} s: {what}; last seen: {last!r}")


@dataclass
class World:
    """One namespace with its gateways and its operator."""

    server: ApiServer
    namespace: str
    folder: Path
    gateway: FakeGateway
    operators: list[Child] = field(default_factory=list)
    _kubeconfig: Path | None = None

    # The operator.

    def start_operator(self, *, gateways: Sequence[str] | None = None, preface: str = "", **options: Any) -> Child:
        """As a process of its own. `options`: fields of OperatorOptions. `preface`: Python that runs before it."""
        if self._kubeconfig is None:
            self.server.kubectl("apply", "-f", ROLE, namespace=self.namespace)
            token = self.server.service_account_token(self.namespace, ACCOUNT)
            self._kubeconfig = self.server.kubeconfig(token=token, namespace=self.namespace)
        if "gateway_selector" not in options and gateways is None:
            gateways = [self.gateway.url]
        given = {
            "namespace": self.namespace,
            "kubeconfig": str(self._kubeconfig),
            "gateways": list(gateways or ()),
            **options,
        }
        child = Child(
            [sys.executable, "-c", f"{preface}\n{START}", json.dumps(given)],
            log=self.folder / f"operator-{len(self.operators)}.log",
            environment=self.server.environment(namespace=self.namespace)
            | {"PYTHONPATH": str(Path(__file__).parents[2] / "controller"), "PYTHONUNBUFFERED": "1"},
        )
        self.operators.append(child)
        return child

    def stop_operator(self) -> int:
        """Orderly; the exit code."""
        return self.operators[-1].terminate(grace_seconds=15)

    def kill_operators(self) -> None:
        for child in self.operators:
            child.kill()

    # Objects.

    def apply(self, *objects: dict[str, Any]) -> None:
        """Create, or give a new spec: what `kubectl apply` comes to, without its half second."""
        for body in objects:
            self._apply(body)

    def _apply(self, body: dict[str, Any]) -> None:
        core = body["apiVersion"] == "v1"
        root = f"/api/v1/namespaces/{self.namespace}" if core else f"/apis/{API}/namespaces/{self.namespace}"
        path = f"{root}/{'secrets' if core else PLURALS[body['kind']]}"
        try:
            self.server.request("POST", path, body)
        except ApiError as error:
            if error.status != 409:
                raise
            self.server.update(f"{path}/{body['metadata']['name']}", body)

    def delete(self, kind: str, name: str) -> None:
        self.server.request("DELETE", f"{self._path(kind)}/{name}")

    def get(self, kind: str, name: str) -> dict[str, Any]:
        body: dict[str, Any] = self.server.request("GET", f"{self._path(kind)}/{name}")
        return body

    def secret(self, name: str) -> dict[str, Any] | None:
        try:
            body: dict[str, Any] = self.server.request("GET", f"/api/v1/namespaces/{self.namespace}/secrets/{name}")
        except ApiError as error:
            if error.status == 404:
                return None
            raise
        return body

    def annotate(self, kind: str, name: str, key: str, value: str) -> None:
        self.server.kubectl("annotate", "--overwrite", kind.lower(), name, f"{key}={value}", namespace=self.namespace)

    def _path(self, kind: str) -> str:
        return f"/apis/{API}/namespaces/{self.namespace}/{PLURALS[kind]}"

    # Statuses.

    def status(self, kind: str, name: str) -> dict[str, Any]:
        status: dict[str, Any] = self.get(kind, name).get("status") or {}
        return status

    def condition(self, kind: str, name: str, condition: str) -> tuple[str, str] | None:
        """Its status and reason, if it speaks of the present generation."""
        body = self.get(kind, name)
        return condition_of(body, condition)

    def expect(
        self, kind: str, name: str, seconds: float = 15.0, **conditions: tuple[str, str] | None
    ) -> dict[str, Any]:
        """Wait until the conditions say so; the status. None: the condition is absent."""

        last: dict[str, Any] = {}

        def holds() -> dict[str, Any] | None:
            body = self.get(kind, name)
            if body["status"].get("observedGeneration") != body["metadata"]["generation"]:
                return None
            said = {key: condition_of(body, key) for key in conditions}
            last.update(said)
            return dict(body["status"]) if said == conditions else None

        try:
            return dict(eventually(f"{kind} {name}: {conditions}", holds, seconds=seconds))
        except AssertionError as error:
            raise AssertionError(f"{error}; conditions: {last}\n{self.words()}") from None

    def words(self) -> str:
        """The ends of the operators' logs."""
        return "\n".join(child.last_words(lines=60) for child in self.operators)

    # The journal.

    def writes(self, since: int, *, resource: str | None = None) -> list[AuditEntry]:
        """What the operator wrote in this namespace after the mark."""
        return [
            entry
            for entry in self.server.audit_entries(since=since)
            if entry.writes
            and entry.namespace == self.namespace
            and entry.user == f"system:serviceaccount:{self.namespace}:{ACCOUNT}"
            and (resource is None or entry.resource == resource)
        ]


def condition_of(body: dict[str, Any], condition: str) -> tuple[str, str] | None:
    for item in (body.get("status") or {}).get("conditions") or ():
        if item["type"] == condition:
            assert item["observedGeneration"] <= body["metadata"]["generation"]
            return item["status"], item["reason"]
    return None


@contextmanager
def world(server: ApiServer, namespace: str, folder: Path) -> Iterator[World]:
    """A namespace with a fake gateway; everything that was started in it is stopped at the end."""
    gateway = FakeGateway().start()
    made = World(server=server, namespace=namespace, folder=folder, gateway=gateway)
    try:
        yield made
    finally:
        made.kill_operators()
        gateway.stop()


# Manifests.


def manifest(kind: str, name: str, spec: dict[str, Any], **meta: Any) -> dict[str, Any]:
    return {"apiVersion": API, "kind": kind, "metadata": {"name": name, **meta}, "spec": spec}


def environment(state: str = "Enabled", **spec: Any) -> dict[str, Any]:
    return manifest("WebhookEnvironment", "default", {"state": state, **spec})


def endpoint(name: str, url: str = "https://receiver.example.com/hooks?token=1", **spec: Any) -> dict[str, Any]:
    return manifest("WebhookEndpoint", name, {"url": url, **spec})


def keyed(secret: str, key: str = "key", **more: Any) -> dict[str, Any]:
    """`spec.signing` with one key."""
    return {"keys": [{"id": "main", "secretKeyRef": {"name": secret, "key": key}, **more}]}


def channel(name: str, wire: str | None = None, **spec: Any) -> dict[str, Any]:
    return manifest("WebhookChannel", name, {"channelName": wire or name.replace("-", "_"), **spec})


def event_type(name: str, wire: str | None = None, **spec: Any) -> dict[str, Any]:
    return manifest("WebhookEventType", name, {"type": wire or name, "description": "A test.", **spec})


def replay(name: str, of: str, **spec: Any) -> dict[str, Any]:
    since = spec.pop("since", f"{datetime.now(UTC):%Y-%m-%d}T00:00:00Z")
    return manifest("WebhookReplay", name, {"endpointRef": {"name": of}, "since": since, **spec})


def secret(name: str, labels: dict[str, str] | None = None, **data: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "labels": LABEL if labels is None else labels},
        "stringData": data or {"key": KEY},
    }
