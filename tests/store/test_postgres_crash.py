"""PostgreSQL itself dies: what was answered is there when it is back, and the store goes on by itself."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator

import pytest

from hookstead.delivery.ports import Accepted, NewEvent, StoreUnavailable
from hookstead.store.postgres import ids
from hookstead.store.postgres.opening import open_postgres
from hookstead.store.postgres.settings import Settings
from hookstead.store.postgres.store import PostgresStore
from store.postgres_server import PostgresServer
from store.samples import A, StoppedClock, attempt, claim, delivery_id, event
from toolchain.binaries import ProgramMissingError, locate


@pytest.fixture(scope="module")
def durable_server() -> Iterator[PostgresServer]:
    try:
        locate("postgres")
    except ProgramMissingError as error:
        pytest.skip(str(error))
    with PostgresServer(durable=True) as server:
        yield server


class Load:
    def __init__(self, store: PostgresStore) -> None:
        self.store = store
        self.accepted: list[NewEvent] = []
        self.recorded: list[str] = []
        self.refused = 0
        self.running = True

    async def produce(self) -> None:
        while self.running:
            one = event(A, claimed=len(self.accepted) % 3 == 0)
            try:
                assert await self.store.accept([one]) == [Accepted(one.id, 1)]
                self.accepted.append(one)
                if one.deliveries[0].claimed:
                    assert await self.store.record([attempt(delivery_id(one))], {}) == [1]
                    self.recorded.append(delivery_id(one))
            except StoreUnavailable:
                self.refused += 1
                await asyncio.sleep(0.05)


async def restart(server: PostgresServer, *, how: signal.Signals) -> None:
    server.stop(how)
    await asyncio.sleep(0.2)
    server.launch()
    while not await server.answers():
        await asyncio.sleep(0.05)


@pytest.mark.parametrize("how", [signal.SIGQUIT, signal.SIGINT], ids=["crash", "restart"])
async def test_what_was_answered_outlives_the_end_of_the_server(
    durable_server: PostgresServer, how: signal.Signals
) -> None:
    name = await durable_server.create()
    store = await open_postgres(
        durable_server.url(name), clock=StoppedClock(), settings=Settings(readers=1, retry_seconds=30)
    )
    load = Load(store)
    producing = [asyncio.create_task(load.produce()) for _ in range(6)]
    for _ in range(2):
        await asyncio.sleep(0.5)
        before = len(load.accepted)
        await restart(durable_server, how=how)
        while len(load.accepted) == before:
            await asyncio.sleep(0.05)
    load.running = False
    await asyncio.gather(*producing)
    assert len(load.accepted) > 20
    assert await store.check() == []
    kept = {bytes(row[0]) for row in await durable_server.execute("SELECT id FROM hookstead.events", database=name)}
    assert {ids.pack("msg_", one.id) for one in load.accepted} <= kept
    counts = (await store.counts())[A]
    assert counts.delivered == len(load.recorded)
    assert counts.pending + counts.delivered >= len(load.accepted)
    assert len((await claim(store, limit=100_000, max_bytes=1 << 30)).jobs) == counts.pending, "nothing stays claimed"
    assert store.failure is None
    await store.close()
    await durable_server.drop(name)
