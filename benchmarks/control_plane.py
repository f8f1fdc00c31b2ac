"""The control plane at size: a real etcd and kube-apiserver, `hookstead operator`, `hookstead gateway`.

Each scenario has a fresh API server with so many endpoints, spread over 20 namespaces or all in one; the operator and
the gateway that are measured are those of the first namespace. Per scenario:

  cold     from the operator's start to all live in the gateway, and to the last status (never written before)
  change   from a PATCH of one endpoint to the gateway's running it
  idle     the operator's writes while nothing happens
  busy     its writes of status while every endpoint delivers, over periods of 60 s; the most within any second

The API server has the same cores as the programs, and so has the benchmark's receiver. Needs the programs of
`make binaries`.

    python benchmarks/control_plane.py [--scenarios 100/20,1000/20,10000/20,10000/1] [--generated] [--changes 50]
                                       [--idle 60] [--busy 130]
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import re
import tempfile
import time
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path

from control_site import PER_TEAM, Load, Site, busiest_second, by_resource, endpoint_name, load_of, site
from loopback import Receiver
from machine import describe

BUSY_EVERY_SECONDS = 12.0
"""Between two events that every endpoint gets: the period of a status is 60 s, so each has news in every period."""
CHANNELS_PER_EVENT = 64
SETTLE_SECONDS = 15.0


@dataclass
class Row:
    """One scenario. Seconds, MiB; CPU in seconds since the process began."""

    endpoints: int
    namespaces: int
    live: float = 0.0
    answered: float = 0.0
    answer_burst: int = 0
    changes: list[float] = field(default_factory=list)
    idle: dict[str, int] = field(default_factory=dict)
    idle_seconds: float = 0.0
    busy_rate: float = 0.0
    busy_burst: int = 0
    busy_delivered: int = 0
    operator: dict[str, Load] = field(default_factory=dict)
    gateway: dict[str, Load] = field(default_factory=dict)
    etcd: float = 0.0

    @property
    def measured(self) -> int:
        return self.endpoints // self.namespaces


@dataclass(frozen=True, slots=True)
class Plan:
    """What the command line asked for."""

    generated: bool
    changes: int
    idle: float
    busy: float


async def scenario(endpoints: int, namespaces: int, plan: Plan) -> Row:
    row = Row(endpoints, namespaces)
    received = 0

    def count() -> None:
        nonlocal received
        received += 1

    receiver = await asyncio.get_running_loop().create_server(lambda: Receiver(count), "127.0.0.1", 0)
    port = receiver.sockets[0].getsockname()[1]
    with tempfile.TemporaryDirectory(prefix="hookstead-control-plane-") as name:
        async with receiver, site(Path(name), namespaces, endpoints, port=port, generated=plan.generated) as made:
            mark = made.server.audit_mark()
            began = time.time()
            operator = made.start_operator()
            gateway = await made.start_gateway()

            def look(when: str) -> None:
                row.operator[when], row.gateway[when] = load_of(operator.pid), load_of(gateway.pid)

            row.live = await made.live(gateway, row.measured) - began
            look("live")
            note(row, "live", row.live)
            row.answered = await answered(made, mark, row.measured) - began
            row.answer_burst = busiest_second(made.statuses(mark))
            look("answered")
            note(row, "answered", row.answered)
            await asyncio.sleep(SETTLE_SECONDS)
            row.changes = [await change(made, row.measured, number) for number in range(plan.changes)]
            look("changed")
            note(row, "changed", max(row.changes, default=0.0))
            await asyncio.sleep(SETTLE_SECONDS)
            idle_mark = made.server.audit_mark()
            await asyncio.sleep(plan.idle)
            row.idle, row.idle_seconds = by_resource(made.written(idle_mark)), plan.idle
            look("idle")
            busy_mark, before = made.server.audit_mark(), received
            await keep_busy(made, row.measured, plan.busy)
            entries = made.statuses(busy_mark)
            row.busy_rate = len(entries) / plan.busy if plan.busy else 0.0
            row.busy_burst, row.busy_delivered = busiest_second(entries), received - before
            look("busy")
            row.etcd = etcd_bytes(made) / 2**20
    return row


def note(row: Row, what: str, seconds: float) -> None:
    load = os.getloadavg()[0]
    print(f"# {row.endpoints}/{row.namespaces}: {what} {seconds:.1f} s (load average {load:.1f})", flush=True)


async def answered(made: Site, mark: int, endpoints: int) -> float:
    """The time of the last status after which every endpoint says Ready."""
    deadline = time.monotonic() + 600
    while time.monotonic() < deadline:
        await asyncio.sleep(1.0)
        entries = [entry for entry in made.statuses(mark) if entry.resource == "webhookendpoints"]
        if len({entry.name for entry in entries}) >= endpoints and not await made.not_ready():
            return max(entry.time for entry in entries).timestamp()
    raise SystemExit(f"{await made.not_ready()} endpoints are not Ready after 600 s")


async def change(made: Site, endpoints: int, number: int) -> float:
    """Edit one endpoint; seconds until the gateway runs that generation."""
    await asyncio.sleep(1.0 + random.random())
    name = endpoint_name(random.randrange(endpoints))
    began = time.monotonic()
    patched = await made.api(
        "PATCH", made.path("webhookendpoints", name), {"spec": {"description": f"Change {number}"}}
    )
    generation = patched["metadata"]["generation"]
    while time.monotonic() < began + 60:
        told = await made.ask(f"/v1/endpoints/{name}")
        if told and told["observedGeneration"] == generation:
            return time.monotonic() - began
        await asyncio.sleep(0.02)
    raise SystemExit(f"change {number} was not live within 60 s")


async def keep_busy(made: Site, endpoints: int, seconds: float) -> None:
    """Every endpoint gets an event every BUSY_EVERY_SECONDS."""
    channels = [f"client_{team}" for team in range(-(-endpoints // PER_TEAM))]
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        for start in range(0, len(channels), CHANNELS_PER_EVENT):
            await made.publish(channels=channels[start : start + CHANNELS_PER_EVENT])
        await asyncio.sleep(max(0.0, min(BUSY_EVERY_SECONDS, ends - time.monotonic())))


def etcd_bytes(made: Site) -> int:
    """What is in use of etcd's file, history that was not compacted yet included."""
    with urllib.request.urlopen(f"{made.server.etcd_url}/metrics", timeout=10) as answer:
        found = re.search(r"^etcd_mvcc_db_total_size_in_use_in_bytes (\S+)", answer.read().decode(), re.MULTILINE)
    return round(float(found[1])) if found else 0


