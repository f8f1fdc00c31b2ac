"""What leaves the store with age, a bounded step at a time.

Payloads go at `payload_days`, attempts and ended deliveries at `attempt_days`, dead letters at `dead_letter_days`. An
event's row goes with the last thing that needs it: its payload, a delivery, a day of idempotency. Counters stay.

Most of it goes with its whole day (`dropping`). What goes row by row, here, is what that can not take: other ages for
other statuses, days of which something is still needed. `slack` is how long rows wait for their day's end.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Final

from hookstead.config.model import RetentionPolicy
from hookstead.delivery.ports import CancelReason, EndpointKey
from hookstead.store.codec import CANCELLED, DEAD_LETTERED, DELIVERED, DELIVERY, REASON_CODES
from hookstead.store.postgres import ids
from hookstead.store.postgres.booting import BUCKETS_KEPT_MS, WINDOW_HOURS
from hookstead.store.postgres.link import Row
from hookstead.store.postgres.migrate import LOCK
from hookstead.store.postgres.partitions import TIME_BITS
from hookstead.store.postgres.recording import HOUR_MS

DAY_MS: Final = 24 * HOUR_MS
CALLER_IDS_KEPT_MS: Final = DAY_MS
DOINGS_KEPT_MS: Final = HOUR_MS
"""A process that has not looked for so long was taken for dead long before."""
_LONGEST_ATTEMPT_MS: Final = 120_000
RETIRED: Final = {
    DELIVERED: "retired_delivered",
    DEAD_LETTERED: "retired_dead_lettered",
    CANCELLED: "retired_cancelled",
}


@dataclass(frozen=True, slots=True)
class Withdrawn:
    """What became of the deliveries of payloads that were removed: endpoints that it touched, whom it cancelled."""

    touched: set[EndpointKey] = field(default_factory=set)
    ended: dict[EndpointKey, list[str]] = field(default_factory=dict)

    def add(self, rows: list[Row]) -> None:
        """Rows of `withdraw_1`."""
        for name, uid, delivery, cancelled in rows:
            key = EndpointKey(name, uid)
            self.touched.add(key)
            if cancelled:
                self.ended.setdefault(key, []).append(ids.unpack(DELIVERY, delivery))


@dataclass(frozen=True, slots=True)
class Ages:
    """Instants before which things are too old, in milliseconds."""

    now: int
    payload: int
    attempt: int
    dead_letter: int

    @property
    def event(self) -> int:
        return min(self.payload, self.attempt, self.now - CALLER_IDS_KEPT_MS)

    def of(self, status: int) -> int:
        return self.dead_letter if status == DEAD_LETTERED else self.attempt

    def later(self, slack_ms: int) -> Ages:
        """As if it were `slack_ms` earlier."""
        return Ages(self.now, self.payload - slack_ms, self.attempt - slack_ms, self.dead_letter - slack_ms)


def ages(policy: RetentionPolicy, now_ms: int) -> Ages:
    return Ages(
        now_ms,
        now_ms - policy.payload_days * DAY_MS,
        now_ms - policy.attempt_days * DAY_MS,
        now_ms - policy.dead_letter_days * DAY_MS,
    )


@dataclass(slots=True)
class Step:
    """One transaction of retention."""

    connection: Any
    limit: int
    skew_ms: int
    owner: int | None = None
    """Who lets the others know what it withdrew; None where nothing of it was to be sent."""
    more: bool = False
    withdrawn: Withdrawn = field(default_factory=Withdrawn)

    def bound(self, before_ms: int) -> int:
        """Every row made before this instant has a smaller number."""
        return max(before_ms + self.skew_ms + 1, 0) << TIME_BITS

    async def mark(self, name: str) -> int:
        return int(await self.connection.fetchval("SELECT value FROM hookstead.marks WHERE name = $1", name) or 0)

    async def set_mark(self, name: str, value: int) -> None:
        await self.connection.execute(
            "INSERT INTO hookstead.marks (name, value) VALUES ($1, $2)"
            " ON CONFLICT (name) DO UPDATE SET value = excluded.value",
            name,
            value,
        )

    async def deleted(self, sql: str, *arguments: object) -> int:
        """How many rows the statement deleted."""
        return int((await self.connection.execute(sql, *arguments)).rpartition(" ")[2])


Sort = Callable[[Step, Ages], Awaitable[bool]]


async def has_turn(connection: Any) -> bool:
    """Whether nobody else is at old rows, until the end of the transaction: several would be in each other's way."""
    return bool(await connection.fetchval(f"SELECT pg_try_advisory_xact_lock({LOCK} + 1)"))


