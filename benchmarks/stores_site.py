"""What the benchmarks of both stores share: a private PostgreSQL with fsync, gateways on either store, and CPU time.

Everything listens on loopback. Started from the main thread, stopped when the block ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from builders import channel, config, endpoint, environment, event_type  # noqa: E402  (the tests' modules)
from faults.gateway_process import Home, Life, home  # noqa: E402  (as above)
from hookstead.resources.kinds import EventValidation  # noqa: E402  (behind the path)
from store.postgres_server import PostgresServer  # noqa: E402  (as above)

TICKS: Final = os.sysconf("SC_CLK_TCK")
SCHEMA: Final = {"type": "object", "required": ["text"], "properties": {"text": {"type": "string"}}}
SETTINGS: Final = {
    "shared_buffers": "512MB",
    "max_wal_size": "4GB",
    "max_connections": "100",
    "autovacuum_naptime": "1min",
    "track_functions": "pl",
    "track_wal_io_timing": "on",
}
"""What a server for this would have at the least, and what tells about it; the rest are PostgreSQL's defaults."""


def objects(endpoints: int, urls: Mapping[int, str], default: str) -> list[object]:
    """So many channels, each with one endpoint. `urls` by number, where not the default."""
    made: list[object] = [
        environment(validation=EventValidation.ENFORCE),
        event_type("order-created", "order.created", schema=SCHEMA),
    ]
    for number in range(endpoints):
        name = f"client-{number}"
        made += [
            channel(name, f"client_{number}"),
            endpoint(name, url=f"{urls.get(number, default)}/{number}", channels=[name], types=["order.*"]),
        ]
    return made


def event_body(number: int, endpoints: int, size: int, *, prefix: str = "order") -> bytes:
    """An event of about `size` bytes for one of the channels in turn, with a caller's id."""
    text = "x" * max(1, size - 14)
    return (
        f'{{"type":"order.created","channels":["client_{number % endpoints}"],"id":"{prefix}-{number}",'
        f'"data":{{"text":"{text}"}}}}'
    ).encode()


@dataclass(slots=True)
class Place:
    """`server` and `database` are None and empty for the embedded store."""

    home: Home
    server: PostgresServer | None
    database: str
    gateways: list[Life]

    async def start(self, count: int) -> None:
        lives = [self.home.launch() for _ in range(count)]
        await asyncio.gather(*(life.ready() for life in lives))
        self.gateways += lives

    async def stop(self) -> None:
        for life in self.gateways:
            await life.stop()
        self.gateways.clear()

    async def ask(self, sql: str) -> list[Any]:
        assert self.server is not None
        return await self.server.execute(sql, database=self.database)

    def gateway_cpu(self) -> float:
        """Seconds of all gateways so far."""
        return sum(cpu_seconds(life.pid) for life in self.gateways)

    def server_cpu(self) -> float:
        """Seconds of the whole PostgreSQL so far, its background processes and those that ended included."""
        return 0.0 if self.server is None else postgres_cpu(self.server)

    async def server_parts(self) -> dict[str, float]:
        """Seconds of each kind of PostgreSQL's processes that live, so far; a gateway's by what it is for."""
        parts: dict[str, float] = {}
        if self.server is not None:
            rows = await self.ask(
                "SELECT pid, coalesce(nullif(application_name, ''), backend_type) FROM pg_stat_activity"
            )
            names = {pid: name.removeprefix("hookstead ") for pid, name in rows}
            for pid in _children(self.server.pid):
                with contextlib.suppress(OSError):  # it ended just now
                    name = names.get(pid, "other")
                    parts[name] = parts.get(name, 0.0) + cpu_seconds(pid)
        return parts


@asynccontextmanager
async def place(server: PostgresServer | None, configured: Sequence[object]) -> AsyncIterator[Place]:
    """A store of either kind, empty, and a configuration for gateways on it."""
    database = "" if server is None else await server.create()
    with tempfile.TemporaryDirectory(prefix="hookstead-bench-") as folder:
        url = "" if server is None else server.url(database)
        async with home(Path(folder), url=url) as at:
            at.configure(config(*configured))
            here = Place(at, server, database, [])
            yield here
            await here.stop()
        if server is not None:
            await server.drop(database)


def cpu_seconds(pid: int) -> float:
    """User and system time of a process, its ended children not included."""
    fields = _stat(pid)
    return (int(fields[11]) + int(fields[12])) / TICKS


def postgres_cpu(server: PostgresServer) -> float:
    """Seconds of the postmaster, of its children that live, and of those that it has buried."""
    children = 0.0
    for pid in _children(server.pid):
        with contextlib.suppress(OSError):  # it ended just now, and is among the buried below
            children += cpu_seconds(pid)
    return children + sum(int(value) for value in _stat(server.pid)[11:15]) / TICKS


def _children(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _stat(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


async def describe_postgres(server: PostgresServer) -> str:
    """Version and the settings that matter here, as the server has them."""
    names = ("server_version", "fsync", "synchronous_commit", "full_page_writes", *SETTINGS)
    found = [(name, (await server.execute(f"SHOW {name}"))[0][0]) for name in names]
    return "postgres  " + ", ".join(f"{name.removeprefix('server_')} {value}" for name, value in found)


__all__ = [
    "SETTINGS",
    "Life",
    "Place",
    "PostgresServer",
    "cpu_seconds",
    "describe_postgres",
    "event_body",
    "objects",
    "place",
    "postgres_cpu",
]
