"""Replays: what they look at, and how far they are. Position and deliveries change in one statement (`advance_1`)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from hookstead.delivery.ports import (
    ReplayCandidate,
    ReplayDelivery,
    ReplayPage,
    ReplayPhase,
    ReplayRow,
    ReplayWindow,
)
from hookstead.resources.kinds import ReplaySelect
from hookstead.store.codec import DELIVERY, EVENT, FORMAT_CODES, unpack_channels
from hookstead.store.postgres import ids
from hookstead.store.postgres.link import Row
from hookstead.store.postgres.partitions import TIME_BITS

_FORGOTTEN_AT_ONCE: Final = 1000

_FIND: Final = """
SELECT r.id, r.uid, r.name, r.phase, r.position, r.selecting, r.selected, r.delivered, r.failed, r.started_ms,
  r.completed_ms,
  CASE WHEN r.completed_ms IS NULL THEN
    (SELECT count(*) FROM hookstead.pending p WHERE p.replay_id = r.id) ELSE 0 END AS pending,
  CASE WHEN r.completed_ms IS NULL THEN
    (SELECT count(*) FROM hookstead.ended h WHERE h.replay_id = r.id AND h.status = 1) ELSE r.delivered END AS arrived,
  CASE WHEN r.completed_ms IS NULL THEN
    (SELECT count(*) FROM hookstead.ended h WHERE h.replay_id = r.id AND h.status <> 1) ELSE r.failed END AS lost
FROM hookstead.replays r WHERE r.uid = $1
"""
_CANDIDATE: Final = "e.seq, e.id, e.type, e.channels, e.stamp, {data}, NULL::bytea, e.accepted_ms"
_WITHIN: Final = " FROM hookstead.events e WHERE e.seq > $1 AND e.seq < $2 ORDER BY e.seq LIMIT $3"
_EVENTS: Final = "SELECT " + _CANDIDATE + ", e.data IS NULL" + _WITHIN
_MISSED: Final = (
    "SELECT "  # noqa: S608 - texts of ours
    + _CANDIDATE
    + ", e.data IS NULL"
    + "".join(
        f" OR EXISTS (SELECT FROM hookstead.{table} d WHERE d.endpoint_id = $4 AND {condition})"
        for table in ("pending", "ended")
        for condition in ("d.seq > e.seq AND d.seq <= e.seq + e.endpoints", "d.event_seq = e.seq AND d.origin = 2")
    )
    + _WITHIN
)
_DEAD: Final = (
    "SELECT d.seq, e.id, e.type, e.channels, e.stamp, {data}, d.id, e.accepted_ms, e.data IS NULL"
    " FROM hookstead.ended d JOIN hookstead.events e ON e.seq = d.event_seq"
    " WHERE d.endpoint_id = $3 AND d.status = 2 AND d.seq > $1 ORDER BY d.seq LIMIT $2"
)
BEGIN: Final = (
    "INSERT INTO hookstead.replays (uid, name, phase, started_ms) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING"
)
FINISH: Final = (
    "UPDATE hookstead.replays SET phase = $2, selecting = false, delivered = $3, failed = $4, completed_ms = $5"
    " WHERE uid = $1 AND completed_ms IS NULL"
)
ADVANCE: Final = "SELECT hookstead.advance_1($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)"
_FORGET: Final = """
DELETE FROM hookstead.replays WHERE id IN (
  SELECT r.id FROM hookstead.replays r WHERE r.gone_ms < $1
    AND NOT EXISTS (SELECT FROM hookstead.pending d WHERE d.replay_id = r.id)
    AND NOT EXISTS (SELECT FROM hookstead.ended d WHERE d.replay_id = r.id)
  LIMIT $2)
