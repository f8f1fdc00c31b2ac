"""For how long the endpoints of a gateway that goes get nothing: two gateways on PostgreSQL, one killed or stopped.

At the moment of the signal the one that stays is given an event for each endpoint of the other. `first` to `all`: from
the signal until these events were received, the first of them, the first of each slot (half of the slots, all of them)
and all. `own`: what the one that stays delivers for its own endpoints meanwhile, 50 events a second, from POST to
receipt. Without a signal the events are for half of its own endpoints, which tells how long it takes to send so many.

    python benchmarks/takeover.py [--endpoints 100 10000] [--ways none stop kill] [--rounds 1]

Gateways, PostgreSQL, producer and receiver share the machine. Half a minute for each case and round, at 10,000.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import os
import signal
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import astuple, dataclass
from typing import Final

from latency import StampingReceiver, Stamps, percentile
from machine import describe
from stores_site import SETTINGS, Life, Place, PostgresServer, cpu_seconds, describe_postgres, objects, place

from hookstead.delivery.ports import EndpointKey, slot_of

WAYS: Final = {"none": "no signal", "stop": "SIGTERM", "kill": "kill -9"}
JSON: Final = {"content-type": "application/json"}
BATCH: Final = 500
OWN_PER_SECOND: Final = 50
DEADLINE_SECONDS: Final = 120
_WARM, _OWN = 1_000_000, 2_000_000
"""Numbers of events from which on they are not one of those that are measured, whose number is their endpoint's."""
_SLOTS: Final = "SELECT slot, owner FROM hookstead.slots"


@dataclass(frozen=True, slots=True)
class Found:
    """Seconds since the signal; `own_…` in milliseconds; `cpu`: seconds of the gateway that stays until all came."""

    slots: float
    endpoints: float
    first: float
    slots_p50: float
    slots_all: float
    all: float
    own_p50: float
    own_max: float
    cpu: float


def event(number: int, endpoint: int) -> bytes:
    """Its data begin as the receiver knows them."""
    text = f"n{number}n" + "x" * 1000
    return f'{{"type":"order.created","channels":["client_{endpoint}"],"data":{{"text":"{text}"}}}}'.encode()


async def publish(life: Life, events: Sequence[bytes]) -> None:
    for at in range(0, len(events), BATCH):
        body = b"[" + b",".join(events[at : at + BATCH]) + b"]"
        answer = await life.call("POST", "/v1/events/batch", data=body, headers=JSON)
        assert {item["status"] for item in answer.body["items"]} == {202}, answer


async def received(stamps: Stamps, numbers: AbstractSet[int]) -> None:
    async with asyncio.timeout(DEADLINE_SECONDS):
        while not stamps.received.keys() >= numbers:
            await asyncio.sleep(0.05)


async def owned(here: Place) -> dict[int, set[int]]:
    """Slots by owner, once each of the gateways has some and none is left."""
    async with asyncio.timeout(DEADLINE_SECONDS):
        while True:
            owners: dict[int, set[int]] = {}
            for slot, owner in await here.ask(_SLOTS):
                owners.setdefault(owner, set()).add(slot)
            if None not in owners and len(owners) == len(here.gateways):
                return owners
            await asyncio.sleep(0.2)


async def own_events(life: Life, stamps: Stamps, endpoints: Sequence[int]) -> None:
    """Until it is cancelled."""
    for number, endpoint in enumerate(itertools.cycle(endpoints), start=_OWN):
        stamps.posted[number] = time.perf_counter()
        await life.call("POST", "/v1/events", data=event(number, endpoint), headers=JSON)
        await asyncio.sleep(1 / OWN_PER_SECOND)


