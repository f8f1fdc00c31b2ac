"""What a change of an event type's JSON Schema means to who sends and who receives.

A schema is a promise in both directions. It is *narrowed* where data that was valid is no longer: producers are
refused under Enforce. It is *widened* where data may come that could not before: receivers may not be ready for it.
Which of these break somebody is a convention here, and the usual one: a new optional property breaks nobody.

Compared is structure: types, enums, bounds, properties, items, alternatives, through local references. What cannot be
compared that way (`not`, `if`, `contains`, …) is a break as soon as it differs.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final, TypeAlias

from hookstead.config.schema_flat import ALL_TYPES, Flat, bounds, flatten_alternatives, types_of, without_annotations
from hookstead.resources.json_schema import SchemaError, compile_schema

Json: TypeAlias = Any

DEPTH_LIMIT: Final = 40
STEP_LIMIT: Final = 20_000
"""Places that are compared; what lies behind counts as changed in a way that cannot be told."""


class Effect(StrEnum):
    """To whom a change matters."""

    NARROWED = "Narrowed"
    WIDENED = "Widened"
    REPLACED = "Replaced"
    """Both at once: nothing that was valid still is."""

    def is_seen_as(self, other: Effect) -> bool:
        """Whether it is that, or that among others."""
        return self in (other, Effect.REPLACED)


@dataclass(frozen=True, slots=True, kw_only=True)
class SchemaChange:
    """One difference. `path` is the place in the data, such as `data.items[].price`; `is_breaking` by convention."""

    effect: Effect
    is_breaking: bool
    path: str
    message: str

    def __str__(self) -> str:
        return f"{self.path}: {self.message}"


def schema_changes(old: Mapping[str, Any] | None, new: Mapping[str, Any] | None) -> tuple[SchemaChange, ...]:
    """Every difference between two schemas of one event type that matters to somebody, breaking ones first.

    A first schema only writes down what was unsaid, and a schema that is gone leaves everything open: neither breaks.
    """
    if old == new:
        return ()
    if old is None:
        return (
            _change(Effect.NARROWED, "data", "has a schema now: data that does not fit it was valid", breaks=False),
        )
    if new is None:
        return (_change(Effect.WIDENED, "data", "has no schema any more: anything may come", breaks=False),)
    found = dict.fromkeys(_Comparison(old, new).run())
    return tuple(sorted(found, key=lambda change: (not change.is_breaking, change.path, change.message)))


def sample_changes(
    old_sample: Mapping[str, Any] | None, new: Mapping[str, Any] | None, *, found: Sequence[SchemaChange]
) -> tuple[SchemaChange, ...]:
    """The old sample against the new schema: the last word where the comparison of the schemas found nothing."""
    if old_sample is None or new is None or any(change.effect.is_seen_as(Effect.NARROWED) for change in found):
        return ()
    try:
        mismatch = compile_schema(new).first_error(old_sample)
    except SchemaError:  # its own verdict tells
        return ()
    if mismatch is None:
        return ()
    return (_change(Effect.NARROWED, "data", f"the sample as it was is refused now ({mismatch})"),)


def _change(effect: Effect, path: str, message: str, *, breaks: bool = True) -> SchemaChange:
    return SchemaChange(effect=effect, is_breaking=breaks, path=path, message=message)


class _Comparison:
    """One pair of schemas. Recursion through references ends where a pair is met again."""

    def __init__(self, old: Mapping[str, Any], new: Mapping[str, Any]) -> None:
        self._old_root: Final = old
        self._new_root: Final = new
        self._steps = 0

    def run(self) -> Iterator[SchemaChange]:
        yield from self._compare(self._old_root, self._new_root, "data", frozenset())

    def _compare(self, old: Json, new: Json, path: str, within: frozenset[tuple[str, str]]) -> list[SchemaChange]:
        """`within`: the pairs of subschemas that led here, as text."""
        pair = (_text(without_annotations(old)), _text(without_annotations(new)))
        if pair[0] == pair[1] and "$ref" not in pair[0]:
            return []
        self._steps += 1
        if pair in within:
            return []
        if self._steps > STEP_LIMIT or len(within) > DEPTH_LIMIT:
            return [_opaque(path)]
        within |= {pair}
        olds = flatten_alternatives(old, self._old_root)
        news = flatten_alternatives(new, self._new_root)
        if len(olds) == 1 and len(news) == 1:
            return self._compare_flat(olds[0], news[0], path, within)
        return self._compare_alternatives(olds, news, path, within)

    def _compare_alternatives(
        self, olds: Sequence[Flat], news: Sequence[Flat], path: str, within: frozenset[tuple[str, str]]
    ) -> list[SchemaChange]:
        """Each old alternative needs a new one that takes all it took, and each new one an old one that told of it."""
        table = [[self._compare_flat(one, other, path, within) for other in news] for one in olds]
        found: list[SchemaChange] = []
        for row, one in enumerate(olds):
            best = min(table[row], key=lambda changes: _weight(changes, Effect.NARROWED))
            narrowed = [change for change in best if change.effect.is_seen_as(Effect.NARROWED)]
            found += narrowed if len(olds) == len(news) or not narrowed else [_gone(one, path)]
        for column, other in enumerate(news):
            best = min((line[column] for line in table), key=lambda changes: _weight(changes, Effect.WIDENED))
            widened = [change for change in best if change.effect.is_seen_as(Effect.WIDENED)]
            found += widened if len(olds) == len(news) or not widened else [_added(other, path)]
        return found

    def _compare_flat(self, old: Flat, new: Flat, path: str, within: frozenset[tuple[str, str]]) -> list[SchemaChange]:
        if old.node is False or new.node is False:
            return _with_nothing(old, new, path)
        values = self._compare_values(old, new, path)
        if values is not None:
            return values
        before, after = types_of(old.node), types_of(new.node)
        if not before & after:
            return [_change(Effect.REPLACED, path, f"was {_types(before)} and is {_types(after)} now")]
        found = list(_type_changes(before, after, path))
        shared = before & after
        found += _bound_changes(old.node, new.node, path, shared)
        if "string" in shared:
            found += _pattern_changes(old.node, new.node, path)
        if "array" in shared:
            found += self._item_changes(old.node, new.node, path, within)
        if "object" in shared:
            found += self._member_changes(old.node, new.node, path, within)
        found += _opaque_changes(old, new, path)
        return found

    # --- enums and constants

    def _compare_values(self, old: Flat, new: Flat, path: str) -> list[SchemaChange] | None:
        """Where one of the two lists its values; None where neither does."""
        before, after = _values(old.node), _values(new.node)
        if before is None and after is None:
            return None
        found: list[SchemaChange] = []
        if before is not None:
            gone = [value for value in before if not self._accepts(new.node, self._new_root, value)]
            found += [_change(Effect.NARROWED, path, f"may be {_named(gone)} no more")] if gone else []
        elif after is not None:
            found.append(_change(Effect.NARROWED, path, f"may only be {_named(after)} now"))
        if after is not None:
            came = [value for value in after if not self._accepts(old.node, self._old_root, value)]
            found += [_change(Effect.WIDENED, path, f"may be {_named(came)} too", breaks=False)] if came else []
        else:
            found.append(_change(Effect.WIDENED, path, "is no longer one of a list of values", breaks=False))
        return found

    def _accepts(self, node: Json, root: Mapping[str, Any], value: Json) -> bool:
        listed = _values(node)
        if listed is not None and _text(value) not in {_text(item) for item in listed}:
            return False
        try:
            definitions = {"$defs": root["$defs"]} if "$defs" in root else {}
            return compile_schema({**(node if isinstance(node, Mapping) else {}), **definitions}).is_valid(value)
        except SchemaError:  # it refers to a part of the whole that is not here
            return False

    # --- arrays

    def _item_changes(
        self, old: Mapping[str, Any], new: Mapping[str, Any], path: str, within: frozenset[tuple[str, str]]
    ) -> Iterator[SchemaChange]:
        first, second = old.get("prefixItems", []), new.get("prefixItems", [])
        for index in range(max(len(first), len(second))):
            before = first[index] if index < len(first) else old.get("items", True)
            after = second[index] if index < len(second) else new.get("items", True)
            yield from self._compare(before, after, f"{path}[{index}]", within)
        yield from self._compare(old.get("items", True), new.get("items", True), f"{path}[]", within)
        if new.get("uniqueItems") and not old.get("uniqueItems"):
            yield _change(Effect.NARROWED, path, "must not repeat an entry now")
        if old.get("uniqueItems") and not new.get("uniqueItems"):
            yield _change(Effect.WIDENED, path, "may repeat an entry", breaks=False)

    # --- objects

    def _member_changes(
        self, old: Mapping[str, Any], new: Mapping[str, Any], path: str, within: frozenset[tuple[str, str]]
    ) -> Iterator[SchemaChange]:
        before, after = old.get("properties", {}), new.get("properties", {})
        yield from _required_changes(old, new, path)
        for name in [*before, *(name for name in after if name not in before)]:
            here = f"{path}.{name}"
            if name in before and name in after:
                yield from self._compare(before[name], after[name], here, within)
            elif name in before:
                yield from self._removed(before[name], new, here, within)
            else:
                yield from self._added(after[name], old, here, within)
        yield from self._open_changes(old, new, path, within)
        names = (old.get("propertyNames", True), new.get("propertyNames", True))
        yield from self._compare(*names, f"{path} (its names)", within)

    def _removed(
        self, before: Json, new: Mapping[str, Any], path: str, within: frozenset[tuple[str, str]]
    ) -> list[SchemaChange]:
        rest = _rest(new)
        if rest is False:
            return [
                _change(Effect.NARROWED, path, "was removed, and properties that the schema does not name are refused")
            ]
        if rest is True:
            return [_change(Effect.WIDENED, path, "was removed: receivers that read it may find nothing, or anything")]
        return self._compare(before, rest, path, within)

    def _added(
        self, after: Json, old: Mapping[str, Any], path: str, within: frozenset[tuple[str, str]]
    ) -> list[SchemaChange]:
        """An optional property more is no news to anybody, unless its name was open to other values before."""
        rest = _rest(old)
        if isinstance(rest, bool):
            return []
        return [
            change for change in self._compare(rest, after, path, within) if change.effect.is_seen_as(Effect.NARROWED)
        ]

    def _open_changes(
        self, old: Mapping[str, Any], new: Mapping[str, Any], path: str, within: frozenset[tuple[str, str]]
    ) -> Iterator[SchemaChange]:
        """Of the properties without a name in the schema."""
        before, after = _rest(old), _rest(new)
        if before == after:
            return
        if after is False:
            yield _change(Effect.NARROWED, path, "may have no properties any more that the schema does not name")
        elif before is False:
            yield _change(Effect.WIDENED, path, "may have properties that the schema does not name", breaks=False)
        else:
            yield from self._compare(before, after, f"{path}.*", within)


# ------------------------------------------------------------------------------------------------------ keywords

_BOUNDS: Final = (
    ("number", "at least", "at most", ""),
    ("string", "at least", "at most", " characters"),
    ("array", "at least", "at most", " entries"),
    ("object", "at least", "at most", " properties"),
)
_OPAQUE: Final = (
    "not",
    "if",
    "then",
    "else",
    "contains",
    "minContains",
    "maxContains",
    "dependentRequired",
    "dependentSchemas",
    "patternProperties",
    "unevaluatedItems",
)


def _type_changes(before: frozenset[str], after: frozenset[str], path: str) -> Iterator[SchemaChange]:
    if before - after:
        yield _change(Effect.NARROWED, path, f"may be {_types(before - after, all_of=before)} no more")
    if after - before:
        yield _change(Effect.WIDENED, path, f"may be {_types(after - before, all_of=after)} too")


def _bound_changes(
    old: Mapping[str, Any], new: Mapping[str, Any], path: str, shared: frozenset[str]
) -> Iterator[SchemaChange]:
    for kind, low_word, high_word, unit in _BOUNDS:
        if kind not in shared and not (kind == "number" and shared & {"integer", "fraction"}):
            continue
        (low, high), (new_low, new_high) = bounds(old, kind), bounds(new, kind)
        if new_low > low:
            yield _change(Effect.NARROWED, path, f"must be {low_word} {new_low}{unit} now{_before(low, unit)}")
        elif new_low < low:
            yield _change(Effect.WIDENED, path, f"may be less than {low}{unit}", breaks=False)
        if new_high < high:
            yield _change(Effect.NARROWED, path, f"must be {high_word} {new_high}{unit} now{_before(high, unit)}")
        elif new_high > high:
            yield _change(Effect.WIDENED, path, f"may be more than {high}{unit}", breaks=False)
    step, new_step = old.get("multipleOf"), new.get("multipleOf")
    if step != new_step and shared & {"integer", "fraction"}:
        if new_step is not None and (step is None or step % new_step != 0):
            yield _change(Effect.NARROWED, path, f"must be a multiple of {new_step} now")
        if step is not None and (new_step is None or new_step % step != 0):
            yield _change(Effect.WIDENED, path, f"need not be a multiple of {step}", breaks=False)


def _before(bound: Any, unit: str) -> str:
    return f" (before: {bound}{unit})" if bound.is_finite else ""


def _pattern_changes(old: Mapping[str, Any], new: Mapping[str, Any], path: str) -> Iterator[SchemaChange]:
    before, after = old.get("pattern"), new.get("pattern")
    if before != after:
        if after is not None:
            yield _change(Effect.NARROWED, path, f"must match {after} now")
        else:
            yield _change(Effect.WIDENED, path, f"need not match {before} any more", breaks=False)
    form, new_form = old.get("format"), new.get("format")
    if form != new_form:
        said = f"is a {new_form} now" if new_form else "has no format any more"
        yield _change(Effect.WIDENED, path, f"{said} (before: {form or 'no format'}); nothing checks it", breaks=False)


def _required_changes(old: Mapping[str, Any], new: Mapping[str, Any], path: str) -> Iterator[SchemaChange]:
    before, after = old.get("required", ()), new.get("required", ())
    for name in after:
        if name not in before:
            yield _change(Effect.NARROWED, f"{path}.{name}", "is required now: data without it was valid")
    for name in before:
        if name not in after:
            yield _change(Effect.WIDENED, f"{path}.{name}", "is no longer required: receivers may find it missing")


def _opaque_changes(old: Flat, new: Flat, path: str) -> Iterator[SchemaChange]:
    differing = [key for key in _OPAQUE if old.node.get(key) != new.node.get(key)]
    if old.leftover != new.leftover:
        differing.append("allOf")
    for key in differing:
        yield _change(Effect.NARROWED, path, f"{key} was changed, which cannot be compared")


def _opaque(path: str) -> SchemaChange:
    return _change(Effect.NARROWED, path, "was changed in a way that is too large to compare")


def _with_nothing(old: Flat, new: Flat, path: str) -> list[SchemaChange]:
    if old.node is False and new.node is False:
        return []
    if new.node is False:
        return [_change(Effect.NARROWED, path, "may have no value any more")]
    return [_change(Effect.WIDENED, path, "could have no value before", breaks=False)]


def _gone(alternative: Flat, path: str) -> SchemaChange:
    return _change(Effect.NARROWED, path, f"may be {_described(alternative)} no more")


def _added(alternative: Flat, path: str) -> SchemaChange:
    return _change(Effect.WIDENED, path, f"may be {_described(alternative)} too")


def _described(alternative: Flat) -> str:
    node = alternative.node
    if not isinstance(node, Mapping):
        return "nothing"
    if isinstance(node.get("title"), str):
        return str(node["title"])
    listed = _values(node)
    return _named(listed) if listed else _types(types_of(node))


def _weight(changes: Sequence[SchemaChange], effect: Effect) -> tuple[int, int]:
    """Which alternative is the nearest: that with the least to say, breaks first."""
    told = [change for change in changes if change.effect.is_seen_as(effect)]
    return sum(change.is_breaking for change in told), len(changes)


def _rest(node: Mapping[str, Any]) -> Json:
    """The schema of properties without a name; `unevaluatedProperties` is taken for the same."""
    rest = node.get("additionalProperties", node.get("unevaluatedProperties", True))
    return True if rest == {} else rest


def _values(node: Json) -> list[Json] | None:
    if not isinstance(node, Mapping):
        return None
    if "const" in node:
        return [node["const"]]
    listed = node.get("enum")
    return list(listed) if isinstance(listed, list) else None


def _named(values: Sequence[Json]) -> str:
    shown = [_text(value) for value in values[:8]]
    return ", ".join(shown) + (f" and {len(values) - 8} more" if len(values) > 8 else "")


def _types(types: frozenset[str], *, all_of: frozenset[str] | None = None) -> str:
    """In words; a fraction beside whole numbers is a number."""
    names = set(types)
    if "fraction" in names:
        names.discard("fraction")
        names.discard("integer")
        names.add("a fraction" if all_of is not None and "integer" not in types else "number")
    if types == ALL_TYPES:
        return "anything"
    return " or ".join(sorted(names))


def _text(value: Json) -> str:
    return json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"), default=str)
