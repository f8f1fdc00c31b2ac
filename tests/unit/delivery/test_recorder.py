"""The recorder: batches to the store, and which state of a lane is the last word."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import pytest

from hookstead.delivery.ports import (
    AttemptRecord,
    DeliveryStatus,
    EndpointKey,
    LaneState,
    Settlement,
    Store,
    StoreError,
    StoreUnavailable,
    Trigger,
)
from hookstead.delivery.recorder import Pending, Recorder

KEY = EndpointKey("e", "uid")
GONE = LaneState(gone_ms=1)
RESUMED = LaneState(handled_resume_at="now")


class SlowStore:
    """Answers when the test lets it, and raises what the test tells it to."""

    def __init__(self, *failures: Exception) -> None:
        self.failures = list(failures)
        self.lanes: list[Mapping[EndpointKey, LaneState]] = []
        self.asked = asyncio.Event()
        self.go = asyncio.Event()

    async def record(self, attempts: Sequence[AttemptRecord], lanes: Mapping[EndpointKey, LaneState]) -> list[int]:
        self.asked.set()
        await self.go.wait()
        if self.failures:
            raise self.failures.pop(0)
        self.lanes.append(dict(lanes))
        return [1] * len(attempts)


def _pending(lane: LaneState, delivery: str = "dlv_1", endpoint: EndpointKey = KEY) -> Pending:
    record = AttemptRecord(
        delivery_id=delivery,
        endpoint=endpoint,
        trigger=Trigger.SCHEDULED,
        started_ms=0,
        duration_ms=1,
        succeeded=False,
        status_code=410,
        error=None,
        message="",
        response_body=b"",
        prior_status=DeliveryStatus.PENDING,
        settlement=Settlement(status=DeliveryStatus.PENDING, schedule_position=1),
    )
    return Pending(record, lane, "t")


def _recorder(store: Any, shown: list[LaneState]) -> Recorder:
    return Recorder(
        store=cast(Store, store),
        committed=lambda pending, _: shown.append(pending.lane),
        linger_seconds=0,
        retry_seconds=0,
    )


@pytest.mark.parametrize("while_it_is_written", [False, True])
async def test_a_resume_is_not_undone_by_an_attempt_from_before_it(while_it_is_written: bool) -> None:
    store, shown = SlowStore(), list[LaneState]()
    recorder = _recorder(store, shown)
    recorder.start()
    recorder.add(_pending(GONE))
    if while_it_is_written:
        await store.asked.wait()
    recorder.save(KEY, RESUMED)
    store.go.set()
    await recorder.flushed()
    await recorder.stop()
    assert store.lanes[-1] == {KEY: RESUMED}
    assert shown == [RESUMED]


async def test_an_attempt_after_a_resume_has_the_last_word() -> None:
    store, shown = SlowStore(), list[LaneState]()
    recorder = _recorder(store, shown)
    recorder.start()
    recorder.save(KEY, RESUMED)
    recorder.add(_pending(GONE))
    store.go.set()
    await recorder.flushed()
    await recorder.stop()
    assert store.lanes[-1] == {KEY: GONE}
    assert shown == [GONE]


@pytest.mark.parametrize("failure", [StoreUnavailable("away"), KeyError("a fault of ours")])
async def test_an_attempt_is_recorded_in_the_end_whatever_the_store_raised(failure: Exception) -> None:
    store, shown = SlowStore(failure), list[LaneState]()
    recorder = _recorder(store, shown)
    recorder.start()
    recorder.add(_pending(GONE))
    store.go.set()
    await recorder.flushed()
    await recorder.stop()
    assert shown == [GONE]


async def test_what_lingers_goes_along_with_whoever_calls_the_store_next() -> None:
    store, shown = SlowStore(), list[LaneState]()
    recorder = _recorder(store, shown)
    recorder.linger_seconds = 3600
    recorder.start()
    await recorder.join()
    assert not store.asked.is_set(), "nothing lingers"
    recorder.add(_pending(GONE))
    await asyncio.sleep(0.01)
    assert not store.asked.is_set()
    await recorder.join()
    assert store.asked.is_set(), "the store was called before the caller goes on"
    store.go.set()
    await recorder.flushed()
    recorder.save(KEY, RESUMED)
    await recorder.join()
    await recorder.flushed()
    assert store.lanes == [{KEY: GONE}, {KEY: RESUMED}]
    await recorder.stop()


class PickyStore:
    """Refuses for good whatever has to do with one delivery or one endpoint's state, and writes the rest."""

    def __init__(self, *, delivery: str = "", state: LaneState | None = None) -> None:
        self.delivery = delivery
        self.state = state
        self.written: list[str] = []
        self.states: dict[EndpointKey, LaneState] = {}
        self.calls = 0

    async def record(self, attempts: Sequence[AttemptRecord], lanes: Mapping[EndpointKey, LaneState]) -> list[int]:
        self.calls += 1
        await asyncio.sleep(0)
        if self.delivery in {one.delivery_id for one in attempts} or self.state in lanes.values():
            raise StoreError("this one I will not take")
        self.written += [one.delivery_id for one in attempts]
        self.states.update(lanes)
        return [1] * len(attempts)


