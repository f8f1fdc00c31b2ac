from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import msgspec
import pytest

from hookstead.resources.conditions import (
    MESSAGE_LIMIT,
    STALLED_REASONS,
    Condition,
    ConditionStatus,
    ConditionType,
    Reason,
    merge,
    ready_summary,
    timestamp,
)

T0 = datetime(2026, 1, 1, tzinfo=UTC)
T1 = T0 + timedelta(minutes=5)
GENERATION = 3


def condition(
    kind: ConditionType,
    status: ConditionStatus = ConditionStatus.TRUE,
    reason: Reason = Reason.ACCEPTED,
    message: str = "",
) -> Condition:
    return Condition(type=kind, status=status, reason=reason, message=message, observed_generation=GENERATION)


ACCEPTED = condition(ConditionType.ACCEPTED)
RESOLVED = condition(ConditionType.RESOLVED_REFS, reason=Reason.RESOLVED_REFS)
PROGRAMMED = condition(ConditionType.PROGRAMMED, reason=Reason.PROGRAMMED)


def test_a_new_condition_changed_now() -> None:
    (merged,) = merge([], [ACCEPTED], now=T0)
    assert merged.last_transition_time == "2026-01-01T00:00:00Z"


def test_the_time_stays_while_only_reason_message_and_generation_change() -> None:
    before = merge([], [condition(ConditionType.ACCEPTED, ConditionStatus.FALSE, Reason.INVALID_SPEC, "a")], now=T0)
    wanted = condition(ConditionType.ACCEPTED, ConditionStatus.FALSE, Reason.FILTER_INVALID, "b")
    (merged,) = merge(before, [wanted], now=T1)
    assert merged == msgspec.structs.replace(wanted, last_transition_time="2026-01-01T00:00:00Z")


def test_the_time_moves_when_the_status_flips() -> None:
    before = merge([], [ACCEPTED], now=T0)
    (merged,) = merge(before, [condition(ConditionType.ACCEPTED, ConditionStatus.UNKNOWN)], now=T1)
    assert merged.last_transition_time == "2026-01-01T00:05:00Z"


def test_what_is_not_desired_is_dropped() -> None:
    before = merge([], [ACCEPTED, condition(ConditionType.RECONCILING)], now=T0)
    assert [item.type for item in merge(before, [ACCEPTED], now=T1)] == [ConditionType.ACCEPTED]


def test_long_messages_are_cut_to_what_the_definitions_allow() -> None:
    (merged,) = merge([], [condition(ConditionType.ACCEPTED, message="x" * 5000)], now=T0)
    assert len(merged.message) == MESSAGE_LIMIT
    assert merged.message.endswith("x…")


def test_the_serial_form_is_the_apis() -> None:
    (merged,) = merge([], [ACCEPTED], now=T0)
    assert msgspec.to_builtins(merged) == {
        "type": "Accepted",
        "status": "True",
        "reason": "Accepted",
        "message": "",
        "observedGeneration": 3,
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    }
    assert msgspec.convert(msgspec.to_builtins(merged), Condition) == merged


def test_times_are_utc_and_naive_ones_are_refused() -> None:
    assert timestamp(datetime(2026, 1, 1, 2, tzinfo=timezone(timedelta(hours=2)))) == "2026-01-01T00:00:00Z"
    with pytest.raises(ValueError, match="time zone"):
        timestamp(datetime(2026, 1, 1))  # noqa: DTZ001  (the case itself)


def test_ready_is_true_alone_when_all_three_hold() -> None:
    (ready,) = ready_summary([ACCEPTED, RESOLVED, PROGRAMMED], observed_generation=GENERATION)
    assert (ready.type, ready.status, ready.reason) == (ConditionType.READY, ConditionStatus.TRUE, Reason.READY)
    assert ready.observed_generation == GENERATION


def test_a_kind_without_references_is_ready_without_them() -> None:
    (ready,) = ready_summary([ACCEPTED, PROGRAMMED], observed_generation=GENERATION)
    assert ready.status is ConditionStatus.TRUE


def test_health_and_activity_never_count() -> None:
    sick = [
        condition(ConditionType.HEALTHY, ConditionStatus.FALSE, Reason.FAILING),
        condition(ConditionType.ACTIVE, ConditionStatus.FALSE, Reason.ENDPOINT_DISABLED),
    ]
    (ready,) = ready_summary([ACCEPTED, RESOLVED, PROGRAMMED, *sick], observed_generation=GENERATION)
    assert ready.status is ConditionStatus.TRUE


def test_the_first_failing_condition_gives_reason_and_message() -> None:
    verdicts = [
        condition(ConditionType.PROGRAMMED, ConditionStatus.FALSE, Reason.PENDING, "later"),
        condition(ConditionType.RESOLVED_REFS, ConditionStatus.FALSE, Reason.SECRET_NOT_FOUND, "first"),
        ACCEPTED,
    ]
    ready, progress = ready_summary(verdicts, observed_generation=GENERATION)
    assert (ready.status, ready.reason, ready.message) == (ConditionStatus.FALSE, Reason.SECRET_NOT_FOUND, "first")
    assert (progress.type, progress.status) == (ConditionType.RECONCILING, ConditionStatus.TRUE)
    assert (progress.reason, progress.message) == (Reason.SECRET_NOT_FOUND, "first")


def test_a_programmed_that_nobody_knows_is_not_ready() -> None:
    unknown = condition(ConditionType.PROGRAMMED, ConditionStatus.UNKNOWN, Reason.GATEWAY_UNAVAILABLE)
    ready, progress = ready_summary([ACCEPTED, unknown], observed_generation=GENERATION)
    assert ready.status is ConditionStatus.FALSE
    assert progress.type is ConditionType.RECONCILING


@pytest.mark.parametrize("reason", [reason for reason in Reason if reason is not Reason.READY])
def test_stalled_is_for_what_only_an_edit_heals(reason: Reason) -> None:
    verdict = condition(ConditionType.ACCEPTED, ConditionStatus.FALSE, reason)
    _, progress = ready_summary([verdict], observed_generation=GENERATION)
    assert (progress.type is ConditionType.STALLED) == (reason in STALLED_REASONS)


def test_the_stalled_reasons_are_the_contracts() -> None:
    assert {reason.value for reason in STALLED_REASONS} == {
        "InvalidSpec",
        "SchemaInvalid",
        "SampleInvalid",
        "FilterInvalid",
        "DuplicateChannelName",
        "DuplicateEventType",
    }
