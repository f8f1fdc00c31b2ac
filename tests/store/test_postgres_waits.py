"""Locks that others hold, errors and what they mean: nobody waits for ever, and what passes is tried again."""

from __future__ import annotations

import asyncio
import contextlib

import asyncpg
import pytest

from hookstead.delivery.ports import Accepted, StoreError, StoreFull, StoreUnavailable
from hookstead.store.postgres import faults
from hookstead.store.postgres.opening import open_postgres
from hookstead.store.postgres.settings import Settings
from hookstead.store.postgres.store import PostgresStore
from store.postgres_fixtures import Databases
from store.samples import A, B, StoppedClock, attempt, claim, delivery_id, event, ids


async def opened(databases: Databases, name: str, settings: Settings) -> PostgresStore:
    return await open_postgres(databases.url(name), clock=StoppedClock(), settings=settings)


class Lock:
    """Held by another session until it is left."""

    def __init__(self, url: str, sql: str) -> None:
        self._url = url
        self._sql = sql

    async def __aenter__(self) -> None:
        self._connection = await asyncpg.connect(self._url)
        await self._connection.execute(f"BEGIN; {self._sql}")

    async def __aexit__(self, *_: object) -> None:
        await self._connection.close()


async def test_what_waits_for_a_lock_goes_on_when_it_is_free(databases: Databases, name: str) -> None:
    store = await opened(databases, name, Settings(readers=1))
    given = event(A)
    async with Lock(databases.url(name), "SELECT FROM hookstead.numbering FOR UPDATE"):
        accepting = asyncio.ensure_future(store.accept([given]))
        await asyncio.sleep(0.3)
        assert not accepting.done()
        assert ids(await claim(store, B)) == [], "claims and reads do not wait for it"
        assert await store.get_blob("x") is None
    assert await accepting == [Accepted(given.id, 1)]
    assert await store.check() == []
    await store.close()


async def test_a_lock_that_is_held_too_long_is_said_and_the_store_goes_on_behind_it(
    databases: Databases, name: str
) -> None:
    store = await opened(databases, name, Settings(readers=1, statement_seconds=0.4, retry_seconds=1.0))
    first = event(A, claimed=True)
    await store.accept([first])
    async with Lock(databases.url(name), "SELECT FROM hookstead.numbering FOR UPDATE"):
        with pytest.raises(StoreUnavailable, match="try again"):
            await store.accept([event(A, claimed=True)])
        assert await store.record([attempt(delivery_id(first))], {}) == [1], "only new events wait for it"
    again = event(A)
    assert await store.accept([again]) == [Accepted(again.id, 1)]
    counts = (await store.counts())[A]
    jobs = (await claim(store)).jobs
    assert len(jobs) == counts.pending, "nothing stays claimed by nobody"
    assert delivery_id(again) in [job.delivery_id for job in jobs]
    assert await store.check() == []
    await store.close()


async def test_a_deadlock_is_resolved_and_what_it_cost_is_tried_again(databases: Databases, name: str) -> None:
    store = await opened(databases, name, Settings(readers=1))
    given = [event(A, claimed=True), event(B, claimed=True)]
    await store.accept(given)
    other = await asyncpg.connect(databases.url(name))
    await other.execute("BEGIN; SET LOCAL deadlock_timeout = '1h'; SELECT FROM hookstead.tallies FOR UPDATE")
    recording = asyncio.ensure_future(
        store.record([attempt(delivery_id(one), endpoint=one.deliveries[0].endpoint) for one in given], {})
    )
    await asyncio.sleep(0.3)
    # Whom the server takes for the victim is its business: the store's statement, most often, which then goes on.
    with contextlib.suppress(asyncpg.DeadlockDetectedError, TimeoutError):
        await other.execute("SELECT FROM hookstead.pending FOR UPDATE", timeout=5)
    await other.close()
    assert await recording == [1, 1]
    assert await store.check() == []
    await store.close()


@pytest.mark.parametrize(
    ("error", "grows", "kind"),
    [
        (asyncpg.DiskFullError("no space left on device"), True, StoreFull),
        (asyncpg.DiskFullError("no space left on device"), False, StoreUnavailable),
        (asyncpg.DeadlockDetectedError("deadlock"), False, StoreUnavailable),
        (asyncpg.QueryCanceledError("statement timeout"), False, StoreUnavailable),
        (asyncpg.AdminShutdownError("terminating"), False, StoreUnavailable),
        (asyncpg.CannotConnectNowError("starting up"), False, StoreUnavailable),
        (asyncpg.TooManyConnectionsError("too many"), False, StoreUnavailable),
        (asyncpg.ReadOnlySQLTransactionError("a standby"), False, StoreUnavailable),
        (asyncpg.ConnectionDoesNotExistError("closed"), False, StoreUnavailable),
        (ConnectionRefusedError(111, "refused"), False, StoreUnavailable),
        (TimeoutError(), False, StoreUnavailable),
        (asyncpg.UniqueViolationError("duplicate key"), True, StoreError),
        (asyncpg.UndefinedTableError("no such table"), True, StoreError),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else str(getattr(value, "__name__", value)),
)
def test_each_error_says_what_its_caller_can_do(error: Exception, grows: bool, kind: type[StoreError]) -> None:
    found = faults.meaning(error, name="postgresql://h/d", grows=grows)
    assert type(found) is kind
    assert str(found).startswith("store postgresql://h/d: ")


def test_what_is_no_error_of_the_store_is_left_as_it_is() -> None:
    error = LookupError("no replay")
    assert faults.meaning(error, name="x") is error
