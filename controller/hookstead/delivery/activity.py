"""What happened to one endpoint lately: counts, a window of hours, and the last attempts. No I/O, no clock."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Final

from hookstead.config.report import EndpointActivity, RecentDelivery
from hookstead.config.times import format_optional, format_time
from hookstead.delivery.ports import (
    DeliveryStatus,
    EndpointCounts,
    EndpointWindow,
    LaneState,
    RecentAttempt,
)

WINDOW_HOURS: Final = 24
RECENT_LIMIT: Final = 20
_HOUR_MS: Final = 3_600_000
_MESSAGE_LIMIT: Final = 256


@dataclass(slots=True)
class _Hour:
    start: int
    succeeded: int = 0
    failed: int = 0
    dead_lettered: int = 0


@dataclass(slots=True)
class LaneActivity:
    """Bounded: 25 hours and 20 attempts an endpoint."""

    counts: EndpointCounts = field(default_factory=EndpointCounts)
    hours: deque[_Hour] = field(default_factory=lambda: deque(maxlen=WINDOW_HOURS + 1))
    recent: deque[RecentAttempt] = field(default_factory=lambda: deque(maxlen=RECENT_LIMIT))

    def restore(
        self,
        *,
        counts: EndpointCounts,
        window: EndpointWindow | None,
        recent: tuple[RecentAttempt, ...],
        now_ms: int,
    ) -> None:
        """Continue after a restart, with `recent` newest first; what the window held counts as of the present hour."""
        self.counts = counts
        self.recent.extend(reversed(recent))
        if window is not None:
            hour = _Hour(now_ms // _HOUR_MS, window.succeeded, window.failed, window.dead_lettered)
            self.hours.append(hour)

    def attempted(self, attempt: RecentAttempt, *, status: DeliveryStatus, now_ms: int) -> None:
        """One recorded attempt, after which its delivery has `status`."""
        hour = self._hour(now_ms)
        if attempt.succeeded:
            hour.succeeded += 1
        else:
            hour.failed += 1
        if status is DeliveryStatus.DEAD_LETTERED:
            hour.dead_lettered += 1
        self.recent.append(attempt)

    def moved(self, before: DeliveryStatus | None, after: DeliveryStatus) -> None:
        """One delivery went from one status to another; None for a new one."""
        if before is after:
            return
        counts = self.counts
        if before is not None:
            counts = counts._replace(**{_FIELD[before]: getattr(counts, _FIELD[before]) - 1})
        self.counts = counts._replace(**{_FIELD[after]: getattr(counts, _FIELD[after]) + 1})

    @property
    def pending(self) -> int:
        """As it is shown: where processes share a store, an end may be known before the arrival was told."""
        return max(0, self.counts.pending)

    def added(self, deliveries: int) -> None:
        """New pending deliveries."""
        self.counts = self.counts._replace(pending=self.counts.pending + deliveries)

    def _hour(self, now_ms: int) -> _Hour:
        start = now_ms // _HOUR_MS
        if not self.hours or self.hours[-1].start != start:
            self.hours.append(_Hour(start))
        while self.hours[0].start < start - WINDOW_HOURS:
            self.hours.popleft()
        return self.hours[-1]

    def summary(self, state: LaneState, *, now_ms: int) -> EndpointActivity:
        """`status.activity`: the window ends now, `pending` and `deadLettered` are as they are now."""
        oldest = now_ms // _HOUR_MS - WINDOW_HOURS
        hours = [hour for hour in self.hours if hour.start > oldest]
        return EndpointActivity(
            window_seconds=WINDOW_HOURS * 3600,
            succeeded=sum(hour.succeeded for hour in hours),
            failed=sum(hour.failed for hour in hours),
            pending=self.pending,
            dead_lettered=self.counts.dead_lettered,
            consecutive_failures=state.consecutive_failures,
            last_attempt_time=format_optional(state.last_attempt_ms),
            last_success_time=format_optional(state.last_success_ms),
            last_failure_time=format_optional(state.last_failure_ms),
        )

    def recent_deliveries(self) -> tuple[RecentDelivery, ...]:
        """Newest first, by the time that is shown; they were recorded in the order of their ends."""
        by_time = sorted(self.recent, key=lambda attempt: attempt.started_ms)
        return tuple(_recent(attempt) for attempt in reversed(by_time))


_FIELD: Final = {
    DeliveryStatus.PENDING: "pending",
    DeliveryStatus.DELIVERED: "delivered",
    DeliveryStatus.DEAD_LETTERED: "dead_lettered",
    DeliveryStatus.CANCELLED: "cancelled",
}


def _recent(attempt: RecentAttempt) -> RecentDelivery:
    return RecentDelivery(
        id=attempt.delivery_id,
        event_type=attempt.event_type,
        time=format_time(attempt.started_ms),
        attempt=attempt.number,
        outcome="Succeeded" if attempt.succeeded else "Failed",
        status_code=attempt.status_code,
        duration_milliseconds=attempt.duration_ms,
        next_attempt_time=format_optional(attempt.next_attempt_ms),
        message=attempt.message[:_MESSAGE_LIMIT],
    )
