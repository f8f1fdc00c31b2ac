"""Lists and details. Every page looks at a bounded number of rows, whatever the filters and however long the history.

A list walks down the row numbers, which carry the time. Status and endpoint have indexes; what is left of a filter
(event type, channel, ended by status) is tested row by row, at most `scan_rows` of them: a page that hits the bound
comes back short, with a cursor to go on from.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import apsw

from hookstead.delivery.ports import (
    AttemptRow,
    DeliveryQuery,
    DeliveryRow,
    DeliveryStatus,
    EventQuery,
    EventRow,
    Page,
)
from hookstead.store import cursors
from hookstead.store.codec import (
    DELIVERED,
    DELIVERY,
    ERRORS,
    EVENT,
    REASONS,
    STATUS_CODES,
    STATUSES,
    TRIGGERS,
    find_id,
    unpack_channels,
    unpack_id,
)
from hookstead.store.sqlite.rows import Value, fetch, fetch_one, numbers
from hookstead.store.sqlite.schema import TIME_BITS

_NEWEST: Final = (1 << 63) - 1
_WINDOW: Final = 5_000
_MERGED_ENDPOINTS: Final = 50

_DELIVERY: Final = """
SELECT d.id, e.id, d.type, p.name, e.channels, d.status, d.cancel_reason, d.attempt_count, d.created_ms,
  d.next_attempt_ms, d.completed_ms, d.seq
