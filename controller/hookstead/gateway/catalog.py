"""The event catalog: as a list, as OpenAPI 3.1 `webhooks` and as AsyncAPI 3.0."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from hookstead import __version__
from hookstead.config.model import DeliveryConfig, EventTypeConfig
from hookstead.gateway.cursors import read_cursor, write_cursor
from hookstead.gateway.exchange import Request, Response, json_response
from hookstead.gateway.objects import unconfigured
from hookstead.gateway.parameters import Parameters
from hookstead.resources.conditions import Reason
from hookstead.resources.kinds import Lifecycle


class CatalogFormat(StrEnum):
    JSON = "json"
    OPENAPI = "openapi"
    ASYNCAPI = "asyncapi"


@dataclass(frozen=True, slots=True)
class Catalog:
    """The handler. `config` gives the running configuration."""

    config: Callable[[], DeliveryConfig | None]

    async def handle(self, request: Request) -> Response:
        """`GET /v1/catalog`"""
        given = Parameters(request, ("format", "cursor", "limit"))
        config = self.config()
        if config is None:
            raise unconfigured()
        entries = accepted_types(config)
        match given.choice("format", CatalogFormat):
            case CatalogFormat.OPENAPI:
                return json_response(openapi_document(entries, title=_title(config)))
            case CatalogFormat.ASYNCAPI:
                return json_response(asyncapi_document(entries, title=_title(config)))
            case _:
                return _list(entries, cursor=given.cursor(), limit=given.limit())


class ObjectNames:
    """Which object declares an event type: what RBAC knows it by. `config` gives the running configuration."""

    def __init__(self, config: Callable[[], DeliveryConfig | None]) -> None:
        self._config: Final = config
        self._of: DeliveryConfig | None = None
        self._names: dict[str, str] = {}

    def of_type(self, event_type: str) -> str:
        """`metadata.name` of the object whose `spec.type` it is; "" for a type that nobody declares.

        An object with a faulty schema still declares its type: a typo in it must not take a producer's right away.
        """
        config = self._config()
        if config is not self._of:
            self._of, self._names = config, {} if config is None else _names_by_type(config)
        return self._names.get(event_type, "")


def _names_by_type(config: DeliveryConfig) -> dict[str, str]:
    return {
        entry.type: entry.identity.name
        for entry in config.event_types
        if entry.type and entry.verdict.accepted.reason is not Reason.DUPLICATE_EVENT_TYPE
    }


def accepted_types(config: DeliveryConfig) -> list[EventTypeConfig]:
    """What producers and receivers may rely on: accepted entries, by type."""
    return sorted((one for one in config.event_types if one.verdict.is_accepted), key=lambda one: one.type)


def catalog_item(entry: EventTypeConfig) -> dict[str, Any]:
    return {
        "type": entry.type,
        "description": entry.description,
        "group": entry.group,
        "lifecycle": entry.lifecycle,
        "replacedBy": entry.replaced_by,
        "schema": entry.schema,
        "sample": entry.sample,
    }


def openapi_document(entries: Iterable[EventTypeConfig], *, title: str) -> dict[str, Any]:
    """OpenAPI 3.1: one webhook per type, with the payload that StandardWebhooks endpoints receive."""
    return {
        "openapi": "3.1.0",
        "info": {"title": title, "version": __version__, "summary": "Webhooks that this environment sends"},
        "jsonSchemaDialect": "https://json-schema.org/draft/2020-12/schema",
        "webhooks": {entry.type: {"post": _operation(entry)} for entry in _sent(entries)},
    }


def asyncapi_document(entries: Iterable[EventTypeConfig], *, title: str) -> dict[str, Any]:
    """AsyncAPI 3.0: one channel, its messages the types; the receiver's view."""
    entries = _sent(entries)
    return {
        "asyncapi": "3.0.0",
        "info": {"title": title, "version": __version__, "description": "Webhooks that this environment sends"},
        "defaultContentType": "application/json",
        "channels": {
            "webhooks": {
                "description": "HTTP POST to the receiver's URL, signed as Standard Webhooks has it.",
                "messages": {entry.type: _message(entry) for entry in entries},
            }
        },
        "operations": {
            "sendWebhook": {
                "action": "send",
                "channel": {"$ref": "#/channels/webhooks"},
                "messages": [{"$ref": f"#/channels/webhooks/messages/{entry.type}"} for entry in entries],
            }
        },
    }


