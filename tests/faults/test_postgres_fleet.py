"""Three gateways on one PostgreSQL: no deadlock, a rollout that nobody notices, clocks that disagree.

FAULT_SECONDS=600 python -m pytest tests/faults/test_postgres_fleet.py -s
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import aiohttp
import pytest

from builders import endpoint
from faults.books import unrecorded
from faults.fleet import Clients, Fleet, balance, clients, fleet_on
from faults.four_endpoints import ENDING, FINE, endpoints
from faults.gateway_process import until
from faults.load import Ledger, body, under_way
from faults.postgres_own import own_server
from faults.prefaces import wrong_clock
from faults.sink import sink
from hookstead.resources.kinds import DeliverySpec, Ordering
from store.postgres_server import PostgresServer

SECONDS: Final = float(os.environ.get("FAULT_SECONDS", "8"))
MANY: Final = 12
HOUR: Final = 3600
ORDERED: Final = "/ordered"
TOLERANCE_MS: Final = 60_000
"""Nothing beside hours; on a busy machine the way to the database and back takes a while."""
ASKED: Final = "publications, batches, redeliveries and erasures at three gateways at once"
DEADLOCKS: Final = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
PRE_STOP_SECONDS: Final = 1.0
"""Of the chart's ten: nobody has to wait here until every node has heard which pods there are."""

pytestmark = pytest.mark.xdist_group("postgres_fleet")


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    with own_server() as running:
        yield running


# --------------------------------------------------------------------------------------------------------- deadlocks


class Meddler:
    """Redelivers, erases, lists and publishes batches, anywhere: whatever takes locks in an order of its own."""

    def __init__(self, fleet: Fleet, chance: random.Random) -> None:
        self.fleet = fleet
        self.chance = chance
        self.done = 0
        self.redelivered = 0
        self.promised: set[str] = set()
        self.erased: set[str] = set()

    async def meddle(self, until_: float) -> None:
        loop = asyncio.get_running_loop()
        while loop.time() < until_:
            life = self.chance.choice(self.fleet.gateways)
            page = (await life.get("/v1/deliveries", params={"limit": "50"})).body["items"]
            for item in self.chance.sample(page, min(3, len(page))):
                answer = await life.call("POST", f"/v1/deliveries/{item['id']}/redeliver")
                assert answer.status in (202, 410), answer
                self.redelivered += 1
            if page:
                event = self.chance.choice(page)["eventId"]
                answer = await life.call("DELETE", f"/v1/events/{event}/payload")
                assert answer.status == 204, answer
                self.erased.add(event)
            await self._batch()
            self.done += 1

    async def _batch(self) -> None:
        life = self.chance.choice(self.fleet.gateways)
        items = b"[" + b",".join(body(f"batch-{id(self)}-{self.done}-{number}") for number in range(40)) + b"]"
        answer = await life.call("POST", "/v1/events/batch", data=items, headers={"content-type": "application/json"})
        assert {item["status"] for item in answer.body["items"]} == {202}
        self.promised |= {item["id"] for item in answer.body["items"]}


@pytest.mark.timeout(180 + SECONDS * 2)
async def test_three_gateways_at_work_on_the_same_endpoints_never_deadlock(
    tmp_path: Path, server: PostgresServer, record_property: Callable[[str, object], None]
) -> None:
    ledger = Ledger()
    async with sink() as receiver:
        objects = [endpoint(f"e-{number}", url=f"{receiver.url}/e-{number}") for number in range(MANY)]
        async with fleet_on(tmp_path, server, *objects) as fleet:
            await fleet.start(3)
            meddlers = [Meddler(fleet, random.Random()) for _ in range(3)]
            ends = asyncio.get_running_loop().time() + SECONDS
            async with clients(fleet, ledger):
                await asyncio.gather(*(meddler.meddle(ends) for meddler in meddlers))
            assert set(ledger.statuses) == {202}
            names = [f"/e-{number}" for number in range(MANY)]
            promised = {*ledger.promised.values(), *(one for meddler in meddlers for one in meddler.promised)}
            await settles_all(fleet, len(promised))
            erased = {one for meddler in meddlers for one in meddler.erased}
            for name in names:
                assert promised - erased <= receiver.ids(name), "not delivered"
            await fleet.stop()
            assert await fleet.check() == []
            [[deadlocks]] = await fleet.ask(DEADLOCKS)
            assert deadlocks == 0
            [[ended]] = await fleet.ask("SELECT count(*) FROM hookstead.ended")
            assert ended == len(promised) * MANY
            asked = len(ledger.promised) + sum(
                one.done + one.redelivered + len(one.erased) for one in meddlers
            )  # events, batches, redeliveries, erasures
            record_property("tally", [f"{ASKED} that met no deadlock", asked - deadlocks, asked])
            record_property(
                "tally", ["deliveries behind three gateways at once that ended", ended, len(promised) * MANY]
            )
            print(
                f"\n{len(promised)} events to {MANY} endpoints, {sum(one.done for one in meddlers)} rounds of meddling,"
                f" {asked} calls, {deadlocks} deadlocks, {ended} rows of deliveries that ended"
            )


