"""The HTTP/1.1 connection behind a transport of the test's own: how bytes are cut never matters, noise never harms."""

from __future__ import annotations

import asyncio
import re
from itertools import pairwise
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from hookstead.gateway.exchange import Answer, Response
from hookstead.gateway.http1 import Connection, Gate, Limits
from hookstead.gateway.http_request import Exchange
from hookstead.gateway.problems import ProblemError

LIMIT = 4096
LIMITS = Limits(buffered_bytes=64 * 1024, body_seconds=5.0, head_bytes=512)


class Echo:
    """Answers with the method, the target and the body."""

    async def answer(self, exchange: Exchange) -> Answer:
        try:
            body = await exchange.body(LIMIT, seconds=LIMITS.body_seconds)
        except ProblemError as error:
            return Response(error.problem.status, b"refused")
        return Response(
            200, b"%b %b %b" % (exchange.method.encode(), exchange.target.encode("latin-1"), body.hex().encode())
        )


class Wire(asyncio.Transport):
    """Keeps what is written; says when it is closed."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.closed = False

    def write(self, data: Any) -> None:
        self.written += bytes(data)

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.closed = True

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.closed = True

    def pause_reading(self) -> None:
        return

    def resume_reading(self) -> None:
        return


def answers(pieces: list[bytes]) -> tuple[bytes, bool, int]:
    """What is written for these pieces (without dates), whether it closed, and what stays buffered at the end."""

    async def scenario() -> tuple[bytes, bool, int]:
        gate = Gate(Echo(), LIMITS, largest_body=LIMIT)
        wire, connection = Wire(), Connection(gate)
        connection.connection_made(wire)
        for piece in pieces:
            connection.data_received(piece)
            await asyncio.sleep(0)
        for _ in range(200):
            await asyncio.sleep(0)
        written, closed = wire.written, wire.closed
        connection.connection_lost(None)
        for _ in range(20):
            await asyncio.sleep(0)
        assert gate.connections == set()
        return re.sub(rb"Date: [^\r]*\r\n", b"", written), closed, gate.budget.used

    return asyncio.run(scenario())


def rendered(method: str, target: str, body: bytes, framing: str) -> bytes:
    head = f"{method} {target} HTTP/1.1\r\nHost: localhost\r\n".encode()
    if framing == "chunked":
        chunks = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in (body[:3], body[3:]) if part)
        return head + b"Transfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n"
    if framing == "upgrade":
        head += b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAEAAE\r\n"
    return head + b"Content-Length: %d\r\n\r\n" % len(body) + body


requests = st.builds(
    rendered,
    st.sampled_from(["POST", "PUT", "DELETE"]),
    st.sampled_from(["/", "/v1/events", "/a?b=%20c", "http://localhost/x"]),
    st.binary(max_size=60) | st.integers(LIMIT, LIMIT + 2).map(bytes),
    st.sampled_from(["length", "chunked", "upgrade"]),
)


def cut(data: bytes, points: list[int]) -> list[bytes]:
    edges = [0, *sorted({point % (len(data) + 1) for point in points}), len(data)]
    return [data[start:end] for start, end in pairwise(edges) if start != end]


@settings(max_examples=300, deadline=None)
@given(st.lists(requests, min_size=1, max_size=5), st.lists(st.integers(0, 10_000), max_size=12))
@example([rendered("POST", "/", bytes(LIMIT), "length"), rendered("POST", "/", b"x", "length")], [LIMIT + 80])
def test_how_the_bytes_are_cut_does_not_matter(sent: list[bytes], points: list[int]) -> None:
    whole = b"".join(sent)
    assert answers(cut(whole, points)) == answers([whole])


@settings(max_examples=300, deadline=None)
@given(st.lists(requests, min_size=1, max_size=4))
def test_every_request_gets_one_answer_in_order(sent: list[bytes]) -> None:
    written, _, buffered = answers([b"".join(sent)])
    statuses = re.findall(rb"HTTP/1\.1 (\d{3}) ", written)
    assert buffered == 0
    # A body over the limit is the connection's last request.
    assert len(statuses) == len(sent) or statuses[-1] == b"413"


@settings(max_examples=500, deadline=None)
@given(st.lists(requests, min_size=1, max_size=3), st.integers(0, 10_000), st.binary(max_size=6), st.integers(0, 8))
@example([rendered("POST", "/", b"x", "upgrade")], 60, b"", 4)
def test_damaged_bytes_are_refused_and_nothing_leaks(sent: list[bytes], at: int, piece: bytes, width: int) -> None:
    whole = b"".join(sent)
    place = at % (len(whole) + 1)
    written, closed, buffered = answers([whole[:place] + piece + whole[place + width :]])
    statuses = re.findall(rb"HTTP/1\.1 (\d{3}) ", written)
    assert buffered == 0
    assert set(statuses) <= {b"200", b"400", b"413", b"431"}
    # A refusal because of broken HTTP ends the connection.
    assert closed or b"400" not in statuses


@settings(max_examples=300, deadline=None)
@given(st.lists(st.binary(min_size=1, max_size=40), max_size=8))
def test_noise_is_refused_once_and_the_connection_closes(pieces: list[bytes]) -> None:
    written, closed, buffered = answers(pieces)
    assert buffered == 0
    assert written.count(b"HTTP/1.1 ") <= 1
    assert closed == (written != b"")
