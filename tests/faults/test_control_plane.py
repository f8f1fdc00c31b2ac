"""Faults between any two parts while events flow: nothing promised is lost, and only what was in flight comes twice.

One stage of real processes for all tests, with a producer that never stops; each test breaks one thing, sees that the
traffic goes on and that what was changed meanwhile comes to be in force, and leaves everything whole. The last counts.
"""

from __future__ import annotations

import base64
import os
import re
import signal
import ssl
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import pytest

from cluster.apiserver import ApiServer
from cluster.conftest import CRDS, PROGRAMS
from cluster.operator_fixtures import World, channel, endpoint, event_type, eventually, keyed, replay, secret, world
from cluster.proxies import Answer, Asked, FirstItems, Rule, Silence, WatchError
from cluster.stage import Stage, Traffic, enabled, stage
from cluster.status_journal import StatusJournal, status_journal
from hookstead.operator.certificates import issue
from hookstead.operator.gateways import INTERNAL_NAME
from toolchain.binaries import ProgramMissingError, locate

pytestmark = pytest.mark.xdist_group("control-plane")

ENDPOINT, ENVIRONMENT = "WebhookEndpoint", "WebhookEnvironment"
IN_FLIGHT: Final = 20
"""`maxInFlight` of each endpoint, by default."""
STEADY: Final = ("one", "two")
"""Endpoints that get all of the traffic."""
DOUBT: Final = "many objects vanished at once"
RETRY_AFTER: Final = {"Retry-After": "1"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    """A cluster that may be broken; its namespace controller is needed for one test."""
    try:
        for program in PROGRAMS:
            locate(program)
    except ProgramMissingError as error:
        pytest.skip(str(error))
    with ApiServer(directory=tmp_path_factory.mktemp("faults") / "cluster") as one:
        one.apply_crds(CRDS)
        yield one


@pytest.fixture(scope="module")
def place(server: ApiServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    namespace = server.create_namespace("faults")
    with stage(server, namespace, tmp_path_factory.mktemp("stage")) as made:
        made.apply(enabled(), event_type("traffic.made"), *(steady(made, name) for name in STEADY))
        made.operate()
        made.open_gateway()
        for name in STEADY:
            made.expect(ENDPOINT, name, seconds=30, Ready=("True", "Ready"))
        yield made


@pytest.fixture(scope="module")
def journal(place: Stage) -> Iterator[StatusJournal]:
    with status_journal(place.server, place.namespace) as made:
        yield made


@pytest.fixture(scope="module")
def kills() -> list[str]:
    """What took the gateway's life in the middle of its work: each time may repeat what was in flight."""
    return []


@pytest.fixture(scope="module")
def traffic(place: Stage, journal: StatusJournal) -> Traffic:
    del journal
    made = Traffic(place.port)
    made.begin()
    made.flows()
    return made


def steady(here: Stage, name: str) -> dict[str, Any]:
    return endpoint(name, f"{here.receiver.url}/{name}", eventTypes=["traffic.made"])


def newcomer(here: Stage, name: str, **spec: Any) -> dict[str, Any]:
    """An endpoint that gets only what is published for it."""
    return endpoint(name, f"{here.receiver.url}/{name}", eventTypes=[f"{name}.*"], **spec)


def in_force(here: Stage, name: str, *, seconds: float = 25) -> None:
    eventually(f"{name} gets its events", lambda: here.selects(f"{name}.made") == 1, seconds=seconds)


def comes_to_be(here: Stage, name: str, *, seconds: float = 25) -> None:
    """An endpoint that was applied is in force, and its status says so."""
    in_force(here, name, seconds=seconds)
    here.expect(ENDPOINT, name, seconds=seconds, Ready=("True", "Ready"), Programmed=("True", "Programmed"))


def goes(here: Stage, *names: str) -> None:
    for name in names:
        here.delete(ENDPOINT, name)
    for name in names:
        eventually(f"{name} gets no more", lambda: here.selects(f"{name}.made") == 0, seconds=25)  # noqa: B023


@contextmanager
def paused(pid: int) -> Iterator[None]:
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


# The operator. ----------------------------------------------------------------------------------------------------


def test_a_killed_operator_costs_no_event_and_its_successor_takes_in_what_was_missed(
    place: Stage, traffic: Traffic
) -> None:
    place.apply(newcomer(place, "left-behind"))
    comes_to_be(place, "left-behind")
    place.operator.kill()
    place.delete(ENDPOINT, "left-behind")
    place.apply(newcomer(place, "meanwhile"))
    traffic.flows(30)
    assert place.selects("left-behind.made") == 1, "the last good configuration stays in force"
    place.operate()
    comes_to_be(place, "meanwhile")
    eventually("the deletion", lambda: place.selects("left-behind.made") == 0)
    goes(place, "meanwhile")


def test_an_operator_that_hung_goes_on_where_it_stopped(place: Stage, traffic: Traffic) -> None:
    with paused(place.operator.pid):
        place.apply(newcomer(place, "hung"))
        traffic.flows(30)
        assert place.selects("hung.made") == 0
    comes_to_be(place, "hung")
    goes(place, "hung")


# The gateway. -----------------------------------------------------------------------------------------------------


def test_a_killed_gateway_delivers_what_it_had_promised_and_is_caught_up(
    place: Stage, traffic: Traffic, kills: list[str]
) -> None:
    place.hookstead.kill()
    kills.append("SIGKILL")
    place.apply(newcomer(place, "unheard"))
    place.open_gateway()
    traffic.flows(30)
    comes_to_be(place, "unheard")
    goes(place, "unheard")


def test_a_gateway_that_hangs_is_called_unavailable_and_heals(place: Stage, traffic: Traffic, kills: list[str]) -> None:
    with paused(place.hookstead.pid):
        kills.append("SIGSTOP: receivers were not read, attempts may have timed out")
        place.apply(newcomer(place, "waiting"))
        place.expect(ENDPOINT, "waiting", seconds=20, Programmed=("False", "GatewayUnavailable"))
    traffic.flows(30)
    in_force(place, "waiting")  # its next transition may be ten seconds away
    goes(place, "waiting")


def test_a_gateway_behind_a_parted_network_delivers_on_and_is_caught_up(place: Stage, traffic: Traffic) -> None:
    place.wire.part()
    try:
        place.apply(newcomer(place, "beyond"))
        place.expect(ENDPOINT, "beyond", seconds=20, Ready=("False", "Pending"))
        traffic.flows(30)
        assert place.selects("beyond.made") == 0
    finally:
        place.wire.heal()
    comes_to_be(place, "beyond")
    place.wire.reset()
    goes(place, "beyond")


# The API server. --------------------------------------------------------------------------------------------------


def test_an_api_server_that_is_restarted_costs_no_event(place: Stage, traffic: Traffic) -> None:
    """Its watch cache is new: watches that resume may hear 410."""
    operator = place.operator
    place.server.kill()
    try:
        traffic.flows(50)
    finally:
        place.server.restart()
    place.apply(newcomer(place, "reborn"))
    comes_to_be(place, "reborn", seconds=40)
    assert operator.running, operator.last_words()
    goes(place, "reborn")


def everything(fault: Answer | Silence) -> Rule:
    return lambda _asked: fault


@pytest.mark.parametrize(
    ("name", "rule"),
    [
        ("storm", everything(Answer(429, headers=RETRY_AFTER))),
        ("errors", everything(Answer(500))),
        ("strangers", everything(Answer(401))),
        ("writes", lambda asked: Answer(500) if asked.method != "GET" else None),
    ],
)
def test_refusals_of_the_api_server_are_waited_out(place: Stage, traffic: Traffic, name: str, rule: Rule) -> None:
    operator, before = place.operator, place.api.injected.total()
    with place.api.faulty(rule):
        place.api.drop_watches()
        place.apply(newcomer(place, name))
        traffic.flows(30)
        time.sleep(1.5)
    assert operator.running, operator.last_words()
    refused = place.api.injected.total() - before
    assert 0 < refused < 200, "what is refused is not asked for without a pause"
    comes_to_be(place, name)
    goes(place, name)


def test_a_watch_that_is_too_old_is_begun_anew(place: Stage, traffic: Traffic) -> None:
    with place.api.faulty(
        lambda asked: WatchError(410) if asked.watches and asked.path.endswith("endpoints") else None
    ):
        place.api.drop_watches()
        place.apply(newcomer(place, "gone-410"))
        comes_to_be(place, "gone-410")
        traffic.flows(10)
    goes(place, "gone-410")


def of_endpoints(fault: Answer | WatchError) -> Rule:
    """On the watch of one kind alone: the others go on, and must not keep the process alive."""
    return lambda asked: fault if asked.watches and asked.path.endswith("/webhookendpoints") else None


@pytest.mark.parametrize(
    ("name", "rule"), [("unknown", of_endpoints(WatchError(504))), ("vanished", of_endpoints(Answer(404)))]
)
def test_a_watch_that_fails_for_good_ends_the_process_and_its_successor_goes_on(
    place: Stage, traffic: Traffic, name: str, rule: Rule
) -> None:
    """A restart is cheap, and what a kubelet does; a process that watched no more would be worse than none."""
    operator = place.operator
    with place.api.faulty(rule):
        place.api.drop_watches()
        eventually("the operator ends", lambda: not operator.running, seconds=30)
    place.apply(newcomer(place, name))
    traffic.flows(10)
    place.operate()
    comes_to_be(place, name)
    goes(place, name)


def test_a_watch_that_falls_silent_is_noticed(place: Stage, traffic: Traffic) -> None:
    place.apply(newcomer(place, "unsaid"))
    comes_to_be(place, "unsaid")
    place.api.silence_watches()
    place.apply(newcomer(place, "whispered"))
    place.delete(ENDPOINT, "unsaid")
    comes_to_be(place, "whispered")
    eventually("the deletion", lambda: place.selects("unsaid.made") == 0, seconds=25)
    traffic.flows(10)
    goes(place, "whispered")


def test_an_api_server_that_does_not_answer_at_all_is_waited_for(place: Stage, traffic: Traffic) -> None:
    operator = place.operator
    with place.api.faulty(everything(Silence())):
        place.api.silence_watches()
        place.apply(newcomer(place, "parted"))
        traffic.flows(30)
        time.sleep(2)
    place.api.hang_up()
    comes_to_be(place, "parted", seconds=40)
    assert operator.running, operator.last_words()
    goes(place, "parted")


def lists(asked: Asked) -> bool:
    return asked.method == "GET" and not asked.watches and asked.path.endswith("/webhookendpoints")


class HalfOfIt:
    """Both the feed's lists and the sweeps' are short, as from a server that lost a part; and the watch breaks once."""

    def __init__(self) -> None:
        self.broken = False

    def __call__(self, asked: Asked) -> FirstItems | WatchError | None:
        if lists(asked):
            return FirstItems(3)
        if asked.watches and asked.path.endswith("/webhookendpoints") and not self.broken:
            self.broken = True
            return WatchError(410)
        return None


def test_half_a_list_takes_nobody_away(place: Stage, traffic: Traffic) -> None:
    names = [f"many-{number}" for number in range(24)]
    place.apply(secret("many"), *(newcomer(place, name, signing=keyed("many")) for name in names))
    for name in (*names, *STEADY):
        place.expect(ENDPOINT, name, Ready=("True", "Ready"))
    for name in names:
        place.receiver.on(f"/{name}", 500, 500, 204)
        assert place.selects(f"{name}.made") == 1
    seen = place.operator.log.read_text()
    with place.api.faulty(HalfOfIt()):
        place.api.drop_watches()
        eventually("doubted", lambda: DOUBT in place.operator.log.read_text().removeprefix(seen), seconds=20)
        traffic.flows(30)
        assert [place.selects(f"{name}.made") for name in names] == [1] * len(names)
    place.apply(newcomer(place, "after-all"))
    comes_to_be(place, "after-all")
    assert [place.selects(f"{name}.made") for name in names] == [1] * len(names)
    assert place.sample("hookstead_deliveries", status="Cancelled", endpoint="many-23") == 0
    for name in names:
        place.receiver.wait(f"/{name}", 5)  # each of three events, the first of them after two failures
        assert place.sample("hookstead_deliveries", status="Cancelled", endpoint=name) == 0
    goes(place, "many-0", "after-all")
    place.server.kubectl("delete", "whep", *names[1:], "--wait=false", namespace=place.namespace)
    eventually("they go", lambda: place.selects("many-23.made") == 0, seconds=25)


# Secrets. ---------------------------------------------------------------------------------------------------------


def test_a_webhook_secret_that_is_deleted_and_restored_holds_and_never_sends_unsigned(
    place: Stage, traffic: Traffic
) -> None:
    place.apply(secret("its-key"), newcomer(place, "keyed", signing=keyed("its-key")))
    comes_to_be(place, "keyed")
    place.receiver.wait("/keyed", 1)
    place.server.request("DELETE", f"/api/v1/namespaces/{place.namespace}/secrets/its-key")
    place.expect(ENDPOINT, "keyed", ResolvedRefs=("False", "SecretNotFound"), Active=("False", "SecretNotFound"))
    held = len(place.receiver.received("/keyed"))
    for _ in range(5):
        assert place.selects("keyed.made") == 1, "held, not refused"
    traffic.flows(30)
    assert len(place.receiver.received("/keyed")) == held
    place.apply(secret("its-key"))
    place.receiver.wait("/keyed", held + 5)
    assert all(one.headers.get("webhook-signature") for one in place.receiver.received("/keyed"))
    goes(place, "keyed")


def pem(body: dict[str, Any] | None, key: str) -> str:
    assert body is not None
    return base64.b64decode(body["data"][key]).decode()


def shown(place: Stage) -> str:
    """The certificate that the gateway shows."""
    return ssl.get_server_certificate(("127.0.0.1", place.internal))


def patch_internal(place: Stage, **texts: str) -> None:
    data = {key.replace("_", "."): base64.b64encode(text.encode()).decode() for key, text in texts.items()}
    path = f"/api/v1/namespaces/{place.namespace}/secrets/hookstead-internal"
    body = place.server.request("GET", path)
    body["data"] |= data
    place.server.request("PUT", path, body)


def old_certificate(place: Stage) -> None:
    made = issue(
        INTERNAL_NAME,
        now=datetime.now(UTC) - timedelta(days=300),
        former_authorities=pem(place.secret("hookstead-internal"), "ca.crt"),
    )
    patch_internal(place, ca_crt=made.authorities, tls_crt=made.certificate, tls_key=made.key)


def another_authority(place: Stage) -> None:
    made = issue(INTERNAL_NAME, now=datetime.now(UTC))
    patch_internal(place, ca_crt=made.authorities, tls_crt=made.certificate, tls_key=made.key, token="another-token")


def deleted(place: Stage) -> None:
    place.server.request("DELETE", f"/api/v1/namespaces/{place.namespace}/secrets/hookstead-internal")


@pytest.mark.parametrize("change", [old_certificate, another_authority, deleted])
def test_the_internal_secret_changes_without_a_gap_while_configurations_travel(
    place: Stage, traffic: Traffic, journal: StatusJournal, change: Callable[[Stage], None]
) -> None:
    """Renewed by the operator, replaced by somebody, deleted: the mount follows later, and nobody is shut out."""
    before, seen = shown(place), len(journal.seen())
    name = change.__name__.replace("_", "-")
    change(place)
    count = 0
    ends = time.monotonic() + 60
    while shown(place) == before or shown(place) != pem(place.secret("hookstead-internal"), "tls.crt").strip() + "\n":
        assert time.monotonic() < ends, "the gateway never showed the new certificate"
        count += 1
        place.apply(newcomer(place, f"{name}-{count}"))
        comes_to_be(place, f"{name}-{count}")
        time.sleep(0.3)
    place.apply(newcomer(place, f"{name}-last"))
    comes_to_be(place, f"{name}-last")
    gaps = [
        (entry.key, item["message"])
        for entry in journal.seen()[seen:]
        for item in entry.body["status"].get("conditions") or ()
        if item["type"] == "Programmed" and item["reason"] == "GatewayUnavailable"
    ]
    assert gaps == []
    assert not re.search(r"gateway does not answer", place.operator.log.read_text().split("created the internal")[-1])
    assert count > 0
    traffic.flows(5)
    goes(place, *(f"{name}-{number + 1}" for number in range(count)), f"{name}-last")


# The namespace. ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("operator", ["up", "down"])
def test_a_namespace_goes_cleanly_with_its_operator(server: ApiServer, tmp_path: Path, operator: str) -> None:
    """Nothing of ours holds it: no finalizer, no owner that blocks. An operator that sees it go makes nothing anew."""
    namespace = server.create_namespace(f"doomed-{operator}")
    with world(server, namespace, tmp_path) as here:
        here.start_operator(leader_elect=True)
        here.apply(enabled(), channel("c"), event_type("t"), endpoint("e", channelRefs=[{"name": "c"}]))
        here.apply(replay("r", "e"), secret("s"), endpoint("k", signing=keyed("s")))
        here.expect(ENDPOINT, "e", Ready=("True", "Ready"))
        eventually("the stored configuration", lambda: here.secret("hookstead-config-0"))
        if operator == "down":
            here.kill_operators()
        assert finalizers(here) == []
        server.kubectl("delete", "namespace", namespace, "--timeout=60s", timeout_seconds=70)


def finalizers(here: World) -> list[str]:
    found = []
    kinds = ["webhookenvironments", "webhookendpoints", "webhookchannels", "webhookeventtypes", "webhookreplays"]
    paths = [f"/apis/hookstead.dev/v1alpha1/namespaces/{here.namespace}/{plural}" for plural in kinds]
    paths.append(f"/api/v1/namespaces/{here.namespace}/secrets")
    paths.append(f"/apis/coordination.k8s.io/v1/namespaces/{here.namespace}/leases")
    for path in paths:
        for body in here.server.request("GET", path)["items"]:
            found += [f"{path}/{body['metadata']['name']}"] if body["metadata"].get("finalizers") else []
            for owner in body["metadata"].get("ownerReferences") or ():
                assert owner["blockOwnerDeletion"] is False
    return found


# The books. -------------------------------------------------------------------------------------------------------


def test_at_the_end_everything_that_was_promised_has_come_and_only_what_was_in_flight_twice(
    place: Stage, traffic: Traffic, kills: list[str], journal: StatusJournal, record_property: Callable[..., None]
) -> None:
    traffic.flows(20)
    traffic.end()
    promised = set(traffic.promised.values())
    assert len(promised) == len(traffic.promised), "two callers' ids, one event"
    arrived: dict[str, Counter[str]] = {}
    for name in STEADY:
        eventually(
            f"everything has come to {name}",
            lambda: {one.id for one in place.receiver.received(f"/{name}")} >= promised,  # noqa: B023
            seconds=60,
        )
    eventually(
        "nothing is pending",
        lambda: sum(place.sample("hookstead_deliveries", status="Pending", endpoint=name) for name in STEADY) == 0,
        seconds=30,
    )
    twice = 0
    for name in STEADY:
        arrived[name] = Counter(one.id for one in place.receiver.received(f"/{name}"))
        assert set(arrived[name]) == promised, "what was never promised, or answered, has come"
        assert max(arrived[name].values()) <= 1 + len(kills)
        twice += sum(count - 1 for count in arrived[name].values())
        assert place.sample("hookstead_deliveries", status="Delivered", endpoint=name) == len(promised)
        assert place.sample("hookstead_deliveries", endpoint=name) == len(promised), "the law"
    assert twice <= IN_FLIGHT * len(STEADY) * len(kills)
    assert journal.faults() == []
    deliveries = len(promised) * len(STEADY)
    record_property("tally", ["events delivered through faults of the control plane", deliveries, deliveries])
    record_property("tally", ["of these twice, in flight when the gateway was killed or stopped", twice, deliveries])
    print(f"\n{len(promised)} events, {deliveries} deliveries, {twice} twice; refusals {dict(traffic.refusals)}")
