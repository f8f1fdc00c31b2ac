"""A thread that reads, with a connection of its own, so that no list waits for a commit and no commit for a list."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable
from typing import TypeVar

import apsw

from hookstead.delivery.ports import StoreUnavailable
from hookstead.store.sqlite.answers import Answer, Task, deliver
from hookstead.store.sqlite.faults import Health

Result = TypeVar("Result")


class Reader:
    def __init__(self, connection: apsw.Connection, *, name: str, health: Health, queue_limit: int = 100_000) -> None:
        self._connection = connection
        self._health = health
        self._limit = queue_limit
        self._queue: queue.SimpleQueue[Task | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name=f"hookstead-store-{name}", daemon=True)
        self._closed = False

    def start(self) -> None:
        self._thread.start()

    def submit(
        self, run: Callable[[apsw.Connection], Result], *, orphaned: Callable[[Result], None] | None = None
    ) -> asyncio.Future[Result]:
        self.require()
        if self._queue.qsize() >= self._limit:
            raise StoreUnavailable("the store is saturated: too many reads wait; try again")
        loop = asyncio.get_running_loop()
        task = Task(run=run, future=loop.create_future(), loop=loop, orphaned=orphaned)
        self._queue.put(task)
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

    def join(self) -> None:
        self._thread.join()
        self._connection.close()

    def _run(self) -> None:
        while True:
            task = self._queue.get()
            if task is None:
                return
            deliver([self._answer(task)])

    def _answer(self, task: Task) -> Answer:
        try:
            self._health.require()
            return task, task.run(self._connection), None
        except Exception as error:  # noqa: BLE001 - whatever a read raises belongs to its caller, not to the thread
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
