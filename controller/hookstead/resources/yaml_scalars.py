"""Plain YAML scalars as kubectl reads them: YAML 1.1 words, Go's numbers, then a round trip through JSON.

PyYAML resolves otherwise (`y` stays a string, `0o17` too, `12:30:45` becomes a number, dates become dates). The
table in tests/unit/resources/test_yaml_scalars.py was measured with kubectl 1.32.
"""

from __future__ import annotations

import base64
import binascii
import math
import re
from typing import Any, Final

_TRUE: Final = frozenset({"y", "Y", "yes", "Yes", "YES", "true", "True", "TRUE", "on", "On", "ON"})
_FALSE: Final = frozenset({"n", "N", "no", "No", "NO", "false", "False", "FALSE", "off", "Off", "OFF"})
_NULL: Final = frozenset({"", "~", "null", "Null", "NULL"})
_CLEAR: Final = frozenset({"true", "True", "TRUE", "false", "False", "FALSE"})
_INFINITE: Final = re.compile(r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)")
_INTEGER: Final = re.compile(r"([-+]?)(?:0[xX]([0-9a-fA-F]+)|0[oO]([0-7]+)|0[bB]([01]+)|0([0-7]+)|(0|[1-9][0-9]*))")
_FLOAT: Final = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_BASES: Final = (16, 8, 2, 8, 10)
_NUMBER_STARTS: Final = frozenset("+-0123456789")
_INT64: Final = 2**63
_TAG: Final = "tag:yaml.org,2002:"


class ScalarError(Exception):
    """A scalar that has no JSON value; the message says why and what to do."""


def resolve(text: str, *, tag: str | None, is_plain: bool) -> Any:
    """The JSON value of one scalar. `tag` is the explicit one, or None. Raises ScalarError."""
    if tag is None:
        return _json(_implicit(text)) if is_plain else text
    kind = tag.removeprefix(_TAG)
    if kind == "binary":
        return _binary(text)
    if kind in ("int", "float", "bool", "null"):
        value = _json(_implicit(text))
        if not _is_of(value, kind):
            raise ScalarError(f"must be a !!{kind}, and {text!r} is none: correct it, or remove the tag")
        return value
    return text


def surprise(text: str, value: Any) -> str | None:
    """What to tell a person whose plain `text` became something else than it looks like; None for nothing."""
    if isinstance(value, bool) and text not in _CLEAR:
        return f"{text} is read as {str(value).lower()}: put it in quotes, or write {str(value).lower()}"
    if isinstance(value, float) and abs(value) >= _INT64 and re.fullmatch(r"[-+]?[0-9]{19,}", text):
        return f"{text} is more than the API server can hold and becomes {value}: put it in quotes"
    if isinstance(value, int) and re.fullmatch(r"[-+]?0[0-9]+", text) and len(text) > 1:
        return f"{text} is read as {value}: put it in quotes, or write {value}"
    return None


def _implicit(text: str) -> Any:
    """What Go's YAML makes of a plain scalar, before JSON."""
    if text in _NULL:
        return None
    if text in _TRUE or text in _FALSE:
        return text in _TRUE
    if _INFINITE.fullmatch(text):
        raise ScalarError(f"must be a finite number, and {text} is none: JSON has no such value")
    if text[0] == ".":
        return _finite(text) if _FLOAT.fullmatch(text) else text
    if text[0] not in _NUMBER_STARTS:
        return text
    plain = text.replace("_", "")
    match = _INTEGER.fullmatch(plain)
    if match is not None:
        digits, base = next((group, base) for group, base in zip(match.groups()[1:], _BASES, strict=True) if group)
        if len(digits) <= 4000:
            return -int(digits, base) if match[1] == "-" else int(digits, base)
    number = _finite(plain) if _FLOAT.fullmatch(plain) else None
    return text if number is None or isinstance(number, str) else number


def _finite(text: str) -> float | str:
    value = float(text)
    return value if math.isfinite(value) else text


def _json(value: Any) -> Any:
    """Numbers as they come out of Go's JSON: int64 where whole and in range, else a double."""
    if isinstance(value, int) and not isinstance(value, bool) and not -_INT64 <= value < _INT64:
        return _beyond(value)
    if isinstance(value, float) and value.is_integer() and -_INT64 <= value < _INT64:
        return int(value)
    return value


def _beyond(value: int) -> float | str:
    try:
        return float(value)
    except OverflowError:
        return str(value)


def _is_of(value: Any, kind: str) -> bool:
    if kind == "null":
        return value is None
    if kind == "bool":
        return isinstance(value, bool)
    whole = isinstance(value, int) and not isinstance(value, bool)
    return whole if kind == "int" else whole or isinstance(value, float)


def _binary(text: str) -> str:
    try:
        return base64.b64decode("".join(text.split()), validate=True).decode()
    except (binascii.Error, UnicodeDecodeError) as error:
        raise ScalarError("must be base64 of UTF-8 text after !!binary: correct it") from error
