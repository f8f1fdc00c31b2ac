"""What time it is, and chance: the core rolls no dice of its own."""

from __future__ import annotations

from typing import Protocol


class Clock(Protocol):
    def now_ms(self) -> int:
        """Wall clock. May step; only what outlives the process is measured with it."""

    def monotonic(self) -> float:
        """Seconds on a clock that never steps; the asyncio loop's own clock, so that timers agree with it."""


class Random(Protocol):
    def jitter(self) -> float:
        """A number in [-1, 1), uniform."""

    def event_id(self) -> str:
        """A new `msg_…`, time-ordered, unique."""

    def delivery_id(self) -> str:
        """A new `dlv_…`, time-ordered, unique."""
