"""Events in: what the database is given, and what its answer means."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from hookstead.delivery.ports import Accepted, Clash, Duplicate, EndpointKey, NewEvent
from hookstead.store.codec import DELIVERY, EVENT, FORMAT_CODES, caller_key, pack_channels
from hookstead.store.postgres import ids
from hookstead.store.postgres.claims import Held
from hookstead.store.postgres.link import Row

Outcome = Accepted | Duplicate | Clash

STATEMENT: Final = """
SELECT n, seq, event_id, digest, endpoints, endpoint_ids, forgotten FROM hookstead.accept_1(
  $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15,
  $16, $17, $18, $19, $20, $21, $22, $23, $24, $25, $26, $27, $28, $29)
"""
RECALL: Final = """
SELECT NULL::integer AS n, NULL::bigint AS seq, NULL::bytea AS event_id, NULL::bytea AS digest,
  NULL::integer AS endpoints,
  (SELECT array_agg(e.id ORDER BY x.n) FROM unnest($3::text[], $4::text[]) WITH ORDINALITY AS x (name, uid, n)
   LEFT JOIN hookstead.endpoints e ON e.name = x.name AND e.uid = x.uid) AS endpoint_ids, NULL::bigint AS forgotten
UNION ALL
SELECT x.n::integer, e.seq, c.event_id, c.digest, c.endpoints, NULL, NULL
FROM unnest($1::bytea[], $2::bytea[]) WITH ORDINALITY AS x (id, key, n)
LEFT JOIN hookstead.events e ON e.id = x.id LEFT JOIN hookstead.callers c ON c.key = x.key AND e.seq IS NULL
"""
"""What became of events whose answer was lost: their number, or the first with their caller's id."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Packed:
    """An event whose names were checked and brought into the database's form."""

    event: NewEvent
    id: bytes
    channels: str
    key: bytes | None
    deliveries: tuple[bytes, ...]


def pack(event: NewEvent) -> Packed:
    """Raises ValueError for an event whose names can not be kept."""
    return Packed(
        event=event,
        id=ids.pack(EVENT, event.id),
        channels=pack_channels(event.channels),
        key=None if event.caller_id is None else caller_key(event.caller_id),
        deliveries=tuple(ids.pack(DELIVERY, delivery.id) for delivery in event.deliveries),
    )


@dataclass(slots=True)
class EndpointNumbers:
    """The database's numbers of endpoints, as far as they were told. They hold until some are forgotten there, or
    another server takes over: `forgotten` is another one then."""

    forgotten: int = -1
    _known: dict[EndpointKey, int] = field(default_factory=dict)

    def of(self, endpoints: Iterable[EndpointKey]) -> list[int | None]:
        return [self._known.get(key) for key in endpoints]

    def learn(self, told: Iterable[tuple[EndpointKey, int]], *, forgotten: int) -> None:
        if forgotten != self.forgotten:
            self._known.clear()
            self.forgotten = forgotten
        self._known.update(told)


@dataclass(slots=True)
class Batch:
    """Events of one statement. A caller's id is sent once; who follows with it is judged by what the first became."""

    numbers: EndpointNumbers
    events: list[Packed] = field(default_factory=list)
    _sent: list[Packed] = field(default_factory=list)
    _first: dict[bytes, int] = field(default_factory=dict)
    _places: list[int] = field(default_factory=list)
    _endpoints: dict[EndpointKey, int] = field(default_factory=dict)
    outcomes: list[Outcome] = field(default_factory=list)
    held: dict[str, Held] = field(default_factory=dict)

    def add(self, events: Iterable[Packed]) -> None:
        for event in events:
            place = None if event.key is None else self._first.get(event.key)
            if place is None:
                place = len(self._sent)
                self._sent.append(event)
                if event.key is not None:
                    self._first[event.key] = place
            self.events.append(event)
            self._places.append(place)

    def arguments(self) -> tuple[Any, ...]:
        """The arguments of the statement behind owner, batch and lease."""
        sent = self._sent
        given = [one.event for one in sent]
        offsets, extent = [], 0
        for event in given:
            offsets.append(extent)
            extent += 1 + len(event.deliveries)
        times = [event.accepted_ms for event in given]
        return (
            min(times, default=0),
            max(times, default=0),
            extent,
            len(self._first),
            [one.id for one in sent],
            [event.type for event in given],
            [one.channels for one in sent],
            times,
            [len(event.deliveries) for event in given],
            [event.timestamp for event in given],
            [event.source for event in given],
            [event.traceparent for event in given],
            [event.data for event in given],
            [one.key for one in sent],
            [event.digest for event in given],
            offsets,
            *self._deliveries(),
        )

    def _deliveries(self) -> tuple[Any, ...]:
        endpoints = self._endpoints
        rows = [
            (event, place, packed, endpoints.setdefault(new.endpoint, len(endpoints) + 1), new)
            for event, one in enumerate(self._sent, start=1)
            for place, (packed, new) in enumerate(zip(one.deliveries, one.event.deliveries, strict=True), start=1)
        ]
        return (
            [key.name for key in endpoints],
            [key.uid for key in endpoints],
            self.numbers.of(endpoints),
            self.numbers.forgotten,
            [row[0] for row in rows],
            [row[1] for row in rows],
            [row[2] for row in rows],
            [row[3] for row in rows],
            [FORMAT_CODES[row[4].payload_format] for row in rows],
            [row[4].claimed for row in rows],
        )

    def recall(self) -> tuple[Any, ...]:
        return (
            [one.id for one in self._sent],
            [one.key for one in self._sent],
            [key.name for key in self._endpoints],
            [key.uid for key in self._endpoints],
        )

    def answered(self, rows: Sequence[Row]) -> None:
        """Fill in `outcomes`, one for each event, and `held`, what was accepted as claimed."""
        [(number, endpoint_ids, forgotten)] = [(row[1], row[5], row[6]) for row in rows if row[0] is None]
        if forgotten is not None:
            self.numbers.learn(zip(self._endpoints, endpoint_ids, strict=True), forgotten=forgotten)
        by_place = {row[0] - 1: tuple(row)[1:5] for row in rows if row[0] is not None}
        if number is not None:
            for place, one in enumerate(self._sent):
                by_place.setdefault(place, (number, None, b"", 0))
                number += 1 + len(one.deliveries)
        taken: set[int] = set()
        for one, place in zip(self.events, self._places, strict=True):
            seq, known, digest, endpoints = by_place[place]
            first = self._sent[place].event
            if known is not None:
                first_id, first_digest, first_endpoints = ids.unpack(EVENT, known), digest, endpoints
            elif place not in taken:
                taken.add(place)
                self._accepted(first, seq, endpoint_ids)
                continue
            else:
                first_id, first_digest, first_endpoints = first.id, first.digest, len(first.deliveries)
            same = first_digest == one.event.digest
            self.outcomes.append(Duplicate(first_id, first_endpoints) if same else Clash(first_id))

    def _accepted(self, event: NewEvent, seq: int, endpoint_ids: list[int]) -> None:
        self.outcomes.append(Accepted(event.id, len(event.deliveries)))
        for row, delivery in enumerate(event.deliveries, start=seq + 1):
            if delivery.claimed:
                endpoint_id = endpoint_ids[self._endpoints[delivery.endpoint] - 1]
                self.held[delivery.id] = Held(seq=row, endpoint_id=endpoint_id, next_attempt_ms=event.accepted_ms)
