"""`hookstead store check|migrate` on the files that a real `hookstead dev` left."""

from __future__ import annotations

import subprocess
import sys
import time
from typing import TYPE_CHECKING

import apsw
import pytest

from integration.cli.dev_process import WAIT_SECONDS, Dev, endpoint, environment
from integration.cli.test_kubectl_hooks_live import Hooks

if TYPE_CHECKING:
    from pathlib import Path

    from integration.cli.dev_process import Receiver


def store(*argv: str) -> subprocess.CompletedProcess[str]:
    """The ended process."""
    return subprocess.run(
        [sys.executable, "-m", "hookstead.cli.main", "store", *argv],
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.fixture
def used(folder: Path, tmp_path: Path, receiver: Receiver) -> str:
    """The store of an environment that delivered one event and stopped."""
    (folder / "acme.yaml").write_text(endpoint("acme", receiver.url + "/acme"))
    with Dev(folder, state=tmp_path / "state") as dev:
        hooks = Hooks(dev)
        hooks.lines("send", "order.created", "--data", "{}")
        deadline = time.monotonic() + WAIT_SECONDS
        while not any("Delivered" in line for line in hooks.run("deliveries").stdout.splitlines()):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        busy = store("check", "--store", f"sqlite:{tmp_path}/state/store.sqlite3")
        assert busy.returncode == 1
        assert "it is in use by process" in busy.stderr
    return f"sqlite:{tmp_path}/state/store.sqlite3"


def test_a_sound_store_is_found_to_be_so(used: str) -> None:
    checked = store("check", "--store", used)
    assert (checked.returncode, checked.stderr) == (0, "")
    assert checked.stdout.splitlines() == [
        "ENDPOINT   ACCEPTED   PENDING   DELIVERED   DEAD-LETTERED   CANCELLED",
        "acme       1          0         1           0               0",
        "",
        f"{used}: the database is whole, and every delivery is accounted for",
    ]
    migrated = store("migrate", "--store", used)
    assert (migrated.returncode, migrated.stdout) == (0, f"{used}: its schema is this version's\n")


def test_a_delivery_that_is_not_accounted_for_is_told(used: str) -> None:
    connection = apsw.Connection(used.removeprefix("sqlite:"))
    connection.execute("DELETE FROM deliveries")
    connection.close()
    checked = store("check", "--store", used)
    assert checked.returncode == 1
    assert "endpoint acme: the counter of Delivered says 1, there are 0" in checked.stderr


@pytest.mark.parametrize(
    ("argv", "code", "words"),
    [
        (("check",), 2, "--store is required (or HOOKSTEAD_STORE)"),
        (("mend", "--store", "sqlite:x"), 2, "unknown action 'mend': one of check, migrate, copy"),
        (("check", "--store", "sqlite:no/such.db"), 1, "--store sqlite:no/such.db: no such file"),
        (("check", "--store", "mysql:x"), 1, "expected sqlite:PATH"),
    ],
)
def test_a_wrong_command_line_is_told(argv: tuple[str, ...], code: int, words: str) -> None:
    ended = store(*argv)
    assert ended.returncode == code
    assert words in ended.stderr
