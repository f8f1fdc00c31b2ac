"""The `status` of each kind, from the compiled object, what the gateways run and what they report.

Pure: time is handed in and nothing is read but the arguments. The operator writes these bodies, the gateway's
query API shows them. A body is complete: what is not in it is to be absent from the object. Never a payload,
a response body, a header value, a secret, or more of a URL than its host.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypeVar

import msgspec

from hookstead.config.model import (
    ChannelConfig,
    DeliveryConfig,
    DeliveryPolicy,
    EndpointConfig,
    EnvironmentConfig,
    EventTypeConfig,
    Finding,
    ReplayConfig,
    StatusReporting,
    Verdict,
)
from hookstead.config.report import (
    EndpointActivity,
    EndpointReport,
    EnvironmentActivity,
    NamedActivity,
    ReplayReport,
)
from hookstead.config.times import format_time
from hookstead.resources.conditions import (
    Condition,
    ConditionStatus,
    ConditionType,
    Reason,
    merge,
    ready_summary,
    shorten,
)
from hookstead.resources.kinds import ChannelState, DeliveryLog, EndpointState

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

Status: TypeAlias = dict[str, Any]

STATUS_LIMIT: Final = 16 * 1024
"""Bytes of one status as JSON."""
RECENT_LIMIT: Final = 20
"""Entries of `recentDeliveries`."""
RECENT_MESSAGE_LIMIT: Final = 256
"""Characters of a recent delivery's message."""
ECHO_LIMIT: Final = 128
"""Characters of an annotation's value that status echoes."""
HELD_REASONS: Final = frozenset({Reason.THROTTLED, Reason.CIRCUIT_OPEN, Reason.SUSPENDED, Reason.GONE})
"""What only a gateway knows: it holds deliveries back beyond what the manifests say."""

_TRUE, _FALSE, _UNKNOWN = ConditionStatus.TRUE, ConditionStatus.FALSE, ConditionStatus.UNKNOWN
_NOTHING: Final[Mapping[str, Any]] = {}
_DEFAULT_REPORTING: Final = StatusReporting()


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
    return Programming(status=_FALSE, reason=Reason.PENDING, message=message)


def gateway_unavailable(message: str) -> Programming:
    """No gateway lives, or one does not answer."""
    return Programming(status=_FALSE, reason=Reason.GATEWAY_UNAVAILABLE, message=message)


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointCounts:
    """How many endpoints there are, and how many of them are Ready, Active, and not Healthy."""

    total: int = 0
    ready: int = 0
    active: int = 0
    failing: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Gateways:
    """The live gateways: how many, how many run the present configuration, and their version ("" unknown)."""

    replicas: int = 0
    programmed_replicas: int = 0
    version: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigSize:
    """The published configuration's digest and encoded size in bytes."""

    hash: str = ""
    bytes: int = 0


# -------------------------------------------------------------------------------------------------- endpoints


def endpoint_status(
    endpoint: EndpointConfig,
    *,
    environment: EnvironmentConfig | None,
    report: EndpointReport | None,
    programmed: Programming,
    previous: Mapping[str, Any],
    now: datetime,
) -> Status:
    """`WebhookEndpoint.status`. Without a report what `previous` says of activity stays as it is."""
    generation = endpoint.identity.generation
    reporting = environment.status_reporting if environment is not None else _DEFAULT_REPORTING
    activity = _activity(report, previous)
    held, held_message = _held(report, previous)
    conditions = [
        *_judged(endpoint.verdict, programmed, generation),
        _active_endpoint(endpoint, environment, held=held, held_message=held_message),
        _healthy(activity, generation),
    ]
    return _bounded(
        {
            "observedGeneration": generation,
            "conditions": _conditions(conditions, previous, now),
            "scope": endpoint.scope.value,
            "host": endpoint.host or None,
            "delivery": effective_delivery(endpoint.delivery),
            "signing": _signing(endpoint, now),
            "activity": _plain(activity) if activity is not None else None,
            "recentDeliveries": _recent(report, previous, reporting) or None,
            "lastHandledReconcileAt": _echo(endpoint.reconcile_requested_at),
            "lastHandledResumeAt": _echo(report.handled_resume_at)
            if report is not None
            else previous.get("lastHandledResumeAt"),
        }
    )


