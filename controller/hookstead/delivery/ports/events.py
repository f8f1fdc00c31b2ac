"""An event on its way into the store, and what the store says to it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from hookstead.delivery.ports.deliveries import EndpointKey
from hookstead.resources.kinds import PayloadFormat


class CallerId(NamedTuple):
    """The caller's idempotency key. Native ids live in space "", CloudEvents in the space of their source."""

    space: str
    id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NewDelivery:
    """A delivery to be created with its event. `claimed`: it is already on its way in this process."""

    id: str
    endpoint: EndpointKey
    payload_format: PayloadFormat
    claimed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class NewEvent:
    """An event as it was accepted. `timestamp` and `data` are JSON text, byte for byte the caller's.

    `source` is the CloudEvents source, None for native events. `digest` covers type, channels, timestamp and data.
    """

    id: str
    type: str
    channels: tuple[str, ...]
    timestamp: bytes
    data: bytes
    digest: bytes
    accepted_ms: int
    caller_id: CallerId | None = None
    source: str | None = None
    traceparent: str | None = None
    deliveries: tuple[NewDelivery, ...] = ()


@dataclass(frozen=True, slots=True)
class Accepted:
    """The event is on stable storage, with its deliveries."""

    id: str
    endpoints: int


@dataclass(frozen=True, slots=True)
class Duplicate:
    """The caller's id was seen before with the same content; `id` and `endpoints` are the first's."""

    id: str
    endpoints: int


@dataclass(frozen=True, slots=True)
class Clash:
    """The caller's id was seen before with other content; `id` is the first event's."""

    id: str
