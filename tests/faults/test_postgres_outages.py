"""PostgreSQL dies, its connections break, others hold its locks, its disks are full: gateways on it lose nothing."""

from __future__ import annotations

import asyncio
import os
import random
import re
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import aiohttp
import pytest

from builders import endpoint
from faults.books import unrecorded
from faults.disks import MIB, Disk, disk
from faults.fleet import Fleet, Recorded, balance, clients, fleet_on, held
from faults.four_endpoints import ENDING, FINE, IN_FLIGHT, UNRECORDED, endpoints
from faults.gateway_process import Life, until
from faults.load import Ledger, under_way
from faults.postgres_own import own_server, start, stop
from faults.sink import Sink, sink
from store.postgres_proxy import Cut, Proxy
from store.postgres_server import PostgresServer, folder_for_user

CYCLES: Final = int(os.environ.get("FAULT_CYCLES", "6"))
CRASHES: Final = -(-CYCLES // 3)
CUTS: Final = 5 * CYCLES
FULL_LOGS: Final = -(-CYCLES // 10)
LOCKS: Final = {
    "the numbers": ("SELECT FROM hookstead.numbering FOR UPDATE", 2.0),
    "all pending deliveries": ("LOCK TABLE hookstead.pending IN SHARE MODE", 2.0),
    "all claims": ("LOCK TABLE hookstead.claimers IN EXCLUSIVE MODE", 2.0),
    "the members, for longer than a lease": ("SELECT FROM hookstead.members FOR UPDATE", 8.0),
}

pytestmark = pytest.mark.xdist_group("postgres_outages")


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    with own_server() as running:
        yield running


async def more(ledger: Ledger, count: int = 100) -> None:
    """Until so many more events were accepted."""
    await under_way(ledger, len(ledger.promised) + count)


async def ends_well(fleet: Fleet, ledger: Ledger, receiver: Sink) -> int:
    """Everything that was promised ended once, in the books too; how many requests repeated another."""
    await fleet.again(ledger)
    await fleet.settles(ledger)
    for life in fleet.gateways:
        assert life.child.running, life.log
    await fleet.stop()
    found = await fleet.books()
    balance(found, ledger, receiver)
    assert await fleet.check() == []
    return unrecorded(receiver, found).total()


@pytest.mark.timeout(240 + CRASHES * 20)
async def test_a_crash_of_postgresql_under_load_loses_nothing_and_repeats_what_was_in_flight_once(
    tmp_path: Path, server: PostgresServer, record_property: Callable[[str, object], None]
) -> None:
    chance, ledger, recorded = random.Random(), Ledger(), Recorded()
    async with sink() as receiver, fleet_on(tmp_path, server, *endpoints(receiver)) as fleet:
        await fleet.start(2)
        async with clients(fleet, ledger):
            for _ in range(CRASHES):
                await more(ledger)
                await asyncio.sleep(chance.uniform(0.0, 0.5))
                await stop(server, signal.SIGQUIT)
                await asyncio.sleep(chance.uniform(0.0, 1.0))
                await start(server)
                await recorded.look(fleet, receiver)
                await more(ledger)
        repeated = await ends_well(fleet, ledger, receiver)
        recorded.holds(receiver)
        assert repeated <= CRASHES * 2 * len(ENDING) * (IN_FLIGHT + UNRECORDED)
        record_property("tally", ["crashes of PostgreSQL under load", CRASHES, CRASHES])
        print(f"\n{len(ledger.promised)} events, {repeated} requests repeated; answers {dict(ledger.statuses)}")


async def connected(fleet: Fleet) -> list[str]:
    """What the gateways have connections for, once those are among them that matter; each is made when it is needed."""
    rows = await fleet.ask(
        "SELECT DISTINCT application_name FROM pg_stat_activity"
        " WHERE datname = current_database() AND application_name LIKE 'hookstead %'"
    )
    purposes = [row[0].removeprefix("hookstead ") for row in rows]
    return purposes if {"writer", "claims", "lease"} <= set(purposes) else []


@pytest.mark.timeout(240 + CUTS * 2)
async def test_connections_that_break_in_the_middle_of_statements_are_seen_by_nobody(
    tmp_path: Path, server: PostgresServer, record_property: Callable[[str, object], None]
) -> None:
    chance, ledger = random.Random(), Ledger()
    async with (
        sink() as receiver,
        Proxy(server.port) as proxy,
        fleet_on(tmp_path, server, *endpoints(receiver), port=proxy.port) as fleet,
    ):
        await fleet.start(2)
        async with clients(fleet, ledger):
            await more(ledger)
            purposes = await until(lambda: connected(fleet), what="connections for all that is cut below")
            async with asyncio.timeout(60 + CUTS * 2):
                while proxy.made < CUTS:
                    proxy.cuts[chance.choice([*purposes, "writer", "claims"])] = chance.choice(list(Cut))
                    await asyncio.sleep(chance.uniform(0.02, 0.2))
            proxy.cuts.clear()
            await more(ledger)
        assert set(ledger.statuses) == {202}, "a broken connection was somebody's news"
        assert not ledger.unanswered
        assert await ends_well(fleet, ledger, receiver) == 0, "what is asked of the database twice is sent once"
        record_property("tally", ["connections to PostgreSQL cut in the middle of statements", proxy.made, proxy.made])


@pytest.mark.timeout(240)
async def test_locks_in_the_hands_of_others_delay_and_nothing_else(tmp_path: Path, server: PostgresServer) -> None:
    ledger = Ledger()
    async with sink() as receiver, fleet_on(tmp_path, server, *endpoints(receiver)) as fleet:
        await fleet.start(2)
        async with clients(fleet, ledger):
            for lock, seconds in LOCKS.values():
                await more(ledger)
                async with held(fleet, lock):
                    await asyncio.sleep(seconds)
            await more(ledger)
        assert set(ledger.statuses) == {202}
        assert await ends_well(fleet, ledger, receiver) == 0, "sent twice"


BIG = "x" * 60_000


@pytest.fixture
def full_server() -> Iterator[PostgresServer]:
    """Its own: what fills its disk must not fill another test's."""
    with own_server() as running:
        yield running


def small_disk_for(server: PostgresServer, small: Disk) -> Path:
    """A folder for a tablespace, in the hands of the server's user."""
    folder = small.path / "tablespace"
    folder.mkdir()
    owner = server.folder.stat()
    for path in (small.path, folder):
        shutil.chown(path, owner.st_uid, owner.st_gid)
    return folder


async def refused_as_full(life: Life, accepted: list[str]) -> None:
    for _ in range(3000):
        answer = await life.publish(data={"text": BIG})
        if answer.status != 202:
            assert (answer.status, answer.body["type"].rpartition("/")[2]) == (507, "store-full"), answer
            assert int(answer.headers["Retry-After"]) > 0
            return
        accepted.append(answer.body["id"])
    raise AssertionError("a full disk was never noticed")


@pytest.mark.timeout(240)
async def test_a_full_disk_at_postgresql_refuses_events_and_loses_none_that_was_accepted(
    tmp_path: Path, full_server: PostgresServer
) -> None:
    server = full_server
    with disk(server.folder / "small", mebibytes=48) as small:
        folder = small_disk_for(server, small)
        await server.execute(f"CREATE TABLESPACE small LOCATION '{folder}'")
        await server.execute("CREATE DATABASE full_one TEMPLATE template0 TABLESPACE small")
        async with sink() as receiver:
            objects = [endpoint(FINE[1:], url=receiver.url + FINE)]
            async with fleet_on(tmp_path, server, *objects, database="full_one") as fleet:
                await fleet.start(1)
                life, accepted = fleet.gateways[0], list[str]()
                for _ in range(5):
                    accepted.append((await life.publish(data={"text": BIG})).body["id"])
                small.fill(leaving=MIB)
                await refused_as_full(life, accepted)
                assert life.child.running
                small.empty()

                async def taken_again() -> bool:
                    answer = await life.publish()
                    if answer.status == 202:
                        accepted.append(answer.body["id"])
                    return answer.status == 202

                await until(taken_again, what="events accepted again")

                async def all_recorded() -> bool:
                    rows = await fleet.ask("SELECT pending, delivered FROM hookstead.counts")
                    return [tuple(row) for row in rows] == [(0, len(accepted))]

                await until(all_recorded, what="every delivery recorded", seconds=60)
                assert receiver.ids(FINE) == set(accepted)
                assert set(receiver.seen.values()) == {1}, "an attempt that could not be recorded at once was repeated"
                await fleet.stop()
                assert await fleet.check() == []


# ---------------------------------------------------------------------------- a full disk, of the write-ahead log alone


@pytest.fixture
def small_log() -> Iterator[tuple[PostgresServer, Disk]]:
    """A server whose log has a disk of its own. No checkpoint gives any of it back before the next start."""
    outside = folder_for_user("hookstead-log-")
    try:
        with disk(outside / "small", mebibytes=64) as small:
            log = small.path / "log"
            log.mkdir()
            owner = outside.stat()
            shutil.chown(log, owner.st_uid, owner.st_gid)
            with own_server(log=log, checkpoint_timeout="1h", min_wal_size="2MB") as running:
                yield running, small
    finally:
        shutil.rmtree(outside, ignore_errors=True)


PANIC: Final = re.compile("PANIC: .*No space left on device")


async def says_so(life: Life) -> None:
    """It takes no event, says when to come back, and is not ready."""
    body = {"type": "order.created", "data": {}}
    answer = await life.call("POST", "/v1/events", json=body, timeout=aiohttp.ClientTimeout(total=90))
    assert (answer.status, answer.body["type"].rpartition("/")[2]) == (503, "store-unavailable"), answer
    assert int(answer.headers["Retry-After"]) > 0
    assert (await life.get(f"{life.admin}/readyz")).status == 503


@pytest.mark.timeout(240 + FULL_LOGS * 60)
async def test_a_full_disk_of_the_write_ahead_log_stops_postgresql_and_loses_nothing_that_was_accepted(
    tmp_path: Path, small_log: tuple[PostgresServer, Disk], record_property: Callable[[str, object], None]
) -> None:
    """It panics, recovers, and panics again until it does not come back. Somebody makes room, and starts it anew."""
    server, small = small_log
    ledger, recorded = Ledger(), Recorded()

    async def ended() -> bool:
        return not server.running

    async with sink() as receiver, fleet_on(tmp_path, server, *endpoints(receiver)) as fleet:
        await fleet.start(2)
        async with clients(fleet, ledger):
            for _ in range(FULL_LOGS):
                await more(ledger)
                small.fill()
                await until(ended, what="the end of PostgreSQL, whose log has no room", seconds=120)
                assert PANIC.search(server.said)
                await asyncio.gather(*(says_so(life) for life in fleet.gateways))
                small.empty()
                await start(server)
                await recorded.look(fleet, receiver)
                await more(ledger)
        repeated = await ends_well(fleet, ledger, receiver)
        recorded.holds(receiver)
        assert repeated <= FULL_LOGS * 2 * len(ENDING) * (IN_FLIGHT + UNRECORDED)
        record_property("tally", ["full disks of PostgreSQL's write-ahead log under load", FULL_LOGS, FULL_LOGS])
        print(f"\n{len(ledger.promised)} events, {repeated} requests repeated; answers {dict(ledger.statuses)}")
