"""A JSON Schema as rows: paths, types, what is required."""

from __future__ import annotations

from typing import Any

import pytest

from hookstead.config.schema_fields import DEPTH_LIMIT, Field, fields, type_of

ITEM = {"type": "object", "required": ["sku"], "properties": {"sku": {"type": "string"}, "n": {"type": "integer"}}}


def test_rows_come_depth_first_with_the_path_of_each_field() -> None:
    schema = {
        "type": "object",
        "required": ["id", "items"],
        "properties": {
            "id": {"type": "string", "description": "Of the order."},
            "items": {"type": "array", "items": ITEM},
            "buyer": {"type": "object", "properties": {"name": {"type": "string"}}},
        },
    }
    assert fields(schema) == [
        Field("id", "string", True, "Of the order."),
        Field("items", "array of object", True, ""),
        Field("items[].sku", "string", True, ""),
        Field("items[].n", "integer", False, ""),
        Field("buyer", "object", False, ""),
        Field("buyer.name", "string", False, ""),
    ]


def test_a_local_reference_is_followed_and_what_stands_beside_it_wins() -> None:
    schema = {
        "properties": {"first": {"$ref": "#/$defs/a~1b", "description": "here"}},
        "$defs": {"a/b": {"type": "object", "description": "there", "properties": {"x": {"type": "null"}}}},
    }
    assert fields(schema) == [Field("first", "object", False, "here"), Field("first.x", "null", False, "")]


def test_a_recursive_schema_ends() -> None:
    tree: dict[str, Any] = {"type": "object", "properties": {"child": {"$ref": "#"}}}
    assert [row.path.count("child") for row in fields(tree)] == list(range(1, DEPTH_LIMIT + 1))
    assert fields({"properties": {"a": {"$ref": "#/properties/a"}}}) == [Field("a", "any", False, "")]


@pytest.mark.parametrize(
    "schema",
    [None, {}, {"properties": 1}, {"type": "array"}, {"properties": {}, "required": None}],
)
def test_what_has_no_properties_has_no_rows(schema: Any) -> None:
    assert fields(schema) == []


@pytest.mark.parametrize(
    ("part", "words"),
    [
        ({}, "any"),
        ({"type": ["string", "null"]}, "string | null"),
        ({"enum": ["a", 1, None]}, '"a" | 1 | null'),
        ({"const": "x"}, '"x"'),
        ({"type": "string", "format": "uri"}, "string (uri)"),
        ({"type": "array", "items": {"type": "array", "items": {"type": "number"}}}, "array of array of number"),
        ({"properties": {}}, "object"),
    ],
)
def test_a_type_in_words(part: dict[str, Any], words: str) -> None:
    assert type_of(part) == words
