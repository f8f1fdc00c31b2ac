"""Producers, operators and accidents: everything that a run does to the process, and how answers are judged."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from builders import RUNNING
from hookstead.delivery.intake import (
    IncomingEvent,
    OperateRefusal,
    PublishResult,
    RefusalKind,
    Refused,
    TestResult,
)
from hookstead.delivery.ports import Accepted, CallerId, Clash, Duplicate
from simulation.ledger import Delivery, Offer
from simulation.manifests import EVENT_TYPES, WIRE_CHANNELS, Editor, compiled
from simulation.receivers import TESTING, Receivers

if TYPE_CHECKING:
    from hookstead.delivery.engine import Engine
    from simulation.disk import Disk
    from simulation.ledger import Ledger
    from simulation.world import World

Content = tuple[str, tuple[str, ...], bytes | None, bytes]
_TROUBLE: Final = {RefusalKind.STORE_FULL, RefusalKind.STORE_UNAVAILABLE, RefusalKind.SATURATED}


@dataclass(slots=True, eq=False)
class First:
    """The first event with some caller's id."""

    content: Content
    offer: Offer


@dataclass(slots=True, eq=False)
class People:
    """`engine` is the present life's."""

    world: World
    ledger: Ledger
    receivers: Receivers
    disk: Disk
    editor: Editor
    engine: Engine | None = None
    draining: bool = False
    _first: dict[CallerId, First] = field(default_factory=dict)
    _asking: dict[CallerId, int] = field(default_factory=lambda: defaultdict(int))
    _uncertain: set[CallerId] = field(default_factory=set)

    # ------------------------------------------------------------------------------------------------- producers

    async def publish(self) -> None:
        chance = self.world.people
        count = chance.choice((1, 1, 1, 2, 3, 8))
        await self.publish_events([self._event() for _ in range(count)])

    def _event(self) -> IncomingEvent:
        chance = self.world.people
        data = b'{"n":%d,"pad":"%s"}' % (chance.randint(0, 6), b"x" * chance.choice((0, 10, 1500)))
        caller = None
        if chance.random() < 0.25:
            caller = CallerId(chance.choice(("", "ce")), f"order-{chance.randint(1, 8)}")
            data = b'{"n":%d}' % chance.randint(1, 2)
        return IncomingEvent(
            type=chance.choice(EVENT_TYPES) if caller is None else "order",
            data=data if chance.random() < 0.85 else b"[1]",
            channels=tuple(chance.sample(WIRE_CHANNELS, chance.choice((0, 1, 1, 2))))
            if caller is None
            else ("client_1",),
            timestamp=chance.choice((None, b'"2026-01-01T00:00:00Z"')) if caller is None else None,
            caller_id=caller,
        )

    async def publish_events(self, events: Sequence[IncomingEvent]) -> None:
        assert self.engine is not None
        enabled = self.ledger.in_force().enabled
        callers = [event.caller_id for event in events if event.caller_id is not None]
        for caller in callers:
            self._asking[caller] += 1
        alone = {caller for caller in callers if self._asking[caller] == callers.count(caller)}
        self.ledger.accepting += 1
        try:
            results = await self.engine.publish(events)
        finally:
            self.ledger.accepting -= 1
            for caller in callers:
                self._asking[caller] -= 1
        if not self.world.alive:
            return
        self.world.require(len(results) == len(events), "an answer for each event")
        for event, result in zip(events, results, strict=True):
            self.world.note("published", type(result).__name__, getattr(result, "id", ""), getattr(result, "kind", ""))
            self._judge(event, result, enabled=enabled, alone=event.caller_id in alone)

    def _judge(self, event: IncomingEvent, result: PublishResult, *, enabled: bool, alone: bool) -> None:
        require = self.world.require
        if isinstance(result, Refused):
            disabled = not (enabled and self.ledger.in_force().enabled)
            just = {
                RefusalKind.ENVIRONMENT_DISABLED: disabled,
                RefusalKind.DRAINING: self.draining,
            }.get(result.kind, result.kind in _TROUBLE and self.world.excused)
            require(just, "an event was refused without a cause:", result)
            return
        if isinstance(result, Accepted):
            offer = self.ledger.offers.get(result.id)
            require(offer is not None and offer.stored, "the answer 202 came before the event was stored:", result)
            assert offer is not None
            require(result.endpoints == len(offer.event.deliveries), "the number of endpoints is wrong in", result)
            self.world.stats["accepted"] += 1
        if event.caller_id is not None:
            self._judge_caller(event.caller_id, event, result, alone=alone)

    def _judge_caller(
        self, caller: CallerId, event: IncomingEvent, result: Accepted | Duplicate | Clash, *, alone: bool
    ) -> None:
        require = self.world.require
        content = (event.type, event.channels, event.timestamp, event.data)
        first = self._first.get(caller)
        if first is not None and first.offer.stored is False:
            first = None
        aged = first is not None and self.ledger.aged(first.offer)
        if isinstance(result, Accepted):
            require(first is None or aged or not alone, caller, "is known, and was accepted as new")
            self._first[caller] = First(content, self.ledger.offers[result.id])
            return
        if not alone or aged:
            return
        if first is None:  # it was stored by a life that could not say so any more
            require(caller in self._uncertain, caller, "is new, and was answered", result)
            return
        require(result.id == first.offer.event.id, caller, "was answered with another event than the first:", result)
        same = content == first.content
        require(isinstance(result, Duplicate if same else Clash), caller, "same" if same else "other", result)

    def learn(self) -> None:
        """After a crash: events of the former life that were stored without an answer count as first, too."""
        for offer in self.ledger.offers.values():
            caller = offer.event.caller_id
            if caller is not None and offer.stored:
                self._uncertain.add(caller)
        self._asking.clear()

    # ------------------------------------------------------------------------------------------------- operators

    async def edit(self) -> None:
        self.world.note("commit", self.editor.edit(self.world.now_ms()))
        await self.apply()

    async def replay(self) -> None:
        self.world.note("replay", self.editor.replay(self.world.now_ms()))
        await self.apply()

    async def resume(self) -> None:
        self.world.note("commit", self.editor.resume())
        await self.apply()

    async def apply(self) -> None:
        assert self.engine is not None
        plan = self.editor.plan
        config = compiled(plan)
        self.ledger.requested(config, plan)
        await self.engine.apply(config, running=RUNNING)
        if self.world.alive:
            self.ledger.in_force()

    async def redeliver(self) -> None:
        delivery = self._some_delivery()
        if delivery is None or self.engine is None:
            return
        before = self.ledger.in_force()
        delivery.asked = True
        refusal = await self.engine.redeliver(delivery.id)
        if not self.world.alive:
            return
        self.world.note("redeliver", delivery.id, refusal)
        after = self.ledger.in_force()
        plans = [plan.of(delivery.key) for plan in (before, after)]
        old = self.ledger.aged(delivery.offer)
        names = [item.name for plan in (before, after) for item in plan.endpoints if item.state.value == "Disabled"]
        just = {
            None: True,
            OperateRefusal.NOT_FOUND: None in plans or old,
            OperateRefusal.ENDPOINT_DISABLED: delivery.key.name in names,
            OperateRefusal.PAYLOAD_ERASED: delivery.offer.erase_asked or old,
        }[refusal]
        self.world.require(just, "a redelivery of", delivery.id, "was refused without a cause:", refusal)

    async def test(self) -> None:
        assert self.engine is not None
        name = self.world.people.choice(("e0", "e1"))
        TESTING.set(True)
        answer = await self.engine.test(name, event_type=None)
        if self.world.alive:
            what = answer.status_code if isinstance(answer, TestResult) else answer.value
            self.world.note("test", name, what)

    async def erase(self) -> None:
        delivery = self._some_delivery()
        if delivery is None or self.engine is None:
            return
        offer = delivery.offer
        offer.erase_asked = True
        found = await self.engine.erase(offer.event.id)
        if self.world.alive:
            self.world.note("erase", offer.event.id, found)
            offer.erased = offer.erased or found
            self.world.require(
                found or self.ledger.aged(offer), offer.event.id, "was accepted, and cannot be found to be erased"
            )

    def _some_delivery(self) -> Delivery | None:
        known = [one for one in self.ledger.deliveries.values() if one.offer.stored and one.made]
        return self.world.people.choice(known[-30:]) if known else None

    # ------------------------------------------------------------------------------------------------- accidents

    async def mood(self) -> None:
        self.world.note("receiver", self.receivers.change())

    async def step_clock(self) -> None:
        step = self.world.people.choice((-3_600_000, -1_500, 1_500, 3_600_000))
        self.world.now_ms()
        self.world.clock.step_ms += step
        self.world.stepped_back_ms += max(0, -step)
        self.world.now_ms()
        self.world.note("wall clock steps by", step)

    async def fill_disk(self) -> None:
        self.disk.full = self.world.excused = True
        self.world.note("the disk is full")
        await asyncio.sleep(self.world.people.choice((0.05, 2, 12)))
        self.disk.full = False
        self.world.note("the disk has room again")

    async def hiccups(self) -> None:
        self.world.hiccups = self.world.excused = True
        self.world.note("the store has hiccups")
        await asyncio.sleep(self.world.people.choice((0.05, 2, 12)))
        self.world.hiccups = False
        self.world.note("the store has none any more")


Action = Callable[[People], Awaitable[None]]
ACTIONS: Final[dict[Action, float]] = {
    People.publish: 10,
    People.edit: 4,
    People.resume: 1,
    People.replay: 0.6,
    People.redeliver: 2,
    People.test: 0.7,
    People.erase: 0.7,
    People.mood: 4,
    People.step_clock: 0.4,
    People.fill_disk: 0.5,
    People.hiccups: 0.5,
}
