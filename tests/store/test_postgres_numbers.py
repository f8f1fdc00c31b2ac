"""Numbers that the database gives, and that are known or taken by more than one at a time."""

from __future__ import annotations

import asyncio
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from hookstead.config.model import RetentionPolicy
from hookstead.delivery.ports import Accepted, CancelReason, Duplicate, EndpointKey
from hookstead.store.postgres.opening import open_postgres
from hookstead.store.postgres.settings import Settings
from store.postgres_fixtures import Databases
from store.postgres_server import PostgresServer
from store.samples import DAY, NOW, A, B, StoppedClock, attempt, claim, delivery_id, event, ids

C = EndpointKey("c", "uid-c")
SETTINGS = Settings(readers=1, database_clock=False)
PATIENT = Settings(readers=1, database_clock=False, lease_seconds=120)
EXACT = Settings(readers=1, database_clock=False, retention_slack_ms=0)
SHORTEST = RetentionPolicy(payload_days=1, attempt_days=1, dead_letter_days=1)


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


@pytest.fixture
def own_server() -> Iterator[PostgresServer]:
    """Its own: its files are exchanged."""
    with PostgresServer() as running:
        yield running


async def test_a_server_that_took_over_without_an_endpoint_gives_it_a_number_of_its_own(
    own_server: PostgresServer, tmp_path: Path
) -> None:
    """A standby may lack the last commits, so a number from one of these is nobody's there, or will be another's."""
    url = own_server.url(await own_server.create())
    one, two = [await open_postgres(url, clock=StoppedClock(), settings=PATIENT) for _ in range(2)]
    await one.accept([event(A)])
    await two.accept([event(A)])
    own_server.stop()
    standby = tmp_path / "standby"
    _copied(own_server.data, standby)
    await asyncio.to_thread(own_server.start)
    await one.accept([event(B)])  # whose number the standby does not know
    own_server.stop(signal.SIGQUIT)
    _copied(standby, own_server.data)
    await asyncio.to_thread(own_server.start)
    await one.accept([of_b := event(B)])
    await two.accept([of_c := event(C)])
    assert ids(await claim(two, B)) == [delivery_id(of_b)]
    assert ids(await claim(two, C)) == [delivery_id(of_c)]
    assert await one.check() == []
    await one.close()
    await two.close()


def _copied(source: Path, target: Path) -> None:
    """A stopped cluster's files, in the hands of the same user."""
    shutil.rmtree(target, ignore_errors=True)
    subprocess.run(["cp", "-a", source, target], check=True)


async def test_an_answer_that_was_lost_is_recalled_right_where_an_endpoint_was_forgotten_meanwhile(
    databases: Databases, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first of the batch is known already, so nothing of it keeps its endpoint."""
    name = await databases.create()
    one, two = [await open_postgres(databases.url(name), clock=StoppedClock(), settings=EXACT) for _ in range(2)]
    old = event(A, claimed=True)
    await one.accept([old])
    await one.record([attempt(delivery_id(old))], {})
    await one.cancel(A, reason=CancelReason.ENDPOINT_DELETED, now_ms=NOW)
    now = NOW + 2 * DAY
    await one.accept([event(at=now, caller="k")])
    answered = one._writer.commits.fetch

    async def lost(sql: str, *arguments: object) -> list[Any]:
        await answered(sql, *arguments)
        while await two.expire(SHORTEST, now_ms=now + 1, limit=100):
            pass
        return []

    with monkeypatch.context() as patched:
        patched.setattr(one._writer.commits, "fetch", lost)
        new = [event(B, at=now, claimed=True), event(C, at=now)]
        first, *others = await one.accept([event(A, at=now, caller="k"), *new])
    assert isinstance(first, Duplicate)
    assert others == [Accepted(given.id, 1) for given in new]
    await one.record([attempt(delivery_id(new[0]), endpoint=B, at=now)], {})
    counts = await one.counts()
    assert (counts[B].delivered, counts[C].pending) == (1, 1)
    assert await one.check() == []
    await one.close()
    await two.close()
    await databases.recycle(name)
