from __future__ import annotations

from hookstead.config.model import RetentionPolicy
from hookstead.delivery.ports import (
    CancelReason,
    DeliveryQuery,
    DeliveryStatus,
    EndpointCounts,
    EventQuery,
    RedeliveryRefusal,
    ReplayDelivery,
    ReplayPhase,
    ReplayWindow,
    Store,
)
from hookstead.resources.kinds import PayloadFormat, ReplaySelect
from store.samples import DAY, DEAD, NOW, A, B, Host, attempt, claim, delivery_id, event, ids, retry


async def expire(store: Store, at: int, *, limit: int = 1000, **days: int) -> int:
    """Expire until there is nothing more; returns the steps taken."""
    steps = 1
    while await store.expire(RetentionPolicy(**days), now_ms=at, limit=limit):
        steps += 1
    return steps


async def left(store: Store) -> tuple[int, int]:
    """How many events and deliveries are listed."""
    events = await store.events(EventQuery(), cursor=None, limit=1000)
    deliveries = await store.deliveries(DeliveryQuery(), cursor=None, limit=1000)
    return len(events.items), len(deliveries.items)


async def test_nothing_goes_before_its_time(store: Store) -> None:
    given = [event(A, claimed=True), event(A, claimed=True), event(A), event()]
    await store.accept(given)
    await store.record([attempt(delivery_id(given[0])), attempt(delivery_id(given[1]), DEAD)], {})
    await expire(store, NOW + 30 * DAY)
    assert await left(store) == (4, 3)
    assert len(ids(await claim(store))) == 1


async def test_everything_goes_in_the_end_and_the_counters_stay(host: Host) -> None:
    store = await host.open()
    given = [event(A, claimed=True), event(A, claimed=True), event(A, B), event()]
    await store.accept(given)
    await store.record([attempt(delivery_id(given[0])), attempt(delivery_id(given[1]), DEAD)], {})
    await expire(store, NOW + 31 * DAY)
    await expire(store, NOW + 62 * DAY)
    assert await left(store) == (0, 0)
    counts = {A: EndpointCounts(delivered=1, dead_lettered=1, cancelled=1), B: EndpointCounts(cancelled=1)}
    assert await store.counts() == counts
    store = await host.open()
    assert await store.counts() == counts


async def test_what_is_pending_when_its_payload_ends_is_cancelled_as_expired(store: Store) -> None:
    given = event(A, claimed=True)
    await store.accept([given])
    await store.record([attempt(delivery_id(given), retry(NOW + 2 * DAY))], {})
    await expire(store, NOW + DAY + 1, payload_days=1)
    found = await store.delivery(delivery_id(given))
    assert found is not None
    assert (found[0].status, found[0].cancel_reason) == (DeliveryStatus.CANCELLED, CancelReason.EXPIRED)
    assert found[0].completed_ms == NOW + DAY + 1
    assert ids(await claim(store, now=NOW + 3 * DAY)) == []


async def test_a_dead_letter_outlives_its_payload_but_cannot_be_sent(store: Store) -> None:
    given = event(A, claimed=True)
    await store.accept([given])
    await store.record([attempt(delivery_id(given), DEAD)], {})
    await store.request_redelivery(delivery_id(given), now_ms=NOW)
    await expire(store, NOW + 2 * DAY, payload_days=1, attempt_days=1)
    found = await store.delivery(delivery_id(given))
    assert found is not None
    assert (found[0].status, found[0].attempt_count, found[1]) == (DeliveryStatus.DEAD_LETTERED, 1, [])
    assert ids(await claim(store, now=NOW + 2 * DAY)) == []
    assert await store.request_redelivery(delivery_id(given), now_ms=NOW) is RedeliveryRefusal.PAYLOAD_ERASED
    await expire(store, NOW + 31 * DAY, payload_days=1, attempt_days=1)
    assert await left(store) == (0, 0)


async def test_dead_letters_may_go_first(store: Store) -> None:
    given = [event(A, claimed=True), event(A, claimed=True)]
    await store.accept(given)
    await store.record([attempt(delivery_id(given[0]), DEAD), attempt(delivery_id(given[1]))], {})
    await expire(store, NOW + DAY + 100, dead_letter_days=1)
    assert await store.delivery(delivery_id(given[0])) is None
    assert await store.delivery(delivery_id(given[1])) is not None
    assert (await left(store))[0] == 2, "the payload's own retention has not ended"


