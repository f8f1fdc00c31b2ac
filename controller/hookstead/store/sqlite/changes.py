"""Changes that people and configuration ask for: cancellation, redelivery, erasure, small named values."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

import apsw

from hookstead.delivery.ports import CancelReason, EndpointKey, RedeliveryRefusal
from hookstead.store.codec import (
    CANCELLED,
    DELIVERY,
    EVENT,
    PENDING,
    REASON_CODES,
    Key,
    find_id,
    unpack_id,
)
from hookstead.store.sqlite.group import Group
from hookstead.store.sqlite.rows import fetch, fetch_one, numbers

_CANCEL: Final = """
UPDATE deliveries SET status = 3, cancel_reason = :reason, completed_ms = :now, next_attempt_ms = NULL,
  manual_due_ms = NULL
WHERE seq IN (SELECT seq FROM deliveries INDEXED BY deliveries_endpoint
              WHERE endpoint_id = :endpoint AND status = 0 LIMIT :rows)
RETURNING id
"""
_FORGET_MANUAL: Final = """
UPDATE deliveries SET manual_due_ms = NULL
WHERE seq IN (SELECT seq FROM deliveries INDEXED BY deliveries_manual
              WHERE endpoint_id = :endpoint AND manual_due_ms IS NOT NULL LIMIT :rows)
"""


@dataclass(slots=True, kw_only=True)
class Cancellation:
    """One transaction's share of cancelling an endpoint's pending deliveries: at most `rows` of them."""

    endpoint: EndpointKey
    reason: CancelReason
    now_ms: int
    rows: int

    def __call__(self, group: Group) -> tuple[list[str], bool]:
        """Whom it cancelled, and whether that was all."""
        endpoint_id = group.context.endpoints.ids.get(self.endpoint)
        if endpoint_id is None:
            return [], True
        group.flush()
        bindings = {
            "endpoint": endpoint_id,
            "reason": REASON_CODES[self.reason],
            "now": self.now_ms,
            "rows": self.rows,
        }
        ended = [unpack_id(DELIVERY, row[0]) for row in fetch(group.connection, _CANCEL, bindings)]
        if ended:
            group.deltas.moved(endpoint_id, PENDING, CANCELLED, rows=len(ended))
            group.touched((endpoint_id,))
        if len(ended) == self.rows:
            return ended, False
        group.connection.execute(_FORGET_MANUAL, {"endpoint": endpoint_id, "rows": self.rows})
        gone = int(self.reason is CancelReason.ENDPOINT_DELETED)
        group.connection.execute("UPDATE endpoints SET gone = ? WHERE id = ?", (gone, endpoint_id))
        return ended, group.connection.changes() == 0 or _no_manual_left(group.connection, endpoint_id)


def _no_manual_left(connection: apsw.Connection, endpoint_id: int) -> bool:
    row = fetch_one(
        connection,
        "SELECT 1 FROM deliveries WHERE endpoint_id = ? AND manual_due_ms IS NOT NULL LIMIT 1",
        (endpoint_id,),
    )
    return row is None


def request_redelivery(group: Group, delivery_id: str, now_ms: int) -> EndpointKey | RedeliveryRefusal:
    stored = find_id(DELIVERY, delivery_id)
    if stored is None:
        return RedeliveryRefusal.NOT_FOUND
    group.flush()
    row = fetch_one(
        group.connection,
        "SELECT d.seq, d.endpoint_id, e.data IS NULL FROM deliveries d JOIN events e ON e.seq = d.event_seq"
        " WHERE d.id = ?",
        (stored,),
    )
    if row is None:
        return RedeliveryRefusal.NOT_FOUND
    seq, endpoint_id, erased = row
    if erased:
        return RedeliveryRefusal.PAYLOAD_ERASED
    group.connection.execute(
        "UPDATE deliveries SET manual_due_ms = ? WHERE seq = ? AND manual_due_ms IS NULL", (now_ms, seq)
    )
    return group.context.endpoints.keys[endpoint_id]


@dataclass(frozen=True, slots=True)
class Withdrawn:
    """What became of the deliveries of payloads that were removed: endpoints that it touched, whom it cancelled."""

    touched: set[EndpointKey] = field(default_factory=set)
    ended: dict[EndpointKey, list[str]] = field(default_factory=dict)

    def add(self, endpoint: EndpointKey, delivery: Key, *, cancelled: bool) -> None:
        self.touched.add(endpoint)
        if cancelled:
            self.ended.setdefault(endpoint, []).append(unpack_id(DELIVERY, delivery))


def erase_payload(group: Group, event_id: str, now_ms: int) -> Withdrawn | None:
    """None where there is no such event."""
    stored = find_id(EVENT, event_id)
    if stored is None:
        return None
    group.flush()
    row = fetch_one(group.connection, "SELECT seq FROM events WHERE id = ?", (stored,))
    if row is None:
        return None
    # What SQLite frees is overwritten, not only forgotten. Copies in the WAL last until the checkpointer empties it.
    group.connection.execute("PRAGMA secure_delete = ON")
    withdrawn = Withdrawn()
    try:
        withdraw_payloads(group, [row[0]], withdrawn, reason=CancelReason.PAYLOAD_ERASED, now_ms=now_ms)
    finally:
        group.connection.execute("PRAGMA secure_delete = OFF")
    return withdrawn


# UNION: what a replay re-armed is in both halves.
_DELIVERIES_OF: Final = """
SELECT d.seq, d.endpoint_id, d.status, d.id FROM carray(:events) c
  CROSS JOIN events e ON e.seq = c.value
  CROSS JOIN deliveries d ON d.seq > e.seq AND d.seq <= e.seq + e.endpoints
