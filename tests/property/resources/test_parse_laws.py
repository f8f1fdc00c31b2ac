"""Laws of the edge: nothing that anybody hands in raises, and what is taken is stable."""

from __future__ import annotations

import contextlib
import random
from typing import Any

import msgspec
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from cluster import crd_cases
from hookstead.resources.event_filter import EventView, FilterError, compile_filter
from hookstead.resources.json_schema import SchemaError, compile_schema
from hookstead.resources.kinds import API_VERSION, Kind
from hookstead.resources.manifests import Manifest, read_manifests
from hookstead.resources.parse import parse, validate

Json = Any
scalars = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.sampled_from(crd_cases.WORDS)
)
values = st.recursive(scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner))
NAMES = sorted({name for kind in Kind for name in crd_cases.spec_schema(kind)["properties"]})
specs = st.dictionaries(st.sampled_from(NAMES) | st.text(max_size=5), values, max_size=6)
objects = st.fixed_dictionaries(
    {
        "apiVersion": st.just(API_VERSION),
        "kind": st.sampled_from([kind.value for kind in Kind]),
        "metadata": st.fixed_dictionaries({"name": st.just("default")}) | values,
        "spec": specs | values,
    },
    optional={"status": values, "bogus": values},
)


@given(values | objects)
@settings(max_examples=300)
def test_parsing_anything_gives_a_value_or_problems(obj: Json) -> None:
    parsed = parse(obj)
    problems = validate(obj)
    assert isinstance(parsed, list) == bool(problems)
    for problem in problems:
        assert problem.message
        assert str(problem)


@given(st.integers(0, 2**32))
def test_what_was_parsed_parses_again_to_the_same(seed: int) -> None:
    for obj in crd_cases.random_objects(random.Random(seed), 5):
        parsed = parse(obj)
        if not isinstance(parsed, list):
            again = {**obj, "spec": msgspec.json.decode(msgspec.json.encode(parsed.spec))}
            assert parse(again) == parsed
            assert validate(again, obj) == []


@given(st.text() | st.binary() | st.lists(st.sampled_from("a: \n-[]{}&*!|>'\"#%?0y~,"), max_size=60).map("".join))
@settings(max_examples=300)
def test_reading_any_file_raises_nothing(content: str | bytes) -> None:
    for found in read_manifests(content, source="f"):
        assert isinstance(found, Manifest) or str(found)


@given(values)
def test_json_is_read_back_as_it_was(value: Json) -> None:
    text = msgspec.json.encode({"kind": "Example", "value": value}).decode()
    assume(not set(text) & set("\x85\u2028\u2029"))  # line breaks to YAML, ordinary characters to JSON
    (found,) = read_manifests(text, source="f")
    expected = msgspec.json.decode(text)["value"]
    assert not isinstance(found, Manifest) or _plain(found.obj["value"]) == _plain(expected)


def _plain(value: Json) -> Json:
    """Numbers as doubles, as the API server stores what is no int64."""
    if isinstance(value, bool) or value is None or isinstance(value, str):
        return value
    if isinstance(value, int | float):
        return float(value)
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return {key: _plain(item) for key, item in value.items()}


@given(values)
def test_compiling_any_schema_compiles_or_says_why(value: Json) -> None:
    with contextlib.suppress(SchemaError):
        compile_schema(value if isinstance(value, dict) else {"const": value}).first_error({"a": 1})


@given(
    st.text(max_size=40)
    | st.lists(st.sampled_from(["event", ".data", ".a", "(", ")", "==", "1", '"x"', "&&", "!", "["]), max_size=8).map(
        "".join
    ),
    values.filter(lambda value: value is not None),
)
def test_any_filter_compiles_or_says_why_and_never_raises_on_an_event(text: str, data: Json) -> None:
    view = EventView(type="a", channels=(), id="1", timestamp=b'""', data=msgspec.json.encode(data))
    with contextlib.suppress(FilterError):
        assert compile_filter(text).matches(view) in (True, False, None)
