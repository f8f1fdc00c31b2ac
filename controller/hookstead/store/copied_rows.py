"""What each table of a PostgreSQL store is filled with from an SQLite store: numbers and ids stay what they are.

Both count rows in time in the same way, so that the order of deliveries, a replay's position and a mark of retention
mean the same on the other side. Attempts alone are numbered anew, in their order: PostgreSQL counts them by themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from hookstead.store import histogram
from hookstead.store.codec import DELIVERY, EVENT, unpack_id
from hookstead.store.postgres import ids

Row = tuple[Any, ...]
Form = Callable[[Row], Iterable[Row]]


def _as_it_is(row: Row) -> Iterable[Row]:
    return (row,)


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A table, its columns, the question to SQLite that brings them in that order, and what becomes of a row."""

    table: str
    columns: str
    query: str
    form: Form = _as_it_is
    numbered: bool = False
    """Each row gets its place, from 1, in front."""

    def rows(self, found: Iterable[Row]) -> Iterator[Row]:
        """The table's rows, one after the other: nothing is held."""
        formed = (one for row in found for one in self.form(row))
        if not self.numbered:
            yield from formed
            return
        for number, row in enumerate(formed, start=1):
            yield (number, *row)


def _id(prefix: str, stored: bytes | str) -> bytes:
    return stored if isinstance(stored, bytes) else ids.pack(prefix, unpack_id(prefix, stored))


def _text(value: str | None) -> str | None:
    """PostgreSQL's text can hold every character but one."""
    return value if value is None or "\x00" not in value else value.replace("\x00", "\ufffd")


def _endpoint(row: Row) -> Iterable[Row]:
    return ((*row[:3], bool(row[3])),)


def _event(row: Row) -> Iterable[Row]:
    seq, event_id, event_type, channels, accepted, endpoints, stamp, source, traceparent, data = row
    texts = (_text(event_type), _text(channels))
    stored = _id(EVENT, event_id)
    return ((seq, stored, *texts, accepted, endpoints, stamp, _text(source), _text(traceparent), data),)


def _caller(row: Row) -> Iterable[Row]:
    key, event_seq, digest, event_id, endpoints = row
    return ((key, event_seq, digest, _id(EVENT, event_id), endpoints),)


def _delivery(row: Row) -> Iterable[Row]:
    seq, delivery_id, event_seq, endpoint_id, event_type, in_order, *rest = row
    return ((seq, _id(DELIVERY, delivery_id), event_seq, endpoint_id, _text(event_type), bool(in_order), *rest),)


def _attempt(row: Row) -> Iterable[Row]:
    *first, succeeded, message = row
    return ((*first, bool(succeeded), _text(message)),)


def _replay(row: Row) -> Iterable[Row]:
    *first, selecting = row
    return ((*first, bool(selecting)),)


def _latencies(row: Row) -> Iterable[Row]:
    start_ms, packed = row
    counts: dict[int, int] = {}
    histogram.add_packed(counts, packed)
    return ((start_ms, index, count) for index, count in counts.items())


_DELIVERY: Final = (
    "seq, id, event_seq, endpoint_id, type, in_order, attempt_count, schedule_position, payload_format, origin,"
    " created_ms, replay_id"
)
_ATTEMPT: Final = "status_code, error, next_attempt_ms, response_body, succeeded, message"
_REPLAY: Final = (
    "id, uid, name, phase, position, selected, delivered, failed, started_ms, completed_ms, gone_ms, selecting"
)
_COUNTS: Final = (
    "endpoint_id, accepted, pending, delivered, dead_lettered, cancelled, retired_delivered, retired_dead_lettered,"
    " retired_cancelled"
)


def _plain(table: str, columns: str, *, order: str, form: Form = _as_it_is) -> Part:
    """A table that is called and looks the same on both sides."""
    query = f"SELECT {columns} FROM {table} ORDER BY {order}"  # noqa: S608 - texts of ours
    return Part(table=table, columns=columns, query=query, form=form)


PARTS: Final[tuple[Part, ...]] = (
    _plain("endpoints", "id, name, uid, gone", order="id", form=_endpoint),
    Part(
        table="events",
        columns="seq, id, type, channels, accepted_ms, endpoints, stamp, source, traceparent, data",
        query="SELECT seq, id, type, channels, accepted_ms, endpoints, timestamp, source, traceparent, data"
        " FROM events ORDER BY seq",
        form=_event,
    ),
    _plain("callers", "key, event_seq, digest, event_id, endpoints", order="event_seq", form=_caller),
    Part(
        table="pending",
        columns=f"{_DELIVERY}, next_attempt_ms",
        query=f"SELECT {_DELIVERY}, next_attempt_ms FROM deliveries WHERE status = 0 ORDER BY seq",  # noqa: S608 - a text of ours
        form=_delivery,
    ),
    Part(
        table="ended",
        columns=f"{_DELIVERY}, status, cancel_reason, completed_ms",
        query=f"SELECT {_DELIVERY}, status, cancel_reason, completed_ms FROM deliveries WHERE status <> 0 ORDER BY seq",  # noqa: S608 - a text of ours
        form=_delivery,
    ),
    Part(
        table="requests",
        columns="seq, endpoint_id, event_seq, due_ms",
        query="SELECT seq, endpoint_id, event_seq, manual_due_ms FROM deliveries WHERE manual_due_ms IS NOT NULL",
    ),
    Part(
        table="attempts",
        columns=f"seq, delivery_seq, endpoint_id, number, started_ms, ended_ms, duration_ms, trigger, {_ATTEMPT}",
        query="SELECT a.delivery_seq, d.endpoint_id, a.number, a.started_ms, a.started_ms + a.duration_ms,"
        " a.duration_ms, a.trigger, a.status_code, a.error, a.next_attempt_ms, a.response_body, a.succeeded, a.message"
        " FROM attempts a CROSS JOIN deliveries d ON d.seq = a.delivery_seq ORDER BY a.seq",
        form=_attempt,
        numbered=True,
    ),
    _plain("replays", _REPLAY, order="id", form=_replay),
    _plain("lanes", "endpoint_id, state", order="endpoint_id"),
    Part(
        table="tallies",
        columns=f"side, {_COUNTS}",
        query=f"SELECT 2, {_COUNTS} FROM counts ORDER BY endpoint_id",  # noqa: S608 - texts of ours
    ),
    _plain("hours", "hour, endpoint_id, succeeded, failed, dead_lettered", order="hour, endpoint_id"),
    _plain("buckets", "start_ms, accepted, delivered, failed, dead_lettered", order="start_ms"),
    Part(
        table="latencies",
        columns="start_ms, class, count",
        query="SELECT start_ms, latencies FROM buckets ORDER BY start_ms",
        form=_latencies,
    ),
    _plain("blobs", "name, value", order="name"),
    Part(
        table="marks",
        columns="name, value",
        query="SELECT name, value FROM meta WHERE name IN ('payloads_expired_seq', 'events_swept_seq')",
    ),
)
