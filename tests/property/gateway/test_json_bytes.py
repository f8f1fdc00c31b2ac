"""The JSON checker against the standard library, made strict, as its peer."""

from __future__ import annotations

import json
import math
from typing import Any, NoReturn

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from hookstead.gateway.json_bytes import MAX_DEPTH, MalformedJson, check, cut_apart, elements, members, too_deep


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


def peer_accepts(document: bytes) -> bool:
    """RFC 8259 by the standard library, with what it lets through refused: BOM, UTF-16, NaN, lone surrogates."""
    try:
        text = document.decode("utf-8")
        # Numbers stay text: their grammar is what is compared, not how large they may be.
        value = json.loads(text, parse_constant=_no_constant, parse_int=str, parse_float=str)
        _walk(value)
    except (ValueError, RecursionError):
        return False
    return True


def _walk(value: Any) -> None:
    match value:
        case str():
            value.encode("utf-8")
        case list():
            for one in value:
                _walk(one)
        case dict():
            for key, one in value.items():
                _walk(key)
                _walk(one)


def accepts(document: bytes) -> bool:
    try:
        check(document)
    except MalformedJson:
        return False
    return True


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(), inner, max_size=5),
    max_leaves=20,
)
documents = st.builds(
    lambda value, ascii_only, indent: json.dumps(value, ensure_ascii=ascii_only, indent=indent).encode(
        "utf-8", "surrogatepass"
    ),
    values,
    st.booleans(),
    st.sampled_from([None, 0, 2]),
)

TOKENS = [
    *(rb'{ } [ ] : , " \ \u d800 dc00 0041 - 0 1 . e E + true false null NaN Infinity a "a" "a":1 / \/ \n \x'.split()),
    *(
        b" ",
        b"\n",
        b"\t",
        b"\x00",
        b"\x1f",
        b"\x7f",
        b"\xff",
        b"\xed\xa0\x80",
        b"\xef\xbb\xbf",
        b"\xc3\xa9",
        b"\xe2\x80\xa8",
    ),
]


@given(documents)
def test_what_the_standard_library_writes_is_accepted(document: bytes) -> None:
    assert accepts(document)


@settings(max_examples=1500)
@given(st.lists(st.sampled_from(TOKENS), max_size=14).map(b"".join))
@example(b'"\\ud800"')
@example(b'"\\ud800\\u0041"')
@example(b'"\\ud83d\\ude00"')
@example(b'"\xed\xa0\x80"')
@example(b"\xef\xbb\xbf{}")
@example("{}".encode("utf-16"))
@example("{}".encode("utf-16-le"))
@example(b"1e999")
@example(b"-")
@example(b"")
@example(b"[1,]")
def test_it_agrees_with_the_strict_peer_on_token_soup(document: bytes) -> None:
    assert accepts(document) == peer_accepts(document)


@settings(max_examples=500)
@given(documents, st.data())
def test_it_agrees_with_the_strict_peer_on_damaged_documents(document: bytes, data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(document)))
    piece = data.draw(st.sampled_from([b"", *TOKENS]))
    width = data.draw(st.integers(0, 3))
    damaged = document[:at] + piece + document[at + width :]
    assert accepts(damaged) == peer_accepts(damaged)


@given(st.binary(max_size=40))
def test_it_agrees_with_the_strict_peer_on_noise(document: bytes) -> None:
    assert accepts(document) == peer_accepts(document)


@given(st.dictionaries(st.text(), values, max_size=6))
def test_members_are_the_bytes_of_their_values(value: dict[str, Any]) -> None:
    document = json.dumps(value).encode()
    found = members(document)
    assert {name: json.loads(text) for name, text in found.items()} == value
    assert all(text in document for text in found.values())


@given(st.dictionaries(st.text(), values, min_size=1, max_size=4), st.data())
def test_a_repeated_name_is_refused_however_it_is_spelled(value: dict[str, Any], data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(value)))
    spelled = data.draw(st.sampled_from([json.dumps(name), json.dumps(name, ensure_ascii=False), _escaped(name)]))
    document = json.dumps(value)[:-1].encode() + b"," + spelled.encode("utf-8", "surrogatepass") + b":1}"
    with pytest.raises(MalformedJson, match="twice"):
        members(document)


def _escaped(text: str) -> str:
    units = text.encode("utf-16-be", "surrogatepass")
    return '"' + "".join(f"\\u{units[i]:02X}{units[i + 1]:02x}" for i in range(0, len(units), 2)) + '"'


@given(st.lists(values, max_size=6))
def test_elements_are_the_bytes_of_their_values(value: list[Any]) -> None:
    assert [json.loads(text) for text in elements(json.dumps(value).encode())] == value


@given(values, st.integers(0, 6))
def test_depth_is_counted_as_a_walk_counts_it(value: Any, limit: int) -> None:
    assert too_deep(json.dumps(value).encode(), limit) == (_depth(value) > limit)


def _depth(value: Any) -> int:
    match value:
        case list():
            return 1 + max(map(_depth, value), default=0)
        case dict():
            return 1 + max(map(_depth, value.values()), default=0)
        case _:
            return 0


@given(st.integers(0, 40), st.sampled_from([b"[", b'{"a":']), st.sampled_from([0, 1]))
def test_nesting_is_allowed_up_to_256_from_the_root(around: int, opening: bytes, outside: int) -> None:
    depth = MAX_DEPTH - 20 + around
    closing = b"]" if opening == b"[" else b"}"
    document = opening * depth + b'"[{\\"["' + closing * depth
    try:
        check(document, depth=outside)
        accepted = True
    except MalformedJson:
        accepted = False
    assert accepted == (depth + outside <= MAX_DEPTH)


def test_nesting_beyond_the_interpreter_s_stack_is_refused_as_too_deep() -> None:
    for opening in (b"[", b'{"a":'):
        with pytest.raises(MalformedJson, match="256 deep"):
            check(opening * 100_000)


def test_numbers_of_any_size_are_json() -> None:
    for number in (b"1" * 5000, b"-0", b"1e999", b"1E-999", b"0.1e+5", str(math.pi).encode()):
        check(number)


@given(
    st.lists(
        st.recursive(
            st.none() | st.text() | st.integers(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
        )
    )
)
def test_cutting_an_array_apart_gives_what_decoding_it_gives(values: list[Any]) -> None:
    document = json.dumps(values, indent=1).encode()
    cut = cut_apart(document)
    if values:
        assert cut is not None
        assert [json.loads(piece) for piece in cut] == values
    else:
        assert cut is None  # nothing is left to reject


@pytest.mark.parametrize(
    "document", [b"[1,]", b"[,1]", b"[1", b"1]", b'["]', b"[1]]", b"[[1]", b"[1],[2]", b"{}", b"[}"]
)
def test_what_is_no_array_is_not_cut_apart(document: bytes) -> None:
    assert cut_apart(document) is None
