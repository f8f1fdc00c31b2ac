"""This process among those that work on the database: a lease by the database's clock, and what is written under it.

Every batch that is written carries a number. It is compared and set on the member's row in the transaction of what it
writes (`fence_1`), so that a batch whose connection broke can be tried again without happening twice, and a process
that was taken for dead writes nothing any more.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from datetime import timedelta
from typing import Any, Final

from hookstead.delivery.ports import Clock, StoreUnavailable
from hookstead.store.postgres import faults
from hookstead.store.postgres.clock import DatabaseClock
from hookstead.store.postgres.faults import Health
from hookstead.store.postgres.link import Link, Row
from hookstead.store.postgres.settings import Settings

_BACKOFF_SECONDS: Final = 0.05
_BACKOFF_LIMIT: Final = 1.0
_SAMPLES: Final = 3
"""Looks at the database's clock before it is gone by."""
_STEADY: Final = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
_JOIN: Final = """
WITH joined AS (
  INSERT INTO hookstead.members (name, lease_until) VALUES ($1, clock_timestamp() + $2) RETURNING owner
)
INSERT INTO hookstead.claimers (owner) SELECT owner FROM joined RETURNING owner
"""
_RENEW: Final = "UPDATE hookstead.members SET lease_until = clock_timestamp() + $2 WHERE owner = $1 RETURNING owner"
_TIME: Final = "SELECT extract(epoch FROM clock_timestamp())::float8 * 1000"


def steady() -> float:
    """Seconds on a clock that never steps, and goes on while the machine sleeps: others' leases do."""
    return time.clock_gettime(_STEADY)


class Membership:
    """One of the processes on the database. Its lease is renewed until `leave`, or until it is lost."""

    def __init__(
        self, owner: int, link: Link, *, sent: float, clock: DatabaseClock, health: Health, settings: Settings
    ) -> None:
        self.owner: Final = owner
        self.lease: Final = timedelta(seconds=settings.lease_seconds)
        self.clock: Final = clock
        self.unbroken_since = steady()
        """Since when it has renewed its lease without letting it lapse. What it saw before of others is worth little:
        where the database was away, they could not renew theirs either."""
        self._sent = sent
        self._link = link
        self._health = health
        self._settings = settings
        self._task = asyncio.get_running_loop().create_task(self._renew(), name="hookstead store lease")

    @property
    def holds(self) -> bool:
        """Whether nobody can have taken this process for dead yet: its lease began after the renewal was sent."""
        return self._health.failure is None and steady() - self._sent < self._settings.lease_seconds

    def renewed(self, sent: float) -> None:
        """A statement that prolonged the lease was answered; it was sent at `sent`."""
        if sent - self._sent >= self._settings.lease_seconds:
            self.unbroken_since = steady()
        self._sent = max(self._sent, sent)

    async def _renew(self) -> None:
        """Until it is cancelled, or the lease is lost. A database that is away for a while loses nobody his lease."""
        pause = self._settings.lease_seconds / 3
        while self._health.failure is None:
            await asyncio.sleep(pause)
            sent = steady()
            try:
                async with asyncio.timeout(self._settings.lease_seconds / 2):
                    rows = await self._link.fetch(_RENEW, self.owner, self.lease)
                    if rows:
                        self.renewed(sent)
                        await _look_at(self.clock, self._link)
            except Exception as error:  # noqa: BLE001 - whatever it is, the next renewal tries again
                if not faults.may_pass(error):
                    self._health.meaning(error)
                pause = self._settings.lease_seconds / 12
                continue
            if not rows:
                self._health.give_up(f"store {self._health.name}: another gateway has taken over; this one ends")
            pause = self._settings.lease_seconds / 3

    async def leave(self) -> None:
        """Give everything back; where the database is away, the lease lapses by itself."""
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task
        with contextlib.suppress(Exception):  # it is left in any case
            await self._link.fetch("SELECT hookstead.leave_1($1)", self.owner)
        await self._link.close()


async def join(link: Link, *, name: str, clock: Clock, health: Health, settings: Settings) -> Membership:
    """Become one of those who work on the database. Takes no slots before the first look, and refuses nobody."""
    sent = steady()
    rows = await link.fetch(_JOIN, name, timedelta(seconds=settings.lease_seconds))
    shared = DatabaseClock(clock)
    for _ in range(_SAMPLES):
        await _look_at(shared, link)
    return Membership(int(rows[0][0]), link, sent=sent, clock=shared, health=health, settings=settings)


async def _look_at(clock: DatabaseClock, link: Link) -> None:
    sent = clock.monotonic()
    rows = await link.fetch(_TIME)
    clock.sample(sent=sent, received=clock.monotonic(), database_ms=rows[0][0])


class Commits:
    """Numbers batches, and tries one again whose connection broke until it is known to have happened once."""

    def __init__(self, membership: Membership, link: Link, *, settings: Settings) -> None:
        self._membership = membership
        self._link = link
        self._settings = settings
        self._batch = 0
        self._away = False
        """Whether the last statement was given up: while nobody answers, one try is enough to refuse the next."""
        self.committed = 0
        """The last one that is known to have happened."""
        self.doubtful: list[int] = []
        """Batches of which nobody knows whether they happened; a later one that did decides it."""

    async def fetch(self, sql: str, *arguments: object) -> list[Row]:
        """The statement with owner, batch and lease before its arguments. Raises as PostgreSQL and asyncpg do."""
        self._batch += 1
        batch = self._batch
        sent = steady()
        try:
            rows = await self.read(sql, self._membership.owner, batch, self._membership.lease, *arguments)
        except Exception as error:
            if faults.may_pass(error):
                self.doubtful.append(batch)
            raise
        self.committed = batch
        self._membership.renewed(sent)
        return rows

    async def read(self, sql: str, *arguments: object) -> list[Row]:
        """A statement that may be tried again as often as its connection breaks."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + (0.0 if self._away else self._settings.retry_seconds)
        wait = _BACKOFF_SECONDS
        while True:
            try:
                rows = await self._link.fetch(sql, *arguments)
            except Exception as error:
                if not faults.may_pass(error):
                    raise
                if loop.time() + wait > deadline:
                    self._away = faults.is_away(error)
                    raise
            else:
                self._away = False
                return rows
            await asyncio.sleep(wait)
            wait = min(2 * wait, _BACKOFF_LIMIT)

    def number(self) -> tuple[int, int, timedelta]:
        """Owner, a new batch's number and lease, for a transaction that sets its fence itself."""
        self._batch += 1
        return self._membership.owner, self._batch, self._membership.lease


async def require_fence(connection: Any, number: tuple[int, int, timedelta]) -> None:
    if not await connection.fetchval("SELECT hookstead.fence_1($1, $2, $3)", *number):
        raise StoreUnavailable("a batch's number was used before")
