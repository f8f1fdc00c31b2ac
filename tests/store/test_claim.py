from __future__ import annotations

import asyncio

import pytest

from hookstead.delivery.ports import (
    CancelReason,
    Claim,
    DeliveryStatus,
    ReplayDelivery,
    ReplayWindow,
    Store,
    Trigger,
)
from hookstead.resources.kinds import PayloadFormat, ReplaySelect
from store.samples import DEAD, NOW, A, B, Host, attempt, claim, delivery_id, event, ids, retry, status_of


async def test_what_is_claimed_is_not_given_again_until_it_is_released(store: Store) -> None:
    given = [event(A) for _ in range(3)]
    await store.accept(given)
    first = await claim(store, limit=2)
    assert ids(first) == [delivery_id(one) for one in given[:2]]
    assert ids(await claim(store)) == [delivery_id(given[2])]
    assert ids(await claim(store)) == []
    await store.release(ids(first)[1:])
    assert ids(await claim(store)) == [delivery_id(given[1])]


async def test_a_delivery_that_was_accepted_as_claimed_is_not_given_to_anybody_else(store: Store) -> None:
    given = event(A, claimed=True)
    await store.accept([given])
    assert await claim(store) == await claim(store, B)
    await store.release([delivery_id(given)])
    assert ids(await claim(store)) == [delivery_id(given)]


async def test_claims_are_void_after_boot(host: Host) -> None:
    store = await host.open()
    given = [event(A, claimed=True), event(A)]
    await store.accept(given)
    await claim(store)
    await store.boot(recent_limit=1)
    assert len(ids(await claim(store))) == 2
    store = await host.open()
    await store.boot(recent_limit=1)
    assert len(ids(await claim(store))) == 2


async def test_what_is_not_due_is_left_and_announced(store: Store) -> None:
    late, soon, due = event(A, claimed=True), event(A, claimed=True), event(A)
    await store.accept([late, soon, due])
    await store.record(
        [attempt(delivery_id(late), retry(NOW + 9000)), attempt(delivery_id(soon), retry(NOW + 500))], {}
    )
    found = await claim(store)
    assert ids(found) == [delivery_id(due)]
    assert found.next_due_ms == NOW + 500
    assert (await claim(store, now=NOW + 499)).next_due_ms == NOW + 500
    found = await claim(store, now=NOW + 500)
    assert ids(found) == [delivery_id(soon)]
    assert found.next_due_ms == NOW + 9000


async def test_the_limit_leaves_the_rest_due_now(store: Store) -> None:
    await store.accept([event(A) for _ in range(5)])
    found = await claim(store, limit=3)
    assert len(found.jobs) == 3
    assert found.next_due_ms == NOW
    assert (await claim(store, limit=2)).next_due_ms is None


async def test_nothing_is_left_behind_when_everything_is_claimed(store: Store) -> None:
    await store.accept([event(A)])
    assert (await claim(store)).next_due_ms is None
    assert (await claim(store)).next_due_ms is None


async def test_an_endpoint_that_was_never_given_anything_has_nothing(store: Store) -> None:
    found = await claim(store, B)
    assert found.jobs == ()
    assert found.next_due_ms is None


async def test_an_endpoint_of_the_same_name_and_another_uid_inherits_nothing(store: Store) -> None:
    await store.accept([event(A)])
    assert ids(await claim(store, A._replace(uid="another"))) == []


async def test_due_time_comes_before_age_and_age_before_nothing(store: Store) -> None:
    first, second, third = (event(A, claimed=True) for _ in range(3))
    await store.accept([first, second, third])
    await store.record(
        [
            attempt(delivery_id(first), retry(NOW + 300)),
            attempt(delivery_id(second), retry(NOW + 100)),
            attempt(delivery_id(third), retry(NOW + 100)),
        ],
        {},
    )
    found = await claim(store, now=NOW + 1000)
    assert ids(found) == [delivery_id(second), delivery_id(third), delivery_id(first)]


async def test_manual_requests_come_first_whatever_their_status(store: Store) -> None:
    done, due = event(A, claimed=True), event(A)
    await store.accept([done, due])
    await store.record([attempt(delivery_id(done))], {})
    assert await store.request_redelivery(delivery_id(done), now_ms=NOW) == A
    found = await claim(store)
    assert ids(found) == [delivery_id(done), delivery_id(due)]
    assert [job.trigger for job in found.jobs] == [Trigger.MANUAL, Trigger.SCHEDULED]
    assert [job.status for job in found.jobs] == [DeliveryStatus.DELIVERED, DeliveryStatus.PENDING]
    assert [job.due_ms for job in found.jobs] == [None, NOW]


@pytest.mark.parametrize(("max_bytes", "expected"), [(0, 1), (10, 1), (20, 2), (29, 2), (30, 3), (1000, 5)])
async def test_payloads_stop_at_the_byte_limit_but_one_is_always_given(
    store: Store, max_bytes: int, expected: int
) -> None:
    await store.accept([event(A, data=b'"12345678"') for _ in range(5)])
    found = await claim(store, max_bytes=max_bytes)
    assert len(found.jobs) == expected
    assert found.next_due_ms == (None if expected == 5 else NOW)
    assert len((await claim(store)).jobs) == 5 - expected


async def test_in_order_only_the_oldest_pending_delivery_is_given(store: Store) -> None:
    given = [event(A) for _ in range(3)]
    await store.accept(given)
    found = await claim(store, ordered=True)
    assert ids(found) == [delivery_id(given[0])]
    assert found.next_due_ms is None, "nothing can go before the one in flight ended"
    assert ids(await claim(store, ordered=True)) == []
    [job] = found.jobs
    await store.record([attempt(job, retry(NOW + 5000))], {})
    waiting = await claim(store, ordered=True)
    assert ids(waiting) == []
    assert waiting.next_due_ms == NOW + 5000
    found = await claim(store, now=NOW + 5000, ordered=True)
    assert ids(found) == [delivery_id(given[0])]
    await store.record([attempt(found.jobs[0])], {})
    assert ids(await claim(store, ordered=True)) == [delivery_id(given[1])]


