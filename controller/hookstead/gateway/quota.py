"""The ingest quota: a smooth rate (GCRA), per gateway process."""

from __future__ import annotations

import math

BURST_SECONDS = 0.1
"""What may come at once: a tenth of a second's worth, at least one event."""


class IngestQuota:
    """Events per second. A batch is admitted whole while the quota is not overdrawn, and is paid for afterwards.

    So a batch larger than the burst passes, and the rate holds over any longer time.
    """

    __slots__ = ("_interval", "_paid_until", "_tolerance")

    def __init__(self, events_per_second: float) -> None:
        self._interval = 1.0 / events_per_second
        self._tolerance = max(BURST_SECONDS, self._interval) - self._interval
        self._paid_until = -math.inf

    def take(self, events: int, *, now: float) -> float:
        """0 when admitted, else the seconds until one more event is. `now` is monotonic, in seconds."""
        ahead = self._paid_until - now
        # A nanosecond's slack: sums of intervals are not exact.
        if ahead > self._tolerance + 1e-9:
            return ahead - self._tolerance
        self._paid_until = max(self._paid_until, now) + events * self._interval
        return 0.0
