"""What an SQLite error means for those who asked, and for the store as a whole."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Final

import apsw

from hookstead.delivery.ports import StoreError, StoreFull, StoreUnavailable

_BROKEN: Final = (
    apsw.IOError,
    apsw.CorruptError,
    apsw.NotADBError,
    apsw.CantOpenError,
    apsw.ReadOnlyError,
    apsw.AuthError,
)


class Health:
    """Whether the store can still be trusted. Once it cannot, nothing is tried again in this process.

    After a failed write or fsync nobody knows what is on the disk (the page cache may say otherwise); the next
    process reads what really is there.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._failure: str | None = None

    @property
    def failure(self) -> str | None:
        """Why the store was given up; None while all is well."""
        return self._failure

    def require(self) -> None:
        """Raises StoreUnavailable."""
        if self._failure is not None:
            raise StoreUnavailable(self._failure)

    def give_up(self, why: str) -> None:
        with self._lock:
            if self._failure is None:
                self._failure = f"store {self._path}: {why}"

    def meaning(self, error: BaseException, *, grows: bool = False) -> BaseException:
        """The error for the caller. `grows`: the caller wanted to add work. Gives the store up where it must."""
        if isinstance(error, apsw.FullError):
            if grows:
                return StoreFull(f"store {self._path}: the disk is full")
            return StoreUnavailable(f"store {self._path}: the disk is full; free some space")
        if isinstance(error, _BROKEN):
            self.give_up(f"{error}; it takes no more work in this process: check the disk and restart")
            return StoreUnavailable(self._failure or "")
        if isinstance(error, (apsw.BusyError, apsw.LockedError, apsw.NoMemError)):
            return StoreUnavailable(f"store {self._path}: {error}; try again")
        if isinstance(error, apsw.Error):
            return StoreError(f"store {self._path}: {error}")
        return error
