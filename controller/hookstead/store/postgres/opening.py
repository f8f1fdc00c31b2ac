"""From a URL to a PostgreSQL store that is open."""

from __future__ import annotations

import os
import socket

import asyncpg

from hookstead.delivery.ports import Clock, StoreError
from hookstead.store.errors import StoreRefused
from hookstead.store.postgres import faults
from hookstead.store.postgres.faults import Health
from hookstead.store.postgres.link import Link, target
from hookstead.store.postgres.membership import join
from hookstead.store.postgres.migrate import migrate
from hookstead.store.postgres.settings import Settings
from hookstead.store.postgres.store import PostgresStore


async def open_postgres(url: str, *, clock: Clock, settings: Settings | None = None) -> PostgresStore:
    """Open the database that `url` names, bringing its schema up to date.

    Raises StoreRefused, whose message is for people, where it cannot be opened (no such database, no right to it, newer
    schema), and StoreUnavailable where it does not answer now.
    """
    chosen = settings or Settings()
    where = target(url)
    health = Health(where.name)
    link = Link(where, chosen, purpose="lease")
    try:
        await migrate(link, where.name)
        membership = await join(link, name=_process(), clock=clock, health=health, settings=chosen)
    except StoreError:
        await link.close()
        raise
    except (OSError, TimeoutError, ValueError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        await link.close()
        if faults.may_pass(error):
            raise faults.meaning(error, name=where.name) from error
        raise StoreRefused(f"store {where.name}: {error}") from error
    shared = membership.clock if chosen.database_clock else clock
    store = PostgresStore(where, membership, clock=shared, health=health, settings=chosen)
    await store.prepare()
    return store


def _process() -> str:
    """What a person finds this process by."""
    return f"{socket.gethostname()}, process {os.getpid()}"
