"""The conventions that hold for every definition in crds/ (contract, section 1)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from cel_expr_python import cel

from cluster import crd_cases
from hookstead.resources import kinds
from hookstead.resources.definitions import definitions
from hookstead.resources.kinds import GROUP, VERSION, Kind

Json = Any
CRDS = Path(__file__).parents[2] / "crds"
SHORT_NAMES = {
    Kind.ENVIRONMENT: "whenv",
    Kind.ENDPOINT: "whep",
    Kind.CHANNEL: "whch",
    Kind.EVENT_TYPE: "whet",
    Kind.REPLAY: "whrp",
}
SELECTABLE = {
    Kind.ENVIRONMENT: {".spec.state"},
    Kind.ENDPOINT: {".spec.state"},
    Kind.CHANNEL: {".spec.state", ".spec.channelName"},
    Kind.EVENT_TYPE: {".spec.type"},
    Kind.REPLAY: set(),
}
STANDARD = {
    "all",
    "exists",
    "exists_one",
    "map",
    "filter",
    "has",
    "size",
    "matches",
    "contains",
    "startsWith",
    "endsWith",
}
STANDARD |= {"timestamp", "duration", "int", "uint", "double", "string", "bool", "bytes", "type", "dyn"}
"""The functions and macros of CEL's own language definition."""

every_kind = pytest.mark.parametrize("kind", list(Kind))


def document(kind: Kind) -> Json:
    return definitions()[kind].document


def version(kind: Kind) -> Json:
    (only,) = document(kind)["spec"]["versions"]
    return only


def places(kind: Kind) -> Iterator[tuple[str, str, Json]]:
    """Every field and every list's items: path, name of the field, schema."""
    yield from _below("", definitions()[kind].schema)


def _below(path: str, schema: Json) -> Iterator[tuple[str, str, Json]]:
    for name, part in schema.get("properties", {}).items():
        yield from _at(f"{path}.{name}".removeprefix("."), name, part)


def _at(path: str, name: str, schema: Json) -> Iterator[tuple[str, str, Json]]:
    yield path, name, schema
    yield from _below(path, schema)
    if "items" in schema:
        yield from _at(f"{path}[]", f"{name}[]", schema["items"])


def failing(kind: Kind, holds: Any) -> list[str]:
    return [path for path, name, schema in places(kind) if not holds(path, name, schema)]


def rules(kind: Kind) -> list[Json]:
    schemas = [definitions()[kind].schema, *(schema for _, _, schema in places(kind))]
    return [rule for schema in schemas for rule in schema.get("x-kubernetes-validations", ())]


def test_there_is_one_file_for_each_kind_and_no_other() -> None:
    assert {file.name for file in CRDS.iterdir()} == {f"{kind.plural}.yaml" for kind in Kind}


@every_kind
def test_names_follow_the_kind(kind: Kind) -> None:
    spec, metadata = document(kind)["spec"], document(kind)["metadata"]
    assert metadata["name"] == f"{kind.plural}.{GROUP}"
    assert spec["group"] == GROUP
    assert spec["scope"] == "Namespaced"
    assert spec["names"] == {
        "kind": kind.value,
        "listKind": f"{kind.value}List",
        "plural": kind.plural,
        "singular": kind.value.lower(),
        "shortNames": [SHORT_NAMES[kind]],
        "categories": ["webhooks"],
    }


@every_kind
def test_one_version_is_served_and_stored_with_a_status_subresource(kind: Kind) -> None:
    assert version(kind)["name"] == VERSION
    assert version(kind)["served"] is True
    assert version(kind)["storage"] is True
    assert version(kind)["subresources"] == {"status": {}}
    assert {field["jsonPath"] for field in version(kind).get("selectableFields", ())} == SELECTABLE[kind]


@every_kind
def test_the_schema_is_structural(kind: Kind) -> None:
    allowed = {"type", "format", "description", "default", "enum", "pattern", "properties", "required", "items"}
    allowed |= {"minimum", "maximum", "minLength", "maxLength", "minItems", "maxItems"}

    def holds(_path: str, _name: str, schema: Json) -> bool:
        return schema.get("type") in ("object", "array", "string", "integer") and all(
            key in allowed or key.startswith("x-kubernetes-") for key in schema
        )

    assert failing(kind, holds) == []


@every_kind
def test_every_field_is_described_beginning_with_its_name(kind: Kind) -> None:
    assert failing(kind, lambda _, name, schema: schema.get("description", "").startswith(f"{name} ")) == []
    assert definitions()[kind].schema["description"].startswith(f"{kind.value} is ")


