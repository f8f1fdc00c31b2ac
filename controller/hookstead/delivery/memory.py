"""What is known of endpoints that have no lane: from before a restart, or from before they were taken away."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from hookstead.delivery.activity import LaneActivity
from hookstead.delivery.ports import Boot, EndpointCounts, EndpointKey, EndpointWindow, LaneState, RecentAttempt


@dataclass(slots=True, kw_only=True)
class Memory:
    """One endpoint's past. A lane takes it over when the endpoint is configured (again)."""

    counts: EndpointCounts = field(default_factory=EndpointCounts)
    window: EndpointWindow | None = None
    recent: tuple[RecentAttempt, ...] = ()
    state: LaneState = field(default_factory=LaneState)
    next_due_ms: int | None = None

    def activity(self, *, now_ms: int) -> LaneActivity:
        """The activity that a lane goes on with."""
        activity = LaneActivity()
        activity.restore(counts=self.counts, window=self.window, recent=self.recent, now_ms=now_ms)
        return activity

    def without_pending(self) -> Memory:
        """The same past once what was pending is cancelled."""
        counts = self.counts
        self.counts = counts._replace(pending=0, cancelled=counts.cancelled + counts.pending)
        self.next_due_ms = None
        return self


def memories(boot: Boot) -> dict[EndpointKey, Memory]:
    """Everything that the store remembers, by endpoint."""
    known: Mapping[EndpointKey, None] = dict.fromkeys((*boot.counts, *boot.lanes, *boot.windows, *boot.recent))
    return {
        key: Memory(
            counts=boot.counts.get(key, EndpointCounts()),
            window=boot.windows.get(key),
            recent=tuple(boot.recent.get(key, ())),
            state=boot.lanes.get(key, LaneState()),
            next_due_ms=boot.next_due_ms.get(key),
        )
        for key in known
    }
