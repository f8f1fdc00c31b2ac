"""Random courses of several engines over one store: gateways come, drain and die, hints are lost, the store is away."""

from __future__ import annotations

import asyncio
import json
import random
from pathlib import Path
from typing import Any

import pytest

from builders import config, endpoint
from engine_bench import OK, event, status
from hookstead.config.model import DeliveryConfig
from hookstead.delivery.ports import Accepted, DeliveryStatus
from hookstead.resources.kinds import DeliverySpec, EndpointState, Ordering, RetrySpec
from integration.engine.shared_bench import Gateway, SharedBench, on_shared_bench

SEEDS = 12
AT_ONCE = 4
RETRY = RetrySpec(schedule_seconds=(1, 2, 2, 2, 5, 5))
SPECS = {
    "wide": DeliverySpec(retry=RETRY),
    "narrow": DeliverySpec(max_in_flight=2, retry=RETRY),
    "ordered": DeliverySpec(ordering=Ordering.ORDERED, retry=RETRY),
    "paced": DeliverySpec(requests_per_second=5, retry=RETRY),
}
NAMES = [f"{kind}-{number}" for kind in SPECS for number in range(3)]


class Course:
    """One seed. What was accepted must be delivered in the end, or cancelled where somebody saw to that."""

    def __init__(self, bench: SharedBench, seed: int) -> None:
        self.bench = bench
        self.chance = random.Random(seed)
        self.sequence = 1
        self.paused: set[str] = set()
        self.erased: set[str] = set()
        self.accepted: dict[str, int] = {}
        self.killed: set[tuple[str, str]] = set()
        self.asked: set[tuple[str, str]] = set()
        self.published = 0

    def config(self) -> DeliveryConfig:
        def one(name: str) -> Any:
            state = EndpointState.PAUSED if name in self.paused else EndpointState.ENABLED
            return endpoint(name, delivery=SPECS[name.split("-")[0]], state=state)

        return config(*map(one, NAMES))

    async def run(self) -> None:
        bench, chance = self.bench, self.chance
        bench.hub.hints = chance.random() < 0.7
        bench.transport.seconds = chance.choice((0.01, 0.3, 2.0))
        for name in chance.sample(NAMES, 4):
            bench.transport.scripts[name] = [chance.choice((OK, status(500))) for _ in range(5)] + [OK]
        for _ in range(chance.randint(1, 3)):
            await bench.start(self.config())
        actions = [self.publish] * 8 + [self.join, self.drain, self.kill, self.pause, self.redeliver, self.erase]
        for _ in range(40):
            await chance.choice([*actions, self.outage])()
            await asyncio.sleep(chance.choice((0.0, 0.01, 0.3, 1.0, 3.0)))
        await self.peace()

    def _any(self) -> Gateway:
        return self.chance.choice(self.bench.gateways)

    async def publish(self) -> None:
        gateway = self._any()
        numbers = range(self.published, self.published + self.chance.randint(1, 5))
        self.published = numbers.stop
        answers = await gateway.engine.publish([event(data=b"%d" % number) for number in numbers])
        for number, answer in zip(numbers, answers, strict=True):
            if isinstance(answer, Accepted):
                self.accepted[answer.id] = number

    async def join(self) -> None:
        if len(self.bench.gateways) < 4:
            await self.bench.start(self.config(), sequence=self.sequence)

    async def drain(self) -> None:
        if len(self.bench.gateways) > 1:
            await self._any().stop()

    async def kill(self) -> None:
        if len(self.bench.gateways) > 1:
            await self._kill(self._any())

    async def _kill(self, gateway: Gateway) -> None:
        """What it had claimed may have been sent, and is not recorded."""
        held = {(key.name, delivery) for delivery, key in gateway.store.claims.items()}
        await gateway.kill()
        rows = {row.id: row for row in await self.bench.deliveries()}
        self.killed |= {(name, rows[delivery].event_id) for name, delivery in held if delivery in rows}

    async def pause(self) -> None:
        self.paused ^= {self.chance.choice(NAMES)}
        self.sequence += 1
        chosen = self.config()
        for gateway in list(self.bench.gateways):
            await gateway.apply(chosen, sequence=self.sequence)
            await asyncio.sleep(self.chance.choice((0.0, 0.05)))

    async def redeliver(self) -> None:
        rows = await self.bench.deliveries()
        for row in self.chance.sample(rows, min(2, len(rows))):
            self.asked.add((row.endpoint, row.event_id))
            await self._any().engine.redeliver(row.id)

    async def erase(self) -> None:
        if self.accepted and self.chance.random() < 0.5:
            chosen = self.chance.choice(list(self.accepted))
            self.erased.add(chosen)
            assert await self._any().engine.erase(chosen)

    async def outage(self) -> None:
        """Of one gateway, shorter than its lease."""
        gateway = self._any()
        gateway.store.away = True
        await asyncio.sleep(self.chance.choice((0.1, 2.0)))
        gateway.store.away = False

    async def peace(self) -> None:
        bench = self.bench
        self.paused.clear()
        self.sequence += 1
        for gateway in bench.gateways:
            await gateway.apply(self.config(), sequence=self.sequence)
        for _ in range(60):
            await asyncio.sleep(5)
            if not await bench.deliveries(status=DeliveryStatus.PENDING):
                break
        await bench.settle(8)
        self.judge(await bench.deliveries())
        await self._balance()

    def judge(self, rows: list[Any]) -> None:
        bench = self.bench
        wrong = [row for row in rows if row.status is not DeliveryStatus.DELIVERED and row.event_id not in self.erased]
        assert wrong == []
        assert {row.event_id for row in rows} >= self.accepted.keys()
        by_key = {(row.endpoint, row.event_id): row for row in rows}
        for key, times in bench.sent().items():
            if times > by_key[key].attempt_count:
                assert key in self.killed, f"{key} was sent {times} times, {by_key[key].attempt_count} are recorded"
        for name in NAMES:
            limit = {"narrow": 2, "ordered": 1}.get(name.split("-")[0])
            if limit is not None and not self.asked:
                assert bench.transport.most_under_way[name] <= limit, name
        self._order()

    def _order(self) -> None:
        for name in NAMES:
            if not name.startswith("ordered"):
                continue
            first = [
                json.loads(one.request.body)["data"]
                for one in self.bench.transport.sent
                if one.endpoint == name and (name, one.message_id) not in self.asked
            ]
            kept = list(dict.fromkeys(first))
            assert kept == sorted(kept), name

    async def _balance(self) -> None:
        """Every engine shows what the store counts, and holds nothing."""
        bench = self.bench
        assert bench.outstanding is not None
        counts = await bench.outstanding.counts()
        for gateway in bench.gateways:
            for lane in gateway.engine._dispatcher.lanes.values():
                assert not lane.is_busy, lane.key
                assert lane.activity.counts == counts[lane.key]
            assert gateway.engine._budget.jobs == 0
            assert gateway.store.claims == {}


def _run(tmp_path: Path, seed: int) -> None:
    async def scenario(bench: SharedBench) -> None:
        await Course(bench, seed).run()

    try:
        on_shared_bench(tmp_path / f"{seed}.db", scenario)
    except BaseException as error:
        error.add_note(f"seed {seed}")
        raise


@pytest.mark.parametrize("first", range(0, SEEDS, AT_ONCE))
def test_every_promise_holds_over_all_gateways_whatever_comes(tmp_path: Path, first: int) -> None:
    for seed in range(first, first + AT_ONCE):
        _run(tmp_path, seed)
