"""The wall clock steps by hours while deliveries wait: retries neither stampede nor stop.

Only the gateway's wall clock steps, as NTP or a person would step it; the monotonic clock goes on.
"""

from __future__ import annotations

import asyncio
import contextlib
import struct
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

import pytest

from builders import config, endpoint
from faults.gateway_process import Home, Life, home, until
from faults.prefaces import STEPPED_CLOCK
from faults.sink import Sink, sink
from hookstead.resources.kinds import CircuitBreaker, DeliverySpec, EndpointState, RetrySpec

EVENTS: Final = 40
IN_FLIGHT: Final = 4
HOUR: Final = 3600
NOTICED: Final = 6
"""Seconds within which a step of the clock is noticed; the engine of these tests looks every second."""


class Clock:
    """The gateway's wall clock, relative to the true one."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "clock"
        self._file.write_bytes(bytes(8))

    def step(self, seconds: int) -> None:
        """Off by so many seconds from now on."""
        with self._file.open("r+b") as file:
            file.write(struct.pack("q", seconds * 1_000_000_000))


@contextlib.asynccontextmanager
async def waiting(
    folder: Path, *, schedule: tuple[int, ...], statuses: tuple[int, ...]
) -> AsyncIterator[tuple[Home, Life, Clock, Sink]]:
    """A gateway with events that were all tried once, and failed, and wait for their next attempt."""
    policy = DeliverySpec(
        max_in_flight=IN_FLIGHT, circuit_breaker=CircuitBreaker.NONE, retry=RetrySpec(schedule_seconds=schedule)
    )
    async with sink() as receiver, home(folder, endpoint("all", url=f"{receiver.url}/all", delivery=policy)) as place:
        clock = Clock(folder)
        receiver.statuses["/all"] = statuses
        life = await place.start(preface=STEPPED_CLOCK)
        for _ in range(EVENTS):
            assert (await life.publish()).status == 202

        async def tried() -> bool:
            return await life.metric("hookstead_attempts_total", outcome="Failed") == EVENTS

        await until(tried, what="every event tried once")
        yield place, life, clock, receiver
        assert receiver.most_open <= IN_FLIGHT


@pytest.mark.parametrize("hours", [3, -3])
async def test_a_retry_that_is_near_stays_near(tmp_path: Path, hours: int) -> None:
    async with waiting(tmp_path, schedule=(5, HOUR), statuses=(500, 204)) as (_, life, clock, receiver):
        clock.step(hours * HOUR)
        await life.settled(EVENTS, seconds=5 * 1.2 + 4 * NOTICED)
        assert set(receiver.seen.values()) == {2}


async def test_a_step_forwards_costs_a_far_retry_one_attempt_at_most(tmp_path: Path) -> None:
    async with waiting(tmp_path, schedule=(2 * HOUR,) * 5, statuses=(500,)) as (_, life, clock, receiver):
        clock.step(6 * HOUR)

        async def tried_again() -> bool:
            return receiver.seen.total() >= 2 * EVENTS

        await until(tried_again, what="what became due is tried", seconds=NOTICED)
        await asyncio.sleep(NOTICED)
        assert set(receiver.seen.values()) == {2}, "one step, one attempt"
        assert await life.metric("hookstead_deliveries", status="Pending") == EVENTS


async def test_a_step_backwards_makes_no_far_retry_near(tmp_path: Path) -> None:
    async with waiting(tmp_path, schedule=(2 * HOUR,) * 5, statuses=(500,)) as (_, life, clock, receiver):
        clock.step(-6 * HOUR)
        await asyncio.sleep(NOTICED)
        assert set(receiver.seen.values()) == {1}
        assert await life.metric("hookstead_deliveries", status="Pending") == EVENTS


async def test_a_backlog_and_new_events_are_delivered_after_a_step_backwards(tmp_path: Path) -> None:
    """The backlog was accepted at times that are in the future now."""
    async with sink() as receiver:
        paused = endpoint("all", url=f"{receiver.url}/all", state=EndpointState.PAUSED)
        async with home(tmp_path, paused) as place:
            clock = Clock(tmp_path)
            life = await place.start(preface=STEPPED_CLOCK)
            for _ in range(EVENTS):
                assert (await life.publish()).status == 202
            clock.step(-3 * HOUR)
            await life.push(config(endpoint("all", url=f"{receiver.url}/all")), epoch="1.2")
            assert (await life.publish()).status == 202
            await life.settled(EVENTS + 1, seconds=4 * NOTICED)
            assert set(receiver.seen.values()) == {1}


async def test_a_clock_that_went_back_between_two_lives_holds_nothing_up(tmp_path: Path) -> None:
    async with waiting(tmp_path, schedule=(5, HOUR), statuses=(500, 204)) as (place, life, clock, receiver):
        assert await life.stop() == 0
        clock.step(-3 * HOUR)
        life = await place.start(preface=STEPPED_CLOCK)
        await life.settled(EVENTS, seconds=5 * 1.2 + 4 * NOTICED)
        assert set(receiver.seen.values()) == {2}
