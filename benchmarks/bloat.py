"""What a million events leave behind in PostgreSQL: sizes, dead rows, bloat, and what vacuum did. Prints tables.

Events are accepted and their attempts recorded as a gateway does both, a share of them failing once and claimed again,
by the store alone. `--plain-vacuum` takes the store's own vacuum settings off its tables, for comparison.

    python benchmarks/bloat.py [--events 1000000] [--endpoints 128] [--failing 0.1] [--plain-vacuum]
                               [--naptime 1min]
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections import deque
from dataclasses import replace
from typing import Any

from embedded_store import CLOCK, new_event, success
from machine import describe
from stores_site import SETTINGS, PostgresServer, describe_postgres, postgres_cpu

from hookstead.delivery.ports import DeliveryStatus, EndpointKey, ErrorCode, LaneState, Settlement
from hookstead.store.postgres.opening import open_postgres

BATCH = 64
CALLERS = 4
RETRY_MS = 2000
TABLES = """
SELECT coalesce(parent.relname, c.relname) AS name, count(*) AS parts, sum(pg_relation_size(c.oid))::bigint AS bytes,
  sum(pg_indexes_size(c.oid))::bigint AS index_bytes, sum(s.n_live_tup)::bigint AS live, sum(s.n_dead_tup)::bigint AS dead,
  sum(s.n_tup_upd)::bigint AS updated, sum(s.n_tup_hot_upd)::bigint AS hot, sum(s.autovacuum_count)::bigint AS vacuums
FROM pg_class c JOIN pg_stat_user_tables s ON s.relid = c.oid
LEFT JOIN pg_inherits i ON i.inhrelid = c.oid LEFT JOIN pg_class parent ON parent.oid = i.inhparent
WHERE c.relnamespace = 'hookstead'::regnamespace AND c.relkind = 'r'
GROUP BY 1 HAVING sum(pg_total_relation_size(c.oid)) > 65536 ORDER BY 3 DESC
"""  # noqa: E501  (a table's columns)
INDEXES = """
SELECT c.relname, pg_relation_size(c.oid) AS bytes, i.avg_leaf_density, i.leaf_fragmentation
FROM pg_class c JOIN pg_index x ON x.indexrelid = c.oid JOIN pg_class t ON t.oid = x.indrelid
JOIN pg_am a ON a.oid = c.relam AND a.amname = 'btree', LATERAL pgstatindex(c.oid) i
WHERE c.relnamespace = 'hookstead'::regnamespace AND c.relkind = 'i' AND pg_relation_size(c.oid) > 262144
ORDER BY 2 DESC
"""
PLAIN = """
ALTER TABLE hookstead.pending RESET (autovacuum_vacuum_scale_factor, autovacuum_vacuum_threshold,
  autovacuum_vacuum_cost_delay);
ALTER TABLE hookstead.journal RESET (autovacuum_vacuum_scale_factor, autovacuum_vacuum_threshold,
  autovacuum_vacuum_cost_delay);
