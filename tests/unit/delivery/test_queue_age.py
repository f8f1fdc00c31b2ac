"""Queue age: what waits for its process counts, and what waits for somebody else does not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from builders import config, endpoint, endpoint_of, environment
from hookstead.config.model import DeliveryConfig
from hookstead.delivery.activity import LaneActivity
from hookstead.delivery.lane import Lane
from hookstead.delivery.pacing import Rate
from hookstead.delivery.ports import DeliveryStatus, EndpointKey, Job, LaneState, Trigger
from hookstead.delivery.queue_age import TRAFFIC_MS, lane_age_ms, queue_age_ms
from hookstead.resources.kinds import DeliverySpec, EndpointState, EnvironmentState, Ordering, PayloadFormat

NOW = 1_800_000_000_000
KEY = EndpointKey("a", "uid-a")


def _job(due_ms: int | None, **fields: Any) -> Job:
    return Job(
        delivery_id="dlv_1",
        endpoint=KEY,
        event_id="msg_1",
        event_type="t",
        timestamp=b"",
        data=b"{}",
        payload_format=PayloadFormat.STANDARD_WEBHOOKS,
        trigger=Trigger.SCHEDULED,
        status=DeliveryStatus.PENDING,
        attempt_count=0,
        schedule_position=0,
        due_ms=due_ms,
        **fields,
    )


def _lane(made: DeliveryConfig, state: LaneState | None = None, **fields: Any) -> Lane:
    shown = state or LaneState()
    return Lane(
        key=KEY,
        config=endpoint_of(made, "a"),
        sealed=None,
        state=shown,
        shown=shown,
        activity=LaneActivity(),
        **fields,
    )


def _age(lane: Lane, made: DeliveryConfig) -> int | None:
    return lane_age_ms(lane, environment=made.environment, now_ms=NOW, monotonic=100.0)


def test_the_oldest_due_delivery_counts_wherever_it_waits() -> None:
    made = config(endpoint("a"))
    lane = _lane(made, next_due_ms=NOW - 3_000)
    assert _age(lane, made) == 3_000
    lane.ready.extend((_job(NOW - 2_000), _job(NOW - 5_000), _job(None)))
    assert _age(lane, made) == 5_000
    lane.next_due_ms = NOW + 60_000
    assert _age(lane, made) == 5_000


def test_an_endpoint_without_anything_due_counts_for_as_long_as_it_has_traffic() -> None:
    made = config(endpoint("a"))
    assert _age(_lane(made), made) is None
    assert _age(_lane(made, next_due_ms=NOW + 1), made) is None
    assert _age(_lane(made, LaneState(last_attempt_ms=NOW - TRAFFIC_MS)), made) == 0
    assert _age(_lane(made, LaneState(last_attempt_ms=NOW - TRAFFIC_MS - 1)), made) is None


@pytest.mark.parametrize(
    ("made", "state", "change"),
    [
        (config(endpoint("a", state=EndpointState.PAUSED)), LaneState(), None),
        (config(environment(state=EnvironmentState.DISABLED), endpoint("a")), LaneState(), None),
        (config(endpoint("a")), LaneState(gone_ms=1), None),
        (config(endpoint("a")), LaneState(suspended_ms=1), None),
        # Also once the probe is due: the others wait for its answer.
        (config(endpoint("a")), LaneState(circuit_opened_ms=1, circuit_probe_ms=NOW - 1), None),
        (config(endpoint("a")), LaneState(retry_after_until_ms=NOW + 1), None),
        (config(endpoint("a")), LaneState(), lambda lane: setattr(lane, "rate", Rate(1, tat=200.0))),
        (
            config(endpoint("a", delivery=DeliverySpec(ordering=Ordering.ORDERED))),
            LaneState(),
            lambda lane: setattr(lane, "scheduled_in_flight", 1),
        ),
    ],
    ids=["paused", "disabled environment", "gone", "suspended", "circuit", "Retry-After", "rate", "order"],
)
def test_what_waits_for_somebody_else_says_nothing_of_the_process(
    made: DeliveryConfig, state: LaneState, change: Callable[[Lane], None] | None
) -> None:
    lane = _lane(made, state, next_due_ms=NOW - 60_000)
    if change is not None:
        assert _age(lane, made) == 60_000
        change(lane)
    assert _age(lane, made) is None


def test_another_process_s_endpoint_says_nothing_of_this_one() -> None:
    made = config(endpoint("a"))
    assert _age(_lane(made, next_due_ms=NOW - 60_000, owned=False), made) is None


def test_a_rate_that_has_room_and_an_order_that_is_free_hold_nothing_back() -> None:
    made = config(endpoint("a", delivery=DeliverySpec(ordering=Ordering.ORDERED, requests_per_second=10)))
    assert _age(_lane(made, rate=Rate(10, tat=50.0), next_due_ms=NOW - 1_000), made) == 1_000


def test_nothing_flows_and_nothing_waits_without_an_environment() -> None:
    made = config(endpoint("a"))
    lane = _lane(made, next_due_ms=NOW - 1_000)
    assert lane_age_ms(lane, environment=None, now_ms=NOW, monotonic=100.0) is None


@pytest.mark.parametrize(
    ("ages", "expected"),
    [
        ((), 0),
        ((7_000,), 7_000),
        # One slow receiver beside others that get everything at once.
        ((0, 0, 900_000), 0),
        ((0, 900_000), 0),
        ((4_000, 5_000, 900_000), 5_000),
        ((4_000, 5_000, None, None, None), 4_000),
    ],
)
def test_the_queue_is_as_old_as_half_of_the_endpoints_with_traffic_say(
    ages: tuple[int | None, ...], expected: int
) -> None:
    made = config(endpoint("a"))
    state = LaneState(last_attempt_ms=NOW)
    lanes = [_lane(made) if age is None else _lane(made, state, next_due_ms=NOW - age) for age in ages]
    assert queue_age_ms(lanes, environment=made.environment, now_ms=NOW, monotonic=100.0) == expected
