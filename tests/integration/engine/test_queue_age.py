"""Queue age over the whole engine, in virtual time: it grows with what the process leaves lying, and goes with it."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from builders import config, endpoint
from engine_bench import Bench, ScriptedTransport, event, on_bench, status
from hookstead.delivery.ports import OutboundRequest, SendResult
from hookstead.resources.kinds import DeliverySpec, EndpointState

NARROW = DeliverySpec(max_in_flight=1, timeout_seconds=60)


class SlowForOne(ScriptedTransport):
    async def send(self, request: OutboundRequest) -> SendResult:
        if request.endpoint.name == "slow":
            await asyncio.sleep(20)
        return await super().send(request)


def test_it_is_the_age_of_what_waits_in_memory_or_in_the_store(tmp_path: Path) -> None:
    async def scenario(b: Bench) -> None:
        b.transport.seconds = 10.0
        await b.start(config(endpoint("a", delivery=NARROW)))
        assert b.engine.metrics().queue_age_ms == 0
        for _ in range(8):
            await b.publish()
        await b.pass_time(35)
        # Three of eight are done, one is under way: the others have waited all the time.
        assert b.engine.metrics().queue_age_ms == pytest.approx(35_000, abs=6_000)
        await b.pass_time(60)
        assert b.engine.metrics().queue_age_ms == 0
        assert len(b.transport.sent) == 8
        await b.stop()

    on_bench(tmp_path / "store.db", scenario)


def test_a_process_without_room_for_jobs_shows_what_it_leaves_in_the_store(tmp_path: Path) -> None:
    async def scenario(b: Bench) -> None:
        b.settings = replace(b.settings, memory_jobs=1, attempts=1)
        b.transport.seconds = 5.0
        await b.start(config(*(endpoint(name, delivery=NARROW) for name in "abc")))
        for _ in range(6):
            await b.publish()
        await b.pass_time(22)
        assert b.engine.metrics().queue_age_ms == pytest.approx(22_000, abs=6_000)
        await b.pass_time(300)
        assert b.engine.metrics().queue_age_ms == 0
        await b.stop()

    on_bench(tmp_path / "store.db", scenario)


def test_one_slow_receiver_beside_others_moves_nothing(tmp_path: Path) -> None:
    async def scenario(b: Bench) -> None:
        b.transport = SlowForOne(b.clock)
        await b.start(config(endpoint("slow", delivery=NARROW), endpoint("b"), endpoint("c")))
        for _ in range(30):
            await b.publish()
            await b.pass_time(1)
        assert b.engine.metrics().queue_age_ms == 0
        await b.crash()

    on_bench(tmp_path / "store.db", scenario)


def test_what_fails_and_is_paused_waits_for_others(tmp_path: Path) -> None:
    async def scenario(b: Bench) -> None:
        b.transport.scripts["a"] = [status(503)]
        await b.start(config(endpoint("a")))
        await b.publish(*(event() for _ in range(30)))
        await b.pass_time(120)
        # The retries lie ahead, and the circuit is open.
        assert b.engine.metrics().queue_age_ms == 0
        await b.apply(config(endpoint("a", state=EndpointState.PAUSED)))
        await b.pass_time(4000)
        assert b.engine.metrics().queue_age_ms == 0
        await b.stop()

    on_bench(tmp_path / "store.db", scenario)
