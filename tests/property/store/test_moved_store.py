"""The machine against a store that moves from SQLite to PostgreSQL when it is opened for the second time."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from hookstead.delivery.ports import Store
from hookstead.store.copying import copy_store
from hookstead.store.opening import open_store
from hookstead.store.postgres.opening import open_postgres
from hookstead.store.postgres.settings import Settings
from property.store.store_machine import StoreMachine
from store.postgres_fixtures import Databases, databases, postgres_server
from store.samples import StoppedClock

__all__ = ["databases", "postgres_server"]


class MovingPlace:
    def __init__(self, databases: Databases) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="hookstead-moving-"))
        self._databases = databases
        self._opened = 0
        self._name: str | None = None

    async def open(self, clock: StoppedClock) -> Store:
        self._opened += 1
        file = f"sqlite:{self._folder / 'store.db'}"
        if self._opened == 1:
            return open_store(file, min_free_bytes=0, clock=clock)
        if self._name is None:
            self._name = await self._databases.create()
            await copy_store(file, self._databases.url(self._name), tell=lambda _: None)
        settings = Settings(retention_slack_ms=0, readers=1, cancel_rows=3)
        return await open_postgres(self._databases.url(self._name), clock=clock, settings=settings)

    async def leave(self) -> None:
        shutil.rmtree(self._folder)
        if self._name is not None:
            await self._databases.recycle(self._name)


@pytest.mark.timeout(300)
@pytest.mark.xdist_group("postgres")
def test_any_sequence_of_work_goes_on_as_the_model_says_over_a_move_to_postgresql(databases: Databases) -> None:
    run_state_machine_as_test(
        lambda: StoreMachine(MovingPlace(databases)),  # type: ignore[arg-type]  # it is only ever called
        settings=settings(
            max_examples=8, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )
