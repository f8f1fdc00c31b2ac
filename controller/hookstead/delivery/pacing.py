"""How fast an endpoint may be called: the rate, and what its own failures hold back.

The rate is a GCRA (ITU-T I.371): smooth, with a burst of a tenth of a second. The rest are pure functions from one
LaneState and one observation to the next LaneState, so that they can be persisted with the attempt that caused them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from hookstead.delivery.ports import LaneState
from hookstead.resources.conditions import Reason

BURST_SECONDS: Final = 0.1
CIRCUIT_FAILURES: Final = 10
CIRCUIT_RUN_MS: Final = 30_000
FIRST_PROBE_SECONDS: Final = 30
LAST_PROBE_SECONDS: Final = 600


@dataclass(slots=True)
class Rate:
    """A smooth limit. `tat` is the theoretical arrival time of the next attempt, in monotonic seconds."""

    per_second: int
    tat: float = 0.0

    @classmethod
    def after_restart(cls, per_second: int, now: float) -> Rate:
        """A limit whose burst is used up: the life before may have sent it a moment ago."""
        rate = cls(per_second)
        rate.tat = now + rate.burst / per_second
        return rate

    @property
    def burst(self) -> float:
        """Attempts that may start at once after a pause."""
        return max(self.per_second * BURST_SECONDS, 1.0)

    def wait(self, now: float) -> float:
        """Seconds until the next attempt conforms; 0 when it does now."""
        return max(0.0, self.tat - (self.burst - 1.0) / self.per_second - now)

    def take(self, now: float) -> None:
        """Count one attempt that starts now."""
        self.tat = max(now, self.tat) + 1.0 / self.per_second


def after_success(state: LaneState, *, now_ms: int) -> LaneState:
    """One success closes the circuit and ends the run of failures."""
    return replace(
        state,
        consecutive_failures=0,
        failing_since_ms=None,
        last_attempt_ms=now_ms,
        last_success_ms=now_ms,
        circuit_opened_ms=None,
        circuit_probe_ms=None,
        circuit_backoff_seconds=0,
    )


def after_failure(
    state: LaneState,
    *,
    started_ms: int,
    now_ms: int,
    gone: bool,
    retry_after_ms: int | None,
    circuit: bool,
    suspend_after_seconds: int,
) -> LaneState:
    """One more failure of the run; opens the circuit, suspends, or parks the endpoint where it is time to.

    `circuit`: whether the endpoint has a circuit breaker. `retry_after_ms` is a duration.
    """
    since = started_ms if state.failing_since_ms is None else state.failing_since_ms
    failing = replace(
        state,
        consecutive_failures=state.consecutive_failures + 1,
        failing_since_ms=since,
        last_attempt_ms=now_ms,
        last_failure_ms=now_ms,
        gone_ms=now_ms if gone and state.gone_ms is None else state.gone_ms,
        retry_after_until_ms=_later(state.retry_after_until_ms, now_ms, retry_after_ms),
    )
    if suspend_after_seconds and failing.suspended_ms is None and now_ms - since >= suspend_after_seconds * 1000:
        failing = replace(failing, suspended_ms=now_ms)
    return _trip(failing, now_ms=now_ms) if circuit else failing


def _later(until_ms: int | None, now_ms: int, retry_after_ms: int | None) -> int | None:
    if retry_after_ms is None:
        return until_ms
    return max(until_ms or 0, now_ms + retry_after_ms)


def _trip(state: LaneState, *, now_ms: int) -> LaneState:
    """Open the circuit, or push the next probe out after one that failed."""
    if state.circuit_opened_ms is None:
        run_ms = now_ms - (state.failing_since_ms or now_ms)
        if state.consecutive_failures < CIRCUIT_FAILURES or run_ms < CIRCUIT_RUN_MS:
            return state
        return replace(
            state,
            circuit_opened_ms=now_ms,
            circuit_backoff_seconds=FIRST_PROBE_SECONDS,
            circuit_probe_ms=now_ms + FIRST_PROBE_SECONDS * 1000,
        )
    if state.circuit_probe_ms is not None and now_ms < state.circuit_probe_ms:
        return state  # an attempt that was under way when the circuit opened
    backoff = min(state.circuit_backoff_seconds * 2, LAST_PROBE_SECONDS)
    return replace(state, circuit_backoff_seconds=backoff, circuit_probe_ms=now_ms + backoff * 1000)


def resumed(state: LaneState, *, request: str) -> LaneState:
    """Re-armed by a person: neither gone nor suspended nor open, and the run of failures starts anew."""
    return replace(
        state,
        consecutive_failures=0,
        failing_since_ms=None,
        retry_after_until_ms=None,
        circuit_opened_ms=None,
        circuit_probe_ms=None,
        circuit_backoff_seconds=0,
        suspended_ms=None,
        gone_ms=None,
        handled_resume_at=request,
    )


def without_circuit(state: LaneState) -> LaneState:
    """The same state for an endpoint whose circuit breaker was switched off."""
    return replace(state, circuit_opened_ms=None, circuit_probe_ms=None, circuit_backoff_seconds=0)


def stopped(state: LaneState) -> Reason | None:
    """What holds everything until a person resumes it: Gone, Suspended, or nothing."""
    if state.gone_ms is not None:
        return Reason.GONE
    return Reason.SUSPENDED if state.suspended_ms is not None else None


def deferred_until_ms(state: LaneState, *, now_ms: int) -> tuple[Reason, int] | None:
    """What holds scheduled deliveries for a while, and until when (wall milliseconds); None when nothing does."""
    probe, retry_after = state.circuit_probe_ms, state.retry_after_until_ms
    if state.circuit_opened_ms is not None and probe is not None and now_ms < probe:
        return Reason.CIRCUIT_OPEN, probe if retry_after is None else max(probe, retry_after)
    if retry_after is not None and now_ms < retry_after:
        return Reason.THROTTLED, retry_after
    return None


def held_reason(state: LaneState, *, now_ms: int) -> Reason | None:
    """What `Active` says beyond the manifests: Gone, Suspended, CircuitOpen, Throttled, or nothing."""
    halted = stopped(state)
    if halted is not None:
        return halted
    if state.circuit_opened_ms is not None:
        return Reason.CIRCUIT_OPEN
    deferred = deferred_until_ms(state, now_ms=now_ms)
    return None if deferred is None else deferred[0]
