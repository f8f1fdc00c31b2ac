"""The event catalog as documents: its list items, OpenAPI 3.1 `webhooks`, AsyncAPI 3.0. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from hookstead import __version__
from hookstead.config.model import DeliveryConfig, EventTypeConfig
from hookstead.resources.kinds import Lifecycle

HEADERS: Final = (
    ("webhook-id", "The message's id, the same on every retry: use it to drop duplicates."),
    ("webhook-timestamp", "This attempt's time, in seconds since the Unix epoch."),
    ("webhook-signature", "One or more signatures, separated by spaces, as Standard Webhooks has them."),
)
"""What every delivery carries: name and meaning."""


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


def catalog_title(config: DeliveryConfig) -> str:
    """What the documents are called: after the environment."""
    environment = config.environment
    name = environment.display_name if environment is not None else None
    return f"{name or config.namespace} webhooks"


def openapi_document(entries: Iterable[EventTypeConfig], *, title: str) -> dict[str, Any]:
    """OpenAPI 3.1: one webhook per type, with the payload that StandardWebhooks endpoints receive."""
    return {
        "openapi": "3.1.0",
        "info": {"title": title, "version": __version__, "summary": "Webhooks that this environment sends"},
        "jsonSchemaDialect": "https://json-schema.org/draft/2020-12/schema",
        "webhooks": {entry.type: {"post": _operation(entry)} for entry in sent_types(entries)},
    }


def asyncapi_document(entries: Iterable[EventTypeConfig], *, title: str) -> dict[str, Any]:
    """AsyncAPI 3.0: one channel, its messages the types; the receiver's view."""
    entries = sent_types(entries)
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


def sent_types(entries: Iterable[EventTypeConfig]) -> list[EventTypeConfig]:
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
        media["example"] = payload_sample(entry)
    return {
        "operationId": entry.type,
        "summary": entry.type,
        "description": entry.description,
        "tags": [entry.group] if entry.group else [],
        "deprecated": entry.lifecycle is not Lifecycle.ACTIVE,
        "parameters": [_header(name, text) for name, text in HEADERS],
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
            "required": [name for name, _ in HEADERS],
            "properties": {name: {"type": "string", "description": text} for name, text in HEADERS},
        },
        "payload": payload_schema(entry),
    }
    if entry.group:
        message["tags"] = [{"name": entry.group}]
    if entry.sample is not None:
        message["examples"] = [{"payload": payload_sample(entry)}]
    return message


def _header(name: str, text: str) -> dict[str, Any]:
    return {"name": name, "in": "header", "required": True, "description": text, "schema": {"type": "string"}}


def payload_sample(entry: EventTypeConfig) -> dict[str, Any]:
    """The body that a receiver gets for the entry's sample."""
    return {"type": entry.type, "timestamp": "2026-01-31T12:00:00.000Z", "data": entry.sample}
