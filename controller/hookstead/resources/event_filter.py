"""`spec.filter`: one CEL expression of type bool over one variable, `event`.

The reference C++ runtime evaluates (`cel-expr-python`): types are checked when compiling, regular
expressions are RE2, and a comprehension that iterates more than 10,000 times is an error. Ten thousand times
something that is as long as the event is still too much (measured: 11 s and 2 GB for an event of 64 KiB that
is added to itself, some 15 ns a byte and turn), so a loop that does more than look at its own element is also
bounded by turns times bytes.
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
    from collections.abc import Mapping, Sequence

EVENT_FIELDS: Final = ("type", "channels", "id", "timestamp", "data")
FILTER_LIMIT: Final = 1024
"""Characters; `maxLength` of spec.filter."""
ITERATION_LIMIT: Final = 10_000
"""The library's own budget of one evaluation."""
WORK_LIMIT: Final = 8_000_000
"""Turns of a costly loop times bytes of the event: some 0.1 s at worst."""

_ENV: Final = cel.NewEnv(variables={"event": cel.Type.Map(cel.Type.STRING, cel.Type.DYN)})
_LITERAL: Final = re.compile(
    r"""[rRbB]{0,2}(?:\"{3}.*?\"{3}|'{3}.*?'{3}|"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*')""", re.DOTALL
)
_COMMENT: Final = re.compile(r"//[^\n]*")
_LONG_NUMBER: Final = re.compile(rb"\d{19}")
_LARGEST_DOUBLE: Final = int(sys.float_info.max)
_DECODER: Final = msgspec.json.Decoder(float_hook=float)
"""Numbers beyond a double, such as 1e400, become infinite as in CEL's own conversions; without the hook they are an
error, which would refuse events for being looked at."""
_SELECTED: Final = re.compile(r"(?<![\w.])event\s*\.\s*([A-Za-z_]\w*)")
_SHADOWED: Final = re.compile(r"\(\s*event\s*,")
_LOOP: Final = re.compile(r"\.\s*(?:all|exists|exists_one|map|filter)\s*\(")
_SMALL: Final = re.compile(r"(?<![\w.])event\s*\.\s*(?:type|channels|id|timestamp)\b")
_EVENT: Final = re.compile(r"(?<![\w.])event\b")


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
    def commas(self) -> int:
        """Commas in the data: no list or map in it has more elements than one more."""
        return self._data.count(b",")

    @property
    def activation(self) -> Any:
        """The library's form of the event. Raises ValueError where the bytes are not JSON after all."""
        if self._activation is None:
            data = _DECODER.decode(self._data)
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

    __slots__ = ("_commas", "_expression", "_loop_depth", "text")

    def __init__(self, text: str, expression: Any) -> None:
        self.text: Final = text
        self._expression: Final = expression
        self._loop_depth: Final = _costly_loop_depth(_code_of(text))
        self._commas: Final = text.count(",")

    def __repr__(self) -> str:
        return f"EventFilter({self.text!r})"

    def matches(self, view: EventView) -> bool | None:
        """Whether the event passes. None: the filter failed on it or went over the budget: no match either."""
        if self._loop_depth and self._work(view) > WORK_LIMIT:
            return None
        try:
            value = self._expression.eval(view.activation).value()
        except (
            RuntimeError,
            ValueError,
        ):  # the library's only class: the iteration budget; data that Python cannot hold
            return None
        return value if isinstance(value, bool) else None

    def _work(self, view: EventView) -> int:
        """Turns times bytes, at most. A list has no more elements than the event, or the text, has commas."""
        elements = view.commas + self._commas + 2
        turns: int = elements**self._loop_depth
        return min(ITERATION_LIMIT, turns) * view.size_bytes


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
    reason = re.sub(r"(?:mismatched|extraneous) input '<EOF>' expecting .*", "it ends too early", reason)
    return re.sub(r"\s*\(in container ''\)|\s*\[[A-Z_]+\]$", "", reason).strip()


def _remedy(text: str, reason: str) -> str:
    if "token recognition error" in reason and re.search(r"""['"]""", _code_of(text).replace('""', "")):
        return "; a string that begins with a quote must end with the same one"
    undeclared = re.search(r"undeclared reference to '((\w+)[\w.]*)'", reason)
    if undeclared and undeclared[2] in EVENT_FIELDS:
        return f"; did you mean event.{undeclared[1]}?"
    if undeclared and not re.search(rf"\b{re.escape(undeclared[1])}\s*\(", _code_of(text)):
        return "; the only variable is event"
    if "type(" in reason and re.search(r"(?<![\w.])type\b", _code_of(text)):
        return "; did you mean event.type?"
    return ""


def _code_of(text: str) -> str:
    """`text` without comments and with every string literal emptied."""
    return _COMMENT.sub("", _LITERAL.sub('""', text))


def _costly_loop_depth(code: str) -> int:
    """How deep comprehensions nest; 0 where none does more per turn than look at its own element."""
    bodies = {loop.end(): _argument(code, loop.end()) for loop in _LOOP.finditer(code)}
    depth = max((_nesting(start, bodies) for start in bodies), default=0)
    looks_around = any(_EVENT.search(_SMALL.sub("", body)) for body in bodies.values())
    return depth if looks_around or depth > 1 else 0


def _nesting(position: int, bodies: Mapping[int, str]) -> int:
    return sum(start <= position <= start + len(body) for start, body in bodies.items())


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
