"""Hostile receivers, one row each, with what an attempt against them must end in.

Every script reads the request first unless its name says otherwise. Scripts that never end are ended by the harness.
"""

from __future__ import annotations

import asyncio
import gzip
import socket
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from faults.receivers.server import Script, http_answer, read_request
from hookstead.delivery.ports import RESPONSE_BODY_LIMIT, ErrorCode

if TYPE_CHECKING:
    from collections.abc import Iterable


@dataclass(frozen=True, slots=True, kw_only=True)
class Hostile:
    """A receiver and the result that it must lead to. `timeout_seconds` is short where a timeout is the point."""

    name: str
    script: Script
    error: ErrorCode | None
    status: int = 0
    body: bytes | None = None
    timeout_seconds: float = 5.0


def sends(*pieces: bytes, then_close: bool = True, pause: float = 0.0) -> Script:
    """Read the request, write the pieces, then close, or hold the line for ever."""

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            if pause:
                await asyncio.sleep(pause)
        if not then_close:
            await asyncio.Event().wait()

    return script


def drips(head: bytes, piece: bytes, *, every: float) -> Script:
    """A head, then the same small piece for ever."""

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(head)
        while True:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(every)

    return script


def floods(head: bytes, piece: bytes) -> Script:
    """A head, then as much as the socket takes, for ever."""
    return drips(head, piece, every=0)


