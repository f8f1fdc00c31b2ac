from __future__ import annotations

import pytest

from hookstead.delivery.ports import (
    RESPONSE_BODY_LIMIT,
    AttemptRow,
    CancelReason,
    DeliveryStatus,
    EndpointCounts,
    EndpointWindow,
    ErrorCode,
    LaneState,
    Settlement,
    Store,
    Trigger,
)
from store.samples import (
    DEAD,
    DELIVERED,
    NOW,
    A,
    B,
    Host,
    attempt,
    claim,
    delivery_id,
    event,
    ids,
    retry,
    status_of,
)


async def accepted(store: Store) -> str:
    given = event(A, claimed=True)
    await store.accept([given])
    return delivery_id(given)


async def test_an_attempt_is_numbered_kept_and_shown(store: Store) -> None:
    delivery = await accepted(store)
    failed = attempt(delivery, retry(NOW + 5000), body=b"no\x00", message="answered 500", duration=31)
    assert await store.record([failed], {}) == [1]
    [job] = (await claim(store, now=NOW + 5000)).jobs
    assert await store.record([attempt(job, at=NOW + 5000)], {}) == [2]
    found = await store.delivery(delivery)
    assert found is not None
    row, attempts = found
    assert (row.status, row.attempt_count, row.completed_ms) == (DeliveryStatus.DELIVERED, 2, NOW + 5020)
    assert row.next_attempt_ms is None
    assert attempts[0] == AttemptRow(
        number=1,
        started_ms=NOW,
        trigger=Trigger.SCHEDULED,
        succeeded=False,
        status_code=500,
        error=ErrorCode.HTTP_STATUS,
        duration_ms=31,
        message="answered 500",
        response_body=b"no\x00",
    )
    assert (attempts[1].number, attempts[1].succeeded, attempts[1].error) == (2, True, None)


@pytest.mark.parametrize("message", ["a\x00b", "\ud800 lone", "é", "x" * 5000])
async def test_no_message_of_a_receiver_poisons_the_log(store: Store, message: str) -> None:
    delivery = await accepted(store)
    await store.record([attempt(delivery, DEAD, message=message)], {})
    found = await store.delivery(delivery)
    assert found is not None
    assert len(found[1]) == 1


async def test_a_response_body_is_cut_at_the_limit(store: Store) -> None:
    delivery = await accepted(store)
    await store.record([attempt(delivery, DEAD, body=b"\xff" * (RESPONSE_BODY_LIMIT + 1))], {})
    found = await store.delivery(delivery)
    assert found is not None
    assert found[1][0].response_body == b"\xff" * RESPONSE_BODY_LIMIT


async def test_each_delivery_counts_once_under_its_present_status(store: Store) -> None:
    given = [event(A, claimed=True) for _ in range(4)]
    await store.accept(given)
    await store.record(
        [
            attempt(delivery_id(given[0])),
            attempt(delivery_id(given[1]), DEAD),
            attempt(delivery_id(given[2]), retry(NOW + 1)),
        ],
        {},
    )
    assert (await store.counts())[A] == EndpointCounts(pending=2, delivered=1, dead_lettered=1)
    await store.cancel(A, reason=CancelReason.ENDPOINT_DELETED, now_ms=NOW)
    assert (await store.counts())[A] == EndpointCounts(delivered=1, dead_lettered=1, cancelled=2)


async def test_a_success_of_a_cancelled_delivery_counts_a_failure_does_not(store: Store) -> None:
    arrived, failed = await accepted(store), await accepted(store)
    assert await store.cancel(A, reason=CancelReason.ENDPOINT_DISABLED, now_ms=NOW) == 2
    assert await store.record([attempt(arrived), attempt(failed, retry(NOW + 5000))], {}) == [1, 1]
    assert await status_of(store, arrived) is DeliveryStatus.DELIVERED
    found = await store.delivery(failed)
    assert found is not None
    assert found[0].status is DeliveryStatus.CANCELLED
    assert found[0].cancel_reason is CancelReason.ENDPOINT_DISABLED
    assert (found[0].attempt_count, len(found[1]), found[0].next_attempt_ms) == (1, 1, None)
    assert (await store.counts())[A] == EndpointCounts(delivered=1, cancelled=1)


async def test_a_failed_manual_attempt_leaves_the_schedule_as_it_was(store: Store) -> None:
    delivery = await accepted(store)
    await store.record([attempt(delivery, retry(NOW + 5000, position=1))], {})
    await store.request_redelivery(delivery, now_ms=NOW)
    [job] = (await claim(store)).jobs
    assert (job.trigger, job.status, job.due_ms) == (Trigger.MANUAL, DeliveryStatus.PENDING, NOW + 5000)
    await store.record([attempt(job, retry(NOW + 99_000, position=7))], {})
    [job] = (await claim(store, now=NOW + 5000)).jobs
    assert (job.trigger, job.attempt_count, job.schedule_position) == (Trigger.SCHEDULED, 2, 1)


