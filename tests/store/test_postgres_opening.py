"""Who may open a PostgreSQL store, what that does to its schema, and what refuses to open says."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from hookstead.delivery.ports import SLOTS, Accepted, StoreUnavailable
from hookstead.store.errors import SchemaTooNew, StoreRefused
from hookstead.store.postgres.link import target
from hookstead.store.postgres.migrate import MIGRATIONS
from hookstead.store.postgres.opening import open_postgres
from hookstead.store.postgres.settings import Settings
from hookstead.store.postgres.store import PostgresStore
from store.postgres_fixtures import Databases
from store.samples import A, StoppedClock, attempt, claim, delivery_id, event, ids

SHORT = Settings(readers=1, lease_seconds=1.0)


@pytest.fixture
async def url(databases: Databases) -> AsyncIterator[str]:
    """An empty database's."""
    name = await databases.create(migrated=False)
    yield databases.url(name)
    await databases.drop(name)


async def opened(url: str, settings: Settings = SHORT) -> PostgresStore:
    return await open_postgres(url, clock=StoppedClock(), settings=settings)


def vanish(store: PostgresStore) -> None:
    """As if the process had been killed: nothing is given back, nothing renewed."""
    store._membership._task.cancel()


async def run(url: str, sql: str) -> None:
    import asyncpg

    connection = await asyncpg.connect(url)
    await connection.execute(sql)
    await connection.close()


async def taken_over(store: PostgresStore) -> None:
    """Until every slot is its own: the others are gone, or were taken for dead."""
    async with asyncio.timeout(60):
        while len((await store.peers.look()).owned) < SLOTS:
            await asyncio.sleep(0.05)


async def test_a_second_gateway_joins_and_both_work(url: str) -> None:
    first, second = await opened(url), await opened(url)
    given = [event(A), event(A)]
    assert await first.accept(given[:1]) == [Accepted(given[0].id, 1)]
    assert await second.accept(given[1:]) == [Accepted(given[1].id, 1)]
    assert ids(await claim(second)) == [delivery_id(one) for one in given]
    await first.close()
    assert await second.check() == []
    await second.close()


async def test_what_one_claimed_that_goes_is_given_back_at_once(url: str) -> None:
    first, second = await opened(url), await opened(url)
    given = event(A, claimed=True)
    await first.accept([given])
    assert ids(await claim(second)) == []
    await first.close()
    assert ids(await claim(second)) == [delivery_id(given)]
    await second.close()


async def test_the_lease_of_one_that_vanished_lapses_and_its_claims_with_it(url: str) -> None:
    first = await opened(url)
    given = event(A, claimed=True)
    await first.accept([given])
    await taken_over(first)
    vanish(first)
    second = await opened(url)
    await taken_over(second)
    assert ids(await claim(second)) == [delivery_id(given)]
    await second.close()
    await first.close()


async def test_one_that_was_taken_for_dead_writes_nothing_more_and_ends(url: str) -> None:
    first = await opened(url)
    held = event(A, claimed=True)
    await first.accept([held])
    await taken_over(first)
    vanish(first)
    second = await opened(url)
    await taken_over(second)
    with pytest.raises(StoreUnavailable, match="another gateway has taken over"):
        await first.record([attempt(delivery_id(held))], {})
    assert "another gateway has taken over" in (first.failure or "")
    assert not first.peers.lease_holds
    for call in (first.counts(), claim(first), first.delivery("dlv_1"), first.peers.look()):
        with pytest.raises(StoreUnavailable, match="another gateway has taken over"):
            await call
    assert ids(await claim(second)) == [delivery_id(held)]
    await first.close()
    assert await second.check() == []
    await second.close()


async def test_a_lost_lease_is_noticed_by_one_that_only_claims(url: str) -> None:
    store = await opened(url)
    await run(url, "DELETE FROM hookstead.members")
    with pytest.raises(StoreUnavailable, match="another gateway has taken over"):
        await claim(store)
    await store.close()


async def test_many_that_start_at_once_migrate_once(url: str) -> None:
    stores = await asyncio.gather(*(opened(url) for _ in range(6)))
    for store in stores:
        await store.accept([event(A)])
    assert await stores[0].check() == []
    for store in stores:
        await store.close()


