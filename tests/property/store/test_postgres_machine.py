"""The machine against PostgreSQL; few examples, since each step asks about every row."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from hookstead.delivery.ports import Store
from hookstead.store.postgres.opening import open_postgres
from hookstead.store.postgres.settings import Settings
from property.store.store_machine import StoreMachine
from store.postgres_fixtures import Databases, databases, postgres_server
from store.samples import StoppedClock

__all__ = ["databases", "postgres_server"]


class Database:
    def __init__(self, databases: Databases) -> None:
        self._databases = databases
        self._name: str | None = None

    async def open(self, clock: StoppedClock) -> Store:
        if self._name is None:
            self._name = await self._databases.create()
        settings = Settings(retention_slack_ms=0, readers=1, cancel_rows=3)
        return await open_postgres(self._databases.url(self._name), clock=clock, settings=settings)

    async def leave(self) -> None:
        if self._name is not None:
            await self._databases.recycle(self._name)


@pytest.mark.timeout(300)
@pytest.mark.xdist_group("postgres")
def test_any_sequence_of_work_leaves_the_postgresql_store_as_the_model_says(databases: Databases) -> None:
    run_state_machine_as_test(
        lambda: StoreMachine(Database(databases)),  # type: ignore[arg-type]  # it is only ever called
        settings=settings(
            max_examples=8, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )
