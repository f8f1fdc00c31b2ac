from __future__ import annotations

import pytest

from hookstead.delivery.ports import ActivityBucket, Store
from store.samples import DEAD, NOW, A, attempt, claim, delivery_id, event, retry

START = NOW - NOW % 60_000


async def test_buckets_are_consecutive_and_empty_ones_are_there(store: Store) -> None:
    buckets = await store.activity(since_ms=START, until_ms=START + 60_000, bucket_seconds=10)
    assert buckets == [ActivityBucket(start_ms=START + place * 10_000) for place in range(6)]


async def test_everything_is_counted_in_the_bucket_in_which_it_ended(store: Store) -> None:
    given = [event(A, claimed=True, at=START + place) for place in range(4)]
    await store.accept(given)
    await store.record(
        [
            attempt(delivery_id(given[0]), at=START + 9_990, duration=20),
            attempt(delivery_id(given[1]), DEAD, at=START + 10_000, duration=10),
            attempt(delivery_id(given[2]), retry(START), at=START + 100, duration=30),
        ],
        {},
    )
    first, second = await store.activity(since_ms=START, until_ms=START + 20_000, bucket_seconds=10)
    assert first == ActivityBucket(start_ms=START, accepted=4, failed=1, p50_ms=30, p99_ms=30)
    assert second == ActivityBucket(
        start_ms=START + 10_000, delivered=1, failed=1, dead_lettered=1, p50_ms=10, p99_ms=20
    )
    [whole] = await store.activity(since_ms=START, until_ms=START + 60_000, bucket_seconds=60)
    assert (whole.accepted, whole.delivered, whole.failed, whole.dead_lettered) == (4, 1, 2, 1)
    assert (whole.p50_ms, whole.p99_ms) == (20, 30)


async def test_a_redelivery_of_what_arrived_is_not_delivered_again(store: Store) -> None:
    given = event(A, claimed=True, at=START)
    await store.accept([given])
    await store.record([attempt(delivery_id(given), at=START)], {})
    await store.request_redelivery(delivery_id(given), now_ms=START)
    [job] = (await claim(store, now=START)).jobs
    await store.record([attempt(job, at=START)], {})
    [bucket] = await store.activity(since_ms=START, until_ms=START + 1, bucket_seconds=10)
    assert (bucket.accepted, bucket.delivered, bucket.failed) == (1, 1, 0)


@pytest.mark.parametrize("duration", [1, 31, 32, 33, 100, 999, 15_000, 60_000])
async def test_latencies_are_right_within_three_percent(store: Store, duration: int) -> None:
    given = event(A, claimed=True, at=START)
    await store.accept([given])
    await store.record([attempt(delivery_id(given), at=START, duration=duration)], {})
    [bucket] = await store.activity(since_ms=START, until_ms=START + 70_000, bucket_seconds=120)
    assert bucket.p99_ms == pytest.approx(duration, rel=0.032)


async def test_boundaries_are_multiples_of_the_width(store: Store) -> None:
    buckets = await store.activity(since_ms=START + 15_000, until_ms=START + 30_001, bucket_seconds=30)
    assert [bucket.start_ms for bucket in buckets] == [START, START + 30_000]