def effective_delivery(policy: DeliveryPolicy) -> Status:
    """`status.delivery`: the values in force, in the shape of `spec.delivery`; no rate means unlimited."""
    return _without_none(
        {
            "timeoutSeconds": policy.timeout_seconds,
            "retry": {"scheduleSeconds": list(policy.schedule_seconds)},
            "requestsPerSecond": policy.requests_per_second,
            "maxInFlight": policy.max_in_flight,
            "ordering": policy.ordering.value,
            "circuitBreaker": policy.circuit_breaker.value,
        }
    )


def _active_endpoint(
    endpoint: EndpointConfig, environment: EnvironmentConfig | None, *, held: Reason | None, held_message: str
) -> Condition:
    generation = endpoint.identity.generation
    closed = _closed_environment(environment)
    if closed is not None:
        return _active(closed, generation)
    if endpoint.state is EndpointState.DISABLED:
        return _active(_DISABLED, generation)
    blocked = _blocked(endpoint)
    if blocked is not None:
        return _active(blocked, generation)
    if endpoint.state is EndpointState.PAUSED:
        return _active(_PAUSED, generation)
    if held is not None:
        return _active(Finding(reason=held, message=held_message or _HELD_MESSAGES.get(held, "")), generation)
    return _active(None, generation)


def _blocked(endpoint: EndpointConfig) -> Finding | None:
    """What in the manifests holds deliveries back: an invalid spec, an unreadable key."""
    if not endpoint.verdict.is_accepted:
        finding = endpoint.verdict.accepted
    elif endpoint.hold is not None and endpoint.hold is not Reason.PAUSED:
        resolved = endpoint.verdict.resolved
        finding = resolved if not endpoint.verdict.is_resolved else Finding(reason=endpoint.hold)
    else:
        return None
    return Finding(reason=finding.reason, message=f"Deliveries are held. {finding.message}".strip())


_DISABLED: Final = Finding(
    reason=Reason.ENDPOINT_DISABLED,
    message="spec.state is Disabled: no event is fanned out to this endpoint.",
)
_PAUSED: Final = Finding(
    reason=Reason.PAUSED,
    message="spec.state is Paused: deliveries queue up and go on when it is Enabled again.",
)
_HELD_MESSAGES: Final[Mapping[Reason, str]] = {
    Reason.THROTTLED: "The receiver asked for a pause (Retry-After); deliveries go on by themselves.",
    Reason.CIRCUIT_OPEN: "Attempts failed in a row; one probe at a time until one succeeds.",
    Reason.SUSPENDED: "Attempts failed for too long. Annotate hookstead.dev/resume-requested-at to go on.",
    Reason.GONE: "The receiver answered 410 Gone. Annotate hookstead.dev/resume-requested-at to go on.",
}


def _held(report: EndpointReport | None, previous: Mapping[str, Any]) -> tuple[Reason | None, str]:
    if report is not None:
        return report.held, report.held_message
    before = next((item for item in _previous_conditions(previous) if item.type is ConditionType.ACTIVE), None)
    if before is not None and before.reason in HELD_REASONS:
        return before.reason, before.message
    return None, ""


def _activity(report: EndpointReport | None, previous: Mapping[str, Any]) -> EndpointActivity | None:
    if report is not None:
        return report.activity
    return _converted(previous.get("activity"), EndpointActivity)