async def settles_all(fleet: Fleet, events: int) -> None:
    """Until nothing is pending, and every redelivery that was asked for has been made."""

    async def look() -> bool:
        rows = await fleet.ask(
            "SELECT (SELECT min(accepted) FROM hookstead.counts), (SELECT sum(pending) FROM hookstead.counts),"
            " (SELECT count(*) FROM hookstead.requests)"
        )
        return rows[0][0] >= events and (rows[0][1], rows[0][2]) == (0, 0)

    await until(look, what=f"{events} events delivered everywhere", seconds=90 + SECONDS)


# ----------------------------------------------------------------------------------------------------------- rollout


@pytest.mark.timeout(240)
async def test_a_rolling_restart_under_load_fails_no_event_loses_none_and_repeats_none(
    tmp_path: Path, server: PostgresServer, record_property: Callable[[str, object], None]
) -> None:
    """As the chart rolls: the new one is ready before an old one goes, whose hook runs before it is stopped."""
    ledger = Ledger()
    async with sink() as receiver, fleet_on(tmp_path, server, *endpoints(receiver)) as fleet:
        await fleet.start(3)
        async with clients(fleet, ledger) as load:
            await under_way(ledger, 200)
            for _ in range(3):
                old = fleet.gateways[0]
                await fleet.start(1)
                fleet.gateways.remove(old)  # it terminates, and so leaves the Service
                old.send(signal.SIGUSR1)
                await asyncio.sleep(PRE_STOP_SECONDS)
                assert await old.stop(seconds=60) == 0, old.log
                await under_way(ledger, len(ledger.promised) + 100)
        failed = len(ledger.unanswered) + sum(
            count for status, count in ledger.statuses.items() if status not in (202, 503)
        )
        assert failed == 0, (ledger.statuses, len(ledger.unanswered))
        await fleet.settles(ledger)
        await fleet.stop()
        found = await fleet.books()
        balance(found, ledger, receiver)
        assert unrecorded(receiver, found).total() == 0, "a drained gateway leaves nothing to be repeated"
        assert await fleet.check() == []
        record_property(
            "tally",
            ["events taken during a rollout of three gateways", len(ledger.promised), len(ledger.promised) + failed],
        )
        print(f"\n{len(ledger.promised)} events; tried at another gateway after {dict(load.tried_again)}")


# ------------------------------------------------------------------------------------------------------------ clocks


@pytest.mark.timeout(240)
async def test_gateways_whose_clocks_are_hours_apart_agree_on_time_and_order(
    tmp_path: Path, server: PostgresServer
) -> None:
    ledger = Ledger()
    async with sink() as receiver:
        ordered = endpoint(ORDERED[1:], url=receiver.url + ORDERED, delivery=DeliverySpec(ordering=Ordering.ORDERED))
        async with fleet_on(tmp_path, server, *endpoints(receiver), ordered) as fleet:
            for hours in (-3, 3):
                await fleet.start(1, preface=wrong_clock(seconds=hours * HOUR))
            before = await database_ms(fleet)
            in_turn = await one_after_the_other(fleet, ledger, 60)
            after = await database_ms(fleet)
            await fleet.settles(ledger, (*ENDING, ORDERED))
            rows = await fleet.ask("SELECT min(accepted_ms), max(accepted_ms) FROM hookstead.events")
            assert before - TOLERANCE_MS <= rows[0][0]
            assert rows[0][1] <= after + TOLERANCE_MS
            assert [message for path, message in receiver.order if path == ORDERED] == in_turn
            assert {count for (path, _), count in receiver.seen.items() if path == FINE} == {1}
            await fleet.stop()
            assert unrecorded(receiver, await fleet.books()).total() == 0
            assert await fleet.check() == []


async def database_ms(fleet: Fleet) -> int:
    rows = await fleet.ask("SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint")
    return int(rows[0][0])


async def one_after_the_other(fleet: Fleet, ledger: Ledger, count: int) -> list[str]:
    """Events by turns at each gateway, each sent when the one before was answered; their ids in this order."""
    callers = Clients(fleet, ledger)
    made: list[str] = []
    async with aiohttp.ClientSession() as session:
        for number in range(count):
            caller = ledger.take()
            assert await callers.send(session, caller, first=number) == 202
            made.append(ledger.promised[caller])
    return made
