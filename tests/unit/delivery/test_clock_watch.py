from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hookstead.delivery.clock_watch import TOLERANCE_MS, ClockWatch, follow, went_back
from hookstead.delivery.pacing import deferred_until_ms
from hookstead.delivery.ports import LaneState

HOUR_MS = 3_600_000


@pytest.mark.parametrize(
    ("wall_ms", "seconds", "back_ms"),
    [
        (10_000, 10.0, 0),
        (10_000 + 3 * HOUR_MS, 10.0, 0),
        (10_000 - 3 * HOUR_MS, 10.0, 3 * HOUR_MS),
        (9_999, 10.0, 0),
        (10_000 - TOLERANCE_MS, 10.0, 0),
        (10_000 - TOLERANCE_MS - 1, 10.0, TOLERANCE_MS + 1),
        # A machine that slept: the monotonic clock stood still.
        (HOUR_MS, 1.0, 0),
    ],
)
def test_only_a_clock_that_went_back_is_noticed(wall_ms: int, seconds: float, back_ms: int) -> None:
    assert ClockWatch(0, 0.0).look(now_ms=wall_ms, monotonic=seconds) == back_ms


def test_a_step_is_told_once() -> None:
    watch = ClockWatch(HOUR_MS, 5.0)
    assert watch.look(now_ms=0, monotonic=5.0) == HOUR_MS
    assert watch.look(now_ms=10_000, monotonic=15.0) == 0


def test_a_life_that_begins_before_the_last_one_ended_went_back() -> None:
    assert went_back(expected_ms=HOUR_MS, now_ms=0) == HOUR_MS
    assert went_back(expected_ms=0, now_ms=HOUR_MS) == 0


TIMES = st.none() | st.integers(min_value=0, max_value=10 * HOUR_MS)


@given(TIMES, TIMES, st.integers(min_value=0, max_value=HOUR_MS), st.integers(min_value=0, max_value=10 * HOUR_MS))
def test_what_is_left_of_a_wait_stays_the_same(
    probe: int | None, retry_after: int | None, back_ms: int, now_ms: int
) -> None:
    opened = None if probe is None else 0
    state = LaneState(circuit_opened_ms=opened, circuit_probe_ms=probe, retry_after_until_ms=retry_after)
    before = deferred_until_ms(state, now_ms=now_ms)
    after = deferred_until_ms(follow(state, back_ms=back_ms), now_ms=now_ms - back_ms)
    left = [
        None if deferred is None else (deferred[0], deferred[1] - at)
        for deferred, at in ((before, now_ms), (after, now_ms - back_ms))
    ]
    assert left[0] == left[1]


def test_a_run_of_failures_is_as_long_as_it_was() -> None:
    state = LaneState(consecutive_failures=3, failing_since_ms=5 * HOUR_MS, gone_ms=7, handled_resume_at="x")
    moved = follow(state, back_ms=HOUR_MS)
    assert moved == LaneState(consecutive_failures=3, failing_since_ms=4 * HOUR_MS, gone_ms=7, handled_resume_at="x")
