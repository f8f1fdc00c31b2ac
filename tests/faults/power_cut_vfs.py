"""A disk that forgets: an SQLite VFS that remembers which writes were synced.

The store works on a real file. Beside it, for every file, the VFS keeps the bytes as of its last sync and the writes
since. `cut` builds what a disk may hold after the power failed at that moment: what was synced, and of the rest any
sectors in any combination, which is what a disk cache owes nobody.
"""

from __future__ import annotations

import itertools
import threading
from pathlib import Path
from random import Random
from typing import Any

import apsw

SECTOR = 512
_names = itertools.count()


class _Memory:
    """One file: its durable bytes, and the writes and truncations since."""

    def __init__(self) -> None:
        self.durable = bytearray()
        self.since: list[tuple[int, bytes | None]] = []

    def sync(self) -> None:
        for offset, data in self.since:
            _apply(self.durable, offset, data)
        self.since.clear()

    def after_cut(self, chance: Random) -> bytes:
        image = bytearray(self.durable)
        for offset, data in self.since:
            if data is None:
                if chance.random() < 0.5:
                    _apply(image, offset, None)
                continue
            for start in range(0, len(data), SECTOR):
                if chance.random() < 0.5:
                    _apply(image, offset + start, data[start : start + SECTOR])
        return bytes(image)


def _apply(image: bytearray, offset: int, data: bytes | None) -> None:
    """Write at an offset, or cut off there (None)."""
    if data is None:
        del image[offset:]
        return
    if len(image) < offset:
        image.extend(bytes(offset - len(image)))
    image[offset : offset + len(data)] = data


class PowerCutVFS(apsw.VFS):
    """`vfs.name` goes into Settings(vfs=…). Call `close` behind the last connection."""

    def __init__(self) -> None:
        self.name = f"power-cut-{next(_names)}"
        self.lock = threading.Lock()
        self.files: dict[str, _Memory] = {}
        self.syncs = 0
        self.fail_sync = False
        self.full = False
        super().__init__(self.name, "unix")

    def xOpen(self, name: Any, flags: Any) -> apsw.VFSFile:  # noqa: N802 - SQLite's name
        return _File(self, name, flags)

    def xDelete(self, filename: str, syncdir: bool) -> None:  # noqa: N802
        with self.lock:
            self.files.pop(filename, None)
        super().xDelete(filename, syncdir)

    def cut(self, folder: Path, seed: int) -> None:
        """Fill an empty folder with what the disk may hold if the power fails now."""
        chance = Random(seed)
        with self.lock:
            images = {name: memory.after_cut(chance) for name, memory in self.files.items()}
        folder.mkdir()
        for name, image in images.items():
            (folder / Path(name).name).write_bytes(image)

    def close(self) -> None:
        self.unregister()


class _File(apsw.VFSFile):
    def __init__(self, vfs: PowerCutVFS, name: Any, flags: Any) -> None:
        super().__init__("unix", name, flags)
        self._vfs = vfs
        path = name.filename() if isinstance(name, apsw.URIFilename) else name
        with vfs.lock:
            self._memory = vfs.files.setdefault(path, _Memory())

    def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802
        if self._vfs.full:
            raise apsw.FullError("the disk is full")
        with self._vfs.lock:
            self._memory.since.append((offset, bytes(data)))
        super().xWrite(data, offset)

    def xTruncate(self, size: int) -> None:  # noqa: N802
        with self._vfs.lock:
            self._memory.since.append((size, None))
        super().xTruncate(size)

    def xSync(self, flags: int) -> None:  # noqa: N802
        if self._vfs.fail_sync:
            raise apsw.IOError("the disk is gone")
        # What is written while the real sync runs is not covered by it.
        with self._vfs.lock:
            self._vfs.syncs += 1
            self._memory.sync()
