"""Several stores at work on one database while slots change hands: nothing twice, nothing lost, nobody in the way."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest

from hookstead.config.model import RetentionPolicy
from hookstead.delivery.ports import Claim, EndpointKey, StoreUnavailable, Trigger, slot_of
from hookstead.gateway.system import SystemClock
from hookstead.store.postgres.opening import open_postgres
from hookstead.store.postgres.settings import Settings
from hookstead.store.postgres.store import PostgresStore
from store.postgres_fixtures import Databases
from store.postgres_proxy import Cut, Proxy
from store.samples import attempt, delivery_id, event

KEYS = [EndpointKey(f"e{number}", "u") for number in range(24)]
USUAL = Settings(readers=1)
SHORT = Settings(readers=1, lease_seconds=3.0)
ROUNDS = 4


@dataclass
class Books:
    """What all know together: who works for an endpoint now, and how often each delivery was attempted."""

    busy: dict[EndpointKey, object] = field(default_factory=dict)
    accepted: list[str] = field(default_factory=list)
    attempts: Counter[str] = field(default_factory=Counter)
    asked: set[str] = field(default_factory=set)
    """Deliveries with a manual attempt, which may have been the only one."""


class Worker:
    """A process in small: it accepts for anybody, and delivers for the slots that it owns."""

    def __init__(self, store: PostgresStore, books: Books, chance: random.Random) -> None:
        self.store = store
        self.books = books
        self.chance = chance
        self.stopping = False
        self.producing = True
        self.tasks = [asyncio.create_task(work) for work in (self.deliver(), self.produce(), self.keep_house())]

    async def produce(self) -> None:
        while self.producing:
            given = [event(*self.chance.sample(KEYS, 3), at=self.store.peers.clock.now_ms()) for _ in range(3)]
            await self.store.accept(given)
            self.books.accepted += [delivery.id for one in given for delivery in one.deliveries]
            if self.chance.random() < 0.2:
                await self.store.request_redelivery(delivery_id(given[0]), now_ms=self.store.peers.clock.now_ms())
            if self.chance.random() < 0.1:
                erased = event(*KEYS[:3], at=self.store.peers.clock.now_ms())
                await self.store.accept([erased])
                with contextlib.suppress(StoreUnavailable):  # a connection broke
                    await self.store.erase_payload(erased.id, now_ms=self.store.peers.clock.now_ms())
            await asyncio.sleep(0.005)

    async def keep_house(self) -> None:
        while self.producing:
            with contextlib.suppress(StoreUnavailable):
                await self.store.expire(RetentionPolicy(), now_ms=self.store.peers.clock.now_ms(), limit=100)
            await asyncio.sleep(0.05)

    async def deliver(self) -> None:
        while not self.stopping:
            await self.store.peers.news(timeout_seconds=0.2)
            with contextlib.suppress(StoreUnavailable):
                look = await self.store.peers.look()
                mine = [key for key in KEYS if slot_of(key) in look.owned]
                await asyncio.gather(*(self.work(key) for key in mine))
                await self.store.peers.let_go(look.unwanted)
        with contextlib.suppress(StoreUnavailable):  # leaving does the same
            await self.store.peers.let_go(range(256))

    async def work(self, key: EndpointKey) -> None:
        assert self.books.busy.setdefault(key, self) is self, "two at one endpoint"
        claim = Claim(jobs=())
        with contextlib.suppress(StoreUnavailable):  # what a broken claim took is given to the next
            claim = await self.store.claim(
                key, now_ms=self.store.peers.clock.now_ms(), limit=20, max_bytes=1 << 20, ordered=False
            )
        await asyncio.sleep(self.chance.random() / 100)
        for job in claim.jobs:
            if job.trigger is Trigger.MANUAL:
                self.books.asked.add(job.delivery_id)
            else:
                self.books.attempts[job.delivery_id] += 1
        await self.store.record([attempt(job, at=self.store.peers.clock.now_ms()) for job in claim.jobs], {})
        del self.books.busy[key]

    async def quiet(self) -> None:
        """No more events from this one."""
        self.producing = False
        await asyncio.gather(*self.tasks[1:])

    async def stop(self) -> None:
        await self.quiet()
        self.stopping = True
        await asyncio.gather(*self.tasks)
        await self.store.close()

    async def vanish(self) -> None:
        """As if it had been killed in the middle of its work."""
        self.store._membership._task.cancel()
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        self.books.busy = {key: who for key, who in self.books.busy.items() if who is not self}


@pytest.fixture
async def name(databases: Databases) -> AsyncIterator[str]:
    name = await databases.server.create(template="migrated")
    yield name
    await databases.drop(name)


async def deadlocks(databases: Databases, name: str) -> int:
    rows = await databases.server.execute(f"SELECT deadlocks FROM pg_stat_database WHERE datname = '{name}'")
    return int(rows[0][0])


async def all_ended(databases: Databases, name: str) -> None:
    async with asyncio.timeout(120):
        while True:
            rows = await databases.server.execute(
                "SELECT (SELECT count(*) FROM hookstead.pending) + (SELECT count(*) FROM hookstead.requests)",
                database=name,
            )
            if rows[0][0] == 0:
                return
            await asyncio.sleep(0.05)


async def opened(url: str, settings: Settings = USUAL) -> PostgresStore:
    return await open_postgres(url, clock=SystemClock(), settings=settings)


@pytest.mark.timeout(240)
async def test_slots_that_change_hands_under_load_repeat_and_lose_nothing(databases: Databases, name: str) -> None:
    books, chance = Books(), random.Random(11)
    workers = [Worker(await opened(databases.url(name)), books, random.Random(chance.random())) for _ in range(3)]
    for _ in range(ROUNDS):
        await asyncio.sleep(0.7)
        await workers.pop(chance.randrange(3)).stop()
        await asyncio.sleep(0.2)
        workers.append(Worker(await opened(databases.url(name)), books, random.Random(chance.random())))
    for worker in workers:
        await worker.quiet()
    await all_ended(databases, name)
    assert await workers[0].store.check() == []
    for worker in workers:
        await worker.stop()
    assert len(books.accepted) > 100
    assert books.attempts.keys() | books.asked >= set(books.accepted)
    assert set(books.attempts.values()) == {1}
    assert await deadlocks(databases, name) == 0


@pytest.mark.timeout(240)
async def test_connections_that_break_at_any_moment_repeat_and_lose_nothing_either(
    databases: Databases, name: str
) -> None:
    books, chance = Books(), random.Random(14)
    async with Proxy(databases.server.port) as proxy:
        url = f"postgresql://hookstead@127.0.0.1:{proxy.port}/{name}"
        workers = [Worker(await opened(url), books, random.Random(place)) for place in range(3)]
        for broken in range(3):
            for _ in range(12):
                proxy.cuts[chance.choice(["writer", "claims", "looks", "news", "lease"])] = chance.choice(list(Cut))
                await asyncio.sleep(0.1)
            if broken < 2:
                await workers.pop(0).stop()
                workers.append(Worker(await opened(url), books, random.Random(broken + 3)))
        proxy.cuts.clear()
        for worker in workers:
            await worker.quiet()
        await all_ended(databases, name)
        assert await workers[0].store.check() == []
        for worker in workers:
            await worker.stop()
    assert proxy.made > 10
    assert books.attempts.keys() | books.asked >= set(books.accepted)
    assert set(books.attempts.values()) == {1}
    assert await deadlocks(databases, name) == 0


@pytest.mark.timeout(240)
async def test_what_one_that_was_killed_had_taken_is_delivered_by_the_others(databases: Databases, name: str) -> None:
    books, chance = Books(), random.Random(12)
    workers = [
        Worker(await opened(databases.url(name), SHORT), books, random.Random(chance.random())) for _ in range(3)
    ]
    await asyncio.sleep(1.0)
    killed = workers.pop()
    await killed.vanish()
    await asyncio.sleep(SHORT.lease_seconds * 1.5)
    for worker in workers:
        await worker.quiet()
    await all_ended(databases, name)
    with pytest.raises(StoreUnavailable, match="taken over"):
        await killed.store.peers.look()
    assert await workers[0].store.check() == []
    for worker in (*workers, killed):
        await worker.store.close() if worker is killed else await worker.stop()
    assert books.attempts.keys() | books.asked >= set(books.accepted)
    assert await deadlocks(databases, name) == 0


async def test_arrivals_add_up_to_what_the_others_made(databases: Databases, name: str) -> None:
    """Nobody ends anything here, so that each new delivery is seen by each other process: once."""
    stores = [await opened(databases.url(name)) for _ in range(3)]
    for store in stores:
        await store.peers.look()
    made: list[Counter[EndpointKey]] = [Counter() for _ in stores]
    seen: list[Counter[EndpointKey]] = [Counter() for _ in stores]
    chance = random.Random(13)
    producing = True

    async def produce(place: int) -> None:
        for _ in range(60):
            given = [event(*chance.sample(KEYS, 2), at=stores[place].peers.clock.now_ms()) for _ in range(2)]
            await stores[place].accept(given)
            made[place].update(delivery.endpoint for one in given for delivery in one.deliveries)

    async def look(place: int) -> None:
        while producing:
            seen[place].update((await stores[place].peers.look()).arrivals)
            await asyncio.sleep(chance.random() / 50)
        seen[place].update((await stores[place].peers.look()).arrivals)

    lookers = [asyncio.create_task(look(place)) for place in range(3)]
    await asyncio.gather(*(produce(place) for place in (0, 1, 2, 0, 1, 2)))
    producing = False
    await asyncio.gather(*lookers)
    for place in range(3):
        others = sum((made[other] for other in range(3) if other != place), Counter())
        assert seen[place] == others
    for store in stores:
        await store.close()
