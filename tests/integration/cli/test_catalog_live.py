"""`hookstead catalog`: a running gateway's catalog is the one of the manifests that it runs."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from integration.cli.dev_process import Dev, environment, event_type

if TYPE_CHECKING:
    from pathlib import Path


def catalog(*argv: str) -> subprocess.CompletedProcess[str]:
    """The ended process."""
    return subprocess.run(
        [sys.executable, "-m", "hookstead.cli.main", "catalog", *argv],
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )


@pytest.mark.parametrize("output", ["markdown", "html", "openapi", "asyncapi", "json"])
def test_a_gateway_s_catalog_is_the_manifests(folder: Path, tmp_path: Path, output: str) -> None:
    (folder / "types.yaml").write_text(event_type("order.created", sample={"orderId": "A-1"}))
    with Dev(folder, state=tmp_path / "state") as dev:
        running = catalog("--server", dev.url, "-o", output)
    written = catalog(str(folder), "-o", output)
    assert (running.returncode, running.stderr) == (0, "")
    assert "order.created" in running.stdout
    assert running.stdout == written.stdout
