"""Gateways as real processes on one PostgreSQL database, and clients that know all of them, as a Service's do."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import aiohttp
import asyncpg

from builders import config
from faults.books import Books, Key
from faults.four_endpoints import ENDING, FINE, FLAKY, HELD, HOPELESS
from faults.gateway_process import WAIT_SECONDS, Home, home, until
from faults.load import NOT_SENT, Ledger, publish
from hookstead.gateway.system import SystemClock
from hookstead.store.codec import EVENT
from hookstead.store.postgres import ids
from hookstead.store.postgres.opening import open_postgres
from hookstead.store.postgres.settings import Settings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Collection, Iterable

    from faults.gateway_process import Life
    from faults.sink import Sink
    from store.postgres_server import PostgresServer

START_SECONDS: Final = 90.0
"""Several start at once, on a machine that tests keep busy."""
PENDING, DELIVERED, DEAD = range(3)
_BOOKS: Final = """
SELECT p.name, e.id, d.attempt_count, d.status FROM (
  SELECT event_seq, endpoint_id, attempt_count, 0 AS status FROM hookstead.pending
  UNION ALL SELECT event_seq, endpoint_id, attempt_count, status FROM hookstead.ended) d
JOIN hookstead.events e ON e.seq = d.event_seq JOIN hookstead.endpoints p ON p.id = d.endpoint_id
"""
_AT_WORK: Final = """
SELECT count(*) FROM pg_stat_activity
WHERE datname = current_database() AND application_name LIKE 'hookstead %' AND (state <> 'idle' OR {})
"""
_WAITING: Final = """
SELECT count(*) FROM pg_stat_activity
WHERE datname = current_database() AND application_name = 'hookstead {}' AND wait_event_type = 'Lock'
"""


@dataclass
class Fleet:
    """`gateways`: those that are meant to live, by place."""

    place: Home
    server: PostgresServer
    database: str
    gateways: list[Life] = field(default_factory=list)

    async def start(self, count: int = 1, **more: Any) -> None:
        """So many more, all at once."""
        lives = [self.place.launch(**more) for _ in range(count)]
        await asyncio.gather(*(life.ready(seconds=START_SECONDS) for life in lives))
        self.gateways += lives

    async def ask(self, sql: str) -> list[Any]:
        """As the superuser."""
        return await self.server.execute(sql, database=self.database)

    async def books(self) -> Books:
        """Of one moment."""
        connection = await asyncpg.connect(self.server.url(self.database))
        try:
            async with connection.transaction(isolation="repeatable_read", readonly=True):
                events = await connection.fetch("SELECT id FROM hookstead.events")
                rows = await connection.fetch(_BOOKS)
        finally:
            await connection.close()
        return Books(
            {ids.unpack(EVENT, row[0]) for row in events},
            {(f"/{name}", ids.unpack(EVENT, event)): count for name, event, count, _ in rows},
            Counter((f"/{name}", status) for name, _, _, status in rows),
        )

    async def delivered(self) -> set[Key]:
        """What is recorded as such, and so must never be sent again."""
        rows = await self.ask(
            "SELECT p.name, e.id FROM hookstead.ended d JOIN hookstead.events e ON e.seq = d.event_seq"
            " JOIN hookstead.endpoints p ON p.id = d.endpoint_id WHERE d.status = 1"
        )
        return {(f"/{name}", ids.unpack(EVENT, event)) for name, event in rows}

    async def waits(self, purpose: str) -> None:
        """Until a connection of this purpose waits for a lock."""

        async def waiting() -> bool:
            return bool((await self.ask(_WAITING.format(purpose)))[0][0])

        await until(waiting, what=f"a statement of the {purpose} that waits")

    async def at_rest(self, *, connected: bool) -> None:
        """Until no statement of a gateway runs any more; without `connected`, until none is connected either."""
        sql = _AT_WORK.format("false" if connected else "true")

        async def nobody() -> bool:
            return not (await self.ask(sql))[0][0]

        await until(nobody, what="an end of the statements of gateways that are gone")

    async def check(self) -> list[str]:
        """What is wrong in the store, the conservation law included."""
        store = await open_postgres(self.server.url(self.database), clock=SystemClock(), settings=Settings(readers=1))
        try:
            return list(await store.check())
        finally:
            await store.close()

    async def settles(self, ledger: Ledger, paths: Iterable[str] = ENDING) -> None:
        """Until nothing is pending at these paths, all producers being silent; fails when nothing moves any more."""
        names = ", ".join(f"'{path[1:]}'" for path in paths)
        sql = (
            "SELECT p.name, c.accepted, c.pending, (SELECT count(*) FROM hookstead.attempts)"
            f" FROM hookstead.counts c JOIN hookstead.endpoints p ON p.id = c.endpoint_id WHERE p.name IN ({names})"
        )
        wanted = len(set(ledger.promised.values()))
        before: list[Any] = []

        async def done_or_moved() -> bool:
            rows = await self.ask(sql)
            return rows != before or done(rows)

        def done(rows: list[Any]) -> bool:
            return bool(rows) and all(row[1] >= wanted and row[2] == 0 for row in rows)

        while not done(before):
            await until(done_or_moved, what=f"{wanted} events delivered or dead, or a step: {before}", seconds=60)
            before = await self.ask(sql)
            await asyncio.sleep(0.1)

    async def again(self, ledger: Ledger, callers: Collection[str] = ()) -> None:
        """Publish callers' ids again, all that were not answered among them; each is answered as the first time."""
        clients = Clients(self, ledger)
        async with aiohttp.ClientSession() as session:
            for caller in sorted({*callers, *ledger.unanswered}):
                assert await clients.send(session, caller) == 202

    async def stop(self) -> None:
        """All of them, cleanly."""
        for life in self.gateways:
            assert await life.stop(seconds=60) == 0, life.log
        self.gateways.clear()


