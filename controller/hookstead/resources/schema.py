"""Offline validation against a definition in `crds/`, with the API server's verdict.

The structural schema is checked by jsonschema-rs, its rules and list types by `cel_rules`. As on the server, rules
are not evaluated on a spec whose types, required fields, enums or sizes are wrong already.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any, Final, TypeAlias

import jsonschema_rs

from hookstead.resources.cel_rules import RuleTree, compile_rules
from hookstead.resources.definitions import definitions
from hookstead.resources.kinds import Kind
from hookstead.resources.problem import field_path
from hookstead.resources.schema_messages import explain, missing_field, unknown_field, unknown_name
from hookstead.resources.structural import Shape, node_at, shape_of

Path: TypeAlias = tuple[str | int, ...]
Finding: TypeAlias = tuple[Path, str]

_KEPT: Final = (
    "type",
    "required",
    "enum",
    "pattern",
    "format",
    "minimum",
    "maximum",
    "minLength",
    "maxLength",
    "minItems",
    "maxItems",
)
_BLOCKING: Final = frozenset({"type", "required", "enum", "format", "maxLength", "maxItems"})
"""Keywords whose violation keeps the server from evaluating rules."""
_TOP_LEVEL: Final = ("apiVersion", "kind", "metadata", "spec", "status")


@dataclass(frozen=True, slots=True)
class KindSchema:
    """Everything compiled of one kind's definition; `spec` and root rules only, since users do not write status."""

    schema: Mapping[str, Any]
    shape: Shape
    validator: jsonschema_rs.Draft202012Validator
    rules: RuleTree

    def normalise(self, obj: Mapping[str, Any]) -> dict[str, Any]:
        """`{"spec": …}` as the server would store it: defaults in, nulls out. A copy."""
        result: dict[str, Any] = self.shape.normalise({"spec": obj.get("spec")})
        return result

    def findings(
        self, obj: Mapping[str, Any], normalised: Mapping[str, Any], old: Mapping[str, Any] | None
    ) -> list[Finding]:
        """What is wrong with the object, each with its place; `old` is the object before, for transition rules."""
        found = [*_unknown_top_level(obj), *_unknown_in_status(obj, self.schema)]
        duplicates = list(self.rules.duplicates(normalised))
        errors = self._schema_errors(normalised)
        found += [(path, message) for path, message, _ in errors] + duplicates
        if any(keyword in _BLOCKING for _, _, keyword in errors):
            return found
        broken = list(self._rule_findings(obj, normalised, old))
        explained = {path for path, _ in broken}
        return [(path, message) for path, message in found if path not in explained] + broken

    def _schema_errors(self, normalised: Mapping[str, Any]) -> list[tuple[Path, str, str]]:
        try:
            if self.validator.is_valid(normalised):
                return []
            errors = [item for error in self.validator.iter_errors(normalised) for item in self._explained(error)]
        except ValueError as error:  # not JSON: a key that is no string, a value of no JSON type, too deep
            return [(("spec",), f"must be JSON that nests at most 255 deep ({error})", "type")]
        errors.sort(key=lambda item: (_order(item[0]), item[2] not in _BLOCKING))
        said = {(path, message): (path, message, keyword) for path, message, keyword in reversed(errors)}
        return list(reversed(said.values()))

    def _explained(self, error: jsonschema_rs.ValidationError) -> Iterator[tuple[Path, str, str]]:
        parts = list(error.instance_path)
        keyword = str(error.schema_path[-1])
        node = node_at(self.schema, parts)
        if keyword == "required":
            name = error.kind.as_dict()["property"]
            yield (*parts, name), missing_field(node.get("properties", {}).get(name, {})), keyword
        elif keyword == "additionalProperties":
            for name in error.kind.as_dict()["unexpected"]:
                yield (*parts, name), unknown_field(name, node.get("properties", {})), keyword
        else:
            yield tuple(parts), explain(keyword, node, error.instance), keyword

    def _rule_findings(
        self, obj: Mapping[str, Any], normalised: Mapping[str, Any], old: Mapping[str, Any] | None
    ) -> Iterator[Finding]:
        value = {"metadata": {"name": _name_of(obj)}, **normalised}
        if old is None:
            yield from self.rules.findings(value)
        else:
            yield from self.rules.findings(value, {"metadata": {"name": _name_of(old)}, **self.normalise(old)})


