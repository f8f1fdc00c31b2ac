"""A listener: exchanges from connections, checked in one order, to handlers and back.

The order is the cheapest refusal first, and nothing of a body is waited for before its sender is known: Host and
Origin, route, credentials, Content-Encoding, Expect, size, deadline.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
from collections.abc import AsyncGenerator
from typing import Final
from urllib.parse import urlsplit

from hookstead.delivery.ports import StoreError
from hookstead.gateway.authorize import Authorizer, OpenAuthorizer
from hookstead.gateway.exchange import Answer, EventStream, Request, problem_response
from hookstead.gateway.http1 import Connection, Gate, Limits
from hookstead.gateway.http_request import Exchange, too_large
from hookstead.gateway.loopback import foreign
from hookstead.gateway.problems import Problem, ProblemError, ProblemKind, problem
from hookstead.gateway.router import Route, Router

log = logging.getLogger(__name__)

JUDGE_SECONDS: Final = 15.0
"""How often the reader of an endless answer is judged again."""

LEAVING_SECONDS: Final = 1.0
"""How long a connection may be idle when its client shall go elsewhere."""

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
    ) -> None:
        self.router: Final = router
        self._authorizer: Final = authorizer or OpenAuthorizer()
        self._limits: Final = limits or Limits()
        self._local_only: Final = local_only
        self._gate: Final = Gate(
            self, self._limits, largest_body=max((route.body_limit for route in router.routes), default=0)
        )
        self._server: asyncio.Server | None = None
        self._sweeper: asyncio.Task[None] | None = None

    async def start(self, address: Address, *, tls: ssl.SSLContext | None = None) -> None:
        """Bind and serve. Raises OSError when the address cannot be had."""
        await self.bind(address, tls=tls)
        await self.serve()

    async def bind(self, address: Address, *, tls: ssl.SSLContext | None = None, shared: bool = False) -> None:
        """Take the address; who connects waits until `serve`. Raises OSError when it cannot be had.

        `shared`: other processes may take it too, and the system divides the connections (SO_REUSEPORT).
        """
        host, port = address
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            lambda: Connection(self._gate),
            host or None,
            port,
            ssl=tls,
            backlog=1024,
            reuse_port=shared or None,
            start_serving=False,
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

    def close_after_answers(self) -> None:
        """From now on every answer is its connection's last, so that clients go elsewhere."""
        self._gate.closing = True

    def let_clients_go(self) -> None:
        """Go on as before, but keep no connection: who comes again is led elsewhere, if anything leads him."""
        self._gate.closing = True
        self._gate.idle_seconds = min(self._gate.idle_seconds, LEAVING_SECONDS)

    async def stop(self, *, grace_seconds: float = 2.0) -> None:
        """Take no new connection, let handlers finish within the grace, close the rest."""
        if self._server is None or self._sweeper is None:
            return
        self._server.close()
        self._server = None
        self._gate.closing = True
        self._sweeper.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._sweeper
        at_work = [task for connection in tuple(self._gate.connections) if (task := connection.shut()) is not None]
        if at_work:
            await asyncio.wait(at_work, timeout=grace_seconds)
        for connection in tuple(self._gate.connections):
            connection.abort()
        await asyncio.gather(*at_work, return_exceptions=True)

    async def _sweep(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(self._limits.sweep_seconds)
            self._gate.sweep(loop.time())

    async def answer(self, exchange: Exchange) -> Answer:
        """`http1.Service`: the answer to one exchange, whatever happens."""
        try:
            return await self._answer(exchange)
        except ProblemError as error:
            return problem_response(error.problem)
        except StoreError as error:
            log.warning("the store did not answer", extra={"action": "store_unavailable", "error": str(error)})
            return problem_response(_NO_STORE)
        except Exception:
            # The boundary: a fault of one handler is that request's, and its details are for the log alone.
            log.exception("a handler failed", extra={"action": "request_failed", "method": exchange.method})
            return problem_response(_FAULT)

    async def _answer(self, exchange: Exchange) -> Answer:
        fields = exchange.fields
        authority, path, query = _target(exchange.target)
        if self._local_only:
            _raise(foreign(authority or fields.get("host"), fields.get("origin")))
        match = self.router.match(exchange.method, path)
        if isinstance(match, Problem):
            raise ProblemError(match)
        route = match.route
        request = Request(method=exchange.method, path=path, query=query, headers=fields, names=match.names)
        await self._admit(request, route)
        request.body = await self._body(exchange, route)
        answer = await route.handler(request)
        if isinstance(answer, EventStream):
            return EventStream(self._while_admitted(answer.chunks, request, route), answer.close, answer.content_type)
        return answer

    async def _admit(self, request: Request, route: Route) -> None:
        """Give the request its caller, who may use the route as far as its body need not be known for that.

        Raises ProblemError.
        """
        if route.needs is None:
            return
        caller = await self._authorizer.identify(request.headers.get("authorization"))
        if isinstance(caller, Problem):
            raise ProblemError(caller)
        _raise(caller.refusal(route.needs))
        request.caller = caller
        if route.subject is not None:
            _raise(await caller.permit(route.needs, await route.subject(request)))

    async def _while_admitted(
        self, chunks: AsyncGenerator[bytes, None], request: Request, route: Route
    ) -> AsyncGenerator[bytes, None]:
        """The chunks for as long as the caller may have them: a stream must not outlive the right to it."""
        loop = asyncio.get_running_loop()
        due = loop.time() + JUDGE_SECONDS
        try:
            async for chunk in chunks:
                if loop.time() >= due:
                    await self._admit(request, route)
                    due = loop.time() + JUDGE_SECONDS
                yield chunk
        except ProblemError as error:
            log.info("a stream ends: %s", error, extra={"action": "stream_ended", "path": request.path})
        finally:
            await chunks.aclose()

    async def _body(self, exchange: Exchange, route: Route) -> bytes:
        """The whole body. Raises ProblemError."""
        fields = exchange.fields
        if "content-encoding" in fields and not route.takes_encoding:
            _refuse_encoding(fields.getall("content-encoding", []))
        if not exchange.complete:
            announced = fields.get("content-length")
            if announced is not None and int(announced) > route.body_limit:
                raise ProblemError(too_large(route.body_limit))
        if exchange.wants_continue:
            _meet_expectation(exchange)
        return await exchange.body(route.body_limit, seconds=self._limits.body_seconds)


_FAULT: Final = problem(ProblemKind.INTERNAL, "This is a fault of the gateway; its log has the details. Try again.")


_NO_STORE: Final = problem(
    ProblemKind.STORE_UNAVAILABLE, "The store does not answer now; the gateway's log says why. Try again."
)


def _target(raw: str) -> tuple[str, str, str]:
    """Authority, path and query of a request target, in origin form or absolute form (RFC 9112, 3.2).

    The authority is empty in origin form; in absolute form it stands in for the Host header. Raises ProblemError.
    """
    if not raw.startswith("/"):
        try:
            parts = urlsplit(raw)
        except ValueError:
            raise ProblemError(problem(ProblemKind.MALFORMED_HTTP, "The request target is no URL.")) from None
        return parts.netloc, parts.path or "/", parts.query
    path, _, query = raw.partition("?")
    return "", path, query


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


def _meet_expectation(exchange: Exchange) -> None:
    if exchange.fields.get("expect", "").lower() != "100-continue":
        raise ProblemError(problem(ProblemKind.EXPECTATION_FAILED, "The only expectation that is met is 100-continue."))
    if not exchange.complete:
        exchange.invite()


def _raise(refusal: Problem | None) -> None:
    if refusal is not None:
        raise ProblemError(refusal)