def _healthy(activity: EndpointActivity | None, generation: int) -> Condition:
    if activity is None or activity.last_attempt_time is None:
        status, reason, message = _UNKNOWN, Reason.NO_RECENT_DELIVERIES, "Nothing was attempted yet."
    elif activity.consecutive_failures > 0 or activity.last_success_time is None:
        count = max(1, activity.consecutive_failures)
        status, reason = _FALSE, Reason.FAILING
        message = "The last attempt failed." if count == 1 else "The last attempts in a row failed."
    else:
        status, reason, message = _TRUE, Reason.SUCCEEDING, "The last attempt succeeded."
    return _condition(ConditionType.HEALTHY, status, reason, message, generation)


def _signing(endpoint: EndpointConfig, now: datetime) -> Status | None:
    now_ms = _milliseconds(now)
    active = [key for key in endpoint.keys if key.not_after_ms is None or key.not_after_ms > now_ms]
    expiries = [key.not_after_ms for key in active if key.not_after_ms is not None]
    if not endpoint.keys:
        return None
    return _without_none(
        {
            "activeKeyIDs": [key.id for key in active],
            "nextExpiryTime": format_time(min(expiries)) if expiries else None,
        }
    )


def next_key_expiry_ms(config: DeliveryConfig, *, now_ms: int) -> int | None:
    """When status must be looked at again because a key stops signing; None: never."""
    return min(
        (
            key.not_after_ms
            for endpoint in config.endpoints
            for key in endpoint.keys
            if key.not_after_ms is not None and key.not_after_ms > now_ms
        ),
        default=None,
    )


def _recent(report: EndpointReport | None, previous: Mapping[str, Any], reporting: StatusReporting) -> list[Status]:
    if reporting.delivery_log is DeliveryLog.NONE:
        return []
    lines: Iterable[Mapping[str, Any]]
    if report is not None:
        lines = (_recent_line(msgspec.to_builtins(item)) for item in report.recent_deliveries)
    else:
        lines = (line for line in _list(previous.get("recentDeliveries")) if isinstance(line, dict))
    if reporting.delivery_log is DeliveryLog.FAILURES_ONLY:
        lines = (line for line in lines if line.get("outcome") == "Failed")
    limit = min(reporting.delivery_log_limit, RECENT_LIMIT)
    return [dict(line) for line, _ in zip(lines, range(limit), strict=False)]


def _recent_line(line: Status) -> Status:
    message = line.pop("message", "")
    return {**line, "message": shorten(message, RECENT_MESSAGE_LIMIT)} if message else line


# --------------------------------------------------------------------------------- environment, channel, type


def environment_status(
    environment: EnvironmentConfig,
    *,
    endpoints: EndpointCounts,
    channels: int,
    event_types: int,
    gateways: Gateways,
    config: ConfigSize,
    activity: EnvironmentActivity | None,
    programmed: Programming,
    previous: Mapping[str, Any],
    now: datetime,
    handled_reconcile: str | None = None,
) -> Status:
    """`WebhookEnvironment.status`."""
    generation = environment.identity.generation
    conditions = [
        *_judged(environment.verdict, programmed, generation),
        _active(_closed_environment(environment), generation),
    ]
    return _bounded(
        {
            "observedGeneration": generation,
            "conditions": _conditions(conditions, previous, now),
            "endpoints": {
                "total": endpoints.total,
                "ready": endpoints.ready,
                "active": endpoints.active,
                "failing": endpoints.failing,
            },
            "channels": channels,
            "eventTypes": event_types,
            "gateway": _without_none(
                {
                    "replicas": gateways.replicas,
                    "programmedReplicas": gateways.programmed_replicas,
                    "version": gateways.version or None,
                }
            ),
            "config": {"hash": config.hash, "sizeBytes": config.bytes} if config.hash else None,
            "activity": _plain(activity) if activity is not None else previous.get("activity"),
            "lastHandledReconcileAt": _echo(handled_reconcile),
        }
    )


