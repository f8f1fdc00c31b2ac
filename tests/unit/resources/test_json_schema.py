from __future__ import annotations

import json
from typing import Any

import pytest

from hookstead.resources.json_schema import SchemaError, SchemaMismatch, compile_schema, digest, require_size
from hookstead.resources.schema_typos import unknown_keywords

Json = Any


def doubling(count: int) -> Json:
    parts: Json = {"a0": {"type": "object"}}
    for number in range(1, count):
        parts[f"a{number}"] = {"allOf": [{"$ref": f"#/$defs/a{number - 1}"}] * 2}
    return {"$defs": parts, "$ref": f"#/$defs/a{count - 1}"}


def chained(count: int) -> Json:
    parts: Json = {"a0": {"type": "object"}}
    for number in range(1, count):
        parts[f"a{number}"] = {"$ref": f"#/$defs/a{number - 1}"}
    return {"$defs": parts, "$ref": f"#/$defs/a{count - 1}"}


def nested(depth: int) -> Json:
    schema: Json = {}
    for _ in range(depth):
        schema = {"not": schema}
    return schema


def test_data_fits_or_the_first_mismatch_is_told_with_its_path() -> None:
    validator = compile_schema({"properties": {"items": {"items": {"properties": {"price": {"type": "integer"}}}}}})
    assert validator.first_error({"items": [{"price": 1}]}) is None
    assert validator.first_error({"items": [{"price": 1}, {"price": "x"}]}) == (
        'items[1].price: "x" is not of type "integer"'
    )


def test_a_mismatch_of_the_whole_has_no_path() -> None:
    validator = compile_schema({"required": ["a", "b"]})
    assert validator.first_error({}) == '"a" is a required property'
    assert validator.errors({}) == (
        SchemaMismatch("", '"a" is a required property'),
        SchemaMismatch("", '"b" is a required property'),
    )


def test_messages_are_bounded() -> None:
    error = compile_schema({"properties": {"a": {"type": "integer"}}}).first_error({"a": "x" * 10_000})
    assert error is not None
    assert len(error) < 400


@pytest.mark.parametrize(
    "schema",
    [
        {},
        {"$schema": "https://json-schema.org/draft/2020-12/schema"},
        {"$ref": "#/$defs/a", "$defs": {"a": {"type": "object"}}},
        {"$ref": "#a", "$defs": {"a": {"$anchor": "a", "type": "object"}}},
        {"properties": {"$ref": {"type": "string"}}},
        {"const": {"$ref": "https://127.0.0.1/"}},
        {"examples": [{"$ref": "https://127.0.0.1/"}]},
        {"properties": {"child": {"$ref": "#"}}},
        {"pattern": "^(?=a)"},
        {"type": ["object", "null"], "minProperties": 0, "title": "x", "unknownKeyword": 1},
        nested(99),
        chained(100),
        doubling(12),
    ],
)
def test_every_schema_of_2020_12_that_stands_alone_compiles(schema: Json) -> None:
    compile_schema(schema)


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        (
            {"type": "strin"},
            'string, not "strin" (did you mean "string"?)',
        ),
        ({"properties": {"a": {"type": "int"}}}, "properties.a.type: must be one of array, boolean, integer, null"),
        ({"type": "float"}, '(did you mean "number"?)'),
        ({"type": "any"}, "remove it, and anything fits"),
        ({"type": ["string", "nil"]}, '"nil" (did you mean "null"?)'),
        ({"type": 5}, "or a list of them, not a number (5)"),
        (
            {"properties": {"a": {"minimum": "3"}}},
            'properties.a.minimum: must be a number, not a string ("3"): write it without quotes',
        ),
        ({"properties": {"a": {"pattern": "("}}}, 'properties.a.pattern: must be a regular expression, not "("'),
        ({"required": "a"}, 'required: must be a list, not a string ("a"): write it as a list of one'),
        ({"required": [1]}, "required[0]: must be a string, not a number (1)"),
        ({"required": ["a", "a"]}, "required: must not name anything twice"),
        ({"properties": []}, "properties: must be a mapping, not a list"),
        ({"properties": {"a": "string"}}, "properties.a: must be a schema (a mapping, true or false), not a string"),
        ({"properties": {"a": "string"}}, ": write {type: string}"),
        ({"items": [{"type": "string"}]}, "items: must be a schema (a mapping, true or false), not a list: a list of"),
        ({"anyOf": []}, "anyOf: must have at least 1 entry"),
        ({"minLength": -1}, "minLength: must be at least 0, not -1"),
        ({"uniqueItems": "yes"}, "uniqueItems: must be true or false, not a string"),
        ({"$ref": "#/$defs/missing"}, '$ref: refers to "#/$defs/missing", which is not in this schema'),
        ({"$ref": "https://127.0.0.1:1/x"}, "$ref: must refer to a part of this schema (#/$defs/…)"),
        ({"$ref": "other.json"}, "$ref: must refer to a part of this schema"),
        ({"$ref": "file:///etc/passwd"}, "$ref: must refer to a part of this schema"),
        ({"items": [{"a": 1}]}, "items: "),
        ({"properties": {"a": {"items": {"$ref": "x"}}}}, "properties.a.items.$ref: must refer to a part"),
        ({"$dynamicRef": "https://127.0.0.1/"}, "$dynamicRef: must refer to a part of this schema"),
        (
            {"$schema": "http://json-schema.org/draft-07/schema#"},
            "$schema: must be https://json-schema.org/draft/2020-12",
        ),
        ({"$schema": 5}, "$schema: must be https://json-schema.org/draft/2020-12/schema, not 5"),
        ({"description": "x" * 65_536}, "must be at most 65536 bytes as compact JSON"),
        (nested(100), "must nest at most 100 deep"),
        (nested(8000), "must nest at most 100 deep"),
        (doubling(40), "must apply at most 10000 subschemas to one place of the data"),
        (chained(1400), "must not chain hundreds of references"),
    ],
    ids=lambda value: value[:30] if isinstance(value, str) else "",
)
def test_what_cannot_be_used_is_refused_in_words(schema: Json, message: str) -> None:
    with pytest.raises(SchemaError) as error:
        compile_schema(schema)
    assert message in str(error.value)


