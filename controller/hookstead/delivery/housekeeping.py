"""Chores beside the deliveries: retention, counts as the store has them, shared counters, a wall clock that steps."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from typing import Final

from hookstead.config.model import DeliveryConfig, RetentionPolicy
from hookstead.delivery.clock_watch import ClockWatch, went_back
from hookstead.delivery.dispatcher import Dispatcher
from hookstead.delivery.event_counters import Addition, EventCounters
from hookstead.delivery.ports import Clock, Random, Store, StoreError

log = logging.getLogger(__name__)

RECOUNT_SECONDS: Final = 0.05
"""How long several reasons to count again wait for each other."""
OFTEN_SECONDS: Final = 1.0
SELDOM_SECONDS: Final = 5.0
"""How old counts may be that another process's work changed: a look may tell of it late."""
_COUNTING_SHARE: Final = 1 / 500
"""Of the time; between the two."""
_CLOCK_BLOB: Final = "wall-clock"
"""Milliseconds that the wall clock has shown: one that shows less at the next start went back."""
_COUNTERS_BLOB: Final = "event-counters"


class Housekeeping:
    """Two tasks of one event loop. `config` gives the configuration in force; `retention_batch` bounds a step.

    Where the store has peers, their clock is the store's, which is nobody's here to watch.
    """

    def __init__(
        self,
        *,
        store: Store,
        dispatcher: Dispatcher,
        counters: EventCounters,
        clock: Clock,
        random: Random,
        config: Callable[[], DeliveryConfig | None],
        seconds: float,
        retention_batch: int,
        forget_replays: bool,
    ) -> None:
        self._store = store
        self._dispatcher = dispatcher
        self._counters = counters
        self._clock = clock
        self._random = random
        self._config = config
        self._seconds = seconds
        self._retention_batch = retention_batch
        self._forget_replays = forget_replays
        self._alone = store.peers is None
        self._watch = ClockWatch(clock.now_ms(), 0.0)
        self._behind_ms = 0
        self._attempted: Addition | None = None
        self._sharing = asyncio.Lock()
        self._tasks: list[asyncio.Task[None]] = []

    async def before_boot(self) -> int:
        """What waits in the store follows a clock that went back between two lives; by how many milliseconds it did."""
        if not self._alone:
            return 0
        saved = await self._store.get_blob(_CLOCK_BLOB)
        now_ms = self._clock.now_ms()
        back_ms = 0 if saved is None else went_back(expected_ms=int(saved), now_ms=now_ms)
        if back_ms:
            await self._bring_forward(back_ms, now_ms=now_ms)
        return back_ms

    async def start(self) -> None:
        """Read the counters; from here on the chores are done."""
        self._watch = ClockWatch(self._clock.now_ms(), self._clock.monotonic())
        saved = await self._store.get_blob(_COUNTERS_BLOB)
        if saved is not None:
            self._counters.merged(self._counters.added_to(saved, by=""))
        loop = asyncio.get_running_loop()
        self._tasks = [
            loop.create_task(self._keep_house(), name="housekeeping"),
            loop.create_task(self._recount(), name="recount"),
        ]

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _keep_house(self) -> None:
        """Retention, counts as the store has them, timers after a step of the wall clock."""
        while True:
            await asyncio.sleep(self._seconds)
            try:
                await self._follow_clock()
                await self._expire()
                if self._alone:  # among others `Ownership` sees to both, more often
                    await self.refresh_counts()
                    await self.save()
            except StoreError as error:
                log.warning("housekeeping failed", extra={"action": "housekeeping_failed", "error": str(error)})
            except Exception:
                # A fault of ours in one chore must not end all of them without a word: the disk would fill up.
                log.exception("housekeeping failed", extra={"action": "housekeeping_failed"})
            self._dispatcher.resync()

    async def _recount(self) -> None:
        """Take the counts from the store soon after the engine could not tell them by itself; among others, anyway."""
        pause = None if self._alone else OFTEN_SECONDS
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._dispatcher.recount.wait()
            await asyncio.sleep(RECOUNT_SECONDS)
            self._dispatcher.recount.clear()
            began = self._clock.monotonic()
            try:
                await self.refresh_counts()
            except StoreError as error:
                log.warning("not counted yet", extra={"action": "recount_failed", "error": str(error)})
            if pause is not None:
                took = self._clock.monotonic() - began
                pause = min(max(took / _COUNTING_SHARE, OFTEN_SECONDS), SELDOM_SECONDS)

    async def refresh_counts(self) -> None:
        """Show what the store counts. Raises StoreError."""
        for key, counts in (await self._store.counts()).items():
            lane = self._dispatcher.lanes.get(key.name)
            if lane is not None and lane.key == key and lane.activity.counts != counts:
                lane.activity.counts = counts
                self._dispatcher.touched(lane)

    # ------------------------------------------------------------------------------------------ clock

    async def _follow_clock(self) -> None:
        """What waits must not wait longer because the wall clock went back."""
        if not self._alone:
            return
        now_ms = self._look_at_clock()
        if self._behind_ms:
            await self._bring_forward(self._behind_ms, now_ms=now_ms)
            self._dispatcher.clock_went_back(self._behind_ms)
            self._behind_ms = 0

    def _look_at_clock(self) -> int:
        now_ms = self._clock.now_ms()
        self._behind_ms += self._watch.look(now_ms=now_ms, monotonic=self._clock.monotonic())
        return now_ms

    async def _bring_forward(self, back_ms: int, *, now_ms: int) -> None:
        log.warning(
            "the wall clock went back by %d s: what waits keeps what is left of its wait",
            back_ms // 1000,
            extra={"action": "clock_went_back", "milliseconds": back_ms},
        )
        await self._store.bring_forward(step_ms=back_ms, now_ms=now_ms)
        await self._store.put_blob(_CLOCK_BLOB, b"%d" % now_ms)

    # ------------------------------------------------------------------------------------------ retention

    async def _expire(self) -> None:
        config = self._config()
        environment = config.environment if config is not None else None
        retention = RetentionPolicy() if environment is None else environment.retention
        while await self._store.expire(
            retention,
            now_ms=self._clock.now_ms(),
            limit=self._retention_batch,
            ended=self._dispatcher.announcements.cancelled,
        ):
            log.debug("retired a batch", extra={"action": "retired"})
        if config is not None and self._forget_replays:
            present = {replay.identity.uid for replay in config.replays}
            await self._store.forget_replays(present, retention, now_ms=self._clock.now_ms())

    # ------------------------------------------------------------------------------------------ what outlives a life

    async def save(self) -> None:
        """Counters and clock, as far as the store takes them."""
        # One after the other: `asyncio.gather` may lose a cancellation when one of them fails at that moment.
        try:
            if self._alone:
                now_ms = self._look_at_clock()
                if not self._behind_ms:  # a step that was not followed yet must still be seen by the next life
                    await self._store.put_blob(_CLOCK_BLOB, b"%d" % now_ms)
            await self.share_counters()
        except StoreError as error:
            log.warning("counters not saved", extra={"action": "save_failed", "error": str(error)})

    async def share_counters(self) -> None:
        """Add what was counted here to what all count, and read what the others counted. Raises StoreError."""
        async with self._sharing:
            await self._share_counters()

    async def _share_counters(self) -> None:
        while True:
            saved = await self._store.get_blob(_COUNTERS_BLOB)
            if self._attempted is not None and saved == self._attempted.blob:
                self._counters.merged(self._attempted)  # nobody had answered, and it was done
            self._attempted = None
            addition = self._counters.added_to(saved, by=self._random.event_id())
            if addition.blob is not None:
                self._attempted = addition
                if not await self._store.replace_blob(_COUNTERS_BLOB, saved, addition.blob):
                    self._attempted = None
                    continue  # another process was faster
            self._counters.merged(addition)
            self._attempted = None
            return
