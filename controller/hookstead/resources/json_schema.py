"""`spec.schema`: JSON Schema 2020-12 of an event's data, compiled once and used for every event.

A schema is somebody's input. It is bounded in size, depth and in how often its references multiply; it refers
only to its own parts; nothing is ever fetched; its regular expressions have a backtracking limit.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, NoReturn

import jsonschema_rs

from hookstead.resources.problem import field_path
from hookstead.resources.schema_typos import explain_schema_error

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

SIZE_LIMIT: Final = 65_536
"""Bytes of a schema, and of a sample, as compact JSON."""
DEPTH_LIMIT: Final = 100
"""Nesting of a schema; jsonschema-rs itself gives up at 255."""
WORK_LIMIT: Final = 10_000
"""Subschemas that may apply to one place of the data at once, following every reference."""
DETAIL_LIMIT: Final = 1_000_000
"""Steps that telling where data does not fit may take."""
BACKTRACK_LIMIT: Final = 100_000
DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"

_PATTERNS: Final = jsonschema_rs.FancyRegexOptions(backtrack_limit=BACKTRACK_LIMIT)
_IN_PLACE: Final = ("not", "if", "then", "else")
_IN_PLACE_LISTS: Final = ("allOf", "anyOf", "oneOf")
_VALUES: Final = frozenset({"const", "enum", "default", "examples", "$comment"})
"""Keywords whose values are data, in which `$ref` is only a member."""
_MAPS: Final = frozenset({"$defs", "definitions", "properties", "patternProperties", "dependentSchemas"})
"""Keywords whose members have names of the schema's author, and schemas as values."""


class SchemaError(Exception):
    """A schema that cannot be used. The message says where, why, and what to do."""


@dataclass(frozen=True, slots=True)
class SchemaMismatch:
    """One way in which data does not fit: `path` such as `items[0].price`, empty for the whole."""

    path: str
    message: str

    def __str__(self) -> str:
        return f"{self.path}: {self.message}" if self.path else self.message


class SchemaValidator:
    """A compiled schema."""

    __slots__ = ("_validator", "_weight")

    def __init__(self, validator: jsonschema_rs.Draft202012Validator, *, weight: int) -> None:
        """`weight`: how many subschemas may apply to one place of the data; 1 where nothing is referred to."""
        self._validator: Final = validator
        self._weight: Final = weight

    def is_valid(self, instance: Any) -> bool:
        """Whether decoded JSON fits. Data that nests deeper than 255 does not."""
        try:
            return self._validator.is_valid(instance)
        except ValueError:  # not JSON, or nested too deep for the library
            return False

    def errors(self, instance: Any, *, limit: int = 10) -> tuple[SchemaMismatch, ...]:
        """The first `limit` mismatches; none if the data fits.

        Only the yes or no is cheap in any case: the library remembers what it has judged. To find out where,
        it tries every way through the references, which doubles with each level of a recursive schema
        (measured: 8 s at 18 levels), so for such data the answer is only that it does not fit.
        """
        if self.is_valid(instance):
            return ()
        if self._weight > 1 and self._weight ** _depth(instance) > DETAIL_LIMIT:
            return (SchemaMismatch("", "does not fit the schema; it nests too deep to tell where"),)
        try:
            found = islice(self._validator.iter_errors(instance), limit)
            return tuple(SchemaMismatch(field_path(error.instance_path), _bounded(error.message)) for error in found)
        except ValueError as error:  # not JSON, or nested too deep for the library
            return (SchemaMismatch("", f"must be JSON that nests at most 255 deep ({error})"),)

    def first_error(self, instance: Any) -> str | None:
        """The first mismatch in words, with its path; None if the data fits."""
        mismatches = self.errors(instance, limit=1)
        return str(mismatches[0]) if mismatches else None


def compile_schema(schema: Mapping[str, Any]) -> SchemaValidator:
    """Compile `spec.schema`. Raises SchemaError, whose message starts with a path within the schema."""
    document = dict(schema)
    _require_depth(document)
    require_size(document)
    dialect = document.get("$schema", DIALECT)
    if not isinstance(dialect, str) or dialect.rstrip("#") != DIALECT:
        raise SchemaError(f"$schema: must be {DIALECT}, not {json.dumps(dialect)}: change it, or remove it")
    for path, target in _references(document):
        if not target.startswith("#"):
            raise SchemaError(
                f"{path}: must refer to a part of this schema (#/$defs/…), not {json.dumps(target)}: nothing "
                "is fetched, so copy what it names into $defs"
            )
    try:
        validator = jsonschema_rs.Draft202012Validator(document, retriever=_refuse, pattern_options=_PATTERNS)
    except jsonschema_rs.ValidationError as error:
        raise SchemaError(_bounded(explain_schema_error(error))) from error
    except ValueError as error:
        raise SchemaError(f"must be a JSON Schema: {error}") from error
    return SchemaValidator(validator, weight=_bounded_weight(document))


