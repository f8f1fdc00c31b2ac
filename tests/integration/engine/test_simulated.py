"""What the simulator found, told as stories: each was a bug once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from builders import config, endpoint
from engine_bench import OK, Bench, event, on_bench, status
from hookstead.delivery.lane import Lane
from hookstead.delivery.ports import Accepted, DeliveryStatus, EndpointKey, Trigger
from hookstead.delivery.wakeups import Wakeups
from hookstead.resources.kinds import DeliverySpec, EndpointState, Ordering, RetrySpec

Scenario = Callable[[Bench], Awaitable[None]]
ORDERED = DeliverySpec(ordering=Ordering.ORDERED)


@pytest.fixture
def bench(tmp_path: Path) -> Callable[[Scenario], Bench]:
    return lambda scenario: on_bench(tmp_path / "store.db", scenario)


def test_an_endpoint_that_becomes_ordered_while_attempts_are_under_way_goes_on(bench: Any) -> None:
    async def scenario(b: Bench) -> None:
        b.transport.seconds = 1.0
        await b.start(config(endpoint("e", delivery=DeliverySpec(max_in_flight=3))))
        await b.publish(*[event()] * 3)
        await b.pass_time(0.5)
        await b.apply(config(endpoint("e", delivery=ORDERED)))
        await b.publish(*[event()] * 3)
        await b.pass_time(10)
        assert {row.status for row in await b.deliveries()} == {DeliveryStatus.DELIVERED}
        await b.stop()

    bench(scenario)


def test_an_endpoint_that_becomes_unordered_while_a_claim_is_under_way_goes_on(bench: Any) -> None:
    async def scenario(b: Bench) -> None:
        await b.start(config(endpoint("e", delivery=ORDERED)))
        await b.publish(*[event()] * 3)  # returns with the claim of the first on its way
        assert b.engine._dispatcher.lanes["e"].claiming
        await b.apply(config(endpoint("e")))
        await b.pass_time(10)
        assert {row.status for row in await b.deliveries()} == {DeliveryStatus.DELIVERED}
        await b.stop()

    bench(scenario)


def test_a_rate_is_kept_over_a_restart_and_over_an_edit(bench: Any) -> None:
    async def scenario(b: Bench) -> None:
        slow, slower = (endpoint("e", delivery=DeliverySpec(requests_per_second=rate)) for rate in (2, 1))
        await b.start(config(slow))
        await b.publish(*[event()] * 9)
        await b.pass_time(1.1)
        await b.crash()
        await b.start(config(slow))
        await b.pass_time(1.3)
        await b.apply(config(slower))
        await b.pass_time(10)
        assert len(b.transport.sent) == 9
        await b.stop()

    times = [one.at for one in bench(scenario).transport.sent]
    assert all(later - earlier >= 0.499 for earlier, later in pairwise(times))


def test_an_erased_payload_is_not_sent_from_memory(bench: Any) -> None:
    async def scenario(b: Bench) -> None:
        await b.start(config(endpoint("e", delivery=DeliverySpec(requests_per_second=1))))
        answers = await b.publish(*[event()] * 3)
        last = answers[-1]
        assert isinstance(last, Accepted)
        assert await b.engine.erase(last.id)
        await b.pass_time(20)
        assert last.id not in [one.message_id for one in b.transport.sent]
        assert [row.status for row in await b.deliveries()][-1] is DeliveryStatus.CANCELLED
        assert b.engine.metrics().memory_jobs == 0
        await b.stop()

    assert len(bench(scenario).transport.sent) == 2


@pytest.mark.parametrize("rate", [None, 1])
def test_in_order_the_next_delivery_does_not_wait_for_one_whose_payload_was_erased(
    bench: Any, rate: int | None
) -> None:
    """The rate keeps the first one in memory, a failure puts it off for an hour."""

    async def scenario(b: Bench) -> None:
        retry = RetrySpec(schedule_seconds=(3600,))
        spec = DeliverySpec(ordering=Ordering.ORDERED, requests_per_second=rate, retry=retry)
        b.transport.scripts["e"] = [OK if rate else status(500), OK]
        await b.start(config(endpoint("e", delivery=spec)))
        if rate:
            await b.publish()
        first, _ = await b.publish(event(), event())
        await b.pass_time(0.1)
        assert isinstance(first, Accepted)
        assert await b.engine.erase(first.id)
        await b.pass_time(5)
        *_, erased, second = await b.deliveries()
        assert (erased.status, second.status) == (DeliveryStatus.CANCELLED, DeliveryStatus.DELIVERED)
        await b.stop()

    bench(scenario)


@pytest.mark.parametrize("comes_back_after", [0.0, 2.0])
def test_a_410_stops_an_endpoint_that_went_and_came_back_while_it_was_under_way(
    bench: Any, comes_back_after: float
) -> None:
    """In a folder it is the same object again."""

    async def scenario(b: Bench) -> None:
        b.transport.scripts["e"], b.transport.seconds = [status(410), OK], 1.0
        await b.start(config(endpoint("e")))
        await b.publish()
        await b.pass_time(0.5)
        await b.apply(config())
        await b.pass_time(comes_back_after)
        await b.apply(config(endpoint("e")))
        await b.pass_time(2)
        await b.publish()
        await b.pass_time(10)
        assert len(b.transport.sent) == 1
        await b.stop()

    bench(scenario)


def test_a_redelivery_of_what_is_under_way_is_made_behind_it(bench: Any) -> None:
    async def scenario(b: Bench) -> None:
        b.transport.seconds = 1.0
        await b.start(config(endpoint("e")))
        await b.publish()
        await b.pass_time(0.5)
        (row,) = await b.deliveries()
        assert await b.engine.redeliver(row.id) is None
        await b.pass_time(5)
        assert [one.trigger for one in await b.attempts(row.id)] == [Trigger.SCHEDULED, Trigger.MANUAL]
        await b.stop()

    bench(scenario)


def test_nothing_is_claimed_any_longer_for_an_endpoint_that_went_while_its_event_was_stored(bench: Any) -> None:
    async def scenario(b: Bench) -> None:
        await b.start(config(endpoint("e")))
        publishing = asyncio.ensure_future(b.publish())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        await b.apply(config())
        await publishing
        await b.pass_time(5)
        assert [row.status for row in await b.deliveries()] == [DeliveryStatus.CANCELLED]
        assert len(b.store._target._claims) == 0
        await b.stop()

    assert bench(scenario).transport.sent == []


def test_nothing_is_sent_once_a_pause_is_in_force(bench: Any) -> None:
    """Also not what was taken for an attempt in the same turn of the loop."""

    async def scenario(b: Bench) -> None:
        await b.start(config(endpoint("e", state=EndpointState.PAUSED)))
        await b.publish(*[event()] * 3)
        await b.apply(config(endpoint("e")))
        lane = b.engine._dispatcher.lanes["e"]
        while not lane.in_flight:
            await asyncio.sleep(0)
        sent = len(b.transport.sent)
        await b.apply(config(endpoint("e", state=EndpointState.PAUSED)))
        await b.pass_time(60)
        assert len(b.transport.sent) == sent
        await b.apply(config(endpoint("e")))
        await b.pass_time(60)
        assert {row.status for row in await b.deliveries()} == {DeliveryStatus.DELIVERED}
        await b.stop()

    bench(scenario)


def test_a_resume_is_not_taken_back_by_an_attempt_that_is_recorded_behind_it(bench: Any) -> None:
    async def scenario(b: Bench) -> None:
        b.transport.scripts["e"] = [status(410), OK]
        await b.start(config(endpoint("e")))
        await b.publish()
        await b.pass_time(0.0101)
        await b.apply(config(endpoint("e", annotations={"resume_requested_at": "now"})))
        await b.pass_time(1)
        assert len(b.transport.sent) == 1
        report = b.engine.endpoint_report("e")
        assert report is not None
        assert (report.held, report.handled_resume_at) == (None, "now")
        await b.crash()
        await b.start(config(endpoint("e")))
        report = b.engine.endpoint_report("e")
        assert report is not None
        assert (report.held, report.handled_resume_at) == (None, "now")
        await b.stop()

    bench(scenario)


@pytest.mark.parametrize("spec", [DeliverySpec(max_in_flight=2), ORDERED])
def test_an_endpoint_that_is_busy_with_a_backlog_behind_it_sets_no_timers(
    bench: Any, spec: DeliverySpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It asked again every millisecond: a thousand slow endpoints were a core."""
    asked: list[EndpointKey] = []
    ask = Wakeups.ask

    def counting(self: Wakeups[Lane], lane: Lane, seconds: float) -> None:
        asked.append(lane.key)
        ask(self, lane, seconds)

    monkeypatch.setattr(Wakeups, "ask", counting)

    async def scenario(b: Bench) -> None:
        b.transport.scripts["e"] = [status(500), OK]
        await b.start(config(endpoint("e", delivery=spec)))
        await b.publish()
        await b.pass_time(1)
        b.transport.seconds = 14.0
        await b.publish(*[event()] * 20)
        await b.pass_time(8)
        asked.clear()
        await b.pass_time(5)
        assert len(asked) < 10
        await b.crash()

    bench(scenario)