"""
HOT = ("pending", "journal", "tallies", "hours", "lanes", "numbering", "members", "callers")


class Work:
    """Events in, attempts out; what failed is claimed again when it is due."""

    def __init__(self, store: Any, options: argparse.Namespace) -> None:
        self._store = store
        self._keys = [EndpointKey(f"client-{n}", f"uid-client-{n}") for n in range(options.endpoints)]
        self._every = round(1 / options.failing) if options.failing else 0
        self._left = options.events
        self._failed: deque[tuple[float, EndpointKey]] = deque()
        self.peaks: dict[str, int] = {}

    async def run(self) -> None:
        await asyncio.gather(*(self._caller() for _ in range(CALLERS)), self._retry())

    async def _caller(self) -> None:
        while self._left > 0:
            size = min(BATCH, self._left)
            self._left -= size
            events = [new_event(self._keys[(self._left + n) % len(self._keys)], claimed=True, named=True)
                      for n in range(size)]  # fmt: skip
            await self._store.accept(events)
            records = []
            for number, event in enumerate(events):
                delivery = event.deliveries[0]
                record = success(delivery.id, delivery.endpoint)
                if self._every and (self._left + number) % self._every == 0:
                    record = failure(record)
                    self._failed.append((time.monotonic() + 1.5 * RETRY_MS / 1000, delivery.endpoint))
                records.append(record)
            lanes = {event.deliveries[0].endpoint: LaneState(last_attempt_ms=CLOCK.now_ms()) for event in events}
            await self._store.record(records, lanes)

    async def _retry(self) -> None:
        """Claims are asked for by endpoint, as lanes do."""
        while self._left > 0 or self._failed:
            await asyncio.sleep(0.25)
            due: set[EndpointKey] = set()
            while self._failed and self._failed[0][0] <= time.monotonic():
                due.add(self._failed.popleft()[1])
            await asyncio.gather(*(self._claimed(endpoint) for endpoint in due))

    async def _claimed(self, endpoint: EndpointKey) -> None:
        found = await self._store.claim(endpoint, now_ms=CLOCK.now_ms(), limit=1000, max_bytes=1 << 24, ordered=False)
        records = [
            replace(success(job.delivery_id, endpoint), settlement=Settlement(status=DeliveryStatus.DELIVERED))
            for job in found.jobs
        ]
        if records:
            await self._store.record(records, {})


def failure(record: Any) -> Any:
    return replace(
        record,
        succeeded=False,
        status_code=503,
        error=ErrorCode.HTTP_STATUS,
        settlement=Settlement(
            status=DeliveryStatus.PENDING, next_attempt_ms=CLOCK.now_ms() + RETRY_MS, schedule_position=1
        ),
    )


async def peaks(server: PostgresServer, name: str, sizes: dict[str, int]) -> None:
    """The largest that the small tables came to be, all through the run."""
    while True:
        for table in HOT:
            rows = await server.execute(f"SELECT pg_total_relation_size('hookstead.{table}')", database=name)
            sizes[table] = max(sizes.get(table, 0), int(rows[0][0]))
        await asyncio.sleep(5)


async def run(server: PostgresServer, options: argparse.Namespace) -> None:
    name = await server.create()
    store = await open_postgres(server.url(name), clock=CLOCK)
    await server.execute("CREATE EXTENSION pgstattuple", database=name)
    if options.plain_vacuum:
        await server.execute(PLAIN, database=name)
    work = Work(store, options)
    watching = asyncio.create_task(peaks(server, name, work.peaks))
    started, cpu = time.perf_counter(), postgres_cpu(server)
    await work.run()
    seconds = time.perf_counter() - started
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)
    print(
        f"{options.events:,} events in {seconds:.0f} s; {(postgres_cpu(server) - cpu) / options.events * 1e6:.0f} µs of"
        " server CPU each, vacuum included"
    )
    await asyncio.sleep(12)  # statistics of idle connections lag by ten
    await show(server, name, options.events, work.peaks)
    print(await store.check() or "check: all is well")
    await store.close()


async def show(server: PostgresServer, name: str, events: int, largest: dict[str, int]) -> None:
    print(f"{'table':<12} {'parts':>5} {'MiB':>8} {'indexes':>8} {'bytes/event':>11} {'rows':>10} {'dead':>8}"
          f" {'updates':>9} {'HOT':>5} {'vacuums':>7} {'peak MiB':>8}")  # fmt: skip
    for row in await server.execute(TABLES, database=name):
        hot = f"{row['hot'] / row['updated']:.0%}" if row["updated"] else ""
        peak = f"{largest[row['name']] / 2**20:.1f}" if row["name"] in largest else ""
        print(
            f"{row['name']:<12} {row['parts']:>5} {row['bytes'] / 2**20:>8.1f} {row['index_bytes'] / 2**20:>8.1f}"
            f" {(row['bytes'] + row['index_bytes']) / events:>11.0f} {row['live']:>10,} {row['dead']:>8,}"
            f" {row['updated']:>9,} {hot:>5} {row['vacuums']:>7} {peak:>8}"
        )
    print(f"{'index':<44} {'MiB':>8} {'leaf density':>12} {'fragmentation':>13}")
    for row in await server.execute(INDEXES, database=name):
        print(f"{row[0]:<44} {row[1] / 2**20:>8.1f} {row[2]:>11.0f}% {row[3]:>12.0f}%")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--endpoints", type=int, default=128)
    parser.add_argument("--failing", type=float, default=0.1)
    parser.add_argument("--plain-vacuum", action="store_true")
    parser.add_argument("--naptime", default="1min")
    options = parser.parse_args()
    settings = SETTINGS | {"autovacuum_naptime": options.naptime}
    with PostgresServer(durable=True, settings=settings) as server:
        print(*describe("hookstead", "asyncpg"), asyncio.run(describe_postgres(server)), sep="\n")
        print(
            f"settings  {options.events} events of 1 KiB with callers' ids, batches of {BATCH} by {CALLERS} callers"
            f" over {options.endpoints} endpoints, {options.failing:.0%} fail once;"
            f" {'plain' if options.plain_vacuum else 'the store’s own'} vacuum settings"
        )
        asyncio.run(run(server, options))
    return 0


if __name__ == "__main__":
    sys.exit(main())
