"""Python that runs in a gateway's process before its command line: what a test changes about the world."""

from __future__ import annotations

from typing import Final

UNSYNCED: Final = """
from pathlib import Path
from hookstead.gateway import process
from hookstead.store.sqlite.settings import Settings
from hookstead.store.sqlite.store import SQLiteStore

def open_store(url, *, min_free_bytes, clock):
    settings = Settings(synchronous="NORMAL")
    path = Path(url.removeprefix("sqlite:"))
    return SQLiteStore(path, clock=clock, min_free_bytes=min_free_bytes, settings=settings)

process.open_store = open_store
"""
"""A store that answers before the disk has it: the control that must be caught."""

TMPFS_IS_NFS: Final = """
from hookstead.store.sqlite import files
files.NETWORK_FILE_SYSTEMS[0x01021994] = "NFS"
"""
"""statfs(2) of a real tmpfs, taken for that of a network file system."""

FAILING_SYNC: Final = """
import apsw, os
from pathlib import Path
from hookstead.gateway import process
from hookstead.store.sqlite.settings import Settings
from hookstead.store.sqlite.store import SQLiteStore

class Disk(apsw.VFS):
    def __init__(self):
        super().__init__("failing", "unix")
    def xOpen(self, name, flags):
        return File("unix", name, flags)

class File(apsw.VFSFile):
    def xSync(self, flags):
        if os.path.exists(os.environ["HOME"] + "/broken"):
            raise apsw.IOError("the disk does not sync")
        super().xSync(flags)

disk = Disk()

def open_store(url, *, min_free_bytes, clock):
    path = Path(url.removeprefix("sqlite:"))
    return SQLiteStore(path, clock=clock, min_free_bytes=min_free_bytes, settings=Settings(vfs="failing"))

process.open_store = open_store
"""
"""A disk whose fsync fails for as long as there is a file `broken` in the home folder."""

STEPPED_CLOCK: Final = """
import mmap, os, struct, time

with open(os.environ["HOME"] + "/clock", "r+b") as file:
    offset = mmap.mmap(file.fileno(), 8)
real = time.time_ns
time.time_ns = lambda: real() + struct.unpack("q", offset)[0]
time.time = lambda: time.time_ns() / 1e9

from hookstead.delivery.engine import EngineSettings
EngineSettings.__init__.__kwdefaults__["housekeeping_seconds"] = 1.0
"""
"""A wall clock that is off by what the file `clock` in the home folder says: nanoseconds, 8 bytes, read each time.

Housekeeping, which notices steps, runs every second instead of every ten.
"""


def wrong_clock(*, seconds: int) -> str:
    """A wall clock that is off by so much for as long as the process lives."""
    return f"""
import time
_real = time.time_ns
time.time_ns = lambda: _real() + {seconds} * 1_000_000_000
time.time = lambda: time.time_ns() / 1e9
"""