@pytest.mark.parametrize("spec", [DeliverySpec(max_in_flight=3), ORDERED])
@pytest.mark.parametrize("times", [1, 3])
def test_what_is_still_under_way_counts_for_an_endpoint_that_went_and_came_back(
    bench: Any, spec: DeliverySpec, times: int
) -> None:
    async def scenario(b: Bench) -> None:
        b.transport.seconds = 10.0
        await b.start(config(endpoint("e", delivery=spec)))
        await b.publish(*[event()] * 9)
        await b.pass_time(1)
        for _ in range(times):
            await b.apply(config())
            await b.pass_time(0.5)
            await b.apply(config(endpoint("e", delivery=spec)))
            await b.publish(*[event()] * 9)
            await b.pass_time(0.5)
        await b.pass_time(200)
        rows = await b.deliveries()
        assert [row.status for row in rows[-9:]] == [DeliveryStatus.DELIVERED] * 9
        assert not b.engine._dispatcher._roster.departed
        assert b.engine._dispatcher.lanes["e"].before is None
        await b.publish()
        await b.pass_time(1)
        for there in (False, True, False):
            await b.apply(config(endpoint("e", delivery=spec)) if there else config())
        await b.pass_time(20)
        assert not b.engine._dispatcher._roster.departed, "also where it came and went with nothing of its own"
        await b.lawful()
        await b.stop()

    limit = 1 if spec is ORDERED else 3
    assert bench(scenario).transport.most_under_way["e"] == limit


