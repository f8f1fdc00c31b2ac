"""Several engines in one loop, over one store, in virtual time; one receiver sees what they send together."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec

import virtual_time
from builders import RUNNING
from engine_bench import ScriptedTransport, SeededRandom, event
from hookstead.config.model import DeliveryConfig, Epoch
from hookstead.config.report import Running
from hookstead.delivery.engine import Engine, EngineSettings
from hookstead.delivery.intake import IncomingEvent, PublishResult
from hookstead.delivery.ports import Accepted, AttemptRow, DeliveryQuery, DeliveryRow
from hookstead.store.sqlite.store import SQLiteStore
from integration.engine.shared_store import Hub, SharedStore
from virtual_time import Outstanding, VirtualClock


class Gateway:
    """One engine and its view of the store."""

    def __init__(self, bench: SharedBench, store: SharedStore) -> None:
        self.bench = bench
        self.store = store
        self.engine = Engine(
            store=store,
            transport=bench.transport,
            clock=bench.clock,
            random=bench.random,
            settings=bench.settings,
        )

    async def apply(self, config: DeliveryConfig, *, sequence: int = 1) -> None:
        await self.engine.apply(config, running=_running(sequence))

    async def publish(self, *events: IncomingEvent) -> Sequence[PublishResult]:
        answers = await self.engine.publish(events or (event(),))
        assert all(isinstance(answer, Accepted) for answer in answers), answers
        return answers

    async def kill(self) -> None:
        """As SIGKILL would: nothing it does has an effect any more."""
        self.bench.gateways.remove(self)
        self.store.died_at = self.bench.clock.seconds
        await self.engine.stop()

    async def stop(self, *, deadline_seconds: float = 30) -> None:
        """As SIGTERM would; who publishes goes to the others at once."""
        self.bench.gateways.remove(self)
        await self.engine.drain(deadline_seconds=deadline_seconds)
        await self.engine.stop()
        await self.store.close()

    @property
    def owned(self) -> set[str]:
        return {lane.key.name for lane in self.engine._dispatcher.lanes.values() if lane.owned}

    def owns(self, name: str) -> bool:
        return name in self.owned


class SharedBench:
    """Gateways come and go by `start`, `Gateway.stop` and `Gateway.kill`."""

    def __init__(self, path: Path, clock: VirtualClock) -> None:
        self.path = path
        self.clock = clock
        self.random = SeededRandom()
        self.transport = ScriptedTransport(clock)
        self.settings = EngineSettings(user_agent="Hookstead/test", housekeeping_seconds=3600.0)
        self.outstanding: Outstanding | None = None
        self.gateways: list[Gateway] = []

    def open(self) -> None:
        self.outstanding = Outstanding(SQLiteStore(self.path, clock=self.clock, min_free_bytes=0))
        self.hub = Hub(self.outstanding, self.clock)

    async def start(self, config: DeliveryConfig, *, sequence: int = 1) -> Gateway:
        gateway = Gateway(self, self.hub.join())
        await gateway.engine.start()
        await gateway.apply(config, sequence=sequence)
        self.gateways.append(gateway)
        return gateway

    async def settle(self, seconds: float = 3.0) -> None:
        """Long enough for looks, letting go and taking over; then everything has exactly one owner."""
        await asyncio.sleep(seconds)
        owned = Counter(name for gateway in self.gateways for name in gateway.owned)
        assert set(owned.values()) <= {1}, owned
        assert len(self.hub.owners) == 256

    async def deliveries(self, **query: Any) -> list[DeliveryRow]:
        """Oldest first."""
        assert self.outstanding is not None
        found: list[DeliveryRow] = []
        cursor: str | None = None
        while True:
            page = await self.outstanding.deliveries(DeliveryQuery(**query), cursor=cursor, limit=250)
            found += page.items
            cursor = page.next_cursor
            if cursor is None:
                return found[::-1]

    async def attempts(self, delivery_id: str) -> Sequence[AttemptRow]:
        assert self.outstanding is not None
        found = await self.outstanding.delivery(delivery_id)
        assert found is not None
        rows: Sequence[AttemptRow] = found[1]
        return rows

    def sent(self, name: str | None = None) -> Counter[tuple[str, str]]:
        """How often each event went to each endpoint."""
        return Counter((one.endpoint, one.message_id) for one in self.transport.sent if name in (None, one.endpoint))


def _running(sequence: int) -> Running:
    return msgspec.structs.replace(RUNNING, epoch=Epoch(term=1, sequence=sequence))


def on_shared_bench(path: Path, scenario: Callable[[SharedBench], Awaitable[None]]) -> SharedBench:
    """Run a scenario; at its end nobody may have done what was not his, and the store must be well."""
    clock = VirtualClock()
    bench = SharedBench(path, clock)

    async def main() -> None:
        bench.open()
        await scenario(bench)
        for gateway in tuple(bench.gateways):
            await gateway.stop()
        assert bench.hub.faults == []
        assert bench.outstanding is not None
        assert await bench.outstanding.check() == []
        await bench.outstanding.close()

    virtual_time.run(
        main, clock=clock, outstanding=lambda: bench.outstanding is not None and bench.outstanding.count > 0
    )
    return bench