async def expire(connection: Any, sort: Sort, exact: Ages, *, owner: int, limit: int, slack_ms: int) -> Step:
    """One step of about `limit` rows of one sort. `more` says whether there are more.

    A transaction of its own for each sort, so that none holds one lock while it waits for the other's.
    """
    skew_ms = int(await connection.fetchval("SELECT skew_ms FROM hookstead.numbering"))
    step = Step(connection, limit, skew_ms)
    if not await has_turn(connection):
        return step
    if sort is _withdraw_pending:
        step.owner = owner
        step.more = await sort(step, exact)
    else:
        step.more = await sort(step, exact.later(slack_ms))
    return step


async def withdraw(step: Step, events: list[int], *, reason: CancelReason, now_ms: int) -> None:
    rows = await step.connection.fetch(
        "SELECT name, uid, id, cancelled FROM hookstead.withdraw_1($1, $2, $3, $4)",
        step.owner,
        events,
        REASON_CODES[reason],
        now_ms,
    )
    step.withdrawn.add(rows)


async def _withdraw_pending(step: Step, ages: Ages) -> bool:
    """What is pending is not sent any more as soon as its payload's retention ends; no slack here."""
    rows = await step.connection.fetch(
        "SELECT DISTINCT e.seq FROM ("
        "(SELECT p.event_seq FROM hookstead.pending p WHERE p.seq < $1 ORDER BY p.seq LIMIT $2)"
        " UNION ALL (SELECT p.event_seq FROM hookstead.pending p WHERE p.origin = 2 AND p.event_seq < $1 LIMIT $2)"
        ") p JOIN hookstead.events e ON e.seq = p.event_seq AND e.accepted_ms < $3 LIMIT $2",
        step.bound(ages.payload),
        step.limit,
        ages.payload,
    )
    if rows:
        await withdraw(step, [row[0] for row in rows], reason=CancelReason.EXPIRED, now_ms=ages.now)
    return len(rows) == step.limit


async def _withdraw_payloads(step: Step, ages: Ages) -> bool:
    done = await step.mark("payloads_expired_seq")
    found = await step.connection.fetch(
        "SELECT seq, accepted_ms, data IS NOT NULL FROM hookstead.events WHERE seq > $1 AND seq < $2"
        " ORDER BY seq LIMIT $3",
        done,
        step.bound(ages.payload),
        step.limit,
    )
    due = [seq for seq, accepted_ms, present in found if present and accepted_ms < ages.payload]
    if due:
        await withdraw(step, due, reason=CancelReason.EXPIRED, now_ms=ages.now)
    return await _advance(step, "payloads_expired_seq", done, [(row[0], row[1]) for row in found], ages.payload)


async def _advance(step: Step, mark: str, done: int, found: list[tuple[int, int]], before_ms: int) -> bool:
    """Move the mark behind the rows that are done; it never passes one whose time is still to come."""
    reached = done
    for seq, accepted_ms in found:
        if accepted_ms >= before_ms:
            break
        reached = seq
    if reached != done:
        await step.set_mark(mark, reached)
    return len(found) == step.limit and reached == found[-1][0]


