"""The stores that the contract suite runs against."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from hookstead.delivery.ports import Store
from hookstead.store.opening import open_store
from store.samples import Host, StoppedClock


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


@pytest.fixture(params=["sqlite"])
async def host(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Host]:
    """A place for a store. At the end of each test the store's own check must find nothing wrong."""
    assert request.param == "sqlite"
    place = SQLiteHost(tmp_path)
    yield place
    await place.close()


@pytest.fixture
async def store(host: Host) -> Store:
    return await host.open()
