"""Accepted and delivered events a second, and what an event costs, on both stores in one run.

The embedded store under one gateway, then PostgreSQL under 1, 2 and 4. Every event has a caller's id, is validated,
goes to one of 128 endpoints by its channel, is signed, sent, and recorded. Gateways, PostgreSQL, producers and
receiver share the machine: the CPU time of an event says more than the events of a second, and `per core` is what
one core of gateway CPU would do: events by seconds of gateway CPU.

    python benchmarks/stores.py [--events 30000] [--gateways 1 2 4] [--connections 64] [--endpoints 128]
                                [--bytes 1024] [--rounds 1]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial

from loopback import Producer, Receiver, post
from machine import describe
from stores_site import SETTINGS, Place, PostgresServer, describe_postgres, event_body, objects, place

DEADLINE_SECONDS = 300
WARM_UP = 2000


@dataclass(frozen=True, slots=True)
class Measured:
    """One run. Rates in events a second, costs an event."""

    rate: float
    accept_rate: float
    gateway_us: float
    server_us: float
    log: dict[str, float]
    parts: dict[str, float]
    other: dict[int, int]


class Count:
    def __init__(self) -> None:
        self.received = 0
        self._wanted = 0
        self._enough = asyncio.Event()

    def one(self) -> None:
        self.received += 1
        if self.received >= self._wanted:
            self._enough.set()

    async def reaches(self, wanted: int) -> None:
        self._wanted = wanted
        self._enough.clear()
        if self.received < wanted:
            await asyncio.wait_for(self._enough.wait(), DEADLINE_SECONDS)


async def publish(here: Place, bodies: Iterator[bytes], connections: int) -> dict[int, int]:
    """Everything, over so many connections, spread over the gateways; answers by status."""
    loop = asyncio.get_running_loop()
    statuses: dict[int, int] = {}
    wire, waits = (post("/v1/events", body) for body in bodies), []
    for number in range(connections):
        host, port = here.gateways[number % len(here.gateways)].url.removeprefix("http://").split(":")
        done = asyncio.Event()
        waits.append(done.wait())
        await loop.create_connection(partial(Producer, wire, statuses, done), host, int(port))
    await asyncio.wait_for(asyncio.gather(*waits), DEADLINE_SECONDS)
    return statuses


@dataclass(frozen=True, slots=True)
class Log:
    """What the server has done so far: bytes of its log, commits, fsyncs and their seconds; functions' too."""

    size: int = 0
    commits: int = 0
    syncs: int = 0
    sync_seconds: float = 0.0
    functions: dict[str, tuple[float, int]] = field(default_factory=dict)


async def log_of(here: Place) -> Log:
    if here.server is None:
        return Log()
    rows = await here.ask(
        "SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::bigint,"
        " (SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()),"
        " (SELECT to_jsonb(w)::text FROM pg_stat_wal w),"
        " (SELECT coalesce(jsonb_object_agg(funcname, jsonb_build_array(total_time, calls)), '{}')::text"
        " FROM pg_stat_user_functions)"
    )
    size, commits, syncs, functions = rows[0]
    found = json.loads(syncs)
    return Log(
        size=size,
        commits=commits,
        syncs=found.get("wal_sync", 0),  # PostgreSQL 18 tells it elsewhere
        sync_seconds=found.get("wal_sync_time", 0.0) / 1000,
        functions={name: (spent / 1000, calls) for name, (spent, calls) in json.loads(functions).items()},
    )


def since(then: Log, now: Log, events: int) -> dict[str, float]:
    """Per event: bytes, commits, fsyncs, microseconds of fsync and of functions, and calls of these."""
    functions = {}
    for name in ("accept_1", "record_1", "claim_1", "look_1", "fold_1"):
        (began, already), (spent, calls) = then.functions.get(name, (0.0, 0)), now.functions.get(name, (0.0, 0))
        functions[name] = (spent - began) / events, (calls - already) / events
    return {
        "log bytes": (now.size - then.size) / events,
        "commits": (now.commits - then.commits) / events,
        "fsyncs": (now.syncs - then.syncs) / events,
        "µs of fsync": (now.sync_seconds - then.sync_seconds) / events * 1e6,
        **{f"µs in {name}": spent * 1e6 for name, (spent, _) in functions.items()},
        **{f"calls of {name}": calls for name, (_, calls) in functions.items()},
    }


