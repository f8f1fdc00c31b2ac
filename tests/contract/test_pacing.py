"""Contract, sections 1 and 3: ordering, rates, slots."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from contract.processes import Answer, until

if TYPE_CHECKING:
    from contract.site import Site

pytestmark = pytest.mark.two_gateways


def test_ordered_the_next_event_waits_until_this_one_succeeded(site: Site) -> None:
    site.answers("a", 500, 500, 204)
    site.apply(site.endpoint("a", delivery={"ordering": "Ordered", "retry": {"scheduleSeconds": [1, 1, 1]}}))
    ids = [site.publish(number)["id"] for number in range(10)]
    requests = site.wait("a", 12)
    assert [one.id for one in requests] == [ids[0]] * 2 + ids
    assert site.receiver.most_open[site.path("a")] == 1


def test_ordered_the_next_event_waits_until_this_one_died(site: Site) -> None:
    site.answers("a", 500, 500, 204)
    site.apply(
        site.endpoint("a", delivery={"ordering": "Ordered", "retry": {"scheduleSeconds": [1]}, "maxInFlight": 9})
    )
    ids = [site.publish(number)["id"] for number in range(3)]
    requests = site.wait("a", 4)
    assert [one.id for one in requests] == [ids[0], *ids]


def test_unordered_a_failing_event_holds_no_other_back(site: Site) -> None:
    site.answers("a", 500, 204)
    site.apply(site.endpoint("a", delivery={"retry": {"scheduleSeconds": [600]}}))
    for number in range(10):
        site.publish(number)
    site.wait("a", 10)


@pytest.mark.parametrize("limit", [1, 3])
def test_at_most_max_in_flight_attempts_are_under_way(site: Site, limit: int) -> None:
    site.answers("a", Answer(wait=0.15))
    site.apply(site.endpoint("a", delivery={"maxInFlight": limit}))
    for number in range(12):
        site.publish(number)
    site.wait("a", 12)
    assert site.receiver.most_open[site.path("a")] == limit


def test_attempts_that_hang_hold_nothing_back_while_a_slot_is_free(site: Site) -> None:
    gate = threading.Event()
    hangs = Answer(gate=gate)
    site.answers("a", hangs, hangs, 500, 204)
    site.apply(site.endpoint("a", delivery={"maxInFlight": 3, "timeoutSeconds": 60, "retry": {"scheduleSeconds": [2]}}))
    site.publish(0)
    site.publish(1)
    site.wait("a", 2)
    accepted = site.publish(2)["id"]
    try:
        retried = site.wait("a", 4, seconds=30)[3]
        assert retried.id == accepted
        (found,) = [one for one in site.deliveries("a") if one["eventId"] == accepted]
        time.sleep(1.2)
        assert site.redeliver(found["id"]).status == 202
        assert site.wait("a", 5, seconds=30)[4].id == accepted
    finally:
        gate.set()


def test_max_in_flight_is_20_where_nothing_is_said(site: Site) -> None:
    gate = threading.Event()
    site.answers("a", Answer(gate=gate))
    site.apply(site.endpoint("a", delivery={"timeoutSeconds": 60}))
    for number in range(30):
        site.publish(number)
    site.wait("a", 20)
    time.sleep(0.3)
    assert len(site.received("a")) == 20
    gate.set()
    site.wait("a", 30)
    assert site.status("a")["delivery"]["maxInFlight"] == 20


@pytest.mark.parametrize(("rate", "count"), [(5, 11), (40, 60)])
def test_rates_are_smooth_with_a_burst_of_a_tenth_of_a_second(site: Site, rate: int, count: int) -> None:
    site.apply(site.endpoint("a", delivery={"requestsPerSecond": rate}))
    for number in range(count):
        site.publish(number)
    requests = site.wait("a", count, seconds=15)
    times = sorted(one.at for one in requests)
    burst = max(1.0, rate / 10)
    took = times[-1] - times[0]
    assert took >= (count - burst) / rate - 0.15
    assert took <= count / rate + 1.5
    for start in times:
        within = sum(start <= at < start + 1 for at in times)
        assert within <= rate + burst + 2, "never a burst of a whole second"


def test_a_rate_counts_attempts_of_every_trigger_and_consumes_none(site: Site) -> None:
    site.answers("a", 500)
    site.apply(site.endpoint("a", delivery={"requestsPerSecond": 2, "retry": {"scheduleSeconds": [600]}}))
    site.publish({})
    found = site.attempted(1)
    began = time.time()
    for count in range(2, 6):
        assert site.redeliver(found["id"]).status == 202
        site.attempted(count)
    assert time.time() - began >= 1.4


def test_a_rate_that_is_edited_is_in_force_at_once(site: Site) -> None:
    site.apply(site.endpoint("a", delivery={"requestsPerSecond": 1}))
    for number in range(20):
        site.publish(number)
    site.wait("a", 2)
    site.apply(site.endpoint("a", delivery={"requestsPerSecond": 1000}))
    site.wait("a", 20, seconds=4)


def test_a_delivery_deferred_by_a_rate_keeps_its_attempts(site: Site) -> None:
    site.apply(site.endpoint("a", delivery={"requestsPerSecond": 1}))
    for number in range(4):
        site.publish(number)
    site.wait("a", 4)

    def counts() -> Any:
        found = site.deliveries("a")
        return all(one["status"] == "Delivered" for one in found) and [one["attemptCount"] for one in found]

    assert until(counts, what="all delivered") == [1, 1, 1, 1]
