"""What the gateway really saw: events with their payloads where one is needed, and pending deliveries."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import msgspec

from hookstead.cli.client import RefusedError
from hookstead.delivery.forecast import Forecast, Forecaster, SeenEvent

if TYPE_CHECKING:
    from hookstead.cli.client import Gateway
    from hookstead.config.model import DeliveryConfig

_GONE: Final = (404, 410)


def replay(
    gateway: Gateway, old: DeliveryConfig, new: DeliveryConfig, *, since: str, limit: int, as_it_was: bool = False
) -> tuple[Forecast, bool]:
    """Counts of the newest `limit` events since a time (RFC 3339), and whether there were more.

    `as_it_was`: what came of them before is read from their deliveries instead of from `old`. Raises CommandError.
    """
    forecaster = Forecaster(old, new, became=_became(gateway, since) if as_it_was else None)
    is_cut = False
    for number, item in enumerate(gateway.items("events", limit=limit + 1, since=since)):
        if number == limit:
            is_cut = True
            break
        event = _seen(item)
        if forecaster.needs_payload(event):
            event = replace(event, data=_payload(gateway, event.id))
        forecaster.add(event)
    return forecaster.result(), is_cut


def _became(gateway: Gateway, since: str) -> dict[str, set[str]]:
    """The endpoints that got a delivery of each event."""
    found: dict[str, set[str]] = defaultdict(set)
    for item in gateway.items("deliveries", limit=None, since=since):
        found[item["eventId"]].add(item["endpoint"])
    return found


def pending(gateway: Gateway) -> dict[str, int]:
    """Deliveries that are pending, by endpoint. Raises CommandError."""
    items = gateway.items("endpoints", limit=None)
    return {item["name"]: (item.get("activity") or {}).get("pending", 0) for item in items}


def _seen(item: dict[str, Any]) -> SeenEvent:
    return SeenEvent(
        id=item["id"],
        type=item["type"],
        channels=tuple(item.get("channels") or ()),
        timestamp=msgspec.json.encode(item.get("timestamp")),
        data=None,
    )


def _payload(gateway: Gateway, event_id: str) -> bytes | None:
    """As JSON; None where it was erased or has run out since the list was read."""
    try:
        event = gateway.get("events", event_id)
    except RefusedError as refused:
        if refused.status in _GONE:
            return None
        raise
    return None if event.get("payloadErased") else msgspec.json.encode(event.get("data"))
