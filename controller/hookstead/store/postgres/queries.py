"""Lists and details. Every page looks at a bounded number of rows, whatever the filters and however long the history.

A list walks down the row numbers, which carry the time, over pending and ended deliveries at once. What of a filter
has no index is tested row by row, at most `scan_rows` of them: a page that hits the bound comes back short, with a
cursor to go on from.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from hookstead.delivery.ports import (
    AttemptRow,
    DeliveryQuery,
    DeliveryRow,
    EventQuery,
    EventRow,
    Page,
)
from hookstead.store import cursors
from hookstead.store.codec import (
    DELIVERY,
    ERRORS,
    EVENT,
    PENDING,
    REASONS,
    STATUS_CODES,
    STATUSES,
    TRIGGERS,
    unpack_channels,
)
from hookstead.store.postgres import ids
from hookstead.store.postgres.link import Row
from hookstead.store.postgres.partitions import TIME_BITS

_NEWEST: Final = (1 << 63) - 1
_WINDOW: Final = 5_000

_PENDING: Final = (
    "SELECT d.seq, d.id, d.event_seq, d.endpoint_id, d.type, 0::smallint AS status, NULL::smallint AS cancel_reason,"
    " d.attempt_count, d.created_ms, d.next_attempt_ms, NULL::bigint AS completed_ms FROM hookstead.pending d"
)
_ENDED: Final = (
    "SELECT d.seq, d.id, d.event_seq, d.endpoint_id, d.type, d.status, d.cancel_reason, d.attempt_count, d.created_ms,"
    " NULL::bigint AS next_attempt_ms, d.completed_ms FROM hookstead.ended d"
)
_SHOWN: Final = (
    "SELECT d.id, e.id, d.type, p.name, e.channels, d.status, d.cancel_reason, d.attempt_count, d.created_ms,"
    " d.next_attempt_ms, d.completed_ms, d.seq FROM ({}) d"
    " JOIN hookstead.events e ON e.seq = d.event_seq JOIN hookstead.endpoints p ON p.id = d.endpoint_id"
)
_BY_ID: Final = _SHOWN.format(f"{_PENDING} WHERE d.id = $1 UNION ALL {_ENDED} WHERE d.id = $1")
_BY_SEQ: Final = (
    _SHOWN.format(f"{_PENDING} WHERE d.seq = ANY ($1) UNION ALL {_ENDED} WHERE d.seq = ANY ($1)")
    + " ORDER BY d.seq DESC"
)
_NEAR: Final = "d.seq > $1 AND d.seq <= $1 + $2"
_FAR: Final = "d.event_seq = $1 AND d.origin = 2"
_OF_EVENT: Final = (
    # UNION: what a replay re-armed is in both halves.
    _SHOWN.format(
        " UNION ".join(f"({source} WHERE {condition})" for source in (_PENDING, _ENDED) for condition in (_NEAR, _FAR))
    )
    + " ORDER BY d.seq DESC"
)
_ATTEMPTS: Final = (
    "SELECT number, started_ms, trigger, succeeded, status_code, error, duration_ms, message, response_body"
    " FROM hookstead.attempts WHERE delivery_seq = $1 ORDER BY number"
)


async def delivery(connection: Any, delivery_id: str) -> tuple[DeliveryRow, Sequence[AttemptRow]] | None:
    stored = ids.find(DELIVERY, delivery_id)
    row = None if stored is None else await connection.fetchrow(_BY_ID, stored)
    if row is None:
        return None
    attempts = await connection.fetch(_ATTEMPTS, row["seq"])
    return _delivery_row(row), [_attempt_row(attempt) for attempt in attempts]


async def event(connection: Any, event_id: str) -> EventRow | None:
    stored = ids.find(EVENT, event_id)
    if stored is None:
        return None
    row = await connection.fetchrow(
        "SELECT id, type, channels, stamp, accepted_ms, source, data, seq, endpoints FROM hookstead.events"
        " WHERE id = $1",
        stored,
    )
    if row is None:
        return None
    deliveries = await connection.fetch(_OF_EVENT, row["seq"], row["endpoints"])
    return _event_row(row, tuple(_delivery_row(found) for found in deliveries))


# ------------------------------------------------------------------------------------------------------------ lists


@dataclass(slots=True)
class _Walk:
    """Row numbers from `below` (exclusive) down to `floor` (inclusive), and how many more rows may be looked at."""

    below: int
    floor: int
    budget: int


@dataclass(slots=True)
class _Tests:
    """Conditions on a row, and their values behind the first three parameters (below, floor, how many)."""

    texts: list[str] = field(default_factory=list)
    values: list[object] = field(default_factory=list)

    def add(self, text: str, value: object) -> None:
        """`{}` in the text is where the value goes."""
        self.values.append(value)
        self.texts.append(text.format(f"${3 + len(self.values)}"))


async def deliveries(
    connection: Any, query: DeliveryQuery, *, cursor: str | None, limit: int, scan_rows: int
) -> Page[DeliveryRow]:
    walk = await _start(connection, cursors.DELIVERIES, cursor, query.since_ms, query.until_ms, scan_rows)
    fixed, tests = _Tests(), _Tests()
    sources = await _sources(connection, query, fixed)
    tests.values = list(fixed.values)
    _add_times(tests, "w.created_ms", query.since_ms, query.until_ms)
    if query.event_type is not None:
        tests.add("w.type = {}", query.event_type)
    if query.channel is not None:
        tests.add(
            "EXISTS (SELECT FROM hookstead.events v WHERE v.seq = w.event_seq"
            " AND {} = ANY (string_to_array(v.channels, E'\\n')))",
            query.channel,
        )
    seqs, resume = await _collect(connection, walk, sources, fixed, tests, limit)
    rows = await connection.fetch(_BY_SEQ, seqs) if seqs else []
    items = tuple(_delivery_row(row) for row in rows)
    return Page(items, None if resume is None else cursors.encode(cursors.DELIVERIES, resume))


async def _sources(connection: Any, query: DeliveryQuery, fixed: _Tests) -> list[str]:
    """Selects whose union holds everything that status and endpoint allow, each in the order of an index."""
    code = None if query.status is None else STATUS_CODES[query.status]
    if query.endpoint is None:
        ended = _ENDED if code is None else f"{_ENDED} WHERE d.status = {code}"
        return [_PENDING, ended] if code is None else [_PENDING if code == PENDING else ended]
    sources: list[str] = []
    found = await connection.fetch("SELECT id FROM hookstead.endpoints WHERE name = $1", query.endpoint)
    for (endpoint_id,) in found:
        fixed.values.append(endpoint_id)
        of = f"d.endpoint_id = ${3 + len(fixed.values)}"
        if code in (None, PENDING):
            sources += [f"{_PENDING} WHERE {of} AND d.in_order", f"{_PENDING} WHERE {of} AND NOT d.in_order"]
        sources += [
            f"{_ENDED} WHERE {of} AND d.status = {ended}" for ended in range(1, len(STATUSES)) if code in (None, ended)
        ]
    return sources


async def events(
    connection: Any, query: EventQuery, *, cursor: str | None, limit: int, scan_rows: int
) -> Page[EventRow]:
    walk = await _start(connection, cursors.EVENTS, cursor, query.since_ms, query.until_ms, scan_rows)
    fixed, tests = _Tests(), _Tests()
    if query.event_type is not None:
        fixed.add("type = {}", query.event_type)
    tests.values = list(fixed.values)
    _add_times(tests, "w.accepted_ms", query.since_ms, query.until_ms)
    if query.channel is not None:
        tests.add("{} = ANY (string_to_array(w.channels, E'\\n'))", query.channel)
    source = "SELECT d.seq, d.type, d.channels, d.accepted_ms FROM hookstead.events d"
    seqs, resume = await _collect(connection, walk, [source], fixed, tests, limit)
    rows = (
        await connection.fetch(
            "SELECT id, type, channels, stamp, accepted_ms, source, NULL::bytea AS data FROM hookstead.events"
            " WHERE seq = ANY ($1) ORDER BY seq DESC",
            seqs,
        )
        if seqs
        else []
    )
    items = tuple(_event_row(row, ()) for row in rows)
    return Page(items, None if resume is None else cursors.encode(cursors.EVENTS, resume))


async def _start(
    connection: Any, kind: bytes, cursor: str | None, since_ms: int | None, until_ms: int | None, budget: int
) -> _Walk:
    below = _NEWEST if cursor is None else cursors.decode(kind, cursor)
    if until_ms is not None:
        skew_ms = await connection.fetchval("SELECT skew_ms FROM hookstead.numbering")
        below = min(below, max(until_ms + skew_ms + 1, 0) << TIME_BITS)
    floor = 0 if since_ms is None else max(since_ms, 0) << TIME_BITS
    return _Walk(below, floor, budget)


def _add_times(tests: _Tests, column: str, since_ms: int | None, until_ms: int | None) -> None:
    if since_ms is not None:
        tests.add(f"{column} >= {{}}", since_ms)
    if until_ms is not None:
        tests.add(f"{column} < {{}}", until_ms)


async def _collect(
    connection: Any, walk: _Walk, sources: list[str], fixed: _Tests, tests: _Tests, limit: int
) -> tuple[list[int], int | None]:
    """Up to `limit` row numbers that pass, newest first, and the number behind which to go on (None: the end)."""
    wanted: list[int] = []
    while sources and len(wanted) <= limit:
        size = _WINDOW if tests.texts else limit + 1
        window, last = await _window(connection, walk, sources, fixed, tests, size)
        wanted += [row[0] for row in window]
        if last is None:
            break
        walk.below = last
        walk.budget -= size
        if walk.budget <= 0 and len(wanted) <= limit:
            return wanted, walk.below
    if len(wanted) > limit:
        return wanted[:limit], wanted[limit - 1]
    return wanted, None


async def _window(
    connection: Any, walk: _Walk, sources: list[str], fixed: _Tests, tests: _Tests, size: int
) -> tuple[list[Row], int | None]:
    """Which of the next `size` rows of the sources pass, and the last one's number; None where that was the end."""
    conditions = " AND ".join(["d.seq < $1", "d.seq >= $2", *(f"d.{text}" for text in fixed.texts)])
    parts = " UNION ALL ".join(
        f"({source} {'AND' if ' WHERE ' in source else 'WHERE'} {conditions} ORDER BY d.seq DESC LIMIT $3)"
        for source in sources
    )
    passing = " AND ".join(tests.texts) or "true"
    rows = await connection.fetch(
        f"WITH w AS MATERIALIZED (SELECT * FROM ({parts}) u ORDER BY seq DESC LIMIT $3)"  # noqa: S608 - texts of ours
        f" SELECT w.seq, NULL::bigint, NULL::bigint FROM w WHERE {passing}"
        " UNION ALL SELECT NULL, min(w.seq), count(*) FROM w",
        walk.below,
        walk.floor,
        size,
        *tests.values,
    )
    _, last, looked = next(row for row in rows if row[0] is None)
    found = sorted((row for row in rows if row[0] is not None), key=lambda row: -row[0])
    return found, last if looked == size else None


# ------------------------------------------------------------------------------------------------------------- rows


def _delivery_row(row: Row) -> DeliveryRow:
    delivery_id, event_id, event_type, endpoint, channels, status, reason, attempts, created, due, completed, _ = row
    return DeliveryRow(
        id=ids.unpack(DELIVERY, delivery_id),
        event_id=ids.unpack(EVENT, event_id),
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


def _attempt_row(row: Row) -> AttemptRow:
    number, started, trigger, succeeded, status_code, error, duration, message, body = row
    return AttemptRow(
        number=number,
        started_ms=started,
        trigger=TRIGGERS[trigger],
        succeeded=succeeded,
        status_code=status_code,
        error=None if error is None else ERRORS[error],
        duration_ms=duration,
        message=message,
        response_body=body or b"",
    )


def _event_row(row: Row, found: tuple[DeliveryRow, ...]) -> EventRow:
    return EventRow(
        id=ids.unpack(EVENT, row["id"]),
        type=row["type"],
        channels=unpack_channels(row["channels"]),
        timestamp=row["stamp"],
        accepted_ms=row["accepted_ms"],
        data=row["data"],
        source=row["source"],
        deliveries=found,
    )
