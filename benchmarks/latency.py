"""How long an event takes from its 202, and from its POST, to the receiver: an idle box, events at random moments.

    python benchmarks/latency.py [--events 2000] [--per-second 100] [--rounds 1] [--black-holes 0 1000]
                                  [--busy-black-hole]

`--black-holes N` adds N endpoints that get every second event and whose receiver accepts connections and never
answers; `--busy-black-hole` measures 99 healthy endpoints: alone, and beside one that gets half as many events as all
of them and answers, or never does. The healthy figures tell whether one delays another. `--rounds N` measures every
case N times, in turn, and prints the median of each figure. Loopback only.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
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


@dataclass(frozen=True, slots=True)
class Case:
    """Who gets the events: `healthy` endpoints in turn; of the silent ones, one gets each second event too.

    `busy`: one more endpoint has events of its own, half as many; it is silent if there is a silent one.
    """

    name: str
    healthy: int = 1
    silent: int = 0
    busy: bool = False

    @property
    def endpoints(self) -> int:
        return self.healthy + max(self.silent, int(self.busy))

    def channels(self, number: int) -> list[str]:
        chosen = [f"client_{number % self.healthy}"]
        if self.silent and not self.busy and number % 2:
            chosen.append(f"client_{self.healthy + number // 2 % self.silent}")
        return chosen


async def publish(
    port: int, stamps: Stamps, events: int, per_second: float, channels: Callable[[int], list[str]], *, mark: str = "n"
) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    gaps = random.Random(events)  # the same for every case
    due = time.perf_counter()
    for number in range(events):
        due += gaps.expovariate(per_second)
        delay = due - time.perf_counter()
        if delay > 0:
            await asyncio.sleep(delay)
        body = json.dumps(
            {"type": "order.created", "channels": channels(number), "data": {"text": f"{mark}{number}n" + "x" * 1000}},
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


async def measure(case: Case, *, events: int, per_second: float) -> Stamps:
    loop = asyncio.get_running_loop()
    stamps = Stamps()
    healthy = await loop.create_server(lambda: StampingReceiver(stamps), "127.0.0.1", 0)
    silent = await loop.create_server(Silent, "127.0.0.1", 0, backlog=4096)
    with tempfile.TemporaryDirectory(prefix="hookstead-bench-") as name:
        folder = Path(name)
        (folder / "manifests").mkdir()
        healthy_port, silent_port = (server.sockets[0].getsockname()[1] for server in (healthy, silent))
        text = manifests(case.endpoints, healthy_port)
        for number in range(case.healthy, case.healthy + case.silent):
            hook = f'127.0.0.1:{{}}/hooks/{number}"'
            text = text.replace(hook.format(healthy_port), hook.format(silent_port))
        (folder / "manifests" / "all.yaml").write_text(text)
        port, admin = free_port(), free_port()
        async with product(folder, 0, port, admin):
            await publish(port, Stamps(), max(50, 2 * case.healthy), per_second, case.channels)  # connections, caches
            stamps.received.clear()
            beside = None
            if case.busy:
                busy = [f"client_{case.healthy}"]
                beside = asyncio.create_task(
                    publish(port, Stamps(), events // 2, per_second / 2, lambda _: busy, mark="b")
                )
            await publish(port, stamps, events, per_second, case.channels)
            if beside is not None:
                await beside
            await asyncio.sleep(0.5)
    healthy.close()
    silent.close()
    return stamps


def figures_of(stamps: Stamps) -> tuple[float, ...]:
    """How many were received; p50 and p99 since the 202; p50 and p99 since the POST, in milliseconds."""
    got = stamps.received
    since_accepted = [at - stamps.accepted[number] for number, at in got.items()]
    since_posted = [at - stamps.posted[number] for number, at in got.items()]
    return (len(got), *(percentile(times, share) for times in (since_accepted, since_posted) for share in (0.5, 0.99)))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--events", type=int, default=2000)
    parser.add_argument("--per-second", type=float, default=100)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--black-holes", type=int, nargs="+", default=[0, 1000])
    parser.add_argument("--busy-black-hole", action="store_true")
    options = parser.parse_args()
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    if options.busy_black_hole:
        cases = [
            Case("99 healthy, alone", 99),
            Case("99 healthy, a busy one that answers", 99, busy=True),
            Case("99 healthy, a busy black hole", 99, 1, busy=True),
        ]
    else:
        cases = [Case(f"1 healthy, {silent:,} black holes", 1, silent) for silent in options.black_holes]
    print(*describe("hookstead", "uvloop", "apsw"), sep="\n")
    print(
        f"settings  {options.events} events of 1 KiB at {options.per_second:g}/s (Poisson), product on core 0, ", end=""
    )
    print(f"store FULL, median of {options.rounds}")
    print(f"{'case':<36} {'received':>13} {'202 to receipt, ms':>27} {'POST to receipt, ms':>27}")
    print(f"{'':<36} {'':>13} {'p50':>13} {'p99':>13} {'p50':>13} {'p99':>13}")
    figures: dict[Case, list[tuple[float, ...]]] = {case: [] for case in cases}
    for _, case in itertools.product(range(options.rounds), cases):
        stamps = asyncio.run(measure(case, events=options.events, per_second=options.per_second))
        figures[case].append(figures_of(stamps))
    for case, rounds in figures.items():
        received, *times = (statistics.median(one) for one in zip(*rounds, strict=True))
        print(f"{case.name:<36} {received:>6.0f}/{options.events:<6}", *(f"{one:>13.2f}" for one in times))
    return 0


if __name__ == "__main__":
    sys.exit(main())
