"""Several stores on one database: who has which slot, and what each is told of the others."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field

import asyncpg
import pytest

from hookstead.delivery.ports import (
    SLOTS,
    EndpointKey,
    LaneState,
    Look,
    ReplayDelivery,
    ReplayWindow,
    StoreUnavailable,
    slot_of,
)
from hookstead.resources.kinds import PayloadFormat, ReplaySelect
from hookstead.store.postgres.opening import open_postgres
from hookstead.store.postgres.settings import Settings
from hookstead.store.postgres.store import PostgresStore
from store.postgres_fixtures import Databases
from store.samples import DEAD, NOW, A, B, StoppedClock, attempt, claim, delivery_id, event, ids
from store.slots import ALL, shared_out

USUAL = Settings(readers=1, database_clock=False)
SHORT = Settings(readers=1, lease_seconds=2.0, database_clock=False)


@dataclass
class Cluster:
    """Stores on one database; those that a test leaves open are closed at its end, and the database must be well."""

    databases: Databases
    name: str
    stores: list[PostgresStore] = field(default_factory=list)

    async def open(self, settings: Settings = USUAL) -> PostgresStore:
        store = await open_postgres(self.databases.url(self.name), clock=StoppedClock(), settings=settings)
        self.stores.append(store)
        return store

    async def close(self, store: PostgresStore) -> None:
        self.stores.remove(store)
        await store.close()

    def vanish(self, store: PostgresStore) -> None:
        """As if the process had been killed: nothing is given back, nothing renewed."""
        store._membership._task.cancel()


@pytest.fixture
async def cluster(databases: Databases) -> AsyncIterator[Cluster]:
    cluster = Cluster(databases, await databases.create())
    yield cluster
    for store in list(cluster.stores):
        if store.failure is None:
            assert await store.check() == []
        await cluster.close(store)
    await databases.recycle(cluster.name)


def owned_by(look: Look, *, other: bool = False) -> EndpointKey:
    """An endpoint whose slot this look owns, or does not."""
    return next(
        key for key in (EndpointKey(f"e{n}", "u") for n in range(5000)) if (slot_of(key) in look.owned) is not other
    )


async def test_a_store_alone_has_every_slot_with_its_first_look(cluster: Cluster) -> None:
    store = await cluster.open()
    look = await store.peers.look()
    assert (look.owned, look.unwanted, dict(look.arrivals)) == (ALL, frozenset(), {})


async def test_slots_are_shared_out_when_one_joins_and_given_back_when_it_leaves(cluster: Cluster) -> None:
    first = await cluster.open()
    await shared_out(first)
    second = await cluster.open()
    assert (await first.peers.look()).unwanted == frozenset(), "one that has not looked gets nothing"
    looks = await shared_out(first, second)
    assert all(SLOTS // 4 < len(look.owned) < SLOTS * 3 // 4 for look in looks)
    third = await cluster.open()
    before = looks
    looks = await shared_out(first, second, third)
    assert looks[0].owned < before[0].owned
    assert looks[1].owned < before[1].owned
    await cluster.close(second)
    assert (await first.peers.look()).owned | (await third.peers.look()).owned == ALL


async def test_a_slot_is_not_taken_before_its_owner_lets_it_go(cluster: Cluster) -> None:
    first, second = await cluster.open(), await cluster.open()
    assert (await first.peers.look()).owned == ALL
    for _ in range(3):
        assert (await second.peers.look()).owned == frozenset()
    unwanted = (await first.peers.look()).unwanted
    assert unwanted
    some = frozenset(sorted(unwanted)[:3])
    await first.peers.let_go(some)
    assert (await first.peers.look()).unwanted == unwanted - some
    assert (await second.peers.look()).owned == some


async def test_one_that_leaves_step_by_step_gets_nothing_back(cluster: Cluster) -> None:
    first, second = await cluster.open(), await cluster.open()
    _, look = await shared_out(first, second)
    some = frozenset(sorted(look.owned)[:2])
    await second.peers.let_go(some)
    assert (await first.peers.look()).owned == ALL - look.owned | some
    await second.peers.let_go(look.owned)
    assert (await first.peers.look()).owned == ALL
    looks = await shared_out(first, second)
    assert looks[1].owned == look.owned, "it looks again, so it takes part again"


async def test_the_slots_of_one_that_vanished_are_taken_when_its_lease_has_lapsed(cluster: Cluster) -> None:
    first, second = await cluster.open(SHORT), await cluster.open(SHORT)
    _, others = await shared_out(first, second)
    endpoint = owned_by(others)
    given = event(endpoint, claimed=True)
    await second.accept([given])
    cluster.vanish(second)
    began = time.monotonic()
    while (await first.peers.look()).owned != ALL:
        assert time.monotonic() < began + 60
        assert second.failure is None
        await asyncio.sleep(0.02)
    assert time.monotonic() - began > SHORT.lease_seconds * 0.5, "not before"
    with pytest.raises(StoreUnavailable, match="taken over"):
        await second.record([attempt(delivery_id(given), endpoint=endpoint)], {})
    assert ids(await claim(first, endpoint)) == [delivery_id(given)]


async def test_one_in_the_middle_of_a_statement_is_not_taken_for_dead(cluster: Cluster) -> None:
    first, second = await cluster.open(SHORT), await cluster.open(SHORT)
    await shared_out(first, second)
    connection = await asyncpg.connect(cluster.databases.url(cluster.name))
    lock = "BEGIN; SELECT FROM hookstead.members WHERE owner = {} FOR NO KEY UPDATE"
    await connection.execute(lock.format(second._membership.owner))
    cluster.vanish(second)
    ends = time.monotonic() + SHORT.lease_seconds * 2
    while time.monotonic() < ends:
        assert (await first.peers.look()).owned != ALL
        await asyncio.sleep(0.02)
    await connection.execute("COMMIT")
    await connection.close()
    assert (await first.peers.look()).owned == ALL


async def test_a_lease_holds_until_its_time_is_up_and_again_with_the_next_batch(cluster: Cluster) -> None:
    store = await cluster.open(SHORT)

    def holds() -> bool:
        return store.peers.lease_holds

    cluster.vanish(store)
    assert holds()
    async with asyncio.timeout(60):
        while holds():
            await asyncio.sleep(0.02)
    await store.accept([event(A)])
    assert holds(), "nobody had noticed"


async def test_a_letting_go_that_comes_late_gives_nothing_away(cluster: Cluster) -> None:
    """Its connection broke, it was sent again, and the slot is held once more."""
    store = await cluster.open()
    await store.peers.look()
    terms = store.peers._terms
    await store.peers.let_go({7})
    assert 7 in (await store.peers.look()).owned
    await store.peers._link.fetch(
        "SELECT hookstead.let_go_1($1, $2, $3, $4)", store._membership.owner, [7], [terms[7]], True
    )
    assert (await store.peers.look()).owned == ALL


async def test_what_another_accepts_is_told_once_and_ones_own_never(cluster: Cluster) -> None:
    first, second = await cluster.open(), await cluster.open()
    await shared_out(first, second)
    await first.accept([event(A, B), event(A), event()])
    await second.accept([event(B)])
    assert dict((await first.peers.look()).arrivals) == {B: 1}
    assert dict((await second.peers.look()).arrivals) == {A: 2, B: 1}
    await first.accept([event(A)])
    assert dict((await first.peers.look()).arrivals) == {}
    assert dict((await second.peers.look()).arrivals) == {A: 1}
    assert dict((await second.peers.look()).arrivals) == {}


async def test_what_came_between_the_boot_and_the_first_look_is_told(cluster: Cluster) -> None:
    first, second = await cluster.open(), await cluster.open()
    await first.accept([event(A)])
    boot = await second.boot(recent_limit=5)
    assert boot.counts[A].pending == 1
    await first.accept([event(A), event(A)])
    assert dict((await second.peers.look()).arrivals) == {A: 2}


async def test_what_a_slots_memory_counts_is_not_told_as_having_arrived(cluster: Cluster) -> None:
    first, second = await cluster.open(), await cluster.open()
    await shared_out(first, second)
    other = next(key for key in (EndpointKey(f"x{n}", "u") for n in range(99)) if slot_of(key) != slot_of(A))
    await first.accept([event(A, other)])
    state = LaneState(consecutive_failures=3)
    await first.record([], {A: state, other: state})
    memory = await second.peers.memory({slot_of(A)}, recent_limit=5)
    assert {key: counts.pending for key, counts in memory.counts.items()} == {A: 1}
    assert (dict(memory.lanes), dict(memory.next_due_ms)) == ({A: state}, {A: NOW})
    await first.accept([event(A, other), event(A)])
    assert dict((await second.peers.look()).arrivals) == {A: 2, other: 2}
    everything = await second.peers.memory(ALL, recent_limit=5)
    assert {key: counts.pending for key, counts in everything.counts.items()} == {A: 3, other: 2}
    assert dict((await second.peers.look()).arrivals) == {}


async def test_requests_erasures_and_replays_of_others_are_told(cluster: Cluster) -> None:
    first, second = await cluster.open(), await cluster.open()
    await shared_out(first, second)
    given = [event(A, B), event(A), event()]
    await first.accept(given)
    await first.record([attempt(delivery_id(given[1]), DEAD)], {})
    await second.peers.look()

    await first.request_redelivery(delivery_id(given[1]), now_ms=NOW)
    assert dict((await second.peers.look()).arrivals) == {A: 0}

    await first.erase_payload(given[0].id, now_ms=NOW)
    look = await second.peers.look()
    assert {name: sorted(keys) for name, keys in look.erased.items()} == {given[0].id: [A, B]}
    assert dict(look.arrivals) == {}

    for uid, select in (("r1", ReplaySelect.FAILED), ("r2", ReplaySelect.ALL)):
        window = ReplayWindow(uid=uid, endpoint=A, select=select, since_ms=NOW, until_ms=NOW + 1)
        await first.begin_replay(uid, uid, now_ms=NOW)
        page = await first.replay_candidates(window, limit=10, with_data=False)
        made = [
            ReplayDelivery(
                event_id=one.event_id,
                delivery_id=one.delivery_id or f"dlv_{uid}{number}",
                rearm=one.delivery_id is not None,
                payload_format=PayloadFormat.STANDARD_WEBHOOKS,
                due_ms=NOW,
            )
            for number, one in enumerate(page.candidates)
        ]
        assert await first.advance_replay(window, page, made, now_ms=NOW) == len(made) > 0
        assert dict((await second.peers.look()).arrivals) == {A: len(made)}
    look = await first.peers.look()
    assert (dict(look.arrivals), dict(look.erased)) == ({}, {})


async def heard(store: PostgresStore, told: Callable[[], Awaitable[object]]) -> bool:
    """Whether the store hears of something that is told again and again, long before its time is up."""
    news = asyncio.ensure_future(store.peers.news(timeout_seconds=60))
    for _ in range(200):
        await told()
        done, _ = await asyncio.wait([news], timeout=0.05)
        if done:
            return True
    news.cancel()
    return False


async def test_whoever_has_something_to_do_hears_of_it(cluster: Cluster) -> None:
    first, second = await cluster.open(), await cluster.open()
    look, _ = await shared_out(first, second)
    for store in (first, second):
        await store.peers.news(timeout_seconds=0)

    theirs = owned_by(look, other=True)
    assert await heard(second, lambda: first.accept([event(theirs)]))
    await cluster.close(first)
    await second.peers.news(timeout_seconds=60)


async def test_a_hint_of_deliveries_asks_for_no_whole_look_and_such_a_look_tells_of_them_alone(
    cluster: Cluster,
) -> None:
    first, second = await cluster.open(), await cluster.open()
    look, others = await shared_out(first, second)
    for store in (first, second):
        await store.peers.news(timeout_seconds=0)
    theirs = owned_by(look, other=True)
    assert await heard(second, lambda: first.accept([event(theirs)]))
    while await second.peers.news(timeout_seconds=0.05):  # what else was told comes to an end
        await first.accept([event(theirs)])
    await first.peers.let_go([slot_of(owned_by(look))])
    assert await second.peers.news(timeout_seconds=60), "slots changed hands"
    found = await second.peers.look(whole=False)
    assert set(found.arrivals) == {theirs}
    assert found.owned == others.owned, "what is free is taken by a whole look"
    assert (await second.peers.look()).owned > others.owned


async def test_the_listener_comes_back_after_its_connection_broke(cluster: Cluster) -> None:
    first, second = await cluster.open(), await cluster.open()
    look, _ = await shared_out(first, second)
    for store in (first, second):
        await store.peers.news(timeout_seconds=0)
    theirs = owned_by(look, other=True)
    assert await heard(second, lambda: first.accept([event(theirs)]))
    rows = await cluster.databases.server.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'hookstead news'"
    )
    assert len(rows) == 2
    await second.peers.news(timeout_seconds=60)  # the connection's return is told, too: something may have been lost
    assert await heard(second, lambda: first.accept([event(theirs)]))
