"""What members tell one another over a real database, whatever its limits, and whatever breaks."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

import pytest

from hookstead.delivery.ports import Relay
from hookstead.store.postgres.opening import open_postgres
from hookstead.store.postgres.settings import Settings
from hookstead.store.postgres.store import PostgresStore
from store.postgres_fixtures import Databases
from store.samples import StoppedClock

USUAL = Settings(readers=1, database_clock=False)
LONG = "x" * 20_000


@dataclass
class Listener:
    heard: list[str] = field(default_factory=list)
    lost: list[int | None] = field(default_factory=list)

    def hear(self, messages: object, lost: int | None) -> None:
        assert isinstance(messages, tuple)
        self.heard += messages
        if lost != 0:
            self.lost.append(lost)

    async def until(self, look: Callable[[], bool]) -> None:
        async with asyncio.timeout(30):
            while not look():
                await asyncio.sleep(0.01)


@pytest.fixture
async def stores(databases: Databases, name: str) -> AsyncIterator[list[PostgresStore]]:
    """Two, connected for their hints, as engines have them."""
    opened = [await open_postgres(databases.url(name), clock=StoppedClock(), settings=USUAL) for _ in range(2)]
    for store in opened:
        await store.peers.look()
        await store.peers.news(timeout_seconds=30)
    yield opened
    for store in opened:
        await store.close()


def relays(stores: list[PostgresStore]) -> list[Relay]:
    found = [store.relay for store in stores if store.relay is not None]
    assert len(found) == len(stores)
    return found


async def test_messages_of_any_size_and_number_arrive_whole_and_in_order(stores: list[PostgresStore]) -> None:
    reader, other = relays(stores)
    listener = Listener()
    await reader.listen(listener.hear)
    told = [f"{number} {LONG if number % 100 == 0 else 'y'}" for number in range(1000)] + ["same", "same"]
    for message in told:
        other.tell(message)
    await listener.until(lambda: len(listener.heard) >= len(told))
    assert listener.heard == told
    assert listener.lost == []


async def test_over_connections_that_break_again_and_again_nothing_arrives_twice_and_what_is_missing_is_told(
    stores: list[PostgresStore], databases: Databases, name: str
) -> None:
    reader, other = relays(stores)
    listener = Listener()
    await reader.listen(listener.hear)
    chance = random.Random(7)
    told = 0
    for _ in range(12):
        for _ in range(chance.randrange(1, 200)):
            other.tell(str(told))
            told += 1
            if chance.random() < 0.05:
                await asyncio.sleep(chance.random() * 0.02)
        await databases.server.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            f" WHERE datname = '{name}' AND application_name = 'hookstead news' ORDER BY random() LIMIT 1"
        )
        await asyncio.sleep(chance.random() * 0.1)

    def last_arrived() -> bool:
        other.tell("end")
        return "end" in listener.heard

    async with asyncio.timeout(30):
        while not last_arrived():
            await asyncio.sleep(0.1)
    numbers = [int(line) for line in listener.heard if line != "end"]
    assert numbers == sorted(set(numbers))
    if len(numbers) < told:
        assert None in listener.lost or sum(lost or 0 for lost in listener.lost) >= told - len(numbers)
