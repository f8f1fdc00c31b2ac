"""Does one endpoint that is 500,000 deliveries behind delay the 127 others? Both stores, with and without, in one run.

Two looks at it. `claim`: the store by itself; a healthy endpoint's next delivery is claimed while the backlog waits.
`end to end`: a gateway; events for the healthy endpoints in turn at random moments, from their POST to their receiver,
while the one that is behind has 20 attempts under way at a receiver that takes a second for each.

    python benchmarks/backlog.py [--backlog 500000] [--endpoints 128] [--events 6000] [--per-second 100]
                                 [--claims 2000] [--rounds 3] [--stores sqlite postgres]

The time of a claim needs a quiet machine, as every figure here does that is not CPU time.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import statistics
import sys
import time
from dataclasses import dataclass
from typing import Any

from embedded_store import CLOCK, new_event, success
from latency import StampingReceiver, Stamps, percentile
from loopback import Receiver, post
from machine import describe
from stores_site import SETTINGS, Life, Place, PostgresServer, describe_postgres, objects, place

from hookstead.delivery.ports import EndpointKey
from hookstead.store.opening import open_store
from hookstead.store.postgres.opening import open_postgres

BEHIND = 0
"""The number of the endpoint that is."""
FILL = 500
SLOW_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Found:
    """Milliseconds; `drained`: how many of the backlog's were received meanwhile."""

    claim_p50: float
    claim_p99: float
    p50: float
    p99: float
    drained: int


class Slow(Receiver):
    """Answers a second later."""

    def connection_made(self, transport: Any) -> None:
        self._buffer = b""
        self._transport = Late(transport)  # type: ignore[assignment]  # of what a transport can do it writes only


class Late:
    def __init__(self, transport: Any) -> None:
        self._transport = transport

    def write(self, data: bytes) -> None:
        asyncio.get_running_loop().call_later(SLOW_SECONDS, self._transport.write, data)


def key(number: int) -> EndpointKey:
    """As the configuration has it."""
    return EndpointKey(f"client-{number}", f"uid-client-{number}")


async def opened(here: Place) -> Any:
    if here.server is None:
        return open_store(f"sqlite:{here.home.store}", min_free_bytes=0, clock=CLOCK)
    return await open_postgres(here.server.url(here.database), clock=CLOCK)


async def fill(store: Any, count: int) -> None:
    """A backlog at the one endpoint."""
    for at in range(0, count, 4 * FILL):
        sizes = [min(FILL, count - start) for start in range(at, min(at + 4 * FILL, count), FILL)]
        await asyncio.gather(
            *(store.accept([new_event(key(BEHIND), claimed=False) for _ in range(size)]) for size in sizes)
        )


async def claims(store: Any, count: int, endpoints: int) -> list[float]:
    """How long the claim of a healthy endpoint's one delivery takes, the next when the last was recorded."""
    times: list[float] = []
    for number in range(count):
        endpoint = key(1 + number % (endpoints - 1))
        await store.accept([new_event(endpoint, claimed=False)])
        started = time.perf_counter()
        found = await store.claim(endpoint, now_ms=CLOCK.now_ms() + 1000, limit=20, max_bytes=1 << 20, ordered=False)
        times.append(time.perf_counter() - started)
        assert len(found.jobs) == 1
        await store.record([success(found.jobs[0].delivery_id, endpoint)], {})
    return times


async def end_to_end(life: Life, stamps: Stamps, options: argparse.Namespace) -> None:
    """Events for the healthy endpoints in turn, at random moments that are the same in every case."""
    host, port = life.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    gaps, due = random.Random(options.events), time.perf_counter()
    for number in range(options.events):
        due += gaps.expovariate(options.per_second)
        if (delay := due - time.perf_counter()) > 0:
            await asyncio.sleep(delay)
        channel = f"client_{1 + number % (options.endpoints - 1)}"
        body = f'{{"type":"order.created","channels":["{channel}"],"data":{{"text":"n{number}n{"x" * 1000}"}}}}'
        stamps.posted[number] = time.perf_counter()
        writer.write(post("/v1/events", body.encode()))
        answer = await reader.readuntil(b"\r\n\r\n")
        if not answer.startswith(b"HTTP/1.1 202"):
            raise SystemExit(answer.decode())
        await reader.readexactly(int(answer.lower().partition(b"content-length:")[2].split(b"\r\n")[0]))
    writer.close()


