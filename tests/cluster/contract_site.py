"""`hookstead operator` and `hookstead gateway` as processes on a real API server, seen from outside only.

Nothing of the product is imported: flags, manifests, HTTP and `kubectl` are all there is. What a kubelet would mount is
written into folders here.
"""

from __future__ import annotations

import base64
import itertools
import json
import os
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from cluster.apiserver import ApiError, ApiServer
from cluster.child import Child, free_port
from contract.processes import Receiver, Reply, ask, command, environment_variables, until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from cluster.audit import AuditEntry

ROLE: Final = Path(__file__).parent / "rbac" / "operator.yaml"
ACCOUNT: Final = "hookstead-operator"
API: Final = "hookstead.dev/v1alpha1"
ENVIRONMENT, ENDPOINT, CHANNEL, EVENT_TYPE, REPLAY = (
    "WebhookEnvironment",
    "WebhookEndpoint",
    "WebhookChannel",
    "WebhookEventType",
    "WebhookReplay",
)
KINDS: Final = (ENVIRONMENT, ENDPOINT, CHANNEL, EVENT_TYPE, REPLAY)
LABEL: Final = {"hookstead.dev/endpoint-secret": "true"}
RESUME: Final = "hookstead.dev/resume-requested-at"
RECONCILE: Final = "hookstead.dev/reconcile-requested-at"
EGRESS: Final = {"plaintextHTTP": "Allow", "privateNetworks": "Allow", "allowedCIDRs": ["127.0.0.0/8"]}

_numbers: Final = itertools.count(1)


