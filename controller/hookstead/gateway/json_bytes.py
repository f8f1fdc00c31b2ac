"""JSON as bytes: checked against RFC 8259 and the contract's own rules, never rebuilt.

msgspec skips over a value in C and checks its grammar on the way (0.6 µs for 1 KiB); what it leaves open is
checked here: UTF-8, and nesting over 256. It refuses lone surrogates, NaN and a byte order mark by itself;
`tests/property/gateway` holds it to that, with the standard library as its peer.
"""

from __future__ import annotations

import re
from itertools import accumulate
from typing import Final

import msgspec

MAX_DEPTH: Final = 256
"""Arrays and objects around a value, counted from the document's root."""

_SKIP: Final = msgspec.json.Decoder(msgspec.Raw)
_LIST: Final = msgspec.json.Decoder(list[msgspec.Raw])


class MalformedJson(ValueError):
    """The bytes are not JSON that the gateway takes; the message says why, in words for the caller."""


class _Key:
    """A member's name that is equal to nothing but itself, so that a repeated name stays visible."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name


def _make_key(_kind: type, name: object) -> _Key:
    return _Key(str(name))


_MEMBERS: Final = msgspec.json.Decoder(dict[_Key, msgspec.Raw], dec_hook=_make_key)


def check(document: bytes, *, depth: int = 0) -> None:
    """Return if `document` is one JSON text, else raise MalformedJson. `depth` levels stand around it already."""
    _check_text(document, depth)
    try:
        _SKIP.decode(document)
    except (msgspec.DecodeError, RecursionError) as error:
        raise _malformed(document, error) from None


def members(document: bytes, *, depth: int = 0) -> dict[str, bytes]:
    """The members of a JSON object by name, each value's own bytes. Raises MalformedJson, for a repeated name too."""
    _check_text(document, depth)
    try:
        pairs = _MEMBERS.decode(document)
    except msgspec.ValidationError:
        raise MalformedJson(f"expected an object, found {kind_of(document)}") from None
    except (msgspec.DecodeError, RecursionError) as error:
        raise _malformed(document, error) from None
    named = {key.name: bytes(value) for key, value in pairs.items()}
    if len(named) != len(pairs):
        raise MalformedJson(f"the member {_repeated(pairs)!r} occurs twice: send it once")
    return named


def elements(document: bytes) -> list[bytes]:
    """The elements of a JSON array, each one's own bytes, not yet checked beyond the grammar. Raises MalformedJson.

    An element that is JSON by its grammar and refused here all the same (lone surrogates, deep nesting) must not take
    the others with it: such an array is cut apart by its brackets alone.
    """
    _refuse_other_encodings(document)
    try:
        return [bytes(element) for element in _LIST.decode(document)]
    except msgspec.ValidationError:
        raise MalformedJson(f"expected an array, found {kind_of(document)}") from None
    except (msgspec.DecodeError, RecursionError) as error:
        cut = None
        if isinstance(error, RecursionError) or _SURROGATE.search(document) is not None:
            cut = cut_apart(document)
        if cut is None:
            raise _malformed(document, error) from None
        return cut


_SURROGATE: Final = re.compile(rb"\\u[dD][89abcdefABCDEF]")
_TOKEN: Final = re.compile(rb'"(?:[^"\\]++|\\.)*+"|[\[\]{},"]', re.DOTALL)
CUT_TOKENS: Final = 2_000_000
"""Strings, brackets and commas of an array that is cut apart; about half a second."""


def cut_apart(document: bytes) -> list[bytes] | None:
    """The elements of an array by its brackets, strings and commas; None where these do not make one."""
    body = document.strip(b" \t\r\n")
    if not (body.startswith(b"[") and body.endswith(b"]")):
        return None
    pieces: list[bytes] = []
    depth, start, end = 0, 1, len(body) - 1
    for count, token in enumerate(_TOKEN.finditer(body)):
        at, first = token.start(), body[token.start()]
        if first == _QUOTE:
            if token.end() == at + 1:
                return None
            continue
        if first != _COMMA:
            depth += 1 if first in b"[{" else -1
        if (depth == 1 and first == _COMMA) or (depth == 0 and at == end):
            pieces.append(body[start:at].strip(b" \t\r\n"))
            start = at + 1
        elif depth == 0 or count > CUT_TOKENS:
            return None
    return pieces if depth == 0 and all(pieces) else None


_QUOTE, _COMMA = b'",'


def kind_of(document: bytes) -> str:
    """What a JSON text is, in words, from its first character."""
    match document.lstrip(b" \t\r\n")[:1]:
        case b"{":
            return "an object"
        case b"[":
            return "an array"
        case b'"':
            return "a string"
        case b"t" | b"f":
            return "a boolean"
        case b"n":
            return "null"
        case b"":
            return "nothing"
        case _:
            return "a number"


def _check_text(document: bytes, depth: int) -> None:
    if not document.isascii():
        _refuse_other_encodings(document)
        try:
            document.decode("utf-8")
        except UnicodeDecodeError as error:
            raise MalformedJson(f"the text is not UTF-8 (byte {error.start}): {error.reason}") from None
    if document.count(b"[") + document.count(b"{") > MAX_DEPTH - depth and too_deep(document, MAX_DEPTH - depth):
        raise MalformedJson(f"arrays and objects are nested more than {MAX_DEPTH} deep")


def _refuse_other_encodings(document: bytes) -> None:
    if document.startswith(b"\xef\xbb\xbf"):
        raise MalformedJson("the text starts with a byte order mark: send UTF-8 without one")
    if document.startswith((b"\xfe\xff", b"\xff\xfe")):
        raise MalformedJson("the text is UTF-16: send UTF-8")


def too_deep(document: bytes, limit: int) -> bool:
    """Whether arrays and objects are nested more than `limit` deep; brackets in strings do not count.

    Linear, about 15 ms for 1 MiB of nothing but brackets; reached only with more than `limit` of them.
    """
    # Escapes go first, so that a quote is always a string's start or end; every second stretch is outside of one.
    plain = document.replace(b"\\\\", b"").replace(b'\\"', b"")
    outside = b"".join(plain.split(b'"')[::2])
    steps = memoryview(outside.translate(_STEPS, _NO_BRACKETS)).cast("b")
    return max(accumulate(steps), default=0) > limit


_NO_BRACKETS: Final = bytes(set(range(256)) - set(b"[]{}"))
_STEPS: Final = bytes.maketrans(b"[{]}", b"\x01\x01\xff\xff")
"""One level in, one level out, as signed bytes."""


def _repeated(pairs: dict[_Key, msgspec.Raw]) -> str:
    seen: set[str] = set()
    for key in pairs:
        if key.name in seen:
            return key.name
        seen.add(key.name)
    raise AssertionError("called without a repeated name")


def _malformed(document: bytes, error: Exception) -> MalformedJson:
    _refuse_other_encodings(document)
    if isinstance(error, RecursionError):
        return MalformedJson(f"arrays and objects are nested more than {MAX_DEPTH} deep")
    if not document.strip():
        return MalformedJson("the body is empty: expected a JSON text")
    reason = str(error).removeprefix("JSON is malformed: ")
    if reason == "Input data was truncated":
        reason = "the text ends too early (or holds a lone surrogate at its end)"
    return MalformedJson(reason)