async def test_a_successful_manual_attempt_ends_a_pending_delivery(store: Store) -> None:
    delivery = await accepted(store)
    await store.record([attempt(delivery, retry(NOW + 5000))], {})
    await store.request_redelivery(delivery, now_ms=NOW)
    [job] = (await claim(store)).jobs
    await store.record([attempt(job)], {})
    assert await status_of(store, delivery) is DeliveryStatus.DELIVERED
    assert ids(await claim(store, now=NOW + 5000)) == []


@pytest.mark.parametrize("end", [DELIVERED, DEAD])
async def test_a_failed_redelivery_of_an_ended_delivery_changes_nothing_but_the_log(
    store: Store, end: Settlement
) -> None:
    delivery = await accepted(store)
    await store.record([attempt(delivery, end)], {})
    await store.request_redelivery(delivery, now_ms=NOW)
    [job] = (await claim(store)).jobs
    await store.record([attempt(job, retry(NOW), at=NOW + 50)], {})
    found = await store.delivery(delivery)
    assert found is not None
    assert (found[0].status, found[0].attempt_count, found[0].completed_ms) == (end.status, 2, NOW + 20)
    assert ids(await claim(store, now=NOW + 10_000)) == []


async def test_asking_twice_for_a_redelivery_is_asking_once(store: Store) -> None:
    delivery = await accepted(store)
    await store.record([attempt(delivery)], {})
    for _ in range(2):
        await store.request_redelivery(delivery, now_ms=NOW)
    [job] = (await claim(store)).jobs
    await store.record([attempt(job)], {})
    assert ids(await claim(store)) == []


async def test_a_request_during_a_scheduled_attempt_is_served_after_it(store: Store) -> None:
    delivery = await accepted(store)
    await store.request_redelivery(delivery, now_ms=NOW)
    assert ids(await claim(store)) == [], "one attempt of a delivery at a time"
    await store.record([attempt(delivery)], {})
    [job] = (await claim(store)).jobs
    assert (job.trigger, job.status) == (Trigger.MANUAL, DeliveryStatus.DELIVERED)


async def test_a_request_survives_a_restart(host: Host) -> None:
    store = await host.open()
    delivery = await accepted(store)
    await store.record([attempt(delivery)], {})
    await store.request_redelivery(delivery, now_ms=NOW)
    store = await host.open()
    boot = await store.boot(recent_limit=1)
    assert boot.next_due_ms == {A: NOW}
    assert ids(await claim(store)) == [delivery]


async def test_a_delivery_that_is_gone_takes_no_attempt(store: Store) -> None:
    assert await store.record([attempt("dlv_" + "0" * 32)], {}) == [0]


async def test_a_retry_without_an_instant_is_due_at_once(store: Store) -> None:
    delivery = await accepted(store)
    await store.record([attempt(delivery, Settlement(status=DeliveryStatus.PENDING))], {})
    assert ids(await claim(store, now=NOW + 20)) == [delivery]


async def test_two_attempts_of_one_delivery_in_one_call_are_both_counted(store: Store) -> None:
    delivery = await accepted(store)
    assert await store.record([attempt(delivery, retry(NOW)), attempt(delivery)], {}) == [1, 2]
    assert await status_of(store, delivery) is DeliveryStatus.DELIVERED
    assert (await store.counts())[A] == EndpointCounts(delivered=1)


async def test_lane_states_and_windows_come_back_at_boot(host: Host) -> None:
    store = await host.open()
    delivery = await accepted(store)
    state = LaneState(
        consecutive_failures=3, failing_since_ms=NOW, circuit_backoff_seconds=60, handled_resume_at="2027-01-01"
    )
    await store.record([attempt(delivery, DEAD)], {A: LaneState(gone_ms=1), B: LaneState(suspended_ms=NOW)})
    await store.record([], {A: state})
    store = await host.open()
    boot = await store.boot(recent_limit=5)
    assert boot.lanes == {A: state, B: LaneState(suspended_ms=NOW)}
    assert boot.windows == {A: EndpointWindow(failed=1, dead_lettered=1)}
    [recent] = boot.recent[A]
    assert (recent.delivery_id, recent.number, recent.succeeded) == (delivery, 1, False)
    assert (recent.status_code, recent.duration_ms, recent.event_type) == (500, 20, "order.paid")


async def test_the_window_forgets_after_a_day(host: Host) -> None:
    store = await host.open()
    await store.record([attempt(await accepted(store))], {})
    host.clock.wall_ms = NOW + 23 * 3_600_000
    assert (await store.boot(recent_limit=1)).windows == {A: EndpointWindow(succeeded=1)}
    host.clock.wall_ms = NOW + 25 * 3_600_000
    assert (await store.boot(recent_limit=1)).windows == {}


async def test_recent_attempts_are_the_latest_newest_first(host: Host) -> None:
    store = await host.open()
    delivery = await accepted(store)
    for number in range(1, 48):
        await store.record([attempt(delivery, retry(NOW + number * 1000), at=NOW + number)], {})
        if number == 30:
            store = await host.open()
    boot = await store.boot(recent_limit=10)
    assert [recent.number for recent in boot.recent[A]] == list(range(47, 37, -1))
    assert boot.recent[A][0].next_attempt_ms == NOW + 47_000
    boot = await store.boot(recent_limit=20)
    assert [recent.number for recent in boot.recent[A]] == list(range(47, 27, -1))