FROM {} CROSS JOIN events e ON e.seq = d.event_seq CROSS JOIN endpoints p ON p.id = d.endpoint_id
"""
_DELIVERY_BY_ID: Final = _DELIVERY.format("deliveries d") + "WHERE d.id = ?"
_DELIVERIES_BY_SEQ: Final = _DELIVERY.format("carray(?) c CROSS JOIN deliveries d ON d.seq = c.value")
_DELIVERIES_OF_EVENT: Final = (
    _DELIVERY.format("deliveries d")
    + "WHERE d.seq > ?1 AND d.seq <= ?1 + ?2 UNION "  # not ALL: what a replay re-armed is in both halves
    + _DELIVERY.format("deliveries d INDEXED BY deliveries_replayed")
    + "WHERE d.event_seq = ?1 AND d.origin = 2 ORDER BY 12 DESC"
)
_CHANNEL: Final = "instr(char(10) || {} || char(10), char(10) || ? || char(10)) > 0"


def delivery(connection: apsw.Connection, delivery_id: str) -> tuple[DeliveryRow, Sequence[AttemptRow]] | None:
    stored = find_id(DELIVERY, delivery_id)
    row = None if stored is None else fetch_one(connection, _DELIVERY_BY_ID, (stored,))
    if row is None:
        return None
    attempts = fetch(
        connection,
        "SELECT number, started_ms, trigger, succeeded, status_code, error, duration_ms, message, response_body"
        " FROM attempts WHERE delivery_seq = ? ORDER BY number",
        (row[-1],),
    )
    return _delivery_row(row), [_attempt_row(attempt) for attempt in attempts]


def event(connection: apsw.Connection, event_id: str) -> EventRow | None:
    stored = find_id(EVENT, event_id)
    row = (
        None
        if stored is None
        else fetch_one(
            connection,
            "SELECT id, type, channels, timestamp, accepted_ms, source, data, seq, endpoints FROM events WHERE id = ?",
            (stored,),
        )
    )
    if row is None:
        return None
    deliveries = fetch(connection, _DELIVERIES_OF_EVENT, row[-2:])
    return _event_row(row, tuple(_delivery_row(found) for found in deliveries))


# ------------------------------------------------------------------------------------------------------------ lists


@dataclass(slots=True)
class _Walk:
    """Row numbers from `below` (exclusive) down to `floor` (inclusive), and how many more rows may be looked at."""

    below: int
    floor: int
    budget: int


def deliveries(
    connection: apsw.Connection, query: DeliveryQuery, *, cursor: str | None, limit: int, scan_rows: int, skew_ms: int
) -> Page[DeliveryRow]:
    walk = _start(cursors.DELIVERIES, cursor, query.since_ms, query.until_ms, skew_ms, scan_rows)
    tests, values = _time_tests("d.created_ms", query.since_ms, query.until_ms)
    if query.event_type is not None:
        tests.append("d.type = ?")
        values.append(query.event_type)
    source = "deliveries d"
    if query.channel is not None:
        source += " CROSS JOIN events e ON e.seq = d.event_seq"
        tests.append(_CHANNEL.format("e.channels"))
        values.append(query.channel)
    ranges = _ranges(connection, query)
    if query.status is DeliveryStatus.DELIVERED and ranges == [_EVERYTHING]:
        tests.append("d.status = 1")
    seqs, resume = _collect(connection, walk, ranges, source, tests, values, limit)
    rows = fetch(connection, _DELIVERIES_BY_SEQ, (numbers(seqs),)) if seqs else []
    items = tuple(_delivery_row(row) for row in rows)
    return Page(items, None if resume is None else cursors.encode(cursors.DELIVERIES, resume))


def events(
    connection: apsw.Connection, query: EventQuery, *, cursor: str | None, limit: int, scan_rows: int, skew_ms: int
) -> Page[EventRow]:
    walk = _start(cursors.EVENTS, cursor, query.since_ms, query.until_ms, skew_ms, scan_rows)
    tests, values = _time_tests("d.accepted_ms", query.since_ms, query.until_ms)
    if query.channel is not None:
        tests.append(_CHANNEL.format("d.channels"))
        values.append(query.channel)
    ranges = [_Range("events", "", ())]
    if query.event_type is not None:
        ranges = [_Range("events INDEXED BY events_type", "type = ?", (query.event_type,))]
    seqs, resume = _collect(connection, walk, ranges, "events d", tests, values, limit)
    rows = (
        fetch(
            connection,
            "SELECT id, type, channels, timestamp, accepted_ms, source, NULL"
            " FROM carray(?) c CROSS JOIN events ON seq = c.value",
            (numbers(seqs),),
        )
        if seqs
        else []
    )
    items = tuple(_event_row(row, ()) for row in rows)
    return Page(items, None if resume is None else cursors.encode(cursors.EVENTS, resume))


def _start(
    kind: bytes, cursor: str | None, since_ms: int | None, until_ms: int | None, skew_ms: int, budget: int
) -> _Walk:
    below = _NEWEST if cursor is None else cursors.decode(kind, cursor)
    if until_ms is not None:
        below = min(below, max(until_ms + skew_ms + 1, 0) << TIME_BITS)
    floor = 0 if since_ms is None else max(since_ms, 0) << TIME_BITS
    return _Walk(below, floor, budget)


def _time_tests(column: str, since_ms: int | None, until_ms: int | None) -> tuple[list[str], list[Value]]:
    tests: list[str] = []
    values: list[Value] = []
    if since_ms is not None:
        tests.append(f"{column} >= ?")
        values.append(since_ms)
    if until_ms is not None:
        tests.append(f"{column} < ?")
        values.append(until_ms)
    return tests, values


@dataclass(frozen=True, slots=True)
class _Range:
    """One index range that is ordered by row number: a source, and what is fixed in it."""

    source: str
    fixed: str
    values: tuple[Value, ...]


_EVERYTHING: Final = _Range("deliveries", "", ())


def _ranges(connection: apsw.Connection, query: DeliveryQuery) -> list[_Range]:
    """The ranges whose union holds everything that status and endpoint allow."""
    status = None if query.status is None else STATUS_CODES[query.status]
    if query.endpoint is not None:
        statuses = range(len(STATUSES)) if status is None else (status,)
        found = fetch(connection, "SELECT id FROM endpoints WHERE name = ?", (query.endpoint,))
        source = "deliveries INDEXED BY deliveries_endpoint"
        return [
            _Range(source, "endpoint_id = ? AND status = ?", (endpoint_id, code))
            for (endpoint_id,) in found
            for code in statuses
        ]
    if status is None:
        return [_EVERYTHING]
    if status == DELIVERED:
        return _delivered(connection)
    return [_Range("deliveries INDEXED BY deliveries_open", "status <> 1 AND status = ?", (status,))]


def _delivered(connection: apsw.Connection) -> list[_Range]:
    """What was delivered is most of a history and has no index across endpoints, only one by endpoint."""
    found = fetch(
        connection,
        "SELECT endpoint_id FROM counts WHERE delivered > retired_delivered LIMIT ?",
        (_MERGED_ENDPOINTS + 1,),
    )
    if len(found) > _MERGED_ENDPOINTS:
        return [_EVERYTHING]
    source = "deliveries INDEXED BY deliveries_endpoint"
    return [_Range(source, "endpoint_id = ? AND status = 1", row) for row in found]


def _collect(
    connection: apsw.Connection,
    walk: _Walk,
    ranges: list[_Range],
    source: str,
    tests: list[str],
    values: list[Value],
    limit: int,
) -> tuple[list[int], int | None]:
    """Up to `limit` row numbers that pass, newest first, and the number behind which to go on (None: the end)."""
    wanted: list[int] = []
    while ranges and len(wanted) <= limit:
        window = _window(connection, walk, ranges, _WINDOW if tests else limit + 1)
        if not window:
            return wanted, None
        wanted += _passing(connection, window, source, tests, values)
        walk.below = window[-1]
        walk.budget -= len(window)
        if walk.budget <= 0 and len(wanted) <= limit:
            return wanted, walk.below
    if len(wanted) > limit:
        return wanted[:limit], wanted[limit - 1]
    return wanted, None


def _window(connection: apsw.Connection, walk: _Walk, ranges: list[_Range], size: int) -> list[int]:
    """The next `size` row numbers of the ranges' union."""
    parts = []
    for part in ranges:
        fixed = f"{part.fixed} AND " if part.fixed else ""
        parts.append(
            fetch_one(
                connection,
                "SELECT json_group_array(seq) FROM (SELECT seq FROM "  # noqa: S608 - texts of ours
                f"{part.source} WHERE {fixed}seq < ? AND seq >= ? ORDER BY seq DESC LIMIT ?)",
                (*part.values, walk.below, walk.floor, size),
            )[0]
        )
    decoded = [_numbers_of(text) for text in parts]
    if len(decoded) == 1:
        return decoded[0]
    return list(heapq.merge(*decoded, reverse=True))[:size]


