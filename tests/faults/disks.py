"""Small disks that a test may fill: tmpfs, mounted by root and gone when the block ends."""

from __future__ import annotations

import contextlib
import os
import subprocess
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MIB = 1024 * 1024


class Disk:
    """A mounted file system. `filler` is a file that takes space and gives it back."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._filler = path / "filler"

    @property
    def free(self) -> int:
        """Bytes."""
        state = os.statvfs(self.path)
        return state.f_bavail * state.f_frsize

    def fill(self, *, leaving: int = 0) -> None:
        """Take all free space but `leaving` bytes."""
        with self._filler.open("ab") as file, contextlib.suppress(OSError):
            while (excess := self.free - leaving) > 0:
                file.write(bytes(min(excess, MIB)))
                file.flush()

    def empty(self) -> None:
        """Give the filler's space back."""
        self._filler.unlink()

    def make_read_only(self) -> None:
        _run("mount", "-o", "remount,ro", self.path)


@contextlib.contextmanager
def disk(path: Path, *, mebibytes: int) -> Iterator[Disk]:
    """Skips the test where nothing may be mounted. Leave the block only when nobody uses the disk any more."""
    path.mkdir()
    try:
        _run("mount", "-t", "tmpfs", "-o", f"size={mebibytes}m", "hookstead-test", path)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"a small disk needs the right to mount one (root): {error}")
    try:
        yield Disk(path)
    finally:
        # Lazily, so that the mount goes whatever a failed test left open on it.
        _run("umount", "--lazy", path)


def _run(*command: str | Path) -> None:
    subprocess.run(command, check=True, capture_output=True, timeout=30)