def _many(count: int) -> list[Pending]:
    return [
        _pending(LaneState(consecutive_failures=number), f"dlv_{number}", EndpointKey(f"e{number % 5}", "uid"))
        for number in range(count)
    ]


async def _turns(until: Callable[[], bool]) -> None:
    for _ in range(2000):
        if until():
            return
        await asyncio.sleep(0.001)
    raise AssertionError("it did not come to that")


@pytest.mark.parametrize("poison", [0, 17, 39])
async def test_a_record_that_the_store_will_not_take_holds_up_no_other_and_is_tried_again(poison: int) -> None:
    store, done = PickyStore(delivery=f"dlv_{poison}"), list[str]()
    recorder = Recorder(
        store=cast(Store, store),
        committed=lambda pending, _: done.append(pending.record.delivery_id),
        linger_seconds=0,
        retry_seconds=0.001,
    )
    recorder.start()
    everything = _many(40)
    for pending in everything:
        recorder.add(pending)
    await recorder.flushed()
    others = {one.record.delivery_id for one in everything} - {f"dlv_{poison}"}
    assert set(done) == others
    assert len(store.written) == len(others), "each once"
    assert store.states == {EndpointKey(f"e{n}", "uid"): LaneState(consecutive_failures=35 + n) for n in range(5)}
    later = _pending(LaneState(consecutive_failures=99), "dlv_later", EndpointKey("e0", "uid"))
    recorder.add(later)
    await recorder.flushed()
    assert done[-1] == "dlv_later"
    assert everything[poison].record.delivery_id not in store.written
    store.delivery = ""
    await _turns(lambda: f"dlv_{poison}" in done)
    assert store.states[EndpointKey("e0", "uid")] == LaneState(consecutive_failures=99), "it brings no old state along"
    assert everything[poison].late
    await recorder.stop()


async def test_a_state_that_the_store_will_not_take_holds_up_no_attempt() -> None:
    store, done = PickyStore(state=LaneState(consecutive_failures=9)), list[str]()
    recorder = Recorder(
        store=cast(Store, store),
        committed=lambda pending, _: done.append(pending.record.delivery_id),
        linger_seconds=0,
        retry_seconds=0,
    )
    recorder.start()
    for pending in _many(10):
        recorder.add(pending)
    await recorder.flushed()
    assert len(done) == 10
    assert set(store.states) == {EndpointKey(f"e{n}", "uid") for n in range(4)}
    await recorder.stop()


async def test_whoever_waits_for_a_record_that_the_store_will_not_take_waits_and_the_rest_of_memory_is_bounded() -> (
    None
):
    store = PickyStore(delivery="dlv_1")
    recorder = Recorder(
        store=cast(Store, store), committed=lambda *_: None, linger_seconds=0, retry_seconds=0.001, backlog_limit=3
    )
    recorder.start()
    waiter = asyncio.get_running_loop().create_future()
    first = _pending(GONE)
    first.waiter = waiter
    recorder.add(first)
    for _ in range(2):
        recorder.add(_pending(GONE))
    await recorder.flushed()
    assert not waiter.done(), "in order, the next one must not overtake it"
    room = asyncio.ensure_future(recorder.room())
    await asyncio.sleep(0.02)
    assert not room.done(), "three are set aside, which is all that may be"
    store.delivery = ""
    await asyncio.wait_for(asyncio.gather(room, waiter), 10)
    await recorder.stop()
