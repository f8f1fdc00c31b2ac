"""The CEL rules of a structural schema (`x-kubernetes-validations`) and its list types, evaluated offline.

The rules are standard CEL, so the reference runtime gives the API server's verdict. `self` is the plain value; times
stay strings, which is why the rules say `timestamp(…)` where they compare them.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from cel_expr_python import cel

Path: TypeAlias = tuple[str | int, ...]
Finding: TypeAlias = tuple[Path, str]

_ENV: Final = cel.NewEnv(variables={"self": cel.Type.DYN, "oldSelf": cel.Type.DYN})
_TRANSITION: Final = re.compile(r"\boldSelf\b")
_ABSENT: Final = object()
_REMEMBERED: Final = 4096
"""Verdicts on texts: ten thousand endpoints have the same few header names, event types and names of Secrets."""


@dataclass(frozen=True, slots=True, eq=False)
class Rule:
    """One rule. A transition rule (over `oldSelf`) applies only where there was a value before."""

    text: str
    message: str
    expression: Any
    is_transition: bool

    def holds(self, value: Any, old: Any) -> bool:
        """Whether the value passes. A rule that cannot be evaluated does not hold, as on the server."""
        if self.is_transition and old is _ABSENT:
            return True
        if self.is_transition:
            return self._evaluated({"self": value, "oldSelf": old})
        return _verdict_on_text(self, value) if type(value) is str else self._evaluated({"self": value})

    def _evaluated(self, data: Mapping[str, Any]) -> bool:
        try:
            return self.expression.eval(data=data).value() is True
        except RuntimeError:  # the library's only class
            return False


@functools.lru_cache(maxsize=_REMEMBERED)
def _verdict_on_text(rule: Rule, value: str) -> bool:
    return rule._evaluated({"self": value})  # noqa: SLF001  (of this module)


@dataclass(frozen=True, slots=True)
class RuleTree:
    """The rules at one place and below it. Places without rules and list types are left out."""

    rules: tuple[Rule, ...]
    members: Mapping[str, RuleTree]
    item: RuleTree | None
    map_keys: tuple[str, ...]
    is_set: bool
    is_integer: bool = False

    @property
    def is_empty(self) -> bool:
        return not (self.rules or self.members or self.item or self.map_keys or self.is_set)

    def findings(self, value: Any, old: Any = _ABSENT, path: Path = ()) -> Iterator[Finding]:
        """Every rule that does not hold, and every duplicate, with its place. `value` fits the schema's types."""
        mistyped = self.is_integer and isinstance(value, float)  # 0.0: the server's rules cannot take it
        for rule in self.rules:
            if mistyped or not rule.holds(value, old):
                yield path, rule.message
        if isinstance(value, dict):
            for name, tree in self.members.items():
                if name in value:
                    before = old.get(name, _ABSENT) if isinstance(old, dict) else _ABSENT
                    yield from tree.findings(value[name], before, (*path, name))
        elif isinstance(value, list):
            yield from self._list_findings(value, old, path)

    def duplicates(self, value: Any, path: Path = ()) -> Iterator[Finding]:
        """Entries of sets, and keys of map lists, that occur again. Tolerates values of any type."""
        if isinstance(value, dict):
            for name, tree in self.members.items():
                if name in value:
                    yield from tree.duplicates(value[name], (*path, name))
        elif isinstance(value, list):
            yield from self._own_duplicates(value, path)
            if self.item is not None:
                for index, item in enumerate(value):
                    yield from self.item.duplicates(item, (*path, index))

    def _list_findings(self, value: list[Any], old: Any, path: Path) -> Iterator[Finding]:
        if self.item is None:
            return
        before = {self._key(item): item for item in old} if self.map_keys and isinstance(old, list) else {}
        for index, item in enumerate(value):
            counterpart = before.get(self._key(item), _ABSENT) if before else _ABSENT
            yield from self.item.findings(item, counterpart, (*path, index))

    def _own_duplicates(self, value: list[Any], path: Path) -> Iterator[Finding]:
        if not (self.is_set or self.map_keys):
            return
        first: dict[Any, int] = {}
        for index, item in enumerate(value):
            key = self._key(item)
            earlier = first.setdefault(key, index)
            if earlier != index and key is not _ABSENT:
                what = "the same entry" if self.is_set else f"the same {' and '.join(self.map_keys)}"
                yield (*path, index), f"must differ from entry [{earlier}], which has {what}: remove one of the two"

    def _key(self, item: Any) -> Any:
        if self.is_set:
            return (type(item).__name__, item) if isinstance(item, str | int | float | bool) else _ABSENT
        if not isinstance(item, dict):
            return _ABSENT
        parts = tuple(item.get(name) for name in self.map_keys)
        return parts if all(isinstance(part, str) for part in parts) else _ABSENT


def compile_rules(schema: Mapping[str, Any]) -> RuleTree:
    """Compile every rule of a structural schema. Raises RuntimeError for a rule that is not CEL."""
    members = {name: compile_rules(part) for name, part in schema.get("properties", {}).items()}
    item = compile_rules(schema["items"]) if "items" in schema else None
    list_type = schema.get("x-kubernetes-list-type")
    return RuleTree(
        rules=tuple(_compile(rule) for rule in schema.get("x-kubernetes-validations", ())),
        members={name: tree for name, tree in members.items() if not tree.is_empty},
        item=None if item is None or item.is_empty else item,
        map_keys=tuple(schema.get("x-kubernetes-list-map-keys", ())) if list_type == "map" else (),
        is_set=list_type == "set",
        is_integer=schema.get("type") == "integer",
    )


def _compile(rule: Mapping[str, Any]) -> Rule:
    text = rule["rule"]
    return Rule(
        text=text,
        message=rule.get("message") or f"failed rule: {text}",
        expression=_ENV.compile(text),
        is_transition=_TRANSITION.search(text) is not None,
    )
