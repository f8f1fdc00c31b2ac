"""The internal port: the operator pushes configuration and reads what happened. Bearer token, TLS but on loopback."""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

from hookstead.config import serial
from hookstead.config.model import Epoch
from hookstead.config.report import Report
from hookstead.gateway.authorize import Caller, Permission, Scope, ScopedCaller, bearer_token
from hookstead.gateway.configuration import Configuration, HashMismatch, Stale
from hookstead.gateway.exchange import Request, Response, json_response
from hookstead.gateway.parameters import Parameters
from hookstead.gateway.problems import Problem, ProblemKind, refuse
from hookstead.gateway.router import Route, Router

PUSH_LIMIT: Final = 64 * 1024 * 1024
"""Bytes of a compressed configuration; 10,000 endpoints are about one megabyte."""
MAX_WAIT_SECONDS: Final = 30
OPERATOR: Final = ScopedCaller("operator", frozenset(Scope))
"""May do everything there is on the internal port, so what its routes need is only that somebody is identified."""


class TokenAuthorizer:
    """The one token of the internal port. It is asked for at each request, because the operator renews it."""

    def __init__(self, token: Callable[[], bytes]) -> None:
        self._token = token

    async def identify(self, authorization: str | None) -> Caller | Problem:
        given = bearer_token(authorization)
        expected = self._token()
        if given is None or not expected or not hmac.compare_digest(given.encode("utf-8", "surrogateescape"), expected):
            return Problem(
                kind=ProblemKind.UNAUTHENTICATED,
                detail="The internal port wants the token of the Secret hookstead-internal.",
                headers=(("WWW-Authenticate", 'Bearer realm="hookstead-internal"'),),
            )
        return OPERATOR

    async def close(self) -> None:
        """Holds nothing."""


class Reporter(Protocol):
    """What is needed of the engine."""

    def report(self, *, after: str | None) -> Report: ...
    async def report_changed(self, *, after: str, timeout_seconds: float) -> None: ...


@dataclass(frozen=True, slots=True)
class Internal:
    """Handlers of the internal port."""

    configuration: Configuration
    reporter: Reporter

    async def push(self, request: Request) -> Response:
        """`PUT /internal/v1/config`: 200 and 409 answer with what runs."""
        Parameters(request, ())
        try:
            packed = await pack(request)
            running = await self.configuration.push(packed, epoch=read_epoch(request), hash_=_hash(request))
        except Stale as stale:
            return json_response(stale.running, 409)
        except (serial.ConfigUnreadable, HashMismatch) as error:
            raise refuse(ProblemKind.INVALID_BODY, f"The configuration was not taken: {error}.") from error
        return json_response(running)

    async def running(self, request: Request) -> Response:
        """`GET /internal/v1/running`"""
        Parameters(request, ())
        return json_response(self.configuration.running)

    async def report(self, request: Request) -> Response:
        """`GET /internal/v1/report`: at once when something happened after the cursor, else within waitSeconds."""
        given = Parameters(request, ("after", "waitSeconds"))
        after = given.text("after")
        wait = given.whole("waitSeconds", default=0, minimum=0, maximum=MAX_WAIT_SECONDS)
        if after is not None and wait:
            await self.reporter.report_changed(after=after, timeout_seconds=wait)
        return json_response(self.reporter.report(after=after))


def internal_router(internal: Internal) -> Router:
    return Router(
        [
            Route(
                method="PUT",
                path="/internal/v1/config",
                handler=internal.push,
                needs=Permission.READ,
                body_limit=PUSH_LIMIT,
                takes_encoding=True,
            ),
            Route(method="GET", path="/internal/v1/report", handler=internal.report, needs=Permission.READ),
            Route(method="GET", path="/internal/v1/running", handler=internal.running, needs=Permission.READ),
        ]
    )


async def pack(request: Request) -> bytes:
    """The body as gzip: as it came, or compressed here. Raises ProblemError."""
    match request.headers.get("Content-Encoding", "identity").lower():
        case "gzip":
            return request.body
        case "identity":
            return await asyncio.to_thread(serial.compress, request.body)
        case other:
            raise refuse(
                ProblemKind.UNSUPPORTED_MEDIA_TYPE, f"Content-Encoding {other[:60]!r} is not taken: send gzip."
            )


def read_epoch(request: Request) -> Epoch:
    """The header `hookstead-epoch: TERM.SEQUENCE`. Raises ProblemError."""
    text = request.headers.get("hookstead-epoch", "")
    try:
        return parse_epoch(text)
    except ValueError:
        raise refuse(
            ProblemKind.INVALID_BODY, f"hookstead-epoch must be TERM.SEQUENCE, such as 3.17, found {text[:60]!r}."
        ) from None


def parse_epoch(text: str) -> Epoch:
    """`TERM.SEQUENCE` in decimal digits. Raises ValueError."""
    term, dot, sequence = text.partition(".")
    if not dot or not all(part.isascii() and part.isdigit() and len(part) <= 18 for part in (term, sequence)):
        raise ValueError(f"{text[:60]!r} is not TERM.SEQUENCE")
    return Epoch(term=int(term), sequence=int(sequence))


def _hash(request: Request) -> str:
    value = request.headers.get("hookstead-hash")
    if not value:
        raise refuse(
            ProblemKind.INVALID_BODY, "hookstead-hash is required: sha256: and the hex digest of the document."
        )
    return value