WHERE d.status = 0 OR d.manual_due_ms IS NOT NULL
UNION
SELECT d.seq, d.endpoint_id, d.status, d.id FROM carray(:events) c
  CROSS JOIN deliveries d INDEXED BY deliveries_replayed ON d.event_seq = c.value AND d.origin = 2
WHERE d.status = 0 OR d.manual_due_ms IS NOT NULL
"""


def withdraw_payloads(
    group: Group, event_seqs: list[int], withdrawn: Withdrawn, *, reason: CancelReason, now_ms: int
) -> None:
    """Remove payloads for good; what was pending is cancelled. Adds to `withdrawn` what it did to deliveries."""
    connection = group.connection
    found = fetch(connection, _DELIVERIES_OF, {"events": numbers(event_seqs)})
    for _, endpoint_id, status, delivery in found:
        withdrawn.add(group.context.endpoints.keys[endpoint_id], delivery, cancelled=status == PENDING)
        if status == PENDING:
            group.deltas.moved(endpoint_id, PENDING, CANCELLED)
    if found:
        connection.execute(
            "UPDATE deliveries SET manual_due_ms = NULL, next_attempt_ms = NULL,"
            " cancel_reason = CASE status WHEN 0 THEN ? ELSE cancel_reason END,"
            " completed_ms = CASE status WHEN 0 THEN ? ELSE completed_ms END,"
            " status = CASE status WHEN 0 THEN 3 ELSE status END WHERE seq IN carray(?)",
            (REASON_CODES[reason], now_ms, numbers(row[0] for row in found)),
        )
        group.touched({row[1] for row in found})
    connection.execute(
        "UPDATE events SET data = NULL, traceparent = NULL WHERE seq IN carray(?)", (numbers(event_seqs),)
    )


def put_blob(group: Group, name: str, value: bytes) -> None:
    group.connection.execute("REPLACE INTO blobs (name, value) VALUES (?, ?)", (name, value))


def replace_blob(group: Group, name: str, old: bytes | None, new: bytes) -> bool:
    if old is None:
        group.connection.execute("INSERT OR IGNORE INTO blobs (name, value) VALUES (?, ?)", (name, new))
    else:
        group.connection.execute("UPDATE blobs SET value = ? WHERE name = ? AND value = ?", (new, name, old))
    return group.connection.changes() == 1