def channel_status(
    channel: ChannelConfig,
    *,
    environment: EnvironmentConfig | None,
    activity: NamedActivity | None,
    endpoints: int,
    programmed: Programming,
    previous: Mapping[str, Any],
    now: datetime,
    handled_reconcile: str | None = None,
) -> Status:
    """`WebhookChannel.status`; `endpoints`: how many receive through it (`endpoints_by_channel`)."""
    generation = channel.identity.generation
    closed = _closed_environment(environment) or _unaccepted(channel.verdict)
    if closed is None and channel.state is ChannelState.DISABLED:
        closed = Finding(
            reason=Reason.CHANNEL_DISABLED,
            message="spec.state is Disabled: nothing reaches its endpoints through it.",
        )
    conditions = [*_judged(channel.verdict, programmed, generation), _active(closed, generation)]
    return _bounded(
        {
            "observedGeneration": generation,
            "conditions": _conditions(conditions, previous, now),
            "endpoints": endpoints,
            "activity": _named_activity(activity, previous, fields=("accepted", "lastEventTime")),
            "lastHandledReconcileAt": _echo(handled_reconcile),
        }
    )


def event_type_status(
    event_type: EventTypeConfig,
    *,
    environment: EnvironmentConfig | None,
    activity: NamedActivity | None,
    endpoints: int,
    programmed: Programming,
    previous: Mapping[str, Any],
    now: datetime,
    handled_reconcile: str | None = None,
) -> Status:
    """`WebhookEventType.status`; `endpoints`: how many select it (`endpoints_by_event_type`)."""
    generation = event_type.identity.generation
    closed = _closed_environment(environment) or _unaccepted(event_type.verdict)
    conditions = [*_judged(event_type.verdict, programmed, generation), _active(closed, generation)]
    return _bounded(
        {
            "observedGeneration": generation,
            "conditions": _conditions(conditions, previous, now),
            "schemaDigest": event_type.schema_digest,
            "endpoints": endpoints,
            "activity": _named_activity(activity, previous, fields=("accepted", "rejected", "lastEventTime")),
            "lastHandledReconcileAt": _echo(handled_reconcile),
        }
    )


def endpoints_by_channel(config: DeliveryConfig) -> Mapping[str, int]:
    """How many endpoints select each channel, by its wire name. Those of every channel count for none."""
    return Counter(
        name for endpoint in config.endpoints for name in endpoint.channels or () if endpoint.verdict.is_accepted
    )


def endpoints_by_event_type(config: DeliveryConfig) -> Mapping[str, int]:
    """How many endpoints get each declared type, by type; an endpoint without `eventTypes` gets all."""
    selections = Counter(endpoint.event_types for endpoint in config.endpoints if endpoint.verdict.is_accepted)
    counts: Counter[str] = Counter()
    for selection, endpoints in selections.items():
        for event_type in config.event_types:
            if selection is None or any(covers(pattern, event_type.type) for pattern in selection):
                counts[event_type.type] += endpoints
    return counts


def covers(pattern: str, event_type: str) -> bool:
    """Whether one entry of `eventTypes` covers the type: the name itself, or `prefix.*` at any depth."""
    return event_type.startswith(pattern[:-1]) if pattern.endswith(".*") else pattern == event_type


# ---------------------------------------------------------------------------------------------------- replays


