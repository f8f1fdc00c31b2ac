"""One embedded store that several engines of one loop share, with the `Peers` port in memory, and a judge of who may
do what: what is claimed, recorded or let go against the rules fails the test."""

from __future__ import annotations

import asyncio
import hashlib
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from hookstead.delivery.ports import (
    SLOTS,
    Accepted,
    AttemptRecord,
    Boot,
    Claim,
    Clash,
    Clock,
    Duplicate,
    Ended,
    EndpointKey,
    LaneState,
    Look,
    NewEvent,
    RedeliveryRefusal,
    StoreUnavailable,
    slot_of,
)

LEASE_SECONDS = 6.0


@dataclass
class Doing:
    member: int
    key: EndpointKey
    deliveries: int = 0
    erased: str | None = None


@dataclass
class Hub:
    """What a database would hold beside the store: members, owners of slots, and what was done by whom."""

    store: Any
    clock: Clock
    members: dict[int, SharedStore] = field(default_factory=dict)
    owners: dict[int, int] = field(default_factory=dict)
    doings: list[Doing] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    hints: bool = True
    _joined: int = 0

    def join(self) -> SharedStore:
        self._joined += 1
        self.members[self._joined] = SharedStore(self, self._joined)
        return self.members[self._joined]

    def leave(self, member: int) -> None:
        view = self.members.pop(member, None)
        if view is not None:
            self.store._drop_claims(list(view.claims))
        self.owners = {slot: owner for slot, owner in self.owners.items() if owner != member}

    def bury(self) -> None:
        """Take those for dead whose lease has lapsed."""
        for member, view in list(self.members.items()):
            if view.died_at is not None and self.clock.monotonic() - view.died_at > LEASE_SECONDS:
                self.leave(member)

    def wanted(self, slot: int) -> int:
        ready = [member for member, view in self.members.items() if view.ready] or list(self.members)
        return max(ready, key=lambda member: hashlib.blake2b(f"{slot} {member}".encode()).digest())

    def tell(self, by: int, *, whole: bool = False) -> None:
        for member, view in self.members.items():
            if member != by and self.hints:
                view.hint.set()
                view.look_whole |= whole


