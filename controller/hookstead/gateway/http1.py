"""HTTP/1.1 from producers: one connection's bytes to exchanges, answers back to bytes. Bounds on everything.

llhttp (through httptools) parses, strictly: no bare LF, no folded or repeated framing headers, never both
Content-Length and Transfer-Encoding. What it leaves open is bounded here: the size of a head, of a body and of all
bodies together, pipelining, and the time that a head may take or an answer may lie unread. No timer is set per
request; a sweep over all connections keeps the deadlines.

Why not aiohttp's server: docs/decisions/0007-http-server.md.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass
from typing import Final, Protocol, cast

import httptools

from hookstead.gateway.exchange import Answer, EventStream, Response, problem_response
from hookstead.gateway.http_answer import KEEP_ALIVE, STREAM_HEADERS, head, whole
from hookstead.gateway.http_request import BodyBudget, Exchange, Fields
from hookstead.gateway.problems import Problem, ProblemError, ProblemKind, problem

MIB: Final = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Bounds of one listener. Seconds and bytes."""

    header_seconds: float = 10.0
    body_seconds: float = 30.0
    write_seconds: float = 30.0
    """How long an answer may lie unread."""
    keep_alive_seconds: float = 75.0
    linger_seconds: float = 2.0
    """How long a refused client may go on sending before it is cut off without having read the refusal."""
    sweep_seconds: float = 1.0
    """How exactly these are kept, but for bodies, whose deadline is exact."""
    connections: int = 4096
    line_bytes: int = 8190
    """Of the request target; and of one header field."""
    headers: int = 64
    head_bytes: int = 64 * 1024
    """Of a head that is not complete yet."""
    pipelined: int = 32
    """Requests that may wait behind the one that is answered; reading stops then."""
    buffered_bytes: int = 256 * MIB
    """Of all unfinished and unanswered bodies of the listener together."""


class Service(Protocol):
    """Who answers exchanges."""

    async def answer(self, exchange: Exchange) -> Answer:
        """Never raises but for cancellation. An exchange that it leaves incomplete ends its connection."""


class Gate:
    """What all connections of a listener share."""

    def __init__(self, service: Service, limits: Limits, *, largest_body: int) -> None:
        self.service: Final = service
        self.limits: Final = limits
        self.largest_body: Final = largest_body
        self.connections: Final[set[Connection]] = set()
        self.budget: Final = BodyBudget(limits.buffered_bytes)
        self.closing = False
        """While true every answer is its connection's last."""
        self.idle_seconds = limits.keep_alive_seconds
        """How long a connection may wait for its next request."""

    def sweep(self, now: float) -> None:
        for connection in tuple(self.connections):
            connection.sweep(now)


