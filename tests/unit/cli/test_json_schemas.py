"""The published JSON Schemas: they take what the API server takes, and refuse the slips that a shape can show."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
import yaml

from cluster import crd_cases
from hookstead.cli.json_schemas import files, main
from hookstead.resources.kinds import API_VERSION, GROUP, Kind

TOP = Path(__file__).parents[3]
SCHEMAS = {name: json.loads(text) for name, text in files(TOP / "crds").items()}


def validator(kind: Kind) -> jsonschema_rs.Draft7Validator:
    return jsonschema_rs.Draft7Validator(SCHEMAS[f"{GROUP}/{kind.value.lower()}_v1alpha1.json"], validate_formats=True)


def test_every_kind_has_a_file_where_kubeconform_looks_for_it() -> None:
    assert SCHEMAS.keys() == {
        *(f"{GROUP}/{kind.value.lower()}_v1alpha1.json" for kind in Kind),
        f"{GROUP}/all_v1alpha1.json",
    }


@pytest.mark.parametrize("kind", list(Kind))
def test_what_the_api_server_takes_is_taken(kind: Kind) -> None:
    """The boundaries are held to the real server in tests/cluster."""
    judge = validator(kind)
    taken = [case for case in crd_cases.boundaries(kind) if case.is_accepted and not has_null(case.obj)]
    assert [case.label for case in taken if not judge.is_valid(case.obj)] == []
    assert all(judge.is_valid(obj) for obj in crd_cases.complete_objects(kind))


def has_null(value: Any) -> bool:
    if isinstance(value, dict):
        return any(item is None or has_null(item) for item in value.values())
    return isinstance(value, list) and any(item is None or has_null(item) for item in value)


@pytest.mark.parametrize("kind", list(Kind))
def test_most_of_what_the_server_refuses_by_shape_is_refused(kind: Kind) -> None:
    judge = validator(kind)
    refused = [case for case in crd_cases.boundaries(kind) if not case.is_accepted]
    passed = [case.label for case in refused if judge.is_valid(case.obj)]
    # What is left is CEL's, and times that no calendar has.
    assert len(passed) < len(refused) / 4


def test_unknown_fields_are_refused_and_content_of_the_users_own_is_not() -> None:
    obj = {
        "apiVersion": API_VERSION,
        "kind": "WebhookEventType",
        "metadata": {"name": "a", "labels": {"x": "y"}},
        "spec": {"type": "a.b", "description": "x", "schema": {"anything": [1, None]}, "sample": {"b": {}}},
    }
    judge = validator(Kind.EVENT_TYPE)
    assert judge.is_valid(obj)
    assert not judge.is_valid({**obj, "spec": {**obj["spec"], "lifecycel": "Active"}})  # type: ignore[dict-item]  # a mapping
    assert not judge.is_valid({**obj, "kind": "WebhookEventTyp"})


def test_the_schema_of_all_kinds_judges_each_by_its_own(tmp_path: Path) -> None:
    assert main([str(TOP / "crds"), str(tmp_path)]) == 0
    together = SCHEMAS[f"{GROUP}/all_v1alpha1.json"]
    kinds = [branch["if"]["properties"]["kind"]["const"] for branch in together["allOf"]]
    assert sorted(kinds) == sorted(kind.value for kind in Kind)
    for branch in together["allOf"]:
        assert (tmp_path / GROUP / branch["then"]["$ref"]).is_file()


def test_the_examples_name_schemas_that_exist() -> None:
    named = []
    for file in [*(TOP / "examples").rglob("*.yaml")]:
        for line in file.read_text(encoding="utf-8").splitlines():
            if line.startswith("# yaml-language-server: $schema="):
                target = (file.parent / line.split("=", 1)[1]).resolve()
                named.append(target)
                schema = json.loads(target.read_text(encoding="utf-8"))
                judge = jsonschema_rs.Draft7Validator(schema)
                documents = [one for one in yaml.safe_load_all(file.read_text(encoding="utf-8")) if one]
                assert all(judge.is_valid(one) for one in documents), file
    assert len(named) >= 4


def test_descriptions_and_defaults_reach_the_editor() -> None:
    spec = SCHEMAS[f"{GROUP}/webhookendpoint_v1alpha1.json"]["properties"]["spec"]
    state = spec["properties"]["state"]
    assert state["enum"] == ["Enabled", "Disabled", "Paused"]
    assert state["default"] == "Enabled"
    assert state["description"].startswith("state ")
    assert "x-kubernetes" not in json.dumps(SCHEMAS)
