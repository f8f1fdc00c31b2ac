"""Days of the PostgreSQL store: made ahead, dropped whole, without losing what is still needed."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from hookstead.config.model import RetentionPolicy
from hookstead.delivery.ports import EndpointCounts, ReplayDelivery, ReplayWindow
from hookstead.resources.kinds import PayloadFormat, ReplaySelect
from hookstead.store.postgres.opening import open_postgres
from hookstead.store.postgres.settings import Settings
from hookstead.store.postgres.store import PostgresStore
from store.postgres_fixtures import Databases
from store.samples import DAY, DEAD, NOW, A, B, StoppedClock, attempt, claim, delivery_id, event, ids

TODAY = NOW - NOW % DAY


class Place:
    """One database, opened with the slack that is usual: rows wait for their whole day to go."""

    def __init__(self, databases: Databases, name: str) -> None:
        self.databases = databases
        self.name = name
        self.clock = StoppedClock()

    async def open(self, **settings: int) -> PostgresStore:
        chosen = Settings(readers=1, database_clock=False, **settings)
        return await open_postgres(self.databases.url(self.name), clock=self.clock, settings=chosen)

    async def rows(self, sql: str) -> list[tuple[object, ...]]:
        return [tuple(row) for row in await self.databases.server.execute(sql, database=self.name)]

    async def partitions(self, table: str) -> list[str]:
        rows = await self.rows(
            "SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid"
            f" WHERE i.inhparent = 'hookstead.{table}'::regclass ORDER BY 1"
        )
        return [str(row[0]).removeprefix(f"{table}_") for row in rows]


@pytest.fixture
async def place(databases: Databases) -> AsyncIterator[Place]:
    name = await databases.create(migrated=False)
    yield Place(databases, name)
    await databases.drop(name)


async def expire(store: PostgresStore, at: int, **days: int) -> None:
    while await store.expire(RetentionPolicy(**days), now_ms=at, limit=1000):
        pass
    assert await store.check() == []


async def test_the_days_ahead_have_partitions_before_they_begin(place: Place) -> None:
    store = await place.open()
    for table in ("events", "ended", "attempts"):
        assert await place.partitions(table) == ["20270115", "20270116", "20270117", "20270118", "rest"]
    await store.expire(RetentionPolicy(), now_ms=NOW + DAY, limit=10)
    assert await place.partitions("events") == ["20270115", "20270116", "20270117", "20270118", "20270119", "rest"]
    await store.close()


async def test_a_day_goes_whole_when_everything_in_it_is_old(place: Place) -> None:
    store = await place.open()
    given = [event(A, B, claimed=True, at=TODAY + place_ * 60_000) for place_ in range(50)]
    await store.accept(given)
    for place_ in (0, 1):
        await store.record(
            [
                attempt(delivery_id(one, place_), endpoint=(A, B)[place_], at=one.accepted_ms)
                if number % 2
                else attempt(delivery_id(one, place_), DEAD, endpoint=(A, B)[place_], at=one.accepted_ms)
                for number, one in enumerate(given)
            ],
            {},
        )
    before = await store.counts()
    await expire(store, TODAY + 31 * DAY - 1)
    assert await place.rows("SELECT count(*) FROM hookstead.ended") == [(100,)], "they wait for their day's end"
    await expire(store, TODAY + 31 * DAY)
    for table in ("events", "ended", "attempts"):
        assert "20270115" not in await place.partitions(table)
        assert await place.rows(f"SELECT count(*) FROM hookstead.{table}") == [(0,)]
    assert await store.counts() == before == {A: EndpointCounts(0, 25, 25, 0), B: EndpointCounts(0, 25, 25, 0)}
    await store.close()


async def test_what_is_still_needed_of_a_day_stays(place: Place) -> None:
    """A dead letter with a longer age, a delivery that ended late, and their events; not what can not be sent again."""
    store = await place.open()
    dead, late, asked, old = (event(A, claimed=True, at=TODAY) for _ in range(4))
    await store.accept([dead, late, asked, old])
    await store.record(
        [
            attempt(delivery_id(dead), DEAD, at=TODAY),
            attempt(delivery_id(late), at=TODAY + 3 * DAY),
            attempt(delivery_id(asked), at=TODAY),
            attempt(delivery_id(old), at=TODAY),
        ],
        {},
    )
    await store.request_redelivery(delivery_id(asked), now_ms=TODAY + 31 * DAY)
    await expire(store, TODAY + 31 * DAY, dead_letter_days=60)
    assert "20270115" not in await place.partitions("events")
    for one in (dead, late):
        assert await store.delivery(delivery_id(one)) is not None
        found = await store.event(one.id)
        assert found is not None
        assert found.data is None, "its payload's age has come all the same"
    for one in (old, asked):
        assert await store.delivery(delivery_id(one)) is None
        assert await store.event(one.id) is None
    assert await store.counts() == {A: EndpointCounts(delivered=3, dead_lettered=1)}
    await expire(store, TODAY + 40 * DAY, dead_letter_days=60)
    assert await store.delivery(delivery_id(late)) is None
    assert await store.delivery(delivery_id(dead)) is not None
    await expire(store, TODAY + 70 * DAY, dead_letter_days=60)
    assert await place.rows("SELECT count(*) FROM hookstead.ended") == [(0,)]
    assert await place.rows("SELECT count(*) FROM hookstead.events") == [(0,)]
    await store.close()


async def test_a_day_of_which_something_is_pending_ends_it_and_goes(place: Place) -> None:
    store = await place.open()
    waits, paused = event(A, at=TODAY), event(B, at=TODAY + DAY - 1)
    await store.accept([waits, paused])
    await expire(store, TODAY + 31 * DAY)
    assert await store.counts() == {A: EndpointCounts(cancelled=1), B: EndpointCounts(cancelled=1)}
    assert len((await claim(store, now=TODAY + 31 * DAY)).jobs) == 0
    found = await store.event(paused.id)
    assert found is not None
    assert found.data is None
    await expire(store, TODAY + 63 * DAY)
    assert await place.rows("SELECT count(*) FROM hookstead.ended") == [(0,)]
    assert await place.rows("SELECT count(*) FROM hookstead.events") == [(0,)]
    await store.close()


async def test_an_event_is_kept_for_the_delivery_that_a_replay_made_of_it_later(place: Place) -> None:
    store = await place.open()
    given = event(at=TODAY)
    await store.accept([given])
    await store.begin_replay("r", "again", now_ms=TODAY + 20 * DAY)
    window = ReplayWindow(uid="r", endpoint=A, select=ReplaySelect.MISSED, since_ms=TODAY, until_ms=TODAY + DAY)
    page = await store.replay_candidates(window, limit=10, with_data=False)
    made = ReplayDelivery(
        event_id=given.id,
        delivery_id="dlv_" + "a" * 32,
        rearm=False,
        payload_format=PayloadFormat.STANDARD_WEBHOOKS,
        due_ms=TODAY,
    )
    assert await store.advance_replay(window, page, [made], now_ms=TODAY + 20 * DAY) == 1
    [job] = (await claim(store, now=TODAY + 20 * DAY)).jobs
    await store.record([attempt(job, at=TODAY + 20 * DAY)], {})
    await expire(store, TODAY + 31 * DAY)
    assert "20270115" not in await place.partitions("events")
    found = await store.event(given.id)
    assert found is not None
    assert [row.id for row in found.deliveries] == [made.delivery_id]
    await expire(store, TODAY + 60 * DAY)
    assert await store.event(given.id) is None
    await store.close()


async def test_deliveries_whose_numbers_reach_into_the_next_day_keep_their_event(place: Place) -> None:
    store = await place.open()
    given = event(A, B, claimed=True, at=TODAY + DAY - 1)
    await store.accept([event(at=TODAY + DAY - 1) for _ in range(1022)])
    await store.accept([given])
    days = await place.rows("SELECT seq >> 10 FROM hookstead.pending ORDER BY 1")
    assert days == [(TODAY + DAY - 1,), (TODAY + DAY,)], "the number of the second is the next day's"
    for place_ in (0, 1):
        await store.record([attempt(delivery_id(given, place_), endpoint=(A, B)[place_], at=TODAY + DAY)], {})
    await expire(store, TODAY + 31 * DAY)
    assert "20270115" not in await place.partitions("ended")
    await expire(store, TODAY + 33 * DAY)
    assert await place.rows("SELECT count(*) FROM hookstead.ended") == [(0,)]
    assert await place.rows("SELECT count(*) FROM hookstead.events") == [(0,)]
    await store.close()


async def test_rows_of_a_clock_that_ran_ahead_are_kept_with_the_rest(place: Place) -> None:
    store = await place.open()
    ahead = event(A, at=NOW + 400 * DAY)
    await store.accept([ahead])
    assert await place.rows("SELECT count(*) FROM hookstead.events_rest") == [(1,)]
    place.clock.wall_ms = NOW + 399 * DAY
    await store.close()
    store = await place.open()
    assert ids(await claim(store, now=NOW + 400 * DAY)) == [delivery_id(ahead)]
    assert await store.check() == []
    await store.close()
