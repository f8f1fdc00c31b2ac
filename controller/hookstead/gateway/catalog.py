"""`GET /v1/catalog`: the event catalog as a list or a document; and which object declares which type."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from hookstead.config.catalog_documents import (
    accepted_types,
    asyncapi_document,
    catalog_item,
    catalog_title,
    openapi_document,
)
from hookstead.config.model import DeliveryConfig, EventTypeConfig
from hookstead.gateway.cursors import read_cursor, write_cursor
from hookstead.gateway.exchange import Request, Response, json_response
from hookstead.gateway.objects import unconfigured
from hookstead.gateway.parameters import Parameters
from hookstead.resources.conditions import Reason


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
                return json_response(openapi_document(entries, title=catalog_title(config)))
            case CatalogFormat.ASYNCAPI:
                return json_response(asyncapi_document(entries, title=catalog_title(config)))
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


def _list(entries: list[EventTypeConfig], *, cursor: str | None, limit: int) -> Response:
    """By type, because a catalog is looked things up in; the cursor is the last type shown."""
    if cursor is not None:
        (last,) = read_cursor("catalog", cursor, values=1)
        entries = [entry for entry in entries if entry.type > last]
    more = len(entries) > limit
    items = [catalog_item(entry) for entry in entries[:limit]]
    next_cursor = write_cursor("catalog", entries[limit - 1].type) if more else None
    return json_response({"items": items, "nextCursor": next_cursor})
