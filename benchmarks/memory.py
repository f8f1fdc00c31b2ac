"""Memory of the whole product from 0 to a large backlog: events queued for a Paused endpoint.

The product is `hookstead dev` on a folder with one endpoint; everything stays on loopback. Resident memory is read at
the start, once events were accepted and delivered (which fills the caches, whatever is queued later), at growing
backlogs of the endpoint, Paused then, after a restart on the same store, and, with --drain, when the backlog is
delivered. The promise: at 1 M queued at most 16 MiB above none queued.

    python benchmarks/memory.py [--events 100000] [--million] [--bytes 1024] [--warm 20000] [--drain]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp
from loopback import Receiver
from machine import describe

BATCH = 500
"""Events in one request; with 1 KiB each it stays well below the largest batch."""
PROMISE_MIB = 16
MILLION = 1_000_000


@dataclass(frozen=True, slots=True)
class Row:
    """One look at the process. MiB; `peak` is of the present life of the process."""

    when: str
    queued: int
    rss: float
    peak: float
    store: float


def manifests(port: int, *, state: str) -> str:
    """An Enabled environment with one endpoint."""
    documents = (
        {
            "apiVersion": "hookstead.dev/v1alpha1",
            "kind": "WebhookEnvironment",
            "metadata": {"name": "default"},
            "spec": {
                "state": "Enabled",
                "egress": {"plaintextHTTP": "Allow", "privateNetworks": "Allow", "allowedCIDRs": ["127.0.0.0/8"]},
            },
        },
        {
            "apiVersion": "hookstead.dev/v1alpha1",
            "kind": "WebhookEndpoint",
            "metadata": {"name": "queue"},
            "spec": {"url": f"http://127.0.0.1:{port}/hook", "state": state},
        },
    )
    return "\n---\n".join(json.dumps(document) for document in documents)


@dataclass(frozen=True, slots=True)
class Product:
    """A running `hookstead dev`."""

    pid: int
    url: str
    admin: str
    folder: Path

    def look(self, when: str, queued: int) -> Row:
        status = Path(f"/proc/{self.pid}/status").read_text()

        def of(name: str) -> float:
            return int(status.partition(f"{name}:")[2].split()[0]) / 1024

        size = sum(file.stat().st_size for file in (self.folder / "state").glob("store.*"))
        return Row(when, queued, of("VmRSS"), of("VmHWM"), size / 2**20)


@asynccontextmanager
async def product(folder: Path) -> AsyncIterator[Product]:
    """Stopped when the block ends; its log lines go to stderr."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "hookstead.cli.main", "dev", folder / "manifests", "--state-dir", folder / "state"),
        *("--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--drain-seconds", "1"),
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    reading: asyncio.Task[bytes] | None = None
    try:
        found: dict[str, str] = {}
        async with asyncio.timeout(120):
            while len(found) < 2:
                line = (await process.stdout.readline()).decode()
                if not line:
                    raise SystemExit("the product ended while it started")
                name, _, rest = line.partition(": ")
                if name in ("events", "health"):
                    found[name] = rest.strip()
        reading = asyncio.create_task(process.stdout.read())
        yield Product(
            process.pid, found["events"].removesuffix("/v1/events"), found["health"].removesuffix("/healthz"), folder
        )
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()
        if reading is not None:
            await reading


def batches(events: int, size: int, *, first: int) -> Iterator[bytes]:
    """Requests with that many events in all, each of about `size` bytes."""
    text = "x" * size
    for start in range(first, first + events, BATCH):
        numbers = range(start, min(start + BATCH, first + events))
        items = (f'{{"type":"a.b","id":"e-{number}","data":{{"text":"{text}"}}}}' for number in numbers)
        yield f"[{','.join(items)}]".encode()


async def publish(session: aiohttp.ClientSession, target: Product, events: int, size: int, *, first: int) -> None:
    headers = {"content-type": "application/json"}
    for body in batches(events, size, first=first):
        async with session.post(f"{target.url}/v1/events/batch", data=body, headers=headers) as answer:
            items = (await answer.json())["items"] if answer.status == 202 else []
            if not items or any(item["status"] != 202 for item in items):
                raise SystemExit(f"refused with {answer.status}: {(await answer.text())[:300]}")


