"""How long due deliveries wait for their process: what tells whether more of them are needed. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from typing import Final

from hookstead.config.model import EnvironmentConfig
from hookstead.delivery import pacing
from hookstead.delivery.lane import Lane

TRAFFIC_MS: Final = 60_000
"""An endpoint that was attempted within this time counts as one with traffic, also while nothing of it waits."""


def queue_age_ms(lanes: Iterable[Lane], *, environment: EnvironmentConfig | None, now_ms: int, monotonic: float) -> int:
    """The age, in milliseconds, that half of the endpoints with traffic do not exceed; 0 without traffic.

    Not the oldest: a receiver that is slower than its `maxInFlight` allows looks like a process that is, and one of
    them must not call for more processes, which would not help it. What the processes lack, most endpoints feel.
    """
    ages = (lane_age_ms(lane, environment=environment, now_ms=now_ms, monotonic=monotonic) for lane in lanes)
    told = [age for age in ages if age is not None]
    return statistics.median_low(told) if told else 0


def lane_age_ms(lane: Lane, *, environment: EnvironmentConfig | None, now_ms: int, monotonic: float) -> int | None:
    """For how many milliseconds the endpoint's oldest due delivery that is not under way has been due; 0: none is.

    None where that says nothing of this process: another's endpoint, no traffic, or deliveries that wait for somebody
    else (what a person switched off, a receiver that failed or asked to wait, a rate, the one before in an order).
    """
    if not lane.owned or lane.hold(environment) is not None:
        return None
    if pacing.held_reason(lane.state, now_ms=now_ms) is not None:
        return None
    if lane.rate is not None and lane.rate.wait(monotonic) > 0:
        return None
    if lane.ordered and lane.in_order_under_way:
        return None
    waiting = [job.due_ms for job in lane.ready if job.due_ms is not None]
    if lane.next_due_ms is not None:
        waiting.append(lane.next_due_ms)
    age_ms = max(0, now_ms - min(waiting, default=now_ms))
    last_ms = lane.state.last_attempt_ms
    return age_ms if age_ms or (last_ms is not None and now_ms - last_ms <= TRAFFIC_MS) else None
