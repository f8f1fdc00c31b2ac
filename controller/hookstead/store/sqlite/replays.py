"""Replays: what they look at, the deliveries that they make or re-arm, and how far they are.

Position and deliveries change in one transaction, so a restart half way neither repeats nor skips an event.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from typing import Any, Final

import apsw

from hookstead.delivery.ports import (
    ReplayCandidate,
    ReplayDelivery,
    ReplayPage,
    ReplayPhase,
    ReplayRow,
    ReplayWindow,
)
from hookstead.resources.kinds import ReplaySelect
from hookstead.store.codec import (
    DEAD_LETTERED,
    DELIVERED,
    DELIVERY,
    EVENT,
    FORMAT_CODES,
    PENDING,
    pack_id,
    unpack_channels,
    unpack_id,
)
from hookstead.store.sqlite.group import Group
from hookstead.store.sqlite.rows import fetch, fetch_one
from hookstead.store.sqlite.schema import TIME_BITS

_REPLAY_ORIGIN: Final = 2
_FORGOTTEN_AT_ONCE: Final = 1000

_FIND: Final = """
SELECT id, uid, name, phase, position, selecting, selected, delivered, failed, started_ms, completed_ms
FROM replays WHERE uid = ?
"""
_COUNT: Final = "SELECT status, count(*) FROM deliveries WHERE replay_id = ? GROUP BY status"
_EVENTS: Final = """
SELECT e.seq, e.id, e.type, e.channels, e.timestamp, {data}, NULL, e.accepted_ms, e.data IS NULL FROM events e
WHERE e.seq > :after AND e.seq < :before ORDER BY e.seq LIMIT :limit
"""
_MISSED: Final = """
SELECT e.seq, e.id, e.type, e.channels, e.timestamp, {data}, NULL, e.accepted_ms,
  e.data IS NULL
  OR EXISTS (SELECT 1 FROM deliveries d WHERE d.seq > e.seq AND d.seq <= e.seq + e.endpoints
             AND d.endpoint_id = :endpoint)
  OR EXISTS (SELECT 1 FROM deliveries d INDEXED BY deliveries_replayed
             WHERE d.event_seq = e.seq AND d.origin = 2 AND d.endpoint_id = :endpoint)