async def pending(session: aiohttp.ClientSession, target: Product) -> int:
    async with session.get(f"{target.admin}/metrics") as answer:
        lines = (await answer.text()).splitlines()
    wanted = (line for line in lines if line.startswith("hookstead_deliveries{") and 'status="Pending"' in line)
    return round(sum(float(line.rpartition(" ")[2]) for line in wanted))


async def drained(session: aiohttp.ClientSession, target: Product, events: int) -> None:
    """Wait until nothing is pending."""
    deadline = time.monotonic() + 60 + events / 500
    while await pending(session, target):
        if time.monotonic() > deadline:
            raise SystemExit("the backlog was not delivered in time")
        await asyncio.sleep(1)


async def paused(session: aiohttp.ClientSession, target: Product) -> None:
    """Wait until the folder's change is in force."""
    for _ in range(100):
        async with session.get(f"{target.url}/v1/endpoints/queue") as answer:
            conditions = (await answer.json())["conditions"]
        if any(one["type"] == "Active" and one["reason"] == "Paused" for one in conditions):
            return
        await asyncio.sleep(0.1)
    raise SystemExit("the endpoint was not paused")


async def measure(*, events: int, size: int, warm: int, drain: bool) -> list[Row]:
    rows: list[Row] = []
    receiver = await asyncio.get_running_loop().create_server(lambda: Receiver(lambda: None), "127.0.0.1", 0)
    port = receiver.sockets[0].getsockname()[1]
    with tempfile.TemporaryDirectory(prefix="hookstead-memory-") as name:
        folder = Path(name)
        (folder / "manifests").mkdir()
        file = folder / "manifests" / "all.yaml"
        file.write_text(manifests(port, state="Enabled"))
        async with receiver, aiohttp.ClientSession() as session:
            async with product(folder) as target:
                rows.append(target.look("started", 0))
                await publish(session, target, warm, size, first=0)
                await drained(session, target, warm)
                rows.append(target.look("warm", 0))
                file.write_text(manifests(port, state="Paused"))
                await paused(session, target)
                queued = 0
                for goal in steps(events):
                    await publish(session, target, goal - queued, size, first=warm + queued)
                    queued = goal
                    rows.append(target.look("queued", queued))
            async with product(folder) as target:
                rows.append(target.look("restarted", await pending(session, target)))
                if drain:
                    file.write_text(manifests(port, state="Enabled"))
                    await drained(session, target, events)
                    rows.append(target.look("delivered", 0))
    return rows


def steps(events: int) -> list[int]:
    """Backlogs to stop at: powers of ten up to the last."""
    return [goal for goal in (1000, 10_000, 100_000, MILLION) if goal < events] + [events]


def print_table(rows: list[Row]) -> None:
    print(f"{'':<10} {'queued':>9} {'RSS MiB':>8} {'peak MiB':>9} {'above start':>12} {'store MiB':>10}")
    start = rows[0].rss
    for row in rows:
        print(
            f"{row.when:<10} {row.queued:>9} {row.rss:>8.1f} {row.peak:>9.1f}"
            f" {row.rss - start:>+12.1f} {row.store:>10.1f}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--events", type=int, default=100_000)
    parser.add_argument("--million", action="store_true", help="1,000,000 events; about 2 GiB of disk")
    parser.add_argument("--bytes", type=int, default=1024, help="of each event's data")
    parser.add_argument("--warm", type=int, default=20_000, help="events that are delivered before anything is queued")
    parser.add_argument("--drain", action="store_true", help="deliver the backlog at the end, and measure that too")
    given = parser.parse_args()
    events = MILLION if given.million else given.events
    print("\n".join(describe("apsw", "msgspec")))
    rows = asyncio.run(measure(events=events, size=given.bytes, warm=given.warm, drain=given.drain))
    print_table(rows)
    warm, queued = (next(row for row in reversed(rows) if row.when == when) for when in ("warm", "queued"))
    print(f"{queued.queued} queued above none: {queued.rss - warm.rss:+.1f} MiB (promised: at most {PROMISE_MIB})")


if __name__ == "__main__":
    main()