async def test_a_manual_request_goes_outside_the_order(store: Store) -> None:
    given = [event(A) for _ in range(3)]
    await store.accept(given)
    await store.request_redelivery(delivery_id(given[2]), now_ms=NOW)
    assert ids(await claim(store, ordered=True)) == [delivery_id(given[2]), delivery_id(given[0])]


async def test_a_manual_request_for_what_is_under_way_is_due_behind_it(store: Store) -> None:
    one = event(A, claimed=True)
    await store.accept([one])
    assert await store.request_redelivery(delivery_id(one), now_ms=NOW) == A
    assert await claim(store) == Claim(next_due_ms=NOW)
    await store.record([attempt(delivery_id(one))], {})
    (job,) = (await claim(store)).jobs
    assert job.trigger is Trigger.MANUAL
    assert await claim(store) == Claim(), "it is under way because of the request"


async def test_what_was_cancelled_under_way_is_not_sent_by_hand_beside_it(store: Store) -> None:
    accepted, claimed = event(A, claimed=True), event(A)
    await store.accept([accepted, claimed])
    [job] = (await claim(store)).jobs
    assert job.delivery_id == delivery_id(claimed)
    assert await store.cancel(A, reason=CancelReason.ENDPOINT_DISABLED, now_ms=NOW) == 2
    for one in (accepted, claimed):
        assert await store.request_redelivery(delivery_id(one), now_ms=NOW) == A
    assert ids(await claim(store)) == []
    await store.record([attempt(delivery_id(accepted))], {})
    assert ids(await claim(store)) == [delivery_id(accepted)]
    await store.release([job.delivery_id])
    assert ids(await claim(store)) == [delivery_id(claimed)]
    assert ids(await claim(store)) == []


async def test_what_is_sent_by_hand_is_not_sent_for_a_replay_beside_it(store: Store) -> None:
    given = event(A, claimed=True)
    await store.accept([given])
    await store.record([attempt(delivery_id(given), DEAD)], {})
    await store.request_redelivery(delivery_id(given), now_ms=NOW)
    [job] = (await claim(store)).jobs
    assert job.trigger is Trigger.MANUAL
    window = ReplayWindow(uid="r", endpoint=A, select=ReplaySelect.FAILED, since_ms=NOW - 1, until_ms=NOW + 1)
    await store.begin_replay("r", "again", now_ms=NOW)
    page = await store.replay_candidates(window, limit=10, with_data=False)
    made = ReplayDelivery(
        event_id=given.id,
        delivery_id=delivery_id(given),
        rearm=True,
        payload_format=PayloadFormat.STANDARD_WEBHOOKS,
        due_ms=NOW,
    )
    assert await store.advance_replay(window, page, [made], now_ms=NOW) == 1
    assert await status_of(store, delivery_id(given)) is DeliveryStatus.PENDING
    assert ids(await claim(store)) == []
    await store.release([job.delivery_id])
    [job] = (await claim(store)).jobs
    await store.record([attempt(job, DEAD)], {})
    [job] = (await claim(store)).jobs
    assert job.trigger is Trigger.REPLAY
    await store.record([attempt(job)], {})
    assert ids(await claim(store)) == []
    assert await store.check() == []


async def test_a_recorded_delivery_is_free_for_its_next_attempt(store: Store) -> None:
    given = event(A)
    await store.accept([given])
    [job] = (await claim(store)).jobs
    await store.record([attempt(job, retry(NOW + 10, position=1))], {})
    [job] = (await claim(store, now=NOW + 10)).jobs
    assert (job.attempt_count, job.schedule_position, job.due_ms) == (1, 1, NOW + 10)


async def test_claims_and_commits_at_once_never_give_a_delivery_twice(store: Store) -> None:
    given = [event(A) for _ in range(400)]
    await store.accept(given)
    seen: list[str] = []

    async def worker() -> None:
        while jobs := (await claim(store, limit=7)).jobs:
            seen.extend(job.delivery_id for job in jobs)
            await store.record([attempt(job) for job in jobs], {})

    async def feeder() -> None:
        for _ in range(40):
            one = event(A)
            given.append(one)
            await store.accept([one])

    await asyncio.gather(feeder(), *(worker() for _ in range(8)))
    await worker()
    assert sorted(seen) == sorted(delivery_id(one) for one in given)


async def test_a_call_that_was_given_up_keeps_no_claims(store: Store) -> None:
    given = event(A, claimed=True)
    accepting = asyncio.ensure_future(store.accept([given]))
    await asyncio.sleep(0)
    accepting.cancel()
    await asyncio.gather(accepting, return_exceptions=True)
    await store.counts()
    await store.accept([event(B)])  # whatever was handed in before is committed now
    assert await status_of(store, delivery_id(given)) is DeliveryStatus.PENDING
    claiming = asyncio.ensure_future(claim(store))
    await asyncio.sleep(0)
    claiming.cancel()
    await asyncio.gather(claiming, return_exceptions=True)
    await store.release([])
    assert ids(await claim(store)) == [delivery_id(given)]


async def test_a_cancelled_delivery_is_not_given(store: Store) -> None:
    await store.accept([event(A), event(B)])
    await store.cancel(A, reason=CancelReason.ENDPOINT_DISABLED, now_ms=NOW)
    assert ids(await claim(store)) == []
    assert len(ids(await claim(store, B))) == 1
