"""A wall clock that went back, by NTP or by hand: what waits for an instant of the old clock must not wait for hours.

Dues, probes and Retry-After are wall times, since they outlive the process. A clock that goes forward makes them due
early, once each; one that goes back would hold everything up for as long as the step is wide.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from hookstead.delivery.ports import LaneState

TOLERANCE_MS: Final = 1000
"""A step that delays nothing by more than this is left alone."""


@dataclass(slots=True)
class ClockWatch:
    """Compares the wall clock (milliseconds) with the monotonic one (seconds) from look to look."""

    wall_ms: int
    monotonic: float

    def look(self, *, now_ms: int, monotonic: float) -> int:
        """How many milliseconds the wall clock went back since the last look; 0 where it did not."""
        expected_ms = self.wall_ms + (monotonic - self.monotonic) * 1000
        self.wall_ms, self.monotonic = now_ms, monotonic
        return went_back(expected_ms=round(expected_ms), now_ms=now_ms)


def went_back(*, expected_ms: int, now_ms: int) -> int:
    """How far the clock is behind an instant that it has passed already."""
    step_ms = expected_ms - now_ms
    return step_ms if step_ms > TOLERANCE_MS else 0


def follow(state: LaneState, *, back_ms: int) -> LaneState:
    """The same state by a clock that went back: what is left of each wait, and how long a run lasts, stay the same."""

    def moved(at_ms: int | None) -> int | None:
        return None if at_ms is None else at_ms - back_ms

    return replace(
        state,
        failing_since_ms=moved(state.failing_since_ms),
        circuit_opened_ms=moved(state.circuit_opened_ms),
        circuit_probe_ms=moved(state.circuit_probe_ms),
        retry_after_until_ms=moved(state.retry_after_until_ms),
    )
