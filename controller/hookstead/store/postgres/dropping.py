"""Whole days that nothing needs any longer: their partitions go at once, and no row of them is touched.

A few rows of such a day may still be needed: what ended late, a dead letter with a longer age, the event of one of
these. They move to the partition of the rest, and go from there one by one.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar

from hookstead.delivery.ports import StoreUnavailable
from hookstead.store.codec import DEAD_LETTERED
from hookstead.store.postgres import partitions
from hookstead.store.postgres.faults import Health
from hookstead.store.postgres.link import Link
from hookstead.store.postgres.partitions import Day
from hookstead.store.postgres.recording import HOUR_MS
from hookstead.store.postgres.retention import RETIRED, Ages, Step, has_turn, retire_events

Result = TypeVar("Result")

log = logging.getLogger(__name__)

_LOCK_MS: Final = 2_000
"""How long a drop waits for a lock: whoever waits makes everybody behind him wait, too."""
_SCAN_SECONDS: Final = 900.0
"""How long one look over a whole day may take. It stops nobody but who changes deliveries of that day."""
_MOST_DELIVERIES: Final = 100_000
"""Of one event: so far may its deliveries' numbers reach into the next day."""


_Drop = Callable[[Any, Day, Ages], Awaitable[bool]]


class Dropping:
    """Looks for days to drop once an hour, and whenever the ages are others; beside the writer, which goes on."""

    def __init__(self, link: Link, *, owner: int, health: Health) -> None:
        self._link = link
        self._owner = owner
        self._health = health
        self._done: tuple[int, ...] = ()

    async def step(self, ages: Ages) -> None:
        """Drop what can be dropped. A day that is locked or still needed is left to a later call."""
        hour = (ages.event // HOUR_MS, ages.attempt // HOUR_MS, ages.dead_letter // HOUR_MS)
        if hour == self._done:
            return
        attempts, events = await self._run(_days)
        whole = True
        for day in attempts:
            if day.ends_ms <= ages.attempt:
                whole = await self._drop(_drop_attempts, day, ages) and whole
        for day in events:
            if day.ends_ms <= ages.event:
                whole = await self._drop(_drop_events, day, ages) and whole
        if whole:
            self._done = hour

    async def _drop(self, drop: _Drop, day: Day, ages: Ages) -> bool:
        try:
            return await self._run(lambda connection: _in_turn(connection, drop, day, ages))
        except StoreUnavailable as error:
            log.info("a day is not dropped yet", extra={"action": "drop_day", "day": day.suffix, "error": str(error)})
            return False

    async def _run(self, run: Callable[[Any], Awaitable[Result]]) -> Result:
        """In one transaction, if this process is still a member at its end.

        Not before: a look over a day holds nothing that the others wait for when they take a process for dead.
        """
        self._health.require()

        async def held(connection: Any) -> Result:
            await connection.execute(
                f"SET LOCAL lock_timeout = {_LOCK_MS}; SET LOCAL statement_timeout = {int(_SCAN_SECONDS * 1000)}"
            )
            result = await run(connection)
            await connection.execute("SELECT hookstead.stay_1($1)", self._owner)
            return result

        try:
            return await self._link.transaction(held)
        except Exception as error:
            meaning = self._health.meaning(error)
            if meaning is error:
                raise
            raise meaning from error


async def _in_turn(connection: Any, drop: _Drop, day: Day, ages: Ages) -> bool:
    if not await has_turn(connection):
        raise StoreUnavailable("another process is at it")
    return await drop(connection, day, ages)


async def _days(connection: Any) -> tuple[list[Day], list[Day]]:
    return await partitions.days(connection, "attempts"), await partitions.days(connection, "events")


async def _drop_attempts(connection: Any, day: Day, _: Ages) -> bool:
    await connection.execute(f"DROP TABLE IF EXISTS hookstead.attempts_{day.suffix}")
    return True


async def _drop_events(connection: Any, day: Day, ages: Ages) -> bool:
    """Both partitions of the day, events and ended deliveries; False while something in it is pending."""
    low, high = day.bounds("events")
    if await _is_pending(connection, day):
        return False
    events, ended = f"hookstead.events_{day.suffix}", f"hookstead.ended_{day.suffix}"
    if await connection.fetchval("SELECT to_regclass($1) IS NULL", ended):
        return False
    await connection.execute(f"LOCK TABLE {events}, {ended} IN SHARE ROW EXCLUSIVE MODE")
    earlier = await connection.fetch(
        f"SELECT DISTINCT event_seq FROM {ended} WHERE event_seq < $1",  # noqa: S608 - a name of ours
        low,
        timeout=_SCAN_SECONDS,
    )
    await _keep_ended(connection, ended, ages)
    await _count(connection, ended)
    # From here on new numbers wait as well: a replay must not make a delivery of an event that goes.
    await connection.execute("SELECT FROM hookstead.numbering FOR UPDATE")
    if await _is_pending(connection, day):
        raise StoreUnavailable("a replay has just taken one of its events up")
    await _keep_events(connection, day)
    # Nothing of the day can be sent again, whatever was asked: the payloads' age has come with the events'.
    await connection.execute("DELETE FROM hookstead.requests WHERE event_seq >= $1 AND event_seq < $2", low, high)
    for table, parent, kept in ((ended, "ended", "kept_ended"), (events, "events", "kept_events")):
        await connection.execute(f"ALTER TABLE hookstead.{parent} DETACH PARTITION {table}")
        await connection.execute(f"INSERT INTO hookstead.{parent} SELECT * FROM {kept}")  # noqa: S608 - names of ours
        await connection.execute(f"DROP TABLE {table}")
    step = Step(connection, limit=0, skew_ms=0)
    await retire_events(step, ages, [row[0] for row in earlier])
    await step.set_mark("dropped_seq", max(high, await step.mark("dropped_seq")))
    return True


async def _is_pending(connection: Any, day: Day) -> bool:
    low, high = day.bounds("events")
    return bool(
        await connection.fetchval(
            "SELECT EXISTS (SELECT FROM hookstead.pending WHERE seq >= $1 AND seq < $3)"
            " OR EXISTS (SELECT FROM hookstead.pending WHERE origin = 2 AND event_seq >= $1 AND event_seq < $2)",
            low,
            high,
            high + _MOST_DELIVERIES,
        )
    )


async def _keep_ended(connection: Any, ended: str, ages: Ages) -> None:
    """Put aside the ended deliveries that are too young to go."""
    await connection.execute(
        f"CREATE TEMPORARY TABLE kept_ended ON COMMIT DROP AS SELECT h.* FROM {ended} h"  # noqa: S608 - names of ours
        f" WHERE h.completed_ms >= CASE h.status WHEN {DEAD_LETTERED} THEN {ages.dead_letter} ELSE {ages.attempt} END",
        timeout=_SCAN_SECONDS,
    )


async def _keep_events(connection: Any, day: Day) -> None:
    """Put aside the events of all deliveries that stay, without their payloads, whose age has come."""
    low, high = day.bounds("events")
    await connection.execute(
        "CREATE TEMPORARY TABLE kept_events ON COMMIT DROP AS"  # noqa: S608 - names of ours
        f" SELECT e.* FROM hookstead.events_{day.suffix} e WHERE e.seq IN ("
        "SELECT event_seq FROM kept_ended UNION ALL"
        f" SELECT event_seq FROM hookstead.ended WHERE origin = 2 AND event_seq >= {low} AND event_seq < {high}"
        f" AND (seq < {low} OR seq >= {high}) UNION ALL"
        f" SELECT event_seq FROM hookstead.ended WHERE seq >= {high} AND seq < {high + _MOST_DELIVERIES}"
        f" AND event_seq < {high})",
        timeout=_SCAN_SECONDS,
    )
    await connection.execute("UPDATE kept_events SET data = NULL, traceparent = NULL")


async def _count(connection: Any, ended: str) -> None:
    """What goes with the day is retired: it stays in the counters."""
    names = ", ".join(RETIRED.values())
    columns = ", ".join(f"{column} = c.{column} + excluded.{column}" for column in RETIRED.values())
    sums = ", ".join(
        f"coalesce(sum(n) FILTER (WHERE status = {status}), 0)::bigint AS {column}"
        for status, column in RETIRED.items()
    )
    await connection.execute(
        f"INSERT INTO hookstead.tallies AS c (endpoint_id, side, {names}) SELECT endpoint_id, 2, {sums} FROM ("  # noqa: S608 - names of ours
        f"SELECT endpoint_id, status, 1 AS n FROM {ended}"
        " UNION ALL SELECT endpoint_id, status, -1 FROM kept_ended) r GROUP BY 1 ORDER BY 1"
        f" ON CONFLICT (endpoint_id, side) DO UPDATE SET {columns}",
        timeout=_SCAN_SECONDS,
    )
