"""Every row of the condition table that operator and gateway reach together, over `kubectl` and HTTP alone."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest

from cluster.contract_site import (
    CHANNEL,
    ENDPOINT,
    ENVIRONMENT,
    EVENT_TYPE,
    RECONCILE,
    REPLAY,
    RESUME,
    Site,
    channel,
    conditions,
    environment,
    event_type,
    keyed,
    new_key,
    replay,
    running_site,
    secret,
)
from contract.processes import Answer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cluster.apiserver import ApiServer

READY: dict[str, Any] = {
    "Accepted": ("True", "Accepted"),
    "ResolvedRefs": ("True", "ResolvedRefs"),
    "Ready": ("True", "Ready"),
}
PROGRAMMED: dict[str, Any] = {"Programmed": ("True", "Programmed")}
SETTLED: dict[str, Any] = {"Reconciling": None, "Stalled": None}


@pytest.fixture(scope="module")
def site(api_server: ApiServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    yield from running_site(api_server, tmp_path_factory.mktemp("site"))


def failing(site: Site, path: str, *, status: int = 500, **headers: str) -> None:
    named = {key.replace("_", "-"): value for key, value in headers.items()}
    site.receiver.on(f"/{path}", Answer(status, headers=named))


@pytest.fixture(scope="module")
def broken_circuit(site: Site) -> str:
    """An endpoint that has failed ten times in a row; its circuit opens 30 s after the first failure."""
    name = site.name("circuit")
    failing(site, name)
    # A long schedule at the end, so that there is a failure after the 30 s.
    site.apply(site.endpoint(name, delivery={"retry": {"scheduleSeconds": [31, 1, 1, 60]}}))
    site.ready(name)
    for _ in range(10):
        site.publish(name)
    return name


@pytest.fixture(scope="module")
def throttled(site: Site) -> str:
    """An endpoint whose receiver asked once for a pause of three seconds."""
    name = site.name("throttled")
    site.receiver.on(f"/{name}", Answer(429, headers={"retry-after": "3"}), Answer(204))
    site.apply(site.endpoint(name))
    site.ready(name)
    site.publish(name)
    site.expect(ENDPOINT, name, Active=("False", "Throttled"), Healthy=("False", "Failing"), Ready=("True", "Ready"))
    return name


@pytest.mark.usefixtures("broken_circuit", "throttled")
def test_each_kind_has_its_conditions_and_no_other(site: Site) -> None:
    name = site.name()
    site.apply(channel(name, f"client_{name}"), event_type(name))
    site.apply(site.endpoint(name, channelRefs=[{"name": name}]))
    four = {*READY, *PROGRAMMED}
    for kind, object_name, more in (
        (ENVIRONMENT, "default", {"Active"}),
        (CHANNEL, name, {"Active"}),
        (EVENT_TYPE, name, {"Active"}),
        (ENDPOINT, name, {"Active", "Healthy"}),
    ):
        site.expect(kind, object_name, **READY, **PROGRAMMED, Active=("True", "Active"))
        body = site.get(kind, object_name)
        assert set(conditions(body)) == four | more
        generation = body["metadata"]["generation"]
        assert all(item["observedGeneration"] == generation for item in body["status"]["conditions"])
        assert all(item["lastTransitionTime"].endswith("Z") for item in body["status"]["conditions"])
    assert conditions(site.get(ENDPOINT, name))["Healthy"] == ("Unknown", "NoRecentDeliveries")


@pytest.mark.parametrize(("state", "reason"), [("Disabled", "EndpointDisabled"), ("Paused", "Paused")])
def test_a_deliberate_stop_is_ready_and_not_active(site: Site, state: str, reason: str) -> None:
    name = site.name()
    site.apply(site.endpoint(name, state=state))
    site.expect(ENDPOINT, name, **READY, **PROGRAMMED, **SETTLED, Active=("False", reason))


def test_paused_deliveries_wait_and_go_on(site: Site) -> None:
    name = site.name()
    site.apply(site.endpoint(name, state="Paused"))
    site.ready(name)
    assert site.publish(name)["endpoints"] == 1
    site.eventually(lambda: site.status(ENDPOINT, name).get("activity", {}).get("pending") == 1, "pending 1 in status")
    assert site.receiver.received(f"/{name}") == []
    site.apply(site.endpoint(name, state="Enabled"))
    site.receiver.wait(f"/{name}", 1)
    site.expect(ENDPOINT, name, Active=("True", "Active"), Healthy=("True", "Succeeding"))


def test_a_disabled_endpoint_gets_nothing_and_cancels_what_waits(site: Site) -> None:
    name = site.name()
    failing(site, name)
    site.apply(site.endpoint(name, delivery={"retry": {"scheduleSeconds": [600]}}))
    site.ready(name)
    site.publish(name)
    site.receiver.wait(f"/{name}", 1)
    site.apply(site.endpoint(name, state="Disabled"))
    site.expect(ENDPOINT, name, Active=("False", "EndpointDisabled"))
    assert site.publish(name)["endpoints"] == 0
    site.eventually(lambda: [d["cancelReason"] for d in site.deliveries(name)] == ["EndpointDisabled"], "cancelled")


def test_success_and_failure_are_told_within_seconds(site: Site) -> None:
    good, bad = site.name("good"), site.name("bad")
    failing(site, bad)
    site.apply(*(site.endpoint(name, eventTypes=[f"{good}.*"]) for name in (good, bad)))
    site.ready(good, bad)
    site.publish(good)
    told = site.expect(ENDPOINT, good, seconds=20, Healthy=("True", "Succeeding"), Ready=("True", "Ready"))
    assert told["activity"]["succeeded"] == 1
    told = site.expect(ENDPOINT, bad, seconds=20, Healthy=("False", "Failing"), Ready=("True", "Ready"))
    assert told["activity"]["consecutiveFailures"] >= 1
    assert "lastSuccessTime" not in told["activity"]


def test_gone_holds_until_resume_and_the_request_is_echoed(site: Site) -> None:
    name = site.name()
    failing(site, name, status=410)
    site.apply(site.endpoint(name))
    site.ready(name)
    site.publish(name)
    site.expect(ENDPOINT, name, **READY, Active=("False", "Gone"))
    assert site.publish(name)["endpoints"] == 1, "new events are fanned out"
    assert len(site.receiver.received(f"/{name}")) == 1
    site.receiver.on(f"/{name}", 204)
    site.annotate(ENDPOINT, name, RESUME, "2026-01-01T00:00:00Z")
    site.receiver.wait(f"/{name}", 3)
    site.expect(ENDPOINT, name, seconds=20, Active=("True", "Active"), Healthy=("True", "Succeeding"))
    assert site.status(ENDPOINT, name)["lastHandledResumeAt"] == "2026-01-01T00:00:00Z"
    told = site.kubectl("get", "events", "--field-selector", f"involvedObject.name={name}", "-o", "name")
    assert len(told.split()) == 1


def test_a_reconcile_request_is_echoed(site: Site) -> None:
    name = site.name()
    site.apply(channel(name, name), event_type(name), site.endpoint(name))
    for kind in (CHANNEL, EVENT_TYPE, ENDPOINT):
        site.ready(name, kind=kind)
        site.annotate(kind, name, RECONCILE, "now")

    def echoed() -> bool:
        kinds = (CHANNEL, EVENT_TYPE, ENDPOINT)
        return all(site.status(kind, name).get("lastHandledReconcileAt") == "now" for kind in kinds)

    site.eventually(echoed, "the echo on every kind")


def test_a_disabled_channel_carries_nothing(site: Site) -> None:
    name = site.name()
    site.apply(channel(name, f"client_{name}", state="Disabled"))
    site.apply(site.endpoint(name, channelRefs=[{"name": name}]))
    site.expect(CHANNEL, name, **READY, **PROGRAMMED, Active=("False", "ChannelDisabled"))
    site.ready(name)
    assert site.publish(name, channels=[f"client_{name}"])["endpoints"] == 0
    site.apply(channel(name, f"client_{name}", state="Enabled"))
    site.expect(CHANNEL, name, Active=("True", "Active"))
    assert site.publish(name, channels=[f"client_{name}"])["endpoints"] == 1


def test_dangling_channels_narrow_and_heal(site: Site) -> None:
    name = site.name()
    site.apply(site.endpoint(name, channelRefs=[{"name": name}]))
    told = site.expect(
        ENDPOINT,
        name,
        Accepted=("True", "Accepted"),
        ResolvedRefs=("False", "ChannelNotFound"),
        Ready=("False", "ChannelNotFound"),
        Reconciling=("True", "ChannelNotFound"),
        Stalled=None,
    )
    assert told["scope"] == "Nothing"
    assert site.publish(name)["endpoints"] == 0
    assert site.publish(name, channels=["anything"])["endpoints"] == 0
    site.apply(channel(name, f"client_{name}"))
    told = site.expect(ENDPOINT, name, **READY, **SETTLED)
    assert told["scope"] == "SelectedChannels"
    assert site.publish(name, channels=[f"client_{name}"])["endpoints"] == 1


def test_the_oldest_of_two_wins_and_the_other_follows(site: Site) -> None:
    first, second = site.name("b"), site.name("a")
    site.apply(channel(first, first), event_type(first, first))
    time.sleep(1.1)  # creation times have whole seconds
    site.apply(channel(second, first), event_type(second, first))
    for kind, reason in ((CHANNEL, "DuplicateChannelName"), (EVENT_TYPE, "DuplicateEventType")):
        site.ready(first, kind=kind)
        site.expect(
            kind,
            second,
            Accepted=("False", reason),
            Ready=("False", reason),
            Stalled=("True", reason),
            Reconciling=None,
        )
        site.delete(kind, first)
        site.expect(kind, second, **READY, **SETTLED)


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        ({"url": "https://10.1.2.3/"}, "InvalidSpec"),
        ({"url": "https://169.254.169.254/latest"}, "InvalidSpec"),
        ({"filter": "event.nothing == 1"}, "FilterInvalid"),
        ({"filter": "1 + 1"}, "FilterInvalid"),
    ],
)
def test_an_invalid_endpoint_is_stalled_and_gets_nothing(site: Site, spec: dict[str, Any], reason: str) -> None:
    name = site.name()
    site.apply(site.endpoint(name, **spec))
    site.expect(
        ENDPOINT,
        name,
        Accepted=("False", reason),
        Ready=("False", reason),
        Stalled=("True", reason),
        Reconciling=None,
        Active=("False", reason),
    )
    assert site.publish(name)["endpoints"] == 0


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        ({"schema": {"type": "nonsense"}}, "SchemaInvalid"),
        ({"schema": {"$ref": "https://127.0.0.1/x.json"}}, "SchemaInvalid"),
        ({"schema": {"required": ["a"]}, "sample": {"b": 1}}, "SampleInvalid"),
    ],
)
def test_an_invalid_event_type_is_stalled(site: Site, spec: dict[str, Any], reason: str) -> None:
    name = site.name()
    site.apply(event_type(name, **spec))
    site.expect(EVENT_TYPE, name, Accepted=("False", reason), Ready=("False", reason), Stalled=("True", reason))


def test_what_waits_for_a_type_is_delivered_and_says_so(site: Site) -> None:
    name = site.name()
    site.apply(site.endpoint(name, eventTypes=[f"{name}.made", f"{name}.*"]))
    site.expect(
        ENDPOINT,
        name,
        ResolvedRefs=("False", "EventTypeNotFound"),
        Ready=("False", "EventTypeNotFound"),
        Reconciling=("True", "EventTypeNotFound"),
        Active=("True", "Active"),
        **PROGRAMMED,
    )
    assert site.publish(name)["endpoints"] == 1
    site.apply(event_type(name))
    site.expect(ENDPOINT, name, **READY, **SETTLED)


def test_secrets_are_refused_and_heal(site: Site) -> None:
    name, key = site.name(), new_key()
    wrong: dict[str, dict[str, Any] | None] = {
        "SecretNotFound": None,
        "SecretNotPermitted": {"labels": {}, "key": key},
        "SecretKeyMissing": {"other": key},
        "SecretInvalid": {"key": "whsec_c2hvcnQ="},
    }
    names = {reason: f"{name}-{reason.lower()}" for reason in wrong}
    for reason, body in wrong.items():
        if body is not None:
            site.apply(secret(names[reason], **body))
        site.apply(site.endpoint(names[reason], signing=keyed(("main", names[reason]))))
    for reason in wrong:
        site.expect(
            ENDPOINT,
            names[reason],
            Accepted=("True", "Accepted"),
            ResolvedRefs=("False", reason),
            Ready=("False", reason),
            Reconciling=("True", reason),
            Stalled=None,
            Active=("False", reason),
        )
    for reason in wrong:
        site.apply(secret(names[reason], key=f"{key}\n"))
    for reason in wrong:
        told = site.expect(ENDPOINT, names[reason], **READY, **SETTLED, Active=("True", "Active"))
        assert told["signing"] == {"activeKeyIDs": ["main"]}


def test_a_replay_of_an_endpoint_that_is_not_there(site: Site) -> None:
    name = site.name()
    site.apply(replay(name, "nobody"))
    site.expect(
        REPLAY,
        name,
        Failed=("True", "EndpointNotFound"),
        ResolvedRefs=("False", "EndpointNotFound"),
        Active=None,
        Programmed=None,
        Healthy=None,
        Complete=None,
    )


def test_a_retry_after_is_over_by_itself(site: Site, throttled: str) -> None:
    first, second = site.receiver.wait(f"/{throttled}", 2)
    assert second.at - first.at >= 3
    site.expect(ENDPOINT, throttled, Active=("True", "Active"), Healthy=("True", "Succeeding"))


def test_an_open_circuit_is_not_active(site: Site, broken_circuit: str) -> None:
    site.expect(ENDPOINT, broken_circuit, seconds=60, Active=("False", "CircuitOpen"), Ready=("True", "Ready"))
    site.receiver.on(f"/{broken_circuit}", 204)
    site.annotate(ENDPOINT, broken_circuit, RESUME, "circuit")
    site.expect(ENDPOINT, broken_circuit, seconds=20, Active=("True", "Active"), Healthy=("True", "Succeeding"))
    assert site.status(ENDPOINT, broken_circuit)["lastHandledResumeAt"] == "circuit"


def test_a_disabled_environment_refuses_events_and_holds(site: Site) -> None:
    name = site.name()
    failing(site, name)
    site.apply(channel(name, name), event_type(name), site.endpoint(name))
    site.ready(name)
    site.publish(name)
    site.receiver.wait(f"/{name}", 1)
    try:
        site.apply(environment("Disabled"))
        for kind, object_name in ((ENVIRONMENT, "default"), (CHANNEL, name), (EVENT_TYPE, name)):
            site.expect(
                kind, object_name, seconds=25, **READY, **PROGRAMMED, **SETTLED, Active=("False", "EnvironmentDisabled")
            )
        site.publish(name, status=403)
        assert [item["status"] for item in site.deliveries(name)] == ["Pending"]
        site.expect(ENDPOINT, name, seconds=25, **READY, **SETTLED, Active=("False", "EnvironmentDisabled"))
    finally:
        site.receiver.on(f"/{name}", 204)
        site.apply(environment())
    site.expect(ENDPOINT, name, seconds=25, Active=("True", "Active"), Healthy=("True", "Succeeding"))


def test_without_an_environment_everything_waits_for_it(site: Site) -> None:
    name = site.name()
    site.apply(channel(name, name), event_type(name), site.endpoint(name))
    site.ready(name)
    try:
        site.delete(ENVIRONMENT, "default")
        for kind in (CHANNEL, EVENT_TYPE, ENDPOINT):
            site.expect(
                kind,
                name,
                seconds=25,
                Accepted=("False", "EnvironmentMissing"),
                Active=("False", "EnvironmentMissing"),
                Ready=("False", "EnvironmentMissing"),
                Reconciling=("True", "EnvironmentMissing"),
                Stalled=None,
            )
        site.publish(name, status=403)
    finally:
        site.apply(environment())
    for kind in (CHANNEL, EVENT_TYPE, ENDPOINT):
        site.expect(kind, name, seconds=25, **READY, **PROGRAMMED, **SETTLED, Active=("True", "Active"))
    assert site.publish(name)["endpoints"] == 1


def test_an_invalid_environment_keeps_its_last_valid_form(site: Site) -> None:
    name = site.name()
    site.apply(site.endpoint(name))
    site.ready(name)
    try:
        bad = {"plaintextHTTP": "Allow", "privateNetworks": "Allow", "allowedCIDRs": ["8.8.8.0/24"]}
        site.apply(environment(egress=bad))
        site.expect(
            ENVIRONMENT,
            "default",
            Accepted=("False", "InvalidSpec"),
            Ready=("False", "InvalidSpec"),
            Stalled=("True", "InvalidSpec"),
        )
        assert site.publish(name)["endpoints"] == 1
        site.receiver.wait(f"/{name}", 1)
    finally:
        site.apply(environment())
    site.expect(ENVIRONMENT, "default", seconds=25, **READY, **SETTLED)
