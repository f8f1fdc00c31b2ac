"""Gateways of one release on one PostgreSQL: what the chart renders runs, is found by the operator, and rolls over."""

from __future__ import annotations

import asyncio
import http.client
import itertools
import json
import os
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

from charts.kubelet import NotMountedError
from charts.releases import COMMON, TEST_ONLY, Release, merged
from cluster.contract_certificates import Authority
from cluster.contract_site import manifest, secret
from contract.processes import Receiver, ask, until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from charts.kubelet import Pod
    from cluster.apiserver import ApiServer
    from store.postgres_server import PostgresServer

VALUES: Final[dict[str, Any]] = {
    "environment": {"state": "Enabled"},
    "store": {
        "type": "postgresql",
        "postgresql": {"existingSecret": "database", "ca": {"existingSecret": "database-ca"}},
    },
    "gateway": {"replicas": 2, "preStopSeconds": 3, "drainSeconds": 10},
}


@pytest.fixture(scope="module")
def authority(postgres_server: PostgresServer) -> Authority:
    """Whose certificate the server has from now on."""
    made = Authority()
    for name, text in zip(("server.crt", "server.key"), made.issue("database"), strict=True):
        file = postgres_server.data / name
        file.write_text(text)
        file.chmod(0o600)
        owner = postgres_server.data.stat()
        os.chown(file, owner.st_uid, owner.st_gid)

    async def reload() -> None:
        await postgres_server.execute("ALTER SYSTEM SET ssl = on")
        await postgres_server.execute("SELECT pg_reload_conf()")

    asyncio.run(reload())
    return made


@pytest.fixture(scope="module")
def fleet(
    cluster: ApiServer,
    receiver: Receiver,
    postgres_server: PostgresServer,
    authority: Authority,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Release]:
    """Two gateways and an operator; the endpoint `fleet`. The URL says nothing of TLS: the chart does."""
    folder = tmp_path_factory.mktemp("fleet")
    release = Release(cluster, "team-fleet", "fleet", folder, (), merged(COMMON, VALUES))
    url = postgres_server.url(asyncio.run(postgres_server.create()))
    try:
        release.create_namespace()
        release.upgrade()
        operator = release.operator_pod()
        operator.start(TEST_ONLY)
        first = release.gateway_pod()
        until(lambda: 'secret "database-ca" not found' in _missing(first), what="the gateway waits for its CA")
        release.apply(secret("database-ca", {}, **{"ca.crt": authority.certificate}))
        assert 'secret "database" not found' in _missing(first)
        release.apply(secret("database", {}, url=url))
        release.apply(manifest("WebhookEndpoint", "fleet", {"url": f"{receiver.url}/fleet"}))
        for pod in (first, release.gateway_pod(1)):
            release.start_when_mounted(pod)
            pod.become_ready()
        operator.become_ready()
        release.expect("webhookendpoints", "fleet", Ready=("True", "Ready"))
        yield release
    finally:
        release.close()


def _missing(pod: Pod) -> str:
    """What the pod waits for."""
    with pytest.raises(NotMountedError) as waits:
        pod.start(TEST_ONLY)
    return str(waits.value)


def _programmed(release: Release) -> float:
    operator = release.pods[f"{release.name}-operator-0"]
    text = ask(f"{operator.address}:{operator.port('admin')}", "GET", "/metrics").text
    (line,) = [one for one in text.splitlines() if one.startswith("hookstead_operator_gateways_programmed ")]
    return float(line.split()[1])


def test_the_operator_finds_and_programs_each_of_them(fleet: Release) -> None:
    until(lambda: _programmed(fleet) == 2, what="both gateways are programmed")
    path = f"/apis/hookstead.dev/v1alpha1/namespaces/{fleet.namespace}/webhookenvironments/default"

    def shown() -> bool:
        said = fleet.get(path)["status"]["gateway"]
        return bool(said["replicas"] == said["programmedReplicas"] == 2)

    until(shown, what="the environment's status counts both", seconds=40, pause=0.2)


def test_the_databases_url_is_on_no_command_line_and_in_no_log(fleet: Release, postgres_server: PostgresServer) -> None:
    for name in ("fleet-gateway-0", "fleet-gateway-1"):
        pod = fleet.pods[name]
        assert pod.process is not None
        words = Path(f"/proc/{pod.process.pid}/cmdline").read_text(encoding="utf-8")
        assert "postgresql" not in words
        assert str(postgres_server.port) not in words
        assert "hookstead@" not in pod.process.log.read_text(encoding="utf-8")


