"""How fast the embedded store is by itself: accept, record, claim, memory. Prints a table.

    python benchmarks/embedded_store.py [--events N] [--endpoints N] [--folder DIR] [--backlog N]

`accept` and `record` run as the gateway uses them: many callers at once, each answered after the fsync.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import platform
import resource
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import apsw
import uuid_utils
import uvloop

from hookstead.delivery.ports import (
    AttemptRecord,
    CallerId,
    DeliveryQuery,
    DeliveryStatus,
    EndpointKey,
    LaneState,
    NewDelivery,
    NewEvent,
    Settlement,
    Trigger,
)
from hookstead.resources.kinds import PayloadFormat
from hookstead.store.opening import open_store
from hookstead.store.sqlite.settings import Settings

PAYLOAD = b'{"text":"' + b"x" * 1000 + b'"}'


class WallClock:
    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000

    def monotonic(self) -> float:
        return time.monotonic()


CLOCK = WallClock()


@dataclass(frozen=True, slots=True)
class Measure:
    name: str
    count: int
    seconds: float
    cpu: float

    def __str__(self) -> str:
        per = 1e6 * self.cpu / self.count
        rate = f"{self.count / self.seconds:,.0f}/s"
        return f"{self.name:<46} {rate:>10} {per:>9.1f} µs CPU each ({self.count:,} in {self.seconds:.2f} s)"


def new_event(endpoint: EndpointKey, *, claimed: bool, named: bool = False) -> NewEvent:
    return NewEvent(
        caller_id=CallerId("", uuid4().hex) if named else None,
        id="msg_" + uuid_utils.uuid7().hex,
        type="order.paid",
        channels=("client_7f3e",),
        timestamp=b'"2026-11-25T13:00:00Z"',
        data=PAYLOAD,
        digest=b"0123456789abcdef",
        accepted_ms=CLOCK.now_ms(),
        deliveries=(
            NewDelivery(
                id="dlv_" + uuid_utils.uuid7().hex,
                endpoint=endpoint,
                payload_format=PayloadFormat.STANDARD_WEBHOOKS,
                claimed=claimed,
            ),
        ),
    )


def success(delivery_id: str, endpoint: EndpointKey) -> AttemptRecord:
    return AttemptRecord(
        delivery_id=delivery_id,
        endpoint=endpoint,
        trigger=Trigger.SCHEDULED,
        started_ms=CLOCK.now_ms(),
        duration_ms=12,
        succeeded=True,
        status_code=200,
        error=None,
        message="",
        response_body=b"ok",
        prior_status=DeliveryStatus.PENDING,
        settlement=Settlement(status=DeliveryStatus.DELIVERED),
    )


async def timed(name: str, count: int, work: Callable[[], Awaitable[Any]]) -> Measure:
    started, cpu = time.perf_counter(), time.process_time()
    await work()
    measure = Measure(name, count, time.perf_counter() - started, time.process_time() - cpu)
    print(measure)
    return measure


async def run(options: argparse.Namespace, folder: Path) -> None:
    store: Any = open_store(f"sqlite:{folder / 'store.db'}", min_free_bytes=0, clock=CLOCK)
    keys = [EndpointKey(f"endpoint-{number}", "u") for number in range(options.endpoints)]
    events = [new_event(keys[n % len(keys)], claimed=True) for n in range(options.events)]
    feed = iter(events)

    async def caller() -> None:
        for event in feed:  # whatever feed there is: callers share it
            await store.accept([event])

    async def accept() -> None:
        await asyncio.gather(*(caller() for _ in range(options.callers)))

    await timed(f"accept, {options.callers} callers, {len(keys)} endpoints", len(events), accept)

    named = [new_event(keys[n % len(keys)], claimed=True, named=True) for n in range(options.events)]
    feed = iter(named)
    await timed("accept with callers' ids", len(named), accept)

    async def record_all(size: int, parallel: int) -> None:
        jobs = [(event.deliveries[0].id, event.deliveries[0].endpoint) for event in events]
        batches = iter([jobs[at : at + size] for at in range(0, len(jobs), size)])

        async def worker() -> None:
            for batch in batches:
                lanes = {endpoint: LaneState(last_attempt_ms=1) for _, endpoint in batch}
                await store.record([success(*job) for job in batch], lanes)

        await asyncio.gather(*(worker() for _ in range(parallel)))

    await timed("record, batches of 200, 2 at a time", len(events), lambda: record_all(200, 2))
    await backlog(store, options.backlog, keys[0])
    print(await store.check() or "check: all is well")
    await store.close()


def rss() -> str:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return f"{pages * os.sysconf('SC_PAGE_SIZE') / 1e6:.0f} MB"


async def backlog(store: Any, count: int, endpoint: EndpointKey) -> None:
    print(f"memory before the backlog: {rss()}")

    async def fill() -> None:
        for at in range(0, count, 2000):
            await asyncio.gather(
                *(
                    store.accept([new_event(endpoint, claimed=False) for _ in range(200)])
                    for _ in range(at, min(at + 2000, count), 200)
                )
            )

    await timed(f"accept of a backlog of {count:,}, batches of 200", count, fill)
    print(f"memory with the backlog: {rss()}")

    async def look(query: DeliveryQuery) -> None:
        await store.deliveries(query, cursor=None, limit=50)

    for query in (
        DeliveryQuery(status=DeliveryStatus.PENDING),
        DeliveryQuery(endpoint=endpoint.name),
        DeliveryQuery(status=DeliveryStatus.DEAD_LETTERED, endpoint=endpoint.name),
        DeliveryQuery(status=DeliveryStatus.DELIVERED),
        DeliveryQuery(event_type="none.such"),
        DeliveryQuery(channel="none_such"),
    ):
        shown = ", ".join(f"{k}={getattr(query, k)}" for k in ("endpoint", "status", "event_type", "channel"))
        await timed(f"list {shown.replace('None', '')}"[:44], 1, partial(look, query))
    drained = min(count, 50_000)

    async def claim_only() -> None:
        left = drained
        while left > 0:
            found = await store.claim(
                endpoint, now_ms=CLOCK.now_ms() + 10_000, limit=200, max_bytes=1 << 22, ordered=False
            )
            left -= len(found.jobs)
            await store.record([success(job.delivery_id, endpoint) for job in found.jobs], {})

    await timed("drain: claim 200, record 200", drained, claim_only)
    print(f"peak memory: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000:.0f} MB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=60_000)
    parser.add_argument("--endpoints", type=int, default=1)
    parser.add_argument("--callers", type=int, default=256)
    parser.add_argument("--backlog", type=int, default=200_000)
    parser.add_argument("--folder", type=Path, default=None)
    options = parser.parse_args()
    settings = Settings()
    model = next(
        (line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line),
        "?",
    )
    print(
        f"{model}, {len(os.sched_getaffinity(0))} of {os.cpu_count()} cores, {platform.release()}, "
        f"CPython {platform.python_version()}, SQLite {apsw.sqlite_lib_version()}"
    )
    print(f"synchronous={settings.synchronous}, page {settings.page_bytes}, 1 KiB events, one delivery each")
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        uvloop.run(run(options, Path(folder)))


if __name__ == "__main__":
    main()
