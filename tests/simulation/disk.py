"""The disk of a simulation: forgets what was not synced, runs full, and loses its power at named points."""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import Any

import apsw

from faults.power_cut_vfs import PowerCutVFS, _File, _Memory
from simulation.world import CrashPoint, World


class Disk(PowerCutVFS):
    """`path` is where the store of the present life is; every power failure moves it to another folder."""

    def __init__(self, world: World, folder: Path) -> None:
        self.world = world
        self.full = False
        self._folder = folder
        self._power_failures = 0
        super().__init__()
        self._place()
        world.take_images = self.images

    def _place(self) -> None:
        place = self._folder / f"power-{self._power_failures}"
        place.mkdir()
        self.path = place / "store.db"

    def fill(self, image: bytes) -> None:
        """The store begins as this file, durably."""
        self._put(self.path, image)

    def images(self) -> dict[str, bytes]:
        """What the disk holds after a power failure at this moment, by file name."""
        chance = Random(self.world.power.getrandbits(64))
        return {Path(name).name: memory.after_cut(chance) for name, memory in sorted(self.files.items())}

    def restore(self, images: dict[str, bytes]) -> None:
        """After a power failure: these files, all of them durable."""
        self.files.clear()
        self._power_failures += 1
        self._place()
        for name, image in images.items():
            self._put(self.path.with_name(name), image)

    def _put(self, path: Path, image: bytes) -> None:
        path.write_bytes(image)
        memory = _Memory()
        memory.durable = bytearray(image)
        self.files[str(path)] = memory

    def xOpen(self, name: Any, flags: Any) -> apsw.VFSFile:  # noqa: N802 - SQLite's name
        return _WatchedFile(self, name, flags)

    def writing(self, *, wal: bool) -> None:
        """Before a write. What a dead process writes hurts nobody: the images were taken."""
        if self.full:
            raise apsw.FullError("the disk is full")
        if self.world.reached(CrashPoint.OPENING) or self.world.reached(
            CrashPoint.WRITING if wal else CrashPoint.CHECKPOINT
        ):
            raise apsw.IOError("the power failed")

    def syncing(self, point: CrashPoint) -> None:
        if self.world.reached(point):
            raise apsw.IOError("the power failed")


class _WatchedFile(_File):
    def __init__(self, disk: Disk, name: Any, flags: Any) -> None:
        super().__init__(disk, name, flags)
        path = name.filename() if isinstance(name, apsw.URIFilename) else name
        self._disk = disk
        self._wal = str(path).endswith("-wal")

    def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802
        self._disk.writing(wal=self._wal)
        super().xWrite(data, offset)

    def xSync(self, flags: int) -> None:  # noqa: N802
        if self._wal:
            self._disk.syncing(CrashPoint.BEFORE_SYNC)
        super().xSync(flags)
        if self._wal:
            self._disk.syncing(CrashPoint.AFTER_SYNC)
