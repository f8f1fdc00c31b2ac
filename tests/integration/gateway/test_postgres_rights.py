"""What the role of a gateway needs in its database, as docs/operations.md says it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from hookstead.config.model import RetentionPolicy
from hookstead.delivery.ports import Accepted, EventQuery
from hookstead.store.errors import StoreRefused
from hookstead.store.inspecting import audit_database, migrate_database
from hookstead.store.opening import open_database
from store.postgres_fixtures import Databases
from store.samples import DAY, NOW, A, StoppedClock, event

GATEWAY, READER = "rights_gateway", "rights_reader"
POLICY = RetentionPolicy(payload_days=1, attempt_days=1, dead_letter_days=1)


class Ground:
    """A database of nobody's, and two roles without rights."""

    def __init__(self, databases: Databases, name: str) -> None:
        self._server = databases.server
        self.name = name

    async def say(self, *statements: str) -> None:
        for statement in statements:
            await self._server.execute(statement, database=self.name)

    def url(self, role: str) -> str:
        return self._server.url(self.name).replace("//hookstead@", f"//{role}@")


@pytest.fixture
async def ground(databases: Databases) -> AsyncIterator[Ground]:
    made = Ground(databases, await databases.create(migrated=False))
    await made.say(*(f"CREATE ROLE {role} LOGIN" for role in (GATEWAY, READER)))
    yield made
    await databases.drop(made.name)
    for role in (GATEWAY, READER):
        await databases.server.execute(f"DROP ROLE {role}")


async def live(url: str) -> list[Any]:
    """A short life with everything that takes a right: partitions made, rows of all ages, days dropped."""
    store = await open_database(url, clock=StoppedClock(), patience_seconds=0)
    try:
        given = event(A)
        assert await store.accept([given]) == [Accepted(given.id, 1)]
        for days in (2, 5, 8):
            while await store.expire(POLICY, now_ms=NOW + days * DAY, limit=100):
                pass
        assert (await store.events(EventQuery(), cursor=None, limit=1)).items == ()
        return list(await store.check())
    finally:
        await store.close()


async def test_the_owner_of_the_database_needs_nothing_else(ground: Ground) -> None:
    await ground.say(f"ALTER DATABASE {ground.name} OWNER TO {GATEWAY}")
    assert await live(ground.url(GATEWAY)) == []


async def test_another_role_needs_to_create_the_schema_once(ground: Ground) -> None:
    with pytest.raises(StoreRefused, match="permission denied for database"):
        await live(ground.url(GATEWAY))
    await ground.say(f"GRANT CREATE ON DATABASE {ground.name} TO {GATEWAY}")
    assert await migrate_database(ground.url(GATEWAY)) == 0
    await ground.say(f"REVOKE CREATE ON DATABASE {ground.name} FROM {GATEWAY}")
    assert await live(ground.url(GATEWAY)) == []


async def test_who_may_read_may_check_and_nothing_else(ground: Ground) -> None:
    await ground.say(f"ALTER DATABASE {ground.name} OWNER TO {GATEWAY}")
    await migrate_database(ground.url(GATEWAY))
    with pytest.raises(StoreRefused, match="permission denied for schema"):
        await audit_database(ground.url(READER))
    await ground.say(
        f"GRANT USAGE ON SCHEMA hookstead TO {READER}", f"GRANT SELECT ON ALL TABLES IN SCHEMA hookstead TO {READER}"
    )
    assert (await audit_database(ground.url(READER))).wrong == []
    with pytest.raises(StoreRefused, match="permission denied"):
        await live(ground.url(READER))
