"""How configuration reaches the gateways, and that Programmed tells the truth about it at all times."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from cluster.fake_gateway import FakeGateway
from cluster.operator_fixtures import World, endpoint, environment, event_type, eventually, world
from hookstead.config.model import Epoch
from hookstead.config.report import Running
from hookstead.config.serial import ConfigUnreadable, decode, digest, from_shards

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from cluster.apiserver import ApiServer

ENDPOINT, ENVIRONMENT = "WebhookEndpoint", "WebhookEnvironment"


@pytest.fixture
def here(api_server: ApiServer, namespace: str, tmp_path: Path) -> Iterator[World]:
    with world(api_server, namespace, tmp_path) as made:
        yield made


@pytest.fixture
def second() -> Iterator[FakeGateway]:
    gateway = FakeGateway().start()
    yield gateway
    gateway.stop()


def stored(here: World) -> tuple[bytes, dict[str, str]]:
    """The configuration as the Secrets hold it, and the annotations of the first.

    The Secrets are written one after the other: what is read between two writes does not fit, and is read again.
    """
    return eventually("Secrets that fit", lambda: _read_stored(here))  # type: ignore[no-any-return]  # it gives Any


def _read_stored(here: World) -> tuple[bytes, dict[str, str]] | None:
    first = here.secret("hookstead-config-0")
    assert first is not None
    notes = first["metadata"]["annotations"]
    pieces = []
    for number in range(int(notes["hookstead.dev/config-shards"])):
        body = here.secret(f"hookstead-config-{number}")
        assert body is not None
        piece = (body.get("data") or {}).get(f"config-{number}.json.gz")
        if piece is None:
            return None
        pieces.append(base64.b64decode(piece))
    try:
        return from_shards(pieces), notes
    except ConfigUnreadable:
        return None


def test_the_secret_holds_what_was_pushed(here: World) -> None:
    here.start_operator()
    here.apply(environment(), endpoint("a"))
    here.expect(ENDPOINT, "a", Ready=("True", "Ready"))

    def same() -> bool:
        document, notes = stored(here)
        return (
            digest(document) == here.gateway.running.hash == notes["hookstead.dev/config-hash"]
            and decode(document) == here.gateway.config
        )

    eventually("the Secret follows the push", same)
    first = here.secret("hookstead-config-0")
    assert first is not None
    meta = json.loads(base64.b64decode(first["data"]["config-0.meta.json"]))
    assert meta == {
        "hash": here.gateway.running.hash,
        "epoch": {"term": 1, "sequence": here.gateway.running.epoch.sequence},
        "shard": 0,
        "shards": 1,
    }
    assert "hookstead.dev/endpoint-secret" not in first["metadata"]["labels"]


def test_a_large_configuration_is_cut_into_several_secrets(here: World) -> None:
    import random

    noise = random.Random(7)
    here.start_operator()
    here.apply(environment())
    for number in range(40):
        words = {f"w{index}": f"{noise.getrandbits(480):x}" for index in range(330)}
        here.apply(event_type(f"big{number}", sample=words))
    here.expect("WebhookEventType", "big39", seconds=30, Ready=("True", "Ready"))

    def cut() -> bool:
        document, notes = stored(here)
        return int(notes["hookstead.dev/config-shards"]) > 1 and digest(document) == here.gateway.running.hash

    eventually("two shards", cut)
    for number in range(1, 40):
        here.delete("WebhookEventType", f"big{number}")
    eventually("one again", lambda: stored(here)[1]["hookstead.dev/config-shards"] == "1", seconds=25)

    def emptied() -> bool:
        surplus = here.secret("hookstead-config-1")
        return surplus is not None and not surplus.get("data")

    eventually("the surplus is emptied", emptied)


def test_without_a_live_gateway_nothing_is_programmed_and_it_heals(here: World) -> None:
    here.gateway.stop()
    here.start_operator()
    here.apply(environment("Disabled"), endpoint("a"))
    here.expect(
        ENDPOINT,
        "a",
        Accepted=("True", "Accepted"),
        Programmed=("False", "GatewayUnavailable"),
        Ready=("False", "GatewayUnavailable"),
        Reconciling=("True", "GatewayUnavailable"),
    )
    here.gateway.start()
    here.expect(ENDPOINT, "a", Programmed=("True", "Programmed"), Ready=("True", "Ready"), Reconciling=None)
    status = here.expect(ENVIRONMENT, "default", Ready=("True", "Ready"))
    eventually(
        "counted",
        lambda: (
            here.status(ENVIRONMENT, "default")["gateway"]
            == {"replicas": 1, "programmedReplicas": 1, "version": "9.9.9"}
        ),
    )
    assert status["observedGeneration"] == 1


def test_a_gateway_that_goes_away_is_told_and_one_that_comes_back_is_caught_up(here: World) -> None:
    here.start_operator()
    here.apply(environment(), endpoint("a"))
    here.expect(ENDPOINT, "a", Ready=("True", "Ready"))
    here.gateway.stop()
    here.expect(ENDPOINT, "a", seconds=4, Programmed=("False", "GatewayUnavailable"))
    here.apply(endpoint("meanwhile"))
    here.expect(ENDPOINT, "meanwhile", seconds=4, Programmed=("False", "GatewayUnavailable"))
    here.gateway.forget()
    here.gateway.start()
    # `a` follows within its ten seconds; the first transition of this one goes at once.
    here.expect(ENDPOINT, "meanwhile", seconds=4, Programmed=("True", "Programmed"), Ready=("True", "Ready"))
    assert here.gateway.endpoint("meanwhile") is not None


def test_a_short_restart_of_the_gateway_flips_no_condition(here: World) -> None:
    here.start_operator()
    here.apply(environment(), endpoint("a"))
    here.expect(ENDPOINT, "a", Ready=("True", "Ready"))
    mark = here.server.audit_mark()
    here.gateway.restart()
    eventually("caught up", lambda: here.gateway.endpoint("a"), seconds=4)
    here.expect(ENDPOINT, "a", Ready=("True", "Ready"))
    assert here.writes(mark, resource="webhookendpoints") == []


def test_a_gateway_that_stays_behind_keeps_only_what_changed_pending(here: World) -> None:
    here.start_operator()
    here.apply(environment(), endpoint("old"))
    here.expect(ENDPOINT, "old", Ready=("True", "Ready"))
    here.gateway.frozen = True
    here.apply(endpoint("new"))
    eventually("tried", lambda: len(here.gateway.pushes) > 2)
    # A gateway that refuses a push is reachable: its report still says what it runs.
    status = here.expect(ENDPOINT, "new", Programmed=("False", "Pending"), Ready=("False", "Pending"))
    assert here.gateway.url in str(status["conditions"])
    assert here.condition(ENDPOINT, "old", "Programmed") == ("True", "Programmed")
    here.gateway.frozen = False
    here.expect(ENDPOINT, "new", Programmed=("True", "Programmed"))


def test_every_gateway_has_to_run_it(here: World, second: FakeGateway) -> None:
    second.frozen = True
    here.start_operator(gateways=[here.gateway.url, second.url])
    here.apply(environment(), endpoint("a"))
    here.expect(ENDPOINT, "a", Programmed=("False", "Pending"))
    second.frozen = False
    here.expect(ENDPOINT, "a", Programmed=("True", "Programmed"))
    eventually(
        "both counted",
        lambda: here.status(ENVIRONMENT, "default")["gateway"]["programmedReplicas"] == 2,
    )
    assert here.gateway.running.hash == second.running.hash


def test_a_gateway_with_a_newer_epoch_is_overtaken(here: World) -> None:
    here.gateway.running = Running(instance="fake", version="9.9.9", epoch=Epoch(term=41, sequence=7))
    here.start_operator()
    here.apply(environment(), endpoint("a"))
    here.expect(ENDPOINT, "a", Ready=("True", "Ready"))
    assert here.gateway.running.epoch >= Epoch(term=42, sequence=0)


def test_the_token_is_asked_for_and_a_new_one_is_followed(here: World) -> None:
    here.start_operator()
    here.apply(environment(), endpoint("a"))
    here.expect(ENDPOINT, "a", Ready=("True", "Ready"))
    here.gateway.token = "another"
    here.expect(ENDPOINT, "a", Programmed=("False", "GatewayUnavailable"))
    given = base64.b64encode(b"another\n").decode()
    here.server.kubectl(
        "patch", "secret", "hookstead-internal", "-p", json.dumps({"data": {"token": given}}), namespace=here.namespace
    )
    here.apply(endpoint("b"))
    here.expect(ENDPOINT, "b", Programmed=("True", "Programmed"))


def test_plain_http_to_another_host_is_never_dialled(here: World) -> None:
    here.start_operator(gateways=["http://gateway.example.invalid:9443"])
    here.apply(environment(), endpoint("a"))
    status = here.expect(ENDPOINT, "a", Programmed=("False", "GatewayUnavailable"))
    assert "loopback only" in str(status["conditions"])


def pod(name: str, port: int) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": "gateway"}},
        "spec": {
            "automountServiceAccountToken": False,
            "containers": [{"name": "main", "image": "none", "ports": [{"name": "internal", "containerPort": port}]}],
        },
    }


def test_selected_pods_count_while_they_are_ready(here: World) -> None:
    internal = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "hookstead-internal"},
        "stringData": {"token": "given"},
    }
    here.apply(internal)
    here.start_operator(gateway_selector="app=gateway")
    here.apply(environment(), endpoint("a"))
    here.expect(ENDPOINT, "a", Programmed=("False", "GatewayUnavailable"))
    path = f"/api/v1/namespaces/{here.namespace}/pods"
    here.server.request("POST", path, pod("gw-0", here.gateway.port))
    body = here.server.request("GET", f"{path}/gw-0")
    body["status"] = {"podIP": "127.0.0.1", "conditions": [{"type": "Ready", "status": "True"}]}
    here.server.request("PUT", f"{path}/gw-0/status", body)
    here.expect(ENDPOINT, "a", Programmed=("True", "Programmed"))
    body = here.server.request("GET", f"{path}/gw-0")
    body["status"]["conditions"] = [{"type": "Ready", "status": "False"}]
    here.server.request("PUT", f"{path}/gw-0/status", body)
    here.apply(endpoint("b"))
    here.expect(ENDPOINT, "b", Programmed=("False", "GatewayUnavailable"))
    secret_now = here.secret("hookstead-internal")
    assert secret_now is not None
    assert set(secret_now["data"]) == {"token"}, "a Secret that somebody gave is left alone"


def test_a_restarted_operator_repeats_no_status_and_pushes_a_newer_epoch(here: World) -> None:
    here.start_operator()
    here.apply(environment(), endpoint("a"))
    here.expect(ENDPOINT, "a", Ready=("True", "Ready"))
    hash_before = here.gateway.running.hash
    assert here.stop_operator() == 0
    mark = here.server.audit_mark()
    here.start_operator()
    eventually("a newer epoch", lambda: here.gateway.running.epoch.term == 2)
    eventually("stored", lambda: stored(here)[1]["hookstead.dev/config-epoch"].startswith("2."))
    assert here.gateway.running.hash == hash_before
    assert here.writes(mark, resource="webhookendpoints") == []


def test_events_of_both_gateways_do_not_add_up(here: World, second: FakeGateway) -> None:
    """Gateways of one environment share a store: their counts are two views of one truth."""
    from hookstead.config.report import EnvironmentActivity

    here.start_operator(gateways=[here.gateway.url, second.url])
    here.apply(environment())
    here.expect(ENVIRONMENT, "default", Ready=("True", "Ready"))
    for gateway in (here.gateway, second):
        gateway.report_environment(EnvironmentActivity(accepted=5, delivered=5))
    eventually("five", lambda: here.status(ENVIRONMENT, "default").get("activity", {}).get("accepted") == 5)
    assert msgspec.to_builtins(EnvironmentActivity(accepted=5))["accepted"] == 5