@cache
def schema_of(kind: Kind) -> KindSchema:
    """The compiled schema of a kind; compiled on first use."""
    root = definitions()[kind].schema
    schema = {**root, "properties": {"spec": root["properties"]["spec"], "status": root["properties"]["status"]}}
    judged = {**schema, "properties": {"spec": root["properties"]["spec"]}}
    return KindSchema(
        schema=schema,
        shape=shape_of(judged),
        validator=jsonschema_rs.Draft202012Validator(
            _to_json_schema(judged),
            validate_formats=True,
            formats={"date-time": _is_time, "cidr": _is_cidr},
            pattern_options=jsonschema_rs.RegexOptions(),
        ),
        rules=compile_rules(judged),
    )


def status_errors(kind: Kind, status: Mapping[str, Any]) -> list[str]:
    """What the API server would refuse, or prune with a warning, of a status that we are about to write.

    The server keeps quiet about unknown fields there, so tests ask here. Times are not compared with the calendar.
    """
    node = {"type": "object", "properties": {"status": definitions()[kind].schema["properties"]["status"]}}
    validator = jsonschema_rs.Draft202012Validator(_to_json_schema(node), pattern_options=jsonschema_rs.RegexOptions())
    return [
        f"{field_path(error.instance_path)}: {error.message}" for error in validator.iter_errors({"status": status})
    ]


def _to_json_schema(node: Mapping[str, Any]) -> dict[str, Any]:
    """A structural schema as JSON Schema that refuses unknown fields, as kubectl's strict validation does."""
    result = {key: node[key] for key in _KEPT if key in node}
    if "properties" in node:
        result["properties"] = {name: _to_json_schema(part) for name, part in node["properties"].items()}
    if "items" in node:
        result["items"] = _to_json_schema(node["items"])
    if node.get("type") == "object" and not node.get("x-kubernetes-preserve-unknown-fields"):
        result["additionalProperties"] = False
    return result


def _is_time(text: str) -> bool:
    """Whether the calendar has the moment; the pattern beside the format holds its form."""
    try:
        datetime.fromisoformat(text[:19])
    except ValueError:
        return False
    return True


def _is_cidr(text: str) -> bool:
    try:
        ipaddress.ip_network(text, strict=False)
    except ValueError:
        return False
    return "/" in text


def _unknown_top_level(obj: Mapping[str, Any]) -> Iterator[Finding]:
    for name in obj:
        if name not in _TOP_LEVEL:
            yield (str(name),), unknown_name(str(name), _TOP_LEVEL, "is not a field of the object")


def _unknown_in_status(obj: Mapping[str, Any], schema: Mapping[str, Any]) -> Iterator[Finding]:
    """Status is the controller's and ignored, but strict validation looks at its names all the same."""
    yield from _unknown(obj.get("status"), schema["properties"]["status"], ("status",))


def _unknown(value: Any, node: Mapping[str, Any], path: Path) -> Iterator[Finding]:
    if isinstance(value, dict) and "properties" in node:
        for name, item in value.items():
            member = node["properties"].get(name)
            if member is None:
                yield (*path, str(name)), unknown_field(str(name), node["properties"])
            else:
                yield from _unknown(item, member, (*path, name))
    elif isinstance(value, list) and "items" in node:
        for index, item in enumerate(value):
            yield from _unknown(item, node["items"], (*path, index))


def _order(path: Path) -> list[str]:
    return [str(part).rjust(4) for part in path]


def _name_of(obj: Mapping[str, Any]) -> str:
    metadata = obj.get("metadata")
    name = metadata.get("name") if isinstance(metadata, Mapping) else None
    return name if isinstance(name, str) else ""
