"""The stores that the contract suite runs against."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Protocol

import pytest

from hookstead.delivery.ports import Store
from hookstead.store.opening import open_store
from hookstead.store.postgres.opening import open_postgres
from hookstead.store.postgres.settings import Settings
from store.postgres_fixtures import Databases, databases, postgres_server
from store.postgres_proxy import Proxy
from store.samples import Host, StoppedClock

__all__ = ["databases", "postgres_server"]


class Place(Host, Protocol):
    async def close(self) -> None: ...


class SQLiteHost:
    def __init__(self, folder: Path) -> None:
        self.clock = StoppedClock()
        self.path = folder / "store.db"
        self._opened: list[Store] = []

    async def open(self) -> Store:
        for earlier in self._opened:
            await earlier.close()
        store = open_store(f"sqlite:{self.path}", min_free_bytes=0, clock=self.clock)
        self._opened = [store]
        return store

    async def close(self) -> None:
        for store in self._opened:
            assert await store.check() == []
            await store.close()


class PostgresHost:
    """A database of its own. Rows go exactly at their age, as they do in the embedded store."""

    def __init__(self, databases: Databases) -> None:
        self.clock = StoppedClock()
        self._databases = databases
        self._name: str | None = None
        self._opened: Store | None = None

    async def open(self) -> Store:
        if self._opened is not None:
            await self._opened.close()
        if self._name is None:
            self._name = await self._databases.create()
        settings = Settings(retention_slack_ms=0, readers=1, database_clock=False)
        self._opened = await open_postgres(self._databases.url(self._name), clock=self.clock, settings=settings)
        return self._opened

    async def close(self) -> None:
        if self._opened is not None:
            assert await self._opened.check() == []
            await self._opened.close()
        if self._name is not None:
            await self._databases.recycle(self._name)


@pytest.fixture(params=["sqlite", "postgres"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """Not `async`: what starts a server waits for it."""
    if request.param == "sqlite":
        return SQLiteHost(tmp_path)
    return PostgresHost(request.getfixturevalue("databases"))


@pytest.fixture
async def host(place: Place) -> AsyncIterator[Host]:
    """A place for a store. At the end of each test the store's own check must find nothing wrong."""
    yield place
    await place.close()


@pytest.fixture
async def store(host: Host) -> Store:
    return await host.open()


@pytest.fixture
async def name(databases: Databases) -> AsyncIterator[str]:
    """Of an empty, migrated database."""
    name = await databases.create()
    yield name
    await databases.recycle(name)


@pytest.fixture
async def proxy(databases: Databases) -> AsyncIterator[Proxy]:
    """In front of the server: what breaks connections."""
    async with Proxy(databases.server.port) as proxy:
        yield proxy


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What needs a PostgreSQL is one xdist group: one worker, one server."""
    for item in items:
        callspec = getattr(item, "callspec", None)
        asked = callspec is not None and callspec.params.get("place") == "postgres"
        if asked or "postgres" in item.path.stem:
            item.add_marker(pytest.mark.xdist_group("postgres"))
