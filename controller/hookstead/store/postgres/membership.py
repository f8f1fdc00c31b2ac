"""This process among those that work on the database: a lease by the database's clock, and what is written under it.

Every batch that is written carries a number. It is compared and set on the member's row in the transaction of what it
writes (`fence_1`), so that a batch whose connection broke can be tried again without happening twice, and a process
that was taken for dead writes nothing any more.
"""

from __future__ import annotations

import asyncio
import contextlib
from datetime import timedelta
from typing import Any, Final

from hookstead.delivery.ports import StoreUnavailable
from hookstead.store.errors import StoreInUse
from hookstead.store.postgres import faults
from hookstead.store.postgres.faults import Health
from hookstead.store.postgres.link import Link, Row
from hookstead.store.postgres.migrate import LOCK
from hookstead.store.postgres.settings import Settings

_BACKOFF_SECONDS: Final = 0.05
_BACKOFF_LIMIT: Final = 1.0
_LIVE: Final = "SELECT name FROM hookstead.members WHERE lease_until > clock_timestamp() ORDER BY owner"
_VOID: Final = "NOT EXISTS (SELECT FROM hookstead.members m WHERE m.owner = x.owner)"


class Membership:
    """One gateway alone until many are supported: whoever finds another's live lease is refused."""

    def __init__(self, owner: int, link: Link, *, health: Health, settings: Settings) -> None:
        self.owner: Final = owner
        self.lease: Final = timedelta(seconds=settings.lease_seconds)
        self._link = link
        self._health = health
        self._settings = settings
        self._task = asyncio.get_running_loop().create_task(self._renew(), name="hookstead store lease")

    async def _renew(self) -> None:
        """Until it is cancelled, or the lease is lost. A database that is away for a while loses nobody his lease:
        only another gateway that joins does."""
        while self._health.failure is None:
            await asyncio.sleep(self._settings.lease_seconds / 3)
            try:
                rows = await self._link.fetch(
                    "UPDATE hookstead.members SET lease_until = clock_timestamp() + $2 WHERE owner = $1"
                    " RETURNING owner",
                    self.owner,
                    self.lease,
                )
            except Exception as error:  # noqa: BLE001 - whatever it is, the next renewal tries again
                if not faults.may_pass(error):
                    self._health.meaning(error)
                continue
            if not rows:
                self._health.give_up(f"store {self._health.name}: another gateway has taken over; this one ends")

    async def leave(self) -> None:
        """Give everything back; where the database is away, the lease lapses by itself."""
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task

        async def run(connection: Any) -> None:
            await connection.execute("DELETE FROM hookstead.claims WHERE owner = $1", self.owner)
            await connection.execute("DELETE FROM hookstead.claimers WHERE owner = $1", self.owner)
            await connection.execute("DELETE FROM hookstead.members WHERE owner = $1", self.owner)

        with contextlib.suppress(Exception):  # it is left in any case
            await self._link.transaction(run)
        await self._link.close()


async def join(link: Link, *, name: str, health: Health, settings: Settings) -> Membership:
    """Become the database's gateway; waits for the lease of one that vanished to lapse.

    Raises StoreInUse where another one is alive: it went on renewing its lease.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + settings.lease_seconds * 1.5 + 1
    while True:
        owner, other = await _try_to_join(link, name, timedelta(seconds=settings.lease_seconds))
        if owner is not None:
            return Membership(owner, link, health=health, settings=settings)
        if loop.time() > deadline:
            raise StoreInUse(
                f"store {health.name}: another gateway ({other}) works on this database; one at a time can. "
                "Stop it first, or give this one a database of its own"
            )
        await asyncio.sleep(min(settings.lease_seconds / 10, 0.5))


async def _try_to_join(link: Link, name: str, lease: timedelta) -> tuple[int | None, str]:
    async def run(connection: Any) -> tuple[int | None, str]:
        await connection.execute(f"SELECT pg_advisory_xact_lock({LOCK})")
        live = await connection.fetchrow(_LIVE)
        if live is not None:
            return None, str(live[0])
        await connection.execute("DELETE FROM hookstead.members")
        owner = await connection.fetchval(
            "INSERT INTO hookstead.members (name, lease_until) VALUES ($1, clock_timestamp() + $2) RETURNING owner",
            name,
            lease,
        )
        await connection.execute(f"DELETE FROM hookstead.claimers x WHERE {_VOID}")  # noqa: S608 - a text of ours
        await connection.execute(f"DELETE FROM hookstead.claims x WHERE {_VOID}")  # noqa: S608 - a text of ours
        await connection.execute("INSERT INTO hookstead.claimers (owner) VALUES ($1)", owner)
        return int(owner), ""

    return await link.transaction(run)


class Commits:
    """Numbers batches, and tries one again whose connection broke until it is known to have happened once."""

    def __init__(self, membership: Membership, link: Link, *, settings: Settings) -> None:
        self._membership = membership
        self._link = link
        self._settings = settings
        self._batch = 0
        self.committed = 0
        """The last one that is known to have happened."""
        self.doubtful: list[int] = []
        """Batches of which nobody knows whether they happened; a later one that did decides it."""

    async def fetch(self, sql: str, *arguments: object) -> list[Row]:
        """The statement with owner, batch and lease before its arguments. Raises as PostgreSQL and asyncpg do."""
        self._batch += 1
        batch = self._batch
        try:
            rows = await self.read(sql, self._membership.owner, batch, self._membership.lease, *arguments)
        except Exception as error:
            if faults.may_pass(error):
                self.doubtful.append(batch)
            raise
        self.committed = batch
        return rows

    async def read(self, sql: str, *arguments: object) -> list[Row]:
        """A statement that may be tried again as often as its connection breaks."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._settings.retry_seconds
        wait = _BACKOFF_SECONDS
        while True:
            try:
                return await self._link.fetch(sql, *arguments)
            except Exception as error:
                if not faults.may_pass(error) or loop.time() + wait > deadline:
                    raise
            await asyncio.sleep(wait)
            wait = min(2 * wait, _BACKOFF_LIMIT)

    def number(self) -> tuple[int, int, timedelta]:
        """Owner, a new batch's number and lease, for a transaction that sets its fence itself."""
        self._batch += 1
        return self._membership.owner, self._batch, self._membership.lease


async def require_fence(connection: Any, number: tuple[int, int, timedelta]) -> None:
    if not await connection.fetchval("SELECT hookstead.fence_1($1, $2, $3)", *number):
        raise StoreUnavailable("a batch's number was used before")
