"""Numbers that the database gives, and that are known or taken by more than one at a time."""

from __future__ import annotations

import asyncpg

from hookstead.config.model import RetentionPolicy
from hookstead.delivery.ports import Accepted, CancelReason
from hookstead.store.postgres.opening import open_postgres
from hookstead.store.postgres.settings import Settings
from store.postgres_fixtures import Databases
from store.samples import NOW, A, B, StoppedClock, attempt, delivery_id, event

SETTINGS = Settings(readers=1, database_clock=False)
DAY = 86_400_000


async def test_an_endpoint_that_was_forgotten_gets_a_new_number_from_whoever_knew_the_old_one(
    databases: Databases,
) -> None:
    """Else its deliveries would belong to nobody: numbers are remembered by each process."""
    name = await databases.create()
    first = await open_postgres(databases.url(name), clock=StoppedClock(), settings=SETTINGS)
    second = await open_postgres(databases.url(name), clock=StoppedClock(), settings=SETTINGS)
    connection = await asyncpg.connect(databases.url(name))
    for store in (first, second):
        given = event(A, B, claimed=True)
        await store.accept([given])
        await store.record([attempt(delivery_id(given)), attempt(delivery_id(given, 1), endpoint=B)], {})
    before = dict(await connection.fetch("SELECT name, id FROM hookstead.endpoints"))
    await first.cancel(A, reason=CancelReason.ENDPOINT_DELETED, now_ms=NOW)
    for day in (40, 80):
        while await first.expire(RetentionPolicy(), now_ms=NOW + day * DAY, limit=100):
            pass
    assert A.name not in dict(await connection.fetch("SELECT name, id FROM hookstead.endpoints"))
    for store in (second, first):
        given = event(B, A, at=NOW + 81 * DAY, claimed=True)
        assert await store.accept([given]) == [Accepted(given.id, 2)]
        await store.record([attempt(delivery_id(given, 1), at=NOW + 81 * DAY)], {})
    after = dict(await connection.fetch("SELECT name, id FROM hookstead.endpoints"))
    assert after[B.name] == before[B.name]
    assert after[A.name] > before[A.name]
    assert (await second.counts())[A].delivered == 2
    assert await first.check() == []
    await connection.close()
    await first.close()
    await second.close()
    await databases.recycle(name)


async def test_more_attempts_than_numbers_are_taken_at_once_are_numbered_in_their_order(databases: Databases) -> None:
    name = await databases.create()
    store = await open_postgres(databases.url(name), clock=StoppedClock(), settings=SETTINGS)
    given = [event(A, claimed=True) for _ in range(2500)]
    await store.accept(given)
    await store.record([attempt(delivery_id(one)) for one in given], {})
    await store.accept([extra := event(A, claimed=True)])
    await store.record([attempt(delivery_id(extra))], {})
    connection = await asyncpg.connect(databases.url(name))
    numbers = [row[0] for row in await connection.fetch("SELECT seq FROM hookstead.attempts ORDER BY delivery_seq")]
    assert len(numbers) == 2501
    assert numbers == sorted(set(numbers))
    assert await store.check() == []
    await connection.close()
    await store.close()
    await databases.recycle(name)
