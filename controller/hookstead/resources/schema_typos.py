"""What is wrong with a JSON Schema, in words that name the remedy, and what in it was probably meant otherwise."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

import jsonschema_rs

from hookstead.resources.problem import field_path
from hookstead.resources.schema_messages import kind_of_value
from hookstead.resources.suggestion import closest, did_you_mean

TYPES: Final = ("array", "boolean", "integer", "null", "number", "object", "string")
KEYWORDS: Final = frozenset(
    (
        *("$schema", "$id", "$ref", "$anchor", "$dynamicRef", "$dynamicAnchor", "$defs", "$comment", "$vocabulary"),
        *("allOf", "anyOf", "oneOf", "not", "if", "then", "else", "dependentSchemas"),
        *("prefixItems", "items", "contains", "unevaluatedItems"),
        *("properties", "patternProperties", "additionalProperties", "propertyNames", "unevaluatedProperties"),
        *("type", "enum", "const", "multipleOf", "maximum", "exclusiveMaximum", "minimum", "exclusiveMinimum"),
        *("maxLength", "minLength", "pattern", "maxItems", "minItems", "uniqueItems", "maxContains", "minContains"),
        *("maxProperties", "minProperties", "required", "dependentRequired"),
        *("title", "description", "default", "deprecated", "readOnly", "writeOnly", "examples", "format"),
        *("contentEncoding", "contentMediaType", "contentSchema"),
        *("definitions", "dependencies", "additionalItems"),  # of earlier drafts
    )
)
"""Of JSON Schema 2020-12, and those of earlier drafts that are still met."""
UNKNOWN_KEYWORD: Final = "is no keyword of JSON Schema"
"""How every message about a name that is no keyword begins."""
_OTHER_TYPES: Final = {
    "int": "integer",
    "int32": "integer",
    "int64": "integer",
    "long": "integer",
    "float": "number",
    "double": "number",
    "decimal": "number",
    "str": "string",
    "text": "string",
    "date": "string",
    "datetime": "string",
    "uuid": "string",
    "bool": "boolean",
    "list": "array",
    "tuple": "array",
    "dict": "object",
    "map": "object",
    "struct": "object",
    "any": "",
    "none": "null",
    "nil": "null",
}
_TYPE_WORDS: Final = {
    "array": "a list",
    "boolean": "true or false",
    "integer": "a whole number",
    "number": "a number",
    "object": "a mapping",
    "string": "a string",
}
_MISSING: Final = re.compile(r"(?:Pointer|Anchor) '(.*)' does not exist")
_DATA: Final = frozenset({"const", "enum", "default", "examples"})
_MAPS: Final = frozenset({"$defs", "definitions", "properties", "patternProperties", "dependentSchemas"})


def explain_schema_error(error: jsonschema_rs.ValidationError) -> str:
    """One violation of the metaschema, its path within the schema in front."""
    parts = list(error.instance_path)
    path = field_path(parts)
    words = _words(parts, error)
    return f"{path}: {words}" if path else words


def _words(parts: list[str | int], error: jsonschema_rs.ValidationError) -> str:
    keyword, value = str(error.schema_path[-1]) if error.schema_path else "", error.instance
    names = [part for part in parts if isinstance(part, str)]
    if names[-1:] == ["type"] and keyword in ("anyOf", "enum", "type"):
        return _type_words(value)
    missing = _MISSING.search(error.message)
    if missing is not None:
        return f'$ref: refers to "#{missing[1]}", which is not in this schema: correct it, or add it'
    if error.message.endswith('is not a "regex"'):
        return f"must be a regular expression, not {_shown(value)}: correct it"
    if keyword == "type":
        return _kind_words(error.message, value)
    if keyword == "uniqueItems":
        return "must not name anything twice: remove one of the two"
    if keyword == "minItems":
        return "must have at least 1 entry: add one, or remove it"
    if keyword in ("minimum", "exclusiveMinimum"):
        return f"must be {'at least' if keyword == 'minimum' else 'more than'} 0, not {_shown(value)}"
    return f"must be a JSON Schema: {_first_line(error.message)}"


def _type_words(value: Any) -> str:
    known = ", ".join(TYPES)
    wrong = next((one for one in value if one not in TYPES), value) if isinstance(value, list) else value
    if not isinstance(wrong, str):
        return f"must be one of {known}, or a list of them, not {kind_of_value(wrong)}"
    if wrong.lower() == "any":
        return f"must be one of {known}, not {_shown(wrong)}: remove it, and anything fits"
    meant = closest(wrong, TYPES) or _OTHER_TYPES.get(wrong.lower())
    hint = f' (did you mean "{meant}"?)' if meant else ""
    return f"must be one of {known}, not {_shown(wrong)}{hint}"


def _kind_words(message: str, value: Any) -> str:
    """By the library's own message, which alone names every type that is allowed."""
    if message.endswith('of types "boolean", "object"'):
        remedy = f": write {{type: {value}}}" if isinstance(value, str) and value in TYPES else ""
        remedy = ": a list of schemas is prefixItems" if isinstance(value, list) else remedy
        return f"must be a schema (a mapping, true or false), not {kind_of_value(value)}{remedy}"
    named = next((word for name, word in _TYPE_WORDS.items() if f'of type "{name}"' in message), "")
    remedy = ": write it as a list of one" if named == "a list" and isinstance(value, str) else ""
    if named and isinstance(value, str) and value.isdecimal():
        remedy = ": write it without quotes"
    return f"must be {named or 'of another type'}, not {kind_of_value(value)}{remedy}"


def unknown_keywords(schema: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[tuple[str | int, ...], str]]:
    """Keywords that no draft has and that look much like one: JSON Schema ignores them without a word."""
    stack = [(path, schema)]
    while stack:
        here, node = stack.pop()
        if isinstance(node, list):
            stack += [((*here, index), item) for index, item in enumerate(node)]
        if not isinstance(node, Mapping):
            continue
        for key, value in node.items():
            if key not in KEYWORDS and not key.startswith("x-") and (meant := did_you_mean(key, KEYWORDS)):
                yield (*here, key), f"{UNKNOWN_KEYWORD}, so it checks nothing{meant}: correct the name"
            if key in _MAPS and isinstance(value, Mapping):
                stack += [((*here, key, name), part) for name, part in value.items()]
            elif key not in _DATA:
                stack.append(((*here, key), value))


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 80 else f"{text[:79]}…"


def _first_line(message: str) -> str:
    first = message.strip().split("\n", 1)[0]
    return first if len(first) <= 200 else f"{first[:199]}…"
