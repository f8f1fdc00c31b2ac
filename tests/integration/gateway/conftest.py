"""The stores that what a gateway is for is tried on."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from integration.gateway.gateway_bench import Place
from store.postgres_fixtures import Databases, databases, postgres_server

__all__ = ["databases", "postgres_server"]


@pytest.fixture
def database(databases: Databases) -> Iterator[str]:
    """An empty database's URL."""
    name = asyncio.run(databases.create())
    yield databases.url(name)
    asyncio.run(databases.recycle(name))


@pytest.fixture(params=["sqlite", "postgres"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """An empty store of each kind."""
    if request.param == "sqlite":
        return Place(f"sqlite:{tmp_path / 'store.db'}")
    return Place(request.getfixturevalue("database"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What needs a PostgreSQL is one xdist group: one worker, one server."""
    for item in items:
        callspec = getattr(item, "callspec", None)
        asked = callspec is not None and callspec.params.get("place") == "postgres"
        if asked or "databases" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.xdist_group("postgres"))
