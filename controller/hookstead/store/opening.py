"""From the value of `--store` to a store that is open."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final

from hookstead.delivery.ports import Clock, Store, StoreUnavailable
from hookstead.store.address import require_database, shown, sqlite_file
from hookstead.store.errors import StoreRefused
from hookstead.store.sqlite.store import SQLiteStore

if TYPE_CHECKING:
    from hookstead.store.postgres.settings import Settings

log = logging.getLogger(__name__)

PATIENCE_SECONDS: Final = 60.0
"""For how long a starting process tries a database that does not answer."""
_PAUSE_SECONDS: Final = 0.25
_LONGEST_PAUSE_SECONDS: Final = 2.0
_TOLD_SECONDS: Final = 10.0
_POOLER_SAYS: Final = "unsupported startup parameter"
"""Pgbouncer, where a connection's settings are given at its start; a server takes them."""


def open_store(url: str, *, min_free_bytes: int | None, clock: Clock) -> Store:
    """Open the file that `url` names, bringing its schema up to date.

    `min_free_bytes` None: the larger of 256 MiB and a tenth of the disk. Raises StoreRefused, whose message is for
    people, where it cannot be opened (in use, newer schema, network disk, another program's file).
    """
    return SQLiteStore(sqlite_file(url), clock=clock, min_free_bytes=min_free_bytes)


async def open_database(
    url: str, *, clock: Clock, patience_seconds: float = PATIENCE_SECONDS, settings: Settings | None = None
) -> Store:
    """Open the PostgreSQL database that `url` names, bringing its schema up to date.

    One that does not answer is tried again for `patience_seconds`, and that is logged. Raises StoreUnavailable where
    it still does not, and StoreRefused, whose message is for people, where it does and can not be used (wrong
    password, no such database, no right to it, newer schema).
    """
    from hookstead.store.postgres.opening import open_postgres  # loads asyncpg: only where it is needed

    require_database(url)
    loop = asyncio.get_running_loop()
    began = loop.time()
    told, pause = began - _TOLD_SECONDS, _PAUSE_SECONDS
    while True:
        try:
            return await open_postgres(url, clock=clock, settings=settings)
        except StoreUnavailable as error:
            why = _reason(error)
            if isinstance(error.__cause__, ValueError):
                raise StoreRefused(f"store {shown(url)}: {why}") from error
            if _POOLER_SAYS in why:
                raise StoreRefused(
                    f"store {shown(url)}: {why}: a pooler stands in between; add ?pooler=transaction to the address"
                ) from error
            waited = loop.time() - began
            if waited >= patience_seconds:
                raise StoreUnavailable(
                    f"store {shown(url)}: the database has not answered for {patience_seconds:g} s ({why}); see that "
                    "it is up and that this address leads to it"
                ) from error
        if loop.time() - told >= _TOLD_SECONDS:
            told = loop.time()
            log.warning(
                "the database %s does not answer (%s): trying for another %.0f s",
                shown(url),
                why,
                patience_seconds - waited,
                extra={"action": "waiting_for_database"},
            )
        await asyncio.sleep(min(pause, max(patience_seconds - waited, 0.0)))
        pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)


def _reason(error: BaseException) -> str:
    """One line. A time-out has no text of its own, and a file that is not there no name."""
    cause = error.__cause__ or error
    if isinstance(cause, FileNotFoundError) and cause.filename is None:
        return "no such file: the server's socket, or one of sslrootcert, sslcert and sslkey"
    lines = str(cause).splitlines()
    return lines[0] if lines else "it took too long; is a copy or a migration at work?"