async def test_a_schema_of_a_newer_version_is_refused_unless_it_says_that_this_one_may(url: str) -> None:
    store = await opened(url)
    await store.close()
    newer = len(MIGRATIONS) + 1
    await run(url, f"UPDATE hookstead.schema SET version = {newer}")
    store = await opened(url)
    await store.accept([event(A)])
    await store.close()
    await run(url, f"UPDATE hookstead.schema SET compatible = {newer}")
    with pytest.raises(SchemaTooNew, match="start the newer Hookstead"):
        await opened(url)


async def test_what_can_not_be_opened_is_named_without_its_password(databases: Databases) -> None:
    port = databases.server.port
    with pytest.raises(
        StoreRefused, match=r'postgresql://127\.0\.0\.1:\d+/absent: .*"absent" does not exist'
    ) as caught:
        await opened(f"postgresql://hookstead:secret@127.0.0.1:{port}/absent")
    assert "secret" not in str(caught.value)
    with pytest.raises(StoreUnavailable, match="try again") as away:
        await opened("postgresql://hookstead:secret@127.0.0.1:1/absent")
    assert "secret" not in str(away.value)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("mysql://x/y", "expected postgresql://USER@HOST:PORT/DATABASE"),
        ("postgresql://x/y?pooler=session", "expected transaction, or none"),
        ("postgresql://x/y?direct=z", "only with pooler=transaction"),
        ("postgresql://x/y?pooler=none&direct=z", "only with pooler=transaction"),
        *(
            (f"postgresql://x/y?pooler=transaction&direct={way}", "expected HOST:PORT of the database behind")
            for way in ("", "/y", "u@z", "u:p@z", "z:1:2", "z:port", "z/y/x", "postgresql://z/y")
        ),
    ],
)
def test_a_url_that_is_none_is_refused(url: str, message: str) -> None:
    with pytest.raises(StoreRefused, match=message):
        target(url)


def test_the_pooler_is_ours_and_the_rest_of_the_options_is_the_librarys() -> None:
    found = target("postgresql://u:p@h:1/d?sslmode=require&pooler=transaction&application_name=x%20y")
    assert (found.pooler, found.name) == (True, "postgresql://h:1/d")
    assert found.url == "postgresql://u:p@h:1/d?sslmode=require&application_name=x+y"
    assert "u:p" not in repr(found)


@pytest.mark.parametrize(
    ("way", "database"),
    [
        ("z:1", "z:1/d"),
        ("z", "z/d"),
        ("z:1/other", "z:1/other"),
        ("[::1]:1,z:2", "[::1]:1,z:2/d"),
        ("z%3A1%2F", "z:1/d"),
    ],
)
def test_the_way_around_a_pooler_differs_by_its_host(way: str, database: str) -> None:
    found = target(f"postgresql://u:p@h:1/d?sslmode=require&pooler=transaction&direct={way}")
    assert (found.pooler, found.url) == (True, "postgresql://u:p@h:1/d?sslmode=require")
    assert found.around is not None
    assert (found.around.pooler, found.around.around) == (False, None)
    assert found.around.url == f"postgresql://u:p@{database}?sslmode=require"
    assert "u:p" not in repr(found)


async def test_the_servers_default_of_losing_commits_is_overruled(url: str, databases: Databases) -> None:
    store = await opened(url)
    name = url.rpartition("/")[2]
    await run(url, f"ALTER DATABASE {name} SET synchronous_commit = off")
    await store.close()
    store = await opened(url)
    await store.accept([event(A)])
    await run(
        url,
        "CREATE TABLE seen AS SELECT ''::text AS setting; CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN UPDATE seen SET setting = current_setting('synchronous_commit'); RETURN NEW; END $$;"
        "CREATE TRIGGER note BEFORE INSERT ON hookstead.pending FOR EACH ROW EXECUTE FUNCTION note()",
    )
    await store.accept([event(A)])
    rows = await databases.server.execute("SELECT setting FROM seen", database=name)
    assert [tuple(row) for row in rows] == [("on",)]
    await store.close()
