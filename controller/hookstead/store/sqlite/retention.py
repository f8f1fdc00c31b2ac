"""What leaves the store with age, a bounded step at a time.

Payloads go at `payload_days`, attempts and ended deliveries at `attempt_days`, dead letters at `dead_letter_days`.
An event's row goes with the last thing that needs it: its payload, a delivery, a day of idempotency. Counters stay.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from hookstead.config.model import RetentionPolicy
from hookstead.delivery.ports import CancelReason
from hookstead.store.codec import CANCELLED, DEAD_LETTERED, DELIVERED
from hookstead.store.sqlite.changes import Withdrawn, withdraw_payloads
from hookstead.store.sqlite.group import Group, get_meta, set_meta
from hookstead.store.sqlite.rollups import BUCKETS_KEPT_MS, HOUR_MS, WINDOW_HOURS
from hookstead.store.sqlite.rows import fetch, fetch_one, numbers
from hookstead.store.sqlite.schema import TIME_BITS

DAY_MS: Final = 24 * HOUR_MS
CALLER_IDS_KEPT_MS: Final = DAY_MS
_RETIRED: Final = {
    DELIVERED: "retired_delivered",
    DEAD_LETTERED: "retired_dead_lettered",
    CANCELLED: "retired_cancelled",
}


@dataclass(frozen=True, slots=True)
class _Ages:
    """Instants before which things are too old, in milliseconds; `withdrawn` collects what ended for that."""

    now: int
    payload: int
    attempt: int
    dead_letter: int
    withdrawn: Withdrawn = field(default_factory=Withdrawn)

    @property
    def event(self) -> int:
        return min(self.payload, self.attempt, self.now - CALLER_IDS_KEPT_MS)


def expire(group: Group, policy: RetentionPolicy, *, now_ms: int, limit: int) -> tuple[Withdrawn, bool]:
    """One step of about `limit` rows of each sort: what it cancelled, and whether one of the sorts has more."""
    group.flush()
    ages = _Ages(
        now_ms,
        now_ms - policy.payload_days * DAY_MS,
        now_ms - policy.attempt_days * DAY_MS,
        now_ms - policy.dead_letter_days * DAY_MS,
    )
    more = [step(group, ages, limit) for step in _STEPS]
    group.flush()
    return ages.withdrawn, any(more)


def _bound(group: Group, before_ms: int) -> int:
    """Every row made before this instant has a smaller number."""
    return max(before_ms + group.context.numbering.skew_ms + 1, 0) << TIME_BITS


def _withdraw_payloads(group: Group, ages: _Ages, limit: int) -> bool:
    done = get_meta(group.connection, "payloads_expired_seq")
    found = fetch(
        group.connection,
        "SELECT seq, accepted_ms, data IS NOT NULL FROM events WHERE seq > ? AND seq < ? ORDER BY seq LIMIT ?",
        (done, _bound(group, ages.payload), limit),
    )
    due = [seq for seq, accepted_ms, present in found if present and accepted_ms < ages.payload]
    if due:
        withdraw_payloads(group, due, ages.withdrawn, reason=CancelReason.EXPIRED, now_ms=ages.now)
    return _advance(group, "payloads_expired_seq", done, [row[:2] for row in found], ages.payload, limit)


def _advance(group: Group, mark: str, done: int, found: list[tuple[int, int]], before_ms: int, limit: int) -> bool:
    """Move the mark behind the rows that are done; it never passes one whose time is still to come."""
    reached = done
    for seq, accepted_ms in found:
        if accepted_ms >= before_ms:
            break
        reached = seq
    if reached != done:
        set_meta(group.connection, mark, reached)
    return len(found) == limit and reached == found[-1][0]


def _retire_attempts(group: Group, ages: _Ages, limit: int) -> bool:
    connection = group.connection
    connection.execute(
        "DELETE FROM attempts WHERE seq IN (SELECT seq FROM attempts WHERE seq < ? AND started_ms < ?"
        " ORDER BY seq LIMIT ?)",
        (_bound(group, ages.attempt), ages.attempt, limit),
    )
    return connection.changes() == limit


def _retire_deliveries(group: Group, ages: _Ages, limit: int) -> bool:
    more = False
    for status, before in (
        (DELIVERED, ages.attempt),
        (CANCELLED, ages.attempt),
        (DEAD_LETTERED, ages.dead_letter),
    ):
        found = fetch(
            group.connection,
            "SELECT seq, endpoint_id, event_seq FROM deliveries INDEXED BY deliveries_ended"
            " WHERE status = ? AND completed_ms < ? AND coalesce(manual_due_ms < ?, TRUE) LIMIT ?",
            (status, before, before, limit),
        )
        if found:
            _delete_deliveries(group, status, found)
            events = sorted({row[2] for row in found})
            _retire_events(group, ages, events)
            _sweep_again(group, events)
        more = more or len(found) == limit
    return more


def _delete_deliveries(group: Group, status: int, found: list[tuple[int, int, int]]) -> None:
    connection = group.connection
    seqs = [row[0] for row in found]
    connection.execute("DELETE FROM attempts WHERE delivery_seq IN carray(?)", (numbers(seqs),))
    connection.execute("DELETE FROM deliveries WHERE seq IN carray(?)", (numbers(seqs),))
    retired: dict[int, int] = {}
    for _, endpoint_id, _ in found:
        retired[endpoint_id] = retired.get(endpoint_id, 0) + 1
    column = _RETIRED[status]
    for endpoint_id, count in retired.items():
        connection.execute(
            f"UPDATE counts SET {column} = {column} + ? WHERE endpoint_id = ?",  # noqa: S608 - a name of ours
            (count, endpoint_id),
        )
    group.touched(retired)


_NEEDED: Final = """
EXISTS (SELECT 1 FROM deliveries d WHERE d.seq > e.seq AND d.seq <= e.seq + e.endpoints AND d.event_seq = e.seq)
OR EXISTS (SELECT 1 FROM deliveries d INDEXED BY deliveries_replayed WHERE d.event_seq = e.seq AND d.origin = 2)
"""


def _retire_events(group: Group, ages: _Ages, seqs: list[int]) -> None:
    """Delete those of these events that nothing needs any longer."""
    group.connection.execute(
        "DELETE FROM events WHERE seq IN (SELECT e.seq FROM carray(?) c CROSS JOIN events e ON e.seq = c.value"  # noqa: S608 - texts of ours
        f" WHERE e.accepted_ms < ? AND NOT ({_NEEDED}))",
        (numbers(seqs), ages.event),
    )


def _sweep_again(group: Group, seqs: list[int]) -> None:
    """Events that lost their last delivery but are too young to go are swept once more.

    They were swept before only where the policy was shorter then.
    """
    done = get_meta(group.connection, "events_swept_seq")
    first = fetch_one(
        group.connection,
        "SELECT min(e.seq) FROM carray(?) c CROSS JOIN events e ON e.seq = c.value"  # noqa: S608 - texts of ours
        f" WHERE e.seq <= ? AND NOT ({_NEEDED})",
        (numbers(seqs), done),
    )[0]
    if first is not None:
        set_meta(group.connection, "events_swept_seq", first - 1)


def _sweep_events(group: Group, ages: _Ages, limit: int) -> bool:
    """Visit each event once, when it is old enough to go; later its last delivery takes it along."""
    done = get_meta(group.connection, "events_swept_seq")
    found = fetch(
        group.connection,
        "SELECT seq, accepted_ms FROM events WHERE seq > ? AND seq < ? ORDER BY seq LIMIT ?",
        (done, _bound(group, ages.event), limit),
    )
    if found:
        _retire_events(group, ages, [row[0] for row in found])
    return _advance(group, "events_swept_seq", done, found, ages.event, limit)


def _forget_callers(group: Group, ages: _Ages, limit: int) -> bool:
    connection = group.connection
    connection.execute(
        "DELETE FROM callers WHERE event_seq IN (SELECT event_seq FROM callers WHERE event_seq < ?"
        " ORDER BY event_seq LIMIT ?)",
        (max(ages.now - CALLER_IDS_KEPT_MS, 0) << TIME_BITS, limit),
    )
    return connection.changes() == limit


def _trim_rollups(group: Group, ages: _Ages, limit: int) -> bool:
    connection = group.connection
    oldest_hour = ages.now // HOUR_MS - WINDOW_HOURS
    connection.execute(
        "DELETE FROM hours WHERE (hour, endpoint_id) IN"
        " (SELECT hour, endpoint_id FROM hours WHERE hour < ? ORDER BY hour LIMIT ?)",
        (oldest_hour, limit),
    )
    more = connection.changes() == limit
    connection.execute(
        "DELETE FROM buckets WHERE start_ms IN (SELECT start_ms FROM buckets WHERE start_ms < ? LIMIT ?)",
        (ages.now - BUCKETS_KEPT_MS, limit),
    )
    return more or connection.changes() == limit


def _forget_endpoints(group: Group, ages: _Ages, limit: int) -> bool:
    """Deleted endpoints of which nothing is left; their counters go with them."""
    connection = group.connection
    found = fetch(
        connection,
        "SELECT id FROM endpoints e WHERE gone = 1"
        " AND NOT EXISTS (SELECT 1 FROM deliveries d WHERE d.endpoint_id = e.id) LIMIT ?",
        (limit,),
    )
    for (endpoint_id,) in found:
        for table in ("counts", "lanes", "recent", "hours"):
            connection.execute(
                f"DELETE FROM {table} WHERE endpoint_id = ?",  # noqa: S608 - a name of ours
                (endpoint_id,),
            )
        connection.execute("DELETE FROM endpoints WHERE id = ?", (endpoint_id,))
        group.forget_endpoint(endpoint_id)
    return len(found) == limit


_Step = Callable[[Group, _Ages, int], bool]
_STEPS: Final[tuple[_Step, ...]] = (
    _withdraw_payloads,
    _retire_deliveries,
    _retire_attempts,
    _sweep_events,
    _forget_callers,
    _trim_rollups,
    _forget_endpoints,
)
