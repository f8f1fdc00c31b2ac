"""What an answer means."""

from __future__ import annotations

import pytest

from hookstead.delivery.attempt import judge, settle
from hookstead.delivery.ports import (
    DeliveryStatus,
    EndpointKey,
    ErrorCode,
    Job,
    SendResult,
    Settlement,
    Trigger,
)
from hookstead.resources.kinds import PayloadFormat

NOW = 1_800_000_000_000
HOUR = 3_600_000


@pytest.mark.parametrize("status", [200, 204, 301, 302, 400, 404, 408, 410, 425, 429, 500, 502, 503, 504, 599])
def test_a_retry_after_counts_beside_429_and_503_and_nothing_else(status: int) -> None:
    outcome = judge(SendResult(status_code=status, retry_after="3600"), now_ms=NOW)
    assert outcome.retry_after_ms == (HOUR if status in (429, 503) else None)


@pytest.mark.parametrize("error", list(ErrorCode))
def test_a_retry_after_of_an_answer_that_broke_off_counts_for_nothing(error: ErrorCode) -> None:
    outcome = judge(SendResult(status_code=503, error=error, retry_after="3600"), now_ms=NOW)
    assert outcome.retry_after_ms is None


@pytest.mark.parametrize("status", [199, 200, 201, 204, 226, 299, 300, 304, 400, 410, 500])
def test_2xx_alone_is_success_and_410_alone_is_gone(status: int) -> None:
    outcome = judge(SendResult(status_code=status), now_ms=NOW)
    assert outcome.succeeded is (200 <= status <= 299)
    assert outcome.error is (None if outcome.succeeded else ErrorCode.HTTP_STATUS)
    assert outcome.gone is (status == 410)
    assert not outcome.hopeless


@pytest.mark.parametrize("error", list(ErrorCode))
def test_a_2xx_that_did_not_end_well_is_a_failure_and_a_denied_address_a_hopeless_one(error: ErrorCode) -> None:
    outcome = judge(SendResult(status_code=200, error=error), now_ms=NOW)
    assert (outcome.succeeded, outcome.error, outcome.status_code) == (False, error, 200)
    assert outcome.hopeless is (error is ErrorCode.ADDRESS_DENIED)


def job(*, trigger: Trigger = Trigger.SCHEDULED, position: int = 0, due: int | None = NOW) -> Job:
    return Job(
        delivery_id="dlv_1",
        endpoint=EndpointKey("e", "uid"),
        event_id="msg_1",
        event_type="t",
        timestamp=b'"2027-01-15T08:00:00Z"',
        data=b"{}",
        payload_format=PayloadFormat.STANDARD_WEBHOOKS,
        trigger=trigger,
        status=DeliveryStatus.PENDING,
        attempt_count=position,
        schedule_position=position,
        due_ms=due,
    )


@pytest.mark.parametrize(
    "result", [SendResult(status_code=500), SendResult(status_code=410), SendResult(status_code=429)]
)
def test_a_failure_by_hand_leaves_the_next_attempt_and_the_rest_of_the_schedule_as_they_were(
    result: SendResult,
) -> None:
    by_hand = job(trigger=Trigger.MANUAL, position=1, due=NOW + HOUR)
    found = settle(by_hand, judge(result, now_ms=NOW), schedule_seconds=(1, 2), now_ms=NOW, jitter=0.0)
    assert found == Settlement(status=DeliveryStatus.PENDING, next_attempt_ms=NOW + HOUR, schedule_position=1)


@pytest.mark.parametrize(("position", "status"), [(0, "Pending"), (1, "Pending"), (2, "DeadLettered")])
def test_a_scheduled_failure_uses_up_one_attempt_and_the_last_one_is_dead_lettered(position: int, status: str) -> None:
    failed = judge(SendResult(status_code=500), now_ms=NOW)
    found = settle(job(position=position), failed, schedule_seconds=(1, 2), now_ms=NOW, jitter=0.0)
    assert (found.status, found.schedule_position) == (status, position + 1)
    assert found.next_attempt_ms == (None if status == "DeadLettered" else NOW + 1000 * (position + 1))


def test_what_got_the_410_on_its_last_attempt_is_held_with_one_more() -> None:
    gone = judge(SendResult(status_code=410), now_ms=NOW)
    found = settle(job(position=2), gone, schedule_seconds=(1, 2), now_ms=NOW, jitter=0.0)
    assert found == Settlement(status=DeliveryStatus.PENDING, next_attempt_ms=NOW, schedule_position=2)