@dataclass
class Clients:
    """What is refused, or answered 503, is tried at another gateway, as a Service or a balancer would; nothing else is.

    Each client begins at a gateway of its own, and goes on to the next one when that does not take its event.
    `tried_again`: by what led to it.
    """

    fleet: Fleet
    ledger: Ledger
    leaving: asyncio.Event = field(default_factory=asyncio.Event)
    tried_again: Counter[int] = field(default_factory=Counter)

    async def send(self, session: aiohttp.ClientSession, caller: str, *, first: int = 0) -> int:
        """The last status; 0 when the connection broke after the request was sent."""
        place = first
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                while True:
                    life = self.fleet.gateways[place % len(self.fleet.gateways)]
                    status = await publish(session, life, self.ledger, caller)
                    if status not in (NOT_SENT, 503) or self.leaving.is_set():
                        return status
                    self.tried_again[status] += 1
                    place += 1
                    await asyncio.sleep(0.01)
        except TimeoutError:
            self.ledger.unanswered.add(caller)  # it may have been on its way
            return 0

    async def produce(self, number: int, *, pause: float) -> None:
        """A connection that broke is the caller's news; it goes on with another event."""
        async with aiohttp.ClientSession() as session:
            while not self.leaving.is_set():
                await self.send(session, self.ledger.take(), first=number)
                await asyncio.sleep(pause)


@contextlib.asynccontextmanager
async def clients(fleet: Fleet, ledger: Ledger, *, producers: int = 6, pause: float = 0.004) -> AsyncIterator[Clients]:
    """Load from all sides until the block ends; the last answers are waited for."""
    all_of_them = Clients(fleet, ledger)
    tasks = [asyncio.create_task(all_of_them.produce(number, pause=pause)) for number in range(producers)]
    try:
        yield all_of_them
        all_of_them.leaving.set()
        async with asyncio.timeout(2 * WAIT_SECONDS):
            await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@contextlib.asynccontextmanager
async def held(fleet: Fleet, sql: str) -> AsyncIterator[None]:
    """A lock in the hands of somebody else until the block ends."""
    connection = await asyncpg.connect(fleet.server.url(fleet.database))
    try:
        await connection.execute(f"BEGIN; {sql}")
        yield
    finally:
        await connection.close()


@contextlib.asynccontextmanager
async def fleet_on(
    folder: Path, server: PostgresServer, *objects: Any, port: int | None = None, database: str = ""
) -> AsyncIterator[Fleet]:
    """A fresh database of this server, and a place for gateways on it. `port`: of a proxy before the server."""
    name = database or await server.create()
    url = server.url(name) if port is None else server.url(name).replace(f":{server.port}/", f":{port}/")
    async with home(folder, url=url) as place:
        place.configure(config(*objects))
        yield Fleet(place, server, name)


@dataclass
class Recorded:
    """Looks at what is recorded as delivered, each with how many requests had arrived by then."""

    looks: list[tuple[set[Key], int]] = field(default_factory=list)

    async def look(self, fleet: Fleet, receiver: Sink) -> None:
        delivered = await fleet.delivered()
        self.looks.append((delivered, len(receiver.order)))

    def holds(self, receiver: Sink) -> None:
        """Nothing of that came once more afterwards."""
        for delivered, arrived in self.looks:
            late = delivered & set(receiver.order[arrived:])
            assert not late, f"sent again although it was recorded as delivered: {sorted(late)[:3]}"


def balance(fleet_books: Books, ledger: Ledger, receiver: Sink) -> None:
    """Everything that was promised, and nothing else, is there and has ended as its endpoint ends it."""
    promised = set(ledger.promised.values())
    assert fleet_books.events == promised
    for path in ENDING:
        assert receiver.ids(path) == promised, path
    assert not receiver.ids(HELD)
    assert fleet_books.statuses == {
        (FINE, DELIVERED): len(promised),
        (FLAKY, DELIVERED): len(promised),
        (HOPELESS, DEAD): len(promised),
        (HELD, PENDING): len(promised),
    }
