"""Producers that are slow, broken or rude, over raw sockets: each is answered or cut off, and hurts nobody else."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest

from hookstead.delivery.ports import StoreUnavailable
from hookstead.gateway.exchange import EventStream, Request, Response, json_response
from hookstead.gateway.http1 import Limits
from hookstead.gateway.router import Route, Router
from hookstead.gateway.server import HttpServer

BODY_LIMIT = 64 * 1024
QUICK = Limits(
    header_seconds=0.3,
    body_seconds=0.5,
    write_seconds=0.5,
    keep_alive_seconds=5.0,
    linger_seconds=0.3,
    connections=8,
    sweep_seconds=0.05,
    buffered_bytes=100_000,
)
HEAD = b"Host: localhost\r\nContent-Type: application/json\r\n"


@dataclass
class Reply:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def problem(self) -> str:
        assert self.headers["content-type"] == "application/problem+json", self
        document = json.loads(self.body)
        assert document["status"] == self.status
        return str(document["type"].rpartition("/")[2])


class Wire:
    """A connection whose every byte the test writes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def reply(self) -> Reply:
        head = await asyncio.wait_for(self.reader.readuntil(b"\r\n\r\n"), 5)
        lines = head.decode("latin-1").split("\r\n")
        match = re.fullmatch(r"HTTP/1\.[01] (\d{3}) .*", lines[0])
        assert match, lines
        headers = {
            name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:] if line)
        }
        status = int(match[1])
        length = 0 if status in (100, 204) else int(headers.get("content-length", "0"))
        return Reply(status, headers, await asyncio.wait_for(self.reader.readexactly(length), 5))

    async def closed(self) -> bytes:
        """What still comes before the server closes."""
        with contextlib.suppress(ConnectionError):
            return await asyncio.wait_for(self.reader.read(), 5)
        return b""


@dataclass
class House:
    server: HttpServer
    wires: list[Wire]
    stream_closed: asyncio.Event

    async def wire(self) -> Wire:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.server.port, limit=1 << 20)
        self.wires.append(Wire(reader, writer))
        return self.wires[-1]

    async def ask(self, data: bytes) -> Reply:
        wire = await self.wire()
        await wire.send(data)
        return await wire.reply()

    async def is_well(self) -> bool:
        """Whether somebody else is served."""
        return (await self.ask(post(b"{}"))).status == 200


def post(body: bytes, *headers: bytes, path: bytes = b"/v1/events", length: int | None = None) -> bytes:
    size = len(body) if length is None else length
    lines = b"".join(header + b"\r\n" for header in headers)
    return b"POST " + path + b" HTTP/1.1\r\n" + HEAD + lines + b"Content-Length: %d\r\n\r\n" % size + body


@pytest.fixture
async def house() -> AsyncIterator[House]:
    async def take(request: Request) -> Response:
        return json_response({"bytes": len(request.body), "path": request.path, "query": request.query})

    async def fail(request: Request) -> Response:
        raise RuntimeError("a fault with a secret in it")

    async def lose(request: Request) -> Response:
        raise StoreUnavailable("store /a/path: the disk is gone")

    async def endless() -> Any:
        while True:
            yield b"x" * 65536

    async def stream(request: Request) -> EventStream:
        return EventStream(endless(), closed.set)

    closed = asyncio.Event()
    server = HttpServer(
        Router(
            [
                Route(method="POST", path="/v1/events", handler=take, needs=None, body_limit=BODY_LIMIT),
                Route(method="GET", path="/fails", handler=fail, needs=None),
                Route(method="GET", path="/lost", handler=lose, needs=None),
                Route(method="GET", path="/stream", handler=stream, needs=None),
            ]
        ),
        limits=QUICK,
    )
    await server.start(("127.0.0.1", 0))
    house = House(server, [], closed)
    try:
        yield house
    finally:
        for wire in house.wires:
            wire.writer.close()
        await server.stop(grace_seconds=0.2)


@pytest.mark.parametrize("coding", [b"gzip", b"br", b"zstd", b"deflate", b"identity, gzip", b"GZIP", b"nonsense"])
async def test_any_content_encoding_is_a_415_problem(house: House, coding: bytes) -> None:
    reply = await house.ask(post(b"{}", b"Content-Encoding: " + coding))
    assert (reply.status, reply.problem) == (415, "unsupported-media-type")


async def test_identity_is_no_encoding(house: House) -> None:
    assert (await house.ask(post(b"{}", b"Content-Encoding: identity"))).status == 200


