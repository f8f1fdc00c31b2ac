"""How long an event takes from its 202, and from its POST, to the receiver: an idle box, events at a steady pace.

    python benchmarks/latency.py [--events 2000] [--per-second 100] [--black-holes 0]

`--black-holes N` adds N endpoints that get every second event and whose receiver accepts connections and never
answers; the healthy endpoint's figures with and without them tell whether one delays another. Loopback only.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import tempfile
import time
from pathlib import Path

from loopback import Receiver, post
from machine import describe
from pipeline import free_port, manifests, product


class Stamps:
    """When each event was posted, answered and received, by its number."""

    def __init__(self) -> None:
        self.posted: dict[int, float] = {}
        self.accepted: dict[int, float] = {}
        self.received: dict[int, float] = {}


class StampingReceiver(Receiver):
    def __init__(self, stamps: Stamps) -> None:
        super().__init__(lambda: None)
        self._stamps = stamps

    def data_received(self, data: bytes) -> None:
        start = data.rfind(b'"text":"n')
        if start >= 0:
            number = int(data[start + 9 : data.index(b"n", start + 9)])
            self._stamps.received.setdefault(number, time.perf_counter())
        super().data_received(data)


class Silent(asyncio.Protocol):
    """Accepts, reads, never answers."""


def percentile(values: list[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] * 1000


async def publish(port: int, stamps: Stamps, events: int, per_second: float, black_holes: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    started = time.perf_counter()
    for number in range(events):
        delay = started + number / per_second - time.perf_counter()
        if delay > 0:
            await asyncio.sleep(delay)
        channels = ["client_0"]
        if black_holes and number % 2:
            channels.append(f"client_{1 + number // 2 % black_holes}")
        body = json.dumps(
            {"type": "order.created", "channels": channels, "data": {"text": f"n{number}n" + "x" * 1000}},
            separators=(",", ":"),
        ).encode()
        stamps.posted[number] = time.perf_counter()
        writer.write(post("/v1/events", body))
        answer = await reader.readuntil(b"\r\n\r\n")
        stamps.accepted[number] = time.perf_counter()
        length = int(answer.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
        await reader.readexactly(length)
        if not answer.startswith(b"HTTP/1.1 202"):
            raise SystemExit(answer.decode())
    writer.close()


async def measure(*, events: int, per_second: float, black_holes: int) -> Stamps:
    loop = asyncio.get_running_loop()
    stamps = Stamps()
    healthy = await loop.create_server(lambda: StampingReceiver(stamps), "127.0.0.1", 0)
    silent = await loop.create_server(Silent, "127.0.0.1", 0, backlog=4096)
    with tempfile.TemporaryDirectory(prefix="hookstead-bench-") as name:
        folder = Path(name)
        (folder / "manifests").mkdir()
        healthy_port, silent_port = (server.sockets[0].getsockname()[1] for server in (healthy, silent))
        text = manifests(1 + black_holes, healthy_port).replace(
            f"http://127.0.0.1:{healthy_port}/hooks/", f"http://127.0.0.1:{silent_port}/hooks/"
        )
        text = text.replace(f'"http://127.0.0.1:{silent_port}/hooks/0"', f'"http://127.0.0.1:{healthy_port}/hooks/0"')
        (folder / "manifests" / "all.yaml").write_text(text)
        port, admin = free_port(), free_port()
        async with product(folder, 0, port, admin):
            await publish(port, Stamps(), 50, per_second, black_holes)  # connections and caches
            await publish(port, stamps, events, per_second, black_holes)
            await asyncio.sleep(0.5)
    healthy.close()
    silent.close()
    return stamps


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--events", type=int, default=2000)
    parser.add_argument("--per-second", type=float, default=100)
    parser.add_argument("--black-holes", type=int, nargs="+", default=[0])
    options = parser.parse_args()
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    print(*describe("hookstead", "uvloop", "apsw"), sep="\n")
    print(f"settings  {options.events} events of 1 KiB at {options.per_second:g}/s, product on core 0, store FULL")
    print(f"{'black holes':>11} {'received':>9} {'202 to receipt, ms':>27} {'POST to receipt, ms':>27}")
    print(f"{'':>11} {'':>9} {'p50':>13} {'p99':>13} {'p50':>13} {'p99':>13}")
    for black_holes in options.black_holes:
        stamps = asyncio.run(measure(events=options.events, per_second=options.per_second, black_holes=black_holes))
        got = sorted(stamps.received)
        since_accepted = [stamps.received[number] - stamps.accepted[number] for number in got]
        since_posted = [stamps.received[number] - stamps.posted[number] for number in got]
        print(
            f"{black_holes:>11} {len(got):>4}/{options.events:<4} "
            f"{percentile(since_accepted, 0.5):>13.2f} {percentile(since_accepted, 0.99):>13.2f} "
            f"{percentile(since_posted, 0.5):>13.2f} {percentile(since_posted, 0.99):>13.2f}"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
