"""What the events that were seen would have become under another configuration: counted, endpoint by endpoint.

Pure. Each event is routed by both configurations, with the rule that routes live ones, so that a difference is the
change's alone and nothing that happened in between.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Final

import msgspec

from hookstead.config.model import DeliveryConfig
from hookstead.delivery.event_catalog import Catalog, ValidatorCache
from hookstead.delivery.intake import IncomingEvent
from hookstead.delivery.routing import Router
from hookstead.resources.event_filter import EventView
from hookstead.resources.kinds import EventValidation, Lifecycle


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenEvent:
    """An event as the gateway tells it. `timestamp` is JSON; `data` is None where it is not known."""

    id: str
    type: str
    channels: tuple[str, ...]
    timestamp: bytes
    data: bytes | None


class EndpointForecast(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Deliveries of one endpoint: by the old and by the new configuration, and how many come and go."""

    name: str
    before: int
    after: int
    added: int
    lost: int


class Forecast(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The sum. `undecided` events were left out: a payload that had to be looked at is gone.

    `refused`: events by type that the new configuration would not have taken, and the old one did.
    """

    events: int
    undecided: int
    endpoints: tuple[EndpointForecast, ...]
    refused: dict[str, int]


class PayloadNeeded(Exception):
    """A filter or a schema has to see the payload."""


class Forecaster:
    """Counts events one by one. `became`: the endpoints that got each event, by its id, instead of routing by `old`."""

    def __init__(
        self, old: DeliveryConfig, new: DeliveryConfig, *, became: Mapping[str, Collection[str]] | None = None
    ) -> None:
        validators = ValidatorCache()
        self._became: Final = became
        self._old: Final = Router(old)
        self._new: Final = Router(new)
        self._old_catalog: Final = Catalog(old, validators)
        self._new_catalog: Final = Catalog(new, validators)
        self._events = 0
        self._undecided = 0
        self._before: Counter[str] = Counter()
        self._after: Counter[str] = Counter()
        self._added: Counter[str] = Counter()
        self._lost: Counter[str] = Counter()
        self._refused: Counter[str] = Counter()

    def needs_payload(self, event: SeenEvent) -> bool:
        """Whether its payload decides anything, under either configuration."""
        try:
            self._judge(event)
        except PayloadNeeded:
            return True
        return False

    def add(self, event: SeenEvent) -> None:
        """Count one event; one whose payload is needed and unknown counts as undecided."""
        try:
            before, after, refused = self._judge(event)
        except PayloadNeeded:
            self._undecided += 1
            return
        self._events += 1
        self._refused[event.type] += refused
        self._before.update(before)
        self._after.update(after)
        self._added.update(after - before)
        self._lost.update(before - after)

    def result(self) -> Forecast:
        """The sum so far, endpoints by name; those that get nothing either way are left out."""
        return Forecast(
            events=self._events,
            undecided=self._undecided,
            endpoints=tuple(
                EndpointForecast(
                    name=name,
                    before=self._before[name],
                    after=self._after[name],
                    added=self._added[name],
                    lost=self._lost[name],
                )
                for name in sorted(self._before.keys() | self._after.keys())
            ),
            refused={name: count for name, count in sorted(self._refused.items()) if count},
        )

    def _judge(self, event: SeenEvent) -> tuple[set[str], set[str], bool]:
        if self._became is None:
            before = self._routed(self._old, event)
        else:
            before = set(self._became.get(event.id, ()))
        if self._is_refused(event):
            return before, set(), True
        return before, self._routed(self._new, event), False

    def _routed(self, router: Router, event: SeenEvent) -> set[str]:
        route = router.route(event.type, event.channels, lambda: _view(event))
        return {endpoint.identity.name for endpoint in route.endpoints}

    def _is_refused(self, event: SeenEvent) -> bool:
        """By the new catalog under Enforce. What the old one enforced in the same words has let it pass before."""
        catalog, earlier_catalog = self._new_catalog, self._old_catalog
        if catalog.validation is not EventValidation.ENFORCE:
            return False
        entry, earlier = catalog.entries.get(event.type), earlier_catalog.entries.get(event.type)
        if entry is None or entry.lifecycle is Lifecycle.ARCHIVED:
            return True
        was_enforced = earlier is not None and earlier_catalog.validation is EventValidation.ENFORCE
        if entry.schema is None or (was_enforced and earlier is not None and entry.schema == earlier.schema):
            return False
        if event.data is None:
            raise PayloadNeeded
        return catalog.check(IncomingEvent(type=event.type, channels=event.channels, data=event.data)) is not None


def _view(event: SeenEvent) -> EventView:
    if event.data is None:
        raise PayloadNeeded
    return EventView(type=event.type, channels=event.channels, id=event.id, timestamp=event.timestamp, data=event.data)
