"""Any sequence of work against a model that fits on a page; after every step the store's own check and the counts."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable
from dataclasses import dataclass, field
from itertools import count
from typing import Any, Protocol, TypeVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from hookstead.config.model import RetentionPolicy
from hookstead.delivery.ports import (
    Accepted,
    CancelReason,
    Claim,
    Clash,
    DeliveryStatus,
    Duplicate,
    EndpointCounts,
    EndpointKey,
    Job,
    NewEvent,
    RedeliveryRefusal,
    ReplayDelivery,
    ReplayWindow,
    Settlement,
    Store,
    Trigger,
)
from hookstead.delivery.transitions import reconcile
from hookstead.resources.kinds import PayloadFormat, ReplaySelect
from store.samples import DAY, DEAD, DELIVERED, NOW, A, B, StoppedClock, attempt, event, retry

Result = TypeVar("Result")
PENDING, ARRIVED, DEAD_LETTERED, CANCELLED = DeliveryStatus
ENDPOINTS = (A, B, EndpointKey("a", "uid-a2"))


@dataclass(slots=True)
class Row:
    """One delivery in the model."""

    id: str
    order: int
    endpoint: EndpointKey
    event: NewEvent
    next_ms: int | None
    claimed: Job | Trigger | None
    status: DeliveryStatus = PENDING
    attempts: int = 0
    position: int = 0
    manual_ms: int | None = None
    ended_ms: int | None = None
    in_order: bool = True


def _is_scheduled(claimed: Job | Trigger | None) -> bool:
    trigger = claimed.trigger if isinstance(claimed, Job) else claimed
    return trigger is not None and trigger is not Trigger.MANUAL


@dataclass(slots=True)
class Model:
    rows: dict[str, Row] = field(default_factory=dict)
    events: dict[str, NewEvent] = field(default_factory=dict)
    erased: set[str] = field(default_factory=set)
    callers: dict[str, NewEvent] = field(default_factory=dict)
    retired: dict[EndpointKey, list[int]] = field(default_factory=dict)
    seen: set[EndpointKey] = field(default_factory=set)

    def of(self, endpoint: EndpointKey) -> list[Row]:
        return [row for row in self.rows.values() if row.endpoint == endpoint]

    def cancel(self, rows: Iterable[Row], at: int) -> int:
        ended = [row for row in rows if row.status is PENDING]
        for row in ended:
            row.status, row.ended_ms, row.next_ms = CANCELLED, at, None
        return len(ended)

    def counts(self) -> dict[EndpointKey, EndpointCounts]:
        found = {}
        for endpoint in self.seen:
            tally = list(self.retired.get(endpoint, [0, 0, 0, 0]))
            for row in self.of(endpoint):
                tally[list(DeliveryStatus).index(row.status)] += 1
            found[endpoint] = EndpointCounts(*tally)
        return found

    def expected_claim(
        self, endpoint: EndpointKey, now: int, limit: int, max_bytes: int, ordered: bool
    ) -> tuple[list[str], int | None]:
        rows = self.of(endpoint)
        manual = sorted(
            (row for row in rows if row.manual_ms is not None and row.claimed is None),
            key=lambda row: (row.manual_ms, row.order),
        )
        pending = sorted((row for row in rows if row.status is PENDING), key=lambda row: (row.next_ms, row.order))
        automatic = [pending]
        if ordered:
            in_order = sorted((row for row in pending if row.in_order), key=lambda row: row.order)
            automatic = [in_order[:1], [row for row in pending if not row.in_order]]
        chosen: list[tuple[int, Row]] = []
        left: list[int] = []

        def sift(queue: Iterable[tuple[int, Row]]) -> None:
            for instant, row in queue:
                if row in [earlier for _, earlier in chosen] or row.claimed is not None:
                    continue
                if instant > now or len(chosen) >= limit:
                    left.append(instant)
                else:
                    chosen.append((instant, row))

        # A request whose delivery is under way for another reason is due behind that.
        left += [row.manual_ms for row in rows if row.manual_ms is not None and _is_scheduled(row.claimed)]
        sift((row.manual_ms or 0, row) for row in manual)
        requests = len(chosen)
        for part in automatic:
            sift((row.next_ms or 0, row) for row in part)
        chosen[requests:] = sorted(chosen[requests:], key=lambda item: (item[0], item[1].order))
        picked: list[str] = []
        size = 0
        for place, (_, row) in enumerate(chosen):
            size += len(row.event.data)
            if size > max_bytes and picked:
                left += [instant for instant, _ in chosen[place:]]
                break
            picked.append(row.id)
        return picked, min(left, default=None)


class Place(Protocol):
    """Where a store lives: it can be opened, closed, and opened again with what it holds."""

    async def open(self, clock: StoppedClock) -> Store: ...

    async def leave(self) -> None:
        """The store was closed for the last time."""


class StoreMachine(RuleBasedStateMachine):
    def __init__(self, place: Place) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.place = place
        self.clock = StoppedClock()
        self.model = Model()
        self.orders = count()
        self.store: Store = self.opened()

    def opened(self) -> Store:
        return self.do(self.place.open(self.clock))

    def do(self, call: Coroutine[Any, Any, Result]) -> Result:
        return self.runner.run(call)

    def teardown(self) -> None:
        self.do(self.store.close())
        self.do(self.place.leave())
        self.runner.close()

    @property
    def now(self) -> int:
        return self.clock.wall_ms

    @initialize()
    def start(self) -> None:
        self.clock.wall_ms = NOW

    # ------------------------------------------------------------------------------------------------------- rules

    @rule(
        wanted=st.lists(
            st.tuples(
                st.lists(st.sampled_from(ENDPOINTS), max_size=3, unique=True),
                st.booleans(),
                st.sampled_from([None, "k", "l"]),
                st.sampled_from(["x", "y"]),
                st.integers(2, 12),
            ),
            min_size=1,
            max_size=5,
        ),
        apart=st.booleans(),
    )
    def accept(self, wanted: list[tuple[list[EndpointKey], bool, str | None, str, int]], apart: bool) -> None:
        events = [
            event(*to, at=self.now, claimed=claimed, caller=caller, content=content, data=b"1" * size)
            for to, claimed, caller, content, size in wanted
        ]
        if apart:
            calls = [self.store.accept([one]) for one in events]

            async def together() -> list[Accepted | Duplicate | Clash]:
                return [answer for [answer] in await asyncio.gather(*calls)]

            answers = self.do(together())
        else:
            answers = list(self.do(self.store.accept(events)))
        assert answers == [self.accepted(one) for one in events]

    def accepted(self, one: NewEvent) -> Accepted | Duplicate | Clash:
        model = self.model
        if one.caller_id is not None:
            first = model.callers.setdefault(one.caller_id.id, one)
            if first is not one:
                same = first.digest == one.digest
                return Duplicate(first.id, len(first.deliveries)) if same else Clash(first.id)
        model.events[one.id] = one
        for made in one.deliveries:
            model.seen.add(made.endpoint)
            model.rows[made.id] = Row(
                made.id,
                next(self.orders),
                made.endpoint,
                one,
                self.now,
                Trigger.SCHEDULED if made.claimed else None,
            )
        return Accepted(one.id, len(one.deliveries))

    @rule(
        endpoint=st.sampled_from(ENDPOINTS),
        limit=st.integers(1, 4),
        max_bytes=st.sampled_from([0, 15, 1000]),
        ordered=st.booleans(),
        later=st.sampled_from([0, 0, 60, 2000]),
    )
    def claim(self, endpoint: EndpointKey, limit: int, max_bytes: int, ordered: bool, later: int) -> None:
        now = self.now + later
        expected = self.model.expected_claim(endpoint, now, limit, max_bytes, ordered)
        found: Claim = self.do(
            self.store.claim(endpoint, now_ms=now, limit=limit, max_bytes=max_bytes, ordered=ordered)
        )
        assert ([job.delivery_id for job in found.jobs], found.next_due_ms) == expected
        for job in found.jobs:
            row = self.model.rows[job.delivery_id]
            assert (job.status, job.attempt_count, job.schedule_position) == (row.status, row.attempts, row.position)
            assert (job.trigger is Trigger.MANUAL) == (row.manual_ms is not None)
            assert (job.data, job.due_ms) == (row.event.data, row.next_ms)
            row.claimed = job

    def claimed(self) -> list[Row]:
        return [row for row in self.model.rows.values() if row.claimed is not None]

    @precondition(lambda self: self.claimed())
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        rows = data.draw(st.lists(st.sampled_from(self.claimed()), unique_by=lambda row: row.id, max_size=3))
        self.do(self.store.release([row.id for row in rows]))
        for row in rows:
            row.claimed = None

    @precondition(lambda self: self.claimed())
    @rule(data=st.data(), apart=st.booleans())
    def record(self, data: st.DataObject, apart: bool) -> None:
        rows = data.draw(st.lists(st.sampled_from(self.claimed()), unique_by=lambda row: row.id, min_size=1))
        records = []
        for row in rows:
            settlement: Settlement = data.draw(
                st.sampled_from([DELIVERED, DEAD, retry(self.now + 50), retry(self.now)])
            )
            of = row.claimed if isinstance(row.claimed, Job) else row.id
            records.append(attempt(of, settlement, endpoint=row.endpoint, at=self.now, duration=7))
        if apart:
            calls = [self.store.record([one], {}) for one in records]

            async def together() -> list[int]:
                return [number for [number] in await asyncio.gather(*calls)]

            numbers = self.do(together())
        else:
            numbers = list(self.do(self.store.record(records, {})))
        for row, one, number in zip(rows, records, numbers, strict=True):
            row.claimed = None
            if row.id not in self.model.rows:
                assert number == 0
                continue
            row.attempts += 1
            assert number == row.attempts
            if one.trigger is Trigger.MANUAL:
                row.manual_ms = None
            following = reconcile(
                row.status, one.prior_status, one.settlement, succeeded=one.succeeded, trigger=one.trigger
            )
            if following is not None:
                row.status, row.next_ms, row.position = (
                    following.status,
                    following.next_attempt_ms,
                    following.schedule_position,
                )
                row.ended_ms = None if following.status is PENDING else self.now + 7

    @rule(endpoint=st.sampled_from(ENDPOINTS))
    def cancel(self, endpoint: EndpointKey) -> None:
        cancelled = self.do(self.store.cancel(endpoint, reason=CancelReason.ENDPOINT_DISABLED, now_ms=self.now))
        rows = self.model.of(endpoint)
        assert cancelled == self.model.cancel(rows, self.now)
        for row in rows:
            row.manual_ms = None

    @precondition(lambda self: self.model.rows)
    @rule(data=st.data())
    def redeliver(self, data: st.DataObject) -> None:
        row = data.draw(st.sampled_from(list(self.model.rows.values())))
        answer = self.do(self.store.request_redelivery(row.id, now_ms=self.now))
        if row.event.id in self.model.erased:
            assert answer is RedeliveryRefusal.PAYLOAD_ERASED
        else:
            assert answer == row.endpoint
            row.manual_ms = self.now if row.manual_ms is None else row.manual_ms

    @precondition(lambda self: self.model.events)
    @rule(data=st.data())
    def erase(self, data: st.DataObject) -> None:
        one = data.draw(st.sampled_from(list(self.model.events.values())))
        rows = [row for row in self.model.rows.values() if row.event is one]
        touched = {row.endpoint for row in rows if row.status is PENDING or row.manual_ms is not None}
        answer = self.do(self.store.erase_payload(one.id, now_ms=self.now))
        assert answer is not None
        assert set(answer) == touched
        self.withdraw(one, rows)

    @rule(endpoint=st.sampled_from(ENDPOINTS), select=st.sampled_from([ReplaySelect.FAILED, ReplaySelect.ALL]))
    def replay(self, endpoint: EndpointKey, select: ReplaySelect) -> None:
        uid = f"uid-{next(self.orders)}"
        self.do(self.store.begin_replay(uid, "replay", now_ms=self.now))
        window = ReplayWindow(uid=uid, endpoint=endpoint, select=select, since_ms=0, until_ms=self.now + 1)
        page = self.do(self.store.replay_candidates(window, limit=100, with_data=False))
        made = [
            ReplayDelivery(
                event_id=one.event_id,
                delivery_id=one.delivery_id or f"dlv_replay{next(self.orders)}",
                payload_format=PayloadFormat.STANDARD_WEBHOOKS,
                due_ms=self.now + 30,
                rearm=one.delivery_id is not None,
            )
            for one in page.candidates
        ]
        assert self.do(self.store.advance_replay(window, page, made, now_ms=self.now)) == len(made)
        model = self.model
        present = {one.id: one for one in model.events.values() if one.id not in model.erased}
        if select is ReplaySelect.FAILED:
            dead = [row for row in model.of(endpoint) if row.status is DEAD_LETTERED and row.event.id in present]
            assert {item.delivery_id for item in made} == {row.id for row in dead}
            for row in dead:
                row.status, row.next_ms, row.position = PENDING, self.now + 30, 0
                row.ended_ms, row.in_order = None, False
        else:
            assert [item.event_id for item in made] == list(present)
            for item in made:
                model.seen.add(endpoint)
                of = present[item.event_id]
                row = Row(item.delivery_id, next(self.orders), endpoint, of, item.due_ms, None, in_order=False)
                model.rows[row.id] = row

    def withdraw(self, one: NewEvent, rows: list[Row]) -> None:
        self.model.cancel(rows, self.now)
        self.model.erased.add(one.id)
        for row in rows:
            row.manual_ms = None

    @rule(milliseconds=st.sampled_from([1, 40, 60, 5000]))
    def time_passes(self, milliseconds: int) -> None:
        self.clock.wall_ms += milliseconds

    @rule(
        quarters=st.sampled_from([0, 5, 13]),
        policy=st.builds(
            RetentionPolicy,
            payload_days=st.integers(1, 4),
            attempt_days=st.integers(1, 4),
            dead_letter_days=st.integers(1, 4),
        ),
        limit=st.integers(1, 3),
    )
    def expire(self, quarters: int, policy: RetentionPolicy, limit: int) -> None:
        self.clock.wall_ms += quarters * DAY // 4  # never a day apart: a caller's id is kept a day and a little

        async def to_the_end() -> None:
            while await self.store.expire(policy, now_ms=self.now, limit=limit):
                pass

        self.do(to_the_end())
        model = self.model
        for one in model.events.values():
            if one.accepted_ms < self.now - policy.payload_days * DAY and one.id not in model.erased:
                self.withdraw(one, [row for row in model.rows.values() if row.event is one])
        for row in list(model.rows.values()):
            kept = policy.dead_letter_days if row.status is DEAD_LETTERED else policy.attempt_days
            before = self.now - kept * DAY
            asked = row.manual_ms is not None and row.manual_ms >= before
            if row.ended_ms is not None and row.ended_ms < before and not asked:
                del model.rows[row.id]
                model.retired.setdefault(row.endpoint, [0, 0, 0, 0])[list(DeliveryStatus).index(row.status)] += 1
        oldest = self.now - max(policy.payload_days, policy.attempt_days) * DAY
        used = {row.event.id for row in model.rows.values()}
        model.events = {name: one for name, one in model.events.items() if one.accepted_ms >= oldest or name in used}
        model.callers = {name: one for name, one in model.callers.items() if one.accepted_ms >= self.now - DAY - 1}

    @rule()
    def restart(self) -> None:
        self.do(self.store.close())
        self.store = self.opened()
        boot = self.do(self.store.boot(recent_limit=3))
        for row in self.model.rows.values():
            row.claimed = None
        assert boot.counts == self.model.counts()
        for endpoint in ENDPOINTS:
            _, due = self.model.expected_claim(endpoint, 0, 1, 0, False)
            assert boot.next_due_ms.get(endpoint) == due

    # -------------------------------------------------------------------------------------------------- invariants

    @invariant()
    def nothing_is_wrong(self) -> None:
        assert self.do(self.store.check()) == []

    @invariant()
    def every_delivery_counts_once_under_its_present_status(self) -> None:
        assert self.do(self.store.counts()) == self.model.counts()

    @invariant()
    def every_row_is_what_the_model_says(self) -> None:
        for row in self.model.rows.values():
            found = self.do(self.store.delivery(row.id))
            assert found is not None
            shown = found[0]
            assert (shown.status, shown.attempt_count, shown.next_attempt_ms, shown.completed_ms) == (
                row.status,
                row.attempts,
                row.next_ms,
                row.ended_ms,
            )
        for one in self.model.events.values():
            kept = self.do(self.store.event(one.id))
            assert kept is not None
            of = [row.id for row in self.model.rows.values() if row.event is one]
            assert sorted(shown.id for shown in kept.deliveries) == sorted(of)
            assert (kept.data is None) == (one.id in self.model.erased)
