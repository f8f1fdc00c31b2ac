"""The activity stream: what is said, to how many, and what becomes of one who does not listen."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Any

import pytest
from multidict import CIMultiDict

from hookstead.delivery.ports import DeliveryStatus, Hear, RecentAttempt
from hookstead.gateway.exchange import Request
from hookstead.gateway.problems import ProblemError
from hookstead.gateway.stream import ActivityStream

ASK = Request(method="GET", path="/v1/activity/stream", headers=CIMultiDict())


def parsed(chunk: bytes) -> tuple[str, Any]:
    name, data, rest = chunk.decode().split("\n", 2)
    assert rest == "\n"
    return name.removeprefix("event: "), json.loads(data.removeprefix("data: "))


def failed(message: str) -> RecentAttempt:
    return RecentAttempt(
        delivery_id="dlv_1",
        event_type="order.created",
        started_ms=1_769_860_800_000,
        number=3,
        succeeded=False,
        status_code=500,
        duration_ms=12,
        message=message,
        next_attempt_ms=None,
    )


async def test_each_happening_is_one_event_without_a_body() -> None:
    stream = ActivityStream()
    chunks = (await stream.handle(ASK)).chunks
    assert (await anext(chunks)).startswith(b"retry:")
    stream.event_accepted("msg_1", "order.created", ("client_1",), 2)
    stream.attempt("acme", failed("HTTP 500"))
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


async def test_many_events_at_once_cost_no_reader_its_stream() -> None:
    stream = ActivityStream(queue=200)
    chunks = (await stream.handle(ASK)).chunks
    await anext(chunks)
    for number in range(1000):
        stream.event_accepted(f"msg_{number}", "a", (), 0)
    assert [parsed(await anext(chunks))[1]["id"] for _ in range(1000)] == [f"msg_{number}" for number in range(1000)]


async def test_more_than_can_be_given_to_readers_is_told_as_missed() -> None:
    stream = ActivityStream(inbox=3)
    chunks = (await stream.handle(ASK)).chunks
    await anext(chunks)
    for number in range(10):
        stream.event_accepted(f"msg_{number}", "a", (), 0)
    got = [parsed(await anext(chunks)) for _ in range(4)]
    assert [data.get("id") for _, data in got[:3]] == ["msg_0", "msg_1", "msg_2"]
    assert got[3] == ("missed", {"count": 7})
    stream.event_accepted("msg_10", "a", (), 0)
    assert parsed(await anext(chunks))[1]["id"] == "msg_10"


class Others:
    """The relay to other gateways, as a stream sees it."""

    def __init__(self) -> None:
        self.wanted = False
        self.told: list[str] = []
        self.hear: Hear | None = None
        self.known = asyncio.Event()

    @property
    def listens(self) -> bool:
        return self.hear is not None

    def tell(self, message: str) -> None:
        self.told.append(message)

    async def listen(self, hear: Hear) -> None:
        self.hear = hear
        await self.known.wait()

    def end(self) -> None:
        self.hear = None

    def say(self, lines: Sequence[str], lost: int | None = 0) -> None:
        assert self.hear is not None
        self.hear(lines, lost)


def shared() -> tuple[ActivityStream, Others]:
    stream, others = ActivityStream(), Others()
    others.known.set()
    stream.share(others)
    return stream, others


async def test_what_happens_elsewhere_is_read_as_if_it_happened_here() -> None:
    there, relay = shared()
    relay.wanted = True
    there.event_accepted("msg_1", "order.created", ("client_1",), 2)
    there.attempt("acme", failed("name “x” unknown\n"))
    there.delivery_finished("acme", "dlv_1", DeliveryStatus.DEAD_LETTERED)
    there.close()
    assert all(line.isascii() and line.isprintable() for line in relay.told)
    here, others = shared()
    chunks = (await here.handle(ASK)).chunks
    await anext(chunks)
    others.say(relay.told)
    assert parsed(await anext(chunks)) == (
        "event.accepted",
        {"id": "msg_1", "type": "order.created", "channels": ["client_1"], "endpoints": 2},
    )
    name, attempt = parsed(await anext(chunks))
    assert (name, attempt["endpoint"], attempt["message"]) == ("attempt", "acme", "name “x” unknown\n")
    assert parsed(await anext(chunks)) == (
        "delivery.finished",
        {"id": "dlv_1", "endpoint": "acme", "status": "DeadLettered"},
    )
    assert others.told == [], "it is not passed on again"


async def test_an_attempt_is_told_behind_the_acceptance_at_another_gateway_that_it_follows_from() -> None:
    stream, others = shared()
    chunks = (await stream.handle(ASK)).chunks
    await anext(chunks)
    stream.attempt("acme", failed("first"))
    stream.delivery_finished("acme", "dlv_1", DeliveryStatus.DEAD_LETTERED)
    await asyncio.sleep(0)
    others.say(['event.accepted {"id":"msg_1"}'])
    stream.event_accepted("msg_2", "a", (), 0)
    names = [parsed(await anext(chunks))[0] for _ in range(4)]
    assert names == ["event.accepted", "event.accepted", "attempt", "delivery.finished"]


async def test_more_is_not_held_than_a_bound_and_nothing_is_lost_by_it() -> None:
    stream, others = ActivityStream(inbox=10, hold_seconds=3600), Others()
    others.wanted = True
    stream.share(others)
    for number in range(25):
        stream.delivery_finished("acme", f"dlv_{number}", DeliveryStatus.DELIVERED)
    assert len(others.told) == 15
    stream.close()
    stream.delivery_finished("acme", "dlv_25", DeliveryStatus.DELIVERED)
    assert [json.loads(line.partition(" ")[2])["id"] for line in others.told] == [f"dlv_{n}" for n in range(26)]


async def test_nothing_is_told_to_gateways_where_nobody_reads() -> None:
    stream, others = shared()
    stream.event_accepted("msg_1", "a", (), 0)
    chunks = (await stream.handle(ASK)).chunks
    await anext(chunks)
    stream.event_accepted("msg_2", "a", (), 0)
    assert parsed(await anext(chunks))[1]["id"] == "msg_2"
    assert others.told == []


@pytest.mark.parametrize("lost", [3, None])
async def test_what_was_lost_on_the_way_is_told_before_what_came_after_it(lost: int | None) -> None:
    stream, others = shared()
    chunks = (await stream.handle(ASK)).chunks
    await anext(chunks)
    others.say(['delivery.finished {"id":"dlv_1"}'], lost)
    assert parsed(await anext(chunks)) == ("missed", {"count": lost})
    assert parsed(await anext(chunks)) == ("delivery.finished", {"id": "dlv_1"})


async def test_what_only_a_newer_gateway_tells_is_passed_over() -> None:
    stream, others = shared()
    chunks = (await stream.handle(ASK)).chunks
    await anext(chunks)
    others.say(['endpoint.paused {"id":"e"}', "", 'delivery.finished {"id":"dlv_1"}'])
    assert parsed(await anext(chunks)) == ("delivery.finished", {"id": "dlv_1"})


async def test_the_answer_begins_when_the_others_know_and_listening_ends_with_the_last_reader() -> None:
    stream, others = shared()
    others.known.clear()
    asked = [asyncio.ensure_future(stream.handle(ASK)) for _ in range(3)]
    await asyncio.sleep(0)
    assert not any(one.done() for one in asked)
    asked[2].cancel()
    others.known.set()
    first, second = [await one for one in asked[:2]]
    first.close()
    first.close()
    assert stream.readers == 1
    assert others.listens
    second.close()
    assert not others.listens


async def test_a_reader_that_hangs_up_while_it_waits_is_none() -> None:
    stream, others = shared()
    others.known.clear()
    asked = asyncio.ensure_future(stream.handle(ASK))
    await asyncio.sleep(0)
    asked.cancel()
    await asyncio.gather(asked, return_exceptions=True)
    assert stream.readers == 0
    assert not others.listens
