"""Counters that change in the transaction of what they count, so that nothing is ever found out by counting history.

Per endpoint: deliveries by status (for good) and attempts by hour (a day). For the environment: buckets of ten
seconds with a latency histogram (a week).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import apsw

from hookstead.delivery.ports import ActivityBucket
from hookstead.store import histogram
from hookstead.store.codec import DEAD_LETTERED, DELIVERED
from hookstead.store.sqlite.rows import ADD_COUNTS, ADD_HOURS, Value, fetch_one

BUCKET_MS: Final = 10_000
HOUR_MS: Final = 3_600_000
WINDOW_HOURS: Final = 24
BUCKETS_KEPT_MS: Final = 8 * 24 * HOUR_MS


class _Bucket:
    __slots__ = ("accepted", "dead_lettered", "delivered", "failed", "latencies")

    def __init__(self) -> None:
        self.accepted = self.delivered = self.failed = self.dead_lettered = 0
        self.latencies: dict[int, int] = {}


class Deltas:
    """What one transaction adds to the counters; small, flushed once at its end."""

    def __init__(self) -> None:
        self._counts: dict[int, list[int]] = {}
        self._hours: dict[tuple[int, int], list[int]] = {}
        self._buckets: dict[int, _Bucket] = {}

    def _bucket(self, at_ms: int) -> _Bucket:
        start = at_ms - at_ms % BUCKET_MS
        found = self._buckets.get(start)
        if found is None:
            found = self._buckets[start] = _Bucket()
        return found

    def event(self, at_ms: int) -> None:
        self._bucket(at_ms).accepted += 1

    def created(self, endpoint_id: int) -> None:
        """One more delivery, Pending."""
        row = self._counts.get(endpoint_id)
        if row is None:
            row = self._counts[endpoint_id] = [0, 0, 0, 0, 0]
        row[0] += 1
        row[1] += 1

    def moved(self, endpoint_id: int, before: int, after: int, *, rows: int = 1) -> None:
        """`rows` deliveries changed their status."""
        row = self._counts.get(endpoint_id)
        if row is None:
            row = self._counts[endpoint_id] = [0, 0, 0, 0, 0]
        row[1 + before] -= rows
        row[1 + after] += rows

    def attempt(
        self, endpoint_id: int, *, ended_ms: int, duration_ms: int, succeeded: bool, before: int, after: int
    ) -> None:
        bucket = self._bucket(ended_ms)
        hour = self._hours.setdefault((ended_ms // HOUR_MS, endpoint_id), [0, 0, 0])
        index = histogram.class_of(duration_ms)
        bucket.latencies[index] = bucket.latencies.get(index, 0) + 1
        if succeeded:
            hour[0] += 1
        else:
            hour[1] += 1
            bucket.failed += 1
        if before != after:
            self.moved(endpoint_id, before, after)
            if after == DELIVERED:
                bucket.delivered += 1
            elif after == DEAD_LETTERED:
                hour[2] += 1
                bucket.dead_lettered += 1

    def flush(self, connection: apsw.Connection) -> None:
        if self._counts:
            counts: list[Value] = []
            for endpoint_id, row in self._counts.items():
                counts += (endpoint_id, *row)
            ADD_COUNTS.run(connection, counts)
            self._counts.clear()
        if self._hours:
            hours: list[Value] = []
            for key, tally in self._hours.items():
                hours += (*key, *tally)
            ADD_HOURS.run(connection, hours)
            self._hours.clear()
        for start, bucket in self._buckets.items():
            _add_bucket(connection, start, bucket)
        self._buckets.clear()


def _add_bucket(connection: apsw.Connection, start: int, bucket: _Bucket) -> None:
    latencies = bucket.latencies
    if latencies:
        found = fetch_one(connection, "SELECT latencies FROM buckets WHERE start_ms = ?", (start,))
        if found:
            histogram.add_packed(latencies, found[0])
    connection.execute(
        "INSERT INTO buckets (start_ms, accepted, delivered, failed, dead_lettered, latencies)"
        " VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (start_ms) DO UPDATE SET accepted = accepted + excluded.accepted,"
        " delivered = delivered + excluded.delivered, failed = failed + excluded.failed,"
        " dead_lettered = dead_lettered + excluded.dead_lettered,"
        " latencies = CASE length(excluded.latencies) WHEN 0 THEN latencies ELSE excluded.latencies END",
        (
            start,
            bucket.accepted,
            bucket.delivered,
            bucket.failed,
            bucket.dead_lettered,
            histogram.pack(latencies),
        ),
    )


def activity(
    connection: apsw.Connection, *, since_ms: int, until_ms: int, bucket_seconds: int
) -> Sequence[ActivityBucket]:
    """Consecutive buckets that overlap [since, until). Finer than ten seconds is given as ten seconds.

    A width that is no multiple of ten seconds is rounded up to one, since that is how finely the store counts.
    """
    width = -(-max(bucket_seconds, 1) * 1000 // BUCKET_MS) * BUCKET_MS
    first = since_ms - since_ms % width
    sums: dict[int, _Bucket] = {}
    for start, accepted, delivered, failed, dead, latencies in connection.execute(
        "SELECT start_ms, accepted, delivered, failed, dead_lettered, latencies FROM buckets"
        " WHERE start_ms >= ? AND start_ms < ?",
        (first, until_ms + (-until_ms) % width),
    ):
        into = sums.setdefault(start - start % width, _Bucket())
        into.accepted += accepted
        into.delivered += delivered
        into.failed += failed
        into.dead_lettered += dead
        histogram.add_packed(into.latencies, latencies)
    empty = _Bucket()
    return [_shown(start, sums.get(start, empty)) for start in range(first, until_ms, width)]


def _shown(start: int, bucket: _Bucket) -> ActivityBucket:
    return ActivityBucket(
        start_ms=start,
        accepted=bucket.accepted,
        delivered=bucket.delivered,
        failed=bucket.failed,
        dead_lettered=bucket.dead_lettered,
        p50_ms=histogram.percentile(bucket.latencies, 0.5),
        p99_ms=histogram.percentile(bucket.latencies, 0.99),
    )
