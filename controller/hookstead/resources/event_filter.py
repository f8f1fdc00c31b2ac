"""`spec.filter`: one CEL expression of type bool over one variable, `event`.

The reference C++ runtime evaluates (`cel-expr-python`): types are checked when compiling, regular
expressions are RE2, and a comprehension that iterates more than 10,000 times is an error. Ten thousand times
anything that is as long as the event is still too much (measured: 12 s for 3,000 concatenations of 2 MB),
hence the size limit for expressions that do such things in a loop.
"""

from __future__ import annotations

import math
import re
import sys
from typing import TYPE_CHECKING, Any, Final

import msgspec
from cel_expr_python import cel

from hookstead.resources.suggestion import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Sequence

EVENT_FIELDS: Final = ("type", "channels", "id", "timestamp", "data")
FILTER_LIMIT: Final = 1024
"""Characters; `maxLength` of spec.filter."""
LOOP_SIZE_LIMIT: Final = 65_536
"""Bytes of an event above which an expression with costly loops is not evaluated: part of the budget."""

_ENV: Final = cel.NewEnv(variables={"event": cel.Type.Map(cel.Type.STRING, cel.Type.DYN)})
_LITERAL: Final = re.compile(
    r"""[rRbB]{0,2}(?:\"{3}.*?\"{3}|'{3}.*?'{3}|"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*')""", re.DOTALL
)
_COMMENT: Final = re.compile(r"//[^\n]*")
_LONG_NUMBER: Final = re.compile(rb"\d{19}")
_LARGEST_DOUBLE: Final = int(sys.float_info.max)
_SELECTED: Final = re.compile(r"(?<![\w.])event\s*\.\s*([A-Za-z_]\w*)")
_SHADOWED: Final = re.compile(r"\(\s*event\s*,")
_LOOP: Final = re.compile(r"\.\s*(?:all|exists|exists_one|map|filter)\s*\(")
_COSTLY: Final = re.compile(r"\bevent\b|\+|" + _LOOP.pattern)


class FilterError(Exception):
    """An expression that is no filter. The message says what is wrong with it and what to do."""


class EventView:
    """What filters see of one event: made once per event, shared by all its filters.

    `timestamp` and `data` are JSON as it arrived, valid and UTF-8; they are decoded when the first filter asks.
    Filters see the timestamp as a string: `timestamp(event.timestamp)` makes a time of it.
    """

    __slots__ = ("_activation", "_data", "_fields", "size_bytes")

    def __init__(
        self,
        *,
        type: str,  # noqa: A002  (the envelope's own name for it)
        channels: Sequence[str],
        id: str,  # noqa: A002  (as above)
        timestamp: bytes,
        data: bytes,
    ) -> None:
        self._fields: dict[str, Any] = {"type": type, "channels": channels, "id": id, "timestamp": timestamp}
        self._data: Final = data
        self._activation: Any = None
        self.size_bytes: Final = len(data)

    @property
    def activation(self) -> Any:
        """The library's form of the event. Raises ValueError where the bytes are not JSON after all."""
        if self._activation is None:
            data = msgspec.json.decode(self._data)
            fields = {
                **self._fields,
                "channels": list(self._fields["channels"]),
                "timestamp": msgspec.json.decode(self._fields["timestamp"]),
                "data": _within_int64(data) if _LONG_NUMBER.search(self._data) else data,
            }
            self._activation = _ENV.Activation({"event": fields})
        return self._activation


