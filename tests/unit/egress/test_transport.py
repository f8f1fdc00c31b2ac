"""What goes over the wire, and what a connection is kept for."""

from __future__ import annotations

import asyncio
import errno
from typing import TYPE_CHECKING

import pytest

from faults.receivers.sending import BODY, ENDPOINT, LOOPBACK, TableResolver, loopback_only, outbound, sending
from faults.receivers.server import answering, http_answer, read_request, receiver
from hookstead.config.model import EgressPolicy, TlsMaterial
from hookstead.delivery.ports import EndpointKey, ErrorCode
from hookstead.egress.pool import Pool
from hookstead.egress.transport import HttpTransport
from hookstead.resources.secret import Secret

if TYPE_CHECKING:
    import socket

    from hookstead.egress.resolver import Resolution


async def test_a_request_is_one_plain_http_1_1_post() -> None:
    seen: list[bytes] = []
    async with receiver(answering(http_answer(), to=seen)) as running, sending() as transport:
        result = await transport.send(outbound(running.url("/hook?a=b%00")))
    assert (result.error, result.status_code, result.body) == (None, 200, b"ok")
    head, _, body = seen[0].partition(b"\r\n\r\n")
    assert body == BODY
    assert head.split(b"\r\n") == [
        b"POST /hook?a=b%00 HTTP/1.1",
        f"host: 127.0.0.1:{running.port}".encode(),
        b"content-type: application/json",
        b"webhook-id: msg_1",
        b"accept: */*",
        b"accept-encoding: identity",
        f"content-length: {len(BODY)}".encode(),
    ]


async def test_an_endpoints_own_accept_headers_stand_instead_of_ours() -> None:
    seen: list[bytes] = []
    own = (("accept", "text/plain"), ("accept-encoding", "gzip"))
    async with receiver(answering(http_answer(), to=seen)) as running, sending() as transport:
        await transport.send(outbound(running.url(), headers=own))
    assert seen[0].count(b"accept") == 2
    assert b"accept-encoding: gzip\r\n" in seen[0]


async def test_a_body_is_sent_byte_for_byte_whatever_it_holds() -> None:
    seen: list[bytes] = []
    body = bytes(range(256)) * 8192
    async with receiver(answering(http_answer(), to=seen)) as running, sending() as transport:
        await transport.send(outbound(running.url(), body=body))
    assert seen[0].endswith(b"\r\n\r\n" + body)


@pytest.mark.parametrize(
    "header",
    [
        ("host", "evil.example"),
        ("content-length", "0"),
        ("transfer-encoding", "chunked"),
        ("connection", "close"),
        ("cookie", "a=b"),
        ("proxy-authorization", "x"),
        ("x-forwarded-for", "127.0.0.1"),
        ("expect", "100-continue"),
        ("upgrade", "h2c"),
        ("te", "trailers"),
        ("x-a\r\nhost", "x"),
        ("x a", "x"),
        ("X-Upper", "x"),
        ("x-ä", "x"),
        ("", "x"),
        ("x" * 129, "x"),
        ("x-a", "a\r\nhost: evil.example"),
        ("x-a", "a\nb"),
        ("x-a", "a\0b"),
        ("x-a", "\x7f"),
        ("x-a", "ä"),
        ("webhook-id", "a second one"),
    ],
)
async def test_a_header_that_must_not_go_out_stops_the_attempt_before_the_dial(header: tuple[str, str]) -> None:
    async with receiver(answering(http_answer())) as running, sending() as transport:
        for _ in range(2):
            result = await transport.send(outbound(running.url(), headers=(("webhook-id", "msg_1"), header)))
            assert result.error is ErrorCode.PROTOCOL
            assert "\n" not in result.message
        assert running.connections == 0


async def test_a_tab_in_a_value_is_sent() -> None:
    seen: list[bytes] = []
    async with receiver(answering(http_answer(), to=seen)) as running, sending() as transport:
        await transport.send(outbound(running.url(), headers=(("x-a", "a\tb"),)))
    assert b"x-a: a\tb\r\n" in seen[0]


