"""Query parameters, read strictly: a misspelt filter must not turn into "everything"."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import Final, TypeVar
from urllib.parse import parse_qsl

from hookstead.config.times import parse_time
from hookstead.gateway.envelope import shown
from hookstead.gateway.exchange import Request
from hookstead.gateway.problems import ProblemError, ProblemKind, refuse
from hookstead.resources.suggestion import did_you_mean

DEFAULT_LIMIT: Final = 50
MAX_LIMIT: Final = 250
MAX_VALUE: Final = 2048
Choice = TypeVar("Choice", bound=Enum)


class Parameters:
    """The query of one request. Every reader raises ProblemError (400) for a value that it cannot take."""

    def __init__(self, request: Request, known: Sequence[str]) -> None:
        self._values: dict[str, str] = {}
        if request.query:
            self._read(request, known)

    def _read(self, request: Request, known: Sequence[str]) -> None:
        try:
            pairs = parse_qsl(
                request.query, keep_blank_values=True, strict_parsing=True, errors="strict", max_num_fields=32
            )
        except ValueError:
            raise refuse(
                ProblemKind.INVALID_PARAMETER, "The query is not name=value pairs joined by & in percent-encoded UTF-8."
            ) from None
        for name, value in pairs:
            if name not in known:
                takes = f"it takes {', '.join(known)}" if known else "it takes none"
                raise invalid(
                    shown(name), f"is no parameter of {request.path}{did_you_mean(name[:64], known)}; {takes}"
                )
            if name in self._values:
                raise invalid(name, "is given twice: give it once")
            if len(value) > MAX_VALUE:
                raise invalid(name, f"is longer than {MAX_VALUE} characters")
            self._values[name] = value

    def text(self, name: str) -> str | None:
        """The value, None when absent. An empty one is an error: it would be neither a filter nor none."""
        value = self._values.get(name)
        if value == "":
            raise invalid(name, "is empty: give it a value or leave it out")
        return value

    def choice(self, name: str, kind: type[Choice]) -> Choice | None:
        """A member of an enum, by its value."""
        value = self._values.get(name)
        if value is None:
            return None
        known = [str(member.value) for member in kind]
        if value not in known:
            raise invalid(
                name, f"must be one of {', '.join(known)}, found {shown(value)}{did_you_mean(value[:64], known)}"
            )
        return kind(value)

    def time_ms(self, name: str) -> int | None:
        """An RFC 3339 date-time as wall milliseconds."""
        value = self._values.get(name)
        if value is None:
            return None
        try:
            return parse_time(value)
        except ValueError:
            hint = "; write + as %2B in a query" if " " in value else ""
            raise invalid(
                name, f"must be an RFC 3339 date-time such as 2026-01-31T12:00:00Z, found {shown(value)}{hint}"
            ) from None

    def whole(self, name: str, *, default: int, minimum: int, maximum: int) -> int:
        """A decimal number within bounds."""
        value = self._values.get(name)
        if value is None:
            return default
        plain = value.isascii() and value.isdigit() and len(value) <= 12
        if not plain or not minimum <= int(value) <= maximum:
            raise invalid(name, f"must be a whole number from {minimum} to {maximum}, found {shown(value)}")
        return int(value)

    def limit(self) -> int:
        """How many items a page has."""
        return self.whole("limit", default=DEFAULT_LIMIT, minimum=1, maximum=MAX_LIMIT)

    def cursor(self) -> str | None:
        return self.text("cursor")


def invalid(name: str, expectation: str) -> ProblemError:
    return refuse(ProblemKind.INVALID_PARAMETER, f"{name} {expectation}.", parameter=name)


def bad_cursor() -> ProblemError:
    return invalid(
        "cursor", "was not given out by this list: take nextCursor of the page before, with the same filters"
    )
