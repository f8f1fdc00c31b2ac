"""The database's clock, as well as a process can tell it without asking: its own steady clock and an offset."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Final

from hookstead.delivery.ports import Clock

_KEPT: Final = 8
"""Samples among which the one with the shortest round trip counts; a steady clock drifts little in that time."""
_DRIFT_MS: Final = 20.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """`offset_ms`: the database's time less the own steady clock's. Wrong by half of the round trip at most."""

    offset_ms: float
    round_trip_ms: float

    def contradicts(self, other: Sample) -> bool:
        """Whether no one offset explains both: a clock stepped, or the machine slept in between."""
        return abs(self.offset_ms - other.offset_ms) > (self.round_trip_ms + other.round_trip_ms) / 2 + _DRIFT_MS


class DatabaseClock:
    """A `Clock` that agrees among all processes on one database, whatever their own wall clocks say.

    It goes by the own monotonic clock from sample to sample, so that a step of the own wall clock does not move it.
    """

    def __init__(self, own: Clock) -> None:
        self._own = own
        self._samples: deque[Sample] = deque(maxlen=_KEPT)
        self._offset_ms: float | None = None

    def now_ms(self) -> int:
        """The own clock's time before the first sample."""
        if self._offset_ms is None:
            return self._own.now_ms()
        return round(self._own.monotonic() * 1000 + self._offset_ms)

    def monotonic(self) -> float:
        return self._own.monotonic()

    def sample(self, *, sent: float, received: float, database_ms: float) -> None:
        """The database said `database_ms` between two moments of the own monotonic clock (seconds)."""
        found = Sample(offset_ms=database_ms - (sent + received) * 500, round_trip_ms=max(received - sent, 0.0) * 1000)
        if any(found.contradicts(earlier) for earlier in self._samples):
            self._samples.clear()
        self._samples.append(found)
        self._offset_ms = min(self._samples, key=lambda one: one.round_trip_ms).offset_ms