async def measure(server: PostgresServer, endpoints: int, way: str) -> Found:
    loop = asyncio.get_running_loop()
    stamps = Stamps()
    receiver = await loop.create_server(lambda: StampingReceiver(stamps), "127.0.0.1", 0)
    url = f"http://127.0.0.1:{receiver.sockets[0].getsockname()[1]}"
    slots = {number: slot_of(EndpointKey(f"client-{number}", f"uid-client-{number}")) for number in range(endpoints)}
    async with place(server, objects(endpoints, {}, url)) as here:
        await here.start(1)
        [(stays, _)] = (await owned(here)).items()
        await here.start(1)
        staying, going = here.gateways
        owners = await owned(here)
        await publish(staying, [event(_WARM + number, number) for number in range(endpoints)])
        await received(stamps, {_WARM + number for number in range(endpoints)})
        await asyncio.sleep(3)  # what is not recorded yet
        own = [number for number, slot in slots.items() if slot in owners[stays]]
        moved = [number for number in slots if number not in set(own)]
        if way == "none":
            own, moved = own[::2], own[1::2]
        beside = loop.create_task(own_events(staying, stamps, own))
        await asyncio.sleep(1)
        cpu, began = cpu_seconds(staying.pid), time.perf_counter()
        leaving = loop.create_task(leave(here, going, way))
        await publish(staying, [event(number, number) for number in moved])
        await received(stamps, set(moved))
        cpu = cpu_seconds(staying.pid) - cpu
        await asyncio.sleep(1)  # some of its own events, however short the rest was
        beside.cancel()
        await asyncio.gather(leaving)
        with contextlib.suppress(asyncio.CancelledError):
            await beside
    receiver.close()
    return found(stamps, began, {number: slots[number] for number in moved}, cpu)


async def leave(here: Place, going: Life, way: str) -> None:
    if way == "none":
        return
    here.gateways.remove(going)
    if way == "kill":
        going.kill()
    else:
        assert await going.stop(signal.SIGTERM) == 0


def found(stamps: Stamps, began: float, slots: Mapping[int, int], cpu: float) -> Found:
    """`slots`: by number of the endpoints that are measured."""
    times = {number: stamps.received[number] - began for number in slots}
    by_slot: dict[int, float] = {}
    for number, took in times.items():
        by_slot[slots[number]] = min(took, by_slot.get(slots[number], took))
    own = [
        stamps.received[number] - posted
        for number, posted in stamps.posted.items()
        if posted > began and number in stamps.received
    ]
    return Found(
        slots=len(by_slot),
        endpoints=len(times),
        first=min(times.values()),
        slots_p50=statistics.median(by_slot.values()),
        slots_all=max(by_slot.values()),
        all=max(times.values()),
        own_p50=percentile(own, 0.5),
        own_max=percentile(own, 1),
        cpu=cpu,
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--endpoints", type=int, nargs="+", default=[100, 10_000])
    parser.add_argument("--ways", nargs="+", choices=list(WAYS), default=list(WAYS))
    parser.add_argument("--rounds", type=int, default=1)
    options = parser.parse_args()
    with PostgresServer(durable=True, settings=SETTINGS) as server:
        print(*describe("hookstead", "asyncpg", "uvloop"), asyncio.run(describe_postgres(server)), sep="\n")
        print(
            f"settings  two gateways, events of 1 KiB, lease 6 s, SIGTERM drains; median of {options.rounds};"
            f" everything on one machine, load average {os.getloadavg()[0]:.1f} at the start"
        )
        print(f"{'':<24} {'changed hands':>16} {'received, s since the signal':>38} {'own events, ms':>18} {'CPU':>7}")
        columns = f"{'endpoints, how it goes':<24} {'slots':>6} {'endpoints':>9} {'first':>8} {'half the':>10}"
        print(columns, f"{'each slot':>10} {'all':>7} {'p50':>10} {'longest':>7} {'s':>7}")
        for endpoints, way in itertools.product(options.endpoints, options.ways):
            rounds = [asyncio.run(measure(server, endpoints, way)) for _ in range(options.rounds)]
            one = Found(*(statistics.median(figures) for figures in zip(*map(astuple, rounds), strict=True)))
            print(
                f"{f'{endpoints}, {WAYS[way]}':<24} {one.slots:>6.0f} {one.endpoints:>9.0f} {one.first:>8.2f}"
                f" {one.slots_p50:>10.2f} {one.slots_all:>10.2f} {one.all:>7.2f} {one.own_p50:>10.1f}"
                f" {one.own_max:>7.0f} {one.cpu:>7.2f}",
                flush=True,
            )
    return 0


if __name__ == "__main__":
    sys.exit(main())
