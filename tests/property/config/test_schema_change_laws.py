"""Laws of comparing schemas: where no narrowing is told, nothing that was valid is refused, and the other way round."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from hookstead.config.schema_changes import Effect, schema_changes
from hookstead.resources.json_schema import compile_schema

NAMES = ("a", "b", "c")
SCALARS: st.SearchStrategy[Any] = st.sampled_from(
    [
        {"type": "string"},
        {"type": "integer"},
        {"type": "number"},
        {"type": ["string", "null"]},
        {"type": "integer", "minimum": 1, "maximum": 3},
        {"type": "string", "maxLength": 1},
        {"enum": ["x", 1]},
        {"const": "x"},
        {"anyOf": [{"type": "string"}, {"type": "integer", "minimum": 2}]},
        {"$ref": "#/$defs/shared"},
        True,
        {"type": "boolean"},
    ]
)


def objects(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.fixed_dictionaries(
        {
            "type": st.just("object"),
            "properties": st.dictionaries(st.sampled_from(NAMES), inner, max_size=3),
            "required": st.lists(st.sampled_from(NAMES), unique=True, max_size=2),
            "additionalProperties": st.sampled_from([True, True, False, {"type": "string"}]),
        }
    )


def arrays(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.fixed_dictionaries({"type": st.just("array"), "items": inner, "maxItems": st.integers(1, 2)})


PARTS = st.recursive(SCALARS, lambda inner: st.one_of(objects(inner), arrays(inner)), max_leaves=4)
SHARED = st.sampled_from([{"type": "string"}, {"type": "integer"}, {"type": ["integer", "null"]}])
SCHEMAS = st.builds(lambda schema, shared: {**schema, "$defs": {"shared": shared}}, objects(PARTS), SHARED)
VALUES = st.recursive(
    st.sampled_from(["", "x", "yy", 0, 1, 2, 4, 1.5, None, True]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from((*NAMES, "d")), inner, max_size=3),
    max_leaves=5,
)
DATA = st.dictionaries(st.sampled_from(NAMES), VALUES, max_size=3)


def closed(schema: Any) -> Any:
    """The same, saying of every object that nothing else may be in it: the convention about new optional properties,
    which an open object allowed before with any value, is not what these laws are about."""
    if isinstance(schema, dict):
        inner = {key: closed(value) for key, value in schema.items()}
        return {**inner, "additionalProperties": False} if schema.get("type") == "object" else inner
    return [closed(item) for item in schema] if isinstance(schema, list) else schema


@st.composite
def neighbours(draw: st.DrawFn) -> tuple[Any, Any]:
    """Two schemas that differ in little: pairs that differ in much are hardly ever compatible."""
    old = draw(SCHEMAS)
    name = draw(st.sampled_from(NAMES))
    new = {**old, "properties": {**old["properties"], name: draw(PARTS)}}
    if draw(st.booleans()):
        new["required"] = [one for one in old["required"] if one != name]
    if draw(st.booleans()):
        new["$defs"] = {"shared": draw(SHARED)}
    return closed(old), closed(new)


@settings(max_examples=600)
@given(pair=neighbours(), data=st.lists(DATA, min_size=1, max_size=12))
def test_without_a_narrowing_nothing_that_was_valid_is_refused(pair: tuple[Any, Any], data: list[Any]) -> None:
    old, new = pair
    if any(change.effect.is_seen_as(Effect.NARROWED) for change in schema_changes(old, new)):
        return
    before, after = compile_schema(old), compile_schema(new)
    for value in data:
        assert not before.is_valid(value) or after.is_valid(value)


@settings(max_examples=200)
@given(schema=SCHEMAS)
def test_a_schema_does_not_change_by_being_compared_with_itself(schema: Any) -> None:
    assert schema_changes(schema, dict(schema)) == ()


@settings(max_examples=200)
@given(old=SCHEMAS, new=SCHEMAS)
def test_what_narrows_there_widens_back(old: Any, new: Any) -> None:
    there = schema_changes(old, new)
    back = schema_changes(new, old)
    replaced = {change.path for change in there if change.effect is Effect.REPLACED}
    assert replaced == {change.path for change in back if change.effect is Effect.REPLACED}