@every_kind
def test_every_description_tells_the_default_and_what_absence_means(kind: Kind) -> None:
    def holds(path: str, name: str, schema: Json) -> bool:
        text = schema["description"]
        if name.endswith("[]"):
            return True
        required = "Required" in text
        return ("default" in text.lower()) and (required or "Absent:" in text) and required == is_required(kind, path)

    assert failing(kind, holds) == []


def is_required(kind: Kind, path: str) -> bool:
    schema = definitions()[kind].schema
    *above, name = path.split(".")
    for step in above:
        schema = schema["properties"][step.removesuffix("[]")]
        schema = schema["items"] if step.endswith("[]") else schema
    return name in schema.get("required", ())


@every_kind
def test_every_default_is_named_in_its_description(kind: Kind) -> None:
    def holds(_path: str, _name: str, schema: Json) -> bool:
        default = schema.get("default")
        if isinstance(default, list):
            return ", ".join(str(item) for item in default) in schema["description"]
        if default == {"observedGeneration": -1}:
            return "Default: observedGeneration -1" in schema["description"]
        return (
            default is None or "Default: {}" in schema["description"] or f"Default: {default}" in schema["description"]
        )

    assert failing(kind, holds) == []


@every_kind
def test_units_are_named_where_a_number_has_one(kind: Kind) -> None:
    units = {"Seconds": "in seconds", "Days": "in days", "Milliseconds": "in milliseconds", "Bytes": "in bytes"}

    def holds(_path: str, name: str, schema: Json) -> bool:
        unit = next((words for suffix, words in units.items() if name.removesuffix("[]").endswith(suffix)), None)
        if name.endswith("PerSecond") or unit is None:
            return True
        return unit in schema["description"]

    assert failing(kind, holds) == []


@every_kind
def test_every_string_list_and_number_is_bounded(kind: Kind) -> None:
    def holds(_path: str, _name: str, schema: Json) -> bool:
        match schema["type"]:
            case "string":
                return "enum" in schema or schema.get("format") == "date-time" or "maxLength" in schema
            case "array":
                return "maxItems" in schema and schema["x-kubernetes-list-type"] in ("atomic", "set", "map")
            case "integer":
                return "minimum" in schema and "maximum" in schema
        return True

    assert failing(kind, holds) == []


@every_kind
def test_map_lists_have_keys_that_are_required(kind: Kind) -> None:
    def holds(_path: str, _name: str, schema: Json) -> bool:
        if schema.get("x-kubernetes-list-type") != "map":
            return True
        return set(schema["x-kubernetes-list-map-keys"]) <= set(schema["items"]["required"])

    assert failing(kind, holds) == []


@every_kind
def test_durations_are_integers_in_seconds_and_policies_are_enums(kind: Kind) -> None:
    def holds(_path: str, name: str, schema: Json) -> bool:
        if re.search(r"(?i)timeout|duration|interval|period", name):
            return schema["type"] == "integer" and name.endswith(("Seconds", "Milliseconds"))
        return schema["type"] not in ("boolean", "number")

    assert failing(kind, holds) == []


@every_kind
def test_enums_are_camel_case(kind: Kind) -> None:
    def holds(_path: str, _name: str, schema: Json) -> bool:
        return all(re.fullmatch(r"([A-Z][a-z]+)+", value) for value in schema.get("enum", ()))

    assert failing(kind, holds) == []


@every_kind
def test_there_is_no_default_inside_list_items(kind: Kind) -> None:
    assert failing(kind, lambda path, _, schema: "[]" not in path or "default" not in schema) == []


@every_kind
def test_status_defaults_to_what_nobody_has_seen(kind: Kind) -> None:
    status = definitions()[kind].schema["properties"]["status"]
    assert status["default"] == {"observedGeneration": -1}
    assert status["properties"]["observedGeneration"]["minimum"] == -1
    conditions = status["properties"]["conditions"]
    assert conditions["x-kubernetes-list-map-keys"] == ["type"]
    assert "status" not in definitions()[kind].schema.get("required", ())


