"""What the five definitions refuse and accept, as cases for the API server and for offline validation alike.

Two sources: `crd_rules/` holds cases by hand, one or more for each CEL rule; `boundaries` derives from the schemas,
for every field, the values just inside and just outside of what it may be. `crd_complete/` has objects that set
every field, which boundaries start from. `random_objects` makes objects of any shape, mostly wrong ones.
"""

from __future__ import annotations

import copy
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import yaml

from hookstead.resources.definitions import definitions
from hookstead.resources.kinds import API_VERSION, Kind

if TYPE_CHECKING:
    import random
    from collections.abc import Iterator, Mapping

Json = Any
Steps = tuple[str | int, ...]

HERE: Final = Path(__file__).parent


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleCase:
    """A rule, by words of its message, with an object that it refuses and one that it accepts."""

    kind: Kind
    field: str
    says: str
    says_offline: str
    """The same, but where the offline check of types comes first."""
    base: Json
    refused: Json
    accepted: Json
    is_update: bool
    """The objects are updates of `base`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Boundary:
    """An object that differs from a complete one in one place."""

    label: str
    obj: Json
    is_accepted: bool


def rule_cases() -> list[RuleCase]:
    """Every case of `crd_rules/`."""
    return [case for kind in Kind for case in _cases_of(kind)]


def _cases_of(kind: Kind) -> Iterator[RuleCase]:
    content = yaml.safe_load((HERE / "crd_rules" / f"{kind.plural}.yaml").read_text())
    name = content.get("name", "example")
    for case in content["cases"]:
        yield RuleCase(
            kind=kind,
            field=case.get("field", ""),
            says=case["says"],
            says_offline=case.get("says_offline", case["says"]),
            base=_object(kind, name, content["base"], {}),
            refused=_object(kind, name, content["base"], case["refuses"]),
            accepted=_object(kind, name, content["base"], case["accepts"]),
            is_update=case.get("is_update", False),
        )


def _object(kind: Kind, name: str, base: Mapping[str, Json], change: Mapping[str, Json]) -> Json:
    spec = {**copy.deepcopy(dict(base)), **{key: value for key, value in change.items() if key != "name"}}
    return {
        "apiVersion": API_VERSION,
        "kind": kind.value,
        "metadata": {"name": change.get("name", name)},
        "spec": {key: value for key, value in spec.items() if value is not None},
    }


def complete_objects(kind: Kind) -> list[Json]:
    """Objects that together set every field of spec."""
    return list(yaml.safe_load_all((HERE / "crd_complete" / f"{kind.plural}.yaml").read_text()))


def complete_status(kind: Kind) -> Json:
    """A status that sets every field."""
    return yaml.safe_load((HERE / "crd_status" / f"{kind.plural}.yaml").read_text())


def spec_schema(kind: Kind) -> Mapping[str, Json]:
    """The structural schema of `spec`."""
    schema: Mapping[str, Json] = definitions()[kind].schema["properties"]["spec"]
    return schema


def boundaries(kind: Kind) -> Iterator[Boundary]:
    """For every field of spec: values at the edge, and one step beyond."""
    for steps, schema in _places(spec_schema(kind), ("spec",)):
        start = next((obj for obj in complete_objects(kind) if _holds(obj, steps)), None)
        assert start is not None, f"crd_complete/{kind.plural}.yaml does not set {steps}"
        for label, value, is_accepted in _edges(schema, _get(start, steps)):
            where = ".".join(str(step) for step in steps)
            yield Boundary(
                label=f"{kind.value} {where} {label}", obj=_changed(start, steps, value), is_accepted=is_accepted
            )


def _places(schema: Mapping[str, Json], steps: Steps) -> Iterator[tuple[Steps, Mapping[str, Json]]]:
    yield steps, schema
    for name, part in schema.get("properties", {}).items():
        yield from _places(part, (*steps, name))
    if "items" in schema:
        item = (*steps, 0)
        yield from _places(schema["items"], item)


def _holds(obj: Json, steps: Steps) -> bool:
    try:
        _get(obj, steps)
    except (KeyError, IndexError):
        return False
    return True


def _get(obj: Json, steps: Steps) -> Json:
    for step in steps:
        obj = obj[step]
    return obj


def _changed(obj: Json, steps: Steps, value: Json) -> Json:
    result = copy.deepcopy(obj)
    parent = _get(result, steps[:-1])
    parent[steps[-1]] = value
    return result


def _edges(schema: Mapping[str, Json], value: Json) -> Iterator[tuple[str, Json, bool]]:
    kind = schema["type"]
    yield "of another type", [True] if kind != "array" else {"a": True}, False
    if "enum" in schema:
        yield from ((f"= {item}", item, True) for item in schema["enum"])
        yield "not in the enum", "Bogus", False
    elif kind == "integer":
        yield "at its minimum", schema["minimum"], True
        yield "below its minimum", schema["minimum"] - 1, False
        yield "at its maximum", schema["maximum"], True
        yield "above its maximum", schema["maximum"] + 1, False
        yield "with a fraction", schema["minimum"] + 0.5, False
        yield "as a string", str(schema["maximum"]), False
    elif kind == "string":
        yield from _string_edges(schema, value)
    elif kind == "array":
        yield from _list_edges(schema, value)
    else:
        yield from _object_edges(schema, value)


def _string_edges(schema: Mapping[str, Json], value: str) -> Iterator[tuple[str, Json, bool]]:
    if schema.get("format") == "date-time":
        yield "with a day that does not exist", "2026-02-30T00:00:00Z", False
        yield "without a zone", "2026-01-01T00:00:00", False
        yield "with a space", "2026-01-01 00:00:00Z", False
        yield "as a date", "2026-01-01", False
        return
    if schema.get("format") == "cidr":
        yield from ((text, text, True) for text in ("10.1.2.3/8", "::1/128", "fc00::/7"))
        yield from ((text, text, False) for text in ("10.0.0.0/33", "10.0.0.0", "010.0.0.0/8", "::/129", "x/8"))
        return
    longest = value + "a" * (schema["maxLength"] - len(value))
    yield "at its longest", longest, True
    yield "too long", longest + "a", False
    if "pattern" in schema:
        yield "with a newline at its end", value + "\n", False
    if schema.get("minLength"):
        yield "empty", "", False


def _list_edges(schema: Mapping[str, Json], value: list[Json]) -> Iterator[tuple[str, Json, bool]]:
    yield "with the most entries", _entries(schema, value, schema["maxItems"]), True
    yield "with too many entries", _entries(schema, value, schema["maxItems"] + 1), False
    if schema.get("minItems"):
        yield "empty", [], False
    if schema["x-kubernetes-list-type"] in ("set", "map"):
        yield "with an entry twice", [value[0], value[0]], False
    yield "with a null", [*value, None], False


def _entries(schema: Mapping[str, Json], value: list[Json], count: int) -> list[Json]:
    first = value[-1]  # of signing keys the one that does not expire
    if isinstance(first, int):
        return [first] * count
    if isinstance(first, dict):
        key = schema["x-kubernetes-list-map-keys"][0]
        return [{**first, key: f"x{number}"} for number in range(count)]
    if schema["items"].get("format") == "cidr":
        return [f"10.{number}.0.0/16" for number in range(count)]
    return [f"x{number}" for number in range(count)]


def _object_edges(schema: Mapping[str, Json], value: dict[str, Json]) -> Iterator[tuple[str, Json, bool]]:
    if schema.get("x-kubernetes-preserve-unknown-fields"):
        yield "with anything", {"a": None, "b": [1, {"c": None}]}, True
        return
    yield "with an unknown field", {**value, "bogus": 1}, False
    for name in schema.get("required", ()):
        yield f"without {name}", {key: item for key, item in value.items() if key != name}, False


WORDS: Final = (
    "",
    "a",
    "A",
    "a.b",
    "a.b.*",
    "*",
    "a.*.b",
    "a..b",
    "a b",
    "a\n",
    "é",
    "😀",
    "a" * 64,
    "a" * 129,
    "a" * 257,
    "client_1",
    "-a",
    "host",
    "Host",
    "webhook-id",
    "\t",
    "\x00",
    "https://a",
    "https://u@a/",
    "https://a/#",
    "https://a:99999",
    "https://[::1]/",
    "https://é/",
    "https://a\\b",
    "https://a%41/",
    "HTTP://a",
    "Enabled",
    "None",
    "2026-01-01T00:00:00Z",
    "2026-01-01t00:00:00z",
    "2026-01-01T00:00:00.123456789+01:00",
    "2026-01-01T23:59:60Z",
    "2026-01-01T00:00:00+24:00",
    "9999-12-31T23:59:59Z",
    "10.1.2.3/8",
    "010.0.0.0/8",
    "::ffff:10.0.0.0/104",
    "fe80::1%eth0/64",
    "10.0.0.0/08",
)
ATOMS: Final[tuple[Json, ...]] = (
    None,
    True,
    0,
    1,
    -1,
    1.0,
    1.5,
    60,
    2**31,
    2**53,
    2**63 - 1,
    2**64,
    2**70,
    1e300,
    "5",
    (),
    {},
)


def random_objects(chance: random.Random, count: int) -> Iterator[Json]:
    """Objects of all kinds that follow their schemas more or less."""
    for _ in range(count):
        kind = chance.choice(list(Kind))
        name = "default" if kind is Kind.ENVIRONMENT else "example"
        spec = _random(chance, spec_schema(kind), 0)
        yield {"apiVersion": API_VERSION, "kind": kind.value, "metadata": {"name": name}, "spec": spec}


def _random(chance: random.Random, schema: Mapping[str, Json], depth: int) -> Json:
    if chance.random() < 0.04:
        atom = chance.choice(ATOMS)
        return list(atom) if isinstance(atom, tuple) else atom
    kind = schema.get("type")
    if kind == "object":
        return _random_object(chance, schema, depth)
    if kind == "array":
        count = chance.choice((0, 1, 1, 1, 2, 2, 3)) if chance.random() < 0.97 else schema["maxItems"] + 1
        return [_random(chance, schema["items"], depth + 1) for _ in range(count)]
    if kind == "integer":
        low, high = schema["minimum"], schema["maximum"]
        return chance.choice((low, high, low - 1, high + 1, float(low), *(chance.randint(low, high),) * 6))
    return _random_text(chance, schema)


def _random_object(chance: random.Random, schema: Mapping[str, Json], depth: int) -> Json:
    if schema.get("x-kubernetes-preserve-unknown-fields"):
        return {"a": None, "b": [1, None]}
    required = schema.get("required", ())
    result = {
        name: _random(chance, part, depth + 1)
        for name, part in schema.get("properties", {}).items()
        if (name in required and chance.random() < 0.96) or chance.random() < 0.5
    }
    if chance.random() < 0.02:
        result["bogus"] = None
    return result


def _random_text(chance: random.Random, schema: Mapping[str, Json]) -> str:
    if "enum" in schema and chance.random() < 0.93:
        choice: str = chance.choice(schema["enum"])
        return choice
    if chance.random() < 0.2:
        return chance.choice(WORDS)
    fitting = [word for word in WORDS if re.fullmatch(schema.get("pattern", ""), word)] or ["a"]
    return chance.choice([*fitting, f"x-{chance.randint(0, 99)}"])