async def test_a_body_over_the_limit_is_refused_before_it_is_read(house: House) -> None:
    reply = await house.ask(post(b"", length=BODY_LIMIT + 1))
    assert (reply.status, reply.problem) == (413, "too-large")
    assert json.loads(reply.body)["limitBytes"] == BODY_LIMIT
    assert (await house.ask(post(b"x" * BODY_LIMIT))).status == 200


async def test_a_chunked_body_is_counted_as_it_comes(house: House) -> None:
    head = b"POST /v1/events HTTP/1.1\r\n" + HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
    small = await house.ask(head + b"2\r\n{}\r\n0\r\n\r\n")
    assert (small.status, json.loads(small.body)["bytes"]) == (200, 2)
    wire = await house.wire()
    await wire.send(head)
    with contextlib.suppress(ConnectionError):
        for _ in range(80):
            await wire.send(b"400\r\n" + b"x" * 1024 + b"\r\n")
    reply = await wire.reply()
    assert (reply.status, reply.problem) == (413, "too-large")


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"GARBAGE\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"POST /v1/events HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n\r\n",
        b"POST /v1/events HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
        b"POST /v1/events HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST /v1/events HTTP/1.1\r\nHost: a\r\nBad Header: x\r\n\r\n",
        b"POST /v1/events HTTP/1.1\r\nHost: a\r\nX: a\x00b\r\n\r\n",
        b"POST /v1/events HTTP/9.9\r\nHost: a\r\n\r\n",
        b"POST /v1/events HTTP/1.1\r\n" + HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
    ],
)
async def test_broken_http_is_a_400_problem_and_the_end_of_the_connection(house: House, request_bytes: bytes) -> None:
    wire = await house.wire()
    await wire.send(request_bytes)
    reply = await wire.reply()
    assert (reply.status, reply.problem) == (400, "malformed-http")
    assert await wire.closed() == b""
    assert await house.is_well()


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"GET /" + b"x" * 9000 + b" HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nX-Long: " + b"x" * 9000 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\n" + b"".join(b"X-%d: 1\r\n" % n for n in range(200)) + b"\r\n",
    ],
)
async def test_oversized_heads_are_refused(house: House, request_bytes: bytes) -> None:
    wire = await house.wire()
    await wire.send(request_bytes)
    reply = await wire.reply()
    assert (reply.status, reply.problem) in ((431, "headers-too-large"), (400, "malformed-http"))
    await wire.closed()


@pytest.mark.parametrize("start", [b"GET /", b"GET / HTTP/1.1\r\nX: ", b"GET / HTTP/1.1\r\nX"])
async def test_a_line_without_an_end_is_refused_when_it_is_too_long(house: House, start: bytes) -> None:
    wire = await house.wire()
    await wire.send(start)
    with contextlib.suppress(ConnectionError):
        for _ in range(20):
            await wire.send(b"x" * 8000)
            await asyncio.sleep(0.005)
    reply = await wire.reply()
    assert (reply.status, reply.problem) == (431, "headers-too-large")


async def test_a_head_that_drips_is_cut_off(house: House) -> None:
    wire = await house.wire()
    await wire.send(b"POST /v1/events HTTP/1.1\r\n")
    with contextlib.suppress(ConnectionError):
        for n in range(20):
            await wire.send(b"X-%d: 1\r\n" % n)
            await asyncio.sleep(0.05)
    # What was sent after the end may have reset the connection before the answer was read.
    assert (await wire.closed())[:12] in (b"HTTP/1.1 408", b"")
    assert await house.is_well()


async def test_a_connection_that_says_nothing_is_cut_off(house: House) -> None:
    wire = await house.wire()
    await wire.closed()


async def test_an_idle_connection_may_stay_longer_than_a_head_may_take(house: House) -> None:
    wire = await house.wire()
    for _ in range(3):
        await wire.send(post(b"{}"))
        assert (await wire.reply()).status == 200
        await asyncio.sleep(0.6)


async def test_a_second_head_that_drips_is_cut_off_too(house: House) -> None:
    wire = await house.wire()
    await wire.send(post(b"{}"))
    assert (await wire.reply()).status == 200
    await wire.send(b"POST /v1/ev")
    assert (await wire.closed()).startswith(b"HTTP/1.1 408")


async def test_a_body_that_drips_is_a_408(house: House) -> None:
    wire = await house.wire()
    await wire.send(post(b"", length=1000))
    with contextlib.suppress(ConnectionError):
        for _ in range(14):
            await wire.send(b" ")
            await asyncio.sleep(0.05)
    reply = await wire.reply()
    assert (reply.status, reply.problem) == (408, "request-timeout")
    assert await house.is_well()


