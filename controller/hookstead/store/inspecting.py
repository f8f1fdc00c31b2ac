"""A look at a PostgreSQL store beside its gateways: this process becomes none of them, and waits for none."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import asyncpg

from hookstead.delivery.ports import EndpointCounts, EndpointKey
from hookstead.store.address import require_database
from hookstead.store.errors import StoreRefused
from hookstead.store.postgres import audit, booting, faults
from hookstead.store.postgres.link import SNAPSHOT, Link, target
from hookstead.store.postgres.migrate import MIGRATIONS, migrate
from hookstead.store.postgres.settings import Settings

Result = TypeVar("Result")

_STATEMENT_SECONDS: Final = 3600.0
_SCHEMA: Final = "hookstead.schema"


@dataclass(frozen=True, slots=True)
class Audited:
    """What `check` found: sentences that say what is wrong, and the counters of each endpoint."""

    wrong: Sequence[str]
    counts: Mapping[EndpointKey, EndpointCounts]


async def audit_database(url: str) -> Audited:
    """Recount everything, as of one moment. Raises StoreRefused where there is no store, or one of another schema."""

    async def run(connection: Any, name: str) -> Audited:
        await _require_present_schema(connection, name)
        counts = booting.counted(await connection.fetch(booting.COUNTS))
        return Audited(wrong=await audit.check(connection), counts=counts)

    return await _connected(url, lambda link, name: link.transaction(lambda c: run(c, name), begin=SNAPSHOT))


async def migrate_database(url: str) -> int:
    """Bring the schema up to date; the version that it had, 0 where there was none."""
    return await _connected(url, migrate)


async def _require_present_schema(connection: Any, name: str) -> None:
    if await connection.fetchval("SELECT to_regclass($1) IS NULL", _SCHEMA):
        raise StoreRefused(f"store {name}: there is no store of Hookstead in this database; is it the right one?")
    found = await connection.fetchval(f"SELECT version FROM {_SCHEMA}")  # noqa: S608 - a name of ours
    if found != len(MIGRATIONS):
        remedy = "migrate it first" if found < len(MIGRATIONS) else "use the Hookstead that migrated it"
        raise StoreRefused(
            f"store {name}: its schema has version {found}, this Hookstead has {len(MIGRATIONS)}: {remedy}"
        )


async def _connected(url: str, use: Callable[[Link, str], Awaitable[Result]]) -> Result:
    """Raises StoreError."""
    require_database(url)
    settings = Settings(statement_seconds=_STATEMENT_SECONDS)
    where = target(url)
    link = Link(where, settings, purpose="inspection")
    try:
        return await use(link, where.name)
    except (OSError, TimeoutError, ValueError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        if faults.may_pass(error) and not isinstance(error, ValueError):
            raise faults.meaning(error, name=where.name) from error
        raise StoreRefused(f"store {where.name}: {error}") from error
    finally:
        await link.close()