class Connection(asyncio.Protocol):
    """One client. Requests are answered one after the other, in the order in which they came."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpRequestParser(self)
        self._queue: deque[Exchange] = deque()
        self._reading: Exchange | None = None
        self._current: Exchange | None = None
        self._task: asyncio.Task[None] | None = None
        self._fields = Fields()
        self._target = b""
        self._in_head = True
        self._begun = False
        self._head_bytes = 0
        self._deaf = False
        self._paused_reading = False
        self._streaming = False
        self._drained: asyncio.Future[None] | None = None
        # Since when the client owes us the rest of a head, reading our answer, anything at all. Loop times.
        self._head_since: float | None = self._loop.time()
        self._blocked_since: float | None = None
        self._idle_since: float | None = None
        self._lingering_since: float | None = None

    # ---------------------------------------------------------------------------------------- transport's calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # No isinstance: uvloop's transports are no subclass of asyncio's.
        self._transport = cast("asyncio.Transport", transport)
        if len(self._gate.connections) >= self._gate.limits.connections:
            self._refuse(_CROWDED)
            return
        self._gate.connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._gate.connections.discard(self)
        self._deaf = True
        if self._drained is not None and not self._drained.done():
            self._drained.set_exception(ConnectionResetError("the client has gone"))
        if self._current is not None and not self._current.complete:
            self._current.fail(_BROKE_OFF)
        self._forget_queue()
        if self._streaming and self._task is not None:
            self._task.cancel()

    def eof_received(self) -> bool:
        # A client that half-closes still wants its answers, and only those. TLS knows no half-closing.
        self._deaf = True
        if self._transport is None or not self._transport.can_write_eof():
            return False
        if self._current is None and not self._queue:
            return False
        if self._reading is not None:
            self._reading.fail(_BROKE_OFF)
        self._last_queued().final = True
        return True

    def pause_writing(self) -> None:
        self._blocked_since = self._loop.time()

    def resume_writing(self) -> None:
        self._blocked_since = None
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)
        self._advance()

    def data_received(self, data: bytes) -> None:
        if self._deaf:
            return
        self._begun = False
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._decline_upgrade(data[upgrade.args[0] :])
        except httptools.HttpParserCallbackError as error:
            self._break(error.__context__.problem if isinstance(error.__context__, ProblemError) else _MALFORMED)
        except httptools.HttpParserError:
            self._break(_MALFORMED)
        if self._in_head and not self._begun:
            # A header that never ends is held by the parser, where no callback sees it grow.
            self._head_bytes += len(data)
            if self._head_bytes > self._gate.limits.head_bytes and not self._deaf:
                self._break(_HEAD_TOO_LARGE)
        self._advance()

    # ------------------------------------------------------------------------------------------- parser's calls

    def on_message_begin(self) -> None:
        self._fields = Fields()
        self._target = b""
        self._in_head = True
        self._begun = True
        self._head_bytes = 0
        self._idle_since = None
        if self._head_since is None:
            self._head_since = self._loop.time()

    def on_url(self, piece: bytes) -> None:
        self._target += piece
        if len(self._target) > self._gate.limits.line_bytes:
            raise ProblemError(_HEAD_TOO_LARGE)

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._in_head:
            return  # a trailer: it comes too late to mean anything
        limits = self._gate.limits
        if len(name) + len(value) > limits.line_bytes or len(self._fields) >= limits.headers:
            raise ProblemError(_HEAD_TOO_LARGE)
        self._fields.add(name, value)

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._head_since = None
        parser, fields = self._parser, self._fields
        if parser.should_upgrade():
            return  # llhttp stops behind this head, and _decline_upgrade takes over
        version = parser.get_http_version()
        exchange = self._exchange(
            method=parser.get_method().decode("ascii"),
            target=self._target.decode("latin-1"),
            fields=fields,
            http10=version == "1.0",
            keep_alive=parser.should_keep_alive(),
        )
        self._queue.append(exchange)
        self._reading = exchange
        flaw = _flaw(fields, version)
        if flaw is not None:
            raise ProblemError(flaw)

    def _exchange(
        self,
        *,
        fields: Fields,
        method: str = "GET",
        target: str = "/",
        http10: bool = False,
        keep_alive: bool = False,
    ) -> Exchange:
        return Exchange(
            budget=self._gate.budget,
            largest_body=self._gate.largest_body,
            invite=self._invite,
            method=method,
            target=target,
            fields=fields,
            http10=http10,
            keep_alive=keep_alive,
        )

    def on_body(self, chunk: bytes) -> None:
        if self._reading is not None:
            self._reading.feed(chunk)

    def on_message_complete(self) -> None:
        if self._reading is not None:
            self._reading.finish()
            self._reading = None

    # --------------------------------------------------------------------------------------------------- reading

    def _decline_upgrade(self, rest: bytes) -> None:
        """Go on in HTTP/1.1, as RFC 9110 (7.8) allows. Java's client asks for h2c with its first request.

        llhttp skips the body of a request that wants to upgrade, so the head is read again without that wish.
        """
        method, version = self._parser.get_method(), self._parser.get_http_version().encode("ascii")
        if method == b"CONNECT":
            self._break(_MALFORMED)
            return
        head = b"%b %b HTTP/%b\r\n" % (method, self._target, version)
        lines = [
            f"{name}: {value}\r\n" for name, value in self._fields.items() if name not in ("upgrade", "connection")
        ]
        self._parser = httptools.HttpRequestParser(self)
        self.data_received(head + "".join(lines).encode("utf-8", "surrogateescape") + b"\r\n" + rest)

    def _break(self, reason: Problem) -> None:
        """Nothing after this point means anything: answer what came before, say why, and close."""
        self._deaf = True
        last = self._last_queued_or_none()
        if last is not None and last.final and last.complete:
            return  # bytes behind a request that said Connection: close
        if self._reading is None:
            broken = self._exchange(fields=Fields())
            self._queue.append(broken)
            self._reading = broken
        self._reading.broken = reason
        self._reading.fail(reason)
        self._reading = None
        self._head_since = None

    def _last_queued_or_none(self) -> Exchange | None:
        return self._queue[-1] if self._queue else self._current

    def _last_queued(self) -> Exchange:
        last = self._last_queued_or_none()
        assert last is not None, "called with an exchange under way"
        return last

    # ------------------------------------------------------------------------------------------------- answering

    def _advance(self) -> None:
        """Start on the next request when the last one is answered and the answer is read."""
        if self._current is None and self._queue and self._blocked_since is None and self._transport is not None:
            self._current = self._queue.popleft()
            self._idle_since = None
            self._task = self._loop.create_task(self._run(self._current))
        self._hold_back()

    def _hold_back(self) -> None:
        """Read no more than may wait."""
        too_many = len(self._queue) >= self._gate.limits.pipelined
        if self._transport is None or too_many == self._paused_reading:
            return
        if too_many:
            self._transport.pause_reading()
        elif len(self._queue) <= self._gate.limits.pipelined // 2:
            self._transport.resume_reading()
        else:
            return
        self._paused_reading = too_many

    async def _run(self, exchange: Exchange) -> None:
        try:
            if exchange.broken is not None:
                answer: Answer = problem_response(exchange.broken)
            else:
                answer = await self._gate.service.answer(exchange)
            if isinstance(answer, EventStream):
                await self._stream(exchange, answer)
            else:
                self._respond(exchange, answer)
        finally:
            exchange.forget()
            self._finish(exchange)

    def _respond(self, exchange: Exchange, response: Response) -> None:
        if self._transport is None:
            return
        exchange.final = exchange.final or not exchange.complete or self._gate.closing
        lines = head(response.status, response.content_type if response.body else None, response.headers)
        length = b"" if response.status == 204 else b"Content-Length: %d\r\n" % len(response.body)
        connection = b"Connection: close\r\n" if exchange.final else KEEP_ALIVE if exchange.http10 else b""
        body = b"" if exchange.head_only else response.body
        self._transport.write(b"%b%b%b\r\n%b" % (lines, length, connection, body))

    async def _stream(self, exchange: Exchange, answer: EventStream) -> None:
        exchange.final = self._streaming = True
        try:
            chunked = not exchange.http10
            framing = b"Transfer-Encoding: chunked\r\n" if chunked else b""
            lines = head(200, answer.content_type, STREAM_HEADERS)
            await self._write(b"%b%bConnection: close\r\n\r\n" % (lines, framing))
            if not exchange.head_only:
                async for piece in answer.chunks:
                    await self._write(b"%x\r\n%b\r\n" % (len(piece), piece) if chunked else piece)
                await self._write(b"0\r\n\r\n" if chunked else b"")
        except ConnectionResetError:
            pass  # the reader has gone, or was dropped by the sweep: there is nobody to tell
        finally:
            answer.close()
            await answer.chunks.aclose()

    async def _write(self, data: bytes) -> None:
        """Write, and wait until the client has read enough. Raises ConnectionResetError once it has gone."""
        if self._transport is None:
            raise ConnectionResetError("the client has gone")
        self._transport.write(data)
        if self._blocked_since is not None:
            self._drained = self._loop.create_future()
            await self._drained

    def _finish(self, exchange: Exchange) -> None:
        self._current = self._task = None
        if self._transport is None:
            return
        if exchange.final:
            self._close_softly(exchange)
            return
        now = self._loop.time()
        if self._head_since is not None:
            self._head_since = now
        elif not self._queue:
            self._idle_since = now
        self._advance()

    def _close_softly(self, exchange: Exchange) -> None:
        """Close behind the answer. A client that is still sending gets the time to read it first."""
        assert self._transport is not None
        self._deaf = True
        self._forget_queue()
        if exchange.complete or not self._transport.can_write_eof():
            self._transport.close()
            return
        self._transport.write_eof()
        self._lingering_since = self._loop.time()

    def _forget_queue(self) -> None:
        """Nothing of what waits will be answered."""
        for exchange in self._queue:
            exchange.forget()
        self._queue.clear()

    def _refuse(self, answer: bytes) -> None:
        assert self._transport is not None
        self._deaf = True
        self._transport.write(answer)
        self._transport.close()

    # --------------------------------------------------------------------------------------------------- the end

    def sweep(self, now: float) -> None:
        """Close the connection if the client let a deadline pass."""
        limits, transport = self._gate.limits, self._transport
        if transport is None:
            return
        if _is_over(self._blocked_since, limits.write_seconds, now) or _is_over(
            self._lingering_since, limits.linger_seconds, now
        ):
            transport.abort()
        elif self._current is None and _is_over(self._head_since, limits.header_seconds, now):
            self._refuse(_LATE_HEAD)
        elif _is_over(self._idle_since, self._gate.idle_seconds, now):
            transport.close()

    def _invite(self) -> None:
        if self._transport is not None:
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def shut(self) -> asyncio.Task[None] | None:
        """Take no further request. The task that is still at work, or None when the connection was idle.

        A body that is not complete is not waited for: nothing that was promised hangs on it.
        """
        self._deaf = True
        self._forget_queue()
        if self._current is not None and not self._current.complete:
            self._current.fail(_SHUT)
        if self._current is None and self._transport is not None:
            self._transport.close()
        return self._task

    def abort(self) -> None:
        if self._task is not None:
            self._task.cancel()
        if self._transport is not None:
            self._transport.abort()


def _is_over(since: float | None, seconds: float, now: float) -> bool:
    return since is not None and now - since > seconds


def _flaw(fields: Fields, version: str) -> Problem | None:
    """What llhttp lets through and HTTP/1.1 does not."""
    hosts = (len(fields.getall("host", [])) if fields.repeats else 1) if "host" in fields else 0
    if hosts > 1 or (hosts == 0 and version != "1.0"):
        return problem(ProblemKind.MALFORMED_HTTP, "An HTTP/1.1 request has exactly one Host header.")
    coding = fields.get("transfer-encoding")
    if coding is not None and coding.lower() != "chunked":
        return problem(ProblemKind.MALFORMED_HTTP, "The only Transfer-Encoding that is taken is chunked.")
    return None


_MALFORMED: Final = problem(
    ProblemKind.MALFORMED_HTTP, "The request could not be read as HTTP/1.1: check the client, and that it uses http."
)
_BROKE_OFF: Final = problem(ProblemKind.MALFORMED_HTTP, "The body broke off.")
_SHUT: Final = problem(
    ProblemKind.DRAINING, "The gateway is shutting down, and the body was not complete: send it again."
)
_HEAD_TOO_LARGE: Final = problem(
    ProblemKind.HEADERS_TOO_LARGE,
    "The request line and each header may have 8190 bytes, and there may be 64 headers: send less.",
)
_LATE_HEAD: Final = whole(
    problem(ProblemKind.REQUEST_TIMEOUT, "The request's head was not complete within its deadline: send it at once.")
)
_CROWDED: Final = whole(
    problem(ProblemKind.SATURATED, "The gateway has as many connections as it takes: reuse yours, or try again later.")
)