async def test_a_body_that_breaks_off_reaches_no_handler(house: House) -> None:
    wire = await house.wire()
    await wire.send(post(b"{", length=1000))
    wire.writer.close()
    await asyncio.sleep(0.05)
    assert await house.is_well()


async def test_requests_may_be_pipelined(house: House) -> None:
    wire = await house.wire()
    await wire.send(b"".join(post(b"x" * n) for n in range(40)))
    for n in range(40):
        assert json.loads((await wire.reply()).body)["bytes"] == n


async def test_a_request_may_come_byte_by_byte(house: House) -> None:
    wire = await house.wire()
    for byte in post(b'{"a":1}'):
        wire.writer.write(bytes([byte]))
        await asyncio.sleep(0)
    assert json.loads((await wire.reply()).body)["bytes"] == 7


async def test_expect_100_continue_is_met_only_when_the_body_is_wanted(house: House) -> None:
    wire = await house.wire()
    await wire.send(post(b"", b"Expect: 100-continue", length=2))
    assert (await wire.reply()).status == 100
    await wire.send(b"{}")
    assert (await wire.reply()).status == 200
    refused = await house.ask(post(b"", b"Expect: 100-continue", length=BODY_LIMIT + 1))
    assert refused.status == 413
    assert (await house.ask(post(b"", b"Expect: magic", length=2))).status == 417


async def test_connections_beyond_the_bound_are_turned_away_at_once(house: House) -> None:
    held = [await house.wire() for _ in range(QUICK.connections)]
    for wire in held:
        await wire.send(post(b"", length=100))
    await asyncio.sleep(0.05)
    reply = await (await house.wire()).reply()
    assert (reply.status, reply.problem) == (503, "saturated")
    assert reply.headers["retry-after"]
    for wire in held:
        await wire.send(b"x" * 100)
        assert (await wire.reply()).status == 200
        wire.writer.close()
    await asyncio.sleep(0.05)
    assert await house.is_well()


async def test_a_reader_that_does_not_read_is_dropped(house: House) -> None:
    wire = await house.wire()
    await wire.send(b"GET /stream HTTP/1.1\r\nHost: a\r\n\r\n")
    await asyncio.wait_for(house.stream_closed.wait(), 5)
    assert await house.is_well()


async def test_a_fault_of_ours_is_a_500_that_tells_nothing(house: House, caplog: pytest.LogCaptureFixture) -> None:
    reply = await house.ask(b"GET /fails HTTP/1.1\r\nHost: a\r\n\r\n")
    assert (reply.status, reply.problem) == (500, "internal-error")
    assert b"secret" not in reply.body
    assert "a handler failed" in caplog.text


async def test_a_store_that_does_not_answer_is_a_503_whatever_was_asked(house: House) -> None:
    reply = await house.ask(b"GET /lost HTTP/1.1\r\nHost: a\r\n\r\n")
    assert (reply.status, reply.problem) == (503, "store-unavailable")
    assert b"/a/path" not in reply.body
    assert "retry-after" in reply.headers


@pytest.mark.parametrize("target", [b"http://[/v1/events", b"http://[::1/v1/events"])
async def test_a_target_that_is_no_url_is_a_400_and_no_fault_of_ours(house: House, target: bytes) -> None:
    reply = await house.ask(post(b"{}", path=target))
    assert (reply.status, reply.problem) == (400, "malformed-http")


