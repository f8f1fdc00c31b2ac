"""What a change of a schema means: which changes break, whom, and at which path of the data."""

from __future__ import annotations

from typing import Any

import pytest

from hookstead.config.schema_changes import Effect, sample_changes, schema_changes

STRING, INTEGER, NUMBER = {"type": "string"}, {"type": "integer"}, {"type": "number"}
NARROWED, WIDENED, REPLACED = Effect.NARROWED, Effect.WIDENED, Effect.REPLACED


def obj(required: tuple[str, ...] = (), /, *, open_: Any = True, **properties: Any) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "object", "properties": properties}
    if required:
        schema["required"] = list(required)
    if open_ is not True:
        schema["additionalProperties"] = open_
    return schema


def told(old: Any, new: Any) -> list[tuple[Effect, str]]:
    return [(change.effect, change.path) for change in schema_changes(old, new) if change.is_breaking]


BREAKING = [
    ("a property becomes required", obj(a=STRING), obj(("a",), a=STRING), (NARROWED, "data.a")),
    ("a new property is required", obj(), obj(("a",), a=STRING), (NARROWED, "data.a")),
    ("a property is no longer required", obj(("a",), a=STRING), obj(a=STRING), (WIDENED, "data.a")),
    ("a property is removed", obj(a=STRING), obj(), (WIDENED, "data.a")),
    ("a property is removed and refused", obj(a=STRING, open_=False), obj(open_=False), (NARROWED, "data.a")),
    ("the type is another", obj(a=STRING), obj(a=INTEGER), (REPLACED, "data.a")),
    ("the type is narrowed", obj(a=NUMBER), obj(a=INTEGER), (NARROWED, "data.a")),
    ("the type is widened", obj(a=INTEGER), obj(a=NUMBER), (WIDENED, "data.a")),
    ("null is added", obj(a=STRING), obj(a={"type": ["string", "null"]}), (WIDENED, "data.a")),
    ("null is removed", obj(a={"type": ["string", "null"]}), obj(a=STRING), (NARROWED, "data.a")),
    ("null is an alternative", obj(a=STRING), obj(a={"anyOf": [STRING, {"type": "null"}]}), (WIDENED, "data.a")),
    ("an enum loses a value", obj(a={"enum": ["x", "y"]}), obj(a={"enum": ["x"]}), (NARROWED, "data.a")),
    ("a string becomes an enum", obj(a=STRING), obj(a={"enum": ["x"]}), (NARROWED, "data.a")),
    ("a constant is another", obj(a={"const": 1}), obj(a={"const": 2}), (NARROWED, "data.a")),
    ("an object is closed", obj(a=STRING), obj(a=STRING, open_=False), (NARROWED, "data")),
    ("others get a type", obj(), obj(open_=STRING), (NARROWED, "data.*")),
    ("a maximum is lower", obj(a={"maximum": 9}), obj(a={"maximum": 8}), (NARROWED, "data.a")),
    ("a minimum excludes itself", obj(a={"minimum": 1}), obj(a={"exclusiveMinimum": 1}), (NARROWED, "data.a")),
    ("a string is shorter", obj(a={"maxLength": 9}), obj(a={"maxLength": 8}), (NARROWED, "data.a")),
    ("a list needs an entry", obj(a={"type": "array"}), obj(a={"type": "array", "minItems": 1}), (NARROWED, "data.a")),
    ("a pattern comes", obj(a=STRING), obj(a={"type": "string", "pattern": "^x"}), (NARROWED, "data.a")),
    ("a pattern is another", obj(a={"pattern": "^x"}), obj(a={"pattern": "^y"}), (NARROWED, "data.a")),
    ("entries are others", obj(a={"items": STRING}), obj(a={"items": INTEGER}), (REPLACED, "data.a[]")),
    ("entries may not repeat", obj(a={"type": "array"}), obj(a={"uniqueItems": True, "type": "array"}),
     (NARROWED, "data.a")),
    ("deep inside", obj(a=obj(b={"items": obj(c=STRING)})), obj(a=obj(b={"items": obj(("c",), c=STRING)})),
     (NARROWED, "data.a.b[].c")),
    ("not comes", obj(a=STRING), obj(a={"type": "string", "not": {"const": "x"}}), (NARROWED, "data.a")),
    ("an alternative goes", {"oneOf": [obj(("a",), a=STRING), obj(("b",), b=STRING)]}, obj(("a",), a=STRING),
     (NARROWED, "data")),
    ("a steps of two", obj(a={"multipleOf": 2, "type": "integer"}), obj(a={"multipleOf": 4, "type": "integer"}),
     (NARROWED, "data.a")),
    ("names are bound", obj(), {**obj(), "propertyNames": {"maxLength": 3}}, (NARROWED, "data (its names)")),
    ("a place of a tuple", obj(a={"prefixItems": [STRING]}), obj(a={"prefixItems": [INTEGER]}),
     (REPLACED, "data.a[0]")),
]  # fmt: skip


