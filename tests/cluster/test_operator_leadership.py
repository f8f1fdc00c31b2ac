"""One operator writes; a standby follows; what is away comes back, and nothing is emptied meanwhile."""

from __future__ import annotations

import os
import signal
import time
import urllib.error
import urllib.request
from typing import TYPE_CHECKING

import pytest

from cluster.apiserver import ApiServer
from cluster.child import free_port
from cluster.operator_fixtures import World, channel, endpoint, environment, eventually, keyed, secret, world

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ENDPOINT, ENVIRONMENT = "WebhookEndpoint", "WebhookEnvironment"
CRDS = "crds"


@pytest.fixture
def here(api_server: ApiServer, namespace: str, tmp_path: Path) -> Iterator[World]:
    with world(api_server, namespace, tmp_path) as made:
        yield made


def lease(here: World) -> dict[str, object]:
    path = f"/apis/coordination.k8s.io/v1/namespaces/{here.namespace}/leases/hookstead-operator"
    spec: dict[str, object] = here.server.request("GET", path)["spec"]
    return spec


def get(port: int, path: str) -> int:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=2) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return 0


def test_a_standby_waits_and_follows_a_clean_stop_at_once(here: World) -> None:
    first = here.start_operator(leader_elect=True)
    here.apply(environment(), endpoint("a"))
    here.expect(ENDPOINT, "a", Ready=("True", "Ready"))
    holder = lease(here)["holderIdentity"]
    port = free_port()
    second = here.start_operator(leader_elect=True, admin_listen=["127.0.0.1", port])
    eventually("the standby is ready", lambda: get(port, "/readyz") == 200)
    assert get(port, "/healthz") == 200
    assert lease(here)["holderIdentity"] == holder
    started = time.monotonic()
    assert first.terminate(grace_seconds=10) == 0
    eventually("taken over", lambda: lease(here)["holderIdentity"] not in (holder, ""), seconds=6)
    assert time.monotonic() - started < 6
    here.apply(endpoint("b"))
    here.expect(ENDPOINT, "b", Ready=("True", "Ready"))
    assert here.gateway.running.epoch.term == 2
    assert second.running


def test_a_killed_leader_is_followed_and_a_hung_one_never_writes_again(here: World) -> None:
    first = here.start_operator(leader_elect=True)
    here.apply(environment(), endpoint("a"))
    here.expect(ENDPOINT, "a", Ready=("True", "Ready"))
    here.start_operator(leader_elect=True)
    time.sleep(3)  # the standby has seen the Lease
    os.kill(first.pid, signal.SIGSTOP)
    try:
        eventually("taken over", lambda: here.gateway.running.epoch.term == 2, seconds=20)
        here.apply(endpoint("b"))
        here.expect(ENDPOINT, "b", Ready=("True", "Ready"))
        mark = here.server.audit_mark()
        pushes = len(here.gateway.pushes)
    finally:
        os.kill(first.pid, signal.SIGCONT)
    eventually("the old leader ends", lambda: not first.running, seconds=10)
    time.sleep(1)
    assert [push for push in here.gateway.pushes[pushes:] if push[0].startswith("1.")] == []
    assert [entry.resource for entry in here.writes(mark) if entry.resource.startswith("webhook")] == []


def test_the_readiness_of_a_leader_follows_its_first_pass(here: World) -> None:
    port = free_port()
    child = here.start_operator(admin_listen=["127.0.0.1", port])
    eventually("ready", lambda: get(port, "/readyz") == 200)
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=2) as answer:
        text = answer.read().decode()
    assert "hookstead_operator_passes_total" in text
    assert child.terminate(grace_seconds=10) == 0


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[ApiServer]:
    """A cluster that a test may break."""
    with ApiServer(directory=tmp_path / "cluster", controller_manager=False) as server:
        server.apply_crds(crds())
        yield server


def crds() -> Path:
    from cluster.conftest import CRDS as FOLDER

    return FOLDER


def test_a_vanished_definition_never_empties_a_running_environment(own_server: ApiServer, tmp_path: Path) -> None:
    namespace = own_server.create_namespace("vanish")
    with world(own_server, namespace, tmp_path) as here:
        operator = here.start_operator()
        # Without a garbage collector generated Secrets would outlive their endpoints.
        endpoints = [endpoint(f"e{number}", signing=keyed("key")) for number in range(4)]
        here.apply(environment(), channel("c", "client_c"), secret("key"), *endpoints)
        here.expect(ENDPOINT, "e3", Ready=("True", "Ready"))
        here.delete(ENDPOINT, "e3")
        eventually("one of four goes at once", lambda: here.gateway.endpoint("e3") is None, seconds=3)
        own_server.kubectl("delete", "crd", "webhookendpoints.hookstead.dev", "--timeout=20s")
        time.sleep(4)
        assert [item.identity.name for item in here.gateway.config.endpoints] == ["e0", "e1", "e2"]
        eventually("an operator that can watch no more ends", lambda: not operator.running, seconds=40)
        assert operator.terminate(grace_seconds=0) == 1
        here.kill_operators()
        here.start_operator()
        time.sleep(4)
        assert [item.identity.name for item in here.gateway.config.endpoints] == ["e0", "e1", "e2"]
        own_server.apply_crds(crds())
        here.apply(*endpoints[:3])
        here.expect(ENDPOINT, "e2", seconds=40, Ready=("True", "Ready"))


def test_all_endpoints_may_be_deleted_on_purpose(here: World) -> None:
    here.start_operator()
    here.apply(environment(), *(endpoint(f"e{number}") for number in range(3)))
    here.expect(ENDPOINT, "e2", Ready=("True", "Ready"))
    here.server.kubectl("delete", "whep", "--all", namespace=here.namespace)
    eventually("empty", lambda: here.gateway.config.endpoints == (), seconds=6)


def test_the_last_good_configuration_outlives_an_api_server_that_is_away(own_server: ApiServer, tmp_path: Path) -> None:
    namespace = own_server.create_namespace("away")
    with world(own_server, namespace, tmp_path) as here:
        operator = here.start_operator()
        here.apply(environment(), endpoint("a"))
        here.expect(ENDPOINT, "a", Ready=("True", "Ready"))
        before = here.gateway.running.hash
        own_server.kill()
        time.sleep(3)
        assert here.gateway.running.hash == before
        own_server.restart()
        here.apply(endpoint("b"))
        here.expect(ENDPOINT, "b", seconds=40, Ready=("True", "Ready"))
        assert operator.running, "an API server that is away ends nothing"
        os.kill(operator.pid, signal.SIGSTOP)
        here.delete(ENDPOINT, "a")
        own_server.restart()  # its watch cache is new: what the operator resumes from is too old
        os.kill(operator.pid, signal.SIGCONT)
        eventually("what no watch reported is found gone", lambda: here.gateway.endpoint("a") is None, seconds=40)
        assert operator.running
