"""`WebhookReplay.status`: how far a replay is, and how it ended. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from hookstead.config.report import ReplayReport
from hookstead.config.status_body import (
    ENVIRONMENT_MISSING,
    FALSE,
    TRUE,
    Programming,
    Status,
    bounded,
    condition,
    converted,
    echo,
    judgement,
    merged_conditions,
    previous_conditions,
    without_none,
)
from hookstead.resources.conditions import Condition, ConditionType, Reason, ready_summary

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from hookstead.config.model import EnvironmentConfig, ReplayConfig


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
        return dict(previous) | without_none({"lastHandledReconcileAt": echo(handled_reconcile)})
    generation = replay.identity.generation
    verdict = replay.verdict
    if environment is None and verdict.is_accepted:
        verdict = msgspec.structs.replace(verdict, accepted=ENVIRONMENT_MISSING)
    judged = [
        judgement(ConditionType.ACCEPTED, verdict.accepted, Reason.ACCEPTED, generation),
        judgement(ConditionType.RESOLVED_REFS, verdict.resolved, Reason.RESOLVED_REFS, generation),
    ]
    conditions = [*judged, *_progress(judged, report, programmed=programmed, generation=generation)]
    counted = report if report is not None else converted(_with_identity(replay, previous), ReplayReport)
    return bounded(
        {
            "observedGeneration": generation,
            "conditions": merged_conditions(conditions, previous, now),
            "selected": counted.selected if counted is not None else None,
            "delivered": counted.delivered if counted is not None else None,
            "failed": counted.failed if counted is not None else None,
            "startTime": counted.start_time if counted is not None else None,
            "completionTime": counted.completion_time if counted is not None else None,
            "lastHandledReconcileAt": echo(handled_reconcile),
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
        last = condition(kind, TRUE, reason, text, generation)
        if kind is ConditionType.COMPLETE:
            return [condition(ConditionType.READY, TRUE, Reason.COMPLETED, text, generation), last]
        # It has ended and is never run again: nobody should wait for it.
        return [
            condition(ConditionType.READY, FALSE, reason, text, generation),
            condition(ConditionType.STALLED, TRUE, reason, text, generation),
            last,
        ]
    summary = ready_summary(judged, observed_generation=generation)
    if summary[0].status is FALSE:
        return summary
    if report is None and not programmed.holds:
        reason, text = programmed.reason, programmed.message
    else:
        reason, text = (
            Reason.RUNNING,
            (report.message if report is not None else "") or "The replay is under way.",
        )
    return [
        condition(ConditionType.READY, FALSE, reason, text, generation),
        condition(ConditionType.RECONCILING, TRUE, reason, text, generation),
    ]


def _ended(previous: Mapping[str, Any]) -> bool:
    ends = (ConditionType.COMPLETE, ConditionType.FAILED)
    return any(item.type in ends and item.status is TRUE for item in previous_conditions(previous))


def _with_identity(replay: ReplayConfig, previous: Mapping[str, Any]) -> Mapping[str, Any] | None:
    if "selected" not in previous:
        return None
    return {**previous, "name": replay.identity.name, "uid": replay.identity.uid}
