"""What the server looks at: a backlog costs no more than what is taken of it, also by plans that are older than it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from hookstead.store.postgres.opening import open_postgres
from hookstead.store.postgres.settings import Settings
from hookstead.store.postgres.store import PostgresStore
from store.postgres_fixtures import Databases
from store.samples import NOW, A, B, StoppedClock, attempt, claim, event

BACKLOG = 4000
CALLS_UNTIL_A_PLAN_IS_KEPT = 6
READ = (
    "SELECT sum(seq_tup_read + idx_tup_fetch) FROM pg_stat_xact_user_tables"
    " WHERE schemaname = 'hookstead' AND relname IN ('pending', 'doings')"
)


@pytest.fixture
async def store(databases: Databases) -> AsyncIterator[PostgresStore]:
    """Its plans were made, and the statistics taken, while every table was empty."""
    name = await databases.create()
    store = await open_postgres(databases.url(name), clock=StoppedClock(), settings=Settings(readers=1))
    await databases.server.execute("ANALYZE", database=name)
    for _ in range(CALLS_UNTIL_A_PLAN_IS_KEPT):
        await store.accept([event(A)])
        for endpoint in (A, B):
            for ordered in (False, True):
                jobs = (await claim(store, endpoint, ordered=ordered)).jobs
                await store.record([attempt(job) for job in jobs], {})
    for _ in range(BACKLOG // 500):
        await store.accept([event(A) for _ in range(500)])
    await store.accept([event(B)])
    yield store
    await store.close()
    await databases.recycle(name)


async def fetched(store: PostgresStore, endpoint: tuple[str, str], limit: int, *, ordered: bool) -> tuple[int, int]:
    """How many deliveries a claim returned, and how many rows of the hot table it read."""

    async def run(connection: Any) -> tuple[int, int]:
        rows = await connection.fetch(
            "SELECT seq FROM hookstead.claim_1($1, $2, $3, $4, $5, $6, $7, $8)",
            store._membership.owner,
            1 << 40,
            [endpoint[0]],
            [endpoint[1]],
            [NOW],
            [limit],
            [1 << 30],
            [ordered],
        )
        read = await connection.fetchval(
            "SELECT seq_tup_read + idx_tup_fetch FROM pg_stat_xact_user_tables"
            " WHERE schemaname = 'hookstead' AND relname = 'pending'"
        )
        result: tuple[int, int] = (len([row for row in rows if row[0] is not None]), int(read))
        await connection.execute("UPDATE hookstead.claimers SET ticket = 0")  # the store goes on with its own tickets
        await connection.execute(
            "UPDATE hookstead.pending SET taken = 0 WHERE seq = ANY ($1)",
            [row[0] for row in rows if row[0] is not None],
        )
        await connection.execute("DELETE FROM hookstead.claims")
        return result

    return await store._claimer._link.transaction(run)


async def seen(store: PostgresStore, since: int) -> tuple[int, int]:
    """How many deliveries a look tells of that are numbered behind this one, and how many rows of them it read."""

    async def run(connection: Any) -> tuple[int, int]:
        other = await connection.fetchval(
            "INSERT INTO hookstead.members (name, lease_until) VALUES ('x', now()) RETURNING owner"
        )
        before = await connection.fetchval(READ)
        rows = await connection.fetch("SELECT kind, n FROM hookstead.look_1($1, $2, true)", other, [since + 1])
        read = await connection.fetchval(READ) - before
        await connection.execute("DELETE FROM hookstead.members WHERE owner = $1", other)
        return sum(row[1] for row in rows if row[0] == 3), int(read)

    return await store._claimer._link.transaction(run)


async def test_a_look_reads_what_is_new_and_nothing_of_the_backlog(store: PostgresStore) -> None:
    last = await store._reader.fetch("SELECT last FROM hookstead.numbering")
    for _ in range(CALLS_UNTIL_A_PLAN_IS_KEPT):
        told, read = await seen(store, last[0][0])
        assert told == 0
        assert read <= 5
    given = [event(A), event(A, B)]
    await store.accept(given)
    await store.request_redelivery(given[0].deliveries[0].id, now_ms=NOW)
    told, read = await seen(store, last[0][0])
    assert told == 3
    assert read <= 10
    jobs = (await claim(store, A, limit=2)).jobs
    await store.record([attempt(job) for job in jobs], {})
    told, read = await seen(store, last[0][0])
    assert told <= 3
    assert read <= 10


@pytest.mark.parametrize("limit", [1, 20])
async def test_a_claim_reads_what_it_takes_and_little_more(store: PostgresStore, limit: int) -> None:
    taken, read = await fetched(store, A, limit, ordered=False)
    assert taken == limit
    assert read <= 6 * limit + 20


async def test_the_head_of_the_order_is_found_without_the_rest(store: PostgresStore) -> None:
    taken, read = await fetched(store, A, 20, ordered=True)
    assert taken == 1
    assert read <= 50


async def test_the_backlog_of_one_endpoint_costs_another_nothing(store: PostgresStore) -> None:
    taken, read = await fetched(store, B, 20, ordered=False)
    assert taken == 1
    assert read <= 50


async def test_every_plan_that_leaves_no_choice_is_kept(store: PostgresStore) -> None:
    """Else the server makes a new one at each call once a table is large, for more than the statement costs."""
    rows = await store._reader.fetch(
        "SELECT proname, proconfig FROM pg_proc"
        " WHERE pronamespace = 'hookstead'::regnamespace AND proconfig IS NOT NULL"
    )
    assert {"accept_1", "claim_1", "record_1", "look_1"} <= {row[0] for row in rows}
    assert [row[0] for row in rows if "plan_cache_mode=force_generic_plan" not in row[1]] == []