async def _retire_deliveries(step: Step, ages: Ages) -> bool:
    more = False
    for status in RETIRED:
        before = ages.of(status)
        found = await step.connection.fetch(
            "SELECT h.seq, h.event_seq FROM hookstead.ended h LEFT JOIN hookstead.requests q ON q.seq = h.seq"
            # The bound on the number leaves out the partitions of later days.
            " WHERE h.status = $1 AND h.completed_ms < $2 AND coalesce(q.due_ms < $2, true) AND h.seq < $4 LIMIT $3",
            status,
            before,
            step.limit,
            step.bound(before),
        )
        if found:
            events = sorted({row[1] for row in found})
            # Locked against a redelivery that is asked for at the same time.
            await step.connection.execute(
                "SELECT FROM hookstead.events WHERE seq = ANY ($1) ORDER BY seq FOR UPDATE", events
            )
            await delete_deliveries(step, status, [row[0] for row in found])
            await retire_events(step, ages, events)
            await _sweep_again(step, events)
        more = more or len(found) == step.limit
    return more


async def delete_deliveries(step: Step, status: int, seqs: list[int]) -> None:
    await step.connection.execute("DELETE FROM hookstead.attempts WHERE delivery_seq = ANY ($1)", seqs)
    await step.connection.execute("DELETE FROM hookstead.requests WHERE seq = ANY ($1)", seqs)
    column = RETIRED[status]
    await step.connection.execute(
        "WITH gone AS (DELETE FROM hookstead.ended WHERE seq = ANY ($1) RETURNING endpoint_id)"  # noqa: S608 - a name of ours
        f" INSERT INTO hookstead.tallies AS c (endpoint_id, side, {column})"
        " SELECT endpoint_id, 2, count(*) FROM gone GROUP BY 1 ORDER BY 1"
        f" ON CONFLICT (endpoint_id, side) DO UPDATE SET {column} = c.{column} + excluded.{column}",
        seqs,
    )


NEEDED: Final = " OR ".join(
    f"EXISTS (SELECT FROM hookstead.{table} d WHERE {condition})"
    for table in ("pending", "ended")
    for condition in (
        "d.seq > e.seq AND d.seq <= e.seq + e.endpoints AND d.event_seq = e.seq",
        "d.event_seq = e.seq AND d.origin = 2",
    )
)


async def retire_events(step: Step, ages: Ages, seqs: list[int]) -> None:
    """Delete those of these events that nothing needs any longer."""
    await step.connection.execute(
        f"DELETE FROM hookstead.events e WHERE e.seq = ANY ($1) AND e.accepted_ms < $2 AND NOT ({NEEDED})",  # noqa: S608 - texts of ours
        seqs,
        ages.event,
    )


async def _sweep_again(step: Step, seqs: list[int]) -> None:
    """Events that lost their last delivery but are too young to go are swept once more.

    They were swept before only where the policy was shorter then.
    """
    done = await step.mark("events_swept_seq")
    first = await step.connection.fetchval(
        f"SELECT min(e.seq) FROM hookstead.events e WHERE e.seq = ANY ($1) AND e.seq <= $2 AND NOT ({NEEDED})",  # noqa: S608 - texts of ours
        seqs,
        done,
    )
    if first is not None:
        await step.set_mark("events_swept_seq", first - 1)


async def _retire_attempts(step: Step, ages: Ages) -> bool:
    # The bound on the end leaves out the partitions of later days.
    gone = await step.deleted(
        "DELETE FROM hookstead.attempts a USING (SELECT tableoid, ctid FROM hookstead.attempts"
        " WHERE started_ms < $1 AND ended_ms < $2 LIMIT $3) x WHERE a.tableoid = x.tableoid AND a.ctid = x.ctid",
        ages.attempt,
        ages.attempt + _LONGEST_ATTEMPT_MS,
        step.limit,
    )
    return gone == step.limit


async def _sweep_events(step: Step, ages: Ages) -> bool:
    """Visit each event once, when it is old enough to go; later its last delivery takes it along."""
    done = await step.mark("events_swept_seq")
    found = await step.connection.fetch(
        "SELECT seq, accepted_ms FROM hookstead.events WHERE seq > $1 AND seq < $2 ORDER BY seq LIMIT $3",
        done,
        step.bound(ages.event),
        step.limit,
    )
    if found:
        await retire_events(step, ages, [row[0] for row in found])
    return await _advance(step, "events_swept_seq", done, [(row[0], row[1]) for row in found], ages.event)


