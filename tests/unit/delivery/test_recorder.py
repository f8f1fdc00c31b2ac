"""The recorder: batches to the store, and which state of a lane is the last word."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, cast

import pytest

from hookstead.delivery.ports import (
    AttemptRecord,
    DeliveryStatus,
    EndpointKey,
    LaneState,
    Settlement,
    Store,
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


def _pending(lane: LaneState) -> Pending:
    record = AttemptRecord(
        delivery_id="dlv_1",
        endpoint=KEY,
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
