"""A PostgreSQL of a test's own, with fsync, which the test may stop, break and fill."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from typing import TYPE_CHECKING

import pytest

from faults.gateway_process import until
from store.postgres_server import PostgresServer
from toolchain.binaries import ProgramMissingError, locate

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextlib.contextmanager
def own_server(*, log: Path | None = None, **settings: str) -> Iterator[PostgresServer]:
    """For fixtures, which run in the main thread. Skips (fails under HOOKSTEAD_REQUIRE_ALL=1) without the program.

    `log`: the folder of its write-ahead log.
    """
    try:
        locate("postgres")
    except ProgramMissingError as error:
        pytest.skip(str(error))
    with PostgresServer(durable=True, settings=settings, log=log) as server:
        yield server


async def stop(server: PostgresServer, how: signal.Signals) -> None:
    """SIGQUIT is `pg_ctl stop -m immediate`."""
    await asyncio.to_thread(server.stop, how)


async def start(server: PostgresServer) -> None:
    """Again, once it has recovered."""
    server.launch()
    await until(server.answers, what="PostgreSQL back", seconds=60)
