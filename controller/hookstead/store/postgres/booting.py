"""What a starting engine reads, and the counters that everybody reads."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from hookstead.delivery.ports import (
    ActivityBucket,
    Boot,
    EndpointCounts,
    EndpointKey,
    EndpointWindow,
    LaneState,
    RecentAttempt,
)
from hookstead.store import histogram
from hookstead.store.codec import DELIVERY
from hookstead.store.postgres import ids
from hookstead.store.postgres.recording import BUCKET_MS, HOUR_MS

WINDOW_HOURS: Final = 24
BUCKETS_KEPT_MS: Final = 8 * 24 * HOUR_MS
_RECENT_LIMIT: Final = 20

PLAN_ANEW: Final = "SET LOCAL plan_cache_mode = force_custom_plan"
"""A plan that was kept would compare hundreds of numbers with each of ten thousand rows, one by one."""
COUNTS: Final = """
SELECT e.name, e.uid, c.pending, c.delivered, c.dead_lettered, c.cancelled
FROM hookstead.counts c JOIN hookstead.endpoints e ON e.id = c.endpoint_id
"""
COUNTS_OF: Final = """
SELECT e.name, e.uid, e.pending, e.delivered, e.dead_lettered, e.cancelled, o.last
FROM hookstead.numbering o LEFT JOIN (
  SELECT e.name, e.uid, c.pending, c.delivered, c.dead_lettered, c.cancelled
  FROM hookstead.counts c JOIN hookstead.endpoints e ON e.id = c.endpoint_id
  WHERE $1::bigint[] IS NULL OR c.endpoint_id = ANY ($1)
) e ON true
"""
_NEXT_DUE: Final = """
SELECT e.name, e.uid, least(
  (SELECT p.next_attempt_ms FROM hookstead.pending p WHERE p.endpoint_id = e.id ORDER BY p.next_attempt_ms LIMIT 1),
  (SELECT q.due_ms FROM hookstead.requests q WHERE q.endpoint_id = e.id ORDER BY q.due_ms LIMIT 1)) AS due
FROM hookstead.endpoints e WHERE $1::bigint[] IS NULL OR e.id = ANY ($1)
"""
_RECENT: Final = """
SELECT e.name, e.uid, coalesce(p.id, h.id), coalesce(p.type, h.type), a.started_ms, a.number, a.succeeded,
  a.status_code, a.duration_ms, a.message, a.next_attempt_ms
FROM hookstead.endpoints e CROSS JOIN LATERAL (
  SELECT * FROM hookstead.attempts t WHERE t.endpoint_id = e.id ORDER BY t.seq DESC LIMIT $1
) a
LEFT JOIN LATERAL (SELECT p.seq, p.id, p.type FROM hookstead.pending p WHERE p.seq = a.delivery_seq OFFSET 0) p ON true
LEFT JOIN LATERAL (
  SELECT h.seq, h.id, h.type FROM hookstead.ended h WHERE h.seq = a.delivery_seq AND p.seq IS NULL OFFSET 0) h ON true
