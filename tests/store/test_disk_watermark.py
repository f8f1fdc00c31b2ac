from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from hookstead.store.sqlite.files import DISK_FACTOR, DiskWatermark
from store.samples import StoppedClock


def test_the_disk_is_looked_at_again_as_soon_as_what_came_may_have_used_it_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Within the second between two looks a fast producer could fill what is above the mark, and all below it."""
    free, looks = 3000, 0

    def statvfs(_: Path) -> SimpleNamespace:
        nonlocal looks
        looks += 1
        return SimpleNamespace(f_bavail=free, f_frsize=1)

    monkeypatch.setattr(os, "statvfs", statvfs)
    mark = DiskWatermark(tmp_path, 1000, monotonic=StoppedClock().monotonic)
    assert not mark.is_low(10)
    assert looks == 1
    for _ in range(3):
        assert not mark.is_low(2000 // DISK_FACTOR // 4)
    assert looks == 1
    free = 999
    assert mark.is_low(2000 // DISK_FACTOR // 4)
    assert looks == 2
    assert mark.is_low(1)
    free = 5000
    assert not mark.is_low(1), "a disk that was low is looked at each time"