@every_kind
def test_patterns_are_re2_and_match_whole_values(kind: Kind) -> None:
    env = cel.NewEnv(variables={"text": cel.Type.STRING, "pattern": cel.Type.STRING})
    matches = env.compile("text.matches(pattern)")
    for path, _, schema in places(kind):
        pattern = schema.get("pattern")
        if pattern is None:
            continue
        assert pattern.startswith("^"), path
        assert pattern.endswith("$"), path
        for text in ("a.b\n", "\n", "https://a\n"):
            value = matches.eval(data={"text": text, "pattern": pattern}).value()
            assert value is False, f"{path}: {value}"


@every_kind
def test_names_are_at_most_63_long_by_a_rule_at_the_root(kind: Kind) -> None:
    root = [rule["rule"] for rule in definitions()[kind].schema["x-kubernetes-validations"]]
    assert "size(self.metadata.name) <= 63" in root


@every_kind
def test_rules_are_standard_cel(kind: Kind) -> None:
    env = cel.NewEnv(variables={"self": cel.Type.DYN, "oldSelf": cel.Type.DYN})
    for rule in rules(kind):
        env.compile(rule["rule"])  # no extension is loaded here
        bare = re.sub(r"'(\\.|[^'\\])*'", "''", rule["rule"])
        assert set(re.findall(r"(\w+)\(", bare)) <= STANDARD, rule["rule"]


@every_kind
def test_messages_name_the_field_the_expectation_and_the_remedy(kind: Kind) -> None:
    for rule in rules(kind):
        message = rule["message"]
        assert re.match(r"(spec|metadata)\b\S* (must|needs|is immutable)", message), message
        assert re.search(r"[:;] \w+", message), message
        assert not message.endswith("."), message


def test_every_rule_has_a_manifest_that_it_refuses() -> None:
    told = [case.says for case in crd_cases.rule_cases()]
    untold = [
        rule["message"] for kind in Kind for rule in rules(kind) if not any(says in rule["message"] for says in told)
    ]
    assert untold == []


@every_kind
def test_columns_point_at_fields_that_exist(kind: Kind) -> None:
    known = {path.replace("[]", "") for path, _, _ in places(kind)} | {"metadata.creationTimestamp"}
    for column in version(kind)["additionalPrinterColumns"]:
        path = re.sub(r"\[\?\([^)]*\)\]", "", column["jsonPath"]).removeprefix(".")
        assert path in known, column
        assert column["description"].endswith("."), column


@every_kind
def test_files_read_the_same_for_people_as_for_programs(kind: Kind) -> None:
    text = (CRDS / f"{kind.plural}.yaml").read_text()
    assert text.startswith(f"# {kind.value}: ")
    assert "\t" not in text
    assert "&" not in re.sub(r"&&|[\"'^].*[\"'$]", "", text), "anchors hide what a reader looks for"
    assert yaml.safe_load(text) == document(kind)
    assert all(len(line) <= 120 for line in text.splitlines() if "pattern:" not in line and "matches(" not in line)


ENUMS = {
    (Kind.ENVIRONMENT, "spec.state"): kinds.EnvironmentState,
    (Kind.ENVIRONMENT, "spec.deliveryDefaults.ordering"): kinds.Ordering,
    (Kind.ENVIRONMENT, "spec.deliveryDefaults.circuitBreaker"): kinds.CircuitBreaker,
    (Kind.ENVIRONMENT, "spec.eventValidation"): kinds.EventValidation,
    (Kind.ENVIRONMENT, "spec.egress.plaintextHTTP"): kinds.Switch,
    (Kind.ENVIRONMENT, "spec.egress.privateNetworks"): kinds.Switch,
    (Kind.ENVIRONMENT, "spec.statusReporting.deliveryLog"): kinds.DeliveryLog,
    (Kind.ENDPOINT, "spec.state"): kinds.EndpointState,
    (Kind.ENDPOINT, "spec.payloadFormat"): kinds.PayloadFormat,
    (Kind.ENDPOINT, "spec.delivery.ordering"): kinds.Ordering,
    (Kind.ENDPOINT, "spec.delivery.circuitBreaker"): kinds.CircuitBreaker,
    (Kind.CHANNEL, "spec.state"): kinds.ChannelState,
    (Kind.EVENT_TYPE, "spec.lifecycle"): kinds.Lifecycle,
    (Kind.REPLAY, "spec.select"): kinds.ReplaySelect,
}


def test_enums_of_spec_are_those_of_the_typed_values() -> None:
    found = {
        (kind, path): schema["enum"]
        for kind in Kind
        for path, _, schema in places(kind)
        if "enum" in schema and path.startswith("spec.")
    }
    assert found == {place: [member.value for member in enum] for place, enum in ENUMS.items()}