def test_the_way_to_the_database_is_encrypted_and_its_server_verified(
    fleet: Release, postgres_server: PostgresServer
) -> None:
    async def connections() -> list[Any]:
        return await postgres_server.execute(
            "SELECT ssl FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE application_name LIKE 'hookstead %'"
        )

    found = [row[0] for row in asyncio.run(connections())]
    assert len(found) >= 4
    assert all(found)
    (container,) = fleet.pods["fleet-gateway-0"].spec["containers"]
    assert {"name": "PGSSLMODE", "value": "verify-full"} in container["env"]


def test_a_gateway_does_not_talk_to_a_server_that_another_authority_vouches_for(fleet: Release) -> None:
    fleet.apply(secret("other-ca", {}, **{"ca.crt": Authority().certificate}))
    stranger = fleet.gateway_pod(9)
    for volume in stranger.spec["volumes"]:
        if volume["name"] == "database":
            volume["secret"]["secretName"] = "other-ca"
    stranger.start(TEST_ONLY)
    try:
        until(lambda: "certificate" in stranger.words(), what="it says why it does not start", seconds=40)
        assert "listens on" not in stranger.words()
    finally:
        stranger.kill()
        fleet.server.request("DELETE", f"{stranger.path}?gracePeriodSeconds=0")


@dataclass
class Producers:
    """Threads that keep their connections, as HTTP clients do, and make new ones to pods that the Service leads to."""

    release: Release
    token: str
    endpoints: list[Pod]
    """What the Service leads new connections to."""
    sent: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    stop: threading.Event = field(default_factory=threading.Event)

    def run(self, number: int) -> None:
        """One producer, until it is told to stop."""
        connection: http.client.HTTPConnection | None = None
        kept = False
        for index in itertools.count():
            if self.stop.is_set():
                break
            if connection is None:
                kept = False
                pod = self.endpoints[(number + index) % len(self.endpoints)]
                connection = http.client.HTTPConnection(pod.address, pod.port("http"), timeout=20)
            name = f"{number}-{index}"
            try:
                status, ended = self._send(connection, name)
            except OSError as error:
                # A kept connection may end while it is idle (here: on a machine so busy that this thread waited for
                # a second). Clients know that, and connect anew.
                if not kept:
                    self.failed.append(f"{name}: {error!r}")
                ended = True
            else:
                kept = True
                (self.sent if status == 202 else self.failed).append(name)
            if ended:
                connection.close()
                connection = None
            time.sleep(0.01)
        if connection is not None:
            connection.close()

    def _send(self, connection: http.client.HTTPConnection, name: str) -> tuple[int, bool]:
        """The status, and whether the answer was the connection's last."""
        body = json.dumps({"type": "order.created", "id": name, "data": {"n": name}})
        headers = {"authorization": f"Bearer {self.token}", "content-type": "application/json"}
        connection.request("POST", "/v1/events", body=body, headers=headers)
        response = connection.getresponse()
        response.read()
        return response.status, response.getheader("connection") == "close"


def test_a_rollout_under_load_refuses_no_event_and_loses_none(fleet: Release, receiver: Receiver) -> None:
    """As the Deployment's controller does it by the rendered strategy: one more pod, Ready, then one less."""
    spec = fleet.get(f"/apis/apps/v1/namespaces/{fleet.namespace}/deployments/fleet-gateway")["spec"]
    assert spec["strategy"]["rollingUpdate"] == {"maxUnavailable": 0, "maxSurge": 1}
    old = [fleet.pods["fleet-gateway-0"], fleet.pods["fleet-gateway-1"]]
    producers = Producers(fleet, fleet.token("fleet-operator-user"), list(old))
    threads = [threading.Thread(target=producers.run, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    try:
        until(lambda: len(producers.sent) >= 50, what="events flow")
        for number, pod in enumerate(old, start=2):
            new = fleet.gateway_pod(number)
            fleet.start_when_mounted(new)
            new.become_ready()
            producers.endpoints = [one for one in (*producers.endpoints, new) if one is not pod]
            assert pod.terminate() == 0
            fleet.server.request("DELETE", f"{pod.path}?gracePeriodSeconds=0")
        before = len(producers.sent)
        until(lambda: len(producers.sent) >= before + 50, what="events flow")
    finally:
        producers.stop.set()
        for thread in threads:
            thread.join(30)
    assert producers.failed == []

    def missing() -> set[str]:
        return set(producers.sent) - {json.loads(one.body)["data"]["n"] for one in receiver.received("/fleet")}

    until(lambda: not missing(), what="every event is delivered", seconds=40, pause=0.2)
    until(lambda: _programmed(fleet) == 2, what="the new gateways are programmed")
