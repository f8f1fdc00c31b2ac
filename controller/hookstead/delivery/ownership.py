"""Which endpoints are this process's: look at the others, take slots over, let slots go.

What is decided, by whom, is the store's business (`ports.peers`); here it is carried out. One rule above all: a slot is
let go when nothing of its endpoints is claimed, under way or unrecorded any more, so that whoever takes it over knows
everything, and nothing is sent twice.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection
from typing import Final

import msgspec

from hookstead.config.model import DeliveryConfig, Epoch
from hookstead.delivery.activity import RECENT_LIMIT
from hookstead.delivery.dispatcher import Dispatcher
from hookstead.delivery.ports import CancelReason, Clock, EndpointKey, Look, Peers, Store, StoreError
from hookstead.delivery.replayer import Replayer

log = logging.getLogger(__name__)

LOOK_SECONDS: Final = 1.0
"""How long a look waits for news, which may be lost."""
RETRY_SECONDS: Final = 0.5
LET_GO_SECONDS: Final = 0.05
"""Between two looks at whether something that is to be let go is still under way."""
SHARE_SECONDS: Final = 1.0
"""How often the events that were counted are exchanged."""
SLOTS_AT_ONCE: Final = 16
"""Of ten thousand endpoints these have some 600, which hold the event loop for some 50 ms."""
FRESH_SECONDS: Final = 1.0
"""How old what is told of another process's endpoints may be, where somebody asks for several; for one it is read
anew."""
FRESH_ALL_SECONDS: Final = 10.0
"""The same where all are asked for, to count them: of ten thousand that is much to read."""
_EPOCH_BLOB: Final = "newest-epoch"
"""The newest configuration that any process took."""


class Ownership:
    """Two tasks of one event loop, from the first configuration on. `share` exchanges the event counters."""

    def __init__(
        self,
        *,
        store: Store,
        peers: Peers,
        dispatcher: Dispatcher,
        replayer: Replayer,
        share: Callable[[], Awaitable[None]],
        clock: Clock,
    ) -> None:
        self._store = store
        self._peers = peers
        self._dispatcher = dispatcher
        self._lanes = dispatcher.handover
        self._replayer = replayer
        self._share = share
        self._clock = clock
        self._mine: set[int] = set()
        """As the store has it; `_lanes.held` are those whose lanes are driven."""
        self._leaving: set[int] = set()
        self._unplaced: set[EndpointKey] = set()
        self._epoch = Epoch()
        self._looked_at = float("-inf")
        """When the last whole look began."""
        self._shared_at = float("-inf")
        self._settled_at = float("-inf")
        self._read_at: dict[int, float] = {}
        self._reading = asyncio.Lock()
        self._exchange = asyncio.Lock()
        """A look and a letting go, one behind the other: an answer must not be older than the other's doing."""
        self._going = asyncio.Event()
        self._retired = False
        self._tasks: list[asyncio.Task[None]] = []

    # ------------------------------------------------------------------------------------------ configuration

    async def announce(self, epoch: Epoch) -> None:
        """Tell that events will come under this configuration, before any does. Raises StoreError."""
        while True:
            saved = await self._store.get_blob(_EPOCH_BLOB)
            if saved is not None and msgspec.json.decode(saved, type=Epoch) >= epoch:
                return
            if await self._store.replace_blob(_EPOCH_BLOB, saved, msgspec.json.encode(epoch)):
                return

    async def apply(self, config: DeliveryConfig, *, epoch: Epoch) -> None:
        """Put a configuration in force."""
        self._epoch = epoch
        self._unplaced.update(self._dispatcher.place(config))
        try:
            await self._settle()
        except StoreError as error:  # the next look tries again
            log.warning("not cancelled yet", extra={"action": "cancel_failed", "error": str(error)})
        self._dispatcher.pump_all()
        if not self._tasks:
            loop = asyncio.get_running_loop()
            self._tasks = [
                loop.create_task(self._follow(), name="ownership"),
                loop.create_task(self._let_go(), name="ownership, letting go"),
            ]

    async def _settle(self) -> None:
        """Cancel what has no endpoint, unless somebody has a newer configuration, which may have that endpoint and will
        come here as well. Raises StoreError."""
        self._settled_at = self._clock.monotonic()
        self._unplaced = {key for key in self._unplaced if self._lanes.unplaced(key)}
        if not self._unplaced:
            return
        saved = await self._store.get_blob(_EPOCH_BLOB)
        if saved is not None and msgspec.json.decode(saved, type=Epoch) > self._epoch:
            return
        for key in sorted(self._unplaced):
            self._unplaced.discard(key)
            if self._lanes.unplaced(key):
                present = self._dispatcher.lanes.get(key.name)
                disabled = present is not None and present.key == key
                reason = CancelReason.ENDPOINT_DISABLED if disabled else CancelReason.ENDPOINT_DELETED
                await self._dispatcher.cancel(key, reason)

    # ------------------------------------------------------------------------------------------ the loop

    async def _follow(self) -> None:
        whole = True
        while not self._retired:
            try:
                await self._step(whole=whole or self._clock.monotonic() - self._looked_at > LOOK_SECONDS)
                whole = True  # whatever is raised from here on
                whole = await self._peers.news(timeout_seconds=LOOK_SECONDS)
            except StoreError as error:
                log.warning("no look at the other gateways", extra={"action": "look_failed", "error": str(error)})
                await asyncio.sleep(RETRY_SECONDS)
            except Exception:
                # A fault of ours must not end this: endpoints would be nobody's, and nothing would arrive any more.
                log.exception("a look at the other gateways failed", extra={"action": "look_failed"})
                await asyncio.sleep(RETRY_SECONDS)

    async def _step(self, *, whole: bool) -> None:
        began = self._clock.monotonic()
        async with self._exchange:
            look = await self._peers.look(whole=whole)
            self._mine = set(look.owned)
        if whole:
            self._looked_at = began
        if self._retired:
            self._begin_to_leave(look.owned)
            return
        self._hear(look)
        self._lose((self._lanes.held | self._leaving) - look.owned)
        self._begin_to_leave(look.unwanted & look.owned)
        await self._take(look.owned - self._lanes.held - self._leaving)
        if self._clock.monotonic() - self._settled_at > LOOK_SECONDS:
            await self._settle()
        if self._clock.monotonic() - self._shared_at > SHARE_SECONDS:
            self._shared_at = self._clock.monotonic()
            await self._share()

    def _hear(self, look: Look) -> None:
        """What others did. All of it at once: it is told only once."""
        for event_id, endpoints in look.erased.items():
            self._dispatcher.erased(event_id, endpoints)
            self._dispatcher.recount.set()
        for key, deliveries in look.arrivals.items():
            if self._lanes.arrived(key, deliveries):
                self._unplaced.add(key)

    async def _take(self, slots: Collection[int]) -> None:
        for part in _parts(slots):
            if self._retired:
                break
            self._lanes.expect(part)
            boot = await self._peers.memory(part, recent_limit=RECENT_LIMIT)
            if not self._retired:
                self._unplaced.update(self._lanes.take(set(part), boot))
                self._replayer.follow()
        if slots:
            self._dispatcher.recount.set()  # what came in here while their memory was read is in neither count
            log.info("took %d slots over", len(slots), extra={"action": "took_over", "slots": len(slots)})

    def _lose(self, slots: Collection[int]) -> None:
        """They are not this process's any more: it was taken for dead."""
        if slots:
            log.warning("lost %d slots", len(slots), extra={"action": "slots_lost", "slots": len(slots)})
            self._leaving.difference_update(slots)
            self._lanes.stand_back(slots)
            self._lanes.yielded(slots)
            self._replayer.follow()

    # ------------------------------------------------------------------------------------------ letting go

    def _begin_to_leave(self, slots: Collection[int]) -> None:
        fresh = set(slots) - self._leaving
        if fresh:
            self._leaving |= fresh
            self._lanes.stand_back(fresh)
            self._replayer.follow()
            self._going.set()

    async def _let_go(self) -> None:
        """Slot by slot, as soon as nothing of it is under way; an attempt's time-out is the longest that takes."""
        while True:
            await self._going.wait()
            await asyncio.sleep(LET_GO_SECONDS)
            try:
                await self._let_go_idle()
            except StoreError as error:
                log.warning("not let go yet", extra={"action": "let_go_failed", "error": str(error)})
                await asyncio.sleep(RETRY_SECONDS)
            except Exception:
                # As in `_follow`: whoever waits for these slots would wait until this process ends.
                log.exception("not let go", extra={"action": "let_go_failed"})
                await asyncio.sleep(RETRY_SECONDS)

    async def _let_go_idle(self) -> None:
        async with self._exchange:
            idle = self._leaving - self._lanes.busy(self._leaving) - self._replayer.busy()
            if idle:
                await self._peers.let_go(idle)
                self._leaving -= idle
                self._mine -= idle
                self._lanes.yielded(idle)
                log.info("let %d slots go", len(idle), extra={"action": "let_go", "slots": len(idle)})
        if not self._leaving:
            self._going.clear()

    def retire(self) -> None:
        """Take nothing any more, and let go of everything from here on, as it comes to its end."""
        self._retired = True
        self._begin_to_leave(self._mine)

    async def let_all_go(self) -> None:
        """Let go of what is idle now; behind `retire`, and behind everything that was under way."""
        await self._replayer.stop(grace_seconds=2 * LOOK_SECONDS)
        try:
            await self._let_go_idle()
        except StoreError as error:  # the store's end does the same
            log.warning("not let go", extra={"action": "let_go_failed", "error": str(error)})

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # ------------------------------------------------------------------------------------------ what others do

    async def look_up(self, names: Collection[str] | None) -> None:
        """Read what is remembered of other processes' endpoints (None: of all). Raises StoreError."""
        age = FRESH_ALL_SECONDS if names is None else FRESH_SECONDS if len(names) > 1 else 0.0
        fresh = self._clock.monotonic() - age  # of those who wait for their turn, one reads, and all have it
        async with self._reading:
            slots = {slot for slot in self._lanes.abroad(names) if self._read_at.get(slot, fresh) <= fresh}
            for part in _parts(slots):
                began = self._clock.monotonic()
                boot = await self._peers.memory(part, recent_limit=RECENT_LIMIT)
                self._lanes.show(set(part), boot)
                self._read_at.update(dict.fromkeys(part, began))


def _parts(slots: Collection[int]) -> list[list[int]]:
    ordered = sorted(slots)
    return [ordered[start : start + SLOTS_AT_ONCE] for start in range(0, len(ordered), SLOTS_AT_ONCE)]