@dataclass
class Site:
    """One namespace with its operator, its gateway and a receiver. `name()` gives names that nobody else uses."""

    server: ApiServer
    namespace: str
    folder: Path
    receiver: Receiver
    port: int = field(default_factory=free_port)
    admin: int = field(default_factory=free_port)
    internal: int = field(default_factory=free_port)
    children: list[Child] = field(default_factory=list)
    operator: Child | None = None
    gateway: Child | None = None
    internal_secret: str = "hookstead-internal"

    # Programs.

    def start_operator(self, *flags: str) -> None:
        self.server.kubectl("apply", "-f", ROLE, namespace=self.namespace)
        token = self.server.service_account_token(self.namespace, ACCOUNT)
        config = self.server.kubeconfig(token=token, namespace=self.namespace)
        self.operator = self._start(
            "operator",
            *("--namespace", self.namespace, "--kubeconfig", config, "--allow-loopback"),
            *("--gateway", f"https://127.0.0.1:{self.internal}"),
            *flags,
        )

    def start_gateway(self, *flags: str | Path) -> None:
        """With the internal Secret mounted, as soon as the operator has made it."""
        mounted = self.mount(self.internal_secret)
        self.gateway = self._start(
            "gateway",
            *("--namespace", self.namespace, "--auth", "none", "--allow-loopback"),
            *("--store", f"sqlite:{self.folder / 'gateway.db'}", "--internal-dir", mounted),
            *("--listen", f"127.0.0.1:{self.port}", "--admin-listen", f"127.0.0.1:{self.admin}"),
            *("--internal-listen", f"127.0.0.1:{self.internal}"),
            *flags,
        )
        until(self.gateway_listens, what=f"the gateway listens; it said:\n{self.gateway.last_words()}")

    def gateway_listens(self) -> bool:
        assert self.gateway is not None
        assert self.gateway.running, self.gateway.last_words()
        try:
            return ask(f"127.0.0.1:{self.admin}", "GET", "/readyz").status == 200
        except OSError:
            return False

    def mount(self, name: str, folder: Path | None = None) -> Path:
        """A Secret's keys as files, once it exists."""
        body = until(lambda: self.secret(name), what=f"Secret {name}; the operator said:\n{self.words()}")
        target = folder or self.folder / name
        target.mkdir(exist_ok=True)
        for key, value in (body.get("data") or {}).items():
            (target / key).write_bytes(base64.b64decode(value))
        return target

    def _start(self, *words: str | Path) -> Child:
        log = self.folder / f"{words[0]}-{len(self.children)}.log"
        child = Child(command(*words), log=log, environment=environment_variables())
        self.children.append(child)
        return child

    def close(self) -> None:
        for child in self.children:
            child.kill()

    def words(self) -> str:
        """The ends of the logs of what runs."""
        return "\n".join(child.last_words(lines=30) for child in (self.operator, self.gateway) if child is not None)

    def logs(self) -> str:
        """Everything that any of its processes ever said."""
        return "\n".join(child.log.read_text() for child in self.children)

    # Objects.

    def name(self, stem: str = "t") -> str:
        return f"{stem}-{next(_numbers)}"

    def apply(self, *objects: dict[str, Any]) -> None:
        """Create, or give a new spec: what `kubectl apply` comes to, without its half second."""
        for body in objects:
            path = f"{self.path(body['kind'])}/{body['metadata']['name']}"
            try:
                self.server.request("POST", self.path(body["kind"]), body)
            except ApiError as error:
                if error.status != 409:
                    raise
                self.server.update(path, body)

    def get(self, kind: str, name: str) -> dict[str, Any]:
        body: dict[str, Any] = self.server.request("GET", f"{self.path(kind)}/{name}")
        return body

    def status(self, kind: str, name: str) -> dict[str, Any]:
        found: dict[str, Any] = self.get(kind, name)["status"]
        return found

    def delete(self, kind: str, name: str) -> None:
        self.server.request("DELETE", f"{self.path(kind)}/{name}")

    def secret(self, name: str) -> dict[str, Any] | None:
        try:
            return self.get("Secret", name)
        except ApiError as error:
            if error.status == 404:
                return None
            raise

    def annotate(self, kind: str, name: str, key: str, value: str) -> None:
        self.kubectl("annotate", "--overwrite", kind.lower(), name, f"{key}={value}")

    def kubectl(self, *words: str, **more: Any) -> str:
        return self.server.kubectl(*words, namespace=self.namespace, **more)

    def path(self, kind: str) -> str:
        core = kind in ("Secret", "Event")
        root = "/api/v1" if core else f"/apis/{API}"
        return f"{root}/namespaces/{self.namespace}/{kind.lower()}s"

    def endpoint(self, name: str, **spec: Any) -> dict[str, Any]:
        """An endpoint whose URL is a path of its own at the receiver, `/<name>`; it gets what `publish(name)` sends."""
        if "urlFrom" not in spec:
            spec = {"url": f"{self.receiver.url}/{name}", **spec}
        return manifest(ENDPOINT, name, {"eventTypes": [f"{name}.*"], **spec})

    # What status says.

    def expect(self, kind: str, name: str, *, seconds: float = 15.0, **said: tuple[str, str] | None) -> dict[str, Any]:
        """Wait until conditions of the present generation say so; the status. None: the condition is absent."""
        last: dict[str, Any] = {}

        def holds() -> dict[str, Any] | None:
            body = self.get(kind, name)
            last.clear()
            last.update(body["status"])
            if body["status"].get("observedGeneration") != body["metadata"]["generation"]:
                return None
            found = conditions(body)
            return dict(body["status"]) if all(found.get(key) == value for key, value in said.items()) else None

        try:
            return dict(until(holds, what=f"{kind} {name}: {said}", seconds=seconds, pause=0.05))
        except AssertionError as error:
            found = conditions({"status": last})
            raise AssertionError(f"{error}\nconditions: {found}\nstatus: {last}\n{self.words()}") from None

    def ready(self, *names: str, kind: str = ENDPOINT, seconds: float = 15.0) -> None:
        for name in names:
            self.expect(kind, name, seconds=seconds, Ready=("True", "Ready"))

    def eventually(self, look: Callable[[], Any], what: str, *, seconds: float = 15.0) -> Any:
        try:
            return until(look, what=what, seconds=seconds, pause=0.05)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.words()}") from None

    # Events.

    def ask(self, method: str, path: str, **more: Any) -> Reply:
        return ask(f"127.0.0.1:{self.port}", method, path, **more)

    def publish(self, name: str, data: Any = None, *, status: int = 202, **members: Any) -> dict[str, Any]:
        """An event of the type `<name>.made`."""
        body = json.dumps({"type": f"{name}.made", "data": {} if data is None else data, **members}).encode()
        reply = self.ask("POST", "/v1/events", body=body, headers={"content-type": "application/json"})
        assert reply.status == status, (reply.status, reply.body)
        answer: dict[str, Any] = reply.json
        return answer

    def deliveries(self, endpoint: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.ask("GET", "/v1/deliveries", query={"endpoint": endpoint}).json["items"]
        return found

    # The journal.

    def writes(self, since: int) -> list[AuditEntry]:
        """What the operator wrote after the mark."""
        account = f"system:serviceaccount:{self.namespace}:{ACCOUNT}"
        return [entry for entry in self.server.audit_entries(since=since) if entry.writes and entry.user == account]


def conditions(body: dict[str, Any]) -> dict[str, tuple[str, str]]:
    """Status and reason by type."""
    said = (body.get("status") or {}).get("conditions") or ()
    return {item["type"]: (item["status"], item["reason"]) for item in said}


def running_site(server: ApiServer, folder: Path, *, objects: tuple[dict[str, Any], ...] = ()) -> Iterator[Site]:
    """A namespace with both programs and an enabled environment, programmed; a fixture's body."""
    namespace = server.create_namespace(f"site-{next(_numbers)}-{int(time.time()) % 100000}")
    site = Site(server=server, namespace=namespace, folder=folder, receiver=Receiver())
    try:
        site.apply(environment(), *objects)
        site.start_operator()
        site.start_gateway()
        site.ready("default", kind=ENVIRONMENT, seconds=30)
        yield site
    finally:
        site.close()
        site.receiver.close()


# Manifests.


def manifest(kind: str, name: str, spec: dict[str, Any], **meta: Any) -> dict[str, Any]:
    return {"apiVersion": API, "kind": kind, "metadata": {"name": name, **meta}, "spec": spec}


def environment(state: str = "Enabled", **spec: Any) -> dict[str, Any]:
    """May reach loopback; retries after a second; reports activity every 30 s."""
    defaults = {"timeoutSeconds": 5, "retry": {"scheduleSeconds": [1, 1]}}
    base = {"deliveryDefaults": defaults, "egress": EGRESS, "statusReporting": {"periodSeconds": 30}}
    return manifest(ENVIRONMENT, "default", {"state": state, **base, **spec})


def channel(name: str, wire: str | None = None, **spec: Any) -> dict[str, Any]:
    return manifest(CHANNEL, name, {"channelName": wire or name.replace("-", "_"), **spec})


def event_type(name: str, wire: str | None = None, **spec: Any) -> dict[str, Any]:
    return manifest(EVENT_TYPE, name, {"type": wire or f"{name}.made", "description": "A test.", **spec})


def replay(name: str, of: str, **spec: Any) -> dict[str, Any]:
    return manifest(REPLAY, name, {"endpointRef": {"name": of}, "since": hour_ago(), **spec})


def hour_ago() -> str:
    return f"{datetime.now(UTC) - timedelta(hours=1):%Y-%m-%dT%H:%M:%SZ}"


def secret(name: str, labels: dict[str, str] | None = None, **data: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "labels": LABEL if labels is None else labels},
        "stringData": data,
    }


def keyed(*keys: tuple[str, str]) -> dict[str, Any]:
    """`spec.signing` with keys by (id, Secret), each under the data key `key`."""
    return {"keys": [{"id": id_, "secretKeyRef": {"name": name, "key": "key"}} for id_, name in keys]}


def new_key() -> str:
    """A symmetric signing key."""
    return "whsec_" + base64.b64encode(os.urandom(32)).decode()
