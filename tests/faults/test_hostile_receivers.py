"""Every hostile receiver ends in its result, within the timeout, and leaves the next attempt unharmed."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
import uvloop

from faults.receivers.corpus import CORPUS, Hostile
from faults.receivers.nameserver import Zone, nameserver
from faults.receivers.sending import loopback_only, outbound, sending
from faults.receivers.server import answering, http_answer, receiver
from hookstead.delivery.ports import RESPONSE_BODY_LIMIT, EndpointKey, ErrorCode
from hookstead.egress.resolver import CaresResolver, parse_server
from hookstead.egress.transport import HttpTransport

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
@pytest.mark.parametrize("hostile", CORPUS, ids=lambda hostile: hostile.name)
def test_an_attempt_against_a_hostile_receiver_ends_as_the_contract_says(
    hostile: Hostile, loop: Callable[[], asyncio.AbstractEventLoop]
) -> None:
    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(an_attempt_ends(hostile))


async def an_attempt_ends(hostile: Hostile) -> None:
    async with receiver(hostile.script) as running, sending() as transport:
        request = outbound(running.url("/secret-path"), timeout_seconds=hostile.timeout_seconds)
        result = await asyncio.wait_for(transport.send(request), hostile.timeout_seconds + 3)
    assert (result.error, result.status_code) == (hostile.error, hostile.status), result
    if hostile.body is not None:
        assert result.body == hostile.body
    assert len(result.body) <= RESPONSE_BODY_LIMIT
    assert "\n" not in result.message
    assert "secret-path" not in result.message
    assert result.message


@pytest.mark.parametrize("hostile", CORPUS, ids=lambda hostile: hostile.name)
async def test_the_next_attempt_does_not_inherit_a_hostile_receivers_connection(hostile: Hostile) -> None:
    """First the hostile script on one connection, then an honest one on the next, at the same address."""
    turns = 0
    honest = answering(http_answer(200, b"honest"))

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal turns
        turns += 1
        await (hostile.script if turns == 1 else honest)(reader, writer)

    async with receiver(script) as running, sending() as transport:
        await transport.send(outbound(running.url(), timeout_seconds=min(hostile.timeout_seconds, 1.0)))
        await asyncio.sleep(0.01)
        if turns == 1 and transport.idle_count:
            # The hostile one kept the line open after a whole, clean answer: it may be asked again.
            assert hostile.error is None
            return
        result = await transport.send(outbound(running.url()))
    assert (result.error, result.status_code, result.body) == (None, 200, b"honest")


async def test_a_redirect_to_loopback_is_not_followed() -> None:
    async with receiver(answering(http_answer(200))) as inner:
        location = inner.url("/admin")
        async with receiver(answering(http_answer(307, b"", location=location))) as outer, sending() as transport:
            result = await transport.send(outbound(outer.url()))
        assert (result.status_code, inner.connections) == (307, 0)


async def test_a_port_that_nobody_listens_on_is_a_connect_error() -> None:
    async with receiver(answering(http_answer())) as running:
        url = running.url("/secret-path")
    async with sending() as transport:
        result = await transport.send(outbound(url))
    assert result.error is ErrorCode.CONNECT
    assert "refused" in result.message.lower()
    assert "secret-path" not in result.message


async def test_a_hundred_stalled_attempts_delay_no_healthy_one() -> None:
    stalls = next(hostile for hostile in CORPUS if hostile.name == "accepts and never answers")
    async with (
        receiver(stalls.script) as black_hole,
        receiver(answering(http_answer())) as healthy,
        sending() as transport,
    ):
        stalled = [asyncio.create_task(transport.send(outbound(black_hole.url()))) for _ in range(100)]
        await asyncio.sleep(0.1)
        for _ in range(20):
            result = await transport.send(outbound(healthy.url(), endpoint=EndpointKey("healthy", "u")))
            assert result.status_code == 200
        assert not any(task.done() for task in stalled)
        for task in stalled:
            task.cancel()
        await asyncio.gather(*stalled, return_exceptions=True)


async def test_the_stalled_names_of_some_endpoints_delay_no_other() -> None:
    """Through the real resolver: a zone that never answers, and beside it one that does."""
    zone = Zone({"healthy.example.com": ("127.0.0.1",)}, silent=("stalled.example",))
    async with receiver(answering(http_answer())) as running, nameserver(zone) as server:
        transport = HttpTransport(
            resolver=CaresResolver(servers=[parse_server(server)]),
            allow_loopback=True,
            own_listeners=lambda: (),
            dialler=loopback_only,
        )
        stalled = [
            asyncio.create_task(
                transport.send(outbound(f"http://h{n}.stalled.example/", endpoint=EndpointKey(f"stalled-{n}", "u")))
            )
            for n in range(100)
        ]
        await asyncio.sleep(0.05)
        for n in range(20):
            url = running.url(host="healthy.example.com")
            result = await transport.send(outbound(url, endpoint=EndpointKey(f"healthy-{n}", "u")))
            assert result.status_code == 200
        assert not any(task.done() for task in stalled)
        for task in stalled:
            task.cancel()
        await asyncio.gather(*stalled, return_exceptions=True)
        await transport.close()