def replay_status(
    replay: ReplayConfig,
    *,
    environment: EnvironmentConfig | None,
    report: ReplayReport | None,
    programmed: Programming,
    previous: Mapping[str, Any],
    now: datetime,
    handled_reconcile: str | None = None,
) -> Status:
    """`WebhookReplay.status`. One that has ended stays as it ended, whatever becomes of its endpoint."""
    ended = _ended(previous)
    if ended and (report is None or report.phase is Reason.RUNNING):
        return dict(previous) | _without_none({"lastHandledReconcileAt": _echo(handled_reconcile)})
    generation = replay.identity.generation
    verdict = replay.verdict
    if environment is None and verdict.is_accepted:
        verdict = msgspec.structs.replace(verdict, accepted=_ENVIRONMENT_MISSING)
    judged = [
        _judgement(ConditionType.ACCEPTED, verdict.accepted, Reason.ACCEPTED, generation),
        _judgement(ConditionType.RESOLVED_REFS, verdict.resolved, Reason.RESOLVED_REFS, generation),
    ]
    conditions = [*judged, *_progress(judged, report, programmed=programmed, generation=generation)]
    counted = report if report is not None else _converted(_with_identity(replay, previous), ReplayReport)
    return _bounded(
        {
            "observedGeneration": generation,
            "conditions": _conditions(conditions, previous, now),
            "selected": counted.selected if counted is not None else None,
            "delivered": counted.delivered if counted is not None else None,
            "failed": counted.failed if counted is not None else None,
            "startTime": counted.start_time if counted is not None else None,
            "completionTime": counted.completion_time if counted is not None else None,
            "lastHandledReconcileAt": _echo(handled_reconcile),
        }
    )


_ENDS: Final[Mapping[Reason, tuple[ConditionType, str]]] = {
    Reason.COMPLETED: (ConditionType.COMPLETE, "Every delivery of this replay has ended."),
    Reason.NOTHING_SELECTED: (ConditionType.COMPLETE, "Nothing in the window matched."),
    Reason.ENDPOINT_NOT_FOUND: (ConditionType.FAILED, "The endpoint does not exist."),
    Reason.ENDPOINT_DISABLED: (ConditionType.FAILED, "The endpoint is disabled."),
}


def _progress(
    judged: Sequence[Condition], report: ReplayReport | None, *, programmed: Programming, generation: int
) -> list[Condition]:
    """Ready, what goes with it, and the condition that ends the replay."""
    end = _ENDS.get(report.phase) if report is not None else None
    if report is not None and end is not None:
        kind, text = end
        text = report.message or text
        reason = report.phase
        last = _condition(kind, _TRUE, reason, text, generation)
        if kind is ConditionType.COMPLETE:
            return [_condition(ConditionType.READY, _TRUE, Reason.COMPLETED, text, generation), last]
        # It has ended and is never run again: nobody should wait for it.
        return [
            _condition(ConditionType.READY, _FALSE, reason, text, generation),
            _condition(ConditionType.STALLED, _TRUE, reason, text, generation),
            last,
        ]
    summary = ready_summary(judged, observed_generation=generation)
    if summary[0].status is _FALSE:
        return summary
    if report is None and not programmed.holds:
        reason, text = programmed.reason, programmed.message
    else:
        reason, text = (
            Reason.RUNNING,
            (report.message if report is not None else "") or "The replay is under way.",
        )
    return [
        _condition(ConditionType.READY, _FALSE, reason, text, generation),
        _condition(ConditionType.RECONCILING, _TRUE, reason, text, generation),
    ]


def _ended(previous: Mapping[str, Any]) -> bool:
    ends = (ConditionType.COMPLETE, ConditionType.FAILED)
    return any(item.type in ends and item.status is _TRUE for item in _previous_conditions(previous))


def _with_identity(replay: ReplayConfig, previous: Mapping[str, Any]) -> Mapping[str, Any] | None:
    if "selected" not in previous:
        return None
    return {**previous, "name": replay.identity.name, "uid": replay.identity.uid}


# -------------------------------------------------------------------------------------------- shared by kinds

_ENVIRONMENT_MISSING: Final = Finding(
    reason=Reason.ENVIRONMENT_MISSING,
    message='No WebhookEnvironment "default" in this namespace. Apply one to switch webhooks on here.',
)
_ENVIRONMENT_DISABLED: Final = Finding(
    reason=Reason.ENVIRONMENT_DISABLED,
    message='WebhookEnvironment "default" is Disabled: set spec.state to Enabled to let deliveries flow.',
)


def _closed_environment(environment: EnvironmentConfig | None) -> Finding | None:
    if environment is None:
        return _ENVIRONMENT_MISSING
    return None if environment.enabled else _ENVIRONMENT_DISABLED