@pytest.mark.parametrize("value", ["120", "Wed, 21 Oct 2026 07:28:00 GMT", " 5 "])
async def test_retry_after_comes_back_as_it_was_sent(value: str) -> None:
    async with receiver(answering(http_answer(503, Retry_After=value))) as running, sending() as transport:
        result = await transport.send(outbound(running.url()))
    assert (result.status_code, result.retry_after) == (503, value.strip())


async def test_a_retry_after_of_one_answer_is_not_the_next_ones() -> None:
    answers = (http_answer(503, retry_after="9"), http_answer(503))
    async with receiver(answering(*answers)) as running, sending() as transport:
        first = await transport.send(outbound(running.url()))
        second = await transport.send(outbound(running.url()))
        assert running.connections == 1
    assert (first.retry_after, second.retry_after) == ("9", None)


# ------------------------------------------------------------------------------------------------------ connections


async def test_a_connection_is_kept_for_the_next_request() -> None:
    async with receiver(answering(http_answer())) as running, sending() as transport:
        for _ in range(5):
            assert (await transport.send(outbound(running.url()))).status_code == 200
        assert running.connections == 1
        assert transport.idle_count == 1


@pytest.mark.parametrize(
    "answer",
    [
        http_answer(200, connection="close"),
        b"HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nok",
        http_answer(200) + b"noise",
        http_answer(200, keep_alive="timeout=1"),
    ],
)
async def test_a_connection_that_is_not_to_be_used_again_is_not(answer: bytes) -> None:
    async with receiver(answering(answer)) as running, sending() as transport:
        await transport.send(outbound(running.url()))
        await transport.send(outbound(running.url()))
        assert running.connections == 2


async def test_nothing_is_shared_between_two_endpoints() -> None:
    async with receiver(answering(http_answer())) as running, sending() as transport:
        await transport.send(outbound(running.url(), endpoint=EndpointKey("a", "1")))
        await transport.send(outbound(running.url(), endpoint=EndpointKey("b", "1")))
        await transport.send(outbound(running.url(), endpoint=EndpointKey("a", "2")))
        assert running.connections == 3


@pytest.mark.parametrize("change", ["url", "policy", "tls"])
async def test_a_change_of_what_a_connection_was_opened_for_closes_it(change: str) -> None:
    async with receiver(answering(http_answer())) as running, sending() as transport:
        await transport.send(outbound(running.url()))
        changed = {
            "url": outbound(running.url("/other")),
            "policy": outbound(
                running.url(), policy=EgressPolicy(plaintext_http=True, allowed_cidrs=("127.0.0.0/16",))
            ),
            "tls": outbound(running.url(), tls=TlsMaterial(ca=Secret(b"x"))),
        }[change]
        assert (await transport.send(changed)).status_code == 200
        assert (running.connections, transport.idle_count) == (2, 1)


async def test_a_policy_that_closes_takes_the_kept_connection_with_it() -> None:
    async with receiver(answering(http_answer())) as running, sending() as transport:
        await transport.send(outbound(running.url()))
        result = await transport.send(outbound(running.url(), policy=EgressPolicy(plaintext_http=True)))
        assert result.error is ErrorCode.ADDRESS_DENIED
        assert (running.connections, transport.idle_count) == (1, 0)


async def test_forgetting_an_endpoint_closes_what_is_idle_and_what_comes_back() -> None:
    gate = asyncio.Event()

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            request = await read_request(reader)
            if b"/slow" in request:
                await gate.wait()
            writer.write(http_answer())

    async with receiver(script) as running, sending() as transport:
        await transport.send(outbound(running.url()))
        transport.forget(ENDPOINT)
        assert transport.idle_count == 0
        slow = asyncio.create_task(transport.send(outbound(running.url("/slow"))))
        while running.connections < 2:
            await asyncio.sleep(0)
        transport.forget(ENDPOINT)
        gate.set()
        assert (await slow).status_code == 200
        assert transport.idle_count == 0


