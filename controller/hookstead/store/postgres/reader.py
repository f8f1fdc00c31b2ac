"""Reads with connections of their own, so that no list waits for a commit and no commit for a list."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from hookstead.delivery.ports import StoreUnavailable
from hookstead.store.postgres import faults
from hookstead.store.postgres.faults import Health
from hookstead.store.postgres.link import SNAPSHOT, Link, Row

Result = TypeVar("Result")


class Reader:
    def __init__(self, links: list[Link], *, health: Health, queue_limit: int = 100_000) -> None:
        self._links = links
        self._idle: asyncio.LifoQueue[Link] = asyncio.LifoQueue()
        for link in links:
            self._idle.put_nowait(link)
        self._health = health
        self._limit = queue_limit
        self._waiting = 0
        self._closed = False

    async def fetch(self, sql: str, *arguments: object) -> list[Row]:
        """One statement."""
        return await self._use(lambda link: link.fetch(sql, *arguments))

    async def in_one_snapshot(self, run: Callable[[Any], Awaitable[Result]]) -> Result:
        """All statements of `run`, which is given the connection, see the same state."""
        return await self._use(lambda link: link.transaction(run, begin=SNAPSHOT))

    async def _use(self, read: Callable[[Link], Awaitable[Result]]) -> Result:
        """A read changes nothing, so that one whose connection broke is simply tried once more."""
        if self._closed:
            raise StoreUnavailable("the store is closed")
        self._health.require()
        if self._waiting >= self._limit:
            raise StoreUnavailable("the store is saturated: too many reads wait; try again")
        self._waiting += 1
        try:
            link = await self._idle.get()
        finally:
            self._waiting -= 1
        try:
            try:
                return await read(link)
            except Exception as error:
                if not faults.is_away(error):
                    raise
                return await read(link)
        except Exception as error:
            meaning = self._health.meaning(error)
            if meaning is error:
                raise
            raise meaning from error
        finally:
            self._idle.put_nowait(link)

    async def close(self) -> None:
        self._closed = True
        for _ in self._links:
            await self._idle.get()
        for link in self._links:
            await link.close()