def reset(writer: asyncio.StreamWriter) -> None:
    """Close with RST instead of FIN."""
    sock: socket.socket = writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def resets_before_reading(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    reset(writer)


async def resets_after_reading(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await read_request(reader)
    reset(writer)


async def closes_after_reading(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
    await read_request(reader)


async def accepts_and_never_answers(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
    await read_request(reader)
    await asyncio.Event().wait()


async def never_reads(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.transport.pause_reading()  # type: ignore[attr-defined] # a socket transport has it
    await asyncio.Event().wait()


async def closes_its_writing_half(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await read_request(reader)
    writer.write_eof()
    await asyncio.Event().wait()


async def resets_within_the_body(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await read_request(reader)
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf")
    await writer.drain()
    await asyncio.sleep(0.05)
    reset(writer)


BOMB: Final = gzip.compress(bytes(8 * 1024 * 1024))
CHUNKED: Final = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
OK: Final = b"HTTP/1.1 200 OK\r\n"
BAD_BYTES: Final = b"\x00\xff\xfe\xc3\x28 \x00"

PROTOCOL: Final = ErrorCode.PROTOCOL
TIMEOUT: Final = ErrorCode.TIMEOUT
CONNECT: Final = ErrorCode.CONNECT


def _row(
    name: str,
    script: Script,
    error: ErrorCode | None,
    status: int = 0,
    *,
    body: bytes | None = None,
    timeout: float = 5.0,
) -> Hostile:
    return Hostile(name=name, script=script, error=error, status=status, body=body, timeout_seconds=timeout)


def _silent() -> Iterable[Hostile]:
    yield _row("accepts and never answers", accepts_and_never_answers, TIMEOUT, timeout=0.3)
    yield _row("never reads", never_reads, TIMEOUT, timeout=0.3)
    yield _row("drips a status line for ever", drips(b"HTTP/1.1 200 ", b"O", every=0.02), TIMEOUT, timeout=0.4)
    yield _row("drips headers for ever", drips(OK, b"x: y\r\n", every=0.02), TIMEOUT, timeout=0.4)
    yield _row(
        "drips a body for ever",
        drips(OK + b"content-length: 1000\r\n\r\n", b"x", every=0.02),
        TIMEOUT,
        200,
        timeout=0.4,
    )
    yield _row(
        "stalls within a body",
        sends(OK + b"content-length: 10\r\n\r\nhalf", then_close=False),
        TIMEOUT,
        200,
        body=b"half",
        timeout=0.3,
    )
    yield _row(
        "answers without a length and keeps the line open",
        sends(OK + b"\r\nso far", then_close=False),
        TIMEOUT,
        200,
        body=b"so far",
        timeout=0.3,
    )


def _gone() -> Iterable[Hostile]:
    yield _row("resets before reading", resets_before_reading, CONNECT)
    yield _row("resets after reading", resets_after_reading, CONNECT)
    yield _row("closes without an answer", closes_after_reading, CONNECT)
    yield _row("closes its writing half without an answer", closes_its_writing_half, CONNECT)
    yield _row("resets within the body", resets_within_the_body, PROTOCOL, 200, body=b"half")
    yield _row("closes within the status line", sends(b"HTTP/1.1 2"), PROTOCOL)
    yield _row("closes within the headers", sends(OK + b"content-le"), PROTOCOL)
    yield _row("closes after an interim answer", sends(b"HTTP/1.1 100 Continue\r\n\r\n"), PROTOCOL)
    yield _row(
        "promises more than it sends",
        sends(OK + b"content-length: 10\r\n\r\nhalf"),
        PROTOCOL,
        200,
        body=b"half",
    )
    yield _row("closes within a chunk", sends(CHUNKED + b"a\r\nhalf"), PROTOCOL, 200, body=b"half")
    yield _row("closes before the last chunk", sends(CHUNKED + b"4\r\nhalf\r\n"), PROTOCOL, 200, body=b"half")


def _nonsense() -> Iterable[Hostile]:
    nonsense = {
        "is no HTTP": b"SSH-2.0-OpenSSH_9.6\r\n",
        "is a request": b"GET / HTTP/1.1\r\nhost: x\r\n\r\n",
        "is NUL bytes": bytes(100),
        "has HTTP/9.9": b"HTTP/9.9 200 OK\r\ncontent-length: 0\r\n\r\n",
        "has no status": b"HTTP/1.1 OK\r\ncontent-length: 0\r\n\r\n",
        "has status 1": b"HTTP/1.1 1 X\r\ncontent-length: 0\r\n\r\n",
        "has status 000": b"HTTP/1.1 000 X\r\ncontent-length: 0\r\n\r\n",
        "has status 999": b"HTTP/1.1 999 X\r\ncontent-length: 0\r\n\r\n",
        "has status 20000": b"HTTP/1.1 20000 X\r\ncontent-length: 0\r\n\r\n",
        "has a negative length": OK + b"content-length: -1\r\n\r\n",
        "has a length that is no number": OK + b"content-length: 1x\r\n\r\n",
        "has two lengths": OK + b"content-length: 1\r\ncontent-length: 2\r\n\r\nab",
        "has a length and chunks": OK + b"content-length: 3\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        "has a length beyond 64 bits": OK + b"content-length: 99999999999999999999999\r\n\r\n",
        "has a NUL in a header": OK + b"x: a\0b\r\ncontent-length: 0\r\n\r\n",
        "has a header without a colon": OK + b"nonsense\r\n\r\n",
        "has bare line feeds within a header": OK + b"x: a\rb\r\ncontent-length: 0\r\n\r\n",
        "switches protocols": b"HTTP/1.1 101 X\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n",
        "switches protocols in silence": b"HTTP/1.1 101 X\r\n\r\n",
    }
    for name, answer in nonsense.items():
        yield _row(f"answers what {name}", sends(answer, then_close=False), PROTOCOL)
    bodies = {
        "a chunk size that is no number": b"xyz\r\n",
        "a negative chunk size": b"-5\r\nhello\r\n",
        "a chunk size beyond 64 bits": b"fffffffffffffffff\r\n",
        "a chunk without its line end": b"4\r\nhalfXX0\r\n\r\n",
    }
    for name, body in bodies.items():
        yield _row(f"sends {name}", sends(CHUNKED + body, then_close=False), PROTOCOL, 200)


def _excess() -> Iterable[Hostile]:
    full = b"x" * RESPONSE_BODY_LIMIT
    yield _row("sends an endless body", floods(OK + b"\r\n", b"x" * 4096), None, 200, body=full)
    yield _row(
        "sends an endless chunked body", floods(CHUNKED, b"400\r\n" + b"x" * 1024 + b"\r\n"), None, 200, body=full
    )
    yield _row(
        "sends an endless body with a 500",
        floods(b"HTTP/1.1 500 X\r\n\r\n", b"x" * 4096),
        None,
        500,
        body=full,
    )
    yield _row(
        "promises a terabyte", floods(OK + b"content-length: 1099511627776\r\n\r\n", b"x" * 4096), None, 200, body=full
    )
    yield _row("sends endless headers", floods(OK, b"x: " + b"y" * 500 + b"\r\n"), PROTOCOL)
    yield _row("sends one endless header", floods(OK + b"x: ", b"y" * 1000), PROTOCOL)
    yield _row("sends one endless header name", floods(OK, b"y" * 1000), PROTOCOL)
    yield _row("sends an endless status line", floods(b"HTTP/1.1 200 ", b"y" * 1000), PROTOCOL)
    yield _row(
        "sends giant headers at once",
        sends(OK + b"x: " + b"y" * 40_000 + b"\r\ncontent-length: 0\r\n\r\n", then_close=False),
        PROTOCOL,
    )
    yield _row("sends an endless chunk extension", floods(CHUNKED + b"4;", b"e" * 1000), PROTOCOL, 200)
    yield _row("sends endless trailers", floods(CHUNKED + b"0\r\n", b"x: " + b"y" * 500 + b"\r\n"), PROTOCOL, 200)
    yield _row("floods interim answers", floods(b"", b"HTTP/1.1 102 Processing\r\n\r\n"), PROTOCOL)
    yield _row(
        "floods interim answers at once",
        sends(b"HTTP/1.1 103 X\r\nlink: </x>\r\n\r\n" * 100 + http_answer(), then_close=False),
        PROTOCOL,
    )


def _harmless() -> Iterable[Hostile]:
    yield _row(
        "sends a gzip bomb",
        sends(OK + f"content-encoding: gzip\r\ncontent-length: {len(BOMB)}\r\n\r\n".encode() + BOMB),
        None,
        200,
        body=BOMB[:RESPONSE_BODY_LIMIT],
    )
    yield _row("sends NUL and invalid UTF-8", sends(http_answer(400, BAD_BYTES)), None, 400, body=BAD_BYTES)
    yield _row(
        "answers with few interim answers first",
        sends(b"HTTP/1.1 100 Continue\r\n\r\n" * 3, http_answer(201, b"made"), pause=0.01),
        None,
        201,
        body=b"made",
    )
    yield _row(
        "answers byte by byte",
        sends(*(bytes([byte]) for byte in http_answer(200, b"slow")), pause=0.001),
        None,
        200,
        body=b"slow",
    )
    yield _row("answers without a length, then closes", sends(OK + b"\r\nall"), None, 200, body=b"all")
    yield _row("answers in HTTP/1.0", sends(b"HTTP/1.0 200 OK\r\n\r\nold"), None, 200, body=b"old")
    yield _row("answers 204 with a length", sends(b"HTTP/1.1 204 X\r\ncontent-length: 5\r\n\r\n"), None, 204, body=b"")
    yield _row(
        "answers in chunks", sends(CHUNKED + b"2\r\nab\r\n1;x=y\r\nc\r\n0\r\nt: u\r\n\r\n"), None, 200, body=b"abc"
    )
    yield _row(
        "sends exactly as much as is read",
        sends(http_answer(200, b"z" * RESPONSE_BODY_LIMIT), then_close=False),
        None,
        200,
        body=b"z" * RESPONSE_BODY_LIMIT,
    )
    yield _row(
        "redirects to a loopback address",
        sends(http_answer(302, b"", location="http://127.0.0.1:1/")),
        None,
        302,
        body=b"",
    )
    yield _row("answers with noise behind", sends(http_answer(200, b"ok") + b"\0noise"), None, 200, body=b"ok")
    yield _row(
        "answers twice",
        sends(http_answer(500, b"first") + http_answer(200, b"second")),
        None,
        500,
        body=b"first",
    )


CORPUS: Final = (*_silent(), *_gone(), *_nonsense(), *_excess(), *_harmless())
