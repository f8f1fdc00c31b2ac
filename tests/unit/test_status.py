"""The status of each kind: its conditions, its shape, its bounds."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import jsonschema_rs
import msgspec
import pytest

from hookstead.config.event_patterns import covers
from hookstead.config.model import (
    ChannelConfig,
    DeliveryConfig,
    EndpointConfig,
    EnvironmentConfig,
    EventTypeConfig,
    Finding,
    Identity,
    ReplayConfig,
    Scope,
    SigningKey,
    StatusReporting,
    Verdict,
)
from hookstead.config.report import (
    EndpointActivity,
    EndpointReport,
    EnvironmentActivity,
    NamedActivity,
    RecentDelivery,
    ReplayReport,
)
from hookstead.config.status import (
    PROGRAMMED,
    STATUS_LIMIT,
    ConfigSize,
    EndpointCounts,
    Gateways,
    channel_status,
    endpoint_status,
    endpoints_by_channel,
    endpoints_by_event_type,
    environment_status,
    event_type_status,
    gateway_unavailable,
    next_key_expiry_ms,
    pending,
    replay_status,
)
from hookstead.config.verdicts import ACCEPTED, GOOD, RESOLVED
from hookstead.resources.conditions import Reason
from hookstead.resources.definitions import definitions
from hookstead.resources.kinds import ChannelState, DeliveryLog, EndpointState, EnvironmentState, Kind
from hookstead.resources.secret import Secret

NOW = datetime(2026, 1, 31, 12, 0, tzinfo=UTC)
WHEN = "2026-01-31T11:59:00.000Z"
ENABLED = EnvironmentConfig(identity=Identity(name="default", uid="e"), verdict=GOOD, state=EnvironmentState.ENABLED)
DISABLED = msgspec.structs.replace(ENABLED, state=EnvironmentState.DISABLED)
PLAIN = EndpointConfig(identity=Identity(name="a", uid="u", generation=3), verdict=GOOD, host="receiver.example.com")
LINE = RecentDelivery(
    id="dlv_1",
    event_type="order.created",
    time=WHEN,
    attempt=1,
    outcome="Succeeded",
    status_code=204,
    duration_milliseconds=7,
)
FAILED_LINE = msgspec.structs.replace(LINE, id="dlv_2", outcome="Failed", status_code=500, message="HTTP 500")


def refused(reason: Reason) -> Verdict:
    return Verdict(accepted=Finding(reason=reason, message="Edit it."), resolved=RESOLVED)


def unresolved(reason: Reason) -> Verdict:
    return Verdict(accepted=ACCEPTED, resolved=Finding(reason=reason, message="Create it."))


def endpoint_of(**changes: Any) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "environment": ENABLED,
        "report": None,
        "programmed": PROGRAMMED,
        "previous": {},
        "now": NOW,
    }
    fields |= {key: changes.pop(key) for key in list(changes) if key in fields}
    return endpoint_status(msgspec.structs.replace(PLAIN, **changes), **fields)


def said(status: dict[str, Any]) -> dict[str, tuple[str, str]]:
    return {item["type"]: (item["status"], item["reason"]) for item in status["conditions"]}


def report(**fields: Any) -> EndpointReport:
    return EndpointReport(name="a", uid="u", **fields)


# What is Active, and why not.


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({}, "Active"),
        ({"environment": None}, "EnvironmentMissing"),
        ({"environment": DISABLED}, "EnvironmentDisabled"),
        ({"environment": DISABLED, "state": EndpointState.DISABLED}, "EnvironmentDisabled"),
        ({"state": EndpointState.DISABLED}, "EndpointDisabled"),
        ({"state": EndpointState.DISABLED, "report": report(held=Reason.GONE)}, "EndpointDisabled"),
        ({"state": EndpointState.PAUSED}, "Paused"),
        ({"state": EndpointState.PAUSED, "report": report(held=Reason.CIRCUIT_OPEN)}, "Paused"),
        ({"report": report(held=Reason.THROTTLED)}, "Throttled"),
        ({"report": report(held=Reason.CIRCUIT_OPEN)}, "CircuitOpen"),
        ({"report": report(held=Reason.SUSPENDED)}, "Suspended"),
        ({"report": report(held=Reason.GONE)}, "Gone"),
        ({"verdict": refused(Reason.INVALID_SPEC), "hold": Reason.INVALID_SPEC}, "InvalidSpec"),
        ({"verdict": unresolved(Reason.SECRET_NOT_FOUND), "hold": Reason.SECRET_NOT_FOUND}, "SecretNotFound"),
        ({"verdict": unresolved(Reason.CHANNEL_NOT_FOUND), "scope": Scope.NOTHING}, "Active"),
    ],
)
def test_active_says_what_holds_deliveries_back(changes: dict[str, Any], reason: str) -> None:
    conditions = said(endpoint_of(**changes))
    assert conditions["Active"] == ("True" if reason == "Active" else "False", reason)


@pytest.mark.parametrize("reason", [Reason.THROTTLED, Reason.CIRCUIT_OPEN, Reason.SUSPENDED, Reason.GONE])
def test_ready_never_depends_on_the_receiver(reason: Reason) -> None:
    activity = EndpointActivity(consecutive_failures=9, last_attempt_time=WHEN, last_failure_time=WHEN)
    conditions = said(endpoint_of(report=report(held=reason, activity=activity)))
    assert conditions["Ready"] == ("True", "Ready")
    assert conditions["Healthy"] == ("False", "Failing")


@pytest.mark.parametrize("state", [EndpointState.DISABLED, EndpointState.PAUSED])
def test_ready_is_true_when_stopped_on_purpose(state: EndpointState) -> None:
    assert said(endpoint_of(state=state))["Ready"] == ("True", "Ready")


# Progress.


@pytest.mark.parametrize("reason", [Reason.INVALID_SPEC, Reason.FILTER_INVALID])
def test_what_an_edit_must_mend_is_stalled_and_not_reconciling(reason: Reason) -> None:
    conditions = said(endpoint_of(verdict=refused(reason), hold=reason))
    assert conditions["Stalled"] == ("True", reason.value)
    assert "Reconciling" not in conditions
    assert conditions["Ready"] == ("False", reason.value)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"verdict": unresolved(Reason.SECRET_NOT_FOUND)}, "SecretNotFound"),
        ({"verdict": unresolved(Reason.CHANNEL_NOT_FOUND)}, "ChannelNotFound"),
        ({"verdict": refused(Reason.ENVIRONMENT_MISSING), "environment": None}, "EnvironmentMissing"),
        ({"programmed": pending("later")}, "Pending"),
        ({"programmed": gateway_unavailable("gone")}, "GatewayUnavailable"),
    ],
)
def test_what_waits_is_reconciling_and_not_stalled(changes: dict[str, Any], reason: str) -> None:
    conditions = said(endpoint_of(**changes))
    assert conditions["Reconciling"] == ("True", reason)
    assert conditions["Ready"] == ("False", reason)
    assert "Stalled" not in conditions


def test_neither_progress_condition_is_there_when_all_is_well() -> None:
    assert set(said(endpoint_of())) == {"Ready", "Accepted", "ResolvedRefs", "Programmed", "Active", "Healthy"}


# Health.


@pytest.mark.parametrize(
    ("activity", "expected"),
    [
        (EndpointActivity(pending=3), ("Unknown", "NoRecentDeliveries")),
        (EndpointActivity(last_attempt_time=WHEN, last_success_time=WHEN), ("True", "Succeeding")),
        (
            EndpointActivity(last_attempt_time=WHEN, last_failure_time=WHEN, consecutive_failures=1),
            ("False", "Failing"),
        ),
        (
            EndpointActivity(
                last_attempt_time=WHEN, last_success_time=WHEN, last_failure_time=WHEN, consecutive_failures=2
            ),
            ("False", "Failing"),
        ),
        (EndpointActivity(last_attempt_time=WHEN, last_failure_time=WHEN), ("False", "Failing")),
    ],
)
def test_healthy_is_what_the_last_attempts_say(activity: EndpointActivity, expected: tuple[str, str]) -> None:
    assert said(endpoint_of(report=report(activity=activity)))["Healthy"] == expected


# Time and generation.


def test_every_condition_and_the_status_name_the_generation() -> None:
    status = endpoint_of()
    assert status["observedGeneration"] == 3
    assert {item["observedGeneration"] for item in status["conditions"]} == {3}


def test_a_transition_time_changes_only_when_the_status_of_its_condition_flips() -> None:
    first = endpoint_of()
    later = NOW + timedelta(hours=1)
    second = endpoint_of(previous=first, now=later, programmed=pending("later"))
    times = {item["type"]: item["lastTransitionTime"] for item in second["conditions"]}
    assert times["Accepted"] == "2026-01-31T12:00:00Z"
    assert times["Programmed"] == times["Ready"] == times["Reconciling"] == "2026-01-31T13:00:00Z"


def test_equal_inputs_give_an_equal_status() -> None:
    first = endpoint_of()
    assert endpoint_of(previous=first, now=NOW + timedelta(days=1)) == first


def test_conditions_that_somebody_spoilt_are_replaced() -> None:
    status = endpoint_of(previous={"conditions": [{"type": "Nonsense"}, "x", {"type": "Ready", "status": 7}]})
    assert said(status)["Ready"] == ("True", "Ready")


# Activity and recent deliveries.


def test_without_a_report_what_was_known_of_activity_stays() -> None:
    activity = EndpointActivity(succeeded=4, last_attempt_time=WHEN, last_success_time=WHEN)
    first = endpoint_of(
        report=report(activity=activity, recent_deliveries=(LINE,), held=Reason.SUSPENDED, handled_resume_at="x")
    )
    second = endpoint_of(previous=first, now=NOW + timedelta(minutes=5))
    assert second == first
    assert said(second)["Active"] == ("False", "Suspended")


@pytest.mark.parametrize(
    ("log", "limit", "ids"),
    [
        (DeliveryLog.ALL, 10, ["dlv_1", "dlv_2", "dlv_1"]),
        (DeliveryLog.ALL, 2, ["dlv_1", "dlv_2"]),
        (DeliveryLog.ALL, 0, None),
        (DeliveryLog.FAILURES_ONLY, 10, ["dlv_2"]),
        (DeliveryLog.NONE, 10, None),
    ],
)
def test_the_delivery_log_shows_what_the_environment_asks_for(
    log: DeliveryLog, limit: int, ids: list[str] | None
) -> None:
    reporting = StatusReporting(delivery_log=log, delivery_log_limit=limit)
    environment = msgspec.structs.replace(ENABLED, status_reporting=reporting)
    told = report(recent_deliveries=(LINE, FAILED_LINE, LINE))
    status = endpoint_of(environment=environment, report=told)
    shown = status.get("recentDeliveries")
    assert (shown and [item["id"] for item in shown]) == ids
    carried = endpoint_of(environment=environment, previous=status)
    assert carried.get("recentDeliveries") == shown


def test_a_status_is_never_larger_than_its_limit() -> None:
    lines = tuple(msgspec.structs.replace(FAILED_LINE, message="€" * 300) for _ in range(20))
    verdict = Verdict(
        accepted=Finding(reason=Reason.INVALID_SPEC, message="ü" * 5000),
        resolved=Finding(reason=Reason.SECRET_INVALID, message="ü" * 5000),
    )
    reporting = StatusReporting(delivery_log_limit=20)
    status = endpoint_of(
        environment=msgspec.structs.replace(ENABLED, status_reporting=reporting),
        verdict=verdict,
        hold=Reason.INVALID_SPEC,
        host="h" * 2000,
        report=report(recent_deliveries=lines),
    )
    assert len(json.dumps(status, ensure_ascii=False).encode()) <= STATUS_LIMIT
    assert status["recentDeliveries"]
    assert all(len(item["message"]) <= 256 for item in status["recentDeliveries"])


# Signing.


def key(name: str, *, until: datetime | None = None) -> SigningKey:
    return SigningKey(
        id=name, material=Secret(b"whsec_x"), not_after_ms=None if until is None else int(until.timestamp() * 1000)
    )


def test_signing_lists_the_keys_that_sign_now_and_the_next_expiry() -> None:
    hour = timedelta(hours=1)
    keys = (key("new"), key("old", until=NOW + hour), key("older", until=NOW + 2 * hour), key("dead", until=NOW))
    assert endpoint_of(keys=keys)["signing"] == {
        "activeKeyIDs": ["new", "old", "older"],
        "nextExpiryTime": "2026-01-31T13:00:00.000Z",
    }
    config = DeliveryConfig(namespace="n", endpoints=(msgspec.structs.replace(PLAIN, keys=keys),))
    now_ms = int(NOW.timestamp() * 1000)
    assert next_key_expiry_ms(config, now_ms=now_ms) == now_ms + 3_600_000
    assert "whsec" not in str(endpoint_of(keys=keys))


# The other kinds.


def test_an_environment_counts_and_shows_what_runs() -> None:
    status = environment_status(
        ENABLED,
        endpoints=EndpointCounts(total=3, ready=2, active=1, failing=1),
        channels=2,
        event_types=5,
        gateways=Gateways(replicas=2, programmed_replicas=1, version="1.0"),
        config=ConfigSize(hash="sha256:ab", bytes=10),
        activity=EnvironmentActivity(accepted=4),
        programmed=pending("one is behind"),
        previous={},
        now=NOW,
        handled_reconcile="x",
    )
    assert status["endpoints"] == {"total": 3, "ready": 2, "active": 1, "failing": 1}
    assert status["gateway"] == {"replicas": 2, "programmedReplicas": 1, "version": "1.0"}
    assert status["config"] == {"hash": "sha256:ab", "sizeBytes": 10}
    assert status["lastHandledReconcileAt"] == "x"
    assert said(status)["Ready"] == ("False", "Pending")
    assert said(status)["Active"] == ("True", "Active")


@pytest.mark.parametrize(
    ("changes", "environment", "active"),
    [
        ({}, ENABLED, ("True", "Active")),
        ({"state": ChannelState.DISABLED}, ENABLED, ("False", "ChannelDisabled")),
        ({"state": ChannelState.DISABLED}, DISABLED, ("False", "EnvironmentDisabled")),
        ({"verdict": refused(Reason.ENVIRONMENT_MISSING)}, None, ("False", "EnvironmentMissing")),
        ({"verdict": refused(Reason.DUPLICATE_CHANNEL_NAME)}, ENABLED, ("False", "DuplicateChannelName")),
    ],
)
def test_a_channel_is_active_when_events_may_pass_through_it(
    changes: dict[str, Any], environment: EnvironmentConfig | None, active: tuple[str, str]
) -> None:
    channel = ChannelConfig(identity=Identity(name="c", generation=1), verdict=GOOD, channel_name="client_c")
    status = channel_status(
        msgspec.structs.replace(channel, **changes),
        environment=environment,
        activity=NamedActivity(name="client_c", accepted=2, last_event_time=WHEN),
        endpoints=1,
        programmed=PROGRAMMED,
        previous={},
        now=NOW,
    )
    assert said(status)["Active"] == active
    assert status["endpoints"] == 1
    assert status["activity"] == {"accepted": 2, "lastEventTime": WHEN}


def replay_of(phase: Reason | None, *, verdict: Verdict = GOOD, previous: Any = None, **fields: Any) -> dict[str, Any]:
    replay = ReplayConfig(identity=Identity(name="r", uid="ru", generation=1), verdict=verdict, endpoint="a")
    told = None if phase is None else ReplayReport(name="r", uid="ru", phase=phase, **fields)
    return replay_status(
        replay, environment=ENABLED, report=told, programmed=PROGRAMMED, previous=previous or {}, now=NOW
    )


@pytest.mark.parametrize(
    ("phase", "expected"),
    [
        (None, {"Ready": ("False", "Running"), "Reconciling": ("True", "Running")}),
        (Reason.RUNNING, {"Ready": ("False", "Running"), "Reconciling": ("True", "Running")}),
        (Reason.COMPLETED, {"Ready": ("True", "Completed"), "Complete": ("True", "Completed")}),
        (Reason.NOTHING_SELECTED, {"Ready": ("True", "Completed"), "Complete": ("True", "NothingSelected")}),
        (
            Reason.ENDPOINT_DISABLED,
            {
                "Ready": ("False", "EndpointDisabled"),
                "Failed": ("True", "EndpointDisabled"),
                "Stalled": ("True", "EndpointDisabled"),
            },
        ),
    ],
)
def test_a_replay_says_how_far_it_is_and_how_it_ended(
    phase: Reason | None, expected: dict[str, tuple[str, str]]
) -> None:
    conditions = said(replay_of(phase))
    assert {key: value for key, value in conditions.items() if key not in ("Accepted", "ResolvedRefs")} == expected


def test_a_replay_that_has_ended_stays_as_it_ended() -> None:
    ended = replay_of(Reason.COMPLETED, selected=2, delivered=2)
    gone = unresolved(Reason.ENDPOINT_NOT_FOUND)
    assert replay_of(None, previous=ended, verdict=gone) == ended
    assert replay_of(Reason.RUNNING, previous=ended) == ended


# Counting.


def test_endpoints_are_counted_by_what_they_select() -> None:
    config = DeliveryConfig(
        namespace="n",
        endpoints=(
            PLAIN,
            msgspec.structs.replace(PLAIN, channels=("x", "y"), event_types=("a.b", "a.*")),
            msgspec.structs.replace(PLAIN, channels=("x",), event_types=("other",)),
            msgspec.structs.replace(PLAIN, channels=("x",), verdict=refused(Reason.INVALID_SPEC)),
        ),
        event_types=(
            EventTypeConfig(identity=Identity(name="1"), verdict=GOOD, type="a.b"),
            EventTypeConfig(identity=Identity(name="2"), verdict=GOOD, type="a"),
            EventTypeConfig(identity=Identity(name="3"), verdict=refused(Reason.DUPLICATE_EVENT_TYPE), type="a"),
        ),
    )
    assert dict(endpoints_by_channel(config)) == {"x": 2, "y": 1}
    assert dict(endpoints_by_event_type(config)) == {"a.b": 2, "a": 1}


@pytest.mark.parametrize(
    ("pattern", "event_type", "expected"),
    [("a.*", "a.b", True), ("a.*", "a.b.c", True), ("a.*", "a", False), ("a.*", "ab", False), ("a.b", "a.b", True)],
)
def test_a_prefix_covers_what_begins_with_it(pattern: str, event_type: str, expected: bool) -> None:
    assert covers((pattern,), event_type) is expected


# Shape: what is built here is exactly what the CRDs let through.


def closed(schema: Any) -> Any:
    """The schema with unknown fields refused, as the API server prunes them."""
    if not isinstance(schema, dict):
        return schema
    made = {key: closed(value) for key, value in schema.items() if not key.startswith("x-")}
    if "properties" in made:
        made["properties"] = {key: closed(value) for key, value in schema["properties"].items()}
        made["additionalProperties"] = False
    return made


def check(kind: Kind, status: dict[str, Any]) -> None:
    schema = closed(definitions()[kind].schema["properties"]["status"])
    validator = jsonschema_rs.Draft202012Validator(schema, validate_formats=True)
    problems = [
        f"{'/'.join(map(str, error.instance_path))}: {error.message}" for error in validator.iter_errors(status)
    ]
    assert problems == []


def test_every_built_status_fits_the_schema_of_its_kind() -> None:
    activity = EndpointActivity(
        succeeded=1,
        failed=1,
        pending=1,
        dead_lettered=1,
        consecutive_failures=1,
        last_attempt_time=WHEN,
        last_success_time=WHEN,
        last_failure_time=WHEN,
    )
    told = report(activity=activity, recent_deliveries=(LINE, FAILED_LINE), handled_resume_at="x" * 500)
    check(
        Kind.ENDPOINT,
        endpoint_of(report=told, keys=(key("k", until=NOW + timedelta(1)),), reconcile_requested_at="y" * 500),
    )
    check(Kind.ENDPOINT, endpoint_of(verdict=refused(Reason.INVALID_SPEC)))
    named = NamedActivity(name="x", accepted=1, rejected=1, last_event_time=WHEN)
    common: dict[str, Any] = {"environment": ENABLED, "programmed": PROGRAMMED, "previous": {}, "now": NOW}
    identity = Identity(name="x", uid="u", generation=1)
    check(
        Kind.CHANNEL,
        channel_status(ChannelConfig(identity=identity, verdict=GOOD), activity=named, endpoints=1, **common),
    )
    check(
        Kind.EVENT_TYPE,
        event_type_status(
            EventTypeConfig(identity=identity, verdict=GOOD, schema_digest="sha256:ab"),
            activity=named,
            endpoints=1,
            handled_reconcile="z",
            **common,
        ),
    )
    check(Kind.REPLAY, replay_of(Reason.COMPLETED, selected=1, start_time=WHEN, completion_time=WHEN))
    del common["environment"]
    check(
        Kind.ENVIRONMENT,
        environment_status(
            ENABLED,
            endpoints=EndpointCounts(total=1),
            channels=1,
            event_types=1,
            gateways=Gateways(replicas=1, programmed_replicas=1, version="1"),
            config=ConfigSize(hash="sha256:ab", bytes=1),
            activity=EnvironmentActivity(accepted=1, last_event_time=WHEN),
            **common,
        ),
    )
