"""SIGTERM and SIGINT under load: refused at once, what is in flight finished, nothing lost, nothing sent twice."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from pathlib import Path

import aiohttp
import pytest

from builders import endpoint
from faults.gateway_process import TOKEN, Home, Life, home, until
from faults.load import Ledger, load, under_way
from faults.sink import Sink, sink

LONG = ("--drain-seconds", "600")
"""A stop that waited for the deadline instead of for what is in flight would outlast every test."""


async def refused(life: Life) -> bool:
    """Whether readiness and ingest both answer 503 by now."""
    ready, answer = await life.get(f"{life.admin}/readyz"), await life.publish()
    assert answer.status in (202, 503)
    if answer.status == 503:
        assert answer.body["type"].endswith("/draining")
        assert int(answer.headers["Retry-After"]) > 0
    return (ready.status, answer.status) == (503, 503)


async def delivers_everything(place: Home, receiver: Sink, ledger: Ledger) -> None:
    """A further life brings what the stopped one left behind; then the books balance."""
    life = await place.start(*LONG)

    async def all_there() -> bool:
        return receiver.ids("/all") >= set(ledger.promised.values()) and not await life.metric(
            "hookstead_deliveries", status="Pending"
        )

    await until(all_there, what="every promised event delivered")
    assert await life.stop() == 0
    assert await place.check() == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_under_load_refuses_at_once_finishes_and_loses_nothing(
    tmp_path: Path, number: signal.Signals
) -> None:
    async with sink() as receiver, home(tmp_path, endpoint("all", url=f"{receiver.url}/all")) as place:
        life, ledger = await place.start(*LONG), Ledger()
        async with load(life, ledger, producers=6):
            await under_way(ledger, 200)
            receiver.gate = asyncio.Event()  # from here on, every attempt is in flight until we say so

            async def window_full() -> bool:
                return receiver.open == 20

            await until(window_full, what="as many attempts in flight as are allowed")
            life.send(number)
            await until(lambda: refused(life), what="refusal at once, with attempts still in flight")
            assert life.child.running
            assert (await life.get(f"{life.admin}/healthz")).status == 200
            in_flight = receiver.order[-20:]
            receiver.gate.set()
            assert await life.ended() == 0
        assert set(ledger.statuses) <= {202, 503}
        await delivers_everything(place, receiver, ledger)
        assert set(in_flight) <= receiver.seen.keys()
        assert set(receiver.seen.values()) == {1}, "a clean stop sends nothing twice"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_receiver_that_never_answers_holds_a_stop_up_for_drain_seconds_only(
    tmp_path: Path, number: signal.Signals
) -> None:
    async with sink() as receiver, home(tmp_path, endpoint("all", url=f"{receiver.url}/all")) as place:
        receiver.gate = asyncio.Event()
        life, ledger = await place.start("--drain-seconds", "1"), Ledger()
        async with load(life, ledger, producers=2):
            await under_way(ledger, 50)
        # An attempt may take 15 s; the drain must cut it off.
        assert await life.stop(number, seconds=12) == 0
        receiver.gate.set()
        await delivers_everything(place, receiver, ledger)


async def test_a_second_signal_does_not_wait(tmp_path: Path) -> None:
    async with sink() as receiver, home(tmp_path, endpoint("all", url=f"{receiver.url}/all")) as place:
        receiver.gate = asyncio.Event()
        life, ledger = await place.start(*LONG), Ledger()
        async with load(life, ledger, producers=2):
            await under_way(ledger, 5)
        life.send(signal.SIGTERM)
        await until(lambda: refused(life), what="the drain")
        assert await life.stop(seconds=12) == 0
        receiver.gate.set()
        await delivers_everything(place, receiver, ledger)


async def test_who_waits_for_news_is_answered_by_a_stop_and_does_not_hold_it_up(tmp_path: Path) -> None:
    async with sink() as receiver, home(tmp_path, endpoint("all", url=f"{receiver.url}/all")) as place:
        life = await place.start(*LONG)
        headers = {"Authorization": f"Bearer {TOKEN}"}
        report = f"{life.internal}/internal/v1/report"
        cursor = (await life.get(report, headers=headers)).body["cursor"]
        waiting = asyncio.create_task(life.get(report, headers=headers, params={"waitSeconds": "20", "after": cursor}))
        await asyncio.sleep(0.3)
        assert not waiting.done()
        assert await life.stop() == 0
        # Answered, not cut off: the operator has what happened last.
        assert (await waiting).status == 200


async def test_a_body_that_is_not_complete_is_refused_by_a_stop(tmp_path: Path) -> None:
    async with sink() as receiver, home(tmp_path, endpoint("all", url=f"{receiver.url}/all")) as place:
        life = await place.start(*LONG)
        reader, writer = await asyncio.open_connection("127.0.0.1", int(life.url.rpartition(":")[2]))
        with contextlib.closing(writer):
            writer.write(b"POST /v1/events HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1000\r\n\r\n{")
            await asyncio.sleep(0.3)
            assert await life.stop() == 0
            assert (await reader.readline()).startswith(b"HTTP/1.1 503")


async def test_idle_connections_and_streams_do_not_hold_up_a_stop(tmp_path: Path) -> None:
    async with sink() as receiver, home(tmp_path, endpoint("all", url=f"{receiver.url}/all")) as place:
        life = await place.start(*LONG)
        async with aiohttp.ClientSession() as session, session.get(f"{life.url}/v1/activity/stream") as stream:
            await stream.content.readline()
            assert (await life.publish()).status == 202
            assert await life.stop() == 0
            await stream.content.read()