WHERE coalesce(p.seq, h.seq) IS NOT NULL AND ($2::bigint[] IS NULL OR e.id = ANY ($2))
ORDER BY a.seq DESC
"""


async def boot(connection: Any, *, recent_limit: int, now_ms: int, endpoints: list[int] | None = None) -> Boot:
    """What is remembered of the endpoints with these numbers, or of all."""
    await connection.execute(PLAN_ANEW)
    return Boot(
        lanes=await _lanes(connection, endpoints),
        counts=counted(await connection.fetch(COUNTS)) if endpoints is None else {},
        windows=await _windows(connection, now_ms, endpoints),
        next_due_ms={
            EndpointKey(name, uid): due
            for name, uid, due in await connection.fetch(_NEXT_DUE, endpoints)
            if due is not None
        },
        recent=await _recent(connection, min(recent_limit, _RECENT_LIMIT), endpoints),
    )


def counted(rows: list[Any]) -> dict[EndpointKey, EndpointCounts]:
    """What the statements COUNTS and COUNTS_OF found."""
    return {EndpointKey(row[0], row[1]): EndpointCounts(*row[2:6]) for row in map(tuple, rows)}


async def _lanes(connection: Any, endpoints: list[int] | None) -> dict[EndpointKey, LaneState]:
    decoder = msgspec.json.Decoder(LaneState)
    rows = await connection.fetch(
        "SELECT e.name, e.uid, l.state FROM hookstead.lanes_now l JOIN hookstead.endpoints e ON e.id = l.endpoint_id"
        " WHERE $1::bigint[] IS NULL OR l.endpoint_id = ANY ($1)",
        endpoints,
    )
    return {EndpointKey(name, uid): decoder.decode(state) for name, uid, state in rows}


async def _windows(connection: Any, now_ms: int, endpoints: list[int] | None) -> dict[EndpointKey, EndpointWindow]:
    rows = await connection.fetch(
        "SELECT e.name, e.uid, sum(h.succeeded)::bigint, sum(h.failed)::bigint, sum(h.dead_lettered)::bigint"
        " FROM hookstead.hours_now h JOIN hookstead.endpoints e ON e.id = h.endpoint_id WHERE h.hour > $1"
        " AND ($2::bigint[] IS NULL OR h.endpoint_id = ANY ($2)) GROUP BY 1, 2",
        now_ms // HOUR_MS - WINDOW_HOURS,
        endpoints,
    )
    return {
        EndpointKey(name, uid): EndpointWindow(succeeded=succeeded, failed=failed, dead_lettered=dead)
        for name, uid, succeeded, failed, dead in rows
    }


async def _recent(
    connection: Any, limit: int, endpoints: list[int] | None
) -> dict[EndpointKey, tuple[RecentAttempt, ...]]:
    found: dict[EndpointKey, list[RecentAttempt]] = {}
    for row in await connection.fetch(_RECENT, limit, endpoints):
        found.setdefault(EndpointKey(row[0], row[1]), []).append(
            RecentAttempt(
                delivery_id=ids.unpack(DELIVERY, row[2]),
                event_type=row[3],
                started_ms=row[4],
                number=row[5],
                succeeded=row[6],
                status_code=row[7],
                duration_ms=row[8],
                message=row[9],
                next_attempt_ms=row[10],
            )
        )
    return {key: tuple(attempts) for key, attempts in found.items()}


async def activity(connection: Any, *, since_ms: int, until_ms: int, bucket_seconds: int) -> list[ActivityBucket]:
    """Consecutive buckets that overlap [since, until). Finer than ten seconds is given as ten seconds.

    A width that is no multiple of ten seconds is rounded up to one, since that is how finely the store counts.
    """
    width = -(-max(bucket_seconds, 1) * 1000 // BUCKET_MS) * BUCKET_MS
    first = since_ms - since_ms % width
    bounds = (first, until_ms + (-until_ms) % width, width)
    sums = {
        row[0]: tuple(row[1:])
        for row in await connection.fetch(
            "SELECT start_ms - start_ms % $3, sum(accepted)::bigint, sum(delivered)::bigint, sum(failed)::bigint,"
            " sum(dead_lettered)::bigint FROM hookstead.buckets_now WHERE start_ms >= $1 AND start_ms < $2 GROUP BY 1",
            *bounds,
        )
    }
    latencies: dict[int, dict[int, int]] = {}
    for start, index, count in await connection.fetch(
        "SELECT start_ms - start_ms % $3, class, sum(count)::bigint FROM hookstead.latencies_now"
        " WHERE start_ms >= $1 AND start_ms < $2 GROUP BY 1, 2",
        *bounds,
    ):
        latencies.setdefault(start, {})[index] = count
    return [
        _bucket(start, sums.get(start, (0, 0, 0, 0)), latencies.get(start, {}))
        for start in range(first, until_ms, width)
    ]


def _bucket(start: int, sums: tuple[int, ...], latencies: dict[int, int]) -> ActivityBucket:
    accepted, delivered, failed, dead_lettered = sums
    return ActivityBucket(
        start_ms=start,
        accepted=accepted,
        delivered=delivered,
        failed=failed,
        dead_lettered=dead_lettered,
        p50_ms=histogram.percentile(latencies, 0.5),
        p99_ms=histogram.percentile(latencies, 0.99),
    )