def _numbers_of(text: str) -> list[int]:
    body = text[1:-1]
    return [int(number) for number in body.split(",")] if body else []


def _passing(
    connection: apsw.Connection, window: list[int], source: str, tests: list[str], values: list[Value]
) -> list[int]:
    if not tests:
        return window
    found = fetch_one(
        connection,
        f"SELECT json_group_array(d.seq) FROM carray(?) c CROSS JOIN {source.replace(' d', ' d ON d.seq = c.value', 1)}"  # noqa: S608 - texts of ours
        f" WHERE {' AND '.join(tests)}",
        (numbers(window), *values),
    )[0]
    return _numbers_of(found)


# ------------------------------------------------------------------------------------------------------------- rows


def _delivery_row(row: Sequence[Any]) -> DeliveryRow:
    delivery_id, event_id, event_type, endpoint, channels, status, reason, attempts, created, due, completed, _ = row
    return DeliveryRow(
        id=unpack_id(DELIVERY, delivery_id),
        event_id=unpack_id(EVENT, event_id),
        event_type=event_type,
        endpoint=endpoint,
        channels=unpack_channels(channels),
        status=STATUSES[status],
        cancel_reason=None if reason is None else REASONS[reason],
        attempt_count=attempts,
        created_ms=created,
        next_attempt_ms=due,
        completed_ms=completed,
    )


def _attempt_row(row: Sequence[Any]) -> AttemptRow:
    number, started, trigger, succeeded, status_code, error, duration, message, body = row
    return AttemptRow(
        number=number,
        started_ms=started,
        trigger=TRIGGERS[trigger],
        succeeded=bool(succeeded),
        status_code=status_code,
        error=None if error is None else ERRORS[error],
        duration_ms=duration,
        message=message,
        response_body=body or b"",
    )


def _event_row(row: Sequence[Any], found: tuple[DeliveryRow, ...]) -> EventRow:
    event_id, event_type, channels, timestamp, accepted, source, data = row[:7]
    return EventRow(
        id=unpack_id(EVENT, event_id),
        type=event_type,
        channels=unpack_channels(channels),
        timestamp=timestamp,
        accepted_ms=accepted,
        data=data,
        source=source,
        deliveries=found,
    )
