"""What must always hold in a store, checked against the rows themselves."""

from __future__ import annotations

from typing import Any, Final

from hookstead.store.conservation import conservation

_RECOUNT: Final = """
SELECT coalesce(e.name, 'number ' || c.endpoint_id), c.accepted, c.pending, c.delivered, c.dead_lettered, c.cancelled,
  coalesce(p.pending, 0), coalesce(r.delivered, 0) + c.retired_delivered,
  coalesce(r.dead_lettered, 0) + c.retired_dead_lettered, coalesce(r.cancelled, 0) + c.retired_cancelled
FROM hookstead.counts c LEFT JOIN hookstead.endpoints e ON e.id = c.endpoint_id
LEFT JOIN (SELECT endpoint_id, count(*) AS pending FROM hookstead.pending GROUP BY 1) p USING (endpoint_id)
LEFT JOIN (
  SELECT endpoint_id, count(*) FILTER (WHERE status = 1) AS delivered,
    count(*) FILTER (WHERE status = 2) AS dead_lettered, count(*) FILTER (WHERE status = 3) AS cancelled
  FROM hookstead.ended GROUP BY 1) r USING (endpoint_id)
"""
_SECONDS: Final = 3600.0
"""How long one of the questions may take: each looks at every row."""
_BOTH: Final = (
    "(SELECT seq, endpoint_id, event_seq, origin, created_ms, attempt_count FROM hookstead.pending"
    " UNION ALL SELECT seq, endpoint_id, event_seq, origin, created_ms, attempt_count FROM hookstead.ended) d"
)

_OF_ALL: Final = "SELECT count(*) FROM " + _BOTH  # noqa: S608 - a text of ours
_NONE_OF: Final[dict[str, str]] = {
    "{} deliveries of endpoints without counters": _OF_ALL
    + " WHERE NOT EXISTS (SELECT FROM hookstead.counts c WHERE c.endpoint_id = d.endpoint_id)",
    "{} counters of endpoints that are not there": "SELECT count(*) FROM hookstead.counts c"
    " WHERE NOT EXISTS (SELECT FROM hookstead.endpoints e WHERE e.id = c.endpoint_id)",
    "{} deliveries without their event": _OF_ALL
    + " LEFT JOIN hookstead.events e ON e.seq = d.event_seq WHERE e.seq IS NULL",
    "{} deliveries that are both pending and ended": "SELECT count(*) FROM hookstead.pending p"
    " WHERE EXISTS (SELECT FROM hookstead.ended h WHERE h.seq = p.seq)"
    " OR EXISTS (SELECT FROM hookstead.ended h WHERE h.id = p.id)",
    # Those of a day that was dropped as a whole wait for the end of their own day.
    "{} attempts without their delivery": "SELECT count(*) FROM hookstead.attempts a LEFT JOIN "  # noqa: S608 - a text of ours
    + _BOTH
    + " ON d.seq = a.delivery_seq WHERE d.seq IS NULL AND a.delivery_seq >= coalesce("
    "(SELECT value FROM hookstead.marks WHERE name = 'dropped_seq'), 0)",
    "{} deliveries whose cancellation and reason disagree": "SELECT count(*) FROM hookstead.ended"
    " WHERE (status = 3) <> (cancel_reason IS NOT NULL)",
    "{} deliveries that are to be sent although their payload is gone": "SELECT count(*) FROM"
    " (SELECT event_seq FROM hookstead.pending UNION ALL SELECT event_seq FROM hookstead.requests) d"
    " JOIN hookstead.events e ON e.seq = d.event_seq WHERE e.data IS NULL",
    "{} requests without their delivery": "SELECT count(*) FROM hookstead.requests q LEFT JOIN "  # noqa: S608 - a text of ours
    + _BOTH
    + " ON d.seq = q.seq WHERE d.seq IS NULL",
    "{} claims without a member": "SELECT count(*) FROM hookstead.claims c"
    " WHERE NOT EXISTS (SELECT FROM hookstead.members m WHERE m.owner = c.owner)",
    "{} callers' ids that are not to be forgotten, or were": "SELECT count(*) FROM hookstead.callers c"
    " FULL JOIN (SELECT unnest(keys) AS key FROM hookstead.caller_batches) b ON b.key = c.key"
    " WHERE b.key IS NULL OR c.key IS NULL",
    "{} deliveries with attempts beyond their attempt count": _OF_ALL  # noqa: S608 - a text of ours
    + " JOIN (SELECT delivery_seq, max(number) AS number FROM hookstead.attempts GROUP BY 1) a"
    " ON a.delivery_seq = d.seq WHERE d.attempt_count < a.number",
    "{} events whose deliveries were not numbered behind them": _OF_ALL
    + " JOIN hookstead.events e ON e.seq = d.event_seq"
    " WHERE d.origin <> 2 AND (d.seq <= e.seq OR d.seq > e.seq + e.endpoints)",
    "{} events numbered before their time": "SELECT count(*) FROM hookstead.events WHERE seq < accepted_ms << 10",
    "{} deliveries numbered before their time": _OF_ALL + " WHERE d.seq < d.created_ms << 10",
    "{} events numbered beyond the last number": "SELECT count(*) FROM hookstead.events e, hookstead.numbering n"
    " WHERE e.seq > n.last",
    "{} deliveries numbered beyond the last number": _OF_ALL + ", hookstead.numbering n WHERE d.seq > n.last",
}


async def check(connection: Any) -> list[str]:
    """Sentences that say what is wrong."""
    await connection.execute(f"SET LOCAL statement_timeout = {int(_SECONDS * 1000)}")
    wrong: list[str] = []
    for row in await connection.fetch(_RECOUNT, timeout=_SECONDS):
        wrong += conservation(row[0], row[1], tuple(row[2:6]), tuple(row[6:10]))
    for sentence, query in _NONE_OF.items():
        found = await connection.fetchval(query, timeout=_SECONDS)
        if found:
            wrong.append(sentence.format(found))
    return wrong
