"""Laws of reading an answer: any bytes, in any pieces, end in one bounded result."""

from __future__ import annotations

import asyncio
import itertools
import socket
from typing import TYPE_CHECKING, cast

from hypothesis import example, given, settings
from hypothesis import strategies as st

from faults.receivers.sending import outbound, sending
from faults.receivers.server import read_request, receiver
from hookstead.delivery.ports import RESPONSE_BODY_LIMIT, ErrorCode, SendResult
from hookstead.egress.connection import Connection

if TYPE_CHECKING:
    from collections.abc import Sequence

PIECES = [
    b"HTTP/1.1 200 OK\r\n",
    b"HTTP/1.1 503 X\r\n",
    b"HTTP/1.1 100 Continue\r\n\r\n",
    b"HTTP/1.1 101 X\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n",
    b"HTTP/1.0 200 OK\r\n",
    b"content-length: 3\r\n",
    b"content-length: 70000\r\n",
    b"transfer-encoding: chunked\r\n",
    b"connection: close\r\n",
    b"keep-alive: timeout=5\r\n",
    b"retry-after: 7\r\n",
    b"x: " + b"y" * 9000 + b"\r\n",
    b"\r\n",
    b"abc",
    b"3\r\nabc\r\n",
    b"0\r\n\r\n",
    b"ffff\r\n",
    b"\0\xff",
    b"z" * 20_000,
]
STATUS_LINES, HEADER_LINES, CONTENT = PIECES[:5], PIECES[5:12], PIECES[13:]
NOISE = st.lists(st.one_of(st.sampled_from(PIECES), st.binary(max_size=20)), max_size=12)
NEARLY_RIGHT = st.tuples(
    st.lists(st.sampled_from(STATUS_LINES), min_size=1, max_size=1),
    st.lists(st.sampled_from(HEADER_LINES), max_size=4),
    st.just([b"\r\n"]),
    st.lists(st.one_of(st.sampled_from(CONTENT), st.binary(max_size=20)), max_size=5),
).map(lambda parts: [piece for part in parts for piece in part])
ANSWERS = st.one_of(NEARLY_RIGHT, NEARLY_RIGHT, NOISE)


class Wire:
    """Stands in for the loop's transport: takes a request, and can be hung up."""

    def __init__(self) -> None:
        self.closed = False

    def write(self, data: bytes) -> None:
        assert not self.closed

    def abort(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed

    def get_write_buffer_size(self) -> int:
        return 0


def read(pieces: Sequence[bytes]) -> tuple[SendResult, bool]:
    """The result of an exchange that is answered by these pieces and then a close; and whether it could go on."""

    async def exchange() -> tuple[SendResult, bool]:
        with socket.socket() as unconnected:
            connection = Connection(unconnected, opened=0.0)
            wire = Wire()
            connection.connection_made(cast(asyncio.Transport, wire))
            answer = connection.exchange(b"", 1.0)
            for piece in pieces:
                if not wire.closed and piece:
                    connection.data_received(piece)
            went_on = connection.reusable
            if not wire.closed:
                connection.eof_received()
            connection.connection_lost(None)
            return await answer, went_on

    return asyncio.run(exchange())


@settings(deadline=None, max_examples=1000)
@given(ANSWERS)
@example([b"HTTP/1.1 200 OK\r\n", b"content-length: 3\r\n", b"\r\n", b"abc"])
@example([b"HTTP/1.1 200 OK\r\n", b"transfer-encoding: chunked\r\n", b"\r\n", b"ffff\r\n", b"z" * 20_000])
def test_any_answer_ends_in_one_bounded_result(pieces: list[bytes]) -> None:
    result, _ = read(pieces)
    assert result.error in {None, ErrorCode.CONNECT, ErrorCode.PROTOCOL}
    assert result.status_code == 0 or 200 <= result.status_code <= 599
    assert len(result.body) <= RESPONSE_BODY_LIMIT
    assert result.message
    assert "\n" not in result.message
    if result.error is None:
        assert result.status_code
    if result.error is ErrorCode.CONNECT:
        assert not any(pieces)


@settings(deadline=None, max_examples=1000)
@given(ANSWERS, st.data())
def test_how_an_answer_is_cut_into_packets_changes_nothing(pieces: list[bytes], data: st.DataObject) -> None:
    """Whole answers; where a limit strikes depends on what has arrived, within a packet."""
    whole = b"".join(pieces)[:8000]
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=8)))
    edges = [0, *cuts, len(whole)]
    at_once, _ = read([whole])
    in_pieces, _ = read([whole[a:b] for a, b in itertools.pairwise(edges)])
    if at_once.error is None:
        assert in_pieces == at_once
    else:
        assert (in_pieces.error, in_pieces.status_code) == (at_once.error, at_once.status_code)


@settings(deadline=None, max_examples=60)
@given(ANSWERS, st.booleans())
def test_an_attempt_ends_within_its_timeout_whatever_the_receiver_sends(pieces: list[bytes], holds: bool) -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
        if holds:
            await asyncio.Event().wait()

    async def attempt() -> SendResult:
        async with receiver(script) as running, sending() as transport:
            request = outbound(running.url(), timeout_seconds=0.1)
            return await asyncio.wait_for(transport.send(request), 10)

    result = asyncio.run(attempt())
    assert len(result.body) <= RESPONSE_BODY_LIMIT
