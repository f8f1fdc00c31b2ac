"""Reads with a connection of its own, so that no list waits for a commit and no commit for a list."""

from __future__ import annotations

import asyncio
import queue
from collections.abc import Callable
from typing import TypeVar

import apsw

from hookstead.delivery.ports import StoreUnavailable
from hookstead.store.sqlite.answers import Answer, Task, deliver
from hookstead.store.sqlite.faults import Health
from hookstead.store.sqlite.workers import Workers

Result = TypeVar("Result")


class Reader:
    def __init__(
        self, connection: apsw.Connection, *, name: str, health: Health, workers: Workers, queue_limit: int = 100_000
    ) -> None:
        self._connection = connection
        self._health = health
        self._limit = queue_limit
        self._queue: queue.SimpleQueue[Task | None] = queue.SimpleQueue()
        self._worker = workers.worker(self.turn, name=name)
        self._closed = False

    def start(self) -> None:
        self._worker.start()

    def submit(
        self, run: Callable[[apsw.Connection], Result], *, orphaned: Callable[[Result], None] | None = None
    ) -> asyncio.Future[Result]:
        self.require()
        if self._queue.qsize() >= self._limit:
            raise StoreUnavailable("the store is saturated: too many reads wait; try again")
        loop = asyncio.get_running_loop()
        task = Task(run=run, future=loop.create_future(), loop=loop, orphaned=orphaned)
        self._queue.put(task)
        self._worker.wake()
        return task.future

    def require(self) -> None:
        """Raises StoreUnavailable where no answer would come."""
        if self._closed:
            raise StoreUnavailable("the store is closed")
        self._health.require()

    def close(self) -> None:
        """No more reads; those that wait are answered first. `join` waits for them."""
        if not self._closed:
            self._closed = True
            self._queue.put(None)
            self._worker.wake()

    def join(self) -> None:
        self._worker.join()
        self._connection.close()

    def turn(self, sleep: bool) -> bool:
        """Answer one request; see `workers.Turn`."""
        try:
            task = self._queue.get(block=sleep)
        except queue.Empty:
            return False
        if task is None:
            return False
        deliver([self._answer(task)])
        return True

    def _answer(self, task: Task) -> Answer:
        try:
            self._health.require()
            return task, task.run(self._connection), None
        except Exception as error:  # noqa: BLE001 - whatever a read raises belongs to its caller, not to the worker
            return task, None, self._health.meaning(error)


def in_one_snapshot(run: Callable[[apsw.Connection], Result]) -> Callable[[apsw.Connection], Result]:
    """All statements of `run` see the same state."""

    def reading(connection: apsw.Connection) -> Result:
        connection.execute("BEGIN")
        try:
            return run(connection)
        finally:
            connection.execute("COMMIT")

    return reading
