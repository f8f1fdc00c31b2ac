"""The file and the disk under the store: who holds it, what kind of disk it is, how much is free."""

from __future__ import annotations

import ctypes
import fcntl
import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

import apsw

from hookstead.store.errors import StoreInUse, StoreRefused
from hookstead.store.sqlite.settings import MIB

OLDEST_SQLITE: Final = (3, 51, 3)
"""3.7.0 to 3.51.2 can lose commits when two connections write (sqlite.org/wal.html, "The WAL-reset bug")."""

NETWORK_FILE_SYSTEMS: Final = {
    0x6969: "NFS",
    0x517B: "SMB",
    0xFF534D42: "CIFS",
    0xFE534D42: "SMB2",
    0x5346414F: "AFS",
    0x6B414653: "AFS",
    0x73757245: "Coda",
    0x564C: "NCP",
    0x01021997: "9P",
    0x00C36400: "Ceph",
    0x0BD00BD0: "Lustre",
    0x47504653: "GPFS",
    0x19830326: "BeeGFS",
    0x7461636F: "OCFS2",
    0x01161970: "GFS2",
}
"""`f_type` of statfs(2). WAL needs shared memory and locks that these do not give over the network."""

MIN_FREE_BYTES: Final = 256 * MIB
FREE_SECONDS: Final = 1.0
DISK_FACTOR: Final = 4
"""Bytes of disk that a byte of an event may cost until the WAL starts anew: log, database, indexes."""


def require_sqlite() -> None:
    """Raises StoreRefused for an SQLite library that is too old to be trusted with a WAL, or lacks carray()."""
    version = apsw.sqlite_lib_version()
    if tuple(int(part) for part in version.split(".")) < OLDEST_SQLITE:
        oldest = ".".join(str(part) for part in OLDEST_SQLITE)
        raise StoreRefused(
            f"SQLite {version} can lose commits in WAL mode; {oldest} or newer is needed: upgrade the apsw package"
        )
    if not hasattr(apsw, "carray"):
        raise StoreRefused(
            f"SQLite {version} of the apsw package was built without ENABLE_CARRAY; install apsw's published wheel"
        )


def file_system_type(path: Path) -> int | None:
    """`f_type` of statfs(2), None where the call does not exist."""
    try:
        statfs = ctypes.CDLL(None, use_errno=True).statfs
    except (AttributeError, OSError):
        return None
    buffer = ctypes.create_string_buffer(512)  # struct statfs is 120 bytes on Linux; its first member is f_type
    if statfs(os.fsencode(path), buffer) != 0:
        raise OSError(ctypes.get_errno(), f"statfs {path}")
    return ctypes.c_ulong.from_buffer(buffer).value & 0xFFFFFFFF


def require_local_disk(folder: Path, *, type_of: Callable[[Path], int | None] = file_system_type) -> None:
    """Raises StoreRefused where the folder is on a network file system."""
    kind = type_of(folder)
    if kind in NETWORK_FILE_SYSTEMS:
        raise StoreRefused(
            f"store folder {folder}: it is on a network file system ({NETWORK_FILE_SYSTEMS[kind]}), where SQLite "
            "cannot keep what it promises; use a local disk or a block volume"
        )


def claim_file(path: Path) -> FileLock:
    """Make the store's folder where it is missing, and hold the store's lock. Raises StoreRefused."""
    folder = path.parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
        require_local_disk(folder)
        lock = FileLock(path.with_name(path.name + ".lock"))
        lock.acquire(path)
    except OSError as error:
        if folder.exists() and not folder.is_dir():
            raise StoreRefused(f"store {path}: {folder} is no folder; choose another path for --store") from error
        raise StoreRefused(
            f"store {path}: {(error.strerror or str(error)).lower()} ({error.filename or folder}); "
            "the folder must be writable for this user, on a disk that is not mounted read-only"
        ) from error
    return lock


class FileLock:
    """An exclusive flock(2) beside the database, for as long as the store is open.

    Not on the database itself: closing any descriptor of that file would drop SQLite's own POSIX locks. The lock
    file stays behind; removing it would let two processes lock two files of one name.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor = -1

    def acquire(self, store: Path) -> None:
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(descriptor, 32).decode(errors="replace").strip()
            os.close(descriptor)
            by = f" by process {holder}" if holder.isdigit() else ""
            raise StoreInUse(
                f"store {store}: it is in use{by}; one process at a time may open an embedded store: "
                "stop the other one, or give this one another --store (`dev`: --state-dir)"
            ) from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        self._descriptor = descriptor

    def release(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


class DiskWatermark:
    """Whether less than `min_free_bytes` is free for us on the store's disk.

    Looked up once a second, and as soon as what came since may have used up what was free above the mark.
    """

    def __init__(self, folder: Path, min_free_bytes: int | None, *, monotonic: Callable[[], float]) -> None:
        self._folder = folder
        self._monotonic = monotonic
        self._looked: float | None = None
        self._low = False
        self._room = 0
        self.min_free_bytes = min_free_bytes if min_free_bytes is not None else default_min_free(folder)

    def is_low(self, size: int) -> bool:
        """Asked before `size` bytes of events are taken."""
        now = self._monotonic()
        self._room -= DISK_FACTOR * size
        if self._looked is None or now - self._looked >= FREE_SECONDS or self._room <= 0:
            self._looked = now
            disk = os.statvfs(self._folder)
            self._room = disk.f_bavail * disk.f_frsize - self.min_free_bytes
            self._low = self._room < 0
        return self._low


def default_min_free(folder: Path) -> int:
    """The larger of 256 MiB and a tenth of the disk."""
    disk = os.statvfs(folder)
    return max(MIN_FREE_BYTES, disk.f_blocks * disk.f_frsize // 10)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable (fsync(2) of the folder)."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
