"""Accepted and delivered events a second, and CPU time an event, of the whole product on one core.

The product is `hookstead dev` on a folder of generated manifests: auth off, matching by channel, a caller's id on every
event (idempotency), the SQLite store with synchronous=FULL, signing on. It is pinned to one core; the producers and
the receiver share another. Everything stays on loopback.

    python benchmarks/pipeline.py [--events 20000] [--endpoints 1 500] [--connections 64] [--bytes 1024]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import socket
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from loopback import Producer, Receiver, post
from machine import describe

TICKS = os.sysconf("SC_CLK_TCK")
DEADLINE_SECONDS = 180


@dataclass(frozen=True, slots=True)
class Measured:
    endpoints: int
    events: int
    seconds: float
    accept_seconds: float
    cpu_seconds: float
    rss_mib: float
    statuses: dict[int, int]


def manifests(endpoints: int, port: int) -> str:
    """An Enabled environment with that many channels, each with one endpoint on the receiver."""
    documents = [
        {
            "apiVersion": "hookstead.dev/v1alpha1",
            "kind": "WebhookEnvironment",
            "metadata": {"name": "default"},
            "spec": {
                "state": "Enabled",
                "eventValidation": "Enforce",
                "egress": {"plaintextHTTP": "Allow", "privateNetworks": "Allow", "allowedCIDRs": ["127.0.0.0/8"]},
            },
        },
        {
            "apiVersion": "hookstead.dev/v1alpha1",
            "kind": "WebhookEventType",
            "metadata": {"name": "order-created"},
            "spec": {
                "type": "order.created",
                "description": "An order was placed.",
                "schema": {"type": "object", "required": ["text"], "properties": {"text": {"type": "string"}}},
            },
        },
    ]
    for number in range(endpoints):
        documents += [
            {
                "apiVersion": "hookstead.dev/v1alpha1",
                "kind": "WebhookChannel",
                "metadata": {"name": f"client-{number}"},
                "spec": {"channelName": f"client_{number}"},
            },
            {
                "apiVersion": "hookstead.dev/v1alpha1",
                "kind": "WebhookEndpoint",
                "metadata": {"name": f"client-{number}"},
                "spec": {
                    "url": f"http://127.0.0.1:{port}/hooks/{number}",
                    "channelRefs": [{"name": f"client-{number}"}],
                    "eventTypes": ["order.*"],
                },
            },
        ]
    return "\n---\n".join(json.dumps(document) for document in documents)


def requests(events: int, endpoints: int, size: int) -> Iterator[bytes]:
    """That many events of about `size` bytes of data, over all channels in turn."""
    text = "x" * max(1, size - 14)
    for number in range(events):
        body = (
            f'{{"type":"order.created","channels":["client_{number % endpoints}"],"id":"order-{number}",'
            f'"data":{{"text":"{text}"}}}}'
        )
        yield post("/v1/events", body.encode())


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@asynccontextmanager
async def product(folder: Path, core: int, port: int, admin: int) -> AsyncIterator[int]:
    """`hookstead dev`, pinned to a core; yields its process id once it is ready."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "hookstead.cli.main",
        "dev",
        str(folder / "manifests"),
        "--listen",
        f"127.0.0.1:{port}",
        "--admin-listen",
        f"127.0.0.1:{admin}",
        "--state-dir",
        str(folder / "state"),
        stdout=asyncio.subprocess.DEVNULL,
        preexec_fn=lambda: os.sched_setaffinity(0, {core}),
    )
    try:
        await ready(admin)
        yield process.pid
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


async def ready(admin: int) -> None:
    for _ in range(600):
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", admin)
            writer.write(b"GET /readyz HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n\r\n")
            head = await reader.readline()
            writer.close()
            if b" 200 " in head:
                return
        except OSError:
            pass
        await asyncio.sleep(0.1)
    raise SystemExit("the product did not become ready")


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def rss_mib(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) / 1024


async def measure(*, endpoints: int, events: int, connections: int, size: int) -> Measured:
    loop = asyncio.get_running_loop()
    port, admin = free_port(), free_port()
    received, complete = 0, asyncio.Event()

    def count() -> None:
        nonlocal received
        received += 1
        if received >= events:
            complete.set()

    server = await loop.create_server(lambda: Receiver(count), "127.0.0.1", 0)
    with tempfile.TemporaryDirectory(prefix="hookstead-bench-") as name:
        folder = Path(name)
        (folder / "manifests").mkdir()
        (folder / "manifests" / "all.yaml").write_text(manifests(endpoints, server.sockets[0].getsockname()[1]))
        async with product(folder, 0, port, admin) as pid:
            cpu, started = cpu_seconds(pid), time.perf_counter()
            statuses: dict[int, int] = {}
            wire, waits = requests(events, endpoints, size), []
            for _ in range(connections):
                done = asyncio.Event()
                waits.append(done.wait())
                await loop.create_connection(partial(Producer, wire, statuses, done), "127.0.0.1", port)
            await asyncio.wait_for(asyncio.gather(*waits), DEADLINE_SECONDS)
            accepted = time.perf_counter() - started
            await asyncio.wait_for(complete.wait(), DEADLINE_SECONDS)
            seconds = time.perf_counter() - started
            measured = Measured(endpoints, events, seconds, accepted, cpu_seconds(pid) - cpu, rss_mib(pid), statuses)
    server.close()
    return measured


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--events", type=int, default=20_000)
    parser.add_argument("--endpoints", type=int, nargs="+", default=[1, 500])
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--bytes", type=int, default=1024)
    options = parser.parse_args()
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    print(*describe("hookstead", "aiohttp", "httptools", "uvloop", "apsw"), sep="\n")
    print(
        f"settings  {options.events} events of {options.bytes} bytes, {options.connections} connections, "
        "product on core 0, auth off, ids on, eventValidation Enforce, store synchronous=FULL, signing on"
    )
    print(f"{'endpoints':>9} {'events/s':>9} {'accepted/s':>10} {'CPU us/event':>12} {'RSS MiB':>8}  answers")
    for endpoints in options.endpoints:
        found = asyncio.run(
            measure(endpoints=endpoints, events=options.events, connections=options.connections, size=options.bytes)
        )
        print(
            f"{found.endpoints:>9} {found.events / found.seconds:>9.0f} {found.events / found.accept_seconds:>10.0f} "
            f"{found.cpu_seconds / found.events * 1e6:>12.0f} {found.rss_mib:>8.0f}  {found.statuses}"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