# ------------------------------------------------------------------------------------------------------- printing


def percentile(values: list[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, round(share * (len(ordered) - 1)))] if ordered else float("nan")


def print_table(rows: list[Row]) -> None:
    print(
        "endpoints/ns  measured | cold s: live  answered  most/s | change s: p50   p99 | idle writes"
        " | busy: writes/s  most/s     delivered | etcd MiB"
    )
    for row in rows:
        idle = ", ".join(f"{count} {what}" for what, count in sorted(row.idle.items())) or "0"
        print(
            f"{f'{row.endpoints}/{row.namespaces}':<12} {row.measured:>9} |"
            f" {row.live:>12.1f} {row.answered:>9.1f} {row.answer_burst:>7} |"
            f" {percentile(row.changes, 0.5):>13.2f} {percentile(row.changes, 0.99):>5.2f} |"
            f" {f'{idle} in {row.idle_seconds:.0f} s':>11} |"
            f" {row.busy_rate:>14.1f} {row.busy_burst:>7} {row.busy_delivered:>12} | {row.etcd:>8.1f}"
        )
    print("\nRSS MiB (peak), CPU s since the start")
    for row in rows:
        for program, loads in (("operator", row.operator), ("gateway", row.gateway)):
            told = "   ".join(
                f"{when} {load.rss:.0f} ({load.peak:.0f}) {load.cpu:.1f}s" for when, load in loads.items()
            )
            print(f"{f'{row.endpoints}/{row.namespaces}':<12} {program:<9} {told}")


def scenarios(text: str) -> list[tuple[int, int]]:
    found = [tuple(int(part) for part in one.split("/")) for one in text.split(",")]
    if any(len(one) != 2 or one[1] < 1 or one[0] < one[1] or one[0] > 20_000 for one in found):
        raise argparse.ArgumentTypeError("expected ENDPOINTS/NAMESPACES,…, at most 20000 endpoints")
    return [(one[0], one[1]) for one in found]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--scenarios",
        type=scenarios,
        default=scenarios("100/20,1000/20,10000/20,10000/1"),
        help="ENDPOINTS/NAMESPACES,…",
    )
    parser.add_argument("--generated", action="store_true", help="let the operator generate every signing Secret")
    parser.add_argument("--changes", type=int, default=50, help="edits of one endpoint")
    parser.add_argument("--idle", type=float, default=60.0, help="seconds without anything happening")
    parser.add_argument("--busy", type=float, default=130.0, help="seconds with deliveries to every endpoint")
    given = parser.parse_args()
    plan = Plan(generated=given.generated, changes=given.changes, idle=given.idle, busy=given.busy)
    print("\n".join(describe("kopf", "aiohttp", "msgspec", "apsw")))
    print(
        f"settings  {'generated keys' if plan.generated else f'one key for {PER_TEAM} endpoints'},"
        f" {plan.changes} changes, load average {os.getloadavg()[0]:.1f} at the start",
        flush=True,
    )
    rows = []
    for endpoints, namespaces in given.scenarios:
        rows.append(asyncio.run(scenario(endpoints, namespaces, plan)))
        print_table(rows[-1:])
    if len(rows) > 1:
        print("\nall")
        print_table(rows)


if __name__ == "__main__":
    main()
