"""One producer's connection: aiohttp's HTTP/1 protocol with deadlines, bounds and problem documents of our own.

What aiohttp leaves open (read in 3.14.5): a request line or header may drip in for as long as the keep-alive lasts,
a client that never reads holds its handler for good, and broken HTTP is answered in text/plain. One sweep per
second over all connections closes the first two; no timer is set per request.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from aiohttp import web
from aiohttp.http_exceptions import LineTooLong

from hookstead import __version__
from hookstead.gateway.exchange import Response, problem_response
from hookstead.gateway.problems import Problem, ProblemKind, problem

log = logging.getLogger(__name__)

SERVER: Final = f"Hookstead/{__version__}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Bounds of one listener. Seconds and bytes."""

    header_seconds: float = 10.0
    body_seconds: float = 30.0
    write_seconds: float = 30.0
    keep_alive_seconds: float = 75.0
    sweep_seconds: float = 1.0
    """How exactly heads and unread answers are timed."""
    connections: int = 4096
    line_bytes: int = 8190
    header_bytes: int = 8190
    """Of one field; with `headers` of them the whole head is bounded."""
    headers: int = 64


class Connection(web.RequestHandler):
    """A connection that knows since when it is waited for. Times are the loop's."""

    __slots__ = ("blocked_since", "busy", "counted", "gate", "waiting_since")

    gate: Gate
    waiting_since: float | None
    """Since when a request's head is expected or incomplete; None between requests and while one is handled."""
    blocked_since: float | None
    """Since when the client has not read what was written to it."""
    busy: bool
    counted: bool

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.blocked_since = None
        self.busy = False
        self.counted = self.gate.admit(self)
        if not self.counted:
            self._turn_away(transport)
            return
        self.waiting_since = self._loop.time()
        super().connection_made(transport)

    def connection_lost(self, exc: BaseException | None) -> None:
        if self.counted:
            self.gate.leave(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if not self.busy and self.waiting_since is None:
            self.waiting_since = self._loop.time()
        super().data_received(data)

    def pause_writing(self) -> None:
        self.blocked_since = self._loop.time()
        super().pause_writing()

    def resume_writing(self) -> None:
        self.blocked_since = None
        super().resume_writing()

    def begin(self) -> None:
        """A request's head is complete and its handler starts."""
        self.busy = True
        self.waiting_since = None

    def end(self) -> None:
        """The handler has its answer."""
        self.busy = False

    def sweep(self, now: float, limits: Limits) -> None:
        """Close the connection if the client let a deadline pass."""
        if self.blocked_since is not None and now - self.blocked_since > limits.write_seconds:
            if self.transport is not None:
                self.transport.abort()
        elif self.waiting_since is not None and now - self.waiting_since > limits.header_seconds and not self.busy:
            if self.transport is not None:
                self.transport.write(_LATE_HEAD)
            self.force_close()

    def _turn_away(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        transport.write(_CROWDED)
        self.force_close()
        transport.close()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """The answer to broken HTTP, and to a handler that raised; always the connection's last."""
        if status >= 500:
            log.error("a handler failed", exc_info=exc, extra={"action": "request_failed"})
        if request.writer.output_size > 0:
            raise ConnectionError("the answer had begun when its handler failed")
        answer = to_aiohttp(problem_response(_explain(status, exc)))
        answer.force_close()
        return answer


class Gate:
    """How many connections a listener holds, and which."""

    def __init__(self, limits: Limits) -> None:
        self.limits: Final = limits
        self.connections: Final[set[Connection]] = set()

    def admit(self, connection: Connection) -> bool:
        if len(self.connections) >= self.limits.connections:
            return False
        self.connections.add(connection)
        return True

    def leave(self, connection: Connection) -> None:
        self.connections.discard(connection)

    def sweep(self, now: float) -> None:
        for connection in tuple(self.connections):
            connection.sweep(now, self.limits)


class ConnectionServer(web.Server):
    """aiohttp's low-level server, making our connections."""

    def __init__(self, handler: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]], *, gate: Gate) -> None:
        super().__init__(handler)
        self._gate = gate

    def __call__(self) -> Connection:
        limits = self._gate.limits
        connection = Connection(
            self,
            loop=asyncio.get_running_loop(),
            keepalive_timeout=limits.keep_alive_seconds,
            access_log=None,  # type: ignore[arg-type]  # None is documented as "no access log"
            logger=log,
            max_line_size=limits.line_bytes,
            max_field_size=limits.header_bytes,
            max_headers=limits.headers,
            lingering_time=2.0,
            auto_decompress=False,
        )
        connection.gate = self._gate
        return connection


def to_aiohttp(response: Response) -> web.Response:
    answer = web.Response(
        status=response.status,
        body=response.body or None,
        headers=[("Server", SERVER), *response.headers],
    )
    if response.body:
        answer.headers["Content-Type"] = response.content_type
    return answer


def raw_answer(refusal: Problem) -> bytes:
    """A whole HTTP answer that closes the connection, for where no request exists."""
    body = refusal.body()
    head = [
        f"HTTP/1.1 {refusal.status} {refusal.kind.title}",
        f"Server: {SERVER}",
        "Content-Type: application/problem+json",
        f"Content-Length: {len(body)}",
        "Connection: close",
        *(f"{name}: {value}" for name, value in refusal.all_headers()),
    ]
    return "\r\n".join(head).encode("ascii") + b"\r\n\r\n" + body


def _explain(status: int, exc: BaseException | None) -> Problem:
    if isinstance(exc, LineTooLong):
        return problem(
            ProblemKind.HEADERS_TOO_LARGE,
            "The request line and each header may have 8190 bytes, and there may be 64 headers: send less.",
        )
    if status < 500:
        return problem(
            ProblemKind.MALFORMED_HTTP,
            "The request could not be read as HTTP/1.1: check the client, and that it uses http.",
        )
    return problem(ProblemKind.INTERNAL, "This is a fault of the gateway; its log has the details. Try again.")


_LATE_HEAD: Final = raw_answer(
    problem(ProblemKind.REQUEST_TIMEOUT, "The request's head was not complete within its deadline: send it at once.")
)
_CROWDED: Final = raw_answer(
    problem(ProblemKind.SATURATED, "The gateway has as many connections as it takes: reuse yours, or try again later.")
)