def test_a_recursive_schema_judges_deep_data_at_once() -> None:
    """Telling where takes 2^n steps in the library; 100 levels would take longer than the universe has."""
    validator = compile_schema(
        {"type": "object", "required": ["a"], "properties": {"a": {"anyOf": [{"$ref": "#"}, {"$ref": "#"}]}}}
    )
    data: Json = {}
    for _ in range(100):
        data = {"a": data}
    assert validator.first_error(data) == "does not fit the schema; it nests too deep to tell where"
    assert validator.first_error({"a": {"a": 1}}) is not None


def test_regular_expressions_have_a_limit() -> None:
    validator = compile_schema({"properties": {"a": {"pattern": "^(a+)+$(?=)"}}})
    assert not validator.is_valid({"a": "a" * 64 + "!"})


def test_formats_are_annotations_as_the_standard_has_it() -> None:
    assert compile_schema({"properties": {"a": {"format": "email"}}}).is_valid({"a": "x"})


def test_what_is_no_json_does_not_fit() -> None:
    validator = compile_schema({"const": 1})
    assert not validator.is_valid({1: 2})
    assert "must be JSON" in str(validator.first_error({1: 2})) or validator.first_error({1: 2})


def test_a_digest_is_of_the_meaning_not_of_the_order() -> None:
    assert digest({"a": 1, "b": [1, 2]}) == digest(json.loads('{"b": [1, 2], "a": 1}'))
    assert digest({"b": [1, 2]}) != digest({"b": [2, 1]})
    assert digest({}) == "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"


def test_a_sample_is_bounded_too() -> None:
    require_size({"a": "x" * 65_000})
    with pytest.raises(SchemaError, match="must be at most 65536 bytes"):
        require_size({"a": "é" * 40_000})


def test_keywords_that_are_almost_one_are_found_and_names_of_the_author_are_not() -> None:
    schema = {
        "requried": ["a"],
        "properties": {"requried": {"tpye": "string", "x-internal": 1}, "b": {"enum": [{"tpye": 1}]}},
        "allOf": [{"minlength": 3}],
        "unknownThing": True,
    }
    found = dict(unknown_keywords(schema))
    assert sorted(found, key=str) == [("allOf", 0, "minlength"), ("properties", "requried", "tpye"), ("requried",)]
    assert found[("requried",)] == (
        'is no keyword of JSON Schema, so it checks nothing (did you mean "required"?): correct the name'
    )
