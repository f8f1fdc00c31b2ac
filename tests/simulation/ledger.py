"""Everything that was promised and everything that left the process, and what must hold between the two."""

from __future__ import annotations

import base64
import hmac
import math
from collections import defaultdict, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from hookstead.delivery.engine import Engine
from hookstead.delivery.ports import (
    EndpointKey,
    ErrorCode,
    NewEvent,
    OutboundRequest,
    RecentAttempt,
    ReplayDelivery,
    ReplayWindow,
    SendResult,
)
from hookstead.resources.kinds import EndpointState, PayloadFormat
from hookstead.store.codec import STATUSES
from simulation.manifests import EndpointPlan, Event, Plan
from simulation.oracle import DAY_MS, Oracle, Verdict, wish
from simulation.records import MANUAL, Records, Row
from simulation.world import World

if TYPE_CHECKING:
    from hookstead.config.model import DeliveryConfig

NEVER: Final = -1.0
PENDING, DELIVERED, DEAD, CANCELLED = STATUSES


@dataclass(slots=True, eq=False)
class Offer:
    """An event that the engine gave to the store. `stored`: None while nobody knows."""

    event: NewEvent
    at: float
    stored: bool | None = None
    erase_asked: bool = False
    erased: bool = False


@dataclass(slots=True, eq=False)
class Delivery:
    """One delivery as the world knows it. `next_ms`: when the schedule allows the next attempt, at the earliest.

    `made_by` is the replay that made it, if one did; `made` is None while nobody knows whether it is stored. `armed`:
    replays that may have re-armed it, and when it would be due then; `replays`: those that have.
    """

    id: str
    offer: Offer
    key: EndpointKey
    next_ms: int
    at: float
    form: PayloadFormat = PayloadFormat.STANDARD_WEBHOOKS
    attempts: int = 0
    scheduled: int = 0
    lost: int = 0
    sends: int = 0
    arrived: bool = False
    succeeded: bool = False
    hopeless: bool = False
    used_up: bool = False
    asked: bool = False
    open: Send | None = None
    made_by: str | None = None
    made: bool | None = True
    armed: dict[str, int] = field(default_factory=dict)
    replays: set[str] = field(default_factory=set)


@dataclass(slots=True, eq=False)
class Send:
    """One request that left the process. `manual`: it may be the answer to a redelivery request."""

    number: int
    delivery: Delivery | None
    key: EndpointKey
    started_ms: int
    manual: bool
    plan: EndpointPlan
    ordered: bool = False
    result: SendResult | None = None
    ended_ms: int = 0


