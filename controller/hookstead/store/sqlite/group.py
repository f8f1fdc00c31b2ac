"""One transaction of the writer: what several callers' requests buffer, and the statements that it becomes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import apsw

from hookstead.delivery.ports import EndpointKey
from hookstead.store.codec import DELIVERY, EVENT, pack_id, unpack_id
from hookstead.store.sqlite import rows
from hookstead.store.sqlite.claims import Claims, Held
from hookstead.store.sqlite.rollups import Deltas
from hookstead.store.sqlite.rows import Value, fetch_one
from hookstead.store.sqlite.schema import RECENT_SLOTS, TIME_BITS

CallerSeen = tuple[bytes, str, int]
"""Digest, event id and endpoints of the first event with a caller's id."""


class Numbering:
    """Row numbers that carry the time (see schema). Numbers of a transaction that failed are not used again."""

    def __init__(self, last: int, skew_ms: int) -> None:
        self._last = last
        self.skew_ms = skew_ms

    def take(self, at_ms: int, count: int = 1) -> int:
        """The first of `count` numbers in a row, none of them before `at_ms`."""
        first = max(self._last + 1, at_ms << TIME_BITS)
        self._last = first + count - 1
        ahead = (self._last >> TIME_BITS) - at_ms
        if ahead > self.skew_ms:
            # Doubled, so that it is written a few dozen times in the life of a store.
            self.skew_ms = max(ahead, 2 * self.skew_ms)
        return first


class Endpoints:
    """Numbers for endpoints; every endpoint that was ever given a delivery, tens of bytes each."""

    def __init__(self, known: dict[EndpointKey, int]) -> None:
        self.ids = known
        self.keys = {number: key for key, number in known.items()}
        self._next = max(self.keys, default=0) + 1

    def add(self, key: EndpointKey) -> int:
        number = self._next
        self._next += 1
        self.ids[key] = number
        self.keys[number] = key
        return number

    def forget(self, key: EndpointKey) -> int:
        number = self.ids.pop(key)
        del self.keys[number]
        return number

    def restore(self, key: EndpointKey, number: int) -> None:
        self.ids[key] = number
        self.keys[number] = key


@dataclass(slots=True)
class Ring:
    """Where the next recent attempt of each endpoint goes; filled as endpoints are used."""

    slots: dict[int, int]

    def next_slot(self, connection: apsw.Connection, endpoint_id: int) -> int:
        slot = self.slots.get(endpoint_id)
        if slot is None:
            row = fetch_one(
                connection, "SELECT slot + 1, max(attempt_seq) FROM recent WHERE endpoint_id = ?", (endpoint_id,)
            )
            slot = 0 if row is None or row[0] is None else row[0]
        slot %= RECENT_SLOTS
        self.slots[endpoint_id] = slot + 1
        return slot


_STATE: Final = (
    "SELECT seq, endpoint_id, status, attempt_count, schedule_position, next_attempt_ms, completed_ms, cancel_reason"
    " FROM deliveries WHERE id = ?"
)


@dataclass(slots=True, kw_only=True)
class Context:
    """What every transaction of one writer shares."""

    connection: apsw.Connection
    numbering: Numbering
    endpoints: Endpoints
    ring: Ring
    claims: Claims