async def _forget_callers(step: Step, ages: Ages) -> bool:
    """The oldest batches whole, as many as have about the limit of keys."""
    bound = max(ages.now - CALLER_IDS_KEPT_MS, 0) << TIME_BITS
    found = await step.connection.fetch(
        "SELECT ctid, count FROM hookstead.caller_batches WHERE last_seq < $1 ORDER BY last_seq LIMIT $2",
        bound,
        step.limit,
    )
    taken, keys = [], 0
    for place, count in found:
        if keys >= step.limit:
            break
        taken.append(place)
        keys += count
    await step.connection.execute(
        "WITH old AS (DELETE FROM hookstead.caller_batches WHERE ctid = ANY ($1) RETURNING keys)"
        " DELETE FROM hookstead.callers c USING old, unnest(old.keys) AS k (key) WHERE c.key = k.key",
        taken,
    )
    return bool(taken) and (len(taken) < len(found) or len(found) == step.limit)


async def _trim_rollups(step: Step, ages: Ages) -> bool:
    more = False
    for table, key, column, before in (
        ("hours", "hour, endpoint_id", "hour", ages.now // HOUR_MS - WINDOW_HOURS),
        ("buckets", "start_ms, part", "start_ms", ages.now - BUCKETS_KEPT_MS),
        ("latencies", "start_ms, part, class", "start_ms", ages.now - BUCKETS_KEPT_MS),
        ("doings", "seq", "seq", (ages.now - DOINGS_KEPT_MS) << TIME_BITS),
    ):
        gone = await step.deleted(
            f"DELETE FROM hookstead.{table} WHERE ({key}) IN"  # noqa: S608 - names of ours
            f" (SELECT {key} FROM hookstead.{table} WHERE {column} < $1 ORDER BY {column} LIMIT $2)",
            before,
            step.limit,
        )
        more = more or gone == step.limit
    return more


async def _void_claims(step: Step, ages: Ages) -> bool:
    """Those of members that went while a cancellation kept one for them."""
    await step.connection.execute(
        "DELETE FROM hookstead.claims k WHERE NOT EXISTS (SELECT FROM hookstead.members m WHERE m.owner = k.owner)"
    )
    return False


_FORGOTTEN: Final = (
    "SELECT e.id FROM hookstead.endpoints e WHERE e.gone"
    " AND NOT EXISTS (SELECT FROM hookstead.pending d WHERE d.endpoint_id = e.id)"
    " AND NOT EXISTS (SELECT FROM hookstead.ended d WHERE d.endpoint_id = e.id) LIMIT $1"
)


async def _forget_endpoints(step: Step, ages: Ages) -> bool:
    """Deleted endpoints of which nothing is left; their counters go with them.

    Under the lock of the numbers, so that no event comes in between.
    """
    if not await step.connection.fetch(_FORGOTTEN, 1):
        return False
    await step.connection.execute("UPDATE hookstead.numbering SET forgotten = forgotten + 1")
    found = await step.connection.fetch(_FORGOTTEN, step.limit)
    numbers = [row[0] for row in found]
    if numbers:
        await step.connection.execute("SELECT hookstead.fold_1(ARRAY(SELECT DISTINCT owner FROM hookstead.journal))")
        for table in ("tallies", "lanes", "hours", "attempts", "requests"):
            await step.connection.execute(
                f"DELETE FROM hookstead.{table} WHERE endpoint_id = ANY ($1)",  # noqa: S608 - a name of ours
                numbers,
            )
        await step.connection.execute("DELETE FROM hookstead.endpoints WHERE id = ANY ($1)", numbers)
    return len(found) == step.limit


SORTS: Final[tuple[Sort, ...]] = (
    _withdraw_pending,
    _withdraw_payloads,
    _retire_deliveries,
    _retire_attempts,
    _sweep_events,
    _forget_callers,
    _trim_rollups,
    _void_claims,
    _forget_endpoints,
)
