"""The fields of a JSON Schema as rows that a person can read: where, what type, whether required, what it means. Pure.

It follows `properties`, `items` and local `$ref`s; what it cannot say in a row (`oneOf`, conditions) is in the schema
itself, which the catalog shows beside the rows.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

DEPTH_LIMIT: Final = 6
"""Levels below the root; recursive schemas end here."""


@dataclass(frozen=True, slots=True)
class Field:
    """`path` is like `items[].sku`."""

    path: str
    type: str
    required: bool
    description: str


def fields(schema: Mapping[str, Any] | None) -> list[Field]:
    """The rows of an object's schema, depth first, in the schema's order."""
    return [] if schema is None else list(_below(schema, schema, "", 0))


def _below(schema: Mapping[str, Any], root: Mapping[str, Any], prefix: str, depth: int) -> Iterator[Field]:
    properties = schema.get("properties")
    if depth >= DEPTH_LIMIT or not isinstance(properties, Mapping):
        return
    required = schema.get("required")
    demanded = set(required) if isinstance(required, Sequence) else set()
    for name, raw in properties.items():
        part = _resolved(raw, root)
        path = f"{prefix}{name}"
        yield Field(path, type_of(part), name in demanded, str(part.get("description", "")))
        inner, marks = part, ""
        while isinstance(inner.get("items"), Mapping):
            inner, marks = _resolved(inner["items"], root), f"{marks}[]"
        yield from _below(inner, root, f"{path}{marks}.", depth + 1)


def _resolved(part: object, root: Mapping[str, Any]) -> Mapping[str, Any]:
    """A subschema behind its local `$ref`s; the keywords beside a `$ref` win, as a description does."""
    for _ in range(DEPTH_LIMIT):
        if not isinstance(part, Mapping):
            return {}
        reference = part.get("$ref")
        if not isinstance(reference, str) or not (reference == "#" or reference.startswith("#/")):
            return part
        target: object = root
        for step in reference.split("/")[1:]:
            step = step.replace("~1", "/").replace("~0", "~")
            target = target.get(step) if isinstance(target, Mapping) else None
        beside = {key: value for key, value in part.items() if key != "$ref"}
        part = {**target, **beside} if isinstance(target, Mapping) else beside
    return {}


def type_of(part: Mapping[str, Any]) -> str:
    """A type in words: `string`, `array of integer`, `"a" | "b"`, `string (date-time)`, `any`."""
    if "const" in part:
        return json.dumps(part["const"], ensure_ascii=False)
    if isinstance(part.get("enum"), Sequence):
        return " | ".join(json.dumps(value, ensure_ascii=False) for value in part["enum"])
    named = part.get("type")
    names = [named] if isinstance(named, str) else [str(one) for one in named] if isinstance(named, Sequence) else []
    if not names:
        return "object" if "properties" in part else "any"
    if names == ["array"] and isinstance(part.get("items"), Mapping):
        return f"array of {type_of(part['items'])}"
    shown = " | ".join(names)
    return f"{shown} ({part['format']})" if isinstance(part.get("format"), str) else shown