async def test_idle_connections_are_bounded_per_endpoint_and_in_all() -> None:
    async def together(transport: HttpTransport, url: str, endpoint: EndpointKey) -> None:
        await asyncio.gather(*(transport.send(outbound(url, endpoint=endpoint)) for _ in range(6)))

    pool = Pool(idle_per_endpoint=3, idle_in_all=5)
    async with receiver(answering(http_answer())) as running, sending(pool=pool) as transport:
        await together(transport, running.url(), EndpointKey("a", "1"))
        assert transport.idle_count == 3
        await together(transport, running.url(), EndpointKey("b", "1"))
        assert transport.idle_count == 5


async def test_a_connection_is_given_up_at_its_age() -> None:
    async with (
        receiver(answering(http_answer())) as running,
        sending(pool=Pool(age_seconds=0.0)) as transport,
    ):
        await transport.send(outbound(running.url()))
        assert transport.idle_count == 0


async def test_a_sweep_closes_what_is_idle_for_too_long() -> None:
    pool = Pool()
    async with receiver(answering(http_answer())) as running, sending(pool=pool) as transport:
        await transport.send(outbound(running.url()))
        now = asyncio.get_running_loop().time()
        pool.sweep(now + 29)
        assert (pool.idle_count, pool.lane_count) == (1, 1)
        pool.sweep(now + 31)
        assert (pool.idle_count, pool.lane_count) == (0, 1)
        pool.sweep(now + 61)
        assert pool.lane_count == 0


