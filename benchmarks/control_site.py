"""What `control_plane.py` measures: a real API server, one operator, one gateway, objects by the thousand.

Everything listens on loopback. Started from the main thread, stopped when the block ends.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import ssl
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import aiohttp

ROOT: Final = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from cluster.apiserver import ApiServer  # noqa: E402  (the tests' cluster is no package that is installed)
from cluster.audit import AuditEntry  # noqa: E402  (as above)
from cluster.child import Child, free_port  # noqa: E402  (as above)

CRDS: Final = ROOT / "crds"
ROLE: Final = ROOT / "tests" / "cluster" / "rbac" / "operator.yaml"
ACCOUNT: Final = "hookstead-operator"
API: Final = "hookstead.dev/v1alpha1"
PER_TEAM: Final = 100
"""Endpoints that share one channel and one signing Secret."""
PARALLEL: Final = 24
TICK: Final = "bench.tick"
"""The event type that every endpoint gets."""
KEY: Final = base64.b64encode(b"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").decode()


def manifest(kind: str, name: str, spec: dict[str, Any]) -> dict[str, Any]:
    return {"apiVersion": API, "kind": kind, "metadata": {"name": name}, "spec": spec}


def objects(endpoints: int, *, port: int, generated: bool) -> list[tuple[str, dict[str, Any]]]:
    """Plural and body of everything in one namespace, the environment last: until then nothing can be Accepted."""
    teams = -(-endpoints // PER_TEAM)
    made: list[tuple[str, dict[str, Any]]] = [
        ("webhookeventtypes", manifest("WebhookEventType", name.replace(".", "-"), {"type": name, "description": name}))
        for name in (TICK, "order.created", "order.cancelled")
    ]
    for index in range(teams):
        team = f"team-{index}"
        made.append(("webhookchannels", manifest("WebhookChannel", team, {"channelName": f"client_{index}"})))
        if not generated:
            meta = {"name": team, "labels": {"hookstead.dev/endpoint-secret": "true"}}
            made.append(("secrets", {"apiVersion": "v1", "kind": "Secret", "metadata": meta, "data": {"key": KEY}}))
    for number in range(endpoints):
        team = f"team-{number // PER_TEAM}"
        spec: dict[str, Any] = {
            "url": f"http://127.0.0.1:{port}/hooks/{number}",
            "description": f"Endpoint {number} of {team}",
            "eventTypes": ["order.*", TICK],
            "channelRefs": [{"name": team}],
            "headers": [{"name": "x-team", "value": team}],
        }
        if not generated:
            spec["signing"] = {"keys": [{"id": "main", "secretKeyRef": {"name": team, "key": "key"}}]}
        made.append(("webhookendpoints", manifest("WebhookEndpoint", endpoint_name(number), spec)))
    egress = {"plaintextHTTP": "Allow", "privateNetworks": "Allow", "allowedCIDRs": ["127.0.0.0/8"]}
    made.append(
        ("webhookenvironments", manifest("WebhookEnvironment", "default", {"state": "Enabled", "egress": egress}))
    )
    return made


def endpoint_name(number: int) -> str:
    return f"endpoint-{number:05}"


@dataclass(frozen=True, slots=True)
class Load:
    """A process at one moment: MiB now and at most so far, seconds of CPU."""

    rss: float
    peak: float
    cpu: float


def load_of(pid: int) -> Load:
    status = Path(f"/proc/{pid}/status").read_text()
    times = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()

    def mib(name: str) -> float:
        return int(status.partition(f"{name}:")[2].split()[0]) / 1024

    return Load(mib("VmRSS"), mib("VmHWM"), (int(times[11]) + int(times[12])) / os.sysconf("SC_CLK_TCK"))


@dataclass
class Site:
    """One namespace with the two programs in it. Times are seconds since the epoch."""

    server: ApiServer
    namespace: str
    folder: Path
    http: aiohttp.ClientSession
    port: int = field(default_factory=free_port)
    admin: int = field(default_factory=free_port)
    internal: int = field(default_factory=free_port)
    children: list[Child] = field(default_factory=list)

    # The API server.

    async def api(self, method: str, path: str, body: object = None) -> Any:
        """One request as the admin. Raises RuntimeError above 399."""
        kind = "application/merge-patch+json" if method == "PATCH" else "application/json"
        headers = {"authorization": f"Bearer {self.server.admin_token}", "content-type": kind}
        data = None if body is None else json.dumps(body).encode()
        async with self.http.request(method, self.server.url + path, data=data, headers=headers) as answer:
            if answer.status >= 400:
                raise RuntimeError(f"{method} {path}: {answer.status} {(await answer.text())[:300]}")
            return await answer.json(content_type=None)

    def path(self, plural: str, name: str = "") -> str:
        root = "/api/v1" if plural == "secrets" else f"/apis/{API}"
        return f"{root}/namespaces/{self.namespace}/{plural}{'/' if name else ''}{name}"

    async def create(self, bodies: Iterable[tuple[str, dict[str, Any]]]) -> None:
        waiting = iter(bodies)

        async def worker() -> None:
            for plural, body in waiting:
                await self.api("POST", self.path(plural), body)

        async with asyncio.TaskGroup() as group:
            for _ in range(PARALLEL):
                group.create_task(worker())

    async def not_ready(self) -> int:
        """How many endpoints do not say Ready of their present generation."""
        count, position = 0, ""
        while True:
            page = await self.api("GET", f"{self.path('webhookendpoints')}?limit=1000&continue={position}")
            count += sum(1 for item in page["items"] if not _is_ready(item))
            position = page["metadata"].get("continue", "")
            if not position:
                return count

    def written(self, since: int, *, ours_only: bool = True) -> list[AuditEntry]:
        """What the operator wrote after the mark."""
        account = f"system:serviceaccount:{self.namespace}:{ACCOUNT}"
        return [
            entry
            for entry in self.server.audit_entries(since=since)
            if entry.writes and (entry.user == account or not ours_only)
        ]

    def statuses(self, since: int) -> list[AuditEntry]:
        """Its writes of status that the API server took."""
        return [entry for entry in self.written(since) if entry.subresource == "status" and entry.code < 300]

    # The programs.

    def start_operator(self) -> Child:
        token = self.server.service_account_token(self.namespace, ACCOUNT)
        config = self.server.kubeconfig(token=token, namespace=self.namespace)
        return self._start(
            "operator",
            *("--namespace", self.namespace, "--kubeconfig", config, "--allow-loopback"),
            *("--gateway", f"https://127.0.0.1:{self.internal}", "--log-format", "json"),
        )

    async def start_gateway(self) -> Child:
        """With the internal Secret mounted, as soon as the operator has made it."""
        folder = self.folder / "internal"
        folder.mkdir(exist_ok=True)
        data = await self.eventually("the internal Secret", self._internal_secret, seconds=60)
        for key, value in data.items():
            (folder / key).write_bytes(base64.b64decode(value))
        gateway = self._start(
            "gateway",
            *("--namespace", self.namespace, "--auth", "none", "--allow-loopback"),
            *("--store", f"sqlite:{self.folder / 'gateway.db'}", "--internal-dir", folder),
            *("--listen", f"127.0.0.1:{self.port}", "--admin-listen", f"127.0.0.1:{self.admin}"),
            *("--internal-listen", f"127.0.0.1:{self.internal}", "--log-format", "json"),
        )
        await self.eventually("the gateway's admin port", lambda: self.admin_answers(gateway), seconds=60)
        return gateway

    async def _internal_secret(self) -> dict[str, str] | None:
        try:
            body = await self.api("GET", self.path("secrets", "hookstead-internal"))
        except RuntimeError:
            return None
        found: dict[str, str] | None = body.get("data")
        return found

    async def admin_answers(self, gateway: Child) -> bool:
        if not gateway.running:
            raise SystemExit(f"the gateway ended:\n{gateway.last_words()}")
        try:
            async with self.http.get(f"http://127.0.0.1:{self.admin}/healthz") as answer:
                return answer.status == 200
        except aiohttp.ClientError:
            return False

    def _start(self, *words: str | Path) -> Child:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("HOOKSTEAD_")}
        more = {"PYTHONPATH": str(ROOT / "controller"), "PYTHONUNBUFFERED": "1"}
        child = Child(
            [sys.executable, "-m", "hookstead.cli.main", *map(str, words)],
            log=self.folder / f"{words[0]}-{len(self.children)}.log",
            environment=kept | more,
        )
        self.children.append(child)
        return child

    # What the gateway says.

    async def ask(self, path: str) -> Any:
        async with self.http.get(f"http://127.0.0.1:{self.port}{path}") as answer:
            return await answer.json(content_type=None) if answer.status == 200 else None

    async def publish(self, *, channels: list[str]) -> None:
        """One event for the first 64 teams' endpoints at most."""
        body = {"type": TICK, "channels": channels, "data": {}}
        async with self.http.post(f"http://127.0.0.1:{self.port}/v1/events", json=body) as answer:
            if answer.status != 202:
                raise SystemExit(f"an event was refused: {answer.status} {(await answer.text())[:300]}")

    async def live(self, gateway: Child, endpoints: int) -> float:
        """When the gateway put a configuration with that many endpoints in force, all of them Active."""

        async def holds() -> float | None:
            when = applied_at(gateway.log, endpoints)
            if when is None:
                return None
            environment = await self.ask("/v1/environment")
            return when if environment and environment["endpoints"]["active"] == endpoints else None

        found: float = await self.eventually("all are live", holds, seconds=300, pause=0.1)
        return found

    async def eventually(self, what: str, holds: Callable[[], Any], *, seconds: float, pause: float = 0.05) -> Any:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + seconds
        while True:
            found = await holds()
            if found:
                return found
            if loop.time() > deadline:
                words = "\n".join(child.last_words(lines=8) for child in self.children)
                raise SystemExit(f"not within {seconds:.0f} s: {what}\n{words}")
            await asyncio.sleep(pause)


