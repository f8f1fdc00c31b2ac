"""The lane of one endpoint: what is ready, what is under way, and what holds it back. No I/O."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Final

from hookstead.config.model import EndpointConfig, EnvironmentConfig
from hookstead.delivery import pacing
from hookstead.delivery.activity import LaneActivity
from hookstead.delivery.attempt import Sealed
from hookstead.delivery.pacing import Rate
from hookstead.delivery.ports import EndpointKey, Job, LaneState, Trigger
from hookstead.resources.conditions import Reason
from hookstead.resources.kinds import EndpointState, Ordering

WINDOW_FACTOR: Final = 2
"""Ready deliveries that a lane keeps in memory, in multiples of what it may have under way."""

FLOW_SECONDS: Final = 1.0


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing may start; try again in `seconds` (None: when something changes)."""

    seconds: float | None


@dataclass(slots=True, kw_only=True, eq=False)
class Lane:
    """Runtime state of one endpoint. The engine alone changes it, on one event loop.

    `state` decides what may start; `shown` is the last one that is durable, together with the attempts that led to
    it, and is what reports tell. `ready` and `manual` hold claimed jobs. `backlog` says that the store may have due
    deliveries which are not claimed; `next_due_ms` is the earliest that is known to become due there.
    `intervened_ms` is when deliveries last changed their status other than by an attempt. `before` is the lane that
    the endpoint had until it went and came back, while attempts of that one are still under way.

    Where several processes share a store: `owned` says whether attempts may start here, `slot` is the endpoint's lot,
    `returning` counts ways back to the store that are not at their end yet, and `yielded` is the version at which the
    lane was let go (None while it is this process's; -1 where it never was).
    """

    key: EndpointKey
    config: EndpointConfig
    sealed: Sealed | None
    state: LaneState
    shown: LaneState
    activity: LaneActivity
    rate: Rate | None = None
    ready: deque[Job] = field(default_factory=deque)
    manual: deque[Job] = field(default_factory=deque)
    in_flight: int = 0
    scheduled_in_flight: int = 0
    last_finish: float = float("-inf")
    reserved: int = 0
    probing: bool = False
    backlog: bool = False
    next_due_ms: int | None = None
    arrivals: int = 0
    claiming: bool = False
    manual_requested: bool = False
    intervened_ms: int = -1
    version: int = 0
    outward: tuple[Reason | None, bool, bool] | None = None
    before: Lane | None = None
    slot: int = -1
    owned: bool = True
    yielded: int | None = None
    returning: int = 0

    @property
    def ordered(self) -> bool:
        return self.config.delivery.ordering is Ordering.ORDERED

    @property
    def max_in_flight(self) -> int:
        return self.config.delivery.max_in_flight

    def capacity(self, monotonic: float) -> int:
        """How many claimed jobs the lane may hold, those under way included: twice what it may have under way while
        attempts finish, just that while none does.

        What an endpoint that does not answer cannot take stays in the store: a thousand of them must not fill the
        memory that the others share.
        """
        finishes = monotonic - self.last_finish < FLOW_SECONDS
        return WINDOW_FACTOR * self.max_in_flight if finishes else self.max_in_flight

    @property
    def under_way(self) -> int:
        """Attempts that the endpoint may be busy with, those of a lane that it had before included."""
        return self.in_flight + (self.before.under_way if self.before is not None else 0)

    @property
    def in_order_under_way(self) -> int:
        """Of these, scheduled ones that others may have to wait for."""
        return self.scheduled_in_flight + (self.before.in_order_under_way if self.before is not None else 0)

    @property
    def held_jobs(self) -> int:
        return len(self.ready) + len(self.manual) + self.in_flight + self.reserved

    @property
    def is_busy(self) -> bool:
        """Whether anything of the endpoint is claimed here, or on its way from or to the store."""
        return bool(self.held_jobs or self.claiming or self.returning or self.under_way)

    @property
    def report_version(self) -> int:
        """The version behind which a report has nothing to say of the lane; one that was let go is told once."""
        return self.version if self.yielded is None else self.yielded

    def hold(self, environment: EnvironmentConfig | None) -> Reason | None:
        """What holds everything back until somebody changes something; None when deliveries may flow."""
        if environment is None:
            return Reason.ENVIRONMENT_MISSING
        if not environment.enabled:
            return Reason.ENVIRONMENT_DISABLED
        if self.config.state is EndpointState.PAUSED:
            return Reason.PAUSED
        if self.config.state is EndpointState.DISABLED:
            return Reason.ENDPOINT_DISABLED
        if self.config.hold is not None:
            return self.config.hold
        return pacing.stopped(self.state)

    def may_start(self, *, now_ms: int, monotonic: float) -> Wait | None:
        """None when the next job may start now. `hold` was asked before."""
        if self.before is not None and not self.before.under_way:
            self.before = None
        if self.under_way >= self.max_in_flight:
            return Wait(None)
        if not self.manual:
            waiting = self._scheduled_may_start(now_ms)
            if waiting is not None:
                return waiting
        if self.rate is not None:
            seconds = self.rate.wait(monotonic)
            if seconds > 0:
                return Wait(seconds)
        return None

    def _scheduled_may_start(self, now_ms: int) -> Wait | None:
        deferred = pacing.deferred_until_ms(self.state, now_ms=now_ms)
        if deferred is not None:
            return Wait((deferred[1] - now_ms) / 1000)
        if self.state.circuit_opened_ms is not None and (self.probing or self.under_way):
            return Wait(None)
        if self.ordered and self.in_order_under_way and self.ready and self.ready[0].in_order:
            return Wait(None)
        return None

    @property
    def following(self) -> Job | None:
        """What `take` would give."""
        queue = self.manual or self.ready
        return queue[0] if queue else None

    def take(self, *, monotonic: float) -> Job | None:
        """The next job, counted as under way; manual ones first. None when there is none."""
        job = self.manual.popleft() if self.manual else self.ready.popleft() if self.ready else None
        if job is None:
            return None
        self.in_flight += 1
        if job.in_order and job.trigger is Trigger.SCHEDULED:
            self.scheduled_in_flight += 1
        if self.rate is not None:
            self.rate.take(monotonic)
        self.probing = self.probing or self.state.circuit_opened_ms is not None
        return job

    def finished(self, job: Job, *, monotonic: float) -> None:
        """The job is no longer under way."""
        self.in_flight -= 1
        self.last_finish = monotonic
        if job.in_order and job.trigger is Trigger.SCHEDULED:
            self.scheduled_in_flight -= 1
        if not self.in_flight:
            self.probing = False

    def becomes_due(self, at_ms: int) -> None:
        """Something in the store does, at that instant."""
        self.next_due_ms = at_ms if self.next_due_ms is None else min(self.next_due_ms, at_ms)

    def wants_claim(self, *, now_ms: int, monotonic: float) -> bool:
        """Whether asking the store is worth it: something is due there, and there is room for it. While attempts finish
        it waits until half of the capacity is free, which nothing that may start can miss, so that claims are few."""
        waiting = self.backlog or self.manual_requested
        due = waiting or (self.next_due_ms is not None and self.next_due_ms <= now_ms)
        capacity = self.capacity(monotonic)
        return due and not self.claiming and capacity - self.held_jobs >= max(1, capacity - self.max_in_flight)