@pytest.mark.parametrize(
    ("target", "status"),
    [
        (b"http://localhost:8080/a", 200),
        (b"/a", 200),
        (b"http://rebound.example/a", 403),
        (b"http://localhost@rebound.example/a", 403),
    ],
)
async def test_the_authority_of_an_absolute_target_stands_in_for_host(target: bytes, status: int) -> None:
    async def take(request: Request) -> Response:
        return json_response({})

    server = HttpServer(Router([Route(method="GET", path="/a", handler=take, needs=None)]), local_only=True)
    await server.start(("127.0.0.1", 0))
    house = House(server, [], asyncio.Event())
    try:
        reply = await house.ask(b"GET " + target + b" HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert reply.status == status
    finally:
        for wire in house.wires:
            wire.writer.close()
        await server.stop(grace_seconds=0.2)


async def test_absolute_targets_and_queries_are_understood(house: House) -> None:
    reply = await house.ask(post(b"{}", path=b"http://localhost/v1/events?a=1"))
    assert json.loads(reply.body) == {"bytes": 2, "path": "/v1/events", "query": "a=1"}


async def test_an_http_1_0_client_gets_its_answer_and_the_connection_closes(house: House) -> None:
    wire = await house.wire()
    await wire.send(b"POST /v1/events HTTP/1.0\r\nContent-Length: 2\r\n\r\n{}")
    assert (await wire.reply()).status == 200
    assert await wire.closed() == b""


async def test_bytes_that_are_no_utf8_in_a_path_are_a_404(house: House) -> None:
    reply = await house.ask(b"GET /\xff\xfe HTTP/1.1\r\nHost: a\r\n\r\n")
    assert reply.status in (400, 404)


async def test_an_upgrade_is_not_taken(house: House) -> None:
    reply = await house.ask(post(b"{}", b"Connection: upgrade", b"Upgrade: websocket"))
    assert reply.status == 200


async def test_a_wish_for_http2_is_declined_and_the_body_is_read(house: House) -> None:
    # What Java's HttpClient sends with its first request.
    wishes = (b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AAEAAEAAAAIAAAAB")
    wire = await house.wire()
    await wire.send(post(b'{"a":1}', *wishes) + post(b"{}"))
    assert json.loads((await wire.reply()).body)["bytes"] == 7
    assert json.loads((await wire.reply()).body)["bytes"] == 2
    head, body = post(b'{"a":1}', *wishes).split(b"\r\n\r\n")
    await wire.send(head + b"\r\n\r\n")
    await asyncio.sleep(0.05)
    await wire.send(body)
    assert json.loads((await wire.reply()).body)["bytes"] == 7
    assert (await house.ask(b"CONNECT a:80 HTTP/1.1\r\nHost: a\r\n\r\n")).status == 400


async def test_a_trailer_is_no_header(house: House) -> None:
    head = b"POST /v1/events HTTP/1.1\r\n" + HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
    reply = await house.ask(head + b"2\r\n{}\r\n0\r\nContent-Encoding: gzip\r\nHost: b\r\n\r\n")
    assert reply.status == 200


@pytest.mark.parametrize(
    "lines",
    [
        b"",
        b"Host: a\r\nHost: b\r\n",
        b"Host: a\r\nTransfer-Encoding: gzip, chunked\r\n",
    ],
)
async def test_what_the_parser_lets_through_and_http_does_not_is_a_400(house: House, lines: bytes) -> None:
    reply = await house.ask(b"POST /v1/events HTTP/1.1\r\n" + lines + b"\r\n")
    assert (reply.status, reply.problem) == (400, "malformed-http")


async def test_all_bodies_together_are_bounded(house: House) -> None:
    held = [await house.wire() for _ in range(4)]
    for wire in held:
        await wire.send(post(b"x" * 40_000, length=BODY_LIMIT))
    await asyncio.sleep(0.05)
    replies = await asyncio.gather(*(wire.reply() for wire in held))
    assert {reply.status for reply in replies} == {503, 408}
    for wire in held:
        wire.writer.close()
    await asyncio.sleep(0.05)
    assert await house.is_well()


async def test_a_client_that_half_closes_gets_its_answers(house: House) -> None:
    wire = await house.wire()
    await wire.send(post(b"{}") + post(b'{"a":1}'))
    wire.writer.write_eof()
    assert json.loads((await wire.reply()).body)["bytes"] == 2
    assert json.loads((await wire.reply()).body)["bytes"] == 7
    assert await wire.closed() == b""


async def test_a_pipeline_that_breaks_gets_the_answers_before_the_break(house: House) -> None:
    wire = await house.wire()
    await wire.send(post(b"{}") + post(b'{"a":1}') + b"GARBAGE\r\n\r\n" + post(b"{}"))
    assert [(await wire.reply()).status for _ in range(3)] == [200, 200, 400]
    assert await wire.closed() == b""


async def test_what_follows_a_request_to_close_is_not_read(house: House) -> None:
    wire = await house.wire()
    await wire.send(post(b"{}", b"Connection: close") + post(b"{}"))
    reply = await wire.reply()
    assert (reply.status, reply.headers["connection"]) == (200, "close")
    assert await wire.closed() == b""


async def test_a_refused_sender_can_read_the_refusal_while_it_is_still_sending(house: House) -> None:
    wire = await house.wire()
    await wire.send(post(b"x" * 1000, length=BODY_LIMIT + 1))
    reply = await wire.reply()
    with contextlib.suppress(ConnectionError):
        for _ in range(10):
            await wire.send(b"x" * 1000)
    assert reply.status == 413
    assert await wire.closed() == b""
