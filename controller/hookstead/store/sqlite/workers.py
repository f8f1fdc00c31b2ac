"""Who does the work of the store's parts: a thread for each in a gateway; whoever opens a store may decide otherwise.

A part (writer, reader, checkpointer) is a queue and a turn. Nothing in it knows on which thread its turns are taken,
only that they are taken one after the other.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Protocol

Turn = Callable[[bool], bool]
"""Does a share of what waits and returns True; False when there was nothing. Told True it sleeps until there is
something, and returns False only behind the last turn."""


class Worker(Protocol):
    """Takes the turns of one part."""

    def start(self) -> None:
        """From now on."""

    def wake(self) -> None:
        """Something waits that did not before. Called from any thread."""

    def join(self) -> None:
        """Return behind the last turn; the part was closed before."""


class Workers(Protocol):
    """Employs the workers of one store."""

    def worker(self, turn: Turn, *, name: str) -> Worker: ...

    async def finish(self, last: Callable[[], None]) -> None:
        """Run `last`, which joins the workers, without holding up the event loop."""


class _Thread:
    def __init__(self, turn: Turn, name: str) -> None:
        self._turn = turn
        self._thread = threading.Thread(target=self._run, name=f"hookstead-store-{name}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def wake(self) -> None:
        """A thread sleeps in its turn, on the queue itself."""

    def join(self) -> None:
        self._thread.join()

    def _run(self) -> None:
        while self._turn(True):
            pass


class Threads:
    """A thread for each part: lists do not wait for commits, commits not for checkpoints."""

    def worker(self, turn: Turn, *, name: str) -> Worker:
        return _Thread(turn, name)

    async def finish(self, last: Callable[[], None]) -> None:
        await asyncio.to_thread(last)
