"""Every row of the condition table, against the real API server; references heal by themselves."""

from __future__ import annotations

import time
import uuid
from typing import TYPE_CHECKING, Any

import pytest

from cluster.operator_fixtures import (
    World,
    channel,
    endpoint,
    environment,
    event_type,
    eventually,
    keyed,
    replay,
    secret,
    world,
)
from hookstead.config.report import (
    EndpointActivity,
    EndpointReport,
    NamedActivity,
    RecentDelivery,
    ReplayReport,
)
from hookstead.resources.conditions import Reason

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from cluster.apiserver import ApiServer

ENDPOINT, CHANNEL, TYPE, REPLAY = "WebhookEndpoint", "WebhookChannel", "WebhookEventType", "WebhookReplay"
ENVIRONMENT = "WebhookEnvironment"


@pytest.fixture(scope="module")
def shared(api_server: ApiServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """One enabled environment with an operator; tests use names of their own in it."""
    namespace = api_server.create_namespace(f"test-{uuid.uuid4().hex[:12]}")
    with world(api_server, namespace, tmp_path_factory.mktemp("operator")) as made:
        made.apply(environment())
        made.start_operator()
        made.expect(ENVIRONMENT, "default", Ready=("True", "Ready"), Active=("True", "Active"))
        yield made


@pytest.fixture
def here(api_server: ApiServer, namespace: str, tmp_path: Path) -> Iterator[World]:
    """A namespace of its own, nothing in it, no operator yet."""
    with world(api_server, namespace, tmp_path) as made:
        yield made


def test_an_applied_endpoint_becomes_ready_and_active(shared: World) -> None:
    shared.apply(endpoint("plain"))
    status = shared.expect(
        ENDPOINT,
        "plain",
        Ready=("True", "Ready"),
        Accepted=("True", "Accepted"),
        ResolvedRefs=("True", "ResolvedRefs"),
        Programmed=("True", "Programmed"),
        Active=("True", "Active"),
        Healthy=("Unknown", "NoRecentDeliveries"),
        Reconciling=None,
        Stalled=None,
    )
    assert status["host"] == "receiver.example.com"
    assert status["scope"] == "AllChannels"
    assert status["delivery"]["maxInFlight"] == 20
    assert status["signing"] == {"activeKeyIDs": ["key"]}
    assert "token" not in str(status)


def test_a_changed_endpoint_is_live_within_two_seconds(shared: World) -> None:
    shared.apply(endpoint("quick"))
    eventually("pushed", lambda: shared.gateway.endpoint("quick"), seconds=2)
    shared.apply(endpoint("quick", eventTypes=["a.*"]))
    eventually("pushed again", lambda: shared.gateway.endpoint("quick").event_types == ("a.*",), seconds=2)


STALLED: dict[str, tuple[dict[str, Any], str]] = {
    "literal-denied": (endpoint("literal-denied", "https://10.1.2.3/"), "InvalidSpec"),
    "plain-http": (endpoint("plain-http", "http://receiver.example.com/"), "InvalidSpec"),
    "bad-filter": (endpoint("bad-filter", filter="event.type +"), "FilterInvalid"),
    "no-bool": (endpoint("no-bool", filter="event.type"), "FilterInvalid"),
}


@pytest.mark.parametrize("name", STALLED)
def test_what_only_an_edit_mends_is_stalled(shared: World, name: str) -> None:
    body, reason = STALLED[name]
    shared.apply(body)
    shared.expect(
        ENDPOINT,
        name,
        Accepted=("False", reason),
        Ready=("False", reason),
        Stalled=("True", reason),
        Active=("False", reason),
        Reconciling=None,
        Programmed=("True", "Programmed"),
    )


def test_an_edit_mends_what_is_stalled(shared: World) -> None:
    shared.apply(endpoint("mended", "https://10.1.2.3/"))
    shared.expect(ENDPOINT, "mended", Stalled=("True", "InvalidSpec"))
    shared.apply(endpoint("mended"))
    shared.expect(ENDPOINT, "mended", seconds=3, Ready=("True", "Ready"), Stalled=None, Active=("True", "Active"))


def test_an_invalid_schema_and_a_sample_that_does_not_fit_are_stalled(shared: World) -> None:
    schema = {"type": "object", "properties": {"amount": {"type": "integer"}}, "required": ["amount"]}
    shared.apply(
        event_type("bad.schema", schema={"type": "nonsense"}),
        event_type("bad.sample", schema=schema, sample={"amount": "many"}),
        event_type("good.type", schema=schema, sample={"amount": 1}),
    )
    shared.expect(TYPE, "bad.schema", Accepted=("False", "SchemaInvalid"), Stalled=("True", "SchemaInvalid"))
    shared.expect(TYPE, "bad.sample", Accepted=("False", "SampleInvalid"), Stalled=("True", "SampleInvalid"))
    status = shared.expect(TYPE, "good.type", Ready=("True", "Ready"), Active=("True", "Active"))
    assert status["schemaDigest"].startswith("sha256:")


def test_a_missing_secret_heals_when_it_appears(shared: World) -> None:
    shared.apply(endpoint("waits", signing=keyed("late")))
    shared.expect(
        ENDPOINT,
        "waits",
        ResolvedRefs=("False", "SecretNotFound"),
        Ready=("False", "SecretNotFound"),
        Reconciling=("True", "SecretNotFound"),
        Active=("False", "SecretNotFound"),
    )
    shared.apply(secret("late"))
    shared.expect(ENDPOINT, "waits", seconds=4, Ready=("True", "Ready"), Active=("True", "Active"), Reconciling=None)
    assert shared.gateway.endpoint("waits").keys[0].id == "main"


def test_a_secret_without_the_label_is_not_permitted_until_it_is_labelled(shared: World) -> None:
    shared.apply(secret("private", labels={}), endpoint("peeks", signing=keyed("private")))
    status = shared.expect(ENDPOINT, "peeks", ResolvedRefs=("False", "SecretNotPermitted"))
    assert "hookstead.dev/endpoint-secret" in str(status["conditions"])
    shared.apply(secret("private"))
    shared.expect(ENDPOINT, "peeks", Ready=("True", "Ready"))


def test_a_secret_that_loses_its_label_or_is_deleted_is_noticed(shared: World) -> None:
    shared.apply(secret("fickle"), secret("mortal"))
    shared.apply(endpoint("loses", signing=keyed("fickle")), endpoint("mourns", signing=keyed("mortal")))
    shared.expect(ENDPOINT, "loses", Ready=("True", "Ready"))
    shared.expect(ENDPOINT, "mourns", Ready=("True", "Ready"))
    shared.server.kubectl("label", "secret", "fickle", "hookstead.dev/endpoint-secret-", namespace=shared.namespace)
    shared.server.kubectl("delete", "secret", "mortal", namespace=shared.namespace)
    shared.expect(ENDPOINT, "loses", ResolvedRefs=("False", "SecretNotPermitted"))
    shared.expect(ENDPOINT, "mourns", ResolvedRefs=("False", "SecretNotFound"))
    assert shared.gateway.endpoint("loses").keys == ()


def test_a_secret_without_the_key_or_with_a_bad_key_says_so(shared: World) -> None:
    shared.apply(
        secret("odd", other="x", broken="whsec_short"),
        endpoint("no-key", signing=keyed("odd", "keyy")),
        endpoint("bad-key", signing=keyed("odd", "broken")),
    )
    shared.expect(ENDPOINT, "no-key", ResolvedRefs=("False", "SecretKeyMissing"))
    shared.expect(ENDPOINT, "bad-key", ResolvedRefs=("False", "SecretInvalid"), Reconciling=("True", "SecretInvalid"))


def test_a_missing_channel_heals_and_meanwhile_nothing_is_widened(shared: World) -> None:
    shared.apply(endpoint("segment", channelRefs=[{"name": "later"}]))
    status = shared.expect(
        ENDPOINT, "segment", ResolvedRefs=("False", "ChannelNotFound"), Reconciling=("True", "ChannelNotFound")
    )
    assert status["scope"] == "Nothing"
    assert shared.gateway.endpoint("segment").channels == ()
    shared.apply(channel("later", "client_later"))
    status = shared.expect(ENDPOINT, "segment", seconds=4, Ready=("True", "Ready"))
    assert status["scope"] == "SelectedChannels"
    assert shared.expect(CHANNEL, "later", Ready=("True", "Ready"), Active=("True", "Active"))["endpoints"] == 1


def test_a_disabled_channel_is_ready_and_not_active(shared: World) -> None:
    shared.apply(channel("closed", state="Disabled"))
    shared.expect(CHANNEL, "closed", Ready=("True", "Ready"), Active=("False", "ChannelDisabled"))


def test_an_undeclared_event_type_heals_when_it_is_declared(shared: World) -> None:
    shared.apply(endpoint("typed", eventTypes=["invoice.paid", "other.*"]))
    shared.expect(ENDPOINT, "typed", ResolvedRefs=("False", "EventTypeNotFound"), Active=("True", "Active"))
    shared.apply(event_type("invoice.paid"))
    shared.expect(ENDPOINT, "typed", seconds=4, ResolvedRefs=("True", "ResolvedRefs"))


def test_the_oldest_of_two_with_one_wire_name_wins_until_it_goes(shared: World) -> None:
    shared.apply(channel("first", "client_twin"), event_type("twin.a", "twin.type"))
    shared.expect(CHANNEL, "first", Ready=("True", "Ready"))
    time.sleep(1.1)  # creation times have whole seconds
    shared.apply(channel("a-second", "client_twin"), event_type("a-twin", "twin.type"))
    shared.expect(
        CHANNEL,
        "a-second",
        Accepted=("False", "DuplicateChannelName"),
        Stalled=("True", "DuplicateChannelName"),
        Active=("False", "DuplicateChannelName"),
    )
    shared.expect(TYPE, "a-twin", Accepted=("False", "DuplicateEventType"))
    shared.delete(CHANNEL, "first")
    shared.delete(TYPE, "twin.a")
    shared.expect(CHANNEL, "a-second", Ready=("True", "Ready"), Stalled=None)
    shared.expect(TYPE, "a-twin", Ready=("True", "Ready"))


@pytest.mark.parametrize(("state", "reason"), [("Disabled", "EndpointDisabled"), ("Paused", "Paused")])
def test_a_deliberate_stop_is_ready_and_not_active(shared: World, state: str, reason: str) -> None:
    name = f"is-{state.lower()}"
    shared.apply(endpoint(name, state=state))
    shared.expect(ENDPOINT, name, Ready=("True", "Ready"), Active=("False", reason), Reconciling=None)


def _report(here: World, name: str, **fields: Any) -> EndpointReport:
    return EndpointReport(name=name, uid=here.get(ENDPOINT, name)["metadata"]["uid"], **fields)


@pytest.mark.parametrize("reason", [Reason.THROTTLED, Reason.CIRCUIT_OPEN, Reason.SUSPENDED, Reason.GONE])
def test_what_a_gateway_holds_is_not_active_but_ready(shared: World, reason: Reason) -> None:
    name = f"held-{reason.value.lower()}"
    shared.apply(endpoint(name))
    shared.expect(ENDPOINT, name, Active=("True", "Active"))
    shared.gateway.report_endpoint(_report(shared, name, held=reason, held_message="Because."))
    shared.expect(ENDPOINT, name, seconds=3, Active=("False", reason.value), Ready=("True", "Ready"))


def test_health_and_recent_deliveries_follow_the_reports(shared: World) -> None:
    shared.apply(endpoint("healthy"))
    shared.expect(ENDPOINT, "healthy", Healthy=("Unknown", "NoRecentDeliveries"))
    when = "2026-01-31T12:00:00.000Z"
    line = RecentDelivery(
        id="dlv_1",
        event_type="order.created",
        time=when,
        attempt=1,
        outcome="Failed",
        status_code=500,
        duration_milliseconds=12,
        next_attempt_time="2026-01-31T12:00:05.000Z",
        message="x" * 300,
    )
    failing = EndpointActivity(
        failed=1, pending=1, consecutive_failures=1, last_attempt_time=when, last_failure_time=when
    )
    shared.gateway.report_endpoint(_report(shared, "healthy", activity=failing, recent_deliveries=(line,)))
    status = shared.expect(
        ENDPOINT, "healthy", seconds=3, Healthy=("False", "Failing"), Ready=("True", "Ready"), Active=("True", "Active")
    )
    assert status["activity"]["consecutiveFailures"] == 1
    (recent,) = status["recentDeliveries"]
    assert recent["id"] == "dlv_1"
    assert recent["statusCode"] == 500
    assert len(recent["message"]) == 256
    assert eventually("counted", lambda: shared.status(ENVIRONMENT, "default")["endpoints"]["failing"] == 1)
    said = shared.server.kubectl("get", "whep", "healthy", namespace=shared.namespace)
    assert said.splitlines()[0].split() == ["NAME", "READY", "ACTIVE", "HEALTHY", "LAST-DELIVERY", "FAILURES", "AGE"]
    assert said.splitlines()[1].split()[:4] == ["healthy", "True", "True", "False"]


def test_channels_and_types_show_their_events(shared: World) -> None:
    when = "2026-01-31T12:00:00.000Z"
    shared.apply(channel("busy", "client_busy"), event_type("busy.type"))
    shared.expect(CHANNEL, "busy", Ready=("True", "Ready"))
    shared.expect(TYPE, "busy.type", Ready=("True", "Ready"))
    shared.gateway.report_channel(NamedActivity(name="client_busy", accepted=3, last_event_time=when))
    shared.gateway.report_event_type(NamedActivity(name="busy.type", accepted=3, rejected=1, last_event_time=when))
    eventually(
        "activity of the channel",
        lambda: shared.status(CHANNEL, "busy").get("activity") == {"accepted": 3, "lastEventTime": when},
        seconds=4,
    )
    eventually(
        "activity of the type",
        lambda: (
            shared.status(TYPE, "busy.type").get("activity") == {"accepted": 3, "rejected": 1, "lastEventTime": when}
        ),
        seconds=10,
    )


def test_a_replay_runs_and_completes(shared: World) -> None:
    shared.apply(endpoint("replayed"))
    shared.apply(replay("again", "replayed"), replay("nobody", "not-there"))
    shared.expect(
        REPLAY,
        "again",
        Accepted=("True", "Accepted"),
        ResolvedRefs=("True", "ResolvedRefs"),
        Ready=("False", "Running"),
        Reconciling=("True", "Running"),
        Complete=None,
        Active=None,
        Programmed=None,
        Healthy=None,
    )
    shared.expect(REPLAY, "nobody", ResolvedRefs=("False", "EndpointNotFound"), Ready=("False", "EndpointNotFound"))
    uid = shared.get(REPLAY, "again")["metadata"]["uid"]
    done = ReplayReport(
        name="again",
        uid=uid,
        phase=Reason.COMPLETED,
        selected=3,
        delivered=2,
        failed=1,
        start_time="2026-01-31T12:00:00.000Z",
        completion_time="2026-01-31T12:01:00.000Z",
    )
    shared.gateway.report_replay(done)
    status = shared.expect(
        REPLAY, "again", Ready=("True", "Completed"), Complete=("True", "Completed"), Reconciling=None
    )
    assert (status["selected"], status["delivered"], status["failed"]) == (3, 2, 1)
    said = shared.server.kubectl("wait", "whrp/again", "--for=condition=Complete", namespace=shared.namespace)
    assert "condition met" in said


def test_without_an_environment_nothing_is_accepted_and_everything_waits_for_it(here: World) -> None:
    here.start_operator()
    here.apply(endpoint("early"), channel("early"), event_type("early.type"), replay("early", "early"))
    for kind, name in ((ENDPOINT, "early"), (CHANNEL, "early"), (TYPE, "early.type")):
        here.expect(
            kind,
            name,
            Accepted=("False", "EnvironmentMissing"),
            Active=("False", "EnvironmentMissing"),
            Ready=("False", "EnvironmentMissing"),
            Reconciling=("True", "EnvironmentMissing"),
            Stalled=None,
        )
    here.expect(REPLAY, "early", Accepted=("False", "EnvironmentMissing"), Ready=("False", "EnvironmentMissing"))
    here.apply(environment("Disabled"))
    for kind, name in ((ENDPOINT, "early"), (CHANNEL, "early"), (TYPE, "early.type")):
        here.expect(
            kind, name, Accepted=("True", "Accepted"), Ready=("True", "Ready"), Active=("False", "EnvironmentDisabled")
        )
    here.expect(ENVIRONMENT, "default", Ready=("True", "Ready"), Active=("False", "EnvironmentDisabled"))
    here.apply(environment(), endpoint("fresh"))
    here.expect(ENVIRONMENT, "default", Active=("True", "Active"))
    here.expect(ENDPOINT, "fresh", Ready=("True", "Ready"), Active=("True", "Active"))
    here.delete(ENVIRONMENT, "default")
    here.expect(ENDPOINT, "fresh", Accepted=("False", "EnvironmentMissing"), Reconciling=("True", "EnvironmentMissing"))
    eventually("the gateway knows", lambda: here.gateway.config.environment is None)


def test_an_environment_edited_into_something_invalid_keeps_its_last_valid_form(here: World) -> None:
    here.start_operator()
    egress = {"privateNetworks": "Allow", "allowedCIDRs": ["10.0.0.0/8"]}
    here.apply(environment(egress=egress), endpoint("inside", "https://10.1.2.3/"))
    here.expect(ENDPOINT, "inside", Ready=("True", "Ready"), Active=("True", "Active"))
    here.apply(environment(egress={**egress, "allowedCIDRs": ["8.8.8.0/24"]}))
    here.expect(ENVIRONMENT, "default", Accepted=("False", "InvalidSpec"), Stalled=("True", "InvalidSpec"))
    assert here.gateway.config.enabled
    assert here.gateway.config.environment.egress.allowed_cidrs == ("10.0.0.0/8",)
    here.expect(ENDPOINT, "inside", Ready=("True", "Ready"), Active=("True", "Active"))
    assert here.stop_operator() == 0
    here.start_operator()
    mark = here.server.audit_mark()
    eventually("pushed by the next one", lambda: here.gateway.running.epoch.term > 1)
    assert here.gateway.config.enabled, "the last valid form survives a restart of the operator"
    assert not here.writes(mark, resource="webhookendpoints")
