"""One request and one answer, as handlers see them: values, free of any HTTP library.

`gateway/server.py` turns a connection's bytes into a Request, and an Answer back into bytes.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Final, Protocol, TypeAlias, TypeVar, overload

import msgspec

from hookstead.gateway.authorize import ANYONE, Caller
from hookstead.gateway.problems import CONTENT_TYPE, Problem

JSON: Final = "application/json"
_Default = TypeVar("_Default")


class Headers(Protocol):
    """Header fields by case-insensitive name."""

    @overload
    def get(self, key: str, /) -> str | None: ...
    @overload
    def get(self, key: str, /, default: _Default) -> str | _Default: ...
    def __contains__(self, key: object, /) -> bool: ...
    def getall(self, key: str, default: list[str], /) -> list[str]: ...
    def items(self) -> Any: ...


@dataclass(slots=True, kw_only=True)
class Request:
    """A request whose body was read whole, within its limit. `names` are the path's parameters, decoded.

    `query` is the part behind the question mark, encoded as it came.
    """

    method: str
    path: str
    headers: Headers
    query: str = ""
    body: bytes = b""
    names: dict[str, str] = field(default_factory=dict)
    caller: Caller = ANYONE


@dataclass(frozen=True, slots=True)
class Response:
    """A whole answer."""

    status: int
    body: bytes = b""
    content_type: str = JSON
    headers: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class EventStream:
    """An answer without end: server-sent events, written as they come. `close` is called once it is over."""

    chunks: AsyncGenerator[bytes, None]
    close: Callable[[], None]
    content_type: str = "text/event-stream"


Answer: TypeAlias = Response | EventStream
Handler: TypeAlias = Callable[[Request], Awaitable[Answer]]


def json_response(value: Any, status: int = 200) -> Response:
    """`value` as JSON; what msgspec encodes."""
    return Response(status, msgspec.json.encode(value))


def problem_response(problem: Problem) -> Response:
    return Response(problem.status, problem.body(), CONTENT_TYPE, problem.all_headers())