def _within_int64(value: Any) -> Any:
    """`value` with integers that CEL cannot hold as doubles: one of them must not fail a filter on another."""
    if isinstance(value, dict):
        return {key: _within_int64(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_within_int64(item) for item in value]
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        return float(value) if abs(value) < _LARGEST_DOUBLE else (math.inf if value > 0 else -math.inf)
    return value


class EventFilter:
    """A compiled filter. Stateless; compile once, use for every event."""

    __slots__ = ("_expression", "_has_costly_loop", "text")

    def __init__(self, text: str, expression: Any) -> None:
        self.text: Final = text
        self._expression: Final = expression
        self._has_costly_loop: Final = _loops_are_costly(text)

    def __repr__(self) -> str:
        return f"EventFilter({self.text!r})"

    def matches(self, view: EventView) -> bool | None:
        """Whether the event passes. None: the filter failed on it or went over the budget: no match either."""
        if self._has_costly_loop and view.size_bytes > LOOP_SIZE_LIMIT:
            return None
        try:
            value = self._expression.eval(view.activation).value()
        except RuntimeError:  # the library's only class: the iteration budget
            return None
        return value if isinstance(value, bool) else None


def compile_filter(text: str) -> EventFilter:
    """Compile `spec.filter`. Raises FilterError, whose message starts where the field's path ends."""
    if len(text) > FILTER_LIMIT:
        raise FilterError(f"must be at most {FILTER_LIMIT} characters long, not {len(text)}: shorten it")
    if not text.strip():
        raise FilterError("must be an expression such as event.data.amount > 100: write one, or remove the field")
    try:
        expression = _ENV.compile(text)
    except RuntimeError as error:  # the library's only class: syntax, names, types, nesting
        raise FilterError(_explain(text, str(error))) from error
    _require_known_fields(text)
    kind = expression.return_type()
    if kind != cel.Type.BOOL:
        raise FilterError(_not_bool(text, kind.name()))
    return EventFilter(text, expression)


def _not_bool(text: str, kind: str) -> str:
    if kind == "DYN":
        return f"must be of type bool, and only an event tells what {_shorten(text)} is: compare it (… == true)"
    return f"must be of type bool, not {kind.lower()}: compare it with something, as in … == …"


def _require_known_fields(text: str) -> None:
    """Refuse `event.typ`: the library takes any member of a map and would fail on every event."""
    code = _code_of(text)
    if _SHADOWED.search(code):
        return
    for name in _SELECTED.findall(code):
        if name not in EVENT_FIELDS:
            known = ", ".join(f"event.{field}" for field in EVENT_FIELDS)
            raise FilterError(
                f"must use what an event has ({known}), not event.{name}{did_you_mean(name, EVENT_FIELDS)}: what "
                "the sender put into the event is under event.data"
            )


def _explain(text: str, error: str) -> str:
    """The library's words, less their decoration, with the usual remedy where there is one."""
    place = re.search(r"<input>:(\d+):(\d+): (.*)", error)
    if place is None:
        reason = re.sub(r"^[A-Z_]+: |\s*\[[A-Z_]+\]$", "", error).strip()
        return f"must be a CEL expression: {reason}"
    line, column, reason = place.groups()
    where = f"column {column}" if line == "1" and "\n" not in text else f"line {line}, column {column}"
    return f"must be a CEL expression: at {where}: {_bare(reason)}{_remedy(text, reason)}"


def _bare(reason: str) -> str:
    return re.sub(r"\s*\(in container ''\)|\s*\[[A-Z_]+\]$", "", reason).strip()


def _remedy(text: str, reason: str) -> str:
    undeclared = re.search(r"undeclared reference to '(\w+)'", reason)
    if undeclared and undeclared[1] in EVENT_FIELDS:
        return f"; did you mean event.{undeclared[1]}?"
    if undeclared and not re.search(rf"\b{undeclared[1]}\s*\(", _code_of(text)):
        return "; the only variable is event"
    if "type(" in reason and re.search(r"(?<![\w.])type\b", _code_of(text)):
        return "; did you mean event.type?"
    return ""


def _code_of(text: str) -> str:
    """`text` without comments and with every string literal emptied."""
    return _COMMENT.sub("", _LITERAL.sub('""', text))


def _loops_are_costly(text: str) -> bool:
    """Whether a comprehension does more per turn than look at its own element."""
    code = _code_of(text)
    return any(_COSTLY.search(_argument(code, loop.end())) for loop in _LOOP.finditer(code))


def _argument(code: str, start: int) -> str:
    """What stands between the parenthesis that ends at `start` and its partner."""
    depth = 1
    for position in range(start, len(code)):
        depth += {"(": 1, ")": -1}.get(code[position], 0)
        if depth == 0:
            return code[start:position]
    return code[start:]


def _shorten(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:59]}…"