class Group:
    """The buffers of one transaction. Requests are applied in the order in which they came.

    Whoever runs SQL of his own calls `flush` first, so that he sees what came before him.
    """

    def __init__(self, context: Context) -> None:
        self.context = context
        self.connection = context.connection
        self.deltas = Deltas()
        self.events: list[Value] = []
        self.callers: list[Value] = []
        self.deliveries: list[Value] = []
        self.attempts: list[Value] = []
        self.recent: dict[int, list[int]] = {}
        self.lanes: dict[int, bytes] = {}
        self.seen_callers: dict[bytes, CallerSeen] = {}
        self.claimed: list[tuple[str, Held]] = []
        self.released: list[str] = []
        self._updates: dict[int, tuple[Value, ...]] = {}
        self._states: dict[str, Held] = {}
        self._new_endpoints: list[EndpointKey] = []
        self._lost_endpoints: list[tuple[EndpointKey, int]] = []
        self._touched: set[int] | None = set()
        self._skew_ms = context.numbering.skew_ms

    # ------------------------------------------------------------------------------------------------- reading

    def load_callers(self, keys: list[bytes]) -> None:
        """Look up which of these callers' ids the store knows, in one statement."""
        for key, digest, event_id, endpoints in self.connection.execute(
            "SELECT key, digest, event_id, endpoints FROM carray(?) CROSS JOIN callers ON key = value",
            (apsw.carray(tuple(keys)),),
        ):
            self.seen_callers[key] = (digest, unpack_id(EVENT, event_id), endpoints)

    def endpoint_id(self, key: EndpointKey) -> int:
        """The endpoint's number; a new one for an endpoint that was never seen."""
        number = self.context.endpoints.ids.get(key)
        if number is None:
            number = self.context.endpoints.add(key)
            self._new_endpoints.append(key)
            self.connection.execute("INSERT INTO endpoints (id, name, uid) VALUES (?, ?, ?)", (number, *key))
        return number

    def state(self, delivery_id: str) -> Held | None:
        """The delivery as this transaction sees it."""
        known = self._states.get(delivery_id)
        if known is not None:
            return known
        held = self.context.claims.get(delivery_id)
        if held is not None and not held.stale:
            return held
        self.flush()
        row = fetch_one(self.connection, _STATE, (pack_id(DELIVERY, delivery_id),))
        return None if row is None else Held(*row)

    # ------------------------------------------------------------------------------------------------- writing

    def settle(self, delivery_id: str, state: Held, *, manual: bool) -> None:
        """Write a delivery's new state; `manual`: its manual request was answered."""
        before = self._updates.get(state.seq)
        answered = manual or (before is not None and before[-1] == 1)
        self._states[delivery_id] = state
        self._updates[state.seq] = (
            state.seq,
            state.status,
            state.cancel_reason,
            state.attempt_count,
            state.schedule_position,
            state.next_attempt_ms,
            state.completed_ms,
            int(answered),
        )

    def touched(self, endpoint_ids: Iterable[int] | None) -> None:
        """SQL changed deliveries of these endpoints (None: of any): what is known of their claims is stale."""
        if endpoint_ids is None or self._touched is None:
            self._touched = None
            self._states.clear()
        else:
            self._touched.update(endpoint_ids)
            touched = self._touched
            self._states = {key: held for key, held in self._states.items() if held.endpoint_id not in touched}
        with self.context.claims.lock:
            self.context.claims.mark_stale(self._touched)

    def forget_endpoint(self, endpoint_id: int) -> None:
        """The endpoint's rows are deleted; a later one of this name and uid starts anew."""
        key = self.context.endpoints.keys[endpoint_id]
        self.context.endpoints.forget(key)
        self.context.ring.slots.pop(endpoint_id, None)
        self._lost_endpoints.append((key, endpoint_id))

    def flush(self) -> None:
        """Turn the buffers into statements."""
        connection = self.connection
        for statement, buffer in (
            (rows.INSERT_EVENTS, self.events),
            (rows.INSERT_CALLERS, self.callers),
            (rows.INSERT_DELIVERIES, self.deliveries),
            (rows.INSERT_ATTEMPTS, self.attempts),
        ):
            if buffer:
                statement.run(connection, buffer)
                buffer.clear()
        if self._updates:
            rows.UPDATE_DELIVERIES.run(connection, [value for row in self._updates.values() for value in row])
            self._updates.clear()
        if self.recent:
            self._flush_recent()
        if self.lanes:
            rows.REPLACE_LANES.run(connection, [value for row in self.lanes.items() for value in row])
            self.lanes.clear()
        self.deltas.flush(connection)

    def _flush_recent(self) -> None:
        flat: list[Value] = []
        for endpoint_id, seqs in self.recent.items():
            for seq in seqs[-RECENT_SLOTS:]:
                flat += (endpoint_id, self.context.ring.next_slot(self.connection, endpoint_id), seq)
        rows.REPLACE_RECENT.run(self.connection, flat)
        self.recent.clear()

    # ------------------------------------------------------------------------------------------ begin, commit

    def begin(self) -> None:
        self.connection.execute("BEGIN IMMEDIATE")

    def commit(self) -> None:
        """Flush, claim, commit (which waits for the disk), release."""
        self.flush()
        if self.context.numbering.skew_ms != self._skew_ms:
            set_meta(self.connection, "skew_ms", self.context.numbering.skew_ms)
        claims = self.context.claims
        if self.claimed:
            with claims.lock:
                for delivery_id, held in self.claimed:
                    claims.hold(delivery_id, held)
        self.connection.execute("COMMIT")
        if self.released or self._touched is None or self._touched:
            with claims.lock:
                claims.drop(self.released)
                claims.mark_stale(self._touched)

    def rollback(self) -> None:
        """Undo everything, also in memory. SQLite itself may have rolled back already."""
        with self.context.claims.lock:
            claims = self.context.claims
            claims.drop([key for key, held in self.claimed if claims.get(key) is held])
        for key in self._new_endpoints:
            self.context.endpoints.forget(key)
        for key, number in self._lost_endpoints:
            self.context.endpoints.restore(key, number)
        self.context.numbering.skew_ms = self._skew_ms
        if self.connection.in_transaction:
            self.connection.execute("ROLLBACK")


def set_meta(connection: apsw.Connection, name: str, value: int) -> None:
    connection.execute("REPLACE INTO meta (name, value) VALUES (?, ?)", (name, value))


def get_meta(connection: apsw.Connection, name: str) -> int:
    """0 for what was never set."""
    row = fetch_one(connection, "SELECT value FROM meta WHERE name = ?", (name,))
    return 0 if row is None else int(row[0])
