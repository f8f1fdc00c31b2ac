"""kill -9 of gateways on one PostgreSQL at chosen moments under load: the law of test_kill.py, for one and for three.

    FAULT_CYCLES=50 python -m pytest tests/faults/test_postgres_kill.py -s

Six kills among three gateways by default, and two of one that is alone. The figures are printed (`-s`).
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Final

import aiohttp
import pytest

from faults.books import Repeats, unrecorded
from faults.fleet import Fleet, Recorded, balance, clients, fleet_on, held
from faults.four_endpoints import ENDING, FINE, IN_FLIGHT, UNRECORDED, endpoints
from faults.gateway_process import Life, until
from faults.load import Ledger, publish
from faults.postgres_own import own_server
from faults.sink import Sink, sink
from store.postgres_server import PostgresServer

CYCLES: Final = int(os.environ.get("FAULT_CYCLES", "6"))
ALONE: Final = -(-CYCLES // 3)
SECONDS_PER_CYCLE: Final = 20

Moment = Callable[[Fleet, Life, random.Random], Awaitable[None]]


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    with own_server() as running:
        yield running


async def _under_load(fleet: Fleet, victim: Life, chance: random.Random) -> None:
    await asyncio.sleep(chance.uniform(0.02, 1.0))
    victim.kill()


def _while_waiting(purpose: str, lock: str) -> Moment:
    """In the middle of a statement, which then ends although nobody is there any more to hear of it."""

    async def moment(fleet: Fleet, victim: Life, chance: random.Random) -> None:
        async with held(fleet, lock):
            await fleet.waits(purpose)
            await asyncio.sleep(chance.uniform(0.0, 0.2))
            victim.kill()

    return moment


async def _while_it_drains(fleet: Fleet, victim: Life, chance: random.Random) -> None:
    victim.send(signal.SIGTERM)
    await asyncio.sleep(chance.uniform(0.0, 0.2))
    victim.kill()


async def _while_another_starts(fleet: Fleet, victim: Life, chance: random.Random) -> None:
    """Both are killed, so that there is one that began to take over, and did not come to."""
    starting = fleet.place.launch()
    await asyncio.sleep(chance.uniform(0.3, 2.0))
    starting.kill()
    victim.kill()


MOMENTS: Final[dict[str, Moment]] = {
    "an event is written": _while_waiting("writer", "SELECT FROM hookstead.numbering FOR UPDATE"),
    "under load": _under_load,
    "attempts are written": _while_waiting("writer", "LOCK TABLE hookstead.attempts IN SHARE MODE"),
    "deliveries are claimed": _while_waiting("claims", "LOCK TABLE hookstead.claimers IN SHARE MODE"),
    "it drains": _while_it_drains,
    "another starts": _while_another_starts,
}


def moments(count: int) -> list[str]:
    return [list(MOMENTS)[number % len(MOMENTS)] for number in range(count)]


async def silent(fleet: Fleet, receiver: Sink) -> None:
    """Nobody lives: wait until all that was sent is read, and all that was asked of the database is over."""

    async def nobody() -> bool:
        return receiver.connections == 0

    await fleet.at_rest(connected=False)
    await until(nobody, what="all connections of the killed process closed")
    await asyncio.sleep(0.05)
    await until(nobody, what="no connection that came late")


async def delivers(receiver: Sink) -> None:
    """Until something new arrives: somebody owns the endpoints."""
    before = len(receiver.order)

    async def more() -> bool:
        return len(receiver.order) > before

    await until(more, what="deliveries", seconds=60)


@pytest.mark.timeout(240 + ALONE * SECONDS_PER_CYCLE)
async def test_one_gateway_that_is_killed_repeats_what_was_in_flight_once_and_loses_nothing(
    tmp_path: Path, server: PostgresServer, record_property: Callable[[str, object], None]
) -> None:
    seed = int.from_bytes(os.urandom(4))
    chance, ledger = random.Random(seed), Ledger()
    repeats = Repeats(ENDING, most=IN_FLIGHT + UNRECORDED)
    print(f"\nseed {seed}, {ALONE} cycles")
    async with sink() as receiver, fleet_on(tmp_path, server, *endpoints(receiver)) as alone:
        for moment in moments(ALONE):
            await alone.start(1)
            async with clients(alone, ledger):
                await delivers(receiver)
                await MOMENTS[moment](alone, alone.gateways[0], chance)
            alone.gateways.clear()
            await silent(alone, receiver)
            found = await alone.books()
            assert set(ledger.promised.values()) <= found.events, f"{moment}: a promised event is not on the disk"
            repeats.after_kill(receiver, found)
        await alone.start(1)
        await alone.again(ledger, chance.sample(sorted(ledger.promised), min(50, len(ledger.promised))))
        await alone.settles(ledger)
        await alone.stop()
        found = await alone.books()
        balance(found, ledger, receiver)
        repeats.at_the_end(receiver, found)
        assert await alone.check() == []
        record_property("tally", ["kill -9 of the one gateway on PostgreSQL", ALONE, ALONE])
        print(
            f"{len(ledger.promised)} events promised, {receiver.seen.total()} requests, of which"
            f" {repeats.known.total()} repeat what was in flight; by kill {repeats.by_kill}"
        )


@pytest.mark.timeout(240 + CYCLES * SECONDS_PER_CYCLE)
async def test_of_three_gateways_each_may_be_killed_under_load_and_the_others_take_over(
    tmp_path: Path, server: PostgresServer, record_property: Callable[[str, object], None]
) -> None:
    seed = int.from_bytes(os.urandom(4))
    chance, ledger, recorded = random.Random(seed), Ledger(), Recorded()
    print(f"\nseed {seed}, {CYCLES} cycles")
    async with sink() as receiver, fleet_on(tmp_path, server, *endpoints(receiver)) as three:
        await three.start(3)
        async with clients(three, ledger):
            for moment in moments(CYCLES):
                await delivers(receiver)
                victim = chance.choice(three.gateways)
                await MOMENTS[moment](three, victim, chance)
                await recorded.look(three, receiver)
                three.gateways.remove(victim)
                await three.start()
        await three.again(ledger, chance.sample(sorted(ledger.promised), min(50, len(ledger.promised))))
        await three.settles(ledger)
        await three.stop()
        found = await three.books()
        balance(found, ledger, receiver)
        recorded.holds(receiver)
        repeated = unrecorded(receiver, found)
        assert max(repeated.values(), default=0) <= CYCLES
        assert repeated.total() <= CYCLES * len(ENDING) * (IN_FLIGHT + UNRECORDED)
        assert sum(count for (path, _), count in repeated.items() if path == FINE) <= CYCLES * (IN_FLIGHT + UNRECORDED)
        assert await three.check() == []
        record_property("tally", ["kill -9 of one of three gateways on PostgreSQL", CYCLES, CYCLES])
        print(
            f"{len(ledger.promised)} events promised, {receiver.seen.total()} requests, of which"
            f" {repeated.total()} repeat what was in flight; answers {dict(ledger.statuses)}"
        )


OWNER: Final = "SELECT owner FROM hookstead.members"
LEASE: Final = "UPDATE hookstead.members SET lease_until = clock_timestamp() + interval '{}' WHERE owner = {}"


@pytest.mark.timeout(240)
async def test_a_gateway_started_right_after_a_kill_takes_events_at_once_and_delivers_them_when_the_lease_is_over(
    tmp_path: Path, server: PostgresServer
) -> None:
    """The lease of the one that was killed is made long, so that it has not lapsed before all is asked and answered."""
    ledger = Ledger()
    async with sink() as receiver, fleet_on(tmp_path, server, *endpoints(receiver)) as alone:
        await alone.start(1)
        [[gone]] = await alone.ask(OWNER)
        await published(alone, ledger, 20)
        await alone.settles(ledger)
        alone.gateways.pop().kill()
        await alone.ask(LEASE.format("1 hour", gone))
        await alone.start(1)
        before = receiver.seen.total()
        await published(alone, ledger, 20)
        assert {gone} < {row[0] for row in await alone.ask(OWNER)}
        assert receiver.seen.total() == before, "two may be at the same endpoint"
        await alone.ask(LEASE.format("0", gone))
        await alone.settles(ledger)
        await alone.stop()
        found = await alone.books()
        balance(found, ledger, receiver)
        assert unrecorded(receiver, found).total() == 0
        assert await alone.check() == []


async def published(fleet: Fleet, ledger: Ledger, count: int) -> None:
    """Each is taken."""
    async with aiohttp.ClientSession() as session:
        for _ in range(count):
            assert await publish(session, fleet.gateways[0], ledger, ledger.take()) == 202
