"""The machine against the embedded store."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from hookstead.delivery.ports import Store
from hookstead.store.opening import open_store
from property.store.store_machine import StoreMachine
from store.samples import StoppedClock


class Folder:
    def __init__(self) -> None:
        self.path = Path(tempfile.mkdtemp(prefix="hookstead-machine-"))

    async def open(self, clock: StoppedClock) -> Store:
        return open_store(f"sqlite:{self.path / 'store.db'}", min_free_bytes=0, clock=clock)

    async def leave(self) -> None:
        shutil.rmtree(self.path)


@pytest.mark.timeout(300)
def test_any_sequence_of_work_leaves_the_embedded_store_as_the_model_says() -> None:
    run_state_machine_as_test(
        lambda: StoreMachine(Folder()),  # type: ignore[arg-type]  # it is only ever called
        settings=settings(
            max_examples=30, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )
