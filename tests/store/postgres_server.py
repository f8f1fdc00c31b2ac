"""A private PostgreSQL: its own cluster in a folder of its own, on a free loopback port, gone with the test run.

PostgreSQL refuses to run as root; there it runs as the user of Debian's package. Knows nothing of pytest.
"""

from __future__ import annotations

import asyncio
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import asyncpg

from cluster.child import Child, free_port
from toolchain.binaries import locate

_USER: Final = "postgres"
_READY_SECONDS: Final = 60
_END_SECONDS: Final = 30
_TRIES: Final = 5


def as_user(command: Sequence[object]) -> list[str]:
    """The command as an unprivileged user where we are root; it dies with the thread that starts it."""
    parts = [str(part) for part in command]
    if os.geteuid() != 0:
        return parts
    return ["setpriv", f"--reuid={_USER}", f"--regid={_USER}", "--clear-groups", "--pdeathsig", "KILL", *parts]


def folder_for_user(prefix: str) -> Path:
    """A temporary folder that the unprivileged user owns; pytest's own is closed to others."""
    folder = Path(tempfile.mkdtemp(prefix=prefix))
    if os.geteuid() == 0:
        entry = pwd.getpwnam(_USER)
        os.chown(folder, entry.pw_uid, entry.pw_gid)
    return folder


class PostgresServer:
    """`durable`: with fsync, for what is about the disk; without it commits cost microseconds, as tests like it.

    `log`: an empty folder for its write-ahead log, where that is to be elsewhere, in the hands of `as_user`'s user;
    it comes in files of 1 MiB then, so that a small disk is enough.
    """

    def __init__(
        self, *, durable: bool = False, settings: Mapping[str, str] | None = None, log: Path | None = None
    ) -> None:
        self._programs = locate("postgres").parent
        self._log = log
        self.folder: Final = folder_for_user("hookstead-postgres-")
        self.data: Final = self.folder / "data"
        self.port = 0
        self._settings: Final = {
            "fsync": "on" if durable else "off",
            "full_page_writes": "on" if durable else "off",
            "shared_buffers": "32MB",
            "max_connections": "60",
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": str(self.folder),
            "autovacuum_naptime": "5s",
            "log_statement": "none",
            **(settings or {}),
        }
        self._child: Child | None = None
        self._databases = 0

    def __enter__(self) -> Self:
        try:
            self._initialise()
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _initialise(self) -> None:
        command = [
            self._programs / "initdb",
            f"--pgdata={self.data}",
            "--username=hookstead",
            "--auth=trust",
            "--encoding=UTF8",
            "--no-locale",
            "--no-sync",
            *([] if self._log is None else [f"--waldir={self._log}", "--wal-segsize=1"]),
        ]
        subprocess.run(as_user(command), check=True, capture_output=True, stdin=subprocess.DEVNULL, cwd="/")

    def start(self) -> None:
        """Start, and wait until it answers."""
        for _ in range(_TRIES):
            child = self.launch()
            if self._wait(child):
                return
            self.port = 0
        raise AssertionError(f"PostgreSQL did not start:\n{child.last_words()}")

    def launch(self) -> Child:
        """Start, or start again after `stop`, on the same port; from a thread that lives as long as the server."""
        self.port = self.port or free_port()
        options = [f"-c{name}={value}" for name, value in {**self._settings, "port": str(self.port)}.items()]
        log = self.folder / "server.log"
        self._child = Child(as_user([self._programs / "postgres", "-D", self.data, *options]), log=log)
        return self._child

    def _wait(self, child: Child) -> bool:
        """Whether it answers; False where somebody took the port first."""
        deadline = time.monotonic() + _READY_SECONDS
        while time.monotonic() < deadline:
            if not child.running:
                return False
            if asyncio.run(self.answers()):
                return True
            time.sleep(0.05)
        raise AssertionError(f"PostgreSQL does not answer:\n{child.last_words()}")

    async def answers(self) -> bool:
        try:
            await self._ask("SELECT 1")
        except (OSError, asyncpg.PostgresError):
            return False
        return True

    async def _ask(self, sql: str, *, database: str = "postgres") -> list[Any]:
        connection = await asyncpg.connect(self.url(database), timeout=10)
        try:
            rows: list[Any] = await connection.fetch(sql)
            return rows
        finally:
            await connection.close()

    @property
    def running(self) -> bool:
        """Whether it has not ended, by itself or otherwise."""
        return self._child is not None and self._child.running

    @property
    def said(self) -> str:
        """All of its own log so far."""
        return "" if self._child is None else self._child.last_words(lines=100_000)

    @property
    def pid(self) -> int:
        """The postmaster's."""
        assert self._child is not None
        return self._child.pid

    def url(self, database: str) -> str:
        return f"postgresql://hookstead@127.0.0.1:{self.port}/{database}"

    # ---------------------------------------------------------------------------------------------------- databases

    async def execute(self, sql: str, *, database: str = "postgres") -> list[Any]:
        """Run one statement as the superuser."""
        return await self._ask(sql, database=database)

    async def create(self, *, template: str | None = None) -> str:
        """A new database's name; a copy of `template` costs some hundredths of a second."""
        self._databases += 1
        name = f"test_{self._databases}"
        await self._ask(f"CREATE DATABASE {name} TEMPLATE {template or 'template0'}")
        return name

    async def drop(self, name: str) -> None:
        await self._ask(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")

    # ------------------------------------------------------------------------------------------------------- its end

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """SIGINT: fast; SIGQUIT: immediate, as after a crash: it recovers from its log when it starts again."""
        child = self._child
        if child is None or not child.running:
            return
        os.kill(child.pid, how)
        _await_end(child)
        child.kill()

    def close(self) -> None:
        self.stop(signal.SIGQUIT)
        shutil.rmtree(self.folder, ignore_errors=True)


def _await_end(child: Child) -> None:
    deadline = time.monotonic() + _END_SECONDS
    while child.running and time.monotonic() < deadline:
        time.sleep(0.02)
