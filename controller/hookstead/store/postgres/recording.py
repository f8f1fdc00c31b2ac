"""Attempts in: what becomes of deliveries, computed from what is known of them, for the database to compare and set."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Final

import msgspec

from hookstead.delivery.ports import (
    RESPONSE_BODY_LIMIT,
    AttemptRecord,
    DeliveryStatus,
    EndpointKey,
    LaneState,
    Settlement,
    Trigger,
)
from hookstead.delivery.transitions import reconcile
from hookstead.store import histogram
from hookstead.store.codec import (
    DEAD_LETTERED,
    DELIVERED,
    ERROR_CODES,
    PENDING,
    REASON_CODES,
    STATUS_CODES,
    STATUSES,
    TRIGGER_CODES,
    safe_text,
)
from hookstead.store.postgres.claims import Held

BUCKET_MS: Final = 10_000
HOUR_MS: Final = 3_600_000
_LANE_FIELDS: Final = tuple(one.name for one in fields(LaneState))
STATEMENT: Final = f"SELECT hookstead.record_1({', '.join(f'${place}' for place in range(1, 47))})"


@dataclass(slots=True)
class _Tally:
    delivered: int = 0
    failed: int = 0
    dead_lettered: int = 0


@dataclass(slots=True)
class Batch:
    """Attempts of one statement, in the order in which they came. `states`: the deliveries as they are known.

    A delivery that is not in `states` is gone, and so is its attempt.
    """

    states: Mapping[str, Held]
    numbers: list[int] = field(default_factory=list)
    _now: dict[str, Held] = field(default_factory=dict)
    _answered: set[str] = field(default_factory=set)
    _attempts: list[tuple[Any, ...]] = field(default_factory=list)
    _tallies: dict[int, _Tally] = field(default_factory=dict)
    _latencies: dict[tuple[int, int], int] = field(default_factory=dict)
    _hours: dict[tuple[int, int], list[int]] = field(default_factory=dict)
    _lanes: dict[EndpointKey, bytes] = field(default_factory=dict)
    _numbers: dict[EndpointKey, int] = field(default_factory=dict)
    """Of the endpoints of these attempts."""

    def add(self, attempts: Iterable[AttemptRecord], lanes: Mapping[EndpointKey, LaneState]) -> None:
        for attempt in attempts:
            self.numbers.append(self._add(attempt))
        for endpoint, state in lanes.items():
            self._lanes[endpoint] = msgspec.json.encode(_said(state))

    def is_empty(self) -> bool:
        return not self._attempts and not self._lanes

    def _add(self, attempt: AttemptRecord) -> int:
        state = self._now.get(attempt.delivery_id) or self.states.get(attempt.delivery_id)
        if state is None:
            return 0
        ended_ms = attempt.started_ms + attempt.duration_ms
        settlement = reconcile(
            STATUSES[state.status],
            attempt.prior_status,
            attempt.settlement,
            succeeded=attempt.succeeded,
            trigger=attempt.trigger,
        )
        following = settled(state, settlement, ended_ms)
        self._now[attempt.delivery_id] = following
        self._numbers[attempt.endpoint] = state.endpoint_id
        if attempt.trigger is Trigger.MANUAL:
            self._answered.add(attempt.delivery_id)
        died = following.status == DEAD_LETTERED != state.status
        self._attempts.append(_row(attempt, following))
        self._count(attempt, ended_ms, arrived=following.status == DELIVERED != state.status, died=died)
        hour = self._hours.setdefault((ended_ms // HOUR_MS, state.endpoint_id), [0, 0, 0])
        hour[0 if attempt.succeeded else 1] += 1
        hour[2] += died
        return following.attempt_count

    def _count(self, attempt: AttemptRecord, ended_ms: int, *, arrived: bool, died: bool) -> None:
        start = ended_ms - ended_ms % BUCKET_MS
        tally = self._tallies.setdefault(start, _Tally())
        tally.delivered += arrived
        tally.failed += not attempt.succeeded
        tally.dead_lettered += died
        cell = start, histogram.class_of(attempt.duration_ms)
        self._latencies[cell] = self._latencies.get(cell, 0) + 1

    def arguments(self) -> tuple[Any, ...]:
        """The arguments of the statement behind owner, batch and lease."""
        names = sorted(self._now, key=lambda name: self.states[name].seq)
        before = [self.states[name] for name in names]
        after = [self._now[name] for name in names]
        ended = [pair for pair in zip(before, after, strict=True) if pair[0].status == PENDING != pair[1].status]
        deliveries = (
            [held.seq for held in before],
            [held.status for held in before],
            [held.attempt_count for held in before],
            [held.schedule_position for held in before],
            [held.next_attempt_ms for held in before],
            [held.completed_ms for held in before],
            [held.status for held in after],
            [held.cancel_reason for held in after],
            [held.attempt_count for held in after],
            [held.schedule_position for held in after],
            [held.next_attempt_ms for held in after],
            [held.completed_ms for held in after],
            [name in self._answered for name in names],
            [was.endpoint_id for was, _ in ended],
            [now.status for _, now in ended],
        )
        attempts = zip(*self._attempts, strict=True) if self._attempts else [()] * 12
        starts = list(self._tallies.items())
        cells = list(self._latencies.items())
        hours = list(self._hours.items())
        known = [(self._numbers[key], state) for key, state in self._lanes.items() if key in self._numbers]
        others = {key: state for key, state in self._lanes.items() if key not in self._numbers}
        return (
            *deliveries,
            *(list(column) for column in attempts),
            [hour for (hour, _), _ in hours],
            [endpoint_id for (_, endpoint_id), _ in hours],
            *([counts[place] for _, counts in hours] for place in range(3)),
            [start for start, _ in starts],
            [tally.delivered for _, tally in starts],
            [tally.failed for _, tally in starts],
            [tally.dead_lettered for _, tally in starts],
            [start for (start, _), _ in cells],
            [index for (_, index), _ in cells],
            [count for _, count in cells],
            [endpoint_id for endpoint_id, _ in known],
            [key.name for key in others],
            [key.uid for key in others],
            [*(state for _, state in known), *others.values()],
        )


def _said(state: LaneState) -> dict[str, int | str]:
    """What is not as it is for a new endpoint: half of it is times that most have not."""
    return {name: value for name in _LANE_FIELDS if (value := getattr(state, name))}


def _row(attempt: AttemptRecord, following: Held) -> tuple[Any, ...]:
    return (
        following.seq,
        following.endpoint_id,
        following.attempt_count,
        attempt.started_ms,
        attempt.duration_ms,
        TRIGGER_CODES[attempt.trigger],
        attempt.succeeded,
        attempt.status_code,
        None if attempt.error is None else ERROR_CODES[attempt.error],
        safe_text(attempt.message).replace("\x00", "\ufffd"),  # the one character that PostgreSQL's text can not hold
        following.next_attempt_ms,
        attempt.response_body[:RESPONSE_BODY_LIMIT] or None,
    )


def settled(state: Held, settlement: Settlement | None, ended_ms: int) -> Held:
    """The delivery after one more attempt."""
    following = state.copy()
    following.attempt_count += 1
    if settlement is None or (state.status != PENDING and settlement.status is DeliveryStatus.PENDING):
        return following  # only a replay makes an ended delivery pending again
    following.status = STATUS_CODES[settlement.status]
    following.schedule_position = settlement.schedule_position
    if settlement.status is DeliveryStatus.PENDING:
        # A pending delivery without a next attempt would wait for ever: due now.
        due = settlement.next_attempt_ms
        following.next_attempt_ms = ended_ms if due is None else due
    else:
        following.next_attempt_ms = None
        following.completed_ms = ended_ms
        reason = settlement.cancel_reason
        following.cancel_reason = None if reason is None else REASON_CODES[reason]
    return following


def unknown(attempts: Iterable[AttemptRecord], states: Mapping[str, Held]) -> list[str]:
    """Whose state has to be looked up."""
    return [attempt.delivery_id for attempt in attempts if attempt.delivery_id not in states]


LOOK_UP: Final = """
SELECT x.id, p.seq, 0::smallint, p.attempt_count, p.schedule_position, p.next_attempt_ms, NULL::bigint, NULL::smallint,
  p.endpoint_id
FROM unnest($1::bytea[]) AS x (id) JOIN hookstead.pending p ON p.id = x.id
UNION ALL
SELECT x.id, h.seq, h.status, h.attempt_count, h.schedule_position, NULL, h.completed_ms, h.cancel_reason,
  h.endpoint_id
FROM unnest($1::bytea[]) AS x (id) JOIN hookstead.ended h ON h.id = x.id
"""


def looked_up(rows: Sequence[Any], names: Mapping[bytes, str]) -> dict[str, Held]:
    """The states that LOOK_UP found. `names`: delivery ids by their stored form."""
    return {
        names[row[0]]: Held(
            seq=row[1],
            status=row[2],
            attempt_count=row[3],
            schedule_position=row[4],
            next_attempt_ms=row[5],
            completed_ms=row[6],
            cancel_reason=row[7],
            endpoint_id=row[8],
        )
        for row in rows
    }
