"""What is on the disk, read beside the store and at once: committed rows, as SQL says them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import msgspec

from hookstead.delivery.ports import DeliveryStatus, EndpointKey, LaneState, Trigger
from hookstead.store.codec import DELIVERY, EVENT, REASONS, STATUSES, TRIGGER_CODES, pack_id, unpack_id
from hookstead.store.sqlite.store import SQLiteStore

MANUAL: Final = TRIGGER_CODES[Trigger.MANUAL]
_ROW: Final = (
    "SELECT d.id, d.seq, status, cancel_reason, attempt_count, next_attempt_ms, manual_due_ms, in_order, r.uid"
    " FROM deliveries d LEFT JOIN replays r ON r.id = d.replay_id"
)


@dataclass(frozen=True, slots=True)
class Row:
    """One delivery."""

    id: str
    seq: int
    status: DeliveryStatus
    reason: str | None
    attempts: int
    next_ms: int | None
    manual_ms: int | None
    in_order: bool
    replay: str | None
    """The uid of the last replay that made or re-armed it."""


class Records:
    """No method waits: nothing else runs on the store's connections while one is called."""

    def __init__(self) -> None:
        self._store: SQLiteStore | None = None

    def open(self, store: SQLiteStore) -> None:
        self._store = store

    def _fetch(self, sql: str, *bindings: Any) -> list[Any]:
        assert self._store is not None
        return self._store._reader._connection.execute(sql, bindings).fetchall()

    def delivery(self, delivery_id: str) -> Row | None:
        found = self._fetch(f"{_ROW} WHERE d.id = ?", pack_id(DELIVERY, delivery_id))
        return _row(found[0]) if found else None

    def deliveries(self) -> list[Row]:
        return [_row(found) for found in self._fetch(_ROW)]

    def has_event(self, event_id: str) -> bool:
        return bool(self._fetch("SELECT 1 FROM events WHERE id = ?", pack_id(EVENT, event_id)))

    def trigger(self, row: Row, number: int) -> int | None:
        """The trigger of an attempt; None where it is not kept any longer."""
        found = self._fetch("SELECT trigger FROM attempts WHERE delivery_seq = ? AND number = ?", row.seq, number)
        return found[0][0] if found else None

    def first_pending(self, key: EndpointKey) -> int | None:
        """The oldest delivery that an Ordered endpoint waits for."""
        sql = "SELECT min(seq) FROM deliveries WHERE endpoint_id = ? AND status = 0 AND in_order = 1"
        found: int | None = self._fetch(sql, self._endpoints().get(key))[0][0]
        return found

    def counts(self) -> dict[EndpointKey, tuple[int, ...]]:
        """Accepted, and by status, as the store counts."""
        names = {number: key for key, number in self._endpoints().items()}
        rows = self._fetch("SELECT endpoint_id, accepted, pending, delivered, dead_lettered, cancelled FROM counts")
        return {names[row[0]]: tuple(row[1:]) for row in rows}

    def lanes(self) -> dict[EndpointKey, LaneState]:
        """What a next life would know of the endpoints' standing."""
        names = {number: key for key, number in self._endpoints().items()}
        rows = self._fetch("SELECT endpoint_id, state FROM lanes")
        return {names[number]: msgspec.json.decode(state, type=LaneState) for number, state in rows}

    def _endpoints(self) -> dict[EndpointKey, int]:
        assert self._store is not None
        return self._store._context.endpoints.ids


def _row(found: tuple[Any, ...]) -> Row:
    identity, seq, status, reason, attempts, next_ms, manual_ms, in_order, replay = found
    return Row(
        id=unpack_id(DELIVERY, identity),
        seq=seq,
        status=STATUSES[status],
        reason=None if reason is None else REASONS[reason].value,
        attempts=attempts,
        next_ms=next_ms,
        manual_ms=manual_ms,
        in_order=bool(in_order),
        replay=replay,
    )