async def measure(server: PostgresServer | None, gateways: int, options: argparse.Namespace) -> Measured:
    loop = asyncio.get_running_loop()
    count, events = Count(), options.events
    receiver = await loop.create_server(lambda: Receiver(count.one), "127.0.0.1", 0)
    url = f"http://127.0.0.1:{receiver.sockets[0].getsockname()[1]}"
    bodies = partial(event_body, endpoints=options.endpoints, size=options.bytes)
    async with place(server, objects(options.endpoints, {}, url)) as here:
        await here.start(gateways)
        await publish(here, (bodies(number, prefix="warm") for number in range(WARM_UP)), options.connections)
        await count.reaches(WARM_UP)
        await asyncio.sleep(2)
        log = await log_of(here)
        parts = await here.server_parts()
        cpu, started = (here.gateway_cpu(), here.server_cpu()), time.perf_counter()
        statuses = await publish(here, (bodies(number) for number in range(events)), options.connections)
        accepted = time.perf_counter() - started
        await count.reaches(WARM_UP + events)
        seconds = time.perf_counter() - started
        await asyncio.sleep(1)  # what is not recorded yet
        costs = here.gateway_cpu() - cpu[0], here.server_cpu() - cpu[1]
        ended = await here.server_parts()
        await asyncio.sleep(12)  # statistics of idle connections lag by ten
        server_log = since(log, await log_of(here), events)
    receiver.close()
    return Measured(
        rate=events / seconds,
        accept_rate=events / accepted,
        gateway_us=costs[0] / events * 1e6,
        server_us=costs[1] / events * 1e6,
        log=server_log,
        parts={name: (seconds - parts.get(name, 0.0)) / events * 1e6 for name, seconds in ended.items()},
        other={status: number for status, number in statuses.items() if status != 202},
    )


def median(rounds: list[Measured]) -> Measured:
    """Of each figure."""
    figures = ("rate", "accept_rate", "gateway_us", "server_us")
    other = {status: number for one in rounds for status, number in one.other.items()}
    return Measured(
        parts=medians([one.parts for one in rounds]),
        log=medians([one.log for one in rounds]),
        **{name: statistics.median(getattr(one, name) for one in rounds) for name in figures},
        other=other,
    )


def medians(rounds: list[dict[str, float]]) -> dict[str, float]:
    names = {name: None for one in rounds for name in one}
    return {name: statistics.median(one.get(name, 0.0) for one in rounds) for name in names}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=30_000)
    parser.add_argument("--gateways", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--endpoints", type=int, default=128)
    parser.add_argument("--bytes", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=1)
    options = parser.parse_args()
    with PostgresServer(durable=True, settings=SETTINGS) as server:
        print(*describe("hookstead", "asyncpg", "apsw", "uvloop"), asyncio.run(describe_postgres(server)), sep="\n")
        print(
            f"settings  {options.events} events of {options.bytes} bytes to {options.endpoints} endpoints,"
            f" {options.connections} connections, ids on, Enforce, signing on; SQLite FULL; median of {options.rounds};"
            " everything on one machine"
        )
        cases: list[tuple[str, PostgresServer | None, int]] = [("SQLite", None, 1)]
        cases += [("PostgreSQL", server, count) for count in options.gateways]
        rounds: list[list[Measured]] = [[] for _ in cases]
        for _ in range(options.rounds):
            for found, (_, on, count) in zip(rounds, cases, strict=True):
                found.append(asyncio.run(measure(on, count, options)))
                print(f"  ({'PostgreSQL' if on else 'SQLite'}, {count}: {found[-1].rate:.0f} events/s)", flush=True)
        show(cases, [median(found) for found in rounds])
    return 0


def show(cases: list[tuple[str, PostgresServer | None, int]], found: list[Measured]) -> None:
    print(f"{'':<16} {'':>9} {'':>10} {'CPU µs an event':>25} {'per core':>9} {'of':>7}")
    columns = f"{'store, gateways':<16} {'events/s':>9} {'accepted/s':>10} {'gateways':>12} {'PostgreSQL':>12}"
    print(columns, f"{'events/s':>9} {'SQLite':>7}")
    for (store, _, count), one in zip(cases, found, strict=True):
        print(
            f"{store + ', ' + str(count):<16} {one.rate:>9.0f} {one.accept_rate:>10.0f} {one.gateway_us:>12.0f}"
            f" {one.server_us:>12.0f} {1e6 / one.gateway_us:>9.0f} {found[0].gateway_us / one.gateway_us:>7.0%}"
            f"  {one.other or ''}"
        )
        if one.parts:
            parts = sorted(one.parts.items(), key=lambda part: -part[1])
            print("   CPU µs an event:", ", ".join(f"{name} {cost:.0f}" for name, cost in parts if cost >= 0.5))
            print("   an event:", ", ".join(f"{value:.3g} {name}" for name, value in one.log.items()))


if __name__ == "__main__":
    sys.exit(main())