class Ledger:
    """Told of everything that happens; every method may raise Violation."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.offers: dict[str, Offer] = {}
        self.deliveries: dict[str, Delivery] = {}
        self.oracles: dict[EndpointKey, Oracle] = defaultdict(Oracle)
        self.under_way: dict[EndpointKey, int] = defaultdict(int)
        self.ratios: list[float] = []
        self.accepting = 0
        self.records = Records()
        self._engine: Engine | None = None
        self._plans: list[tuple[DeliveryConfig, Plan]] = []
        self._seen: DeliveryConfig | None = None
        self._plan = Plan()
        self._off_until: dict[EndpointKey, float] = {}
        self._off_since: dict[EndpointKey, float] = {}
        self._recent: dict[EndpointKey, deque[float]] = defaultdict(deque)
        self._rates: dict[EndpointKey, int | None] = {}
        self._sends = 0
        self._shortest_payload_days = 365

    # ------------------------------------------------------------------------------------------ configuration

    def follow(self, engine: Engine) -> None:
        self._engine = engine

    def requested(self, config: DeliveryConfig, plan: Plan) -> None:
        """Somebody asked for this configuration."""
        self._plans = [*self._plans[-20:], (config, plan)]
        self._off_until.update((key, math.inf) for key in self._known(plan) if _is_off(plan, key))

    def in_force(self) -> Plan:
        """The plan behind the configuration that the engine says it runs."""
        config = self._engine.config if self._engine is not None else None
        if config is not self._seen and config is not None:
            found = [plan for known, plan in self._plans if known is config]
            self.world.require(found, "the engine runs a configuration that nobody asked for")
            self._seen, self._plan = config, found[0]
            self._changed()
        self._resumes()
        return self._plan

    def _changed(self) -> None:
        plan, now = self._plan, self.world.clock.seconds
        self._shortest_payload_days = min(self._shortest_payload_days, plan.payload_days)
        for key in self._known(plan):
            if _is_off(plan, key):
                self._off_until[key] = math.inf
                self._off_since.setdefault(key, now)
                continue
            self._off_since.pop(key, None)
            if self._off_until.setdefault(key, NEVER) == math.inf:
                self._off_until[key] = now
        for item in plan.endpoints:
            if not item.circuit:
                self.oracles[item.key].without_circuit()
            if self._rates.get(item.key, item.rate) != item.rate:
                self._recent[item.key].clear()
            self._rates[item.key] = item.rate

    def _known(self, plan: Plan) -> set[EndpointKey]:
        return {*self._off_until, *(item.key for item in plan.endpoints)}

    def _resumes(self) -> None:
        """Learn when the engine took a resume request; that it was made is known, and what it does is the oracle's."""
        if self._engine is None:
            return
        lanes = self._engine._dispatcher.lanes
        for item in self._plan.endpoints:
            oracle, lane = self.oracles[item.key], lanes.get(item.name)
            if item.resume is None or item.resume == oracle.resumed or lane is None or lane.key != item.key:
                continue
            if lane.state.handled_resume_at == item.resume:
                oracle.resume(item.resume)

    # ------------------------------------------------------------------------------------------------- acceptance

    def offered(self, events: Sequence[NewEvent]) -> None:
        """The engine chose these endpoints for these events."""
        plan = self.in_force()
        for event in events:
            offer = self.offers[event.id] = Offer(event, self.world.clock.seconds)
            wanted = plan.selected(seen_by_selection(event))
            chosen = sorted(delivery.endpoint for delivery in event.deliveries)
            self.world.require(
                chosen == wanted, "selection of", event.type, event.channels, event.data, "is", chosen, "not", wanted
            )
            for new in event.deliveries:
                delivery = Delivery(new.id, offer, new.endpoint, event.accepted_ms, offer.at, form=new.payload_format)
                self.deliveries[new.id] = delivery

    def settled(self, event: NewEvent, *, stored: bool) -> None:
        """The store answered for the event, or the power failed and its file was read."""
        self.offers[event.id].stored = stored

    # ------------------------------------------------------------------------------------------------- replays

    def replaying(self, window: ReplayWindow, items: Sequence[ReplayDelivery]) -> None:
        """The engine is about to store these deliveries of a replay, or to re-arm these dead letters."""
        plan = self.in_force()
        target = plan.of(window.endpoint)
        require = self.world.require
        for item in items:
            if item.rearm:
                self.deliveries[item.delivery_id].armed[window.uid] = item.due_ms
                continue
            offer = self.offers[item.event_id]
            inside = window.since_ms <= offer.event.accepted_ms < window.until_ms
            require(inside, window.uid, "delivers", item.event_id, "which is outside its window")
            selected = target is not None and plan.selects(target, seen_by_selection(offer.event))
            require(selected, window.uid, "delivers", item.event_id, "which the endpoint does not select")
            self.deliveries[item.delivery_id] = Delivery(
                item.delivery_id,
                offer,
                window.endpoint,
                item.due_ms,
                self.world.clock.seconds,
                form=item.payload_format,
                made_by=window.uid,
                made=None,
            )

    def _replayed(self, delivery: Delivery, row: Row) -> None:
        """Learn from its row what a replay did to a delivery; none does it twice."""
        if delivery.made is None:
            delivery.made = True
            twins = [
                one
                for one in self.deliveries.values()
                if one is not delivery and one.made and one.made_by == delivery.made_by and one.offer is delivery.offer
            ]
            self.world.require(not twins, delivery.made_by, "delivers", delivery.offer.event.id, "twice")
        due_ms = delivery.armed.get(row.replay or "")
        if due_ms is not None and row.replay is not None and row.replay not in delivery.replays:
            delivery.replays.add(row.replay)
            delivery.at = self.world.clock.seconds
            delivery.scheduled, delivery.used_up, delivery.hopeless = 0, False, False
            delivery.next_ms = due_ms
            self.world.stats["re-armed"] += 1

    def aged(self, offer: Offer) -> bool:
        """Whether retention may have taken it, by a wall clock that was stepped back, too."""
        return self.world.latest_ms - offer.event.accepted_ms >= DAY_MS - self.world.stepped_back_ms

    # ------------------------------------------------------------------------------------------------- attempts

    def sending(self, request: OutboundRequest, delivery_id: str, *, test: bool) -> Send:
        """A request leaves. Everything that may forbid it is asked."""
        plan, key, now_ms = self.in_force(), request.endpoint, self.world.now_ms()
        headers = dict(request.headers)
        found = plan.of(key)
        message_id = headers["webhook-id"]
        self.world.require(found is not None, "a request to", key, "which was deleted")
        assert found is not None
        self.world.require(request.url == found.url, "a request to another URL than", found.url)
        self._signed(found, headers, request.body, now_ms)
        self._sends += 1
        self.world.stats["sends"] += 1
        self.world.note("send", *key, message_id, "test" if test else "")
        if test:
            self.world.require(found.state is not EndpointState.DISABLED, "a test to", key, "which is disabled")
            return Send(self._sends, None, key, now_ms, True, found)
        delivery = self.deliveries.get(delivery_id)
        mine = delivery is not None and delivery.offer.event.id == message_id and delivery.key == key
        self.world.require(mine, message_id, "is sent to", key, "which was not selected for it")
        assert delivery is not None
        row = self.records.delivery(delivery.id)
        self.world.require(row, delivery.id, "is sent before it is stored")
        assert row is not None
        self._replayed(delivery, row)
        send = Send(self._sends, delivery, key, now_ms, row.manual_ms is not None, found)
        send.ordered = found.ordered and row.in_order
        self._permitted(send, delivery, row, plan)
        self.world.require(_body(delivery, found, request.body), "other bytes than the producer's", request.body)
        delivery.open = send
        delivery.sends += 1
        self.under_way[key] += 1
        return send

    def _signed(self, plan: EndpointPlan, headers: dict[str, str], body: bytes, now_ms: int) -> None:
        content = b"%s.%d.%s" % (headers["webhook-id"].encode(), now_ms // 1000, body)
        valid = [key for key in plan.keys if key.not_after_ms is None or now_ms < key.not_after_ms]
        wanted = " ".join(
            "v1," + base64.b64encode(hmac.digest(key.secret, content, "sha256")).decode() for key in valid
        )
        self.world.require(
            headers.get("webhook-signature") == wanted,
            "not signed by exactly the unexpired keys",
            [key.id for key in valid],
            "of",
            plan.name,
        )
        self.world.require(headers["webhook-timestamp"] == str(now_ms // 1000), "the timestamp is not the attempt's")

    def _permitted(self, send: Send, delivery: Delivery, row: Row, plan: Plan) -> None:
        require, key, standing = self.world.require, send.key, self.oracles[send.key].standing
        held = plan.why_held(key) or standing.forbids(exact=not self.world.stepped_back_ms)
        require(held is None, "an attempt to", key, "although", held)
        require(self.under_way[key] < send.plan.in_flight, "more than", send.plan.in_flight, "in flight to", key)
        require(delivery.open is None, delivery.id, "is sent although its last attempt is not recorded")
        require(not delivery.offer.erased, delivery.id, "is sent although its payload was erased")
        require(delivery.asked or not send.manual, delivery.id, "is redelivered, which nobody asked for")
        self._within_rate(send)
        if not send.manual:
            self._scheduled(send, delivery, row, send.started_ms)

    def _scheduled(self, send: Send, delivery: Delivery, row: Row, now_ms: int) -> None:
        require, key, standing = self.world.require, send.key, self.oracles[send.key].standing
        deferred = standing.defers(now_ms + self.world.stepped_back_ms)
        require(deferred is None, "an attempt to", key, "although", deferred)
        if standing.probe_ms is not None:
            require(not self.under_way[key], "an open circuit probes", key, "with more than one attempt at a time")
        require(not delivery.succeeded, delivery.id, "is sent again although it arrived and that was recorded")
        require(not delivery.used_up, delivery.id, "is sent again although its schedule is used up")
        early = delivery.next_ms - self.world.latest_ms - self.world.stepped_back_ms
        require(early <= 0, delivery.id, "is sent", early, "ms before its time")
        if row.status is CANCELLED:
            racing = delivery.offer.erase_asked if row.reason == "PayloadErased" else row.reason == "Expired"
            require(racing, delivery.id, "is sent although it was cancelled:", row.reason)
        if send.plan.ordered and row.in_order:
            first = self.records.first_pending(key)
            require(first in (None, row.seq), delivery.id, "overtakes an older delivery to", key)
            mine = [one.open for one in self.deliveries.values() if one.key == key and one.open]
            others = [one for one in mine if one.ordered and not one.manual]
            require(not others, delivery.id, "is sent beside another one to", key, "which is Ordered")

    def _within_rate(self, send: Send) -> None:
        """GCRA with a burst of a tenth of a second: what may be sent within any second (half open)."""
        rate, now, times = send.plan.rate, self.world.clock.seconds, self._recent[send.key]
        times.append(now)
        while times[0] <= now - 1 + 1e-6:
            times.popleft()
        if rate is not None:
            most = math.ceil(rate + max(rate / 10, 1)) - 1
            self.world.require(len(times) <= most, len(times), "attempts to", send.key, "within a second, not", most)

    def hung_up(self, send: Send) -> None:
        """The process ended the request before there was an answer."""
        if send.delivery is not None:
            self.under_way[send.key] -= 1

    def answered(self, send: Send, result: SendResult) -> None:
        """The receiver has answered; the process is about to know."""
        plan, now_ms = self.in_force(), self.world.now_ms()
        delivery = send.delivery
        self.world.note("answer", send.number, *send.key, result.status_code, result.error, result.retry_after)
        if delivery is None:
            return
        self.under_way[send.key] -= 1
        send.result, send.ended_ms = result, now_ms
        send.plan = plan.of(send.key) or send.plan
        arrived = result.error is None and 200 <= result.status_code < 300
        delivery.arrived = delivery.arrived or arrived
        asked = result.retry_after if result.status_code in (429, 503) else None
        self.oracles[send.key].add(
            Verdict(
                send=send.number,
                started_ms=send.started_ms,
                ended_ms=now_ms,
                succeeded=arrived,
                gone=result.status_code == 410,
                retry_after_ms=wish(asked, now_ms=now_ms),
                circuit=send.plan.circuit,
                suspend_after=plan.suspend_after,
            )
        )

    def recorded(self, attempt: RecentAttempt) -> None:
        """The process says that the attempt is on the disk."""
        delivery = self.deliveries[attempt.delivery_id]
        send = delivery.open
        self.world.require(
            send is not None and send.result is not None and send.started_ms == attempt.started_ms,
            "an attempt of", delivery.id, "is recorded that was not made",
        )  # fmt: skip
        row = self.records.delivery(delivery.id)
        if row is not None:
            self._on_disk(delivery, row)
        else:
            delivery.open = None

    def _on_disk(self, delivery: Delivery, row: Row) -> None:
        """The delivery's open attempt is on the disk, and `row` is what it made of the delivery."""
        self._replayed(delivery, row)
        send, delivery.open = delivery.open, None
        assert send is not None
        assert send.result is not None
        delivery.attempts += 1
        self.world.require(row.attempts == delivery.attempts, delivery.id, "counts", row.attempts, "attempts, not",
                           delivery.attempts)  # fmt: skip
        manual = send.manual and self.records.trigger(row, delivery.attempts) == MANUAL
        self.world.note("recorded", send.number, row.status.value, row.next_ms)
        if send.result.error is None and 200 <= send.result.status_code < 300:
            delivery.succeeded = True
            self.world.require(row.status is DELIVERED, delivery.id, "arrived and is", row.status)
        elif manual:
            if row.status is PENDING:
                moved = delivery.next_ms - (row.next_ms or 0)
                just = 0 <= moved <= self.world.stepped_back_ms
                self.world.require(just, delivery.id, "was redelivered, which moved its retry by", -moved, "ms")
        else:
            self._failed(delivery, send, send.result, row)

    def _failed(self, delivery: Delivery, send: Send, result: SendResult, row: Row) -> None:
        """A scheduled attempt failed: the wait is the schedule's, jittered by a fifth, lengthened by Retry-After."""
        position, schedule = delivery.scheduled, send.plan.schedule
        if result.status_code == 410 and position >= len(schedule) and row.status is PENDING:
            delivery.next_ms = row.next_ms or 0  # held, with one more attempt for whoever resumes it
            return
        delivery.scheduled += 1
        delivery.hopeless = delivery.hopeless or result.error is ErrorCode.ADDRESS_DENIED
        delivery.used_up = delivery.hopeless or position >= len(schedule)
        if row.status is CANCELLED or row.status is DELIVERED:
            return
        wanted = DEAD if delivery.used_up else PENDING
        self.world.require(row.status is wanted, delivery.id, "failed and is", row.status, "not", wanted)
        if row.next_ms is None:
            return
        asked = wish(result.retry_after if result.status_code in (429, 503) else None, now_ms=send.ended_ms) or 0
        wait, scheduled = row.next_ms - send.ended_ms, schedule[position] * 1000
        shortest, longest = max(asked, round(scheduled * 0.8)), max(asked, round(scheduled * 1.2))
        shortest -= self.world.stepped_back_ms
        self.world.require(shortest <= wait <= longest, delivery.id, "waits", wait, "ms, not", shortest, "to", longest)
        if wait != asked:
            self.ratios.append(wait / scheduled)
        delivery.next_ms = row.next_ms

    # ------------------------------------------------------------------------------------------------- lives

    def reopened(self) -> None:
        """A new life begins: find out what became of everything that was under way."""
        self.under_way.clear()
        self._off_since.clear()
        self._engine, self._seen = None, None
        for offer in self.offers.values():
            if offer.stored is None:
                self.settled(offer.event, stored=self.records.has_event(offer.event.id))
        for delivery in self.deliveries.values():
            self._revive(delivery)

    def _revive(self, delivery: Delivery) -> None:
        if delivery.made is None or delivery.armed.keys() - delivery.replays:
            row = self.records.delivery(delivery.id)
            if row is not None:
                self._replayed(delivery, row)
            delivery.made = bool(delivery.made)
            delivery.armed = {uid: due for uid, due in delivery.armed.items() if uid in delivery.replays}
        if delivery.open is not None:
            self._resolve(delivery, delivery.open)

    def _resolve(self, delivery: Delivery, send: Send) -> None:
        row = self.records.delivery(delivery.id)
        if row is not None and send.result is not None and row.attempts > delivery.attempts:
            self._on_disk(delivery, row)
            return
        delivery.open = None
        delivery.lost += 1
        self.world.stats["lost attempts"] += 1
        self.oracles[send.key].forget([send.number])

    # ------------------------------------------------------------------------------------------------- audit

    def audit(self) -> None:
        """Hold every row of the file against what is known."""
        self.in_force()
        rows = self.records.deliveries()
        known = {row.id for row in rows}
        for row in rows:
            self._row(row, self.deliveries.get(row.id))
        for delivery in self.deliveries.values():
            if delivery.offer.stored and delivery.made and delivery.id not in known:
                self.world.require(self.aged(delivery.offer), delivery.id, "was accepted and is gone too soon")
        self._counts()
        if self._engine is not None and not self.world.stepped_back_ms:
            self._agreement()

    def _agreement(self) -> None:
        """The engine holds an endpoint back where the contract says so, and nowhere else."""
        for item in self._plan.endpoints:
            lane = self._engine._dispatcher.lanes.get(item.name)  # type: ignore[union-attr]  # asked by the caller
            if lane is None or lane.key != item.key:
                continue
            standing, state = self.oracles[item.key].standing, lane.state
            held = (state.gone_ms is not None, state.suspended_ms is not None, state.circuit_opened_ms is not None)
            wanted = (standing.gone, standing.suspended, standing.probe_ms is not None)
            names = "(Gone, Suspended, CircuitOpen)"
            self.world.require(held == wanted, item.key, "is", names, held, "and should be", wanted)

    def _pending_although_off(self, row: Row, delivery: Delivery) -> bool:
        """Whether its endpoint was deleted or disabled a while ago."""
        since = self._off_since.get(delivery.key)
        return since is not None and self.world.clock.seconds - since > 5

    def _row(self, row: Row, delivery: Delivery | None) -> None:
        require = self.world.require
        require(delivery is not None, row.id, "was never made")
        assert delivery is not None
        self._replayed(delivery, row)
        require(delivery.offer.stored is not False, row.id, "is there although its event was refused")
        require(row.attempts >= delivery.attempts, row.id, "forgot an attempt")
        require(not delivery.succeeded or row.status is DELIVERED, row.id, "was Delivered and is", row.status)
        require(delivery.sends - delivery.lost - bool(delivery.open) == delivery.attempts, row.id, "lost an attempt")
        if row.status is DELIVERED:
            require(delivery.arrived, row.id, "is Delivered and never arrived")
        if row.status is DEAD and not delivery.open:
            require(delivery.used_up, row.id, "is DeadLettered with", delivery.scheduled, "attempts of its schedule")
        if row.status is PENDING:
            require(row.next_ms is not None, row.id, "is Pending for ever")
            require(delivery.open or not delivery.used_up, row.id, "is Pending with a schedule that is used up")
            moved = delivery.next_ms - (row.next_ms or 0)
            require(delivery.open or 0 <= moved <= self.world.stepped_back_ms, row.id, "was moved by", -moved, "ms")
            late = self._pending_although_off(row, delivery) and not self.world.excused
            require(not late, row.id, "is Pending although its endpoint is deleted or disabled")
        if row.status is CANCELLED:
            self._cancelled(row, delivery)

    def _cancelled(self, row: Row, delivery: Delivery) -> None:
        if row.reason == "PayloadErased":
            just: bool = delivery.offer.erase_asked
        elif row.reason == "Expired":
            just = self.world.latest_ms >= delivery.offer.event.accepted_ms + self._shortest_payload_days * DAY_MS
        else:
            just = delivery.at <= self._off_until.get(delivery.key, NEVER)
        self.world.require(just, row.id, "is Cancelled", row.reason, "without a cause")

    def _counts(self) -> None:
        """accepted = delivered + dead-lettered + pending + cancelled, per endpoint."""
        accepted: dict[EndpointKey, int] = defaultdict(int)
        for delivery in self.deliveries.values():
            accepted[delivery.key] += delivery.offer.stored is True and delivery.made is True
        for key, counts in self.records.counts().items():
            total = sum(counts[1:])
            self.world.require(counts[0] == total, key, "was given", counts[0], "deliveries, has", total)
            if not self.accepting and counts[0] != accepted[key]:
                self.world.require(False, key, "was given", accepted[key], "deliveries, counts", counts[0])


def _is_off(plan: Plan, key: EndpointKey) -> bool:
    """Whether a configuration cancels what is pending for the endpoint."""
    found = plan.of(key)
    return found is None or found.state is EndpointState.DISABLED


def seen_by_selection(event: NewEvent) -> Event:
    """Data is `{"n":1,…}` or something without `n`."""
    head = event.data.split(b",")[0]
    n = int(head.removeprefix(b'{"n":').rstrip(b"}")) if head.startswith(b'{"n":') else None
    return Event(event.type, event.channels, n, event.data)


def _body(delivery: Delivery, plan: EndpointPlan, body: bytes) -> bool:
    """Whether the receiver gets what the producer sent; the format is frozen at acceptance."""
    event = delivery.offer.event
    if delivery.form is PayloadFormat.DATA_ONLY:
        return body == event.data
    return body == b'{"type":"%s","timestamp":%s,"data":%s}' % (event.type.encode(), event.timestamp, event.data)