@pytest.mark.parametrize("comes_back", [True, False])
def test_a_failure_of_what_was_cancelled_meanwhile_is_not_told_as_its_end(bench: Any, comes_back: bool) -> None:
    async def scenario(b: Bench) -> None:
        told: list[tuple[str, DeliveryStatus]] = []
        b.transport.seconds, b.transport.scripts["e"] = 10.0, [status(500)]
        spec = DeliverySpec(retry=RetrySpec(schedule_seconds=(1,)))
        await b.start(config(endpoint("e", delivery=spec)))
        b.engine._dispatcher._telling._observer.delivery_finished = (  # type: ignore[method-assign]
            lambda endpoint, delivery_id, status: told.append((delivery_id, status))
        )
        await b.publish()
        await b.pass_time(12)
        if comes_back:
            await b.apply(config())
            await b.apply(config(endpoint("e", delivery=spec)))
        else:
            await b.apply(config(endpoint("e", state=EndpointState.DISABLED)))
        await b.pass_time(20)
        assert b.engine.metrics().deliveries["e", "Cancelled"] == 1
        (row,) = await b.deliveries()
        assert (row.status, row.attempt_count) == (DeliveryStatus.CANCELLED, 2)
        assert told == [(row.id, DeliveryStatus.CANCELLED)]
        await b.stop()

    bench(scenario)


def test_the_end_of_a_delivery_is_told_although_another_was_sent_by_hand_meanwhile(bench: Any) -> None:
    async def scenario(b: Bench) -> None:
        told: list[tuple[str, DeliveryStatus]] = []
        b.transport.seconds, b.transport.scripts["e"] = 2.0, [OK, status(500)]
        spec = DeliverySpec(retry=RetrySpec(schedule_seconds=(1,)))
        await b.start(config(endpoint("e", delivery=spec)))
        await b.publish()
        await b.pass_time(5)
        b.engine._dispatcher._telling._observer.delivery_finished = (  # type: ignore[method-assign]
            lambda endpoint, delivery_id, status: told.append((delivery_id, status))
        )
        await b.publish()
        await b.pass_time(4)
        first, second = await b.deliveries()
        assert await b.engine.redeliver(first.id) is None
        await b.pass_time(20)
        assert told == [(second.id, DeliveryStatus.DEAD_LETTERED)]
        await b.stop()

    bench(scenario)
