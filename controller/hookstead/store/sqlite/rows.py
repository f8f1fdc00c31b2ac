"""Many rows in one statement.

Every `sqlite3_step` gives the interpreter lock away and takes it back; with a busy event loop beside the writer that
is the dearest thing a row can do. So a batch is a few statements of 64, 16, 4 or 1 rows each, all of them prepared.
`OR FAIL`: a constraint that breaks rolls the whole group back anyway, so SQLite need not journal the statement.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from typing import Any, Final

import apsw

Value = int | str | bytes | None
SIZES: Final = (64, 16, 4, 1)


def numbers(values: Iterable[int]) -> apsw.CArrayBinding:
    """Row numbers as one parameter, for `carray(?)`. SQLite refuses an empty one."""
    return apsw.carray(array("q", values))


def fetch(connection: apsw.Connection, sql: str, bindings: apsw.Bindings = ()) -> list[Any]:
    """All rows. Their types are the query's business, which no type checker reads."""
    return connection.execute(sql, bindings).fetchall()


def fetch_one(connection: apsw.Connection, sql: str, bindings: apsw.Bindings = ()) -> Any:
    """The first row, None where there is none."""
    return connection.execute(sql, bindings).fetchone()


class MultiRow:
    """One statement with a VALUES list in its middle. `{}` in `sql` is where the rows go."""

    def __init__(self, sql: str, width: int) -> None:
        head, tail = sql.split("{}")
        row = "(" + ",".join("?" * width) + ")"
        self._width = width
        self._texts = [(size, head + ",".join([row] * size) + tail) for size in SIZES]

    def run(self, connection: apsw.Connection, flat: Sequence[Value]) -> None:
        """`flat`: the rows' values one after the other."""
        start, end = 0, len(flat)
        for size, text in self._texts:
            step = size * self._width
            while end - start >= step:
                connection.execute(text, flat[start : start + step])
                start += step


INSERT_EVENTS: Final = MultiRow(
    "INSERT OR FAIL INTO events (seq, id, type, channels, accepted_ms, endpoints, timestamp, source, traceparent,"
    " digest, data) VALUES {}",
    11,
)
INSERT_CALLERS: Final = MultiRow(
    "INSERT OR FAIL INTO callers (event_seq, key, digest, event_id, endpoints) VALUES {}", 5
)
INSERT_DELIVERIES: Final = MultiRow(
    "INSERT OR FAIL INTO deliveries (seq, id, event_seq, endpoint_id, type, status, attempt_count,"
    " schedule_position, payload_format, origin, in_order, created_ms, next_attempt_ms) VALUES {}",
    13,
)
INSERT_ATTEMPTS: Final = MultiRow(
    "INSERT OR FAIL INTO attempts (seq, delivery_seq, number, started_ms, duration_ms, trigger, succeeded,"
    " status_code, error, message, next_attempt_ms, response_body) VALUES {}",
    12,
)
UPDATE_DELIVERIES: Final = MultiRow(
    "WITH new (seq, status, cancel_reason, attempt_count, schedule_position, next_attempt_ms, completed_ms, manual)"
    " AS (VALUES {})"
    " UPDATE OR FAIL deliveries SET status = new.status, cancel_reason = new.cancel_reason,"
    " attempt_count = new.attempt_count, schedule_position = new.schedule_position,"
    " next_attempt_ms = new.next_attempt_ms, completed_ms = new.completed_ms,"
    " manual_due_ms = CASE new.manual WHEN 1 THEN NULL ELSE manual_due_ms END"
    " FROM new WHERE deliveries.seq = new.seq",
    8,
)
REPLACE_RECENT: Final = MultiRow("REPLACE INTO recent (endpoint_id, slot, attempt_seq) VALUES {}", 3)
REPLACE_LANES: Final = MultiRow("REPLACE INTO lanes (endpoint_id, state) VALUES {}", 2)
ADD_COUNTS: Final = MultiRow(
    "INSERT INTO counts (endpoint_id, accepted, pending, delivered, dead_lettered, cancelled) VALUES {}"
    " ON CONFLICT (endpoint_id) DO UPDATE SET accepted = accepted + excluded.accepted,"
    " pending = pending + excluded.pending, delivered = delivered + excluded.delivered,"
    " dead_lettered = dead_lettered + excluded.dead_lettered, cancelled = cancelled + excluded.cancelled",
    6,
)
ADD_HOURS: Final = MultiRow(
    "INSERT INTO hours (hour, endpoint_id, succeeded, failed, dead_lettered) VALUES {}"
    " ON CONFLICT (hour, endpoint_id) DO UPDATE SET succeeded = succeeded + excluded.succeeded,"
    " failed = failed + excluded.failed, dead_lettered = dead_lettered + excluded.dead_lettered",
    5,
)
