"""An engine on a test bench: the real store, virtual time, receivers that follow a script."""

from __future__ import annotations

import asyncio
import random
from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import virtual_time
from builders import RUNNING
from hookstead.config.model import DeliveryConfig
from hookstead.delivery.engine import Engine, EngineSettings
from hookstead.delivery.intake import IncomingEvent, PublishResult
from hookstead.delivery.ports import (
    AttemptRow,
    DeliveryQuery,
    DeliveryRow,
    EndpointKey,
    ErrorCode,
    OutboundRequest,
    SendResult,
)
from hookstead.store.sqlite.store import SQLiteStore
from virtual_time import Outstanding, VirtualClock


class SeededRandom:
    """`hookstead.delivery.ports.Random` from a seed; ids are of the production form."""

    def __init__(self, seed: int = 1, *, jitter: float | None = 0.0) -> None:
        self._random = random.Random(seed)
        self._jitter = jitter
        self._next = 0

    def jitter(self) -> float:
        return self._random.uniform(-1, 1) if self._jitter is None else self._jitter

    def _id(self, prefix: str) -> str:
        self._next += 1
        return f"{prefix}{self._next:016x}{self._random.getrandbits(64):016x}"

    def event_id(self) -> str:
        return self._id("msg_")

    def delivery_id(self) -> str:
        return self._id("dlv_")


OK = SendResult(status_code=200)


def status(code: int, *, retry_after: str | None = None, body: bytes = b"") -> SendResult:
    return SendResult(status_code=code, retry_after=retry_after, body=body)


def broken(error: ErrorCode) -> SendResult:
    return SendResult(error=error, message=f"{error.value} on purpose")


@dataclass(frozen=True, slots=True)
class Sent:
    """One request that reached a scripted receiver, at a virtual second."""

    at: float
    request: OutboundRequest

    @property
    def endpoint(self) -> str:
        return self.request.endpoint.name

    @property
    def message_id(self) -> str:
        return dict(self.request.headers)["webhook-id"]


@dataclass
class ScriptedTransport:
    """Answers by endpoint: a list is used up answer by answer, then its last one repeats."""

    clock: VirtualClock
    scripts: dict[str, list[SendResult]] = field(default_factory=dict)
    seconds: float = 0.01
    sent: list[Sent] = field(default_factory=list)
    under_way: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    most_under_way: dict[str, int] = field(default_factory=lambda: defaultdict(int))

    async def send(self, request: OutboundRequest) -> SendResult:
        name = request.endpoint.name
        self.sent.append(Sent(self.clock.seconds, request))
        self.under_way[name] += 1
        self.most_under_way[name] = max(self.most_under_way[name], self.under_way[name])
        try:
            await asyncio.sleep(self.seconds)
        finally:
            self.under_way[name] -= 1
        script = self.scripts.get(name, [OK])
        return script.pop(0) if len(script) > 1 else script[0]

    def forget(self, endpoint: EndpointKey) -> None:
        return

    async def close(self) -> None:
        return

    def times(self, endpoint: str) -> list[float]:
        return [round(sent.at, 1) for sent in self.sent if sent.endpoint == endpoint]


class Bench:
    """Life, use and inspection of one engine over one store file."""

    def __init__(self, path: Path, clock: VirtualClock, *, seed: int = 1, jitter: float | None = 0.0) -> None:
        self.path = path
        self.clock = clock
        self.random = SeededRandom(seed, jitter=jitter)
        self.transport = ScriptedTransport(clock)
        self.outstanding: Outstanding | None = None
        self.settings = EngineSettings(user_agent="Hookstead/test", housekeeping_seconds=3600.0)

    async def start(self, config: DeliveryConfig) -> None:
        await self.boot()
        await self.engine.apply(config, running=RUNNING)

    async def boot(self) -> None:
        """Up, but without a configuration."""
        self.outstanding = Outstanding(SQLiteStore(self.path, clock=self.clock, min_free_bytes=0))
        self.store: Any = self.outstanding
        self.engine = Engine(
            store=self.store,
            transport=self.transport,
            clock=self.clock,
            random=self.random,
            settings=self.settings,
        )
        await self.engine.start()

    async def crash(self) -> None:
        """End without draining; what was in flight is forgotten."""
        await self.engine.stop()
        await self.store.close()

    async def stop(self) -> None:
        await self.engine.drain(deadline_seconds=30)
        await self.crash()

    async def apply(self, config: DeliveryConfig) -> None:
        await self.engine.apply(config, running=RUNNING)

    async def publish(self, *events: IncomingEvent) -> Sequence[PublishResult]:
        return await self.engine.publish(events or (event(),))

    async def pass_time(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    async def deliveries(self, **query: Any) -> list[DeliveryRow]:
        """Oldest first."""
        page = await self.store.deliveries(DeliveryQuery(**query), cursor=None, limit=250)
        return list(reversed(page.items))

    async def attempts(self, delivery_id: str) -> Sequence[AttemptRow]:
        found = await self.store.delivery(delivery_id)
        assert found is not None
        rows: Sequence[AttemptRow] = found[1]
        return rows

    async def lawful(self) -> None:
        """Integrity and the conservation law."""
        assert await self.store.check() == []


def event(event_type: str = "t", data: bytes = b"{}", **fields: Any) -> IncomingEvent:
    return IncomingEvent(type=event_type, data=data, **fields)


def on_bench(
    path: Path, scenario: Callable[[Bench], Awaitable[None]], *, seed: int = 1, jitter: float | None = 0.0
) -> Bench:
    """Run a scenario in virtual time over a store at `path`; the scenario starts and stops the engine."""
    clock = VirtualClock()
    bench = Bench(path, clock, seed=seed, jitter=jitter)

    async def main() -> None:
        await scenario(bench)

    virtual_time.run(
        main, clock=clock, outstanding=lambda: bench.outstanding is not None and bench.outstanding.count > 0
    )
    return bench
