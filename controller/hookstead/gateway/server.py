"""A listener: requests from aiohttp, checked in one order, to handlers and back.

The order is the cheapest refusal first, and nothing of a body is read before its sender is known: Host and Origin,
route, credentials, Content-Encoding, Expect, size, deadline.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
from collections.abc import Awaitable, Callable
from typing import Final
from urllib.parse import urlsplit

from aiohttp import web

from hookstead.gateway.authorize import ANYONE, Authorizer, Caller, OpenAuthorizer, Scope
from hookstead.gateway.connection import SERVER, Connection, ConnectionServer, Gate, Limits, to_aiohttp
from hookstead.gateway.exchange import Answer, EventStream, Request, problem_response
from hookstead.gateway.loopback import foreign
from hookstead.gateway.problems import Problem, ProblemError, ProblemKind, problem
from hookstead.gateway.router import Route, Router

log = logging.getLogger(__name__)

Address = tuple[str, int]
"""Host ("" for every interface) and port (0 for a free one)."""


class HttpServer:
    """One listener with its routes. `local_only` refuses foreign Hosts and Origins."""

    def __init__(
        self,
        router: Router,
        *,
        authorizer: Authorizer | None = None,
        limits: Limits | None = None,
        local_only: bool = False,
        draining: Callable[[], bool] = lambda: False,
    ) -> None:
        self.router: Final = router
        self._authorizer: Final = authorizer or OpenAuthorizer()
        self._limits: Final = limits or Limits()
        self._local_only: Final = local_only
        self._draining: Final = draining
        self._gate: Final = Gate(self._limits)
        self._connections: ConnectionServer | None = None
        self._server: asyncio.Server | None = None
        self._sweeper: asyncio.Task[None] | None = None
        self._reading: Final[set[asyncio.Timeout]] = set()

    async def start(self, address: Address, *, tls: ssl.SSLContext | None = None) -> None:
        """Bind and serve. Raises OSError when the address cannot be had."""
        await self.bind(address, tls=tls)
        await self.serve()

    async def bind(self, address: Address, *, tls: ssl.SSLContext | None = None) -> None:
        """Take the address; who connects waits until `serve`. Raises OSError when it cannot be had."""
        host, port = address
        loop = asyncio.get_running_loop()
        self._connections = ConnectionServer(self._handle, gate=self._gate)
        self._server = await loop.create_server(
            self._connections, host or None, port, ssl=tls, backlog=1024, start_serving=False
        )
        self._sweeper = loop.create_task(self._sweep(), name="connection sweep")

    async def serve(self) -> None:
        """Answer, also those who came since `bind`."""
        assert self._server is not None, "bind() comes first"
        await self._server.start_serving()

    @property
    def addresses(self) -> tuple[Address, ...]:
        """Where it listens."""
        sockets = () if self._server is None else self._server.sockets
        return tuple((str(name[0]), int(name[1])) for name in (socket.getsockname() for socket in sockets))

    @property
    def port(self) -> int:
        return self.addresses[0][1]

    async def stop(self, *, grace_seconds: float = 2.0) -> None:
        """Take no new connection, let handlers finish within the grace, close the rest.

        Bodies that are not complete are not waited for: nothing that was promised hangs on them.
        """
        if self._server is None or self._connections is None or self._sweeper is None:
            return
        self._server.close()
        self._sweeper.cancel()
        self._connections.pre_shutdown()
        for deadline in self._reading:
            deadline.reschedule(asyncio.get_running_loop().time())
        await self._connections.shutdown(grace_seconds)
        with contextlib.suppress(asyncio.CancelledError):
            await self._sweeper
        self._server = None

    async def _sweep(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(self._limits.sweep_seconds)
            self._gate.sweep(loop.time())

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        connection = request.protocol
        assert isinstance(connection, Connection)
        connection.begin()
        last = False
        try:
            answer = await self._answer(request)
        except ProblemError as error:
            answer = problem_response(error.problem)
            last = error.problem.kind in _BREAKS_CONNECTION
        finally:
            connection.end()
        if isinstance(answer, EventStream):
            return await self._stream(request, answer)
        response = to_aiohttp(answer)
        if last or self._draining():
            response.force_close()
        return response

    async def _answer(self, request: web.BaseRequest) -> Answer:
        headers = request.headers
        if self._local_only:
            _raise(foreign(headers.get("Host"), headers.get("Origin")))
        path, query = _target(request.raw_path)
        match = self.router.match(request.method, path)
        if isinstance(match, Problem):
            raise ProblemError(match)
        route = match.route
        caller = ANYONE
        if route.scope is not None:
            caller = await self._identify(headers.get("Authorization"), route.scope)
        body = await self._body(request, route)
        return await route.handler(
            Request(
                method=request.method,
                path=path,
                query=query,
                headers=headers,
                body=body,
                names=match.names,
                caller=caller,
            )
        )

    async def _identify(self, authorization: str | None, scope: Scope) -> Caller:
        caller = await self._authorizer.identify(authorization)
        if isinstance(caller, Problem):
            raise ProblemError(caller)
        _raise(self._authorizer.permit(caller, scope))
        return caller

    async def _body(self, request: web.BaseRequest, route: Route) -> bytes:
        """The whole body. Raises ProblemError."""
        headers = request.headers
        if "Content-Encoding" in headers and not route.takes_encoding:
            _refuse_encoding(headers.getall("Content-Encoding"))
        length = request.content_length
        if length is not None and length > route.body_limit:
            raise _too_large(route)
        content = request.content
        if content.is_eof():
            body = content.read_nowait()
            if len(body) > route.body_limit:
                raise _too_large(route)
            return body
        await _meet_expectation(request)
        deadline = asyncio.timeout(self._limits.body_seconds)
        self._reading.add(deadline)
        try:
            async with deadline:
                return await _read(content.readany, route)
        except TimeoutError:
            raise ProblemError(self._incomplete_body()) from None
        finally:
            self._reading.discard(deadline)

    def _incomplete_body(self) -> Problem:
        if self._draining():
            return problem(ProblemKind.DRAINING, "The gateway is shutting down, and the body was not complete.")
        return problem(
            ProblemKind.REQUEST_TIMEOUT,
            f"The body was not complete after {self._limits.body_seconds:g} s: send smaller or faster.",
        )

    async def _stream(self, request: web.BaseRequest, answer: EventStream) -> web.StreamResponse:
        response = web.StreamResponse(
            headers={
                "Content-Type": answer.content_type,
                "Cache-Control": "no-store",
                "X-Accel-Buffering": "no",
                "Server": SERVER,
            }
        )
        response.force_close()
        try:
            await response.prepare(request)
            async for chunk in answer.chunks:
                async with asyncio.timeout(self._limits.write_seconds):
                    await response.write(chunk)
        except TimeoutError:
            raise ConnectionResetError("the reader of a stream does not read") from None
        finally:
            answer.close()
            await answer.chunks.aclose()
        return response


_BREAKS_CONNECTION: Final = frozenset(
    {
        ProblemKind.DRAINING,
        ProblemKind.TOO_LARGE,
        ProblemKind.REQUEST_TIMEOUT,
        ProblemKind.MALFORMED_HTTP,
        ProblemKind.EXPECTATION_FAILED,
    }
)
"""Problems behind which the rest of the connection's bytes mean nothing, or are not worth reading."""