FROM events e WHERE e.seq > :after AND e.seq < :before ORDER BY e.seq LIMIT :limit
"""
_DEAD: Final = """
SELECT d.seq, e.id, e.type, e.channels, e.timestamp, {data}, d.id, e.accepted_ms, e.data IS NULL
FROM deliveries d INDEXED BY deliveries_endpoint CROSS JOIN events e ON e.seq = d.event_seq
WHERE d.endpoint_id = :endpoint AND d.status = 2 AND d.seq > :after ORDER BY d.seq LIMIT :limit
"""
_STATEMENTS: Final = {ReplaySelect.ALL: _EVENTS, ReplaySelect.MISSED: _MISSED, ReplaySelect.FAILED: _DEAD}


def begin(group: Group, uid: str, name: str, *, now_ms: int) -> ReplayRow:
    group.flush()
    group.connection.execute(
        "INSERT OR IGNORE INTO replays (uid, name, phase, started_ms) VALUES (?, ?, ?, ?)",
        (uid, name, ReplayPhase.RUNNING.value, now_ms),
    )
    return _require(group.connection, uid)


def find(connection: apsw.Connection, uid: str) -> ReplayRow | None:
    row = fetch_one(connection, _FIND, (uid,))
    return None if row is None else _row(connection, row)


def _require(connection: apsw.Connection, uid: str) -> ReplayRow:
    found = find(connection, uid)
    if found is None:
        raise LookupError(f"no replay {uid}: begin_replay comes first")
    return found


def _row(connection: apsw.Connection, row: tuple[Any, ...]) -> ReplayRow:
    """Counts are live while the replay runs, and kept once it has ended: its deliveries may retire after it."""
    replay_id, uid, name, phase, _, selecting, selected, delivered, failed, started_ms, completed_ms = row
    pending = 0
    if completed_ms is None:
        counts = dict(fetch(connection, _COUNT, (replay_id,)))
        pending, delivered = counts.get(PENDING, 0), counts.get(DELIVERED, 0)
        failed = sum(counts.values()) - pending - delivered
    return ReplayRow(
        uid=uid,
        name=name,
        phase=ReplayPhase(phase),
        selecting=bool(selecting),
        selected=selected,
        pending=pending,
        delivered=delivered,
        failed=failed,
        started_ms=started_ms,
        completed_ms=completed_ms,
    )


def candidates(
    connection: apsw.Connection,
    window: ReplayWindow,
    endpoint_id: int | None,
    *,
    limit: int,
    with_data: bool,
    skew_ms: int,
) -> ReplayPage:
    """The next `limit` rows of the window; those that are no candidates only move the position."""
    found = fetch_one(connection, _FIND, (window.uid,))
    position = 0 if found is None else found[4]
    if endpoint_id is None and window.select is ReplaySelect.FAILED:
        return ReplayPage(candidates=(), position=position, exhausted=True)
    after = position
    if window.select is not ReplaySelect.FAILED:
        after = max(position, (window.since_ms << TIME_BITS) - 1)
    sql = _STATEMENTS[window.select].format(data="e.data" if with_data else "NULL")
    bindings: dict[str, int] = {"after": after, "limit": limit}
    if window.select is not ReplaySelect.FAILED:
        bindings["before"] = (window.until_ms + skew_ms + 1) << TIME_BITS
    if window.select is not ReplaySelect.ALL:
        bindings["endpoint"] = -1 if endpoint_id is None else endpoint_id
    rows = fetch(connection, sql, bindings)
    return ReplayPage(
        candidates=tuple(_candidate(row) for row in rows if not row[8] and window.since_ms <= row[7] < window.until_ms),
        position=rows[-1][0] if rows else position,
        exhausted=len(rows) < limit,
    )


def _candidate(row: tuple[Any, ...]) -> ReplayCandidate:
    _, event_id, event_type, channels, timestamp, data, delivery_id, _, _ = row
    return ReplayCandidate(
        event_id=unpack_id(EVENT, event_id),
        event_type=event_type,
        channels=unpack_channels(channels),
        timestamp=timestamp,
        data=data,
        delivery_id=None if delivery_id is None else unpack_id(DELIVERY, delivery_id),
    )


def advance(
    group: Group, window: ReplayWindow, page: ReplayPage, deliveries: Sequence[ReplayDelivery], *, now_ms: int
) -> int:
    group.flush()
    connection = group.connection
    (replay_id,) = fetch_one(connection, "SELECT id FROM replays WHERE uid = ?", (window.uid,))
    endpoint_id = group.endpoint_id(window.endpoint)
    made = sum(
        _rearm(group, item, replay_id, endpoint_id)
        if item.rearm
        else _create(group, item, replay_id, endpoint_id, now_ms)
        for item in deliveries
    )
    connection.execute(
        "UPDATE replays SET position = ?, selecting = ?, selected = selected + ? WHERE id = ?",
        (page.position, int(not page.exhausted), made, replay_id),
    )
    if made:
        group.touched((endpoint_id,))
    return made


def _rearm(group: Group, item: ReplayDelivery, replay_id: int, endpoint_id: int) -> int:
    group.connection.execute(
        "UPDATE deliveries SET status = 0, origin = 2, in_order = 0, schedule_position = 0, next_attempt_ms = ?,"
        " completed_ms = NULL, cancel_reason = NULL, replay_id = ? WHERE id = ? AND status = 2"
        " AND EXISTS (SELECT 1 FROM events e WHERE e.seq = event_seq AND e.data IS NOT NULL)",
        (item.due_ms, replay_id, pack_id(DELIVERY, item.delivery_id)),
    )
    changed = group.connection.changes()
    if changed:
        group.deltas.moved(endpoint_id, DEAD_LETTERED, PENDING)
    return changed


def _create(group: Group, item: ReplayDelivery, replay_id: int, endpoint_id: int, now_ms: int) -> int:
    event = fetch_one(
        group.connection,
        "SELECT seq, type FROM events WHERE id = ? AND data IS NOT NULL",
        (pack_id(EVENT, item.event_id),),
    )
    if event is None:
        return 0
    event_seq, event_type = event
    group.connection.execute(
        "INSERT INTO deliveries (seq, id, event_seq, endpoint_id, type, status, attempt_count, schedule_position,"
        " payload_format, origin, in_order, created_ms, next_attempt_ms, replay_id)"
        " VALUES (?, ?, ?, ?, ?, 0, 0, 0, ?, ?, 0, ?, ?, ?)",
        (
            group.context.numbering.take(now_ms),
            pack_id(DELIVERY, item.delivery_id),
            event_seq,
            endpoint_id,
            event_type,
            FORMAT_CODES[item.payload_format],
            _REPLAY_ORIGIN,
            now_ms,
            item.due_ms,
            replay_id,
        ),
    )
    group.deltas.created(endpoint_id)
    return 1


def finish(group: Group, uid: str, phase: ReplayPhase, *, now_ms: int) -> ReplayRow:
    group.flush()
    row = _require(group.connection, uid)
    if row.completed_ms is not None:
        return row
    group.connection.execute(
        "UPDATE replays SET phase = ?, selecting = 0, delivered = ?, failed = ?, completed_ms = ? WHERE uid = ?",
        (phase.value, row.delivered, row.failed, now_ms, uid),
    )
    return _require(group.connection, uid)


def forget(group: Group, present: Collection[str], *, before_ms: int, now_ms: int) -> None:
    """Note which replays are absent now; drop those that have been since `before_ms` and left no delivery behind.

    While a row is kept, a replay that comes back is known, and is not run again. A delivery keeps the row, too: its
    replay's number must not become another's.
    """
    group.flush()
    connection = group.connection
    uids = json.dumps(sorted(present))
    listed = "(SELECT value FROM json_each(?))"
    connection.execute(
        f"UPDATE replays SET gone_ms = ? WHERE gone_ms IS NULL AND uid NOT IN {listed}",  # noqa: S608 - a text of ours
        (now_ms, uids),
    )
    connection.execute(
        f"UPDATE replays SET gone_ms = NULL WHERE gone_ms IS NOT NULL AND uid IN {listed}",  # noqa: S608 - a text of ours
        (uids,),
    )
    connection.execute(
        "DELETE FROM replays WHERE id IN (SELECT r.id FROM replays r WHERE r.gone_ms < ? AND NOT EXISTS"
        " (SELECT 1 FROM deliveries d INDEXED BY deliveries_of_replay WHERE d.replay_id = r.id) LIMIT ?)",
        (before_ms, _FORGOTTEN_AT_ONCE),
    )
