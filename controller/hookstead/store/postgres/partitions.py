"""A partition for each day: made before the day begins, dropped when nothing in it is needed.

Events and ended deliveries are cut by their number, which carries the time, attempts by when they ended. What no day's
partition takes goes to the one named `_rest`.
"""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from typing import Any, Final

import asyncpg

from hookstead.store.postgres.link import Link

DAY_MS: Final = 86_400_000
TIME_BITS: Final = 10
TABLES: Final = ("events", "ended", "attempts")
_LOCK_MS: Final = 2_000
"""How long a new partition waits for the parent: whoever waits for a lock makes everybody behind him wait, too."""
_FORM: Final = "%Y%m%d"
_EPOCH: Final = datetime.date(1970, 1, 1)


@dataclass(frozen=True, slots=True, order=True)
class Day:
    """A day since the Unix epoch."""

    number: int

    @property
    def suffix(self) -> str:
        return (_EPOCH + datetime.timedelta(days=self.number)).strftime(_FORM)

    @property
    def starts_ms(self) -> int:
        return self.number * DAY_MS

    @property
    def ends_ms(self) -> int:
        return (self.number + 1) * DAY_MS

    def bounds(self, table: str) -> tuple[int, int]:
        shift = 0 if table == "attempts" else TIME_BITS
        return self.starts_ms << shift, self.ends_ms << shift


def day_of(at_ms: int) -> Day:
    return Day(at_ms // DAY_MS)


async def days(connection: Any, table: str) -> list[Day]:
    """The days that have a partition of this table, oldest first."""
    rows = await connection.fetch(
        "SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid WHERE i.inhparent = $1::regclass",
        f"hookstead.{table}",
    )
    found = []
    for (name,) in rows:
        suffix = name.removeprefix(f"{table}_")
        if suffix.isdigit():
            date = datetime.datetime.strptime(suffix, _FORM).replace(tzinfo=datetime.UTC).date()
            found.append(Day((date - _EPOCH).days))
    return sorted(found)


class Calendar:
    """Keeps partitions ahead of the time; remembers what it made, so that most calls ask nothing."""

    def __init__(self, link: Link, *, days_ahead: int, lock: int) -> None:
        self._link = link
        self._ahead = days_ahead
        self._lock = lock
        self._until: Day | None = None

    async def prepare(self, now_ms: int) -> None:
        """Make today's partitions and those of the days ahead."""
        today = day_of(now_ms)
        if self._until is not None and today.number + self._ahead <= self._until.number:
            return
        wanted = [Day(today.number + place) for place in range(self._ahead + 1)]
        missing = await self._missing(wanted)
        for table, day in missing:
            await self._make(table, day)
        self._until = wanted[-1]

    async def _missing(self, wanted: list[Day]) -> list[tuple[str, Day]]:
        rows = await self._link.fetch(
            "SELECT relname FROM pg_class WHERE relnamespace = 'hookstead'::regnamespace AND relname = ANY ($1)",
            [f"{table}_{day.suffix}" for table in TABLES for day in wanted],
        )
        present = {row[0] for row in rows}
        return [(table, day) for day in wanted for table in TABLES if f"{table}_{day.suffix}" not in present]

    async def _make(self, table: str, day: Day) -> None:
        """Another gateway may make it first. A day of which rows lie in the rest already gets none: they stay there."""
        name = f"hookstead.{table}_{day.suffix}"
        start, end = day.bounds(table)

        async def run(connection: Any) -> None:
            await connection.execute(f"SET LOCAL lock_timeout = {_LOCK_MS}")
            await connection.execute(f"SELECT pg_advisory_xact_lock({self._lock})")
            if await connection.fetchval("SELECT to_regclass($1) IS NOT NULL", name):
                return
            await connection.execute(f"CREATE TABLE {name} (LIKE hookstead.{table} INCLUDING DEFAULTS)")
            if table != "attempts":
                await connection.execute(f"CREATE UNIQUE INDEX ON {name} (id)")
            await connection.execute(
                f"ALTER TABLE hookstead.{table} ATTACH PARTITION {name} FOR VALUES FROM ({start}) TO ({end})"
            )

        try:
            await self._link.transaction(run)
        except asyncpg.CheckViolationError:
            return