async def test_a_connection_that_the_receiver_closed_while_idle_is_replaced_before_anything_is_written() -> None:
    seen: list[bytes] = []

    async def one_request_then_close(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(await read_request(reader))
        writer.write(http_answer())

    async with receiver(one_request_then_close) as running, sending() as transport:
        for _ in range(20):
            # No pause: the close may not have reached the loop yet when the next request takes the connection.
            result = await transport.send(outbound(running.url()))
            assert result.status_code == 200 or result.error is ErrorCode.CONNECT
        await asyncio.sleep(0.02)
        assert (await transport.send(outbound(running.url()))).status_code == 200
    assert len(seen) == running.connections


async def test_a_request_that_was_written_is_never_sent_again_behind_the_engines_back() -> None:
    """The second request reaches the receiver, which resets: one attempt, one error, no hidden repetition."""
    seen: list[bytes] = []

    async def answers_once_then_resets(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(await read_request(reader))
        writer.write(http_answer())
        seen.append(await read_request(reader))
        writer.transport.abort()

    async with receiver(answers_once_then_resets) as running, sending() as transport:
        assert (await transport.send(outbound(running.url()))).error is None
        assert (await transport.send(outbound(running.url()))).error is ErrorCode.CONNECT
        assert (running.connections, len(seen)) == (1, 2)


async def test_an_answer_ahead_of_its_request_is_never_taken_for_one() -> None:
    async def talks_unasked(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(http_answer(200, b"asked"))
        await writer.drain()
        writer.write(http_answer(200, b"unasked"))
        await asyncio.Event().wait()

    async with receiver(talks_unasked) as running, sending() as transport:
        for _ in range(3):
            assert (await transport.send(outbound(running.url()))).body == b"asked"
            await asyncio.sleep(0.02)
        assert (running.connections, transport.idle_count) == (3, 0)


async def test_an_answer_before_the_whole_request_was_taken_counts_but_its_connection_does_not() -> None:
    async def answers_early(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(http_answer(413, b"too large"))
        await asyncio.Event().wait()

    async with receiver(answers_early) as running, sending() as transport:
        result = await transport.send(outbound(running.url(), body=bytes(16 * 1024 * 1024)))
        assert (result.error, result.status_code) == (None, 413)
        assert transport.idle_count == 0


# ---------------------------------------------------------------------------------------------------------- the end


async def test_a_cancelled_attempt_closes_its_connection() -> None:
    asked, closed = asyncio.Event(), asyncio.Event()

    async def waits(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        await read_request(reader)
        asked.set()
        await reader.read()
        closed.set()

    async with receiver(waits) as running, sending() as transport:
        attempt = asyncio.create_task(transport.send(outbound(running.url())))
        await asked.wait()
        attempt.cancel()
        with pytest.raises(asyncio.CancelledError):
            await attempt
        async with asyncio.timeout(5):
            await closed.wait()
        assert transport.idle_count == 0


async def test_closing_closes_idle_connections_and_the_resolver() -> None:
    resolver = TableResolver()
    async with receiver(answering(http_answer())) as running:
        transport = HttpTransport(
            resolver=resolver, allow_loopback=True, own_listeners=lambda: (), dialler=loopback_only
        )
        await transport.send(outbound(running.url()))
        await transport.close()
        assert (transport.idle_count, resolver.closed) == (0, True)


async def test_the_timeout_covers_the_look_up() -> None:
    class Stalled(TableResolver):
        async def resolve(self, host: str) -> Resolution:
            await asyncio.Event().wait()
            raise AssertionError("unreachable")

    transport = HttpTransport(resolver=Stalled(), allow_loopback=True, own_listeners=lambda: (), dialler=loopback_only)
    result = await transport.send(outbound("http://stalled.example.com/secret", timeout_seconds=0.05))
    await transport.close()
    assert result.error is ErrorCode.TIMEOUT
    assert result.message == "look-up of stalled.example.com took longer than 0.05 s"


async def test_the_timeout_covers_the_dial() -> None:
    async def never(address: str, port: int) -> object:
        await asyncio.Event().wait()
        raise AssertionError("unreachable")

    transport = HttpTransport(
        resolver=TableResolver(),
        allow_loopback=True,
        own_listeners=lambda: (),
        dialler=never,  # type: ignore[arg-type] # never returns, so it returns no wrong thing
    )
    result = await transport.send(outbound("http://127.0.0.1:9/secret", timeout_seconds=0.05))
    await transport.close()
    assert (result.error, result.message) == (
        ErrorCode.TIMEOUT,
        "connect to 127.0.0.1:9 took longer than 0.05 s",
    )


async def test_out_of_descriptors_idle_connections_are_given_up_for_the_new_one() -> None:
    full = True

    async def dialler(address: str, port: int) -> socket.socket:
        if full and transport.idle_count:
            raise OSError(errno.EMFILE, "Too many open files")
        return await loopback_only(address, port)

    transport = HttpTransport(resolver=TableResolver(), allow_loopback=True, own_listeners=lambda: (), dialler=dialler)
    async with receiver(answering(http_answer())) as running:
        await transport.send(outbound(running.url()))
        result = await transport.send(outbound(running.url(), endpoint=EndpointKey("another", "1")))
        assert (result.status_code, running.connections, transport.idle_count) == (200, 2, 1)
        await transport.close()


async def test_a_name_that_does_not_resolve_is_a_dns_error() -> None:
    async with sending() as transport:
        result = await transport.send(outbound("https://absent.example.com/secret"))
    assert result.error is ErrorCode.DNS
    assert "absent.example.com" in result.message
    assert "secret" not in result.message


async def test_whatever_breaks_inside_an_attempt_ends_in_a_result(caplog: pytest.LogCaptureFixture) -> None:
    async def broken(address: str, port: int) -> object:
        raise RuntimeError("a bug")

    transport = HttpTransport(
        resolver=TableResolver(),
        allow_loopback=True,
        own_listeners=lambda: (),
        dialler=broken,  # type: ignore[arg-type] # it only raises
    )
    result = await transport.send(outbound("http://127.0.0.1:9/secret"))
    await transport.close()
    assert (result.error, result.message) == (ErrorCode.PROTOCOL, "internal error: RuntimeError")
    assert "secret" not in caplog.text
    assert LOOPBACK.plaintext_http
