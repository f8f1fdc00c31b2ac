"""Events in: idempotency, numbering, and the rows of an event and its deliveries."""

from __future__ import annotations

from collections.abc import Sequence

from hookstead.delivery.ports import Accepted, Clash, Duplicate, NewDelivery, NewEvent
from hookstead.store.codec import (
    DELIVERY,
    EVENT,
    FORMAT_CODES,
    PENDING,
    caller_key,
    pack_channels,
    pack_id,
)
from hookstead.store.sqlite.claims import Held
from hookstead.store.sqlite.group import Group

Outcome = Accepted | Duplicate | Clash

_SCHEDULED = 0


def caller_keys(events: Sequence[NewEvent]) -> list[bytes]:
    return [caller_key(event.caller_id) for event in events if event.caller_id is not None]


def accept(group: Group, events: Sequence[NewEvent]) -> list[Outcome]:
    """Buffer the events; those whose caller's id is known change nothing. `group.load_callers` came before."""
    return [_accept(group, event) for event in events]


def _accept(group: Group, event: NewEvent) -> Outcome:
    endpoints = len(event.deliveries)
    key: bytes | None = None
    if event.caller_id is not None:
        key = caller_key(event.caller_id)
        first = group.seen_callers.get(key)
        if first is not None:
            digest, first_id, first_endpoints = first
            return Duplicate(first_id, first_endpoints) if digest == event.digest else Clash(first_id)
    seq = group.context.numbering.take(event.accepted_ms, 1 + endpoints)
    packed = pack_id(EVENT, event.id)
    group.events += (
        seq,
        packed,
        event.type,
        pack_channels(event.channels),
        event.accepted_ms,
        endpoints,
        event.timestamp,
        event.source,
        event.traceparent,
        event.digest,
        event.data,
    )
    if key is not None:
        group.callers += (seq, key, event.digest, packed, endpoints)
        group.seen_callers[key] = (event.digest, event.id, endpoints)
    group.deltas.event(event.accepted_ms)
    for row, delivery in enumerate(event.deliveries, start=seq + 1):
        _create(group, event, delivery, event_seq=seq, seq=row)
    return Accepted(event.id, endpoints)


def _create(group: Group, event: NewEvent, delivery: NewDelivery, *, event_seq: int, seq: int) -> None:
    endpoint_id = group.endpoint_id(delivery.endpoint)
    group.deliveries += (
        seq,
        pack_id(DELIVERY, delivery.id),
        event_seq,
        endpoint_id,
        event.type,
        PENDING,
        0,
        0,
        FORMAT_CODES[delivery.payload_format],
        _SCHEDULED,
        1,
        event.accepted_ms,
        event.accepted_ms,
    )
    group.deltas.created(endpoint_id)
    if delivery.claimed:
        group.claimed.append((delivery.id, Held(seq, endpoint_id, next_attempt_ms=event.accepted_ms)))
