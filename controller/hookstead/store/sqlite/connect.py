"""Connections: the pragmas that the promises rest on, set and read back."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import apsw

from hookstead.store.errors import StoreRefused
from hookstead.store.sqlite.schema import migrate, require_ours
from hookstead.store.sqlite.settings import Settings

_SYNCHRONOUS: Final = {"NORMAL": 1, "FULL": 2}
_BUSY_MS: Final = 5_000
_READER_MS: Final = 10
"""How long the checkpointer waits for a reader: the writer waits with it."""
_STATEMENTS: Final = 200


def open_writer(path: Path, settings: Settings) -> apsw.Connection:
    """The one connection that writes, its schema up to date. Raises StoreRefused; a foreign file stays as it is."""
    try:
        connection = apsw.Connection(
            str(path),
            flags=apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE | apsw.SQLITE_OPEN_NOMUTEX,
            vfs=settings.vfs,
            statementcachesize=_STATEMENTS,
        )
    except apsw.Error as error:
        raise StoreRefused(
            f"store {path}: it cannot be opened ({error}); the folder and the file must be writable for this user"
        ) from error
    try:
        connection.set_busy_timeout(_BUSY_MS)
        _require_writable(connection, path)
        require_ours(connection, str(path))
        _make_durable(connection, path, settings)
        migrate(connection, str(path))
    except apsw.NotADBError as error:
        connection.close()
        raise StoreRefused(
            f"store {path}: the file is not an SQLite database; choose another path for --store"
        ) from error
    except apsw.Error as error:
        connection.close()
        raise StoreRefused(f"store {path}: it cannot be used ({error}); check the disk, or restore a backup") from error
    except BaseException:
        connection.close()
        raise
    return connection


def _require_writable(connection: apsw.Connection, path: Path) -> None:
    """SQLite opens a file that it may not write for reading, and tells at the first write only."""
    if connection.readonly("main"):
        raise StoreRefused(
            f"store {path}: the file may only be read; it must be writable for this user, on a disk that is not "
            "mounted read-only"
        )


def _make_durable(connection: apsw.Connection, path: Path, settings: Settings) -> None:
    """WAL and `synchronous`, asked for and read back."""
    connection.pragma("page_size", settings.page_bytes)
    mode = connection.pragma("journal_mode", "wal")
    if mode != "wal":
        raise StoreRefused(
            f"store {path}: the file system does not allow SQLite's write-ahead log (journal_mode is {mode!r}); "
            "use a local disk or a block volume"
        )
    connection.execute(f"PRAGMA synchronous = {settings.synchronous}")
    connection.execute(f"PRAGMA cache_size = {-(settings.writer_cache // 1024)}")
    connection.execute(f"PRAGMA journal_size_limit = {2 * settings.restart_at}")
    _bound(connection)
    effective = connection.pragma("synchronous")
    if effective != _SYNCHRONOUS[settings.synchronous]:
        raise StoreRefused(
            f"store {path}: synchronous={settings.synchronous} was asked for, but {effective} is in force"
        )


def open_reader(path: Path, settings: Settings, *, cache: int | None = None) -> apsw.Connection:
    """A connection that cannot write."""
    connection = _open_existing(path, settings)
    connection.execute("PRAGMA query_only = ON")
    connection.execute(f"PRAGMA cache_size = {-((cache or settings.reader_cache) // 1024)}")
    return connection


def open_checkpointer(path: Path, settings: Settings) -> apsw.Connection:
    """A connection that copies the WAL into the database and nothing else."""
    connection = _open_existing(path, settings)
    connection.execute(f"PRAGMA synchronous = {settings.synchronous}")
    connection.execute("PRAGMA cache_size = -256")
    connection.set_busy_timeout(_READER_MS)
    return connection


def _open_existing(path: Path, settings: Settings) -> apsw.Connection:
    connection = apsw.Connection(
        str(path),
        flags=apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_NOMUTEX,
        vfs=settings.vfs,
        statementcachesize=_STATEMENTS,
    )
    connection.set_busy_timeout(_BUSY_MS)
    _bound(connection)
    return connection


def _bound(connection: apsw.Connection) -> None:
    connection.wal_autocheckpoint(0)
    connection.pragma("mmap_size", 0)
    connection.execute("PRAGMA temp_store = MEMORY")  # sorts are small, and a container may have no /tmp
    connection.execute("PRAGMA foreign_keys = OFF")
