"""WebhookReplay over the real store, in virtual time."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from builders import channel, config, endpoint, environment, replay
from engine_bench import OK, Bench, broken, event, on_bench, status
from hookstead.config.report import ReplayReport
from hookstead.delivery.ports import DeliveryStatus, ErrorCode, Trigger
from hookstead.resources.conditions import Reason
from hookstead.resources.kinds import DeliverySpec, EndpointState, Ordering, ReplaySelect, RetrySpec
from virtual_time import START_MS

Scenario = Callable[[Bench], Awaitable[None]]
ONE_TRY = DeliverySpec(retry=RetrySpec(schedule_seconds=(1,)))


@pytest.fixture
def bench(tmp_path: Path) -> Callable[[Scenario], Bench]:
    return lambda scenario: on_bench(tmp_path / "store.db", scenario)


def _report(b: Bench, name: str = "r") -> ReplayReport:
    found = [item for item in b.engine.report(after=None).replays if item.name == name]
    assert found, "no report of the replay"
    return found[0]


def _window(select: ReplaySelect, **fields: Any) -> Any:
    return replay("r", "e", select=select, since_ms=START_MS, until_ms=START_MS + 3_600_000, **fields)


def test_failed_re_arms_the_dead_letters_themselves(bench: Any) -> None:
    async def scenario(b: Bench) -> None:
        b.transport.scripts["e"] = [broken(ErrorCode.ADDRESS_DENIED)]
        await b.start(config(endpoint("e", delivery=ONE_TRY)))
        await b.publish(event("a"), event("b"), event("a"))
        await b.pass_time(5)
        b.transport.scripts["e"] = [OK]
        await b.apply(config(endpoint("e", delivery=ONE_TRY), _window(ReplaySelect.FAILED, types=("a",))))
        await b.pass_time(10)
        rows = await b.deliveries()
        assert [(row.event_type, row.status, row.attempt_count) for row in rows] == [
            ("a", DeliveryStatus.DELIVERED, 2),
            ("b", DeliveryStatus.DEAD_LETTERED, 1),
            ("a", DeliveryStatus.DELIVERED, 2),
        ]
        assert [one.trigger for one in await b.attempts(rows[0].id)] == [Trigger.SCHEDULED, Trigger.REPLAY]
        done = _report(b)
        assert (done.phase, done.selected, done.delivered, done.failed) == (Reason.COMPLETED, 2, 2, 0)
        assert done.completion_time is not None
        await b.lawful()
        await b.stop()

    bench(scenario)


def test_missed_makes_deliveries_of_events_that_never_became_one(bench: Any) -> None:
    async def scenario(b: Bench) -> None:
        await b.start(config(endpoint("e", types=["a"]), channel("c", "client_1")))
        await b.publish(event("a"), event("b", b'{"n":1}'), event("b", b'{"n":9}'), event("c"))
        await b.pass_time(2)
        wider = endpoint("e", types=["a", "b"], filter="event.type == 'a' || event.data.n > 5")
        await b.apply(config(wider, channel("c", "client_1"), _window(ReplaySelect.MISSED)))
        await b.pass_time(10)
        rows = await b.deliveries()
        assert [(row.event_type, row.status) for row in rows] == [
            ("a", DeliveryStatus.DELIVERED),
            ("b", DeliveryStatus.DELIVERED),
        ]
        assert _report(b).selected == 1
        await b.lawful()
        await b.stop()

    sent = bench(scenario).transport.sent
    assert sent[-1].request.body.endswith(b'"data":{"n":9}}')


def test_all_delivers_again_under_the_same_event_id_and_once_only(bench: Any) -> None:
    async def scenario(b: Bench) -> None:
        await b.start(config(endpoint("e")))
        await b.publish(*[event()] * 5)
        await b.pass_time(2)
        wanted = config(endpoint("e"), _window(ReplaySelect.ALL))
        await b.apply(wanted)
        await b.pass_time(10)
        await b.crash()
        await b.start(wanted)
        await b.pass_time(10)
        assert _report(b).phase is Reason.COMPLETED
        assert len(await b.deliveries()) == 10
        await b.lawful()
        await b.stop()

    sent = bench(scenario).transport.sent
    assert len(sent) == 10
    assert len({one.message_id for one in sent}) == 5


def test_a_replay_survives_a_crash_half_way(bench: Any) -> None:
    async def scenario(b: Bench) -> None:
        await b.start(config(endpoint("e")))
        await b.publish(*[event()] * 600)
        await b.pass_time(20)
        b.transport.seconds = 0.5
        wanted = config(endpoint("e"), _window(ReplaySelect.ALL))
        await b.apply(wanted)
        await b.pass_time(6)
        assert _report(b).phase is Reason.RUNNING
        await b.crash()
        await b.start(wanted)
        await b.pass_time(100)
        done = _report(b)
        assert (done.phase, done.selected, done.delivered) == (Reason.COMPLETED, 600, 600)
        await b.lawful()
        await b.stop()

    bench(scenario)


def test_a_rate_of_its_own_spaces_the_replay(bench: Any) -> None:
    async def scenario(b: Bench) -> None:
        await b.start(config(endpoint("e")))
        await b.publish(*[event()] * 20)
        await b.pass_time(2)
        await b.apply(config(endpoint("e"), _window(ReplaySelect.ALL, rate=2)))
        await b.pass_time(60)
        assert _report(b).delivered == 20
        await b.stop()

    times = bench(scenario).transport.times("e")[20:]
    assert 9 <= times[-1] - times[0] <= 11


@pytest.mark.parametrize(
    ("objects", "phase"),
    [
        ((), Reason.ENDPOINT_NOT_FOUND),
        ((endpoint("e", state=EndpointState.DISABLED),), Reason.ENDPOINT_DISABLED),
        ((endpoint("e"),), Reason.NOTHING_SELECTED),
    ],
)
def test_a_replay_that_cannot_do_anything_says_so_and_ends(bench: Any, objects: Any, phase: Reason) -> None:
    async def scenario(b: Bench) -> None:
        await b.start(config(*objects, _window(ReplaySelect.FAILED)))
        await b.pass_time(10)
        assert _report(b).phase is phase
        assert _report(b).message
        await b.apply(config(endpoint("e"), _window(ReplaySelect.FAILED)))
        await b.pass_time(10)
        assert _report(b).phase is phase
        await b.stop()

    bench(scenario)


def test_a_replay_that_fails_again_is_counted_as_failed(bench: Any) -> None:
    async def scenario(b: Bench) -> None:
        b.transport.scripts["e"] = [status(500)]
        await b.start(config(endpoint("e", delivery=ONE_TRY)))
        await b.publish()
        await b.pass_time(5)
        await b.apply(config(endpoint("e", delivery=ONE_TRY), _window(ReplaySelect.FAILED)))
        await b.pass_time(10)
        done = _report(b)
        assert (done.phase, done.selected, done.delivered, done.failed) == (Reason.COMPLETED, 1, 0, 1)
        (row,) = await b.deliveries()
        assert (row.status, row.attempt_count) == (DeliveryStatus.DEAD_LETTERED, 4)
        await b.lawful()
        await b.stop()

    bench(scenario)


@pytest.mark.parametrize("comes_back", [True, False])
def test_a_replay_that_is_gone_is_forgotten_with_the_retention_where_it_cannot_come_back(
    bench: Any, comes_back: bool
) -> None:
    """Where it can, in a folder of manifests, it is known for ever: a finished one is never run again."""

    async def scenario(b: Bench) -> None:
        b.settings = replace(b.settings, forget_replays=not comes_back)
        day = 86_400.0
        await b.start(config(endpoint("e")))
        await b.publish(event("a"))
        await b.pass_time(5)
        await b.apply(config(endpoint("e"), _window(ReplaySelect.ALL)))
        await b.pass_time(5)
        assert _report(b).selected == 1
        uid = "uid-r"
        assert await b.store.replay(uid) is not None
        await b.pass_time(40 * day)
        assert await b.store.replay(uid) is not None, "while the object is there, whatever its age"
        await b.apply(config(endpoint("e")))
        await b.pass_time(29 * day)
        assert await b.store.replay(uid) is not None
        await b.pass_time(3 * day)
        assert (await b.store.replay(uid) is not None) is comes_back
        await b.apply(config(endpoint("e"), _window(ReplaySelect.ALL)))
        await b.pass_time(5)
        assert _report(b).phase is (Reason.COMPLETED if comes_back else Reason.NOTHING_SELECTED)
        await b.lawful()
        await b.stop()

    assert len(bench(scenario).transport.sent) == 2


@pytest.mark.parametrize("select", [ReplaySelect.FAILED, ReplaySelect.ALL])
def test_what_a_replay_sends_runs_outside_the_order_and_holds_up_nothing_in_it(
    bench: Any, select: ReplaySelect
) -> None:
    async def scenario(b: Bench) -> None:
        def ordered(*schedule: int) -> Any:
            retry = RetrySpec(schedule_seconds=schedule)
            return endpoint("e", delivery=DeliverySpec(ordering=Ordering.ORDERED, retry=retry))

        hour = 3600
        b.transport.scripts["e"] = [status(500)]
        await b.start(config(environment(suspend_after_seconds=0), ordered(1)))
        await b.publish(event("dead"))
        await b.pass_time(5)
        everything = (environment(suspend_after_seconds=0), ordered(hour))
        await b.apply(config(*everything))
        await b.publish(event("waits"))
        await b.pass_time(hour / 2)
        asked = replay("r", "e", select=select, since_ms=START_MS, until_ms=START_MS + hour * 1000, types=("dead",))
        await b.apply(config(*everything, asked))
        await b.pass_time(hour / 4)
        first, *_, again = [row for row in await b.deliveries() if row.event_type == "dead"] * 2
        assert again.status is DeliveryStatus.PENDING, "it was sent while an older one waited, and failed"
        assert first.attempt_count + again.attempt_count >= 3
        b.transport.scripts["e"] = [OK]
        await b.pass_time(hour / 2)
        states = {row.event_type: row.status for row in await b.deliveries(status=DeliveryStatus.PENDING)}
        assert states == {"dead": DeliveryStatus.PENDING}, "what is in order went on before it"
        await b.publish(event("new"))
        await b.pass_time(5)
        assert b.transport.sent[-1].at == pytest.approx(b.clock.seconds, abs=6)
        await b.pass_time(hour)
        assert not await b.deliveries(status=DeliveryStatus.PENDING)
        await b.lawful()
        await b.stop()

    bench(scenario)