@pytest.mark.parametrize(
    ("old", "new", "expected"), [case[1:] for case in BREAKING], ids=[case[0] for case in BREAKING]
)
def test_a_breaking_change_is_told_with_whom_it_breaks_and_where(
    old: Any, new: Any, expected: tuple[Effect, str]
) -> None:
    assert expected in told(old, new)


HARMLESS = [
    ("words", obj(a={"type": "string", "description": "x"}), obj(a={"type": "string", "title": "y", "default": "z"})),
    ("an optional property more", obj(a=STRING), obj(a=STRING, b=INTEGER)),
    ("an optional property more in a closed object", obj(open_=False), obj(b=INTEGER, open_=False)),
    ("another order", obj(("a", "b"), a=STRING, b=STRING), obj(("b", "a"), b=STRING, a=STRING)),
    ("type as a list", obj(a=STRING), obj(a={"type": ["string"]})),
    ("number spelt out", obj(a=NUMBER), obj(a={"type": ["integer", "number"]})),
    ("a reference followed", obj(a=STRING), {**obj(a={"$ref": "#/$defs/s"}), "$defs": {"s": STRING}}),
    ("a definition renamed", {**obj(a={"$ref": "#/$defs/s"}), "$defs": {"s": STRING}},
     {**obj(a={"$ref": "#/$defs/t"}), "$defs": {"t": STRING}}),
    ("allOf merged", {"allOf": [obj(("a",), a=STRING), obj(b=INTEGER)]}, obj(("a",), a=STRING, b=INTEGER)),
    ("alternatives in another order", {"anyOf": [obj(a=STRING), obj(a=INTEGER)]},
     {"anyOf": [obj(a=INTEGER), obj(a=STRING)]}),
    ("a constant as an enum", obj(a={"const": 1}), obj(a={"enum": [1]})),
    ("an enum gains a value", obj(a={"enum": ["x"]}), obj(a={"enum": ["x", "y"]})),
    ("a wider bound", obj(a={"type": "string", "maxLength": 8}), obj(a={"type": "string", "maxLength": 9})),
    ("a first schema", None, obj(("a",), a=STRING)),
    ("no schema any more", obj(("a",), a=STRING), None),
    ("a bound of another type", obj(a=STRING), obj(a={"type": "string", "minimum": 3})),
]  # fmt: skip


@pytest.mark.parametrize(("old", "new"), [case[1:] for case in HARMLESS], ids=[case[0] for case in HARMLESS])
def test_what_breaks_nobody_is_not_breaking(old: Any, new: Any) -> None:
    assert told(old, new) == []


def test_equal_schemas_have_no_changes_at_all() -> None:
    assert schema_changes(obj(a=STRING), obj(a=STRING)) == ()
    assert schema_changes(None, None) == ()


def test_a_recursive_schema_is_compared_once_around() -> None:
    tree = {"$ref": "#/$defs/node", "$defs": {"node": obj(("name",), name=STRING, child={"$ref": "#/$defs/node"})}}
    other = {"$ref": "#/$defs/node", "$defs": {"node": obj(("name",), name=INTEGER, child={"$ref": "#/$defs/node"})}}
    assert schema_changes(tree, tree) == ()
    assert told(tree, other) == [(REPLACED, "data.name")]


def test_a_change_behind_an_unchanged_reference_is_found() -> None:
    old = {**obj(a={"$ref": "#/$defs/s"}), "$defs": {"s": STRING}}
    new = {**obj(a={"$ref": "#/$defs/s"}), "$defs": {"s": INTEGER}}
    assert told(old, new) == [(REPLACED, "data.a")]


def test_alternatives_that_multiply_end_in_a_break_that_says_so_instead_of_in_hours() -> None:
    wide = {"anyOf": [{"type": "string", "const": str(number)} for number in range(9)]}

    def nested(depth: int, leaf: Any) -> Any:
        return leaf if depth == 0 else {"anyOf": [obj(a=nested(depth - 1, leaf)), obj(b=nested(depth - 1, leaf))]}

    assert told(nested(7, wide), nested(7, {"type": "integer"}))


def test_the_sample_as_it_was_has_the_last_word() -> None:
    old, new = obj(a=STRING), obj(a=STRING)
    assert sample_changes({"a": "x"}, new, found=()) == ()
    assert sample_changes({"a": 1}, new, found=()) != ()
    assert sample_changes({"a": 1}, new, found=schema_changes(old, obj(("b",), a=STRING))) == ()
    assert sample_changes(None, new, found=()) == ()


def test_messages_say_what_it_was_and_what_it_is() -> None:
    old = obj(a={"type": "string", "maxLength": 9}, b=NUMBER, c={"enum": ["x", "y"]})
    new = obj(("d",), a={"type": "string", "maxLength": 8}, b=INTEGER, c={"enum": ["x"]}, d=STRING)
    assert [str(change) for change in schema_changes(old, new)] == [
        "data.a: must be at most 8 characters now (before: 9 characters)",
        "data.b: may be a fraction no more",
        'data.c: may be "y" no more',
        "data.d: is required now: data without it was valid",
    ]
