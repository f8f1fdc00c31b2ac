"""Attempts on their way to the store, in batches: one commit for many, lingering a little when it is quiet.

What was sent and is not committed yet counts as in flight: a crash sends it again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from hookstead.delivery.ports import AttemptRecord, EndpointKey, LaneState, Store, StoreError

log = logging.getLogger(__name__)

Committed = Callable[["Pending", int], None]


@dataclass(slots=True, eq=False)
class Pending:
    """One attempt, the lane state that it led to, its event type for the log, and who waits for the commit."""

    record: AttemptRecord
    lane: LaneState
    event_type: str
    waiter: asyncio.Future[None] | None = None


@dataclass(slots=True, kw_only=True)
class Recorder:
    """`committed` is called for each attempt, in order, after its transaction; it must not raise.

    While the store is free it gets an attempt after `linger_seconds`, or at once with `full_batch` of them (a crash
    repeats no more), or where somebody waits. Each commit less is one less that an event on its way in may meet.
    """

    store: Store
    committed: Committed
    linger_seconds: float = 0.025
    full_batch: int = 32
    batch_limit: int = 512
    backlog_limit: int = 4096
    retry_seconds: float = 1.0
    _pending: list[Pending] = field(default_factory=list)
    _writing: list[Pending] = field(default_factory=list)
    _lanes: dict[EndpointKey, LaneState] = field(default_factory=dict)
    _due: asyncio.Event = field(default_factory=asyncio.Event)
    _timer: asyncio.TimerHandle | None = None
    _room: asyncio.Event = field(default_factory=asyncio.Event)
    _idle: asyncio.Event = field(default_factory=asyncio.Event)
    _task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._room.set()
        self._idle.set()
        self._task = asyncio.get_running_loop().create_task(self._run(), name="recorder")

    def add(self, pending: Pending) -> None:
        """Take one attempt; its commit follows within the linger time when the store is free."""
        self._pending.append(pending)
        self._changed(now=pending.waiter is not None)

    def save(self, endpoint: EndpointKey, lane: LaneState) -> None:
        """Take a lane state that no attempt led to. Attempts that still wait are older, and must not undo it."""
        self._lanes[endpoint] = lane
        for pending in (*self._writing, *self._pending):
            if pending.record.endpoint == endpoint:
                pending.lane = lane
        self._changed()

    def _changed(self, *, now: bool = False) -> None:
        self._idle.clear()
        if now or len(self._pending) >= self.full_batch:
            self._due.set()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self.linger_seconds, self._due.set)
        if len(self._pending) >= self.backlog_limit:
            self._room.clear()

    async def room(self) -> None:
        """Wait while too many attempts are uncommitted: memory stays bounded when the store is slow."""
        await self._room.wait()

    async def flushed(self) -> None:
        """Wait until everything that was added is committed."""
        await self._idle.wait()

    async def stop(self) -> None:
        """Cancel the loop; what is uncommitted is sent again by the next life."""
        if self._timer is not None:
            self._timer.cancel()
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            await self._due.wait()
            batch, lanes = self._take()
            self._writing = batch
            numbers = await self._write(batch, lanes)
            self._writing = []
            for pending, number in zip(batch, numbers, strict=True):
                self.committed(pending, number)
                if pending.waiter is not None and not pending.waiter.done():
                    pending.waiter.set_result(None)
            if not self._pending and not self._lanes:
                self._idle.set()

    def _take(self) -> tuple[list[Pending], dict[EndpointKey, LaneState]]:
        batch, self._pending = self._pending[: self.batch_limit], self._pending[self.batch_limit :]
        lanes, self._lanes = self._lanes, {}
        for pending in batch:
            lanes[pending.record.endpoint] = pending.lane
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if not self._pending:
            self._due.clear()
        if len(self._pending) < self.backlog_limit:
            self._room.set()
        return batch, lanes

    async def _write(self, batch: Sequence[Pending], lanes: dict[EndpointKey, LaneState]) -> Sequence[int]:
        """Until it is committed: an attempt that was sent must not be forgotten because a disk was full."""
        records = [pending.record for pending in batch]
        while True:
            try:
                return await self.store.record(records, lanes)
            except StoreError as error:
                log.warning("attempts not recorded yet", extra={"action": "record_failed", "error": str(error)})
            except Exception:
                # A fault of ours. Without this loop no attempt would ever be recorded again, and nobody would hear why.
                log.exception("attempts cannot be recorded", extra={"action": "record_failed"})
            await asyncio.sleep(self.retry_seconds)
