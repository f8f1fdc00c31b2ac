"""What batches count goes to a journal first: seen at once, added up later, by whoever is still there."""

from __future__ import annotations

import asyncio
import time

import asyncpg
import pytest

from hookstead.config.model import RetentionPolicy
from hookstead.delivery.ports import EndpointCounts, EndpointKey, EndpointWindow, LaneState, slot_of
from hookstead.store.postgres import writer
from hookstead.store.postgres.opening import open_postgres
from hookstead.store.postgres.settings import Settings
from hookstead.store.postgres.store import PostgresStore
from store.postgres_fixtures import Databases
from store.samples import DEAD, NOW, A, B, StoppedClock, attempt, delivery_id, event
from store.slots import shared_out

SETTINGS = Settings(readers=1, database_clock=False)
JOURNAL = "SELECT count(*) FROM hookstead.journal"
KEPT = (
    "SELECT (SELECT count(*) FROM hookstead.tallies), (SELECT count(*) FROM hookstead.hours),"
    " (SELECT count(*) FROM hookstead.buckets), (SELECT count(*) FROM hookstead.latencies)"
)


async def opened(databases: Databases, name: str) -> PostgresStore:
    return await open_postgres(databases.url(name), clock=StoppedClock(), settings=SETTINGS)


async def shown(store: PostgresStore) -> tuple[object, ...]:
    """Everything that is told of what was counted."""
    boot = await store.boot(recent_limit=1)
    return (
        await store.counts(),
        boot.counts,
        boot.windows,
        await store.activity(since_ms=NOW - 10_000, until_ms=NOW + 20_000, bucket_seconds=10),
    )


async def work(store: PostgresStore) -> None:
    """Three events at the turn of a bucket, of which one is delivered and one a dead letter."""
    given = [event(A, B, at=NOW - 1, claimed=True), event(A, claimed=True), event(A)]
    await store.accept(given)
    await store.record(
        [
            attempt(delivery_id(given[0])),
            attempt(delivery_id(given[0], 1), DEAD, endpoint=B),
            attempt(delivery_id(given[1])),
        ],
        {},
    )


async def test_what_is_counted_is_shown_at_once_and_the_same_when_it_was_added_up(
    databases: Databases, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "_FOLD_SECONDS", 0.2)
    name = await databases.create()
    store = await opened(databases, name)
    connection = await asyncpg.connect(databases.url(name))
    await store.accept([event(A)])  # the timer runs from here
    await work(store)
    before = await shown(store)
    assert before[0] == before[1] == {A: EndpointCounts(2, 2, 0, 0), B: EndpointCounts(0, 0, 1, 0)}
    assert before[2] == {A: EndpointWindow(succeeded=2), B: EndpointWindow(failed=1, dead_lettered=1)}
    ends = time.monotonic() + 30
    while await connection.fetchval(JOURNAL):
        assert time.monotonic() < ends
        await asyncio.sleep(0.05)
    assert await shown(store) == before
    assert min(await connection.fetchrow(KEPT)) > 0
    await work(store)
    await store.close()
    assert await connection.fetchval(JOURNAL) == 0, "whoever leaves is added up"
    await connection.close()
    store = await opened(databases, name)
    assert (await store.counts())[A] == EndpointCounts(3, 4, 0, 0)
    assert await store.check() == []
    await store.close()
    await databases.recycle(name)


async def test_what_one_that_was_removed_had_counted_is_added_up(databases: Databases) -> None:
    name = await databases.create()
    first, second = await opened(databases, name), await opened(databases, name)
    await work(second)
    before = await shown(first)
    connection = await asyncpg.connect(databases.url(name))
    assert await connection.fetchval(JOURNAL) > 0
    await connection.execute("SELECT hookstead.forget_1(ARRAY[$1::bigint])", second._membership.owner)
    assert await connection.fetchval(JOURNAL) == 0
    assert await shown(first) == before
    await second.close()
    await first.close()
    await connection.close()
    await databases.recycle(name)


async def test_a_claim_that_a_cancellation_kept_for_one_that_is_gone_is_void_with_the_next_expiry(
    databases: Databases,
) -> None:
    name = await databases.create()
    store = await opened(databases, name)
    connection = await asyncpg.connect(databases.url(name))
    keep = "INSERT INTO hookstead.claims (seq, endpoint_id, owner, manual, ticket) VALUES ($1, 1, $2, false, 0)"
    await connection.execute(keep, 1, store._membership.owner)
    await connection.execute(keep, 2, store._membership.owner + 1)
    await store.expire(RetentionPolicy(), now_ms=NOW, limit=100)
    assert [row["seq"] for row in await connection.fetch("SELECT seq FROM hookstead.claims")] == [1]
    await connection.close()
    await store.close()
    await databases.recycle(name)


async def test_of_two_members_states_of_a_lane_the_later_one_stays_in_whatever_order(databases: Databases) -> None:
    name = await databases.create()
    first, second = await opened(databases, name), await opened(databases, name)
    looks = await shared_out(first, second)
    key = next(one for one in (EndpointKey(f"e{n}", "u") for n in range(5000)) if slot_of(one) in looks[0].owned)
    await first.record([], {key: LaneState(last_attempt_ms=1)})
    await first.record([], {key: LaneState(last_attempt_ms=2)})
    assert (await second.boot(recent_limit=1)).lanes[key] == LaneState(last_attempt_ms=2), "before it is added up"
    await first.peers.let_go([slot_of(key)])
    await second.record([], {key: LaneState(last_attempt_ms=3, gone_ms=3)})
    connection = await asyncpg.connect(databases.url(name))
    for store in (second, first):
        await connection.execute("SELECT hookstead.fold_1(ARRAY[$1::bigint])", store._membership.owner)
    assert (await second.boot(recent_limit=1)).lanes[key] == LaneState(last_attempt_ms=3, gone_ms=3)
    await connection.close()
    await first.close()
    await second.close()
    await databases.recycle(name)
