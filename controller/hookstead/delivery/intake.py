"""What comes in: an event as the HTTP shell parsed it, and every answer that publishing it can have."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias

from hookstead.delivery.ports import Accepted, CallerId, Clash, Duplicate


@dataclass(frozen=True, slots=True, kw_only=True)
class IncomingEvent:
    """A syntactically valid event. `data` and `timestamp` are JSON text, byte for byte as they came.

    `timestamp` is None when the caller gave none; the engine then takes the time of acceptance.
    """

    type: str
    data: bytes
    channels: tuple[str, ...] = ()
    timestamp: bytes | None = None
    caller_id: CallerId | None = None
    source: str | None = None
    traceparent: str | None = None


class RefusalKind(StrEnum):
    """Why an event was refused before it was stored."""

    NOT_CONFIGURED = "NotConfigured"
    ENVIRONMENT_DISABLED = "EnvironmentDisabled"
    UNKNOWN_TYPE = "UnknownType"
    ARCHIVED_TYPE = "ArchivedType"
    SCHEMA_MISMATCH = "SchemaMismatch"
    OVER_QUOTA = "OverQuota"
    DRAINING = "Draining"
    SATURATED = "Saturated"
    STORE_UNAVAILABLE = "StoreUnavailable"
    STORE_FULL = "StoreFull"


@dataclass(frozen=True, slots=True)
class Refused:
    """Nothing was stored. `message` says what was expected and what to do; waiting helps where a time is given."""

    kind: RefusalKind
    message: str
    retry_after_seconds: int | None = None


PublishResult: TypeAlias = Accepted | Duplicate | Clash | Refused


@dataclass(frozen=True, slots=True, kw_only=True)
class TestResult:
    """The outcome of a test delivery; it is counted and stored nowhere."""

    __test__ = False

    event_type: str
    succeeded: bool
    status_code: int
    error_code: str | None
    duration_ms: int
    message: str


class OperateRefusal(StrEnum):
    """Why an operation on an endpoint or delivery was not done."""

    NOT_FOUND = "NotFound"
    ENDPOINT_DISABLED = "EndpointDisabled"
    ENVIRONMENT_DISABLED = "EnvironmentDisabled"
    NOT_ACCEPTED = "NotAccepted"
    UNKNOWN_EVENT_TYPE = "UnknownEventType"
    PAYLOAD_ERASED = "PayloadErased"
    UNREADABLE_KEY = "UnreadableKey"
