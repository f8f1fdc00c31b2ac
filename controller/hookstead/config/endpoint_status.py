"""`WebhookEndpoint.status`: what an endpoint receives, what holds it back, and how its deliveries went. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from hookstead.config.model import Finding, StatusReporting
from hookstead.config.report import EndpointActivity
from hookstead.config.status_body import (
    FALSE,
    TRUE,
    UNKNOWN,
    Programming,
    Status,
    active,
    bounded,
    closed_environment,
    condition,
    converted,
    echo,
    items_of,
    judged,
    merged_conditions,
    milliseconds,
    plain,
    previous_conditions,
    without_none,
)
from hookstead.config.times import format_time
from hookstead.resources.conditions import Condition, ConditionType, Reason, shorten
from hookstead.resources.kinds import DeliveryLog, EndpointState

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime

    from hookstead.config.model import DeliveryConfig, DeliveryPolicy, EndpointConfig, EnvironmentConfig
    from hookstead.config.report import EndpointReport

RECENT_LIMIT: Final = 20
"""Entries of `recentDeliveries`."""
RECENT_MESSAGE_LIMIT: Final = 256
"""Characters of a recent delivery's message."""
HELD_REASONS: Final = frozenset({Reason.THROTTLED, Reason.CIRCUIT_OPEN, Reason.SUSPENDED, Reason.GONE})
"""What only a gateway knows: it holds deliveries back beyond what the manifests say."""

_DEFAULT_REPORTING: Final = StatusReporting()


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
        *judged(endpoint.verdict, programmed, generation),
        _active_endpoint(endpoint, environment, held=held, held_message=held_message),
        _healthy(activity, generation),
    ]
    return bounded(
        {
            "observedGeneration": generation,
            "conditions": merged_conditions(conditions, previous, now),
            "scope": endpoint.scope.value,
            "host": endpoint.host or None,
            "delivery": effective_delivery(endpoint.delivery),
            "signing": _signing(endpoint, now),
            "activity": plain(activity) if activity is not None else None,
            "recentDeliveries": _recent(report, previous, reporting) or None,
            "lastHandledReconcileAt": echo(endpoint.reconcile_requested_at),
            "lastHandledResumeAt": echo(report.handled_resume_at)
            if report is not None
            else previous.get("lastHandledResumeAt"),
        }
    )


def effective_delivery(policy: DeliveryPolicy) -> Status:
    """`status.delivery`: the values in force, in the shape of `spec.delivery`; no rate means unlimited."""
    return without_none(
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
    closed = closed_environment(environment)
    if closed is not None:
        return active(closed, generation)
    if endpoint.state is EndpointState.DISABLED:
        return active(_DISABLED, generation)
    blocked = _blocked(endpoint)
    if blocked is not None:
        return active(blocked, generation)
    if endpoint.state is EndpointState.PAUSED:
        return active(_PAUSED, generation)
    if held is not None:
        return active(Finding(reason=held, message=held_message or _HELD_MESSAGES.get(held, "")), generation)
    return active(None, generation)


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
    before = next((item for item in previous_conditions(previous) if item.type is ConditionType.ACTIVE), None)
    if before is not None and before.reason in HELD_REASONS:
        return before.reason, before.message
    return None, ""


def _activity(report: EndpointReport | None, previous: Mapping[str, Any]) -> EndpointActivity | None:
    if report is not None:
        return report.activity
    return converted(previous.get("activity"), EndpointActivity)


def _healthy(activity: EndpointActivity | None, generation: int) -> Condition:
    if activity is None or activity.last_attempt_time is None:
        status, reason, message = UNKNOWN, Reason.NO_RECENT_DELIVERIES, "Nothing was attempted yet."
    elif activity.consecutive_failures > 0 or activity.last_success_time is None:
        count = max(1, activity.consecutive_failures)
        status, reason = FALSE, Reason.FAILING
        message = "The last attempt failed." if count == 1 else "The last attempts in a row failed."
    else:
        status, reason, message = TRUE, Reason.SUCCEEDING, "The last attempt succeeded."
    return condition(ConditionType.HEALTHY, status, reason, message, generation)


def _signing(endpoint: EndpointConfig, now: datetime) -> Status | None:
    now_ms = milliseconds(now)
    active = [key for key in endpoint.keys if key.not_after_ms is None or key.not_after_ms > now_ms]
    expiries = [key.not_after_ms for key in active if key.not_after_ms is not None]
    if not endpoint.keys:
        return None
    return without_none(
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
        lines = (line for line in items_of(previous.get("recentDeliveries")) if isinstance(line, dict))
    if reporting.delivery_log is DeliveryLog.FAILURES_ONLY:
        lines = (line for line in lines if line.get("outcome") == "Failed")
    limit = min(reporting.delivery_log_limit, RECENT_LIMIT)
    return [dict(line) for line, _ in zip(lines, range(limit), strict=False)]


def _recent_line(line: Status) -> Status:
    message = line.pop("message", "")
    return {**line, "message": shorten(message, RECENT_MESSAGE_LIMIT)} if message else line