"""


async def find(connection: Any, uid: str) -> ReplayRow | None:
    row = await connection.fetchrow(_FIND, uid)
    return None if row is None else _row(row)


async def require(connection: Any, uid: str) -> ReplayRow:
    found = await find(connection, uid)
    if found is None:
        raise LookupError(f"no replay {uid}: begin_replay comes first")
    return found


def _row(row: Row) -> ReplayRow:
    """Counts are live while the replay runs, and kept once it has ended: its deliveries may retire after it."""
    return ReplayRow(
        uid=row["uid"],
        name=row["name"],
        phase=ReplayPhase(row["phase"]),
        selecting=row["selecting"],
        selected=row["selected"],
        pending=row["pending"],
        delivered=row["arrived"],
        failed=row["lost"],
        started_ms=row["started_ms"],
        completed_ms=row["completed_ms"],
    )


async def candidates(connection: Any, window: ReplayWindow, *, limit: int, with_data: bool) -> ReplayPage:
    """The next `limit` rows of the window; those that are no candidates only move the position."""
    found = await connection.fetchrow("SELECT position FROM hookstead.replays WHERE uid = $1", window.uid)
    position = 0 if found is None else int(found[0])
    endpoint_id = await connection.fetchval(
        "SELECT id FROM hookstead.endpoints WHERE name = $1 AND uid = $2", *window.endpoint
    )
    data = "e.data" if with_data else "NULL::bytea"
    if window.select is ReplaySelect.FAILED:
        if endpoint_id is None:
            return ReplayPage(candidates=(), position=position, exhausted=True)
        rows = await connection.fetch(_DEAD.format(data=data), position, limit, endpoint_id)
    else:
        skew_ms = await connection.fetchval("SELECT skew_ms FROM hookstead.numbering")
        bounds = (
            max(position, (window.since_ms << TIME_BITS) - 1),
            (window.until_ms + skew_ms + 1) << TIME_BITS,
            limit,
        )
        if window.select is ReplaySelect.ALL:
            rows = await connection.fetch(_EVENTS.format(data=data), *bounds)
        else:
            rows = await connection.fetch(_MISSED.format(data=data), *bounds, endpoint_id or -1)
    return ReplayPage(
        candidates=tuple(_candidate(row) for row in rows if not row[8] and window.since_ms <= row[7] < window.until_ms),
        position=rows[-1][0] if rows else position,
        exhausted=len(rows) < limit,
    )


def _candidate(row: Row) -> ReplayCandidate:
    _, event_id, event_type, channels, timestamp, data, delivery_id, _, _ = row
    return ReplayCandidate(
        event_id=ids.unpack(EVENT, event_id),
        event_type=event_type,
        channels=unpack_channels(channels),
        timestamp=timestamp,
        data=data,
        delivery_id=None if delivery_id is None else ids.unpack(DELIVERY, delivery_id),
    )


def advance_arguments(
    window: ReplayWindow, page: ReplayPage, deliveries: Sequence[ReplayDelivery], *, now_ms: int
) -> tuple[Any, ...]:
    """The arguments of ADVANCE behind owner, batch and lease."""
    return (
        window.uid,
        window.endpoint.name,
        window.endpoint.uid,
        page.position,
        not page.exhausted,
        [ids.pack(EVENT, item.event_id) for item in deliveries],
        [ids.pack(DELIVERY, item.delivery_id) for item in deliveries],
        [item.rearm for item in deliveries],
        [FORMAT_CODES[item.payload_format] for item in deliveries],
        [item.due_ms for item in deliveries],
        now_ms,
    )


async def forget(connection: Any, present: list[str], *, before_ms: int, now_ms: int) -> None:
    """Note which replays are absent now; drop those that have been since `before_ms` and left no delivery behind.

    While a row is kept, a replay that comes back is known, and is not run again. A delivery keeps the row, too.
    """
    await connection.execute(
        "UPDATE hookstead.replays SET gone_ms = $1 WHERE gone_ms IS NULL AND NOT uid = ANY ($2)", now_ms, present
    )
    await connection.execute(
        "UPDATE hookstead.replays SET gone_ms = NULL WHERE gone_ms IS NOT NULL AND uid = ANY ($1)", present
    )
    await connection.execute(_FORGET, before_ms, _FORGOTTEN_AT_ONCE)
