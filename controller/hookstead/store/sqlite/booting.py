"""What a starting engine reads, and the counters that everybody reads."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import apsw
import msgspec

from hookstead.delivery.ports import (
    Boot,
    EndpointCounts,
    EndpointKey,
    EndpointWindow,
    LaneState,
    RecentAttempt,
)
from hookstead.store.codec import DELIVERY, unpack_id
from hookstead.store.sqlite.rollups import HOUR_MS, WINDOW_HOURS

_RECENT: Final = """
SELECT r.endpoint_id, d.id, d.type, a.started_ms, a.number, a.succeeded, a.status_code, a.duration_ms, a.message,
  a.next_attempt_ms
FROM recent r CROSS JOIN attempts a ON a.seq = r.attempt_seq CROSS JOIN deliveries d ON d.seq = a.delivery_seq
ORDER BY r.attempt_seq DESC
"""
_NEXT_DUE: Final = """
SELECT c.endpoint_id,
  (SELECT next_attempt_ms FROM deliveries INDEXED BY deliveries_due
   WHERE endpoint_id = c.endpoint_id AND status = 0 ORDER BY next_attempt_ms LIMIT 1),
  (SELECT manual_due_ms FROM deliveries INDEXED BY deliveries_manual
   WHERE endpoint_id = c.endpoint_id AND manual_due_ms IS NOT NULL ORDER BY manual_due_ms LIMIT 1)
FROM counts c
"""

Names = Mapping[int, EndpointKey]


def boot(connection: apsw.Connection, names: Names, *, recent_limit: int, now_ms: int) -> Boot:
    return Boot(
        lanes=_lanes(connection, names),
        counts=counts(connection, names),
        windows=_windows(connection, names, now_ms),
        next_due_ms=_next_due(connection, names),
        recent=_recent(connection, names, recent_limit),
    )


def counts(connection: apsw.Connection, names: Names) -> dict[EndpointKey, EndpointCounts]:
    found = connection.execute("SELECT endpoint_id, pending, delivered, dead_lettered, cancelled FROM counts")
    # One look at each name: the writer forgets endpoints meanwhile.
    return {key: EndpointCounts(*row[1:]) for row in found if (key := names.get(row[0])) is not None}


def _lanes(connection: apsw.Connection, names: Names) -> dict[EndpointKey, LaneState]:
    decoder = msgspec.json.Decoder(LaneState)
    found = connection.execute("SELECT endpoint_id, state FROM lanes")
    return {names[number]: decoder.decode(state) for number, state in found if number in names}


def _windows(connection: apsw.Connection, names: Names, now_ms: int) -> dict[EndpointKey, EndpointWindow]:
    found = connection.execute(
        "SELECT endpoint_id, sum(succeeded), sum(failed), sum(dead_lettered) FROM hours"
        " WHERE hour > ? GROUP BY endpoint_id",
        (now_ms // HOUR_MS - WINDOW_HOURS,),
    )
    return {
        names[number]: EndpointWindow(succeeded=succeeded, failed=failed, dead_lettered=dead)
        for number, succeeded, failed, dead in found
        if number in names
    }


def _next_due(connection: apsw.Connection, names: Names) -> dict[EndpointKey, int]:
    due: dict[EndpointKey, int] = {}
    for number, automatic, manual in connection.execute(_NEXT_DUE):
        instants = [instant for instant in (automatic, manual) if instant is not None]
        if instants and number in names:
            due[names[number]] = min(instants)
    return due


def _recent(connection: apsw.Connection, names: Names, limit: int) -> dict[EndpointKey, tuple[RecentAttempt, ...]]:
    found: dict[EndpointKey, list[RecentAttempt]] = {}
    for row in connection.execute(_RECENT):
        attempts = found.setdefault(names[row[0]], []) if row[0] in names else []
        if row[0] in names and len(attempts) < limit:
            attempts.append(
                RecentAttempt(
                    delivery_id=unpack_id(DELIVERY, row[1]),
                    event_type=row[2],
                    started_ms=row[3],
                    number=row[4],
                    succeeded=bool(row[5]),
                    status_code=row[6],
                    duration_ms=row[7],
                    message=row[8],
                    next_attempt_ms=row[9],
                )
            )
    return {key: tuple(attempts) for key, attempts in found.items() if attempts}
