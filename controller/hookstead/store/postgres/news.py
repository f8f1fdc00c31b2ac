"""Hints between the processes on one database: LISTEN and NOTIFY on a connection of their own that comes back.

A hint may be lost, with a connection; and behind a transaction-mode pooler with no way around it there are none at all:
whoever waits for news has a time-out. Hints that come close together are one. What happens at one process goes to those
that listen to it over the same connection (`relay`).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Iterable
from typing import Any, Final

from hookstead.store.postgres.link import Link
from hookstead.store.postgres.relay import Relay

CHANNEL: Final = "hookstead"
EVERYBODY: Final = "*"
_DEBOUNCE_SECONDS: Final = 0.01
_GAP_SECONDS: Final = 0.025
"""Between two hints: each wakes every process on the database, and those that it is for look no more often."""
_PAUSE_SECONDS: Final = 0.02
"""At least so long from one return of `wait` for a hint to the next: a look costs as much as a few events."""
_PAUSES: Final = 4
"""And so many times as long as what was done in between took: what has much to do looks seldom, and finds more."""
_PAUSE_LIMIT: Final = 0.2
_CHECK_SECONDS: Final = 15.0
"""How often a connection on which nothing happens is asked whether it is still there."""
_BACKOFF_SECONDS: Final = 0.05
_BACKOFF_LIMIT: Final = 2.0
_NAMED: Final = 100
"""Members that one hint names at most; beyond it, it is for everybody. A payload has 8,000 bytes."""
_FLUSH_SECONDS: Final = 1.0
"""How long the end waits for what was told last."""

log = logging.getLogger(__name__)


class News:
    """Made on the store's loop; nothing is connected before the first `wait`, or before somebody listens."""

    def __init__(self, link: Link, *, me: int) -> None:
        self._link = link
        self._me = str(me)
        self._loop = asyncio.get_running_loop()
        self._heard = asyncio.Event()
        self._everybody = False
        self._to_tell: set[str] = set()
        self._awake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._closed = False
        self._returned = 0.0
        self._relay = Relay(me=me, begin=self._begin, wake=self._awake.set, now=self._loop.time)

    @property
    def relay(self) -> Relay | None:
        """None where nobody can listen."""
        return None if self._link.pooled else self._relay

    async def wait(self, *, timeout_seconds: float) -> bool:
        """Until somebody told something, or the time is up. False: it was for this member by name, and nothing else."""
        began = self._loop.time()
        if self._closed or self._link.pooled:
            await asyncio.sleep(timeout_seconds)
            return True
        self._begin()
        pause = min(max(_PAUSE_SECONDS, _PAUSES * (began - self._returned)), _PAUSE_LIMIT)
        try:
            async with asyncio.timeout_at(began + timeout_seconds):
                await self._heard.wait()
                await asyncio.sleep(self._returned + pause - self._loop.time())
        except TimeoutError:
            self._everybody = True
        everybody, self._everybody = self._everybody, False
        self._heard.clear()
        self._returned = self._loop.time()
        return everybody

    def tell(self, owners: Iterable[int] | None) -> None:
        """A hint to these members, or to all, soon. Where there is no connection, none."""
        if self._task is None or self._closed:
            return
        self._to_tell.update([EVERYBODY] if owners is None else map(str, owners))
        if self._to_tell:
            self._awake.set()

    # ---------------------------------------------------------------------------------------------- the connection's

    def _begin(self) -> None:
        if self._task is None and not self._closed:
            self._task = self._loop.create_task(self._run(), name="hookstead store news")

    async def _run(self) -> None:
        wait = _BACKOFF_SECONDS
        while True:
            try:
                async with self._link.direct() as connection:
                    wait = _BACKOFF_SECONDS
                    await self._serve(connection)
            except Exception as error:  # noqa: BLE001 - whatever it is, the next connection may do better
                log.log(
                    logging.WARNING if wait < _BACKOFF_LIMIT <= 2 * wait else logging.INFO,  # once, after some tries
                    "no connection to listen to other gateways on; looking once a second until there is: %s",
                    error,
                    extra={"action": "listen"},
                )
            finally:
                self._relay.disconnected()
            self._to_tell.clear()
            await asyncio.sleep(wait)
            wait = min(2 * wait, _BACKOFF_LIMIT)

    async def _serve(self, connection: Any) -> None:
        connection.add_termination_listener(lambda _: self._awake.set())
        own = connection.get_server_pid()
        await connection.execute("SET synchronous_commit = off")  # a hint is nothing to wait for the disk with
        await connection.add_listener(CHANNEL, lambda _, pid, __, whom: self._hear(pid == own, str(whom)))
        self._everybody = True  # what was told while nobody listened
        self._heard.set()
        await self._relay.connected(connection)
        used = self._loop.time()
        told_at = float("-inf")
        while not connection.is_closed():
            await self._rest(min(used + _CHECK_SECONDS, self._relay.due()))
            if self._to_tell:
                await asyncio.sleep(max(_DEBOUNCE_SECONDS, told_at + _GAP_SECONDS - self._loop.time()))
                told, self._to_tell = self._to_tell, set()
                # Before the hint: what somebody does upon it is told behind what it is about.
                await self._relay.work(connection, at_once=True)
                whom = EVERYBODY if EVERYBODY in told or len(told) > _NAMED else ",".join(sorted(told))
                await connection.execute("SELECT pg_notify($1, $2)", CHANNEL, whom)
                used = told_at = self._loop.time()
            if self._relay.due() <= self._loop.time():
                await self._relay.work(connection)
                used = self._loop.time()
            if used + _CHECK_SECONDS <= self._loop.time():
                await connection.execute("SELECT 1")
                used = self._loop.time()

    async def _rest(self, until: float) -> None:
        """Until then, or until something is to be done."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(until):
                await self._awake.wait()
        self._awake.clear()

    def _hear(self, from_here: bool, whom: str) -> None:
        if not from_here and (whom == EVERYBODY or self._me in whom.split(",")):
            self._everybody |= whom == EVERYBODY
            self._heard.set()

    async def close(self) -> None:
        self._closed = True
        if self._task is not None:
            await self._relay.flush(seconds=_FLUSH_SECONDS)
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        await self._link.close()
