"""Several engines over one store: each endpoint is one's at a time, and its promises hold over all of them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from builders import channel, config, endpoint, replay
from engine_bench import OK, broken, event, status
from hookstead.delivery.ports import Accepted, CancelReason, DeliveryStatus, ErrorCode, Trigger
from hookstead.resources.conditions import Reason
from hookstead.resources.kinds import DeliverySpec, EndpointState, Ordering, ReplaySelect, RetrySpec
from integration.engine.shared_bench import Gateway, SharedBench, on_shared_bench
from virtual_time import START_MS

Scenario = Callable[[SharedBench], Awaitable[None]]
NAMES = [f"e{number}" for number in range(12)]
ONE_TRY = DeliverySpec(retry=RetrySpec(schedule_seconds=(1,)))


@pytest.fixture
def shared(tmp_path: Path) -> Callable[[Scenario], SharedBench]:
    return lambda scenario: on_shared_bench(tmp_path / "store.db", scenario)


def _twelve(spec: DeliverySpec | None = None) -> Any:
    return config(*(endpoint(name, delivery=spec) if spec else endpoint(name) for name in NAMES))


async def _flow(b: SharedBench, *, seconds: float, every: float = 0.1) -> int:
    """Publish at whichever gateways there are, in turn; how many events."""
    published = 0
    ends = b.clock.seconds + seconds
    while b.clock.seconds < ends:
        gateway = b.gateways[published % len(b.gateways)]
        await gateway.publish(event(data=b"%d" % published))
        published += 1
        await asyncio.sleep(every)
    return published


async def _delivered(b: SharedBench, count: int) -> None:
    rows = await b.deliveries()
    assert len(rows) == count
    assert {row.status for row in rows} == {DeliveryStatus.DELIVERED}


def test_what_is_published_at_either_is_delivered_once(shared: Any) -> None:
    async def scenario(b: SharedBench) -> None:
        first, second = await b.start(_twelve()), await b.start(_twelve())
        await b.settle()
        assert first.owned
        assert second.owned
        assert first.owned | second.owned == set(NAMES)
        published = await _flow(b, seconds=5)
        await asyncio.sleep(3)
        await _delivered(b, published * len(NAMES))
        assert {key.name for key in first.store.recorded} == first.owned

    assert set(shared(scenario).sent().values()) == {1}


def test_polling_alone_finds_what_no_hint_told(shared: Any) -> None:
    async def scenario(b: SharedBench) -> None:
        b.hub.hints = False
        first, second = await b.start(_twelve()), await b.start(_twelve())
        await b.settle(8)
        await first.publish()
        await second.publish()
        await asyncio.sleep(3)
        await _delivered(b, 2 * len(NAMES))

    assert set(shared(scenario).sent().values()) == {1}


def test_one_that_joins_gets_its_share_while_events_flow(shared: Any) -> None:
    async def scenario(b: SharedBench) -> None:
        b.transport.seconds = 0.4
        first = await b.start(_twelve())
        flow = asyncio.ensure_future(_flow(b, seconds=8))
        await asyncio.sleep(2)
        assert first.owned == set(NAMES)
        second = await b.start(_twelve())
        published = await flow
        await b.settle()
        assert first.owned
        assert second.owned
        await asyncio.sleep(10)
        await _delivered(b, published * len(NAMES))

    assert set(shared(scenario).sent().values()) == {1}


def test_after_a_drain_the_others_go_on_at_once_and_nothing_is_sent_twice(shared: Any) -> None:
    async def scenario(b: SharedBench) -> None:
        b.transport.seconds = 0.4
        first, second = await b.start(_twelve()), await b.start(_twelve())
        await b.settle()
        flow = asyncio.ensure_future(_flow(b, seconds=4))
        await asyncio.sleep(2)
        b.gateways.remove(first)
        await first.engine.drain(deadline_seconds=30)
        await asyncio.sleep(0.2)
        assert second.owned == set(NAMES), "before the store is closed"
        await first.engine.stop()
        await first.store.close()
        published = await flow
        await asyncio.sleep(20)
        await _delivered(b, published * len(NAMES))

    assert set(shared(scenario).sent().values()) == {1}


def test_what_a_drain_had_no_time_for_is_sent_by_another_at_once(shared: Any) -> None:
    async def scenario(b: SharedBench) -> None:
        b.transport.seconds = 20.0
        first, second = await b.start(_twelve()), await b.start(_twelve())
        await b.settle()
        await first.publish()
        await asyncio.sleep(2)
        b.transport.seconds = 0.1
        await first.stop(deadline_seconds=0.5)
        await asyncio.sleep(3)
        assert second.owned == set(NAMES)
        done = await b.deliveries(status=DeliveryStatus.DELIVERED)
        assert done, "what the first had under way is not claimed for ever"
        await asyncio.sleep(20)
        await _delivered(b, len(NAMES))

    assert max(shared(scenario).sent().values()) == 2


def test_a_kill_repeats_what_was_under_way_and_nothing_else(shared: Any) -> None:
    async def scenario(b: SharedBench) -> None:
        b.transport.seconds = 0.4
        first, second = await b.start(_twelve()), await b.start(_twelve())
        await b.settle()
        flow = asyncio.ensure_future(_flow(b, seconds=12))
        await asyncio.sleep(3.05)
        before = len(b.transport.sent)
        under_way = {(one.endpoint, one.message_id) for one in b.transport.sent if one.at > b.clock.seconds - 0.5}
        await first.kill()
        published = await flow
        await b.settle(10)
        assert second.owned == set(NAMES)
        await asyncio.sleep(10)
        await _delivered(b, published * len(NAMES))
        assert len(b.transport.sent) > before
        assert {key for key, times in b.sent().items() if times > 1} <= under_way

    shared(scenario)


@pytest.mark.parametrize("ends", ["drain", "kill", "join"])
def test_max_in_flight_holds_over_a_change_of_owner(shared: Any, ends: str) -> None:
    spec = DeliverySpec(max_in_flight=3)

    async def scenario(b: SharedBench) -> None:
        b.transport.seconds = 1.0
        first = await b.start(_twelve(spec))
        await first.publish(*[event()] * 30)
        if ends == "join":
            await asyncio.sleep(1.5)
            await b.start(_twelve(spec))
        else:
            await b.start(_twelve(spec))
            await b.settle()
            await (first.stop() if ends == "drain" else first.kill())
        await asyncio.sleep(40)
        await b.settle()
        await _delivered(b, 30 * len(NAMES))

    bench = shared(scenario)
    assert set(bench.transport.most_under_way.values()) == {3}


@pytest.mark.parametrize("ends", ["drain", "kill", "join"])
def test_a_rate_holds_over_a_change_of_owner(shared: Any, ends: str) -> None:
    spec = DeliverySpec(requests_per_second=2)

    async def scenario(b: SharedBench) -> None:
        first = await b.start(_twelve(spec))
        if ends != "join":
            await b.start(_twelve(spec))
            await b.settle()
        await first.publish(*[event()] * 12)
        await asyncio.sleep(2.2)
        if ends == "join":
            await b.start(_twelve(spec))
        else:
            await (first.stop() if ends == "drain" else first.kill())
        await asyncio.sleep(30)
        await _delivered(b, 12 * len(NAMES))

    bench = shared(scenario)
    for name in NAMES:
        times = [one.at for one in bench.transport.sent if one.endpoint == name]
        assert all(later - earlier >= 0.499 for earlier, later in pairwise(times)), name


@pytest.mark.parametrize("ends", ["drain", "kill", "join"])
def test_an_order_holds_over_a_change_of_owner(shared: Any, ends: str) -> None:
    spec = DeliverySpec(ordering=Ordering.ORDERED, retry=RetrySpec(schedule_seconds=(1, 1, 1)))

    async def scenario(b: SharedBench) -> None:
        b.transport.seconds = 0.15
        for name in NAMES[::2]:
            b.transport.scripts[name] = [OK, status(500), OK, OK, status(500), OK]
        first = await b.start(_twelve(spec))
        if ends != "join":
            await b.start(_twelve(spec))
            await b.settle()
        flow = asyncio.ensure_future(_flow(b, seconds=4, every=0.2))
        await asyncio.sleep(2.2)
        if ends == "join":
            await b.start(_twelve(spec))
        else:
            await (first.stop() if ends == "drain" else first.kill())
        published = await flow
        await asyncio.sleep(60)
        await _delivered(b, published * len(NAMES))

    bench = shared(scenario)
    for name in NAMES:
        order = [json.loads(one.request.body)["data"] for one in bench.transport.sent if one.endpoint == name]
        assert order == sorted(order), name
        assert bench.transport.most_under_way[name] == 1


def test_a_circuit_and_a_retry_after_go_with_the_endpoint(shared: Any) -> None:
    async def scenario(b: SharedBench) -> None:
        for name in NAMES:
            b.transport.scripts[name] = [status(429, retry_after="120"), OK]
        first, second = await b.start(_twelve()), await b.start(_twelve())
        await b.settle()
        await first.publish()
        await asyncio.sleep(2)
        await first.stop()
        await b.settle()
        await second.publish()
        await asyncio.sleep(30)
        assert len(b.transport.sent) == len(NAMES), "nobody calls before the time"
        for name in NAMES:
            report = second.engine.endpoint_report(name)
            assert report is not None
            assert report.held is Reason.THROTTLED
        await asyncio.sleep(120)
        await _delivered(b, 2 * len(NAMES))

    shared(scenario)


def test_a_redelivery_may_be_asked_for_anywhere(shared: Any) -> None:
    async def scenario(b: SharedBench) -> None:
        first, second = await b.start(_twelve()), await b.start(_twelve())
        await b.settle()
        await first.publish()
        await asyncio.sleep(2)
        for row in await b.deliveries():
            assert await second.engine.redeliver(row.id) is None
        await asyncio.sleep(3)
        for row in await b.deliveries():
            assert [one.trigger for one in await b.attempts(row.id)] == [Trigger.SCHEDULED, Trigger.MANUAL]

    shared(scenario)


def test_an_erasure_anywhere_keeps_the_payload_from_being_sent(shared: Any) -> None:
    async def scenario(b: SharedBench) -> None:
        slow = _twelve(DeliverySpec(requests_per_second=1))
        first, second = await b.start(slow), await b.start(slow)
        await b.settle()
        answers = [*await first.publish(*[event()] * 6), *await second.publish(*[event()] * 6)]
        await asyncio.sleep(1.5)
        last = answers[5]
        assert isinstance(last, Accepted)
        assert await second.engine.erase(last.id)
        await asyncio.sleep(30)
        assert last.id not in {one.message_id for one in b.transport.sent}
        rows = await b.deliveries()
        assert {row.status for row in rows if row.event_id == last.id} == {DeliveryStatus.CANCELLED}
        assert {row.status for row in rows if row.event_id != last.id} == {DeliveryStatus.DELIVERED}
        for gateway in b.gateways:
            assert gateway.engine.metrics().memory_jobs == 0

    shared(scenario)


@pytest.mark.parametrize("how", ["deleted", "disabled"])
def test_what_is_published_for_an_endpoint_that_goes_ends_as_cancelled_wherever_it_was_published(
    shared: Any, how: str
) -> None:
    async def scenario(b: SharedBench) -> None:
        paused = config(*(endpoint(name, state=EndpointState.PAUSED) for name in NAMES))
        first, second = await b.start(paused), await b.start(paused)
        await b.settle()
        await first.publish()
        await second.publish()
        without = (
            config() if how == "deleted" else config(*(endpoint(name, state=EndpointState.DISABLED) for name in NAMES))
        )
        await first.apply(without, sequence=2)
        await second.publish()  # under the configuration before
        await asyncio.sleep(2)
        await second.apply(without, sequence=2)
        await asyncio.sleep(3)
        rows = await b.deliveries()
        assert {row.status for row in rows} == {DeliveryStatus.CANCELLED}
        wanted = CancelReason.ENDPOINT_DELETED if how == "deleted" else CancelReason.ENDPOINT_DISABLED
        assert {row.cancel_reason for row in rows} == {wanted}
        assert len(rows) == 3 * len(NAMES)

    shared(scenario)


def test_an_owner_that_does_not_know_an_endpoint_yet_cancels_nothing_of_it(shared: Any) -> None:
    async def scenario(b: SharedBench) -> None:
        first, second = await b.start(config()), await b.start(config())
        await b.settle()
        await second.apply(_twelve(), sequence=2)
        await second.publish()
        await asyncio.sleep(20)
        assert DeliveryStatus.CANCELLED not in {row.status for row in await b.deliveries()}
        await first.apply(_twelve(), sequence=2)
        await asyncio.sleep(3)
        await _delivered(b, len(NAMES))

    shared(scenario)


def test_a_resume_that_was_asked_for_before_a_change_of_owner_is_handled_behind_it(shared: Any) -> None:
    async def scenario(b: SharedBench) -> None:
        for name in NAMES:
            b.transport.scripts[name] = [status(410), OK]
        first = await b.start(_twelve())
        await b.settle()
        await first.publish()
        await asyncio.sleep(2)
        await first.kill()
        resumed = config(*(endpoint(name, annotations={"resume_requested_at": "now"}) for name in NAMES))
        second = await b.start(resumed)
        await asyncio.sleep(10)
        assert second.owned == set(NAMES)
        await _delivered(b, len(NAMES))
        report = second.engine.endpoint_report("e0")
        assert report is not None
        assert (report.held, report.handled_resume_at) == (None, "now")

    shared(scenario)


def test_nothing_is_sent_while_the_lease_does_not_hold_and_everything_behind_it(shared: Any) -> None:
    async def scenario(b: SharedBench) -> None:
        first = await b.start(_twelve())
        await b.settle()
        first.store.stalled = True
        await first.publish()
        await asyncio.sleep(3)
        assert b.transport.sent == []
        first.store.stalled = False
        await asyncio.sleep(2)
        await _delivered(b, len(NAMES))

    shared(scenario)


def test_a_store_that_is_away_ends_nothing(shared: Any) -> None:
    async def scenario(b: SharedBench) -> None:
        first, second = await b.start(_twelve()), await b.start(_twelve())
        await b.settle()
        await first.publish()
        first.store.away = second.store.away = True
        await asyncio.sleep(20)
        first.store.away = second.store.away = False
        await second.publish()
        await asyncio.sleep(5)
        await _delivered(b, 2 * len(NAMES))

    assert set(shared(scenario).sent().values()) == {1}


def _told(gateway: Gateway, after: str | None) -> dict[str, bool]:
    return {item.name: item.owner for item in gateway.engine.report(after=after).endpoints}


def test_reports_tell_of_own_endpoints_and_once_of_those_that_were_let_go(shared: Any) -> None:
    async def scenario(b: SharedBench) -> None:
        first = await b.start(_twelve())
        await b.settle()
        assert _told(first, None) == dict.fromkeys(NAMES, True)
        cursor = first.engine.report(after=None).cursor
        second = await b.start(_twelve())
        await b.settle()
        assert _told(second, None) == dict.fromkeys(second.owned, True)
        gone = {name: owner for name, owner in _told(first, cursor).items() if not owner}
        assert gone == dict.fromkeys(second.owned, False)
        cursor = first.engine.report(after=cursor).cursor
        await first.publish()
        await asyncio.sleep(2)
        assert _told(first, cursor) == dict.fromkeys(first.owned, True)

    shared(scenario)


def test_either_tells_the_same_of_every_endpoint_and_of_the_whole(shared: Any) -> None:
    async def scenario(b: SharedBench) -> None:
        both = config(*(endpoint(name) for name in NAMES), channel("c", "client_1"))
        for name in NAMES[::3]:
            b.transport.scripts[name] = [status(410)]
        first, second = await b.start(both), await b.start(both)
        await b.settle()
        await first.publish(*[event(channels=("client_1",))] * 2)
        await second.publish(event())
        await asyncio.sleep(12)
        for gateway in (first, second):
            await gateway.engine.look_up(endpoints=None)
        for name in NAMES:
            one, other = (gateway.engine.endpoint_report(name) for gateway in (first, second))
            assert one == other, name
            assert one is not None
            assert one.recent_deliveries
        assert first.engine.environment_activity() == second.engine.environment_activity()
        assert first.engine.environment_activity().accepted == 3
        assert first.engine.channel_activity() == second.engine.channel_activity()
        assert [item.accepted for item in first.engine.channel_activity()] == [2]
        counted = [gateway.engine.metrics().deliveries for gateway in (first, second)]
        assert not set(counted[0]) & set(counted[1]), "a sum over both is the truth"

    shared(scenario)


def test_counters_of_events_are_never_overwritten(shared: Any) -> None:
    async def scenario(b: SharedBench) -> None:
        first, second = await b.start(_twelve()), await b.start(_twelve())
        for _ in range(20):
            await asyncio.gather(first.publish(), second.publish())
            await asyncio.gather(*(g.engine._housekeeping.share_counters() for g in (first, second)))
        await first.stop()
        third = await b.start(_twelve())
        assert third.engine.environment_activity().accepted == 40

    shared(scenario)


@pytest.mark.parametrize("ends", ["drain", "kill"])
def test_a_replay_goes_on_where_its_endpoint_goes(shared: Any, ends: str) -> None:
    async def scenario(b: SharedBench) -> None:
        for name in NAMES:
            b.transport.scripts[name] = [broken(ErrorCode.ADDRESS_DENIED)]
        first, second = await b.start(_twelve(ONE_TRY)), await b.start(_twelve(ONE_TRY))
        await b.settle()
        await first.publish(*[event()] * 20)
        await asyncio.sleep(3)
        assert {row.status for row in await b.deliveries()} == {DeliveryStatus.DEAD_LETTERED}
        for name in NAMES:
            b.transport.scripts[name] = [OK]
        until_ms = START_MS + 3_600_000
        replays = [
            replay(f"r-{name}", name, select=ReplaySelect.FAILED, since_ms=START_MS, until_ms=until_ms, rate=4)
            for name in NAMES
        ]
        both = config(*(endpoint(name, delivery=ONE_TRY) for name in NAMES), *replays)
        await first.apply(both, sequence=2)
        await second.apply(both, sequence=2)
        await asyncio.sleep(2)
        await (first.stop() if ends == "drain" else first.kill())
        await asyncio.sleep(30)
        await _delivered(b, 20 * len(NAMES))
        reports = second.engine.report(after=None).replays
        assert {(item.phase, item.selected, item.delivered) for item in reports} == {(Reason.COMPLETED, 20, 20)}
        assert len(reports) == len(NAMES)

    shared(scenario)


def test_either_tells_how_far_a_replay_is(shared: Any) -> None:
    async def scenario(b: SharedBench) -> None:
        first, second = await b.start(_twelve()), await b.start(_twelve())
        await b.settle()
        await first.publish(*[event()] * 3)
        await asyncio.sleep(2)
        until_ms = START_MS + 3_600_000
        replays = [
            replay(f"r-{name}", name, select=ReplaySelect.ALL, since_ms=START_MS, until_ms=until_ms) for name in NAMES
        ]
        both = config(*(endpoint(name) for name in NAMES), *replays, replay_of_nothing(until_ms))
        for gateway in (first, second):
            await gateway.apply(both, sequence=2)
        await asyncio.sleep(10)
        uids = [item.identity.uid for item in both.replays]
        told = []
        for gateway in (first, second):
            await gateway.engine.look_up(replays=uids)
            told.append([gateway.engine.replay_report(uid) for uid in uids])
        assert told[0] == told[1]
        phases = {item.name: item.phase for item in told[0] if item is not None}
        assert phases == {**{f"r-{name}": Reason.COMPLETED for name in NAMES}, "none": Reason.ENDPOINT_NOT_FOUND}
        by_owner = [{item.name for item in gateway.engine.report(after=None).replays} for gateway in (first, second)]
        assert not by_owner[0] & by_owner[1]
        assert by_owner[0] | by_owner[1] == phases.keys()

    shared(scenario)


def replay_of_nothing(until_ms: int) -> Any:
    return replay("none", "nobody", select=ReplaySelect.ALL, since_ms=START_MS, until_ms=until_ms)


def test_a_drain_stands_back_also_while_the_store_is_away(shared: Any) -> None:
    async def scenario(b: SharedBench) -> None:
        b.transport.seconds = 1.0
        first, second = await b.start(_twelve()), await b.start(_twelve())
        await b.settle()
        await first.publish()
        await asyncio.sleep(0.5)
        first.store.away = True
        sent = len(b.transport.sent)
        await first.stop(deadline_seconds=5)
        assert len(b.transport.sent) == sent
        await b.settle()
        assert second.owned == set(NAMES)
        await asyncio.sleep(10)
        await _delivered(b, len(NAMES))

    shared(scenario)
