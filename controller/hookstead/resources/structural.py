"""A structural schema at work: what the API server does to an object before it judges it.

In its order: absent fields get their defaults; a null stands for absence, unless the schema keeps unknown fields
there; whole numbers become integers.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

_MISSING: Final = object()


@dataclass(slots=True)
class Shape:
    """One place of the schema, reduced to what normalising needs."""

    kind: str
    is_open: bool = False
    members: dict[str, Shape] = field(default_factory=dict)
    item: Shape | None = None
    default: Any = _MISSING

    def normalise(self, value: Any) -> Any:
        """A copy of `value` as the server would store it. Whatever does not fit stays as it is."""
        if self.is_open:
            return value
        if self.kind == "object" and isinstance(value, dict):
            return self._normalise_object(value)
        if self.kind == "array" and isinstance(value, list) and self.item is not None:
            return [self.item.normalise(item) for item in value]
        if self.kind == "integer" and isinstance(value, float) and value.is_integer() and abs(value) < 2**63:
            return int(value)
        return value

    def _normalise_object(self, value: dict[str, Any]) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for name, item in value.items():
            member = self.members.get(name)
            if member is None:
                result[name] = item
            elif item is not None:
                result[name] = member.normalise(item)
        for name, member in self.members.items():
            if name not in result and member.default is not _MISSING:
                result[name] = member.normalise(member.default)
        return result


def shape_of(schema: Mapping[str, Any]) -> Shape:
    """The shape of a structural schema. An integer with rules keeps its `0.0`, which its rules refuse."""
    has_rules = "x-kubernetes-validations" in schema
    return Shape(
        kind="" if has_rules and schema.get("type") == "integer" else schema.get("type", ""),
        is_open=schema.get("x-kubernetes-preserve-unknown-fields", False),
        members={name: shape_of(part) for name, part in schema.get("properties", {}).items()},
        item=shape_of(schema["items"]) if "items" in schema else None,
        default=schema.get("default", _MISSING),
    )


def node_at(schema: Mapping[str, Any], parts: list[str | int]) -> Mapping[str, Any]:
    """The schema of the place that `parts` lead to; empty where the schema says nothing of it."""
    node = schema
    for part in parts:
        node = node.get("items", {}) if isinstance(part, int) else node.get("properties", {}).get(part, {})
    return node
