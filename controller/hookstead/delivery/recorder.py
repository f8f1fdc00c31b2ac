"""Attempts on their way to the store, in batches: one commit for many, lingering a little when it is quiet.

What was sent and is not committed yet counts as in flight: a crash sends it again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from hookstead.delivery.ports import AttemptRecord, EndpointKey, LaneState, Store, StoreFull, StoreUnavailable

log = logging.getLogger(__name__)

LONGEST_RETRY_SECONDS: Final = 60.0
ASIDE_AT_ONCE: Final = 64

Committed = Callable[["Pending", int], None]


@dataclass(slots=True, eq=False)
class Pending:
    """One attempt, the lane state that it led to, its event type for the log, and who waits for the commit.

    `late`: it was set aside, and its lane may be in a later state.
    """

    record: AttemptRecord
    lane: LaneState
    event_type: str
    waiter: asyncio.Future[None] | None = None
    late: bool = False


@dataclass(slots=True, kw_only=True)
class Recorder:
    """`committed` is called for each attempt, in order, after its transaction; it must not raise.

    While the store is free it gets an attempt after `linger_seconds`, or at once with `full_batch` of them (a crash
    repeats no more), or where somebody waits, or together with an event (`join`). Each commit less is one less that an
    event on its way in may meet.
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
    _writing_lanes: Mapping[EndpointKey, LaneState] = field(default_factory=dict)
    _due: asyncio.Event = field(default_factory=asyncio.Event)
    _timer: asyncio.TimerHandle | None = None
    _room: asyncio.Event = field(default_factory=asyncio.Event)
    _idle: asyncio.Event = field(default_factory=asyncio.Event)
    _task: asyncio.Task[None] | None = None
    _aside: list[Pending] = field(default_factory=list)
    _retrying: asyncio.Task[None] | None = None

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
        self._bound()

    async def join(self) -> None:
        """Have what lingers take part in the transaction of the caller, who must call the store next."""
        if (self._pending or self._lanes) and not self._writing:
            self._due.set()
            await asyncio.sleep(0)  # the loop's task calls the store now

    async def room(self) -> None:
        """Wait while too many attempts are uncommitted: memory stays bounded when the store is slow."""
        await self._room.wait()

    async def flushed(self) -> None:
        """Wait until everything that was added is committed, but for what the store will not take."""
        await self._idle.wait()

    def unrecorded(self) -> set[EndpointKey]:
        """Endpoints with something that is not committed yet, but for what the store will not take."""
        waiting = (pending.record.endpoint for pending in (*self._writing, *self._pending))
        return {*waiting, *self._lanes, *self._writing_lanes}

    async def stop(self) -> None:
        """Cancel the loop; what is uncommitted is sent again by the next life."""
        if self._timer is not None:
            self._timer.cancel()
        for task in (self._task, self._retrying):
            if task is not None:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            await self._due.wait()
            batch, lanes = self._take()
            self._writing, self._writing_lanes = batch, lanes
            await self._write(batch, lanes)
            self._writing, self._writing_lanes = [], {}
            if not self._pending and not self._lanes:
                self._idle.set()

    def _done(self, batch: Sequence[Pending], numbers: Sequence[int]) -> None:
        for pending, number in zip(batch, numbers, strict=True):
            self.committed(pending, number)
            if pending.waiter is not None and not pending.waiter.done():
                pending.waiter.set_result(None)

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
        self._bound()
        return batch, lanes

    async def _write(self, batch: Sequence[Pending], lanes: Mapping[EndpointKey, LaneState]) -> None:
        """Until it is committed: an attempt that was sent must not be forgotten because a disk was full.

        What the store refuses for its own sake is written in halves, down to the one that it will not take: that one
        is set aside, so that it holds up no other.
        """
        refusal = await self._try(batch, lanes)
        if refusal is None:
            return
        if len(batch) + len(lanes) > 1:
            for half in _halves(batch, lanes):
                await self._write(*half)
        elif batch:
            self._set_aside(batch[0], refusal)
        else:  # the endpoint's next attempt brings its state again
            log.error("a state cannot be recorded", exc_info=refusal, extra={"action": "record_failed"})

    async def _try(self, batch: Sequence[Pending], lanes: Mapping[EndpointKey, LaneState]) -> Exception | None:
        """Write it as a whole, however long the store is away; why it never will be, where that is so."""
        records = [pending.record for pending in batch]
        while True:
            try:
                numbers = await self.store.record(records, lanes)
            except (StoreUnavailable, StoreFull) as error:
                log.warning("attempts not recorded yet", extra={"action": "record_failed", "error": str(error)})
            except Exception as error:  # noqa: BLE001 - whatever it is: else no attempt would be recorded again
                return error
            else:
                self._done(batch, numbers)
                return None
            await asyncio.sleep(self.retry_seconds)

    def _set_aside(self, pending: Pending, error: Exception) -> None:
        log.error(
            "an attempt cannot be recorded; it is tried again beside the others",
            exc_info=error,
            extra={"action": "record_failed", "delivery": pending.record.delivery_id},
        )
        pending.late = True
        self._aside.append(pending)
        self._bound()
        if self._retrying is None:
            self._retrying = asyncio.get_running_loop().create_task(self._retry(), name="recorder, set aside")

    async def _retry(self) -> None:
        """What was set aside, one by one, less and less often; its lane has moved on, so it brings no state along."""
        wait = self.retry_seconds
        while self._aside:
            await asyncio.sleep(wait)
            wait = min(2 * wait, LONGEST_RETRY_SECONDS)
            for pending in self._aside[:ASIDE_AT_ONCE]:
                self._aside.remove(pending)
                try:
                    numbers = await self.store.record([pending.record], {})
                except Exception as error:  # noqa: BLE001 - what it was the last time, most likely
                    self._aside.append(pending)
                    log.debug("still not recorded", extra={"action": "record_failed", "error": str(error)})
                else:
                    self._done([pending], numbers)
                    self._bound()
        self._retrying = None

    def _bound(self) -> None:
        if len(self._pending) + len(self._aside) < self.backlog_limit:
            self._room.set()
        else:
            self._room.clear()


def _halves(
    batch: Sequence[Pending], lanes: Mapping[EndpointKey, LaneState]
) -> Iterator[tuple[Sequence[Pending], Mapping[EndpointKey, LaneState]]]:
    """Two parts, each smaller than the whole. A state goes with the last attempt of its endpoint, or behind them."""
    middle = len(batch) // 2
    later = {pending.record.endpoint for pending in batch[middle:]}
    if middle:
        first = {pending.record.endpoint for pending in batch[:middle]} - later
        yield batch[:middle], {key: state for key, state in lanes.items() if key in first}
        yield batch[middle:], {key: state for key, state in lanes.items() if key not in first}
    elif batch:
        yield batch, {}
        yield (), lanes
    else:
        keys = tuple(lanes)
        for part in (keys[: len(keys) // 2], keys[len(keys) // 2 :]):
            yield (), {key: lanes[key] for key in part}
