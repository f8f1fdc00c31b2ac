"""A folder with an environment in it, and a receiver."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from integration.cli.dev_process import ENVIRONMENT, Receiver, event_type

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as running:
        yield running


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Manifests of an enabled environment with one event type; `tmp_path / "state"` is for the state."""
    manifests = tmp_path / "manifests"
    manifests.mkdir()
    (manifests / "environment.yaml").write_text(ENVIRONMENT)
    (manifests / "types.yaml").write_text(event_type("order.created"))
    return manifests
