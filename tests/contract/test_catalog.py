"""Contract, section 3: `/v1/catalog` and `/openapi.json`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jsonschema_rs
import pytest

if TYPE_CHECKING:
    from contract.processes import Environment
    from contract.site import Site

SCHEMA = {
    "type": "object",
    "required": ["n"],
    "properties": {"n": {"$ref": "#/$defs/n"}},
    "$defs": {"n": {"type": "integer"}},
}


@pytest.fixture(scope="module")
def catalogued(module_site: Site) -> Site:
    site = module_site
    site.apply(
        site.event_type("full", schema=SCHEMA, sample={"n": 1}, group="Orders", description="All of it."),
        site.event_type("bare"),
        site.event_type("old", lifecycle="Deprecated", replacedBy=site.type("full")),
        site.event_type("dead", lifecycle="Archived"),
        site.event_type("broken", schema={"type": "nonsense"}),
        site.event_type("mismatch", schema=SCHEMA, sample={"n": "x"}),
        site.endpoint("a"),
    )
    return site


def items(site: Site) -> dict[str, Any]:
    found = site.dev.list("/v1/catalog")
    return {one["type"].removeprefix(f"{site.tag}."): one for one in found if one["type"].startswith(f"{site.tag}.")}


def test_an_item_has_type_description_group_lifecycle_schema_and_sample(catalogued: Site) -> None:
    full = items(catalogued)["full"]
    assert full.keys() >= {"type", "description", "group", "lifecycle", "schema", "sample"}
    assert (full["description"], full["group"], full["lifecycle"]) == ("All of it.", "Orders", "Active")
    assert (full["schema"], full["sample"]) == (SCHEMA, {"n": 1})
    bare = items(catalogued)["bare"]
    assert bare.keys() >= {"type", "description", "group", "lifecycle", "schema", "sample"}
    assert (bare["schema"], bare["sample"]) == (None, None)
    assert {name: one["lifecycle"] for name, one in items(catalogued).items()} | {} == {
        "full": "Active",
        "bare": "Active",
        "old": "Deprecated",
        "dead": "Archived",
    }


@pytest.mark.parametrize(("name", "reason"), [("broken", "SchemaInvalid"), ("mismatch", "SampleInvalid")])
def test_an_entry_whose_schema_or_sample_is_invalid_is_not_accepted(catalogued: Site, name: str, reason: str) -> None:
    found = catalogued.dev.get(f"/v1/event-types/{catalogued.name(name)}")["conditions"]
    told = {one["type"]: (one["status"], one["reason"]) for one in found}
    assert told["Accepted"] == ("False", reason)
    assert told["Ready"] == ("False", reason)
    assert told["Stalled"][0] == "True"


def test_as_openapi_each_type_is_a_webhook_whose_schema_fits_what_is_sent(catalogued: Site) -> None:
    document = catalogued.dev.get("/v1/catalog", format="openapi")
    assert document["openapi"].startswith("3.1")
    assert document["info"].keys() >= {"title", "version"}
    webhook = document["webhooks"][catalogued.type("full")]["post"]
    schema = webhook["requestBody"]["content"]["application/json"]["schema"]
    validator = jsonschema_rs.Draft202012Validator(schema)
    catalogued.publish({"n": 5}, event="full")
    body = catalogued.wait("a")[0].json
    assert validator.is_valid(body)
    assert not validator.is_valid({**body, "data": {"n": "x"}})
    assert not validator.is_valid({**body, "type": "other"})


def test_as_asyncapi_it_is_version_3_with_a_message_per_type(catalogued: Site) -> None:
    document = catalogued.dev.get("/v1/catalog", format="asyncapi")
    assert document["asyncapi"].startswith("3.0")
    assert document["info"].keys() >= {"title", "version"}
    channels = document["channels"].values()
    assert catalogued.type("full") in {name for one in channels for name in one["messages"]}
    assert document["operations"]
    for operation in document["operations"].values():
        assert operation["action"] in ("send", "receive")
        assert operation["channel"]["$ref"].startswith("#/channels/")


def test_another_format_is_400(shared_dev: Environment) -> None:
    shared_dev.ask("GET", "/v1/catalog", query={"format": "xml"}).problem(400)


def test_openapi_json_describes_all_of_it(shared_dev: Environment) -> None:
    document = shared_dev.get("/openapi.json")
    assert document["openapi"].startswith("3.")
    described = {
        (method.upper(), path.replace("{id}", "{}").replace("{name}", "{}"))
        for path, methods in document["paths"].items()
        for method in methods
        if method in ("get", "post", "delete")
    }
    expected = {
        ("POST", "/v1/events"),
        ("POST", "/v1/events/batch"),
        ("GET", "/v1/endpoints"),
        ("GET", "/v1/endpoints/{}"),
        ("GET", "/v1/environment"),
        ("GET", "/v1/channels"),
        ("GET", "/v1/channels/{}"),
        ("GET", "/v1/event-types"),
        ("GET", "/v1/event-types/{}"),
        ("GET", "/v1/replays"),
        ("GET", "/v1/replays/{}"),
        ("GET", "/v1/deliveries"),
        ("GET", "/v1/deliveries/{}"),
        ("GET", "/v1/events"),
        ("GET", "/v1/events/{}"),
        ("GET", "/v1/activity"),
        ("GET", "/v1/activity/stream"),
        ("GET", "/v1/catalog"),
        ("POST", "/v1/deliveries/{}/redeliver"),
        ("POST", "/v1/endpoints/{}/test"),
        ("DELETE", "/v1/events/{}/payload"),
    }
    assert expected <= described
