"""Which deliveries are due, and what an attempt needs of them. Read-only; runs beside the writer."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import apsw

from hookstead.delivery.ports import Claim, EndpointKey, Job, Trigger
from hookstead.store.codec import DELIVERY, EVENT, FORMATS, STATUSES, TRIGGERS, unpack_channels, unpack_id
from hookstead.store.sqlite.claims import Claims, Held
from hookstead.store.sqlite.rows import numbers

_MANUAL: Final = """
SELECT manual_due_ms, seq FROM deliveries INDEXED BY deliveries_manual
WHERE endpoint_id = ? AND manual_due_ms IS NOT NULL ORDER BY manual_due_ms, seq LIMIT ?
"""
_DUE: Final = """
SELECT next_attempt_ms, seq FROM deliveries INDEXED BY deliveries_due
WHERE endpoint_id = ? AND status = 0 ORDER BY next_attempt_ms, seq LIMIT ?
"""
_DUE_ASIDE: Final = """
SELECT next_attempt_ms, seq FROM deliveries INDEXED BY deliveries_due_aside
WHERE endpoint_id = ? AND status = 0 AND in_order = 0 ORDER BY next_attempt_ms, seq LIMIT ?
"""
_HEAD: Final = """
SELECT d.next_attempt_ms, d.seq FROM deliveries d WHERE d.seq =
  (SELECT seq FROM deliveries INDEXED BY deliveries_endpoint
   WHERE endpoint_id = ? AND status = 0 AND in_order = 1 ORDER BY seq LIMIT 1)
"""
_JOBS: Final = """
SELECT d.seq, d.id, e.id, d.type, e.timestamp, e.data, d.payload_format, d.origin, d.status, d.attempt_count,
  d.schedule_position, d.next_attempt_ms, d.completed_ms, d.cancel_reason, d.in_order, e.channels, e.source,
  e.traceparent
FROM carray(?) c CROSS JOIN deliveries d ON d.seq = c.value CROSS JOIN events e ON e.seq = d.event_seq
"""


@dataclass(slots=True)
class _Picks:
    """What is to be claimed, in order, and the earliest instant at which something that is left will be due."""

    limit: int
    manual: list[int] = field(default_factory=list)
    automatic: list[int] = field(default_factory=list)
    due: dict[int, int] = field(default_factory=dict)
    next_due_ms: int | None = None

    def full(self) -> bool:
        return len(self.due) >= self.limit

    def leave(self, due_ms: int) -> None:
        if self.next_due_ms is None or due_ms < self.next_due_ms:
            self.next_due_ms = due_ms

    def sift(self, rows: Iterator[tuple[int, int]], held: dict[int, Held], into: list[int], now_ms: int) -> None:
        """Take what is due and free until the limit; the first row that is left says when to come back."""
        for due_ms, seq in rows:
            holder = held.get(seq)
            if holder is not None and into is self.manual and not holder.manual:
                self.leave(due_ms)  # asked for while another attempt is under way: due again behind it
            if holder is not None or seq in self.due:
                continue
            if due_ms > now_ms or self.full():
                self.leave(due_ms)
                return
            into.append(seq)
            self.due[seq] = due_ms


def claim(
    connection: apsw.Connection,
    claims: Claims,
    endpoint: EndpointKey,
    endpoint_id: int,
    *,
    now_ms: int,
    limit: int,
    max_bytes: int,
    ordered: bool,
) -> Claim:
    """See the port. A claim that fails half way leaves nothing claimed."""
    reserved: dict[int, Held] = {}
    connection.execute("BEGIN")
    try:
        with claims.lock:
            picks = _pick(connection, claims.of(endpoint_id), endpoint_id, now_ms=now_ms, limit=limit, ordered=ordered)
            for seq in picks.due:
                reserved[seq] = Held(seq, endpoint_id)
                claims.reserve(reserved[seq])
        jobs = _load(connection, claims, endpoint, picks, reserved, max_bytes) if reserved else ()
    finally:
        connection.execute("COMMIT")
        if reserved:
            with claims.lock:
                for held in reserved.values():
                    claims.unreserve(held)
    return Claim(jobs=jobs, next_due_ms=picks.next_due_ms)


def _pick(
    connection: apsw.Connection, held: dict[int, Held], endpoint_id: int, *, now_ms: int, limit: int, ordered: bool
) -> _Picks:
    picks = _Picks(limit)
    window = (endpoint_id, limit + len(held) + 1)
    picks.sift(connection.execute(_MANUAL, window), held, picks.manual, now_ms)
    if ordered:
        picks.sift(connection.execute(_HEAD, window[:1]), held, picks.automatic, now_ms)
        picks.sift(connection.execute(_DUE_ASIDE, window), held, picks.automatic, now_ms)
        picks.automatic.sort(key=lambda seq: (picks.due[seq], seq))
    else:
        picks.sift(connection.execute(_DUE, window), held, picks.automatic, now_ms)
    return picks


def _load(
    connection: apsw.Connection,
    claims: Claims,
    endpoint: EndpointKey,
    picks: _Picks,
    reserved: dict[int, Held],
    max_bytes: int,
) -> tuple[Job, ...]:
    """Read the picked rows until their payloads are too many bytes; takes what was read out of `reserved`."""
    jobs: list[tuple[Held, Job]] = []
    manual = set(picks.manual)
    budget = max_bytes
    for row in connection.execute(_JOBS, (numbers([*picks.manual, *picks.automatic]),)):
        if row[5] is None:  # never so while it is due; it must not be offered for ever if it is
            del picks.due[row[0]]
            continue
        budget -= len(row[5])
        if budget < 0 and jobs:
            break
        held = reserved[row[0]]
        held.manual = row[0] in manual
        jobs.append((held, _job(row, endpoint, held)))
    with claims.lock:
        for held, job in jobs:
            claims.name(job.delivery_id, held)
            del reserved[held.seq]
    for seq in reserved:
        if seq in picks.due:
            picks.leave(picks.due[seq])
    return tuple(job for _, job in jobs)


def _job(row: tuple[Any, ...], endpoint: EndpointKey, held: Held) -> Job:
    (_, delivery_id, event_id, event_type, timestamp, data, payload_format, origin, status, attempts, position,
     next_ms, completed_ms, reason, in_order, channels, source, traceparent) = row  # fmt: skip
    held.status = status
    held.attempt_count = attempts
    held.schedule_position = position
    held.next_attempt_ms = next_ms
    held.completed_ms = completed_ms
    held.cancel_reason = reason
    return Job(
        delivery_id=unpack_id(DELIVERY, delivery_id),
        endpoint=endpoint,
        event_id=unpack_id(EVENT, event_id),
        event_type=event_type,
        timestamp=timestamp,
        data=data,
        payload_format=FORMATS[payload_format],
        trigger=Trigger.MANUAL if held.manual else TRIGGERS[origin],
        status=STATUSES[status],
        attempt_count=attempts,
        schedule_position=position,
        due_ms=next_ms if status == 0 else None,
        channels=unpack_channels(channels),
        source=source,
        traceparent=traceparent,
        in_order=bool(in_order),
    )
