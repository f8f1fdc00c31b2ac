"""When a lane asks the store for more, and what it shows."""

from __future__ import annotations

import pytest

from builders import config, endpoint, endpoint_of
from hookstead.delivery.activity import LaneActivity
from hookstead.delivery.lane import FLOW_SECONDS, Lane
from hookstead.delivery.ports import DeliveryStatus, EndpointKey, LaneState, RecentAttempt
from hookstead.delivery.reporting import counts_by_status
from hookstead.resources.kinds import DeliverySpec

MONOTONIC = 100.0


def _lane(max_in_flight: int, *, under_way: int, finishes: bool) -> Lane:
    """With due deliveries in the store."""
    made = config(endpoint("a", delivery=DeliverySpec(max_in_flight=max_in_flight)))
    return Lane(
        key=EndpointKey("a", "uid-a"),
        config=endpoint_of(made, "a"),
        sealed=None,
        state=LaneState(),
        shown=LaneState(),
        activity=LaneActivity(),
        backlog=True,
        in_flight=under_way,
        last_finish=MONOTONIC - (0.0 if finishes else 2 * FLOW_SECONDS),
    )


@pytest.mark.parametrize("max_in_flight", [1, 2, 3, 20])
@pytest.mark.parametrize("finishes", [True, False])
def test_as_long_as_one_more_attempt_may_start_the_store_is_asked(max_in_flight: int, finishes: bool) -> None:
    for under_way in range(max_in_flight):
        lane = _lane(max_in_flight, under_way=under_way, finishes=finishes)
        assert lane.wants_claim(now_ms=0, monotonic=MONOTONIC), under_way


def test_while_attempts_finish_the_store_is_asked_for_half_of_the_capacity_at_once() -> None:
    lane = _lane(20, under_way=20, finishes=True)
    assert lane.capacity(MONOTONIC) - lane.held_jobs == 20
    assert lane.wants_claim(now_ms=0, monotonic=MONOTONIC)
    lane.reserved = 1
    assert not lane.wants_claim(now_ms=0, monotonic=MONOTONIC)


def test_what_an_endpoint_that_does_not_answer_cannot_take_stays_in_the_store() -> None:
    assert not _lane(20, under_way=20, finishes=False).wants_claim(now_ms=0, monotonic=MONOTONIC)


def test_an_end_that_is_known_before_the_arrival_was_told_shows_nothing_below_zero() -> None:
    lane = _lane(1, under_way=0, finishes=True)
    lane.activity.moved(DeliveryStatus.PENDING, DeliveryStatus.DELIVERED)
    assert lane.activity.summary(lane.state, now_ms=0).pending == 0
    assert counts_by_status(lane) == {"Pending": 0, "Delivered": 1, "DeadLettered": 0, "Cancelled": 0}
    lane.activity.added(1)
    assert lane.activity.counts.pending == 0


def test_recent_deliveries_are_newest_first_by_the_time_that_they_show() -> None:
    lane = _lane(2, under_way=0, finishes=True)
    for name, started_ms in (("quick", 1_001), ("slow", 1_000), ("later", 1_001)):
        lane.activity.attempted(
            RecentAttempt(
                delivery_id=name,
                event_type="t",
                started_ms=started_ms,
                number=1,
                succeeded=True,
                status_code=204,
                duration_ms=1,
                message="",
                next_attempt_ms=None,
            ),
            status=DeliveryStatus.DELIVERED,
            now_ms=2_000,
        )
    assert [one.id for one in lane.activity.recent_deliveries()] == ["later", "quick", "slow"]
