"""The activity stream: what is said, to how many, and what becomes of one who does not listen."""

from __future__ import annotations

import json
from typing import Any

import pytest
from multidict import CIMultiDict

from hookstead.delivery.ports import DeliveryStatus, RecentAttempt
from hookstead.gateway.exchange import Request
from hookstead.gateway.problems import ProblemError
from hookstead.gateway.stream import ActivityStream

ASK = Request(method="GET", path="/v1/activity/stream", headers=CIMultiDict())


def parsed(chunk: bytes) -> tuple[str, Any]:
    name, data, rest = chunk.decode().split("\n", 2)
    assert rest == "\n"
    return name.removeprefix("event: "), json.loads(data.removeprefix("data: "))


async def test_each_happening_is_one_event_without_a_body() -> None:
    stream = ActivityStream()
    chunks = (await stream.handle(ASK)).chunks
    assert (await anext(chunks)).startswith(b"retry:")
    stream.event_accepted("msg_1", "order.created", ("client_1",), 2)
    stream.attempt(
        "acme",
        RecentAttempt(
            delivery_id="dlv_1",
            event_type="order.created",
            started_ms=1_769_860_800_000,
            number=3,
            succeeded=False,
            status_code=500,
            duration_ms=12,
            message="HTTP 500",
            next_attempt_ms=None,
        ),
    )
    stream.delivery_finished("acme", "dlv_1", DeliveryStatus.DEAD_LETTERED)
    assert parsed(await anext(chunks)) == (
        "event.accepted",
        {"id": "msg_1", "type": "order.created", "channels": ["client_1"], "endpoints": 2},
    )
    name, attempt = parsed(await anext(chunks))
    assert name == "attempt"
    assert attempt["endpoint"] == "acme"
    assert (attempt["id"], attempt["attempt"], attempt["outcome"], attempt["time"]) == (
        "dlv_1",
        3,
        "Failed",
        "2026-01-31T12:00:00.000Z",
    )
    assert parsed(await anext(chunks)) == (
        "delivery.finished",
        {"id": "dlv_1", "endpoint": "acme", "status": "DeadLettered"},
    )


async def test_a_reader_that_falls_behind_gets_what_is_queued_and_is_dropped() -> None:
    stream = ActivityStream(queue=10)
    slow, quick = (await stream.handle(ASK)).chunks, (await stream.handle(ASK)).chunks
    await anext(slow)
    await anext(quick)
    for number in range(20):
        stream.delivery_finished("acme", f"dlv_{number}", DeliveryStatus.DELIVERED)
        assert parsed(await anext(quick))[1]["id"] == f"dlv_{number}"
    assert [parsed(chunk)[1]["id"] async for chunk in slow] == [f"dlv_{number}" for number in range(10)]
    assert stream.readers == 1


async def test_readers_are_bounded_and_a_place_is_given_back() -> None:
    stream = ActivityStream(readers=2)
    held = [await stream.handle(ASK) for _ in range(2)]
    with pytest.raises(ProblemError) as caught:
        await stream.handle(ASK)
    assert caught.value.problem.status == 503
    held[0].close()
    await stream.handle(ASK)


async def test_closing_ends_every_stream_and_takes_no_new_one() -> None:
    stream = ActivityStream()
    chunks = (await stream.handle(ASK)).chunks
    await anext(chunks)
    stream.event_accepted("msg_1", "a", (), 0)
    stream.close()
    assert len([chunk async for chunk in chunks]) == 1
    with pytest.raises(ProblemError):
        await stream.handle(ASK)
    stream.event_accepted("msg_2", "a", (), 0)
