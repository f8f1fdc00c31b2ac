"""What the statuses of all kinds are made of: conditions from verdicts, activity, and the bound on their size.

Pure: time is handed in. The kinds themselves are in `config/status.py` and its neighbours.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypeVar

import msgspec

from hookstead.config.model import EnvironmentConfig, Finding, Verdict
from hookstead.resources.conditions import (
    Condition,
    ConditionStatus,
    ConditionType,
    Reason,
    merge,
    ready_summary,
    shorten,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from hookstead.config.report import NamedActivity

Status: TypeAlias = dict[str, Any]

STATUS_LIMIT: Final = 16 * 1024
"""Bytes of one status as JSON."""
ECHO_LIMIT: Final = 128
"""Characters of an annotation's value that status echoes."""

TRUE, FALSE, UNKNOWN = ConditionStatus.TRUE, ConditionStatus.FALSE, ConditionStatus.UNKNOWN


@dataclass(frozen=True, slots=True, kw_only=True)
class Programming:
    """Whether every live gateway runs the configuration of an object's generation, and if not, why."""

    status: ConditionStatus = ConditionStatus.TRUE
    reason: Reason = Reason.PROGRAMMED
    message: str = "Every live gateway runs this generation."

    @property
    def holds(self) -> bool:
        return self.status is ConditionStatus.TRUE


PROGRAMMED: Final = Programming()


def pending(message: str) -> Programming:
    """A live gateway runs something else still."""
    return Programming(status=FALSE, reason=Reason.PENDING, message=message)


def gateway_unavailable(message: str) -> Programming:
    """No gateway lives, or one does not answer."""
    return Programming(status=FALSE, reason=Reason.GATEWAY_UNAVAILABLE, message=message)


ENVIRONMENT_MISSING: Final = Finding(
    reason=Reason.ENVIRONMENT_MISSING,
    message='No WebhookEnvironment "default" in this namespace. Apply one to switch webhooks on here.',
)
_ENVIRONMENT_DISABLED: Final = Finding(
    reason=Reason.ENVIRONMENT_DISABLED,
    message='WebhookEnvironment "default" is Disabled: set spec.state to Enabled to let deliveries flow.',
)


def closed_environment(environment: EnvironmentConfig | None) -> Finding | None:
    if environment is None:
        return ENVIRONMENT_MISSING
    return None if environment.enabled else _ENVIRONMENT_DISABLED


def unaccepted(verdict: Verdict) -> Finding | None:
    """Why the object is not accepted; None where it is."""
    return None if verdict.is_accepted else verdict.accepted


def active(closed: Finding | None, generation: int) -> Condition:
    """The condition Active: True, or False for what is closed."""
    if closed is None:
        return condition(ConditionType.ACTIVE, TRUE, Reason.ACTIVE, "Deliveries may flow.", generation)
    return condition(ConditionType.ACTIVE, FALSE, closed.reason, closed.message, generation)


def judged(verdict: Verdict, programmed: Programming, generation: int) -> list[Condition]:
    """Accepted, ResolvedRefs, Programmed, and their summary."""
    three = [
        judgement(ConditionType.ACCEPTED, verdict.accepted, Reason.ACCEPTED, generation),
        judgement(ConditionType.RESOLVED_REFS, verdict.resolved, Reason.RESOLVED_REFS, generation),
        condition(ConditionType.PROGRAMMED, programmed.status, programmed.reason, programmed.message, generation),
    ]
    return [*three, *ready_summary(three, observed_generation=generation)]


def judgement(kind: ConditionType, finding: Finding, good: Reason, generation: int) -> Condition:
    """A finding as a condition, True where its reason is the good one."""
    status = TRUE if finding.reason is good else FALSE
    return condition(kind, status, finding.reason, finding.message, generation)


def condition(kind: ConditionType, status: ConditionStatus, reason: Reason, message: str, generation: int) -> Condition:
    """A condition of this generation, its transition time still to be merged."""
    return Condition(type=kind, status=status, reason=reason, message=message, observed_generation=generation)


def merged_conditions(desired: Sequence[Condition], previous: Mapping[str, Any], now: datetime) -> list[Status]:
    """`status.conditions`, with the transition times of `previous` where nothing flipped."""
    merged = merge(previous_conditions(previous), desired, now=now)
    return [msgspec.to_builtins(item) for item in merged]


def previous_conditions(previous: Mapping[str, Any]) -> list[Condition]:
    """What can be read of the conditions that stand in the object: somebody else may have written them."""
    found = (converted(item, Condition) for item in items_of(previous.get("conditions")))
    return [item for item in found if item is not None]


def named_activity(
    activity: NamedActivity | None, previous: Mapping[str, Any], *, fields: Sequence[str]
) -> Status | None:
    """The fields asked for; without a report, what stood there before."""
    if activity is None:
        before = previous.get("activity")
        return before if isinstance(before, dict) else None
    told = plain(activity)
    return {name: told[name] for name in fields if name in told}


Value = TypeVar("Value")


def converted(raw: object, wanted: type[Value]) -> Value | None:
    """A part of a status that stands in an object; None where it is absent or not of that form."""
    if raw is None:
        return None
    try:
        return msgspec.convert(raw, wanted)
    except msgspec.ValidationError:
        return None


def items_of(raw: object) -> list[Any]:
    """The list, or none where it is something else."""
    return raw if isinstance(raw, list) else []


def plain(value: msgspec.Struct) -> Status:
    """The value's serial form, without what it does not have."""
    return without_none(msgspec.to_builtins(value))


def without_none(body: Status) -> Status:
    """The body without the fields that are None."""
    return {key: value for key, value in body.items() if value is not None}


def echo(value: str | None) -> str | None:
    """An annotation's value, as much of it as status may hold."""
    return None if value is None else value[:ECHO_LIMIT]


def milliseconds(moment: datetime) -> int:
    """Since the Unix epoch; `moment` must be aware."""
    return int(moment.astimezone(UTC).timestamp() * 1000)


def bounded(body: Status) -> Status:
    """The body without absent fields, at most STATUS_LIMIT bytes: old deliveries go first, then words."""
    made = without_none(body)
    while _size(made) > STATUS_LIMIT and made.get("recentDeliveries"):
        kept = made["recentDeliveries"][:-1]
        made = {**made, "recentDeliveries": kept} if kept else _omit(made, "recentDeliveries")
    limit = 512
    while _size(made) > STATUS_LIMIT and limit >= 64:
        shorter = [{**item, "message": shorten(item["message"], limit)} for item in made["conditions"]]
        made = {**made, "conditions": shorter}
        limit //= 2
    return made


def _omit(body: Status, field: str) -> Status:
    return {key: value for key, value in body.items() if key != field}


def _size(body: Status) -> int:
    return len(msgspec.json.encode(body))