async def test_the_log_of_an_event_stays_as_long_as_attempts_do(store: Store) -> None:
    given = event()
    await store.accept([given])
    await expire(store, NOW + 2 * DAY, payload_days=1)
    found = await store.event(given.id)
    assert found is not None
    assert found.data is None
    await expire(store, NOW + 31 * DAY, payload_days=1)
    assert await store.event(given.id) is None


async def test_attempts_of_a_pending_delivery_go_at_their_age_and_numbers_go_on(store: Store) -> None:
    given = event(A, claimed=True)
    await store.accept([given])
    await store.record([attempt(delivery_id(given), retry(NOW + 2 * DAY))], {})
    await expire(store, NOW + 2 * DAY, attempt_days=1)
    [job] = (await claim(store, now=NOW + 2 * DAY)).jobs
    assert await store.record([attempt(job, at=NOW + 2 * DAY)], {}) == [2]
    found = await store.delivery(delivery_id(given))
    assert found is not None
    assert [row.number for row in found[1]] == [2]


async def test_steps_are_bounded_and_leave_the_same_as_one(store: Store) -> None:
    given = [event(A, B, claimed=True, at=NOW + place) for place in range(60)]
    await store.accept(given)
    await store.record([attempt(one.deliveries[0].id, at=NOW + 60) for one in given], {})
    assert await expire(store, NOW + 31 * DAY, limit=7) >= 60 // 7
    assert await store.counts() == {A: EndpointCounts(delivered=60), B: EndpointCounts(cancelled=60)}
    assert await left(store) == (60, 60), "the cancelled ones ended just now"
    await expire(store, NOW + 62 * DAY, limit=7)
    assert await left(store) == (0, 0)


async def test_a_clock_that_ran_ahead_once_does_not_keep_the_rest(store: Store) -> None:
    given = [event(A, claimed=True), event(A, at=NOW + 3650 * DAY), event(A, claimed=True)]
    await store.accept(given)
    await store.record([attempt(delivery_id(given[0])), attempt(delivery_id(given[2]))], {})
    await expire(store, NOW + 31 * DAY)
    assert await store.delivery(delivery_id(given[0])) is None
    assert await store.delivery(delivery_id(given[2])) is None
    assert await store.delivery(delivery_id(given[1])) is not None
    found = await store.event(given[1].id)
    assert found is not None
    assert found.data is not None


async def test_a_shorter_policy_takes_effect_and_a_longer_one_brings_nothing_back(store: Store) -> None:
    await store.accept([event(A) for _ in range(3)])
    await expire(store, NOW + 5 * DAY, payload_days=30)
    assert len((await claim(store, limit=1)).jobs) == 1
    await expire(store, NOW + 5 * DAY, payload_days=2)
    assert (await store.counts())[A] == EndpointCounts(cancelled=3)
    await expire(store, NOW + 6 * DAY, payload_days=30)
    assert (await store.counts())[A] == EndpointCounts(cancelled=3)


async def test_an_attempt_in_flight_over_its_expiry_is_still_recorded(store: Store) -> None:
    given = [event(A, claimed=True), event(A, claimed=True)]
    await store.accept(given)
    await expire(store, NOW + 31 * DAY)
    records = [
        attempt(delivery_id(given[0]), at=NOW + 31 * DAY),
        attempt(delivery_id(given[1]), retry(NOW), at=NOW + 31 * DAY),
    ]
    assert await store.record(records, {}) == [1, 1]
    assert (await store.counts())[A] == EndpointCounts(delivered=1, cancelled=1)


async def test_a_deleted_endpoint_leaves_nothing_behind_in_the_end(host: Host) -> None:
    store = await host.open()
    given = [event(A, B)]
    await store.accept(given)
    await store.cancel(A, reason=CancelReason.ENDPOINT_DELETED, now_ms=NOW)
    await store.cancel(B, reason=CancelReason.ENDPOINT_DISABLED, now_ms=NOW)
    await expire(store, NOW + 1)
    assert set(await store.counts()) == {A, B}
    await expire(store, NOW + 31 * DAY)
    assert await store.counts() == {B: EndpointCounts(cancelled=1)}
    await store.accept([event(A, at=NOW + 31 * DAY)])
    assert (await store.counts())[A] == EndpointCounts(pending=1)
    store = await host.open()
    assert (await store.counts())[A] == EndpointCounts(pending=1)