def _is_ready(item: dict[str, Any]) -> bool:
    status = item.get("status") or {}
    said = {one["type"]: one["status"] for one in status.get("conditions") or ()}
    return status.get("observedGeneration") == item["metadata"]["generation"] and said.get("Ready") == "True"


def applied_at(log: Path, endpoints: int) -> float | None:
    """When the latest configuration of that many endpoints was put in force, by the gateway's log."""
    found = None
    for line in log.read_text(encoding="utf-8").splitlines():
        if '"config_applied"' in line:
            record = json.loads(line)
            if record.get("endpoints") == endpoints:
                found = datetime.fromisoformat(record["time"]).timestamp()
    return found


@asynccontextmanager
async def site(folder: Path, namespaces: int, endpoints: int, *, port: int, generated: bool) -> AsyncIterator[Site]:
    """`endpoints` spread over the namespaces; the programs are for the first one."""
    with ApiServer(directory=folder / "cluster", controller_manager=False) as server:
        server.apply_crds(CRDS)
        trust = ssl.create_default_context(cafile=str(server.ca_file))
        connector = aiohttp.TCPConnector(ssl=trust, limit=PARALLEL)
        async with aiohttp.ClientSession(connector=connector, trust_env=False) as http:
            made: Site | None = None
            for number in range(namespaces):
                name = server.create_namespace(f"environment-{number}")
                one = Site(server, name, folder, http)
                made = made or one
                await one.create(objects(endpoints // namespaces, port=port, generated=generated))
            assert made is not None
            server.kubectl("apply", "-f", ROLE, namespace=made.namespace)
            try:
                yield made
            finally:
                for child in made.children:
                    child.kill()


def busiest_second(entries: Iterable[AuditEntry]) -> int:
    """The most requests that were received within any second that begins with one of them."""
    times = sorted(entry.time.timestamp() for entry in entries)
    best, first = 0, 0
    for last, moment in enumerate(times):
        while moment - times[first] >= 1.0:
            first += 1
        best = max(best, last - first + 1)
    return best


def by_resource(entries: Iterable[AuditEntry]) -> dict[str, int]:
    names = (f"{entry.resource}/{entry.subresource}".rstrip("/") for entry in entries)
    return dict(Counter(names))