class SharedStore:
    """The `Store` of one process, and its `Peers`. What it does not define is the embedded store's."""

    def __init__(self, hub: Hub, member: int) -> None:
        self.hub = hub
        self.member = member
        self.died_at: float | None = None
        self.ready = False
        self.away = False
        self.stalled = False
        self.claims: dict[str, EndpointKey] = {}
        self.hint = asyncio.Event()
        self.look_whole = False
        self.owned: frozenset[int] = frozenset()
        self.recorded: list[EndpointKey] = []
        self._mark: int | None = None

    # ------------------------------------------------------------------------------------------------------ the store

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.hub.store, name)
        if not asyncio.iscoroutinefunction(found):
            return found

        async def reached(*args: Any, **options: Any) -> Any:
            self._reach()
            answer = await found(*args, **options)
            self._reach()
            return answer

        return reached

    def _reach(self) -> None:
        if self.away or self.died_at is not None:
            raise StoreUnavailable("away")

    @property
    def peers(self) -> SharedStore:
        return self

    async def boot(self, *, recent_limit: int) -> Boot:
        void = self.hub.store._void_claims
        self.hub.store._target._void_claims = lambda: None
        try:
            boot: Boot = await self.hub.store.boot(recent_limit=recent_limit)
            return boot
        finally:
            self.hub.store._target._void_claims = void

    async def accept(self, events: Sequence[NewEvent]) -> Sequence[Accepted | Duplicate | Clash]:
        self._reach()
        answers: Sequence[Accepted | Duplicate | Clash] = await self.hub.store.accept(events)
        for event, answer in zip(events, answers, strict=True):
            for delivery in event.deliveries if isinstance(answer, Accepted) else ():
                if delivery.claimed:
                    self._require(delivery.endpoint, "accepted as claimed")
                    self.claims[delivery.id] = delivery.endpoint
                self.hub.doings.append(Doing(self.member, delivery.endpoint, 1))
        self.hub.tell(self.member)
        return answers

    async def claim(self, endpoint: EndpointKey, **how: Any) -> Claim:
        self._reach()
        self._require(endpoint, "claims")
        claim: Claim = await self.hub.store.claim(endpoint, **how)
        self.claims.update((job.delivery_id, endpoint) for job in claim.jobs)
        return claim

    async def release(self, delivery_ids: Sequence[str]) -> None:
        self._reach()
        await self.hub.store.release(delivery_ids)
        for delivery in delivery_ids:
            self.claims.pop(delivery, None)

    async def record(self, attempts: Sequence[AttemptRecord], lanes: Mapping[EndpointKey, LaneState]) -> Sequence[int]:
        self._reach()
        for key in {*lanes, *(attempt.endpoint for attempt in attempts)}:
            self._require(key, "records")
        numbers: Sequence[int] = await self.hub.store.record(attempts, lanes)
        for attempt in attempts:
            self.claims.pop(attempt.delivery_id, None)
            self.recorded.append(attempt.endpoint)
        return numbers

    async def request_redelivery(self, delivery_id: str, *, now_ms: int) -> EndpointKey | RedeliveryRefusal:
        self._reach()
        answer: EndpointKey | RedeliveryRefusal = await self.hub.store.request_redelivery(delivery_id, now_ms=now_ms)
        if isinstance(answer, EndpointKey):
            self.hub.doings.append(Doing(self.member, answer))
            self.hub.tell(self.member)
        return answer

    async def erase_payload(
        self, event_id: str, *, now_ms: int, ended: Ended | None = None
    ) -> Sequence[EndpointKey] | None:
        self._reach()
        keys: Sequence[EndpointKey] | None = await self.hub.store.erase_payload(event_id, now_ms=now_ms, ended=ended)
        self.hub.doings.extend(Doing(self.member, key, erased=event_id) for key in keys or ())
        self.hub.tell(self.member)
        return keys

    async def close(self) -> None:
        self.hub.leave(self.member)
        self.hub.tell(self.member, whole=True)

    def _require(self, key: EndpointKey, what: str) -> None:
        if self.hub.owners.get(slot_of(key)) != self.member:
            self.hub.faults.append(f"member {self.member} {what} {key.name}, which is not its own")

    # ------------------------------------------------------------------------------------------------------ the peers

    @property
    def clock(self) -> Clock:
        return self.hub.clock

    @property
    def lease_holds(self) -> bool:
        return not self.stalled and self.died_at is None

    async def look(self, *, whole: bool = True) -> Look:
        self._reach()
        await asyncio.sleep(0.002)
        self._reach()
        hub = self.hub
        if whole:
            hub.bury()
            self.ready = True
            for slot in range(SLOTS):
                if slot not in hub.owners and hub.wanted(slot) == self.member:
                    hub.owners[slot] = self.member
            self.owned = frozenset(slot for slot, owner in hub.owners.items() if owner == self.member)
        owned = self.owned
        since, self._mark = len(hub.doings) if self._mark is None else self._mark, len(hub.doings)
        arrivals: dict[EndpointKey, int] = defaultdict(int)
        erased: dict[str, list[EndpointKey]] = defaultdict(list)
        for doing in hub.doings[since:]:
            if doing.member == self.member:
                continue
            if doing.erased is not None:
                erased[doing.erased].append(doing.key)
            else:
                arrivals[doing.key] += doing.deliveries
        unwanted = frozenset(slot for slot in owned if hub.wanted(slot) != self.member)
        return Look(owned=owned, unwanted=unwanted, arrivals=dict(arrivals), erased=dict(erased))

    async def let_go(self, slots: Collection[int]) -> None:
        self._reach()
        for delivery, key in self.claims.items():
            if slot_of(key) in slots:
                self.hub.faults.append(f"{key.name} is let go, and {delivery} of it is claimed")
        for slot in slots:
            if self.hub.owners.get(slot) == self.member:
                del self.hub.owners[slot]
                if self.hub.wanted(slot) == self.member:
                    self.ready = False
        self.owned -= frozenset(slots)
        await asyncio.sleep(0.002)
        self.hub.tell(self.member, whole=True)

    async def memory(self, slots: Collection[int], *, recent_limit: int) -> Boot:
        self._reach()
        boot = await self.boot(recent_limit=recent_limit)
        self._reach()

        def of(found: Mapping[EndpointKey, Any]) -> dict[EndpointKey, Any]:
            return {key: value for key, value in found.items() if slot_of(key) in slots}

        return Boot(
            lanes=of(boot.lanes),
            counts=of(boot.counts),
            windows=of(boot.windows),
            next_due_ms=of(boot.next_due_ms),
            recent=of(boot.recent),
        )

    async def news(self, *, timeout_seconds: float) -> bool:
        try:
            async with asyncio.timeout(timeout_seconds):
                await self.hint.wait()
        except TimeoutError:
            self.look_whole = True
        self.hint.clear()
        whole, self.look_whole = self.look_whole, False
        return whole
