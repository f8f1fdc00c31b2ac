"""Real gateways on one PostgreSQL under a real operator: what status says of an endpoint outlives its owner."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pytest

from cluster.apiserver import ApiServer
from cluster.child import Child, free_port
from cluster.contract_site import EGRESS
from cluster.operator_fixtures import World, endpoint, environment, eventually, keyed, secret, world
from cluster.status_journal import status_journal
from contract.processes import Receiver, ask, environment_variables
from store.postgres_server import PostgresServer
from toolchain.binaries import ProgramMissingError, locate

ENDPOINT: Final = "WebhookEndpoint"
MAIN: Final = "import sys\nfrom hookstead.cli.main import main\nsys.exit(main())"
RESUME: Final = "hookstead.dev/resume-requested-at"
NAMES: Final = tuple(f"e{number}" for number in range(8))
"""Enough that both gateways own some of them, nearly always; the test holds if one owns all."""
START_SECONDS: Final = 90.0


@pytest.fixture
def database() -> Iterator[str]:
    try:
        locate("postgres")
    except ProgramMissingError as error:
        pytest.skip(str(error))
    with PostgresServer() as server:
        yield server.url(asyncio.run(server.create()))


@pytest.fixture
def here(api_server: ApiServer, namespace: str, tmp_path: Path) -> Iterator[World]:
    with world(api_server, namespace, tmp_path) as made:
        yield made


@dataclass
class Gateway:
    """`hookstead gateway` as a process, and the pod that the operator finds it by."""

    here: World
    name: str
    database: str
    port: int = field(default_factory=free_port)
    admin: int = field(default_factory=free_port)
    internal: int = field(default_factory=free_port)

    def __post_init__(self) -> None:
        folder = self.here.folder / "internal"
        folder.mkdir(exist_ok=True)
        (folder / "token").write_text("given")
        self.child = Child(
            [
                *(sys.executable, "-c", MAIN, "gateway", "--namespace", self.here.namespace),
                *("--auth", "none", "--allow-loopback", "--store", self.database, "--internal-dir", str(folder)),
                *("--listen", f"127.0.0.1:{self.port}", "--admin-listen", f"127.0.0.1:{self.admin}"),
                *("--internal-listen", f"127.0.0.1:{self.internal}"),
            ],
            log=self.here.folder / f"{self.name}.log",
            environment=environment_variables(),
        )

    @property
    def pods(self) -> str:
        return f"/api/v1/namespaces/{self.here.namespace}/pods"

    def join(self) -> None:
        """As its kubelet would: the pod is there, and Ready once the process answers."""
        eventually(f"{self.name} answers", self.answers, seconds=START_SECONDS)
        ports = [{"name": "internal", "containerPort": self.internal}]
        container = {"name": "main", "image": "none", "ports": ports}
        body: dict[str, Any] = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": self.name, "labels": {"app": "gateway"}},
            "spec": {"automountServiceAccountToken": False, "containers": [container]},
        }
        made = self.here.server.request("POST", self.pods, body)
        made["status"] = {"podIP": "127.0.0.1", "conditions": [{"type": "Ready", "status": "True"}]}
        self.here.server.request("PUT", f"{self.pods}/{self.name}/status", made)

    def answers(self) -> bool:
        assert self.child.running, self.child.last_words()
        try:
            return ask(f"127.0.0.1:{self.admin}", "GET", "/healthz").status == 200
        except OSError:
            return False

    def leave(self) -> None:
        self.here.server.request("DELETE", f"{self.pods}/{self.name}")
        assert self.child.terminate(grace_seconds=40) == 0

    def publish(self) -> None:
        body = json.dumps({"type": "a.happened", "data": {}}).encode()
        address, headers = f"127.0.0.1:{self.port}", {"content-type": "application/json"}
        reply = ask(address, "POST", "/v1/events", body=body, headers=headers)
        assert (reply.status, reply.json["endpoints"]) == (202, len(NAMES)), reply.body


def test_what_status_says_of_an_endpoint_outlives_its_gateways(here: World, database: str) -> None:
    with ExitStack() as stack, status_journal(here.server, here.namespace) as journal:
        receiver = Receiver()
        stack.callback(receiver.close)
        here.apply(secret("hookstead-internal", labels={}, token="given"), secret("key"))
        here.apply(environment(egress=EGRESS))
        here.apply(*(endpoint(name, url=f"{receiver.url}/{name}", signing=keyed("key")) for name in NAMES))
        for name in NAMES:
            receiver.on(f"/{name}", 410, 204)
        first, second = Gateway(here, "g0", database), Gateway(here, "g1", database)
        stack.callback(first.child.kill)
        stack.callback(second.child.kill)
        first.join()
        second.join()
        here.start_operator(gateway_selector="app=gateway", allow_loopback=True)
        for name in NAMES:
            here.expect(ENDPOINT, name, seconds=30, Ready=("True", "Ready"))
        second.publish()
        for name in NAMES:
            here.expect(ENDPOINT, name, seconds=30, Active=("False", "Gone"), Healthy=("False", "Failing"))
        first.leave()
        second.publish()  # it is fanned out, and held
        for name in NAMES:
            here.annotate(ENDPOINT, name, RESUME, "2026-01-01T00:00:00Z")
        for name in NAMES:
            status = here.expect(ENDPOINT, name, seconds=60, Active=("True", "Active"), Healthy=("True", "Succeeding"))
            assert status["lastHandledResumeAt"] == "2026-01-01T00:00:00Z"
            assert len(receiver.wait(f"/{name}", 3)) == 3, "the first of two events twice"
        for name in NAMES:
            forms = [body["status"] for body in journal.of(ENDPOINT, name)]
            attempts = [
                activity["succeeded"] + activity["failed"] for form in forms if (activity := form.get("activity"))
            ]
            assert attempts == sorted(attempts), "never less than it knew"
            told = ["Gone" in str(form.get("conditions")) for form in forms if "lastHandledResumeAt" not in form]
            assert told == sorted(told), "and nobody forgets that it is Gone"
        assert journal.faults() == []
