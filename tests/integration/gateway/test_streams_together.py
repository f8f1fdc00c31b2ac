"""The activity stream where several gateways share a database: whoever is asked shows what happens at all of them."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import asyncpg
import pytest

from builders import endpoint
from cluster.child import free_port
from faults.gateway_process import home, until
from faults.sink import Sink, sink
from hookstead.gateway.stream import HOLD_SECONDS
from hookstead.resources.kinds import CircuitBreaker, DeliverySpec, RetrySpec
from hookstead.store.postgres.audience import SURE_SECONDS
from hookstead.store.postgres.relay import DEBOUNCE_SECONDS, TOLD, WISHES
from integration.gateway.gateway_bench import Bench, Place, running
from integration.gateway.test_processes import both, publish
from store.postgres_fixtures import Databases
from store.test_postgres_pooler import Pooler, pooler

__all__ = ["pooler"]

EVENTS = 8
ENDPOINTS = 16
"""Of so many, each of two gateways has some, but for once in 32,768 times."""
WAIT_SECONDS = 30.0


@dataclass
class Reader:
    """What came over one stream so far, by name."""

    seen: list[tuple[str, dict[str, Any]]] = field(default_factory=list)

    async def read(self, response: aiohttp.ClientResponse) -> None:
        name = ""
        async for raw in response.content:
            field_, _, value = raw.decode().rstrip("\n").partition(": ")
            if field_ == "event":
                name = value
            elif field_ == "data":
                self.seen.append((name, json.loads(value)))

    def of(self, name: str) -> list[dict[str, Any]]:
        return [data for told, data in self.seen if told == name]

    async def until(self, look: Callable[[], bool], *, what: str) -> None:
        async def looked() -> bool:
            return look()

        await until(looked, what=f"{what} among {Counter(name for name, _ in self.seen)}", seconds=WAIT_SECONDS)

    def is_whole(self, events: set[str], endpoints: int) -> None:
        """Each event was told once, with two attempts and one end for each endpoint, and nothing was missed."""
        assert Counter(one["id"] for one in self.of("event.accepted")) == dict.fromkeys(events, 1)
        attempts = Counter((one["id"], one["attempt"], one["outcome"]) for one in self.of("attempt"))
        ends = Counter((one["id"], one["status"]) for one in self.of("delivery.finished"))
        deliveries = {delivery for delivery, _ in ends}
        assert len(deliveries) == len(events) * endpoints
        assert ends == {(delivery, "Delivered"): 1 for delivery in deliveries}
        outcomes = ((1, "Failed"), (2, "Succeeded"))
        assert attempts == {(delivery, *outcome): 1 for delivery in deliveries for outcome in outcomes}
        assert self.of("missed") == []

    def is_in_order(self) -> None:
        """Where each event was published when the one before had ended."""
        names = [name for name, _ in self.seen]
        each = 1 + 3 * ENDPOINTS
        assert set(names[::each]) == {"event.accepted"}, names
        assert names.count("event.accepted") * each == len(names)


@contextlib.asynccontextmanager
async def reading(url: str) -> AsyncIterator[Reader]:
    """A reader from the moment at which the answer begins."""
    timeout = aiohttp.ClientTimeout(total=None)
    async with aiohttp.ClientSession(timeout=timeout) as session, session.get(f"{url}/v1/activity/stream") as response:
        assert response.status == 200
        reader = Reader()
        task = asyncio.create_task(reader.read(response))
        try:
            yield reader
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


def endpoints(receiver: Sink) -> list[Any]:
    """Each refuses what comes for the first time."""
    receiver.statuses = {f"/{number}": (500, 204) for number in range(ENDPOINTS)}
    once_more = DeliverySpec(retry=RetrySpec(schedule_seconds=(1,)), circuit_breaker=CircuitBreaker.NONE)
    return [endpoint(f"e-{number}", url=f"{receiver.url}/{number}", delivery=once_more) for number in range(ENDPOINTS)]


async def shared_out(url: str) -> None:
    """Until two gateways have slots, and nobody has none."""

    async def divided() -> bool:
        connection = await asyncpg.connect(url)
        try:
            rows = await connection.fetch("SELECT owner, count(*) FROM hookstead.slots GROUP BY owner")
        finally:
            await connection.close()
        return len(rows) == 2 and all(owner is not None for owner, _ in rows)

    await until(divided, what="two gateways that share the endpoints", seconds=WAIT_SECONDS)


@contextlib.asynccontextmanager
async def two(database: str, receiver: Sink, *, store: str = "") -> AsyncIterator[tuple[Bench, Bench]]:
    """Both on `store`, which is the way to the database if there is no other."""
    objects, place = endpoints(receiver), Place(store or database)
    async with running(place, *objects) as first, running(place, *objects) as second:
        await shared_out(database)
        yield first, second


async def publish_at(bench: Bench, count: int = EVENTS) -> set[str]:
    return {(await bench.publish()).json["id"] for _ in range(count)}


async def attempts_of(bench: Bench) -> int:
    text = (await bench.get(f"{bench.admin}/metrics")).body.decode()
    lines = [line for line in text.splitlines() if line.startswith("hookstead_attempts_total{")]
    return sum(int(float(line.rpartition(" ")[2])) for line in lines)


def ended(reader: Reader, count: int) -> Callable[[], bool]:
    return lambda: len(reader.of("delivery.finished")) >= count


def missed(reader: Reader, count: int) -> Callable[[], bool]:
    return lambda: len(reader.of("missed")) >= count


@pytest.fixture(params=["", "around a pooler"])
def store(request: pytest.FixtureRequest, database: str, databases: Databases) -> str:
    """The address that gateways are given."""
    if not request.param:
        return database
    behind: Pooler = request.getfixturevalue("pooler")
    return f"{behind.url(database.rpartition('/')[2])}&direct=127.0.0.1:{databases.server.port}"


async def test_a_reader_at_either_sees_what_happens_at_both_once(store: str, database: str) -> None:
    async with sink() as receiver, two(database, receiver, store=store) as (first, second):
        async with reading(first.base) as here, reading(second.base) as there:
            events = await publish_at(second) | await publish_at(first, 2)
            for reader in (here, there):
                await reader.until(ended(reader, len(events) * ENDPOINTS), what="an end of each delivery")
                reader.is_whole(events, ENDPOINTS)
            del here.seen[:], there.seen[:]
            for count in range(1, 4):
                await publish_at((first, second)[count % 2], 1)
                for reader in (here, there):
                    await reader.until(ended(reader, count * ENDPOINTS), what="an end of each delivery")
            for reader in (here, there):
                reader.is_in_order()
        assert min([await attempts_of(bench) for bench in (first, second)]) > 0, "each delivers to some"


@contextlib.asynccontextmanager
async def overhearing(url: str) -> AsyncIterator[list[tuple[str, str]]]:
    """All that is notified for the sake of streams."""
    notes: list[tuple[str, str]] = []
    connection = await asyncpg.connect(url)
    try:
        for channel in (TOLD, WISHES):
            await connection.add_listener(channel, lambda _, __, on, line: notes.append((on, line)))
        yield notes
    finally:
        await connection.close()


async def test_nothing_is_notified_before_somebody_reads_and_after(database: str) -> None:
    async with sink() as receiver, two(database, receiver) as (first, second), overhearing(database) as notes:
        published = 0

        async def publish_unread() -> list[tuple[str, str]]:
            nonlocal published
            await asyncio.sleep(SURE_SECONDS)  # each asks once whether somebody reads, when it comes
            notes.clear()
            await publish_at(second, 3)
            published += 3
            await first.until(all_delivered)
            await asyncio.sleep(HOLD_SECONDS + 4 * DEBOUNCE_SECONDS)
            return [(on, line) for on, line in notes if not line.endswith(" asks")]

        async def all_delivered() -> bool:
            return receiver.seen.total() == 2 * ENDPOINTS * published

        async def has_ended() -> bool:
            nonlocal published
            await publish_at(first, 1)  # that a reader is gone is noticed when something is sent to it
            published += 1
            await asyncio.sleep(0.1)
            return any(line.endswith(" wants 0 0") for _, line in notes)

        assert await publish_unread() == []
        async with reading(first.base) as reader:
            events = await publish_at(second, 1)
            published += 1
            await reader.until(ended(reader, ENDPOINTS), what="what happened at the other")
            reader.is_whole(events, ENDPOINTS)
        assert {channel for channel, _ in notes} == {TOLD, WISHES}
        await until(has_ended, what="the end of reading told")
        assert await publish_unread() == []


async def test_after_a_connection_broke_readers_hear_that_and_what_happens_then(
    database: str, databases: Databases
) -> None:
    async with sink() as receiver, two(database, receiver) as (first, second), reading(first.base) as reader:
        for lost in range(1, 3):
            await databases.server.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'hookstead news'"
            )
            await reader.until(missed(reader, lost), what="that something may be missing")
        assert reader.of("missed") == [{"count": None}] * 2
        del reader.seen[:]
        events = await publish_at(second)
        await reader.until(ended(reader, len(events) * ENDPOINTS), what="an end of each delivery")
        reader.is_whole(events, ENDPOINTS)


async def test_what_was_told_last_before_a_gateway_ended_is_not_lost(database: str) -> None:
    async with (
        sink() as receiver,
        running(Place(database), *endpoints(receiver)) as first,
        reading(first.base) as reader,
    ):
        async with running(Place(database), *endpoints(receiver)) as second:
            await shared_out(database)
            events = await publish_at(second)
        await reader.until(ended(reader, EVENTS * ENDPOINTS), what="an end of each delivery")
        reader.is_whole(events, ENDPOINTS)


async def test_processes_of_one_host_have_one_stream(tmp_path: Path, database: str) -> None:
    async with sink() as receiver, home(tmp_path, *endpoints(receiver), url=database) as place:
        port = free_port()
        life = await both(place, port=port)
        await shared_out(database)
        async with reading(f"http://127.0.0.1:{port}") as reader:
            events = {await publish(port, number) for number in range(EVENTS)}
            await reader.until(ended(reader, EVENTS * ENDPOINTS), what="an end of each delivery")
            reader.is_whole(events, ENDPOINTS)
        life.kill()


async def test_a_way_around_a_pooler_that_is_closed_is_missed_by_hints_and_streams_only(
    pooler: Pooler, database: str, caplog: pytest.LogCaptureFixture
) -> None:
    store = f"{pooler.url(database.rpartition('/')[2])}&direct=127.0.0.1:{free_port()}"

    async def complaints() -> bool:
        said = [one.levelname for one in caplog.records if "no connection to listen to other gateways" in one.message]
        return said.count("WARNING") == 2  # one for each gateway

    async with sink() as receiver, two(database, receiver, store=store) as (first, second):
        async with reading(first.base) as reader:
            events = await publish_at(first)
            await reader.until(lambda: len(reader.of("event.accepted")) == EVENTS, what="its own acceptances")
            assert {one["id"] for one in reader.of("event.accepted")} == events
        await publish_at(second)

        async def delivered() -> bool:
            return len({message for message, count in receiver.seen.items() if count == 2}) == 2 * EVENTS * ENDPOINTS

        await until(delivered, what="two attempts of each delivery")
        await until(complaints, what="a warning of each")


async def test_behind_a_pooler_a_stream_shows_its_own_gateway(pooler: Pooler, database: str) -> None:
    url = pooler.url(database.rpartition("/")[2])
    async with sink() as receiver, running(Place(url), *endpoints(receiver)) as first, reading(first.base) as reader:
        events = await publish_at(first)
        await reader.until(ended(reader, EVENTS * ENDPOINTS), what="an end of each delivery")
        reader.is_whole(events, ENDPOINTS)