def _unaccepted(verdict: Verdict) -> Finding | None:
    return None if verdict.is_accepted else verdict.accepted


def _active(closed: Finding | None, generation: int) -> Condition:
    if closed is None:
        return _condition(ConditionType.ACTIVE, _TRUE, Reason.ACTIVE, "Deliveries may flow.", generation)
    return _condition(ConditionType.ACTIVE, _FALSE, closed.reason, closed.message, generation)


def _judged(verdict: Verdict, programmed: Programming, generation: int) -> list[Condition]:
    """Accepted, ResolvedRefs, Programmed, and their summary."""
    three = [
        _judgement(ConditionType.ACCEPTED, verdict.accepted, Reason.ACCEPTED, generation),
        _judgement(ConditionType.RESOLVED_REFS, verdict.resolved, Reason.RESOLVED_REFS, generation),
        _condition(ConditionType.PROGRAMMED, programmed.status, programmed.reason, programmed.message, generation),
    ]
    return [*three, *ready_summary(three, observed_generation=generation)]


def _judgement(kind: ConditionType, finding: Finding, good: Reason, generation: int) -> Condition:
    status = _TRUE if finding.reason is good else _FALSE
    return _condition(kind, status, finding.reason, finding.message, generation)


def _condition(
    kind: ConditionType, status: ConditionStatus, reason: Reason, message: str, generation: int
) -> Condition:
    return Condition(type=kind, status=status, reason=reason, message=message, observed_generation=generation)


def _conditions(desired: Sequence[Condition], previous: Mapping[str, Any], now: datetime) -> list[Status]:
    merged = merge(_previous_conditions(previous), desired, now=now)
    return [msgspec.to_builtins(item) for item in merged]


def _previous_conditions(previous: Mapping[str, Any]) -> list[Condition]:
    """What can be read of the conditions that stand in the object: somebody else may have written them."""
    found = (_converted(item, Condition) for item in _list(previous.get("conditions")))
    return [item for item in found if item is not None]


def _named_activity(
    activity: NamedActivity | None, previous: Mapping[str, Any], *, fields: Sequence[str]
) -> Status | None:
    if activity is None:
        before = previous.get("activity")
        return before if isinstance(before, dict) else None
    plain = _plain(activity)
    return {name: plain[name] for name in fields if name in plain}


Value = TypeVar("Value")


def _converted(raw: object, wanted: type[Value]) -> Value | None:
    if raw is None:
        return None
    try:
        return msgspec.convert(raw, wanted)
    except msgspec.ValidationError:
        return None


def _list(raw: object) -> list[Any]:
    return raw if isinstance(raw, list) else []


def _plain(value: msgspec.Struct) -> Status:
    return _without_none(msgspec.to_builtins(value))


def _without_none(body: Status) -> Status:
    return {key: value for key, value in body.items() if value is not None}


def _echo(value: str | None) -> str | None:
    return None if value is None else value[:ECHO_LIMIT]


def _milliseconds(moment: datetime) -> int:
    return int(moment.astimezone(UTC).timestamp() * 1000)


def _bounded(body: Status) -> Status:
    """The body without absent fields, at most STATUS_LIMIT bytes: old deliveries go first, then words."""
    bounded = _without_none(body)
    while _size(bounded) > STATUS_LIMIT and bounded.get("recentDeliveries"):
        kept = bounded["recentDeliveries"][:-1]
        bounded = {**bounded, "recentDeliveries": kept} if kept else _omit(bounded, "recentDeliveries")
    limit = 512
    while _size(bounded) > STATUS_LIMIT and limit >= 64:
        shorter = [{**item, "message": shorten(item["message"], limit)} for item in bounded["conditions"]]
        bounded = {**bounded, "conditions": shorter}
        limit //= 2
    return bounded


def _omit(body: Status, field: str) -> Status:
    return {key: value for key, value in body.items() if key != field}


def _size(body: Status) -> int:
    return len(msgspec.json.encode(body))