async def test_an_event_that_was_too_young_when_its_last_delivery_went_goes_later(store: Store) -> None:
    given = event(A, claimed=True)
    await store.accept([given])
    await store.record([attempt(delivery_id(given), DEAD)], {})
    await expire(store, NOW + 2 * DAY, payload_days=1, attempt_days=1, dead_letter_days=30)
    assert await left(store) == (1, 1)
    longer = {"payload_days": 10, "attempt_days": 10, "dead_letter_days": 3}
    await expire(store, NOW + 4 * DAY, **longer)
    assert await left(store) == (1, 0)
    await expire(store, NOW + 11 * DAY, **longer)
    assert await left(store) == (0, 0)


async def test_a_redelivery_that_was_just_asked_for_keeps_its_delivery_an_old_request_does_not(store: Store) -> None:
    given = [event(A, claimed=True), event(A, claimed=True)]
    await store.accept(given)
    await store.record([attempt(delivery_id(one)) for one in given], {})
    await store.request_redelivery(delivery_id(given[0]), now_ms=NOW)
    await store.request_redelivery(delivery_id(given[1]), now_ms=NOW + 2 * DAY)
    await expire(store, NOW + 2 * DAY, attempt_days=1)
    assert await store.delivery(delivery_id(given[0])) is None
    assert ids(await claim(store, now=NOW + 2 * DAY)) == [delivery_id(given[1])]


def replay_of(uid: str) -> ReplayWindow:
    return ReplayWindow(uid=uid, endpoint=A, select=ReplaySelect.ALL, since_ms=NOW - DAY, until_ms=NOW + DAY)


async def run_replay(store: Store, uid: str) -> None:
    """One that made a delivery, which died."""
    given = event()
    await store.accept([given])
    await store.begin_replay(uid, uid, now_ms=NOW)
    page = await store.replay_candidates(replay_of(uid), limit=10, with_data=False)
    made = ReplayDelivery(
        event_id=given.id,
        delivery_id=f"dlv_of_{uid}",
        rearm=False,
        payload_format=PayloadFormat.STANDARD_WEBHOOKS,
        due_ms=NOW,
    )
    await store.advance_replay(replay_of(uid), page, [made], now_ms=NOW)
    await claim(store)
    await store.record([attempt(made.delivery_id, DEAD)], {})
    await store.finish_replay(uid, ReplayPhase.COMPLETED, now_ms=NOW)


async def test_a_replay_is_forgotten_when_it_was_gone_for_the_longest_retention_and_not_before(host: Host) -> None:
    store = await host.open()
    policy = RetentionPolicy(payload_days=1, attempt_days=2, dead_letter_days=5)
    for uid in ("stays", "goes"):
        await run_replay(store, uid)
    for day in (3, 20):
        await expire(store, NOW + day * DAY, payload_days=1, attempt_days=2, dead_letter_days=5)
        await store.forget_replays({"stays", "goes"}, policy, now_ms=NOW + day * DAY)
    store = await host.open()
    for day in (20, 24, 25):
        await store.forget_replays({"stays"}, policy, now_ms=NOW + day * DAY)
        assert await store.replay("goes") is not None
    await store.forget_replays({"stays"}, policy, now_ms=NOW + 25 * DAY + 1)
    assert await store.replay("goes") is None
    kept = await store.replay("stays")
    assert kept is not None
    assert (kept.phase, kept.failed) == (ReplayPhase.COMPLETED, 1)


async def test_a_finished_replay_that_comes_back_is_known_and_its_absence_counts_anew(store: Store) -> None:
    policy = RetentionPolicy(payload_days=1, attempt_days=1, dead_letter_days=1)
    await run_replay(store, "r")
    await expire(store, NOW + 9 * DAY, payload_days=1, attempt_days=1, dead_letter_days=1)
    for day, present in ((10, set[str]()), (10.9, {"r"}), (11.5, set()), (12.4, set())):
        await store.forget_replays(present, policy, now_ms=NOW + round(day * DAY))
        row = await store.begin_replay("r", "r", now_ms=NOW + round(day * DAY))
        assert row.phase is ReplayPhase.COMPLETED, day


async def test_a_replay_is_kept_while_a_delivery_is_counted_for_it(store: Store) -> None:
    """Its number must not become another's."""
    policy = RetentionPolicy(payload_days=1, attempt_days=1, dead_letter_days=1)
    await run_replay(store, "r")
    for day in (1, 3):
        await store.forget_replays((), policy, now_ms=NOW + day * DAY)
    assert await store.replay("r") is not None
    await expire(store, NOW + 3 * DAY, payload_days=1, attempt_days=1, dead_letter_days=1)
    await store.forget_replays((), policy, now_ms=NOW + 3 * DAY)
    assert await store.replay("r") is None
