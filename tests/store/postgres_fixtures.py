"""One PostgreSQL for a worker, and databases in it that are there at once: one that a test is done with is emptied."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from hookstead.store.postgres.opening import open_postgres
from store.postgres_server import PostgresServer
from store.samples import StoppedClock
from toolchain.binaries import ProgramMissingError, locate

TEMPLATE = "migrated"
_EMPTY = """
DO $$
DECLARE
  name_ text;
BEGIN
  FOR name_ IN SELECT relname FROM pg_class WHERE relnamespace = 'hookstead'::regnamespace AND relkind IN ('r', 'p')
    AND NOT relispartition AND relname NOT IN ('schema', 'numbering', 'slots')
  LOOP
    EXECUTE format('DELETE FROM hookstead.%I', name_);
  END LOOP;
  UPDATE hookstead.numbering SET last = 0, skew_ms = 0;
  UPDATE hookstead.slots SET owner = NULL, term = 0;
END $$
"""
_OTHERS = """
SELECT count(*) FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'
"""
_LEAVE_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Databases:
    server: PostgresServer
    _free: list[str] = field(default_factory=list)

    async def create(self, *, migrated: bool = True) -> str:
        """An empty database's name."""
        if migrated and self._free:
            return self._free.pop()
        return await self.server.create(template=TEMPLATE if migrated else None)

    async def recycle(self, name: str) -> None:
        """The test is over and well; whoever needs a database next gets this one, unless somebody is still in it."""
        if await self._was_left(name):
            await self.server.execute(_EMPTY, database=name)
            self._free.append(name)

    async def _was_left(self, name: str) -> bool:
        """Whether all sessions end in a moment; one of a pooler, or of a gateway that still drains, does not."""
        for _ in range(20):
            [(others,)] = await self.server.execute(_OTHERS, database=name)
            if not others:
                return True
            await asyncio.sleep(_LEAVE_SECONDS / 20)
        return False

    async def drop(self, name: str) -> None:
        await self.server.drop(name)

    def url(self, name: str) -> str:
        return self.server.url(name)


def private_server(**settings: str) -> Iterator[PostgresServer]:
    """For fixtures. Skips (fails under HOOKSTEAD_REQUIRE_ALL=1) without the program."""
    try:
        locate("postgres")
    except ProgramMissingError as error:
        pytest.skip(str(error))
    with PostgresServer(settings=settings) as server:
        yield server


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """Shared, so a test keeps to databases of its own."""
    yield from private_server()


@pytest.fixture(scope="session")
def databases(postgres_server: PostgresServer) -> Databases:
    async def prepare() -> None:
        await postgres_server.execute(f"CREATE DATABASE {TEMPLATE} TEMPLATE template0")
        store = await open_postgres(postgres_server.url(TEMPLATE), clock=StoppedClock())
        await store.close()

    asyncio.run(prepare())
    return Databases(postgres_server)
