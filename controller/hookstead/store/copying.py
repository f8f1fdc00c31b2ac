"""A stopped environment's store, moved from an SQLite file into a PostgreSQL database.

The database gets everything in one transaction, or nothing: a copy that was interrupted left nothing behind, and is
simply made again. The file is only read. Memory: one batch of rows.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Final

import apsw
import asyncpg

from hookstead.delivery.ports import EndpointCounts, EndpointKey, StoreError
from hookstead.store.address import require_database, sqlite_file
from hookstead.store.copied_rows import PARTS, Part, Row
from hookstead.store.errors import StoreInUse, StoreRefused
from hookstead.store.postgres import audit, booting, faults
from hookstead.store.postgres.link import Link, Target, target
from hookstead.store.postgres.migrate import LOCK, migrate
from hookstead.store.postgres.partitions import TABLES, Calendar, Day
from hookstead.store.postgres.settings import Settings
from hookstead.store.sqlite.files import claim_file
from hookstead.store.sqlite.schema import MIGRATIONS, require_ours

Tell = Callable[[str], None]

BATCH_ROWS: Final = 10_000
BATCH_BYTES: Final = 8 * 1024 * 1024
_TELL_SECONDS: Final = 2.0
_STATEMENT_SECONDS: Final = 3600.0
_LOCK_MS: Final = 10_000
_DAY_NUMBERS: Final = range(14_000, 100_000)
"""From 2008 to 2243: rows of a clock that was further off go to the partition of the rest."""
_CALLER_BATCHES: Final = """
INSERT INTO hookstead.caller_batches (last_seq, count, keys)
SELECT max(event_seq), count(*), array_agg(key)
FROM (SELECT key, event_seq, row_number() OVER (ORDER BY event_seq) / 1000 AS batch FROM hookstead.callers) c
GROUP BY batch
"""
_EMPTY: Final = (
    "endpoints",
    "events",
    "callers",
    "caller_batches",
    "pending",
    "ended",
    "requests",
    "attempts",
    "replays",
)
_SAME: Final = {
    **{name: (name,) for name in ("endpoints", "events", "callers", "attempts", "replays", "lanes", "blobs")},
    "deliveries": ("pending", "ended"),
    "counts": ("tallies",),
}
"""Tables of the file, of which each row is one of the database, in these of its tables."""


@dataclass(frozen=True, slots=True)
class Copied:
    """Rows by table, and the counters of each endpoint, as the database has them now."""

    rows: Mapping[str, int]
    counts: Mapping[EndpointKey, EndpointCounts]


class Source:
    """The file, locked against every gateway and read as of one moment; it is not written to."""

    def __init__(self, path: Path) -> None:
        """Raises StoreRefused."""
        if not path.is_file():
            raise StoreRefused(f"store {path}: no such file")
        self._lock = claim_file(path)
        try:
            self._connection = _open(path)
        except BaseException:
            self._lock.release()
            raise

    def close(self) -> None:
        self._connection.close()
        self._lock.release()

    def rows(self, part: Part) -> Iterator[Row]:
        return part.rows(self._connection.execute(part.query))

    def size(self, part: Part) -> int:
        """Rows of the question."""
        return self._number(f"SELECT count(*) FROM ({part.query})")  # noqa: S608 - a text of ours

    def count(self, table: str) -> int:
        return self._number(f"SELECT count(*) FROM {table}")  # noqa: S608 - a name of ours

    def days(self) -> list[Day]:
        """The days of which there are rows, oldest first."""
        numbered = "SELECT DISTINCT (seq >> 10) / 86400000 FROM {}"
        questions = (
            numbered.format("events"),
            numbered.format("deliveries"),
            "SELECT DISTINCT (started_ms + duration_ms) / 86400000 FROM attempts",
        )
        found = {int(row[0]) for question in questions for row in self._connection.execute(question)}
        return [Day(number) for number in sorted(found) if number in _DAY_NUMBERS]

    def numbering(self) -> tuple[int, int]:
        """The last number that was given to a row, and how far numbers ran ahead of the time, in milliseconds."""
        last = self._number(
            "SELECT max(coalesce((SELECT max(seq) FROM events), 0), coalesce((SELECT max(seq) FROM deliveries), 0),"
            " coalesce((SELECT max(seq) FROM attempts), 0), coalesce((SELECT max(event_seq) FROM callers), 0))"
        )
        return last, self._number("SELECT coalesce((SELECT value FROM meta WHERE name = 'skew_ms'), 0)")

    def _number(self, question: str) -> int:
        [[number]] = self._connection.execute(question)
        return int(number)


def _open(path: Path) -> apsw.Connection:
    try:
        connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_NOMUTEX)
    except apsw.Error as error:
        raise StoreRefused(f"store {path}: it cannot be opened ({error})") from error
    try:
        version = require_ours(connection, str(path))
        if version < len(MIGRATIONS):
            raise StoreRefused(
                f"store {path}: its schema is older than this version's: run "
                f"'hookstead store migrate --store sqlite:{path}' first"
            )
        connection.execute("BEGIN")
    except apsw.Error as error:
        connection.close()
        raise StoreRefused(f"store {path}: it cannot be read ({error})") from error
    except BaseException:
        connection.close()
        raise
    return connection


async def copy_store(source: str, to: str, *, tell: Tell) -> Copied:
    """Copy the file that `source` names into the empty database that `to` names. `tell` is given lines of progress.

    Raises StoreRefused (in use, not empty, other schema) and StoreError; the database is as it was then.
    """
    path = sqlite_file(source)
    require_database(to)
    settings = Settings(statement_seconds=_STATEMENT_SECONDS)
    where = target(to)
    file = Source(path)
    link = Link(where, settings, purpose="copy")
    try:
        await migrate(link, where.name)
        calendar = Calendar(link, days_ahead=0, lock=LOCK)
        for day in file.days():
            await calendar.prepare(day.starts_ms)
        return await link.transaction(_Copy(file, where, tell).run)
    except apsw.Error as error:
        raise StoreError(
            f"store {path}: it cannot be read to its end ({error}). Nothing was copied; check the disk, or restore a "
            "backup of the file"
        ) from error
    except (OSError, TimeoutError, ValueError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        meaning = faults.meaning(error, name=where.name)
        text = str(meaning if isinstance(meaning, StoreError) else error).removesuffix("; try again")
        raise StoreError(f"{text}. Nothing was copied; when that is mended, copy again") from error
    finally:
        await link.close()
        file.close()


class _Copy:
    """One transaction."""

    def __init__(self, file: Source, where: Target, tell: Tell) -> None:
        self._file = file
        self._name = where.name
        self._tell = tell

    async def run(self, connection: Any) -> Copied:
        await self._take(connection)
        # A gateway without events may have left its configuration: the file's takes its place.
        await connection.execute("DELETE FROM hookstead.blobs; DELETE FROM hookstead.marks")
        rows = {part.table: await self._fill(connection, part) for part in PARTS}
        await self._number(connection, rows["attempts"])
        self._tell("checking what was copied")
        await self._require_whole(connection, rows)
        await connection.execute("SELECT hookstead.durable_1()")
        return Copied(rows=rows, counts=booting.counted(await connection.fetch(booting.COUNTS)))

    async def _take(self, connection: Any) -> None:
        """Keep gateways out until the end. Raises StoreRefused where one is there, or something is."""
        await connection.execute(f"SET LOCAL lock_timeout = {_LOCK_MS}")
        try:
            await connection.execute(f"SELECT pg_advisory_xact_lock({LOCK})")
            await connection.execute("LOCK TABLE hookstead.members IN SHARE ROW EXCLUSIVE MODE")
        except asyncpg.LockNotAvailableError as error:
            raise StoreInUse(f"store {self._name}: another process holds it; is there another copy at work?") from error
        live = await connection.fetchval("SELECT name FROM hookstead.members WHERE lease_until > clock_timestamp()")
        if live is not None:
            raise StoreInUse(f"store {self._name}: a gateway ({live}) works on this database; stop it first")
        for table in _EMPTY:
            if await connection.fetchval(f"SELECT EXISTS (SELECT FROM hookstead.{table})"):  # noqa: S608 - a name of ours
                raise StoreRefused(f"store {self._name}: it is not empty (it has {table}); copy into a new database")

    async def _fill(self, connection: Any, part: Part) -> int:
        """Copy one table; how many rows it got."""
        total = self._file.size(part)
        rows = self._file.rows(part)
        done, told = 0, time.monotonic()
        columns = part.columns.split(", ")
        while batch := _batch(rows):
            await connection.copy_records_to_table(
                part.table, schema_name="hookstead", columns=columns, records=batch, timeout=_STATEMENT_SECONDS
            )
            done += len(batch)
            if time.monotonic() - told >= _TELL_SECONDS:
                told = time.monotonic()
                self._tell(f"{part.table}: {done} of {total}")
        if done:
            self._tell(f"{part.table}: {done}")
        return done

    async def _number(self, connection: Any, attempts: int) -> None:
        """What comes next gets numbers behind what is there."""
        await connection.execute(
            "UPDATE hookstead.numbering SET last = greatest(last, $1), skew_ms = $2", *self._file.numbering()
        )
        for table in ("endpoints", "replays"):
            await connection.execute(
                f"SELECT setval(pg_get_serial_sequence('hookstead.{table}', 'id'), max(id)) FROM hookstead.{table}"  # noqa: S608 - a name of ours
                " HAVING max(id) IS NOT NULL"
            )
        await connection.execute(_CALLER_BATCHES)
        if attempts:
            await connection.execute("SELECT setval('hookstead.attempt_numbers', $1::bigint)", attempts)

    async def _require_whole(self, connection: Any, rows: Mapping[str, int]) -> None:
        """Raises StoreError where the database does not have what the file has, or that does not add up."""
        wrong = []
        for part in PARTS:
            there = await connection.fetchval(f"SELECT count(*) FROM hookstead.{part.table}")  # noqa: S608 - a name of ours
            if there != rows[part.table]:
                wrong.append(f"{rows[part.table]} rows of {part.table} were copied, {there} are there")
        for table, tables in _SAME.items():
            here, there = self._file.count(table), sum(rows[name] for name in tables)
            if here != there:
                wrong.append(f"the file has {here} rows of {table}, {there} were copied")
        for table in (*TABLES, "pending"):
            await connection.execute(f"ANALYZE hookstead.{table}")
        wrong += await audit.check(connection)
        if wrong:
            listed = "\n  ".join(wrong)
            raise StoreError(
                f"store {self._name}: what was copied does not add up, so nothing was kept. 'hookstead store check' "
                f"of the file says whether it does there:\n  {listed}"
            )


def _batch(rows: Iterator[Row]) -> Sequence[Row]:
    """The next rows: so many, or so many bytes, whichever is less; none at the end."""
    batch: list[Row] = []
    size = 0
    for row in islice(rows, BATCH_ROWS):
        batch.append(row)
        size += sum(len(value) for value in row if type(value) is bytes)
        if size >= BATCH_BYTES:
            break
    return batch
