"""A request on its way in: its header fields, its body within bounds, and how it will end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, TypeVar, overload

from hookstead.gateway.problems import Problem, ProblemError, ProblemKind, problem

_Default = TypeVar("_Default")


class Fields:
    """Header fields in order, by case-insensitive name; values are decoded when they are asked for.

    Values are UTF-8 where they can be, else surrogate-escaped.
    """

    __slots__ = ("_first", "_pairs", "repeats")

    def __init__(self) -> None:
        self._pairs: list[tuple[bytes, bytes]] = []
        self._first: dict[bytes, bytes] = {}
        self.repeats = False
        """Whether any name occurs twice."""

    def add(self, name: bytes, value: bytes) -> None:
        key = name.lower()
        self._pairs.append((key, value))
        if key in self._first:
            self.repeats = True
        else:
            self._first[key] = value

    @overload
    def get(self, key: str, /) -> str | None: ...
    @overload
    def get(self, key: str, /, default: _Default) -> str | _Default: ...
    def get(self, key: str, /, default: _Default | None = None) -> str | _Default | None:
        value = self._first.get(_key(key))
        return default if value is None else _text(value)

    def __contains__(self, key: object, /) -> bool:
        return isinstance(key, str) and _key(key) in self._first

    def __len__(self) -> int:
        return len(self._pairs)

    def getall(self, key: str, default: list[str], /) -> list[str]:
        wanted = _key(key)
        return [_text(value) for name, value in self._pairs if name == wanted] or default

    def items(self) -> Iterator[tuple[str, str]]:
        """Names in lower case."""
        return ((name.decode("latin-1"), _text(value)) for name, value in self._pairs)


@lru_cache(maxsize=64)
def _key(name: str) -> bytes:
    """Only names that our own code asks for get here."""
    return name.lower().encode("ascii")


def _text(value: bytes) -> str:
    return value.strip(b" \t").decode("utf-8", "surrogateescape")


@dataclass(slots=True)
class BodyBudget:
    """What the unfinished and unanswered bodies of a listener may hold together, and hold."""

    bytes: int
    used: int = 0


class Exchange:
    """A request on its way in, and what is known about how it will end."""

    __slots__ = (
        "_budget",
        "_chunks",
        "_invite",
        "_waiter",
        "broken",
        "complete",
        "fields",
        "final",
        "head_only",
        "http10",
        "limit",
        "method",
        "problem",
        "size",
        "target",
        "wants_continue",
    )

    def __init__(
        self,
        *,
        budget: BodyBudget,
        largest_body: int,
        invite: Callable[[], None],
        method: str = "GET",
        target: str = "/",
        fields: Fields,
        http10: bool = False,
        keep_alive: bool = False,
    ) -> None:
        self._budget = budget
        self._invite = invite
        self._chunks: list[bytes] = []
        self._waiter: asyncio.Future[None] | None = None
        self.method = method
        self.target = target
        self.fields = fields
        self.http10 = http10
        self.head_only = method == "HEAD"
        self.final = not keep_alive
        """Whether the connection closes behind the answer."""
        self.complete = False
        self.limit = largest_body
        self.size = 0
        self.problem: Problem | None = None
        """Why the body cannot be had."""
        self.broken: Problem | None = None
        """Why it is no request at all: nobody is asked about it."""
        self.wants_continue = "expect" in fields

    def feed(self, chunk: bytes) -> None:
        if self.problem is not None:
            return
        self.size += len(chunk)
        self._budget.used += len(chunk)
        self._chunks.append(chunk)
        if self.size > self.limit:
            self.fail(too_large(self.limit))
        elif self._budget.used > self._budget.bytes:
            self.fail(_BUFFERS_FULL)

    def finish(self) -> None:
        self.complete = True
        self._wake()

    def fail(self, reason: Problem) -> None:
        """The request cannot be taken; its body is forgotten, and the connection ends with the answer."""
        self.problem = self.problem or reason
        self.final = True
        self.forget()
        self._wake()

    def invite(self) -> None:
        """Tell the client, which asked, that its body is wanted."""
        self._invite()

    def forget(self) -> None:
        self._budget.used -= sum(map(len, self._chunks))
        self._chunks.clear()

    async def body(self, limit: int, *, seconds: float) -> bytes:
        """The whole body. Raises ProblemError when it is too large, too slow or broken."""
        self.limit = limit
        if self.problem is None and self.size > limit:
            self.fail(too_large(limit))
        if self.problem is None and not self.complete:
            await self._wait(seconds)
        if self.problem is not None:
            raise ProblemError(self.problem)
        return self._chunks[0] if len(self._chunks) == 1 else b"".join(self._chunks)

    async def _wait(self, seconds: float) -> None:
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(seconds):
                await self._waiter
        except TimeoutError:
            self.fail(
                problem(
                    ProblemKind.REQUEST_TIMEOUT,
                    f"The body was not complete after {seconds:g} s: send less, or faster.",
                )
            )

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


def too_large(limit: int) -> Problem:
    return problem(
        ProblemKind.TOO_LARGE,
        f"The body may have {limit} bytes here: send less, or raise the limit of the gateway.",
        limitBytes=limit,
    )


_BUFFERS_FULL: Final = problem(ProblemKind.SATURATED, "Too many requests are on their way in: try again.")
