"""Of any number of operators at most one leads, whatever the API server, the scheduler and the clocks do; and one does.

The real elector in virtual time: answers take as long as they like, processes are stopped in the middle of a call and
go on later, wall clocks jump by days. The monotonic clock is all that counts.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hookstead.operator import lease
from hookstead.operator.kube import Conflict, NotFound, Unavailable
from hookstead.operator.lease import LEASE_SECONDS, RETRY_SECONDS, Elector, LeaseLost
from virtual_time import ClosedLoop, VirtualClock

AFTER_KILL_SECONDS: Final = LEASE_SECONDS + RETRY_SECONDS + 0.5
AFTER_STOP_SECONDS: Final = RETRY_SECONDS + 0.5


class Leases:
    """One Lease with optimistic locking; each answer takes `delay()` seconds, half of them on the way there."""

    def __init__(self, chance: random.Random) -> None:
        self.body: dict[str, Any] | None = None
        self.version = 0
        self.chance = chance
        self.rough = False
        self.away = False

    async def get(self, _path: str) -> Any:
        await self._travel()
        if self.body is None:
            raise NotFound("no lease", status=404)
        found = self.body
        await self._travel()
        return found

    async def create(self, _path: str, body: Any) -> Any:
        await self._travel()
        if self.body is not None:
            raise Conflict("exists", status=409)
        return await self._store(body)

    async def replace(self, _path: str, body: Any) -> Any:
        await self._travel()
        if body["metadata"].get("resourceVersion") != str(self.version):
            raise Conflict("changed", status=409)
        return await self._store(body)

    async def _store(self, body: Any) -> Any:
        self.version += 1
        stored = self.body = {**body, "metadata": {**body["metadata"], "resourceVersion": str(self.version)}}
        await self._travel()
        return stored

    async def _travel(self) -> None:
        if self.away or (self.rough and self.chance.random() < 0.2):
            raise Unavailable("away")
        slow = self.rough and self.chance.random() < 0.3
        await asyncio.sleep(self.chance.choice([0.5, 1.9, 3.0, 8.0, 20.0]) if slow else 0.005)


class JumpingClock(datetime):
    """A wall clock that is set anew at each look, by up to a week in either direction."""

    chance = random.Random(0)

    @classmethod
    def now(cls, tz: Any = None) -> datetime:  # type: ignore[override]  # a plain datetime is what is wanted
        return datetime.fromtimestamp(1_800_000_000, tz or UTC) + timedelta(seconds=cls.chance.uniform(-6e5, 6e5))


class Operators:
    """Processes that lead, lose, end, and are started again by whoever starts processes."""

    def __init__(self, leases: Leases, clock: VirtualClock, count: int) -> None:
        self.leases = leases
        self.clock = clock
        self.electors: dict[str, Elector] = {}
        self.lives = 0
        self.tasks = [asyncio.create_task(self._live_for_ever()) for _ in range(count)]

    async def _live_for_ever(self) -> None:
        while True:
            self.lives += 1
            name = f"life-{self.lives}"
            one = self.electors[name] = Elector(
                self.leases,  # type: ignore[arg-type]  # a fake
                namespace="n",
                identity=name,
                monotonic=self.clock.monotonic,
            )
            try:
                await one.acquire()
                await one.hold()
            except LeaseLost:
                pass
            finally:
                # The last thing that a process does; a killed one does not come to it, but does not write any more.
                self.electors.pop(name)
            await asyncio.sleep(1.0)

    @property
    def leading(self) -> list[str]:
        return [name for name, one in self.electors.items() if one.leads]

    async def one_leads(self, *, within: float) -> float:
        """Seconds until exactly one does."""
        started = self.clock.monotonic()
        while self.clock.monotonic() - started <= within:
            if self.leading:
                return self.clock.monotonic() - started
            await asyncio.sleep(0.05)
        raise AssertionError(f"nobody led within {within} s")

    async def close(self) -> None:
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)


async def never_two(operators: Operators) -> None:
    while True:
        assert len(operators.leading) <= 1, operators.leading
        await asyncio.sleep(0.05)


@contextmanager
def jumping(chance: random.Random) -> Iterator[None]:
    JumpingClock.chance = chance
    with mock.patch.object(lease, "datetime", JumpingClock):
        yield


def in_virtual_time(clock: VirtualClock, course: Coroutine[Any, Any, None]) -> None:
    with asyncio.Runner(loop_factory=lambda: ClosedLoop(clock)) as runner:
        runner.run(course)


@settings(max_examples=60)
@given(st.integers(min_value=0, max_value=2**32))
def test_never_two_lead_and_after_the_trouble_one_does(seed: int) -> None:
    chance, clock = random.Random(seed), VirtualClock()

    async def course() -> None:
        leases = Leases(chance)
        operators = Operators(leases, clock, count=3)
        watch = asyncio.create_task(never_two(operators))
        for _ in range(6):
            leases.rough, leases.away = chance.random() < 0.7, chance.random() < 0.2
            await asyncio.sleep(chance.uniform(1, 40))
            assert not watch.done(), watch.exception()
        leases.rough = leases.away = False
        await operators.one_leads(within=60)
        await asyncio.sleep(60)
        assert len(operators.leading) == 1
        assert not watch.done(), watch.exception()
        watch.cancel()
        await operators.close()

    with jumping(chance):
        in_virtual_time(clock, course())


@pytest.mark.parametrize(
    ("clean", "within"), [(False, AFTER_KILL_SECONDS), (True, AFTER_STOP_SECONDS)], ids=["killed", "stopped"]
)
@pytest.mark.parametrize("phase", [0.0, 0.3, 0.9, 1.4, 1.99])
def test_a_standby_follows_in_time_at_any_moment_of_the_renewals(phase: float, clean: bool, within: float) -> None:
    chance, clock = random.Random(f"{phase}"), VirtualClock()

    async def course() -> None:
        leases = Leases(chance)
        first = Elector(leases, namespace="n", identity="first", monotonic=clock.monotonic)  # type: ignore[arg-type]  # a fake
        await first.acquire()
        holding = asyncio.create_task(first.hold())
        await asyncio.sleep(chance.uniform(0, 2))
        second = Elector(leases, namespace="n", identity="second", monotonic=clock.monotonic)  # type: ignore[arg-type]  # a fake
        following = asyncio.create_task(second.acquire())
        await asyncio.sleep(10 + phase)
        assert not following.done()
        holding.cancel()
        if clean:
            await first.release()
        started = clock.monotonic()
        await following
        assert clock.monotonic() - started <= within
        assert not first.leads
        assert second.transitions == first.transitions + 1

    with jumping(chance):
        in_virtual_time(clock, course())


def test_a_process_that_was_stopped_finds_out_before_its_next_write() -> None:
    """SIGSTOP stops no clock: when it goes on, its last renewal is too long ago, whoever leads by then."""
    chance, clock = random.Random(1), VirtualClock()

    async def course() -> None:
        leases = Leases(chance)
        hung = Elector(leases, namespace="n", identity="hung", monotonic=clock.monotonic)  # type: ignore[arg-type]  # a fake
        await hung.acquire()
        hung.check()
        clock.seconds += 60.0
        with pytest.raises(LeaseLost):
            hung.check()

    in_virtual_time(clock, course())
