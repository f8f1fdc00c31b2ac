"""What follows from an attempt, for its delivery and for its endpoint. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from hookstead.config.model import DeliveryPolicy
from hookstead.delivery import attempt, pacing
from hookstead.delivery.attempt import Outcome
from hookstead.delivery.ports import AttemptRecord, EndpointKey, Job, LaneState
from hookstead.resources.kinds import CircuitBreaker


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """Wall milliseconds of one attempt; `duration_ms` is measured on the clock that never steps."""

    started_ms: int
    duration_ms: int
    now_ms: int


def conclude(
    endpoint: EndpointKey,
    job: Job,
    outcome: Outcome,
    *,
    body: bytes,
    timing: Timing,
    policy: DeliveryPolicy,
    jitter: float,
) -> AttemptRecord:
    """The attempt as it is recorded, with its delivery's settlement."""
    return AttemptRecord(
        delivery_id=job.delivery_id,
        endpoint=endpoint,
        trigger=job.trigger,
        started_ms=timing.started_ms,
        duration_ms=timing.duration_ms,
        succeeded=outcome.succeeded,
        status_code=outcome.status_code,
        error=outcome.error,
        message=outcome.message,
        response_body=body,
        prior_status=job.status,
        settlement=attempt.settle(
            job, outcome, schedule_seconds=policy.schedule_seconds, now_ms=timing.now_ms, jitter=jitter
        ),
    )


def next_state(
    state: LaneState, outcome: Outcome, *, timing: Timing, policy: DeliveryPolicy, suspend_after_seconds: int
) -> LaneState:
    """The endpoint's state after the attempt."""
    if outcome.succeeded:
        return pacing.after_success(state, now_ms=timing.now_ms)
    return pacing.after_failure(
        state,
        started_ms=timing.started_ms,
        now_ms=timing.now_ms,
        gone=outcome.gone,
        retry_after_ms=outcome.retry_after_ms,
        circuit=policy.circuit_breaker is CircuitBreaker.AUTO,
        suspend_after_seconds=suspend_after_seconds,
    )
