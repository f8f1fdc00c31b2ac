"""What must always hold in a store, checked against the rows themselves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import apsw

from hookstead.delivery.ports import EndpointKey
from hookstead.store.conservation import conservation
from hookstead.store.sqlite.rows import fetch, fetch_one

_RECOUNT: Final = """
SELECT c.endpoint_id, c.accepted, c.pending, c.delivered, c.dead_lettered, c.cancelled,
  coalesce(r.pending, 0), coalesce(r.delivered, 0) + c.retired_delivered,
  coalesce(r.dead_lettered, 0) + c.retired_dead_lettered, coalesce(r.cancelled, 0) + c.retired_cancelled
FROM counts c LEFT JOIN (
  SELECT endpoint_id, sum(status = 0) AS pending, sum(status = 1) AS delivered, sum(status = 2) AS dead_lettered,
    sum(status = 3) AS cancelled FROM deliveries GROUP BY endpoint_id) r USING (endpoint_id)
"""

_NONE_OF: Final[tuple[tuple[str, str], ...]] = (
    (
        "{} deliveries of endpoints without counters",
        "SELECT count(*) FROM deliveries WHERE endpoint_id NOT IN (SELECT endpoint_id FROM counts)",
    ),
    (
        "{} deliveries without their event",
        "SELECT count(*) FROM deliveries WHERE event_seq NOT IN (SELECT seq FROM events)",
    ),
    (
        "{} attempts without their delivery",
        "SELECT count(*) FROM attempts WHERE delivery_seq NOT IN (SELECT seq FROM deliveries)",
    ),
    (
        "{} pending deliveries without a next attempt, or with an end",
        "SELECT count(*) FROM deliveries WHERE status = 0 AND (next_attempt_ms IS NULL OR completed_ms IS NOT NULL)",
    ),
    (
        "{} ended deliveries with a next attempt, or without an end",
        "SELECT count(*) FROM deliveries WHERE status <> 0 AND (next_attempt_ms IS NOT NULL OR completed_ms IS NULL)",
    ),
    (
        "{} deliveries whose cancellation and reason disagree",
        "SELECT count(*) FROM deliveries WHERE (status = 3) <> (cancel_reason IS NOT NULL)",
    ),
    (
        "{} deliveries that are to be sent although their payload is gone",
        (
            "SELECT count(*) FROM deliveries d JOIN events e ON e.seq = d.event_seq"
            " WHERE e.data IS NULL AND (d.status = 0 OR d.manual_due_ms IS NOT NULL)"
        ),
    ),
    (
        "{} deliveries with attempts beyond their attempt count",
        (
            "SELECT count(*) FROM deliveries d WHERE attempt_count <"
            " (SELECT coalesce(max(number), 0) FROM attempts a WHERE a.delivery_seq = d.seq)"
        ),
    ),
    (
        "{} events whose deliveries were not numbered behind them",
        (
            "SELECT count(*) FROM deliveries d JOIN events e ON e.seq = d.event_seq"
            " WHERE d.origin <> 2 AND (d.seq <= e.seq OR d.seq > e.seq + e.endpoints)"
        ),
    ),
    (
        "{} rows numbered before their time",
        (
            "SELECT (SELECT count(*) FROM events WHERE seq < accepted_ms << 10)"
            " + (SELECT count(*) FROM deliveries WHERE seq < created_ms << 10)"
        ),
    ),
)


def check(connection: apsw.Connection, names: Mapping[int, EndpointKey]) -> list[str]:
    """Sentences that say what is wrong."""
    wrong = [f"database: {text}" for (text,) in connection.execute("PRAGMA integrity_check") if text != "ok"]
    for row in fetch(connection, _RECOUNT):
        key = names.get(row[0])  # one look: the writer forgets endpoints meanwhile
        endpoint = f"number {row[0]}" if key is None else key.name
        wrong += conservation(endpoint, row[1], row[2:6], row[6:10])
    for sentence, query in _NONE_OF:
        found = fetch_one(connection, query)[0]
        if found:
            wrong.append(sentence.format(found))
    return wrong