async def _read(readany: Callable[[], Awaitable[bytes]], route: Route) -> bytes:
    chunks: list[bytes] = []
    size = 0
    try:
        while chunk := await readany():
            size += len(chunk)
            if size > route.body_limit:
                raise _too_large(route)
            chunks.append(chunk)
    except web.RequestPayloadError as error:
        raise ProblemError(
            problem(ProblemKind.MALFORMED_HTTP, "The body breaks off or is not framed as it says.")
        ) from error
    return b"".join(chunks)


def _target(raw: str) -> tuple[str, str]:
    """Path and query of a request target, in origin form or absolute form (RFC 9112, 3.2)."""
    if not raw.startswith("/"):
        parts = urlsplit(raw)
        return parts.path or "/", parts.query
    path, _, query = raw.partition("?")
    return path, query


def _refuse_encoding(values: list[str]) -> None:
    tokens = [token.strip().lower() for value in values for token in value.split(",")]
    if any(token not in ("identity", "") for token in tokens):
        raise ProblemError(
            Problem(
                kind=ProblemKind.UNSUPPORTED_MEDIA_TYPE,
                detail=f"Content-Encoding {', '.join(tokens)[:100]!r} is not taken: send the body as it is.",
                headers=(("Accept-Encoding", "identity"),),
            )
        )


async def _meet_expectation(request: web.BaseRequest) -> None:
    expectation = request.headers.get("Expect")
    if expectation is None:
        return
    if expectation.lower() != "100-continue":
        raise ProblemError(problem(ProblemKind.EXPECTATION_FAILED, "The only expectation that is met is 100-continue."))
    await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    # aiohttp's own expect handler does the same: an interim answer is no beginning of the final one.
    request.writer.output_size = 0


def _too_large(route: Route) -> ProblemError:
    return ProblemError(
        Problem(
            kind=ProblemKind.TOO_LARGE,
            detail=f"The body may have {route.body_limit} bytes here: send less, or raise the limit of the gateway.",
            extra={"limitBytes": route.body_limit},
        )
    )


def _raise(refusal: Problem | None) -> None:
    if refusal is not None:
        raise ProblemError(refusal)
