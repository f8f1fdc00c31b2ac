"""A delivery: whose it is, how it stands, what an attempt needs of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from hookstead.resources.kinds import PayloadFormat


class EndpointKey(NamedTuple):
    """An endpoint's identity. A new object of the same name has another uid and inherits nothing."""

    name: str
    uid: str


class DeliveryStatus(StrEnum):
    PENDING = "Pending"
    DELIVERED = "Delivered"
    DEAD_LETTERED = "DeadLettered"
    CANCELLED = "Cancelled"


class CancelReason(StrEnum):
    ENDPOINT_DELETED = "EndpointDeleted"
    ENDPOINT_DISABLED = "EndpointDisabled"
    PAYLOAD_ERASED = "PayloadErased"
    EXPIRED = "Expired"


class Trigger(StrEnum):
    SCHEDULED = "Scheduled"
    MANUAL = "Manual"
    REPLAY = "Replay"


class ErrorCode(StrEnum):
    DNS = "dns"
    ADDRESS_DENIED = "address-denied"
    CONNECT = "connect"
    TLS = "tls"
    TIMEOUT = "timeout"
    PROTOCOL = "protocol"
    HTTP_STATUS = "http-status"


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A claimed delivery with what an attempt needs.

    `attempt_count` counts every attempt so far; `schedule_position` only those of the present schedule (manual ones
    never move it, a replay resets it). `due_ms` is the scheduled time of the attempt (None for a manual one of a
    delivery that is not pending).
    """

    delivery_id: str
    endpoint: EndpointKey
    event_id: str
    event_type: str
    timestamp: bytes
    data: bytes
    payload_format: PayloadFormat
    trigger: Trigger
    status: DeliveryStatus
    attempt_count: int
    schedule_position: int
    due_ms: int | None
    channels: tuple[str, ...] = ()
    source: str | None = None
    traceparent: str | None = None
    in_order: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """What `claim` found. `next_due_ms`: the earliest pending, unclaimed delivery left behind, None if none is.

    A manual request for a delivery whose scheduled attempt is under way counts as left behind, too.
    """

    jobs: tuple[Job, ...] = ()
    next_due_ms: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Settlement:
    """What becomes of a delivery after an attempt; computed by `delivery.transitions`, applied by the store."""

    status: DeliveryStatus
    next_attempt_ms: int | None = None
    schedule_position: int = 0
    cancel_reason: CancelReason | None = None


Ended = Callable[[EndpointKey, Sequence[str]], None]
"""Told, on the event loop and behind the commit, which deliveries of an endpoint were cancelled; must not raise."""


class RedeliveryRefusal(StrEnum):
    NOT_FOUND = "NotFound"
    PAYLOAD_ERASED = "PayloadErased"
