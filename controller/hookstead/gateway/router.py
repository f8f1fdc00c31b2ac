"""Routes: which handler answers which path, and what stands in front of it.

Paths are matched as they were sent, segment by segment; a parameter is one segment, percent-decoded.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Final, TypeAlias
from urllib.parse import unquote

from hookstead.gateway.authorize import Permission
from hookstead.gateway.exchange import Handler, Request
from hookstead.gateway.problems import Problem, ProblemKind

SMALL_BODY: Final = 64 * 1024
"""Bytes of a body where none is needed, or a few members."""


Subject: TypeAlias = Callable[[Request], Awaitable[str]]
"""The name of the object that a request, whose body is not read yet, is about; "" for all of them."""


async def everything(request: Request) -> str:
    """The subject of a call that is about no object in particular."""
    return ""


async def named(request: Request) -> str:
    """The subject of a call whose path has a `{name}`."""
    return request.names["name"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """One method of one path. `needs` None: whoever reaches the port. `body_limit` in bytes.

    `subject` None: the handler asks for the permission, because what it is about is in the body.
    `takes_encoding`: the handler itself undoes a Content-Encoding.
    """

    method: str
    path: str
    handler: Handler
    needs: Permission | None
    subject: Subject | None = everything
    body_limit: int = SMALL_BODY
    takes_encoding: bool = False


@dataclass(frozen=True, slots=True)
class Match:
    route: Route
    names: dict[str, str]


class Router:
    """A fixed set of routes. Exact paths are one dictionary look-up."""

    def __init__(self, routes: Iterable[Route]) -> None:
        self.routes: Final = tuple(routes)
        self._exact: dict[str, dict[str, Route]] = {}
        self._patterns: list[tuple[tuple[str, ...], dict[str, Route]]] = []
        for route in self.routes:
            self._methods_of(route.path)[route.method] = route
        self._matches: Final = {
            (method, path): Match(route, {})
            for path, methods in self._exact.items()
            for method, route in methods.items()
        }

    def match(self, method: str, path: str) -> Match | Problem:
        """The route of a request, or a problem: 404, 405."""
        return self._matches.get((method, path)) or self._search(method, path)

    def _search(self, method: str, path: str) -> Match | Problem:
        methods = self._exact.get(path)
        names: dict[str, str] = {}
        if methods is None:
            methods, names = self._find_pattern(path.split("/"))
        if methods is None:
            return Problem(
                kind=ProblemKind.NOT_FOUND,
                detail=f"Nothing is served at {path[:200]}; /openapi.json of the public port lists what is.",
            )
        route = methods.get("GET" if method == "HEAD" else method)
        if route is not None:
            return Match(route, names)
        allowed = ", ".join(sorted({*methods, *(["HEAD"] if "GET" in methods else [])}))
        return Problem(
            kind=ProblemKind.METHOD_NOT_ALLOWED,
            detail=f"{path[:200]} takes {allowed}, not {method[:20]}.",
            headers=(("Allow", allowed),),
        )

    def _find_pattern(self, segments: list[str]) -> tuple[dict[str, Route] | None, dict[str, str]]:
        for pattern, methods in self._patterns:
            if len(pattern) == len(segments):
                names = _bind(pattern, segments)
                if names is not None:
                    return methods, names
        return None, {}

    def _methods_of(self, path: str) -> dict[str, Route]:
        if "{" not in path:
            return self._exact.setdefault(path, {})
        segments = tuple(path.split("/"))
        for pattern, methods in self._patterns:
            if pattern == segments:
                return methods
        self._patterns.append((segments, {}))
        return self._patterns[-1][1]


def _bind(pattern: tuple[str, ...], segments: list[str]) -> dict[str, str] | None:
    names: dict[str, str] = {}
    for expected, found in zip(pattern, segments, strict=True):
        if expected.startswith("{"):
            if not found:
                return None
            names[expected[1:-1]] = unquote(found)
        elif expected != found:
            return None
    return names
