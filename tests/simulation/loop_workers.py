"""The store's workers on the event loop: every turn takes a while of virtual time, and no thread is about."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from hookstead.store.sqlite.workers import Turn, Worker
from simulation.world import CrashPoint, World


class LoopWorkers:
    """`hookstead.store.sqlite.workers.Workers`; requests that come while a turn is awaited share it."""

    def __init__(self, world: World, *, stalls: float) -> None:
        self._world = world
        self._stalls = stalls

    def worker(self, turn: Turn, *, name: str) -> Worker:
        return _LoopWorker(self, turn, name)

    async def finish(self, last: Callable[[], None]) -> None:
        last()

    def latency(self) -> float:
        """Seconds until a turn is taken: mostly a fast disk, now and then one that stalls."""
        chance = self._world.storage
        if chance.random() < self._stalls:
            return chance.uniform(0.05, 1.5)
        return chance.choice((0.0, 0.0002, 0.001, 0.004))


class _LoopWorker:
    def __init__(self, workers: LoopWorkers, turn: Turn, name: str) -> None:
        self._workers = workers
        self._world = workers._world
        self._turn = turn
        self._name = name
        self._due = False

    def start(self) -> None:
        """Turns come with what is put into the queue."""

    def wake(self) -> None:
        if not self._due and self._world.alive:
            self._due = True
            asyncio.get_running_loop().call_later(self._workers.latency(), self._run)

    def _run(self) -> None:
        self._due = False
        if not self._world.alive:
            return
        if self._name == "writer" and self._world.reached(CrashPoint.QUEUED):
            return
        if self._turn(False):
            self.wake()

    def join(self) -> None:
        while self._world.alive and self._turn(False):
            pass