async def measure(server: PostgresServer | None, backlog: int, options: argparse.Namespace) -> Found:
    loop = asyncio.get_running_loop()
    stamps, behind = Stamps(), [0]

    def one_less() -> None:
        behind[0] += 1

    quick = await loop.create_server(lambda: StampingReceiver(stamps), "127.0.0.1", 0)
    slow = await loop.create_server(lambda: Slow(one_less), "127.0.0.1", 0)
    urls = [f"http://127.0.0.1:{one.sockets[0].getsockname()[1]}" for one in (quick, slow)]
    async with place(server, objects(options.endpoints, {BEHIND: urls[1]}, urls[0])) as here:
        store = await opened(here)
        await fill(store, backlog)
        if server is not None:
            await here.ask("VACUUM ANALYZE")
        alone = await claims(store, options.claims, options.endpoints)
        await store.close()
        await here.start(1)
        await asyncio.sleep(8)  # who was there before has left; caches are warm
        stamps.received.clear()
        await end_to_end(here.gateways[0], stamps, options)
        await asyncio.sleep(1)
    for one in (quick, slow):
        one.close()
    if len(stamps.received) < options.events:
        raise SystemExit(f"{len(stamps.received)} of {options.events} events were received")
    waits = [at - stamps.posted[number] for number, at in stamps.received.items()]
    return Found(
        claim_p50=percentile(alone, 0.5),
        claim_p99=percentile(alone, 0.99),
        p50=percentile(waits, 0.5),
        p99=percentile(waits, 0.99),
        drained=behind[0],
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backlog", type=int, default=500_000)
    parser.add_argument("--endpoints", type=int, default=128)
    parser.add_argument("--events", type=int, default=6000)
    parser.add_argument("--per-second", type=float, default=100)
    parser.add_argument("--claims", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--stores", nargs="+", choices=["sqlite", "postgres"], default=["sqlite", "postgres"])
    options = parser.parse_args()
    with PostgresServer(durable=True, settings=SETTINGS) as server:
        print(*describe("hookstead", "asyncpg", "apsw", "uvloop"), asyncio.run(describe_postgres(server)), sep="\n")
        print(
            f"settings  {options.endpoints} endpoints, {options.events} events of 1 KiB at {options.per_second:g}/s"
            f" (Poisson), {options.claims} claims; SQLite FULL; median of {options.rounds}"
        )
        print(f"{'store, backlog':<24} {'claim p50':>10} {'p99, ms':>10} {'POST to receipt p50':>20} {'p99, ms':>10}")
        for name in options.stores:
            on = server if name == "postgres" else None
            rounds = [
                (asyncio.run(measure(on, 0, options)), asyncio.run(measure(on, options.backlog, options)))
                for _ in range(options.rounds)
            ]
            show(name, options.backlog, rounds)
    return 0


def show(name: str, backlog: int, rounds: list[tuple[Found, Found]]) -> None:
    """Medians; and of the rounds' own ratios, since a busy machine is busy in both halves of a round."""
    for place_, size in enumerate((0, backlog)):
        figures = [
            statistics.median(getattr(pair[place_], field) for pair in rounds)
            for field in ("claim_p50", "claim_p99", "p50", "p99")
        ]
        drained = statistics.median(pair[place_].drained for pair in rounds)
        print(
            f"{f'{name}, {size:,}':<24} {figures[0]:>10.2f} {figures[1]:>10.2f} {figures[2]:>20.2f} {figures[3]:>10.2f}"
            + (f"  ({drained:.0f} of the backlog's received meanwhile)" if size else "")
        )
    ratios = [
        statistics.median(getattr(pair[1], field) / getattr(pair[0], field) for pair in rounds)
        for field in ("claim_p50", "claim_p99", "p50", "p99")
    ]
    print(f"{'  with / without':<24} {ratios[0]:>10.2f} {ratios[1]:>10.2f} {ratios[2]:>20.2f} {ratios[3]:>10.2f}")


if __name__ == "__main__":
    sys.exit(main())
