"""The writer: whatever waits becomes one transaction, so that a busy store syncs no oftener than an idle one."""

from __future__ import annotations

import asyncio
import queue
from collections.abc import Callable
from typing import Final, TypeVar

import apsw

from hookstead.delivery.ports import StoreUnavailable
from hookstead.store.sqlite.answers import Answer, Task, deliver
from hookstead.store.sqlite.checkpoint import Gate
from hookstead.store.sqlite.faults import Health
from hookstead.store.sqlite.group import Context, Group
from hookstead.store.sqlite.settings import Settings
from hookstead.store.sqlite.workers import Workers

Result = TypeVar("Result")


class _Again:
    """The result of a request that is not finished: it takes part in the next transaction too."""


AGAIN: Final = _Again()


class Writer:
    """Runs requests in groups. A request that fails costs the others of its group nothing but time."""

    def __init__(self, context: Context, *, health: Health, gate: Gate, settings: Settings, workers: Workers) -> None:
        self._context = context
        self._health = health
        self._gate = gate
        self._settings = settings
        self._queue: queue.SimpleQueue[Task | None] = queue.SimpleQueue()
        self._worker = workers.worker(self.turn, name="writer")
        self._unfinished: list[Task] = []
        self._closing = False
        self._waiting_rows = 0
        self._waiting_bytes = 0
        self._closed = False

    def start(self) -> None:
        self._worker.start()

    def submit(
        self,
        run: Callable[[Group], Result],
        *,
        caller_keys: list[bytes] | None = None,
        rows: int = 1,
        size: int = 0,
        grows: bool = False,
        orphaned: Callable[[Result], None] | None = None,
    ) -> asyncio.Future[Result]:
        """Take part in the next transaction. New work raises StoreUnavailable where too much waits already."""
        if self._closed:
            raise StoreUnavailable("the store is closed")
        self._health.require()
        settings = self._settings
        waiting = self._waiting_rows + rows, self._waiting_bytes + size
        if grows and self._waiting_rows and (waiting[0] > settings.queue_rows or waiting[1] > settings.queue_bytes):
            raise StoreUnavailable(f"the store is saturated: {self._waiting_rows} rows wait to be written; try again")
        self._waiting_rows, self._waiting_bytes = waiting
        loop = asyncio.get_running_loop()
        task = Task(
            run=run,
            future=loop.create_future(),
            loop=loop,
            orphaned=orphaned,
            finished=self._finished,
            caller_keys=caller_keys or [],
            rows=rows,
            size=size,
            grows=grows,
        )
        self._queue.put(task)
        self._worker.wake()
        return task.future

    def _finished(self, task: Task) -> None:
        self._waiting_rows -= task.rows
        self._waiting_bytes -= task.size

    def close(self) -> None:
        """No more requests; those that wait are finished first. `join` waits for them."""
        if not self._closed:
            self._closed = True
            self._queue.put(None)
            self._worker.wake()

    def join(self) -> None:
        self._worker.join()

    # ------------------------------------------------------------------------------------------ the worker's side

    def turn(self, sleep: bool) -> bool:
        """Write one group; see `workers.Turn`."""
        batch = self._next_batch(self._unfinished, sleep)
        if not batch:
            return False
        answers = self._write(batch)
        self._unfinished = [task for task, result, error in answers if result is AGAIN and error is None]
        deliver([answer for answer in answers if answer[1] is not AGAIN])
        return True

    def _next_batch(self, batch: list[Task], sleep: bool) -> list[Task]:
        """What waits, up to the bound; sleeps only while there is nothing to do."""
        rows = sum(task.rows for task in batch)
        while rows < self._settings.group_rows:
            try:
                task = self._queue.get(block=sleep and not batch and not self._closing)
            except queue.Empty:
                break
            if task is None:
                self._closing = True
                continue
            batch.append(task)
            rows += task.rows
        return batch

    def _write(self, batch: list[Task]) -> list[Answer]:
        """One transaction; where a request breaks it, the halves are tried, down to the one that did."""
        try:
            return self._transaction(batch)
        except Exception as error:  # noqa: BLE001 - whatever a request raises must not end the writer thread
            if len(batch) == 1 or isinstance(error, apsw.FullError) or self._health.failure is not None:
                return [(task, None, self._health.meaning(error, grows=task.grows)) for task in batch]
        middle = len(batch) // 2
        return self._write(batch[:middle]) + self._write(batch[middle:])

    def _transaction(self, batch: list[Task]) -> list[Answer]:
        self._health.require()
        with self._gate.writing():
            group = Group(self._context)
            try:
                group.begin()
                keys = [key for task in batch for key in task.caller_keys]
                if keys:
                    group.load_callers(keys)
                answers: list[Answer] = [(task, task.run(group), None) for task in batch]
                group.commit()
            except BaseException as error:
                if isinstance(error, apsw.Error):
                    self._health.meaning(error)
                group.rollback()
                raise
            return answers
