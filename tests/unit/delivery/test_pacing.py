"""Rate, circuit, suspension, Gone and Retry-After, as pure steps of one state."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from hookstead.delivery import pacing
from hookstead.delivery.pacing import Rate
from hookstead.delivery.ports import LaneState
from hookstead.resources.conditions import Reason

NOW = 1_800_000_000_000


def _fail(state: LaneState, now_ms: int, **overrides: Any) -> LaneState:
    arguments = {
        "started_ms": now_ms,
        "now_ms": now_ms,
        "gone": False,
        "retry_after_ms": None,
        "circuit": True,
        "suspend_after_seconds": 0,
        **overrides,
    }
    return pacing.after_failure(state, **arguments)


def _failures(count: int, *, spacing_ms: int, **overrides: Any) -> LaneState:
    state = LaneState()
    for index in range(count):
        state = _fail(state, NOW + index * spacing_ms, **overrides)
    return state


def test_the_circuit_opens_after_ten_failures_over_thirty_seconds_and_not_before() -> None:
    assert _failures(9, spacing_ms=10_000).circuit_opened_ms is None
    assert _failures(20, spacing_ms=1_000).circuit_opened_ms is None
    opened = _failures(10, spacing_ms=4_000)
    assert opened.circuit_opened_ms == NOW + 36_000
    assert opened.circuit_probe_ms == NOW + 66_000


def test_an_open_circuit_defers_until_its_probe_and_doubles_to_ten_minutes() -> None:
    state = _failures(10, spacing_ms=4_000)
    waits = []
    for _ in range(7):
        assert state.circuit_probe_ms is not None
        now = state.circuit_probe_ms
        assert pacing.deferred_until_ms(state, now_ms=now - 1) == (Reason.CIRCUIT_OPEN, now)
        assert pacing.deferred_until_ms(state, now_ms=now) is None
        state = _fail(state, now)
        assert state.circuit_probe_ms is not None
        waits.append((state.circuit_probe_ms - now) // 1000)
    assert waits == [60, 120, 240, 480, 600, 600, 600]


def test_a_late_failure_of_an_earlier_attempt_moves_no_probe() -> None:
    state = _failures(10, spacing_ms=4_000)
    assert _fail(state, NOW + 37_000).circuit_probe_ms == state.circuit_probe_ms


def test_one_success_closes_the_circuit_and_ends_the_run() -> None:
    closed = pacing.after_success(_failures(10, spacing_ms=4_000), now_ms=NOW + 70_000)
    assert pacing.held_reason(closed, now_ms=NOW + 70_000) is None
    assert (closed.consecutive_failures, closed.failing_since_ms) == (0, None)


def test_without_a_circuit_breaker_nothing_opens() -> None:
    assert _failures(50, spacing_ms=4_000, circuit=False).circuit_opened_ms is None


def test_an_endpoint_is_suspended_once_it_has_failed_for_that_long() -> None:
    before = _failures(2, spacing_ms=59_999, suspend_after_seconds=60)
    after = _failures(2, spacing_ms=60_000, suspend_after_seconds=60)
    assert (pacing.stopped(before), pacing.stopped(after)) == (None, Reason.SUSPENDED)
    assert pacing.stopped(_failures(2, spacing_ms=10**9, suspend_after_seconds=0)) is None


def test_gone_stops_everything_until_somebody_resumes() -> None:
    gone = _failures(1, spacing_ms=0, gone=True)
    assert pacing.held_reason(gone, now_ms=NOW) is Reason.GONE
    resumed = pacing.resumed(gone, request="now")
    assert pacing.held_reason(resumed, now_ms=NOW) is None
    assert resumed.handled_resume_at == "now"


def test_a_retry_after_holds_the_endpoint_and_a_shorter_one_does_not_shorten_it() -> None:
    state = _fail(_failures(1, spacing_ms=0, retry_after_ms=60_000), NOW + 1_000, retry_after_ms=5_000)
    assert pacing.deferred_until_ms(state, now_ms=NOW + 59_999) == (Reason.THROTTLED, NOW + 60_000)
    assert pacing.deferred_until_ms(state, now_ms=NOW + 60_000) is None


def test_a_probe_waits_for_the_retry_after_too() -> None:
    state = replace(_failures(10, spacing_ms=4_000), retry_after_until_ms=NOW + 999_000)
    assert pacing.deferred_until_ms(state, now_ms=NOW + 40_000) == (Reason.CIRCUIT_OPEN, NOW + 999_000)


@given(st.integers(1, 10_000), st.lists(st.floats(0, 0.5), min_size=1, max_size=300))
def test_no_window_of_a_second_sees_more_than_the_rate_and_a_tenth(limit: int, gaps: list[float]) -> None:
    rate, now, starts = Rate(limit), 1000.0, []
    for gap in gaps:
        now += gap + rate.wait(now + gap)
        rate.take(now)
        starts.append(now)
    burst = max(limit * 0.1, 1.0)
    for index, start in enumerate(starts):
        within = sum(1 for other in starts[index:] if other < start + 1.0)
        assert within <= limit + burst + 1e-6


def test_a_rate_is_smooth() -> None:
    rate, now, starts = Rate(5), 0.0, []
    for _ in range(10):
        now += rate.wait(now)
        rate.take(now)
        starts.append(round(now, 6))
    assert starts == [round(index / 5, 6) for index in range(10)]


def test_a_resume_re_arms_everything_and_keeps_what_was_seen() -> None:
    everything = LaneState(
        consecutive_failures=12,
        failing_since_ms=1,
        last_attempt_ms=2,
        last_success_ms=3,
        last_failure_ms=4,
        retry_after_until_ms=5,
        circuit_opened_ms=6,
        circuit_probe_ms=7,
        circuit_backoff_seconds=60,
        suspended_ms=8,
        gone_ms=9,
        handled_resume_at="before",
    )
    assert set(LaneState.__dataclass_fields__) == {
        name for name in LaneState.__dataclass_fields__ if getattr(everything, name) != getattr(LaneState(), name)
    }, "a new field needs a decision here"
    assert pacing.resumed(everything, request="now") == LaneState(
        last_attempt_ms=2, last_success_ms=3, last_failure_ms=4, handled_resume_at="now"
    )
