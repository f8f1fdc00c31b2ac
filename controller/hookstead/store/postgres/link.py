"""One connection that comes back after it broke. Whoever uses it does one thing at a time.

Each statement is a transaction of its own unless `transaction` is asked for. Behind a transaction-mode pooler a
prepared statement lives as long as its transaction, so that there every statement gets one.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import Any, Final, TypeVar
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import asyncpg

from hookstead.delivery.ports import StoreUnavailable
from hookstead.store.address import are_hosts
from hookstead.store.errors import StoreRefused
from hookstead.store.postgres import faults
from hookstead.store.postgres.settings import Settings

Result = TypeVar("Result")
Row = Any
"""A record of asyncpg: values by position and by name. Their types are the query's business."""

_POOLER: Final = "pooler"
_DIRECT: Final = "direct"
SNAPSHOT: Final = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"


@dataclass(frozen=True, slots=True)
class Target:
    """Where the database is. `name` is for messages: host and database, no user, no password.

    `around` is the same database on the way around a transaction-mode pooler, where there is one.
    """

    url: str = field(repr=False)
    name: str
    pooler: bool
    around: Target | None = None


def target(url: str) -> Target:
    """Read the value of `--store`. `?pooler=transaction` says what stands in between, `direct=HOST:PORT[/DATABASE]`
    what is behind it; the rest is libpq's. Raises StoreRefused.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("postgresql", "postgres"):
        raise StoreRefused(f"--store {parts.scheme}:…: expected postgresql://USER@HOST:PORT/DATABASE")
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    pooler, direct = options.pop(_POOLER, None), options.pop(_DIRECT, None)
    if pooler not in (None, "transaction", "none"):
        raise StoreRefused("--store postgresql://…?pooler=…: expected transaction, or none")
    user, at, host = parts.netloc.rpartition("@")

    def on(hosts: str, path: str) -> Target:
        return Target(
            url=urlunsplit((parts.scheme, user + at + hosts, path, urlencode(options), "")),
            name=f"postgresql://{hosts}{path}",
            pooler=False,
        )

    here = on(host, parts.path)
    if pooler != "transaction":
        if direct is not None:
            raise StoreRefused("--store postgresql://…?direct=…: only with pooler=transaction")
        return here
    if direct is None:
        return replace(here, pooler=True)
    hosts, slash, database = direct.partition("/")
    if not hosts or "@" in hosts or not are_hosts(hosts) or "/" in database:
        raise StoreRefused("--store postgresql://…?direct=…: expected HOST:PORT of the database behind the pooler")
    return replace(here, pooler=True, around=on(hosts, slash + database if database else parts.path))


class Link:
    def __init__(self, where: Target, settings: Settings, *, purpose: str) -> None:
        self._target = where
        self._settings = settings
        self._purpose = purpose
        self._connection: Any = None
        self._closed = False

    @property
    def pid(self) -> int | None:
        """The server's process behind it, while it is connected."""
        return None if self._connection is None else int(self._connection.get_server_pid())

    @property
    def pooled(self) -> bool:
        """Whether a transaction-mode pooler stands in between: a connection is nobody's for long."""
        return self._target.pooler

    @contextlib.asynccontextmanager
    async def direct(self) -> AsyncIterator[Any]:
        """The connection itself, for what lives as long as it; it is closed behind that."""
        try:
            async with self._using() as connection:
                yield connection
        finally:
            self._drop()

    async def fetch(self, sql: str, *arguments: object) -> list[Row]:
        """One statement in a transaction of its own."""
        if self._target.pooler:
            return await self.transaction(lambda connection: connection.fetch(sql, *arguments))
        async with self._using() as connection:
            rows: list[Row] = await connection.fetch(sql, *arguments)
            return rows

    async def transaction(self, run: Callable[[Any], Awaitable[Result]], *, begin: str = "BEGIN") -> Result:
        """`run` on the connection, between `begin` and the commit; whatever it raises rolls back."""
        async with self._using() as connection:
            idle_ms = int(self._settings.idle_seconds * 1000)
            await connection.execute(f"{begin}; SET LOCAL idle_in_transaction_session_timeout = {idle_ms}")
            try:
                result = await run(connection)
            except BaseException:
                if not connection.is_closed():
                    with contextlib.suppress(OSError, asyncpg.InterfaceError, asyncpg.PostgresError, TimeoutError):
                        await connection.execute("ROLLBACK")
                raise
            await connection.execute("COMMIT")
            return result

    @contextlib.asynccontextmanager
    async def _using(self) -> AsyncIterator[Any]:
        connection = await self._connected()
        try:
            yield connection
        except asyncio.CancelledError:
            self._drop()  # nobody knows what is on its way on it
            raise
        except Exception as error:
            if faults.is_away(error) or connection.is_closed():
                self._drop()
            raise

    async def _connected(self) -> Any:
        if self._closed:
            raise StoreUnavailable("the store is closed")
        if self._connection is None or self._connection.is_closed():
            self._connection = await self._connect()
        return self._connection

    async def _connect(self) -> Any:
        settings = self._settings
        if self._target.pooler:
            return await asyncpg.connect(
                self._target.url,
                timeout=settings.connect_seconds,
                command_timeout=settings.statement_seconds,
                statement_cache_size=0,
            )
        return await asyncpg.connect(
            self._target.url,
            timeout=settings.connect_seconds,
            command_timeout=settings.statement_seconds,
            server_settings={
                "application_name": f"hookstead {self._purpose}",
                "statement_timeout": str(int(settings.statement_seconds * 1200)),
                "idle_in_transaction_session_timeout": str(int(settings.idle_seconds * 1000)),
                "jit": "off",
            },
        )

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection.terminate()
            self._connection = None

    async def close(self) -> None:
        self._closed = True
        connection, self._connection = self._connection, None
        if connection is not None and not connection.is_closed():
            try:
                await connection.close(timeout=self._settings.connect_seconds)
            except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
                connection.terminate()
