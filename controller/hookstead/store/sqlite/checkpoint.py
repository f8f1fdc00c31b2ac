"""Copying the WAL into the database beside the writer, and keeping the WAL bounded.

A passive checkpoint never stops the writer, but under steady load it never catches up either, and the WAL can start
anew only when all of it was copied. So from `restart_at` on the writer waits at the gate for the last few pages.

What was erased must not live on in the WAL, so an erasure has it copied and cut off soon, however short it is.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import Final

import apsw

from hookstead.store.sqlite.faults import Health
from hookstead.store.sqlite.settings import Settings
from hookstead.store.sqlite.workers import Workers

EMPTY_RETRY_SECONDS: Final = 0.25
"""Until the next try where a reader still looked at what is in the WAL."""


class Gate:
    """Lets the writer's transactions through, one after the other, unless the checkpointer closed it.

    Two locks: a lock alone would be taken again by the writer before anybody who waits for it.
    """

    def __init__(self) -> None:
        self._turnstile = threading.Lock()
        self._inside = threading.Lock()

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        with self._turnstile:
            pass
        with self._inside:
            yield

    @contextlib.contextmanager
    def closed(self) -> Iterator[None]:
        """No transaction runs and none begins."""
        with self._turnstile, self._inside:
            yield


class Checkpointer:
    """Beside the writer, with a connection of its own; `noticed` is the writer's WAL hook."""

    def __init__(
        self, connection: apsw.Connection, *, gate: Gate, health: Health, settings: Settings, workers: Workers
    ) -> None:
        self._connection = connection
        self._gate = gate
        self._health = health
        self._checkpoint_pages = max(settings.checkpoint_at // settings.page_bytes, 1)
        self._restart_pages = max(settings.restart_at // settings.page_bytes, 1)
        self._wanted = threading.Event()
        self._stopping = False
        self._emptying = False
        self._pages = 0
        self._copied = 0
        self._worker = workers.worker(self.turn, name="checkpoint")

    def start(self) -> None:
        self._worker.start()

    def noticed(self, connection: apsw.Connection, name: str, pages: int) -> int:
        """The WAL has so many pages now (called by SQLite after each commit, by the writer)."""
        if pages < self._copied:  # it started anew
            self._copied = 0
        self._pages = pages
        if pages - self._copied >= self._checkpoint_pages:
            self._wanted.set()
            self._worker.wake()
        return apsw.SQLITE_OK

    def empty_soon(self) -> None:
        """Leave nothing in the WAL of what is in it now. Called from any thread; returns at once."""
        self._emptying = True
        self._wanted.set()
        self._worker.wake()

    def stop(self) -> None:
        self._stopping = True
        self._wanted.set()
        self._worker.wake()
        self._worker.join()
        self._connection.close()

    def turn(self, sleep: bool) -> bool:
        """Copy the WAL once, if it is wanted; see `workers.Turn`."""
        again = sleep and self._emptying  # it could not be emptied the last time
        if not self._wanted.wait(EMPTY_RETRY_SECONDS if again else None if sleep else 0) and not again:
            return False
        self._wanted.clear()
        if self._stopping or self._health.failure is not None:
            return False
        try:
            self._checkpoint()
            if self._emptying:
                self._empty()
        except apsw.Error as error:
            self._health.meaning(error)
        return True

    def _checkpoint(self) -> None:
        pages, copied = self._connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
        self._copied = copied
        if (copied < pages or self._pages > pages) and self._pages >= self._restart_pages:
            with self._gate.closed():
                _, self._copied = self._connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)

    def _empty(self) -> None:
        """Copy what little is left, with the writer at the gate, and cut the WAL off."""
        self._emptying = False  # whoever erases from now on asks anew
        try:
            with self._gate.closed():
                self._connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
                self._copied = self._pages = 0
        except apsw.BusyError:
            self._emptying = True
