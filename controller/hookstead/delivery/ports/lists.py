"""What was stored, as lists and look-ups show it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

from hookstead.delivery.ports.deliveries import CancelReason, DeliveryStatus, ErrorCode, Trigger

Row = TypeVar("Row", covariant=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryRow:
    id: str
    event_id: str
    event_type: str
    endpoint: str
    channels: tuple[str, ...]
    status: DeliveryStatus
    cancel_reason: CancelReason | None
    attempt_count: int
    created_ms: int
    next_attempt_ms: int | None
    completed_ms: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptRow:
    number: int
    started_ms: int
    trigger: Trigger
    succeeded: bool
    status_code: int
    error: ErrorCode | None
    duration_ms: int
    message: str
    response_body: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class EventRow:
    """`data` is None once the payload was erased or its retention ended, and in lists."""

    id: str
    type: str
    channels: tuple[str, ...]
    timestamp: bytes
    accepted_ms: int
    data: bytes | None = None
    source: str | None = None
    deliveries: tuple[DeliveryRow, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryQuery:
    """Filters of a list of deliveries, newest first; `since_ms` inclusive, `until_ms` exclusive, on creation."""

    endpoint: str | None = None
    status: DeliveryStatus | None = None
    event_type: str | None = None
    channel: str | None = None
    since_ms: int | None = None
    until_ms: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EventQuery:
    event_type: str | None = None
    channel: str | None = None
    since_ms: int | None = None
    until_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Page(Generic[Row]):
    """One page of a list, newest first. `next_cursor` is opaque and stays valid while rows arrive; None = the end."""

    items: tuple[Row, ...]
    next_cursor: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ActivityBucket:
    """What happened in [start_ms, start_ms + width). Latencies are attempt durations; None where none was made."""

    start_ms: int
    accepted: int = 0
    delivered: int = 0
    failed: int = 0
    dead_lettered: int = 0
    p50_ms: int | None = None
    p99_ms: int | None = None


class InvalidCursor(ValueError):
    """The cursor was not given out by this list."""