def _sent(entries: Iterable[EventTypeConfig]) -> list[EventTypeConfig]:
    """Those that can still arrive: an Archived type is refused at ingest, under Enforce."""
    return [entry for entry in entries if entry.lifecycle is not Lifecycle.ARCHIVED]


def payload_schema(entry: EventTypeConfig) -> dict[str, Any]:
    """The JSON Schema of a StandardWebhooks payload. The entry's own schema is a resource with an `$id`, so that its
    local `$ref`s keep meaning what they meant."""
    data: dict[str, Any] = {"$id": f"urn:hookstead:event-type:{entry.type}", **(entry.schema or {})}
    return {
        "type": "object",
        "required": ["type", "timestamp", "data"],
        "properties": {
            "type": {"type": "string", "const": entry.type},
            "timestamp": {"type": "string", "format": "date-time"},
            "data": data if entry.schema is not None else {},
        },
    }


def _operation(entry: EventTypeConfig) -> dict[str, Any]:
    media: dict[str, Any] = {"schema": payload_schema(entry)}
    if entry.sample is not None:
        media["example"] = _payload_sample(entry)
    return {
        "operationId": entry.type,
        "summary": entry.type,
        "description": entry.description,
        "tags": [entry.group] if entry.group else [],
        "deprecated": entry.lifecycle is not Lifecycle.ACTIVE,
        "parameters": [_header(name, text) for name, text in _HEADERS],
        "requestBody": {"required": True, "content": {"application/json": media}},
        "responses": {
            "2XX": {"description": "Received. Anything else is tried again."},
            "410": {"description": "Never send anything here again."},
        },
    }


def _message(entry: EventTypeConfig) -> dict[str, Any]:
    message: dict[str, Any] = {
        "name": entry.type,
        "title": entry.type,
        "description": entry.description,
        "contentType": "application/json",
        "headers": {
            "type": "object",
            "required": [name for name, _ in _HEADERS],
            "properties": {name: {"type": "string", "description": text} for name, text in _HEADERS},
        },
        "payload": payload_schema(entry),
    }
    if entry.group:
        message["tags"] = [{"name": entry.group}]
    if entry.sample is not None:
        message["examples"] = [{"payload": _payload_sample(entry)}]
    return message


_HEADERS = (
    ("webhook-id", "The message's id, the same on every retry: use it to drop duplicates."),
    ("webhook-timestamp", "This attempt's time, in seconds since the Unix epoch."),
    ("webhook-signature", "One or more signatures, separated by spaces, as Standard Webhooks has them."),
)


def _header(name: str, text: str) -> dict[str, Any]:
    return {"name": name, "in": "header", "required": True, "description": text, "schema": {"type": "string"}}


def _payload_sample(entry: EventTypeConfig) -> dict[str, Any]:
    return {"type": entry.type, "timestamp": "2026-01-31T12:00:00.000Z", "data": entry.sample}


def _title(config: DeliveryConfig) -> str:
    environment = config.environment
    name = environment.display_name if environment is not None else None
    return f"{name or config.namespace} webhooks"


def _list(entries: list[EventTypeConfig], *, cursor: str | None, limit: int) -> Response:
    """By type, because a catalog is looked things up in; the cursor is the last type shown."""
    if cursor is not None:
        (last,) = read_cursor("catalog", cursor, values=1)
        entries = [entry for entry in entries if entry.type > last]
    more = len(entries) > limit
    items = [catalog_item(entry) for entry in entries[:limit]]
    next_cursor = write_cursor("catalog", entries[limit - 1].type) if more else None
    return json_response({"items": items, "nextCursor": next_cursor})
