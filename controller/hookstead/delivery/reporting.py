"""Reports: what changed since a cursor. Pure but for the lanes that it reads."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from hookstead.config.report import EndpointReport, EnvironmentActivity, Report, Running
from hookstead.config.times import format_time
from hookstead.delivery import pacing
from hookstead.delivery.event_counters import EventCounters
from hookstead.delivery.lane import Lane
from hookstead.delivery.ports import DeliveryStatus
from hookstead.delivery.replayer import Replayer
from hookstead.resources.conditions import Reason

PAGE: Final = 1000
"""Endpoints in one report: some 50 ms of the event loop. Ten thousand at once were 0.7 s, and 25 MB."""


def report(
    lanes: Mapping[str, Lane],
    *,
    running: Running,
    counters: EventCounters,
    replayer: Replayer,
    environment: EnvironmentActivity,
    version: int,
    after: str | None,
    now_ms: int,
) -> Report:
    """Lanes and counters with a later version than the cursor's; all of them for a foreign cursor.

    Of lanes at most PAGE at a time, those first that changed first: events flow between two pages.
    """
    seen = None if after is None else _versions(after, instance=running.instance)
    lane_version, counter_version = (-1, -1) if seen is None else seen
    changed = sorted(
        (lane for lane in lanes.values() if lane.report_version > lane_version), key=lambda lane: lane.report_version
    )
    page = changed
    if len(changed) > PAGE:
        version = changed[PAGE - 1].report_version
        page = [lane for lane in changed if lane.report_version <= version]
    return Report(
        running=running,
        cursor=f"{running.instance}:{version}:{counters.version}",
        environment=environment,
        endpoints=tuple(_told(lane, now_ms=now_ms) for lane in sorted(page, key=lambda lane: lane.key.name)),
        channels=counters.channels(after=counter_version),
        event_types=counters.event_types(after=counter_version),
        replays=replayer.reports(after=lane_version),
        more=len(page) < len(changed),
    )


def version_of(cursor: str, *, instance: str) -> int | None:
    """The lanes' version in a cursor; None for a foreign one."""
    versions = _versions(cursor, instance=instance)
    return None if versions is None else versions[0]


def _versions(cursor: str, *, instance: str) -> tuple[int, int] | None:
    owner, _, rest = cursor.partition(":")
    lanes, _, counters = rest.partition(":")
    if owner != instance or not rest.isascii() or not lanes.isdigit() or not counters.isdigit():
        return None
    return int(lanes), int(counters)


def _told(lane: Lane, *, now_ms: int) -> EndpointReport:
    """One that was let go is named once more, so that nobody goes by what was told of it before."""
    if lane.yielded is None:
        return endpoint_report(lane, now_ms=now_ms)
    return EndpointReport(name=lane.key.name, uid=lane.key.uid, owner=False)


def endpoint_report(lane: Lane, *, now_ms: int) -> EndpointReport:
    """One lane as it is now."""
    held = pacing.held_reason(lane.shown, now_ms=now_ms)
    return EndpointReport(
        name=lane.key.name,
        uid=lane.key.uid,
        held=held,
        held_message=_held_message(lane, held),
        handled_resume_at=lane.shown.handled_resume_at,
        activity=lane.activity.summary(lane.shown, now_ms=now_ms),
        recent_deliveries=lane.activity.recent_deliveries(),
    )


_RESUME = "Annotate it with hookstead.dev/resume-requested-at to go on."


def _held_message(lane: Lane, held: Reason | None) -> str:
    state = lane.shown
    if held is Reason.GONE:
        return f"The receiver answered 410 Gone. {_RESUME}"
    if held is Reason.SUSPENDED:
        return f"Every attempt since {format_time(state.failing_since_ms or 0)} failed. {_RESUME}"
    if held is Reason.CIRCUIT_OPEN:
        return (
            f"{state.consecutive_failures} attempts in a row failed; the next probe is due at "
            f"{format_time(state.circuit_probe_ms or 0)}."
        )
    if held is Reason.THROTTLED:
        return f"The receiver asked to wait until {format_time(state.retry_after_until_ms or 0)}."
    return ""


def counts_by_status(lane: Lane) -> Mapping[str, int]:
    """Each delivery once, under its present status."""
    counts = lane.activity.counts
    return {
        DeliveryStatus.PENDING.value: lane.activity.pending,
        DeliveryStatus.DELIVERED.value: counts.delivered,
        DeliveryStatus.DEAD_LETTERED.value: counts.dead_lettered,
        DeliveryStatus.CANCELLED.value: counts.cancelled,
    }


def environment_activity(lanes: Mapping[str, Lane], counters: EventCounters) -> EnvironmentActivity:
    """Sums over the lanes that exist, and the events since the store began."""
    counts = [lane.activity.counts for lane in lanes.values()]
    return EnvironmentActivity(
        accepted=counters.total_accepted,
        delivered=sum(count.delivered for count in counts),
        pending=sum(lane.activity.pending for lane in lanes.values()),
        dead_lettered=sum(count.dead_lettered for count in counts),
        last_event_time=counters.last_event_time,
    )
