"""A JSON Schema with its references followed and its `allOf` merged: one flat set of keywords per alternative."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Any, Final, TypeAlias

Json: TypeAlias = Any

ALL_TYPES: Final = frozenset({"null", "boolean", "object", "array", "string", "integer", "fraction"})
"""The types of JSON Schema; `number` is `integer` and `fraction`."""
ALTERNATIVES_LIMIT: Final = 64
_REFERENCES: Final = 64
_ANNOTATIONS: Final = frozenset(
    {
        "$schema",
        "$id",
        "$comment",
        "$defs",
        "definitions",
        "description",
        "default",
        "examples",
        "deprecated",
        "readOnly",
        "writeOnly",
    }
)
_LOWEST: Final = frozenset({"maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties"})
_HIGHEST: Final = frozenset({"minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties"})
_BOUND_KEYWORDS: Final = {
    "number": ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"),
    "string": ("minLength", "maxLength"),
    "array": ("minItems", "maxItems"),
    "object": ("minProperties", "maxProperties"),
}


@dataclass(frozen=True, slots=True)
class Flat:
    """`node` is False where nothing fits, else its keywords; `leftover` are parts of `allOf` that did not merge."""

    node: Any
    leftover: tuple[Json, ...] = field(default=())


@dataclass(frozen=True, slots=True, order=True)
class Bound:
    """A bound that can be compared: the value, and whether it is itself excluded (+1 for a lower, -1 for an upper)."""

    value: float
    beyond: int = 0

    @property
    def is_finite(self) -> bool:
        return math.isfinite(self.value)

    def __str__(self) -> str:
        return f"{self.value:g}" + (" (itself excluded)" if self.beyond else "")


def flatten_alternatives(schema: Json, root: Mapping[str, Any]) -> list[Flat]:
    """The alternatives of `anyOf` and `oneOf`, each merged with what stands beside them; one where there are none."""
    flat = flatten(schema, root)
    if flat.node is False:
        return [flat]
    lists = [flat.node[key] for key in ("anyOf", "oneOf") if isinstance(flat.node.get(key), list) and flat.node[key]]
    if not lists or math.prod(len(branches) for branches in lists) > ALTERNATIVES_LIMIT:
        return [flat if not lists else Flat(_without_lists(flat.node), (*flat.leftover, *lists))]
    rest = _without_lists(flat.node)
    found: list[Flat] = []
    for chosen in product(*lists):
        merged = flatten({**rest, "allOf": [*flat.leftover, *chosen]}, root)
        nested = merged.node is not False and ("anyOf" in merged.node or "oneOf" in merged.node)
        deeper = flatten_alternatives({**merged.node, "allOf": list(merged.leftover)}, root) if nested else [merged]
        found += [one for one in deeper if one.node is not False]
    return found[:ALTERNATIVES_LIMIT] or [Flat(False)]


def _without_lists(node: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in node.items() if key not in ("anyOf", "oneOf")}


def flatten(schema: Json, root: Mapping[str, Any]) -> Flat:
    """Without references and, as far as the parts merge, without `allOf`; annotations are left out."""
    merged: dict[str, Any] = {}
    leftover: list[Json] = []
    waiting: list[Json] = [schema]
    for _ in range(_REFERENCES):
        if not waiting:
            break
        part = waiting.pop(0)
        if part is True or part == {}:
            continue
        if not isinstance(part, Mapping):
            return Flat(False)
        own = {key: item for key, item in without_annotations(part).items() if key not in ("$ref", "allOf")}
        target = part.get("$ref")
        if isinstance(target, str):
            waiting.append(_resolve(target, root))
        waiting += part.get("allOf", [])
        if not _merge(merged, own):
            leftover.append(own)
    if types_of(merged) == frozenset():
        return Flat(False)
    return Flat(merged, (*leftover, *waiting))


def without_annotations(schema: Json) -> Json:
    """The keywords of one subschema that judge data."""
    if not isinstance(schema, Mapping):
        return schema
    return {key: value for key, value in schema.items() if key not in _ANNOTATIONS}


def _merge(into: dict[str, Any], part: Mapping[str, Any]) -> bool:
    """Both must hold; False, and nothing is done, where two keywords do not merge."""
    result = dict(into)
    for key, value in part.items():
        if key not in result or result[key] == value:
            result[key] = value
        elif key == "required":
            result[key] = [*result[key], *(name for name in value if name not in result[key])]
        elif key == "type":
            result[key] = _common(result[key], value)
        elif key == "properties":
            result[key] = {**value, **{name: _both(item, value.get(name)) for name, item in result[key].items()}}
        elif key in _LOWEST:
            result[key] = min(result[key], value)
        elif key in _HIGHEST:
            result[key] = max(result[key], value)
        elif key == "enum":
            result[key] = [item for item in result[key] if item in value]
        elif key != "title":
            return False
    into.clear()
    into.update(result)
    return True


def _both(first: Json, second: Json) -> Json:
    return first if second is None or first == second else {"allOf": [first, second]}


def _common(first: Json, second: Json) -> list[str]:
    both = types_of({"type": first}) & types_of({"type": second})
    number = {"integer", "fraction"}
    return [*sorted(both - number), "number"] if "fraction" in both else sorted(both)


def types_of(node: Json) -> frozenset[str]:
    """The types that `type` allows."""
    named = node.get("type") if isinstance(node, Mapping) else None
    if named is None:
        return ALL_TYPES
    names: Sequence[str] = [named] if isinstance(named, str) else named
    return frozenset(part for name in names for part in (("integer", "fraction") if name == "number" else (name,)))


def bounds(node: Mapping[str, Any], kind: str) -> tuple[Bound, Bound]:
    """The lower and upper bound of numbers (`number`), or of the size of a `string`, `array` or `object`."""
    low_key, high_key, *exclusive = _BOUND_KEYWORDS[kind]
    low = Bound(node.get(low_key, -math.inf if kind == "number" else 0))
    high = Bound(node.get(high_key, math.inf))
    if exclusive:
        low = max(low, Bound(node.get(exclusive[0], -math.inf), 1))
        high = min(high, Bound(node.get(exclusive[1], math.inf), -1))
    return low, high


def _resolve(reference: str, root: Mapping[str, Any]) -> Json:
    """What a local JSON pointer names; an anchor counts as anything."""
    value: Json = root
    for token in reference.removeprefix("#").split("/")[1:]:
        key = token.replace("~1", "/").replace("~0", "~")
        if isinstance(value, Mapping) and key in value:
            value = value[key]
        elif isinstance(value, list) and key.isdecimal() and int(key) < len(value):
            value = value[int(key)]
        else:
            return True
    return value
