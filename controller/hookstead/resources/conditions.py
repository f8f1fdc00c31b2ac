"""Conditions: what the controller says about an object, and when that last changed.

Types and reasons are the contract's. Pure: the time of a change is handed in.
"""

from __future__ import annotations

from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Final

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


class ConditionType(StrEnum):
    """In the order in which status lists them."""

    READY = "Ready"
    ACCEPTED = "Accepted"
    RESOLVED_REFS = "ResolvedRefs"
    PROGRAMMED = "Programmed"
    ACTIVE = "Active"
    HEALTHY = "Healthy"
    COMPLETE = "Complete"
    FAILED = "Failed"
    RECONCILING = "Reconciling"
    STALLED = "Stalled"


class ConditionStatus(StrEnum):
    TRUE = "True"
    FALSE = "False"
    UNKNOWN = "Unknown"


class Reason(StrEnum):
    """Why a condition has its status; stable, for programs."""

    # Accepted
    ACCEPTED = "Accepted"
    INVALID_SPEC = "InvalidSpec"
    SCHEMA_INVALID = "SchemaInvalid"
    SAMPLE_INVALID = "SampleInvalid"
    FILTER_INVALID = "FilterInvalid"
    DUPLICATE_CHANNEL_NAME = "DuplicateChannelName"
    DUPLICATE_EVENT_TYPE = "DuplicateEventType"
    ENVIRONMENT_MISSING = "EnvironmentMissing"
    # ResolvedRefs
    RESOLVED_REFS = "ResolvedRefs"
    SECRET_NOT_FOUND = "SecretNotFound"  # noqa: S105  (a reason, no password)
    SECRET_KEY_MISSING = "SecretKeyMissing"  # noqa: S105  (a reason, no password)
    SECRET_NOT_PERMITTED = "SecretNotPermitted"  # noqa: S105  (a reason, no password)
    SECRET_INVALID = "SecretInvalid"  # noqa: S105  (a reason, no password)
    CHANNEL_NOT_FOUND = "ChannelNotFound"
    EVENT_TYPE_NOT_FOUND = "EventTypeNotFound"
    ENDPOINT_NOT_FOUND = "EndpointNotFound"
    # Programmed
    PROGRAMMED = "Programmed"
    PENDING = "Pending"
    GATEWAY_UNAVAILABLE = "GatewayUnavailable"
    # Ready
    READY = "Ready"
    # Active
    ACTIVE = "Active"
    ENVIRONMENT_DISABLED = "EnvironmentDisabled"
    ENDPOINT_DISABLED = "EndpointDisabled"
    CHANNEL_DISABLED = "ChannelDisabled"
    PAUSED = "Paused"
    THROTTLED = "Throttled"
    CIRCUIT_OPEN = "CircuitOpen"
    SUSPENDED = "Suspended"
    GONE = "Gone"
    # Healthy
    SUCCEEDING = "Succeeding"
    FAILING = "Failing"
    NO_RECENT_DELIVERIES = "NoRecentDeliveries"
    # Replays
    RUNNING = "Running"
    COMPLETED = "Completed"
    NOTHING_SELECTED = "NothingSelected"


STALLED_REASONS: Final = frozenset(
    {
        Reason.INVALID_SPEC,
        Reason.SCHEMA_INVALID,
        Reason.SAMPLE_INVALID,
        Reason.FILTER_INVALID,
        Reason.DUPLICATE_CHANNEL_NAME,
        Reason.DUPLICATE_EVENT_TYPE,
    }
)
"""Reasons that no waiting heals: somebody has to edit something. All others are Reconciling."""

MESSAGE_LIMIT: Final = 1024
"""Characters; the CRDs' `maxLength` of a condition's message."""


class Condition(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """One entry of `status.conditions`; its serial form is the API's."""

    type: ConditionType
    status: ConditionStatus
    reason: Reason
    message: str = ""
    observed_generation: int = 0
    last_transition_time: str = ""
    """RFC 3339, seconds, UTC. Empty until `merge` has filled it."""


def merge(previous: Sequence[Condition], desired: Sequence[Condition], *, now: datetime) -> list[Condition]:
    """What `status.conditions` becomes: `desired`, in the order of `ConditionType`.

    `lastTransitionTime` is `now` for a condition that is new or whose status differs from the one in
    `previous`, else the previous one. What `desired` does not mention is dropped. The last entry of a type
    wins. `now` must be aware.
    """
    before = {condition.type: condition for condition in previous}
    stamp = timestamp(now)
    merged = {wanted.type: _carried(before.get(wanted.type), wanted, stamp) for wanted in desired}
    return [merged[kind] for kind in ConditionType if kind in merged]


def _carried(before: Condition | None, wanted: Condition, stamp: str) -> Condition:
    kept = before is not None and before.status is wanted.status and before.last_transition_time != ""
    since = before.last_transition_time if before is not None and kept else stamp
    return msgspec.structs.replace(wanted, last_transition_time=since, message=shorten(wanted.message))


def shorten(message: str, limit: int = MESSAGE_LIMIT) -> str:
    """`message`, cut with an ellipsis to at most `limit` characters."""
    return message if len(message) <= limit else message[: limit - 1] + "…"


def timestamp(moment: datetime) -> str:
    """RFC 3339 in UTC with whole seconds, as Kubernetes writes times. `moment` must be aware."""
    if moment.tzinfo is None:
        raise ValueError("a naive datetime has no place in status: give it a time zone")
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


_SUMMED: Final = (ConditionType.ACCEPTED, ConditionType.RESOLVED_REFS, ConditionType.PROGRAMMED)
_READY_MESSAGE: Final = "The spec is accepted, its references resolve, and every live gateway runs this generation."


def ready_summary(verdicts: Iterable[Condition], *, observed_generation: int) -> list[Condition]:
    """Ready, and Reconciling or Stalled where they are True, from Accepted, ResolvedRefs and Programmed.

    A verdict that a kind does not have (a channel without references) is left out of `verdicts`; other
    types in it are ignored. The first that is not True gives the reason and the message. The health of a
    receiver never counts.
    """
    by_type = {verdict.type: verdict for verdict in verdicts}
    failing = next(
        (by_type[kind] for kind in _SUMMED if kind in by_type and by_type[kind].status is not ConditionStatus.TRUE),
        None,
    )
    if failing is None:
        return [
            Condition(
                type=ConditionType.READY,
                status=ConditionStatus.TRUE,
                reason=Reason.READY,
                message=_READY_MESSAGE,
                observed_generation=observed_generation,
            )
        ]
    progress = ConditionType.STALLED if failing.reason in STALLED_REASONS else ConditionType.RECONCILING
    return [
        Condition(
            type=kind,
            status=status,
            reason=failing.reason,
            message=failing.message,
            observed_generation=observed_generation,
        )
        for kind, status in (
            (ConditionType.READY, ConditionStatus.FALSE),
            (progress, ConditionStatus.TRUE),
        )
    ]
