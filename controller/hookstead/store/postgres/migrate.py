"""The schema: brought up to date by whoever opens the store first, while others may open it at the same time.

A version only adds: tables, columns with a default, functions with the version in their name. So a gateway of the
version before goes on working on what a newer one has migrated, until it is replaced; what it no longer needs is
dropped by a later version. An entry that was released is never edited.
"""

from __future__ import annotations

from importlib import resources
from typing import Any, Final

from hookstead.store.errors import SchemaTooNew, StoreRefused
from hookstead.store.postgres.link import Link

LOCK: Final = 0x484B5344
"""Key of the advisory lock ("HKSD") of migrations and of partitions."""
OLDEST_SERVER: Final = 150000
MIGRATIONS: Final[tuple[tuple[str, ...], ...]] = (
    ("1-tables.sql", "1-accept.sql", "1-claim.sql", "1-record.sql", "1-changes.sql", "1-peers.sql"),
)
COMPATIBLE: Final = 1
"""The oldest version of Hookstead's schema whose gateways can work on what the newest migration leaves."""


async def migrate(link: Link, name: str) -> int:
    """Bring the schema to the present version, all of it or nothing; returns the version it had (0: there was none).

    Raises SchemaTooNew where a newer Hookstead left a schema that this one can not work on, and StoreRefused for a
    server that is too old.
    """

    async def run(connection: Any) -> int:
        server = int(await connection.fetchval("SELECT current_setting('server_version_num')"))
        if server < OLDEST_SERVER:
            raise StoreRefused(f"store {name}: PostgreSQL {server // 10000} is too old; 15 or later is needed")
        await connection.execute(f"SELECT pg_advisory_xact_lock({LOCK})")
        found, compatible = await _version(connection)
        if compatible > len(MIGRATIONS):
            raise SchemaTooNew(
                f"store {name}: its schema has version {found}, which gateways that know versions up to "
                f"{len(MIGRATIONS)} can not work on; start the newer Hookstead, or restore a "
                "backup from before the upgrade"
            )
        for version, files in enumerate(MIGRATIONS[found:], start=found + 1):
            for file in files:
                await connection.execute(_text(file))
            await connection.execute("UPDATE hookstead.schema SET version = $1, compatible = $2", version, COMPATIBLE)
        return found

    return await link.transaction(run)


async def _version(connection: Any) -> tuple[int, int]:
    """The schema's version and the oldest that can work on it; makes the table that says so."""
    if await connection.fetchval("SELECT to_regclass('hookstead.schema') IS NULL"):
        await connection.execute(
            "CREATE SCHEMA IF NOT EXISTS hookstead;"
            "CREATE TABLE hookstead.schema (alone boolean PRIMARY KEY DEFAULT true CHECK (alone),"
            " version integer NOT NULL DEFAULT 0, compatible integer NOT NULL DEFAULT 0);"
            "INSERT INTO hookstead.schema DEFAULT VALUES"
        )
    row = await connection.fetchrow("SELECT version, compatible FROM hookstead.schema")
    return int(row[0]), int(row[1])


def _text(file: str) -> str:
    return resources.files(__package__).joinpath("sql", file).read_text(encoding="utf-8")
