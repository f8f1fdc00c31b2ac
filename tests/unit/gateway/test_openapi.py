"""`/openapi.json` against the routes that exist, and the documents of the catalog."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, cast

import jsonschema_rs

from builders import config, event_type
from hookstead.config.catalog_documents import accepted_types, asyncapi_document, openapi_document, payload_schema
from hookstead.delivery.engine import Engine
from hookstead.delivery.ports import Store
from hookstead.gateway.admin import Admin, admin_router
from hookstead.gateway.app import build_public_router
from hookstead.gateway.openapi import OPERATIONS, SCHEMAS, document
from hookstead.gateway.stream import ActivityStream
from hookstead.gateway.system import SystemClock
from hookstead.resources.kinds import Lifecycle

ENTRIES = accepted_types(
    config(
        event_type(
            "a",
            "order.created",
            schema={"$ref": "#/$defs/order", "$defs": {"order": {"type": "object", "required": ["n"]}}},
            sample={"n": 1},
        ),
        event_type("b", "order.old", lifecycle=Lifecycle.DEPRECATED),
        event_type("c", "order.gone", lifecycle=Lifecycle.ARCHIVED),
    )
)


def all_routes() -> Any:
    # The handlers are not called: nothing behind them is needed.
    nothing = cast("Any", None)
    public = build_public_router(
        engine=cast("Engine", nothing), store=cast("Store", nothing), clock=SystemClock(), stream=ActivityStream()
    )
    return (*public.routes, *admin_router(Admin(unready=nothing, metrics=nothing)).routes)


def test_every_route_is_described_and_nothing_else_is() -> None:
    served = {(route.path, route.method.lower()) for route in all_routes()}
    described = {(path, method) for path, operations in OPERATIONS.items() for method in operations}
    assert described == served


def test_what_every_route_needs_is_what_is_described() -> None:
    for route in all_routes():
        description = OPERATIONS[route.path][route.method.lower()].get("description", "")
        if route.needs is None:
            assert description == ""
        else:
            assert f"`{route.needs.scope}`" in description
            assert f"`{route.needs.verb}` on `{route.needs.rbac_resource}`" in description


def test_references_resolve_and_operations_have_names_of_their_own() -> None:
    whole = document()
    for reference in references(whole):
        place: Any = whole
        for step in reference.removeprefix("#/").split("/"):
            place = place[step]
    names = [operation["operationId"] for path in whole["paths"].values() for operation in operations_of(path)]
    assert len(set(names)) == len(names)
    assert all(re.fullmatch(r"[a-z][A-Za-z]+", name) for name in names)


def test_path_parameters_are_declared() -> None:
    for path, item in document()["paths"].items():
        declared = [one["name"] for one in item.get("parameters", [])]
        assert declared == re.findall(r"\{(\w+)\}", path)


def test_schemas_are_json_schemas_whose_fields_are_described() -> None:
    for name, schema in SCHEMAS.items():
        jsonschema_rs.validator_for({**schema, "components": {"schemas": SCHEMAS}})
        for field, part in schema.get("properties", {}).items():
            assert part.get("description") or part.keys() & {"$ref", "type", "const"}, (name, field)


def test_the_catalog_s_openapi_has_a_webhook_for_every_type_that_can_arrive() -> None:
    whole = openapi_document(ENTRIES, title="t")
    assert list(whole["webhooks"]) == ["order.created", "order.old"]
    assert whole["openapi"] == "3.1.0"
    assert "paths" not in whole
    operation = whole["webhooks"]["order.created"]["post"]
    media = operation["requestBody"]["content"]["application/json"]
    jsonschema_rs.validator_for(media["schema"]).validate(media["example"])
    assert not operation["deprecated"]
    assert whole["webhooks"]["order.old"]["post"]["deprecated"]


def test_the_catalog_s_asyncapi_refers_to_its_own_messages() -> None:
    whole = asyncapi_document(ENTRIES, title="t")
    assert whole["asyncapi"] == "3.0.0"
    for reference in references({"channels": {}, "operations": whole["operations"]}):
        place: Any = whole
        for step in reference.removeprefix("#/").split("/"):
            place = place[step]
    message = whole["channels"]["webhooks"]["messages"]["order.created"]
    jsonschema_rs.validator_for(message["payload"]).validate(message["examples"][0]["payload"])


def test_local_references_of_a_schema_keep_their_meaning_in_a_payload() -> None:
    validator = jsonschema_rs.validator_for(payload_schema(ENTRIES[0]))
    payload = {"type": "order.created", "timestamp": "2026-01-31T12:00:00Z"}
    assert validator.is_valid({**payload, "data": {"n": 1}})
    assert not validator.is_valid({**payload, "data": {}})


def references(value: Any) -> Iterator[str]:
    match value:
        case dict():
            if isinstance(value.get("$ref"), str):
                yield value["$ref"]
            for one in value.values():
                yield from references(one)
        case list():
            for one in value:
                yield from references(one)


def operations_of(item: dict[str, Any]) -> list[dict[str, Any]]:
    return [item[method] for method in ("get", "post", "put", "delete") if method in item]