def require_size(value: Any) -> None:
    """Raise SchemaError if a schema or a sample is larger than 64 KiB as compact JSON."""
    try:
        text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=str)
    except RecursionError as error:
        raise SchemaError("must not nest hundreds of levels deep: make it flatter") from error
    size = len(text.encode("utf-8", "replace"))
    if size > SIZE_LIMIT:
        raise SchemaError(f"must be at most {SIZE_LIMIT} bytes as compact JSON, not {size}: make it smaller")


def digest(schema: Mapping[str, Any]) -> str:
    """`sha256:` and the hash of the schema's canonical JSON: sorted keys, no white space, UTF-8."""
    text = json.dumps(schema, ensure_ascii=False, separators=(",", ":"), sort_keys=True, default=str)
    return f"sha256:{hashlib.sha256(text.encode('utf-8', 'surrogatepass')).hexdigest()}"


def _refuse(uri: str) -> NoReturn:
    raise ValueError(f"{uri} is not a part of this schema, and nothing is fetched")


def _bounded(message: str) -> str:
    first = message.strip().split("\n", 1)[0]
    return first if len(first) <= 300 else f"{first[:299]}…"


def _require_depth(schema: Mapping[str, Any]) -> None:
    """Level by level, so that no nesting can exhaust the stack, ours or the library's."""
    level: list[Any] = [schema]
    for _ in range(DEPTH_LIMIT):
        level = [child for value in level for child in _children(value)]
        if not level:
            return
    raise SchemaError(f"must nest at most {DEPTH_LIMIT} deep: move the inner parts to $defs and refer to them")


def _children(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        yield from value.values()
    elif isinstance(value, list):
        yield from value


def _references(schema: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Every `$ref` and `$dynamicRef`, with its path; not those that are data."""
    if isinstance(schema, list):
        for index, item in enumerate(schema):
            yield from _references(item, f"{path}[{index}]")
    if not isinstance(schema, dict):
        return
    for key, value in schema.items():
        here = f"{path}.{key}" if path else str(key)
        if key in ("$ref", "$dynamicRef") and isinstance(value, str):
            yield here, value
        elif key in _MAPS and isinstance(value, dict):
            for name, part in value.items():
                yield from _references(part, f"{here}.{name}")
        elif key not in _VALUES:
            yield from _references(value, here)


def _bounded_weight(schema: Mapping[str, Any]) -> int:
    """The most subschemas that apply to one place of the data; 1 without references.

    Raises SchemaError for references that double and double again: 30 lines of them take hours on one event.
    """
    if not any(True for _ in _references(schema)):
        return 1
    weights: dict[int, int | None] = {}
    try:
        heaviest = max(_weight(part, schema, weights) for part in _subschemas(schema))
    except RecursionError as error:
        raise SchemaError("must not chain hundreds of references: refer to the last one directly") from error
    if heaviest > WORK_LIMIT:
        raise SchemaError(
            f"must apply at most {WORK_LIMIT} subschemas to one place of the data: references multiply here, "
            "so refer to each part once"
        )
    return heaviest


def _depth(instance: Any) -> int:
    depth, level = 0, [instance]
    while level:
        depth += 1
        level = [child for value in level for child in _children(value)]
    return depth


def _subschemas(schema: Any) -> Iterator[dict[str, Any]]:
    stack = [schema]
    while stack:
        value = stack.pop()
        if isinstance(value, dict):
            yield value
        stack.extend(_children(value))


def _weight(part: Any, root: Mapping[str, Any], weights: dict[int, int | None]) -> int:
    """How many subschemas apply where `part` does. A cycle without a step into the data counts once."""
    if not isinstance(part, dict):
        return 1
    known = weights.get(id(part), 0)
    if known is None:
        return 1
    if known:
        return known
    weights[id(part)] = None
    total = 1 + sum(_weight(child, root, weights) for child in _applied(part, root))
    weights[id(part)] = min(total, WORK_LIMIT + 1)
    return min(total, WORK_LIMIT + 1)


def _applied(part: dict[str, Any], root: Mapping[str, Any]) -> Iterator[Any]:
    for keyword in _IN_PLACE:
        if keyword in part:
            yield part[keyword]
    for keyword in _IN_PLACE_LISTS:
        value = part.get(keyword)
        yield from value if isinstance(value, list) else ()
    dependent = part.get("dependentSchemas")
    yield from dependent.values() if isinstance(dependent, dict) else ()
    for keyword in ("$ref", "$dynamicRef"):
        target = part.get(keyword)
        if isinstance(target, str):
            yield _resolve(target, root)


def _resolve(reference: str, root: Mapping[str, Any]) -> Any:
    """What a local JSON pointer names; an anchor, which the library resolves itself, counts as itself."""
    value: Any = root
    for token in reference.removeprefix("#").split("/")[1:]:
        key = token.replace("~1", "/").replace("~0", "~")
        if isinstance(value, dict) and key in value:
            value = value[key]
        elif isinstance(value, list) and key.isdecimal() and int(key) < len(value):
            value = value[int(key)]
        else:
            return None
    return value
