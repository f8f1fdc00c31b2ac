"""What lanes hold of the store's deliveries: claimed there or reserved at birth, kept within memory, and given back."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any, Final

from hookstead.delivery import pacing
from hookstead.delivery.budget import MemoryBudget
from hookstead.delivery.lane import Lane
from hookstead.delivery.ports import Clock, Job, Store, StoreError, Trigger
from hookstead.delivery.wakeups import Wakeups

log = logging.getLogger(__name__)

STORE_RETRY_SECONDS: Final = 1.0
EMPTY_CLAIM_SECONDS: Final = 0.25


class Claims:
    """Runs on the dispatcher's event loop.

    `held_back` says whether nothing of a lane may start for as long as nobody changes something; `spawn` runs work
    beside the caller, `pump` starts what may start.
    """

    def __init__(
        self,
        *,
        store: Store,
        clock: Clock,
        budget: MemoryBudget,
        wakeups: Wakeups[Lane],
        held_back: Callable[[Lane], bool],
        spawn: Callable[[Coroutine[Any, Any, None]], None],
        pump: Callable[[Lane], None],
    ) -> None:
        self._store: Final = store
        self._clock: Final = clock
        self._budget: Final = budget
        self._wakeups: Final = wakeups
        self._held_back: Final = held_back
        self._spawn: Final = spawn
        self._pump: Final = pump

    # ------------------------------------------------------------------------------------------ at birth

    def reserve(self, lane: Lane, size: int) -> bool:
        """Whether a new delivery of `size` payload bytes may be claimed at birth; the room is then taken."""
        free = (
            lane.owned
            and not lane.ordered
            and not lane.backlog
            and lane.held_jobs < lane.capacity(self._clock.monotonic())
            and self._budget.has_room(size)
            and not self._held_back(lane)
            and pacing.deferred_until_ms(lane.state, now_ms=self._clock.now_ms()) is None
        )
        if free:
            lane.reserved += 1
        return free

    def unreserve(self, lane: Lane) -> None:
        """The delivery was not stored."""
        lane.reserved -= 1

    def enqueue(self, lane: Lane, job: Job) -> None:
        """A delivery that was reserved and is stored now."""
        lane.reserved -= 1
        lane.ready.append(job)
        self._budget.add(job)
        if lane.ordered:  # it became so meanwhile
            self.release(lane)

    def disown(self, lane: Lane, delivery_id: str) -> None:
        """A delivery that was reserved and is stored now, and whose lane is no more."""
        lane.reserved -= 1
        self._return_soon(lane, [delivery_id])

    def left_in_store(self, lane: Lane) -> None:
        """A new delivery waits in the store for a claim."""
        lane.backlog = True
        lane.arrivals += 1

    # ------------------------------------------------------------------------------------------ from the store

    def claim_soon(self, lane: Lane) -> None:
        """Fetch what is due and there is room for."""
        lane.claiming = True
        lane.manual_requested = False
        self._spawn(self._claim(lane))

    async def _claim(self, lane: Lane) -> None:
        arrivals = lane.arrivals
        room, ordered = lane.capacity(self._clock.monotonic()) - lane.held_jobs, lane.ordered
        now_ms = self._clock.now_ms()
        try:
            claim = await self._store.claim(
                lane.key,
                now_ms=now_ms,
                limit=max(1, min(room, self._budget.free_jobs)),
                max_bytes=max(1, self._budget.free_bytes),
                ordered=ordered,
            )
        except StoreError as error:
            log.warning("claim failed", extra={"action": "claim_failed", "error": str(error)})
            self._wakeups.ask(lane, STORE_RETRY_SECONDS)
            return
        finally:
            lane.claiming = False
        changed = lane.arrivals != arrivals
        known, lane.next_due_ms = lane.next_due_ms, claim.next_due_ms
        if changed and known is not None:
            lane.becomes_due(known)
        lane.backlog = changed or (claim.next_due_ms is not None and claim.next_due_ms <= now_ms)
        for job in claim.jobs:
            self._budget.add(job)
            (lane.manual if job.trigger is Trigger.MANUAL else lane.ready).append(job)
        if not claim.jobs and lane.backlog and not changed:
            lane.backlog, lane.next_due_ms = False, now_ms + int(EMPTY_CLAIM_SECONDS * 1000)
        if lane.ordered is not ordered:  # it was claimed by the other rule
            self.release(lane)
            lane.backlog = True
        self._pump(lane)

    # ------------------------------------------------------------------------------------------ back to it

    def release(self, lane: Lane) -> int:
        """Give every job back that is not under way."""
        jobs = [*lane.manual, *lane.ready]
        if not jobs:
            return 0
        lane.manual.clear()
        lane.ready.clear()
        lane.backlog = True
        for job in jobs:
            self._budget.remove(job)
        self._return_soon(lane, [job.delivery_id for job in jobs])
        return len(jobs)

    def _return_soon(self, lane: Lane, delivery_ids: list[str]) -> None:
        lane.returning += 1
        self._spawn(self._return(lane, delivery_ids))

    async def _return(self, lane: Lane, delivery_ids: list[str]) -> None:
        try:
            await self.give_back(delivery_ids, lane)
        finally:
            lane.returning -= 1

    async def give_back(self, delivery_ids: list[str], lane: Lane | None = None) -> None:
        """Until the store took them: a claim that nobody holds would never be offered again in this life.

        The lane looks again behind it: what it asked meanwhile did not find them.
        """
        while True:
            try:
                await self._store.release(delivery_ids)
                break
            except StoreError as error:
                log.warning("not given back yet", extra={"action": "release_failed", "error": str(error)})
                await asyncio.sleep(STORE_RETRY_SECONDS)
        if lane is not None:
            lane.backlog = True
            self._pump(lane)

    def give_back_erased(self, lane: Lane, event_id: str) -> None:
        """The event's payload is gone: nothing of it is to start."""
        for queue in (lane.ready, lane.manual):
            for job in [job for job in queue if job.event_id == event_id]:
                queue.remove(job)
                self._budget.remove(job)
                self._return_soon(lane, [job.delivery_id])
