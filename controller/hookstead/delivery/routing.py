"""Selection: which endpoints get an event. Contract section 2, and nothing else decides it.

An index over channels and types makes the cost of an event depend on who may match, not on how many endpoints exist.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from hookstead.config.event_patterns import prefix_of
from hookstead.config.model import DeliveryConfig, EndpointConfig
from hookstead.resources.event_filter import EventFilter, EventView, FilterError, compile_filter
from hookstead.resources.kinds import EndpointState

_REMEMBERED_FILTERS: Final = 16_384
"""More than an environment may have endpoints (10,000): with one too few all of them are compiled again (1.2 s)."""
_REMEMBERED_CHANNELS: Final = 4
_REMEMBERED_ROUTES: Final = 4096


@dataclass(frozen=True, slots=True)
class Route:
    """The endpoints that get one event, by name; `filter_errors` names those whose filter failed on it."""

    endpoints: tuple[EndpointConfig, ...] = ()
    filter_errors: tuple[str, ...] = ()


def gets_new_events(endpoint: EndpointConfig) -> bool:
    """Whether an endpoint takes part in selection at all. Paused ones do: their events are queued."""
    return endpoint.verdict.is_accepted and endpoint.state is not EndpointState.DISABLED


@functools.lru_cache(maxsize=_REMEMBERED_FILTERS)
def _compiled(text: str) -> EventFilter | None:
    """Kept across configurations: a change of one endpoint must not compile the filters of all.

    None where this version cannot compile what the operator's could: it matches nothing, and blocks no other endpoint.
    """
    try:
        return compile_filter(text)
    except FilterError:
        return None


class Router:
    """The selection rule over one configuration. `route` is pure; the same event gives the same route."""

    def __init__(self, config: DeliveryConfig) -> None:
        self._every_channel = _TypeIndex()
        self._by_channel: dict[str, _TypeIndex] = {}
        self._filters: dict[str, EventFilter | None] = {}
        self._remembered: dict[tuple[str, ...], tuple[EndpointConfig, ...]] = {}
        for endpoint in config.endpoints if config.enabled else ():
            if gets_new_events(endpoint):
                self._add(endpoint)

    def _add(self, endpoint: EndpointConfig) -> None:
        if endpoint.filter is not None:
            self._filters[endpoint.identity.name] = _compiled(endpoint.filter)
        if endpoint.channels is None:
            self._every_channel.add(endpoint)
            return
        for channel in endpoint.channels:
            self._by_channel.setdefault(channel, _TypeIndex()).add(endpoint)

    def route(self, event_type: str, channels: Sequence[str], view_of: Callable[[], EventView]) -> Route:
        """Who gets an event of this type in these channels. `view_of` makes what filters see, if one has to look."""
        candidates = self._candidates(event_type, channels)
        if not candidates:
            return _NOBODY
        if not self._filters:
            return Route(candidates)
        return self._filtered(candidates, view_of)

    def _candidates(self, event_type: str, channels: Sequence[str]) -> tuple[EndpointConfig, ...]:
        """By type and channel alone, by name. Short lists of channels are remembered: producers repeat themselves."""
        if len(channels) > _REMEMBERED_CHANNELS:
            return self._look_up(event_type, channels)
        key = (event_type, *channels)
        found = self._remembered.get(key)
        if found is None:
            if len(self._remembered) >= _REMEMBERED_ROUTES:
                self._remembered.clear()
            found = self._remembered[key] = self._look_up(event_type, channels)
        return found

    def _look_up(self, event_type: str, channels: Sequence[str]) -> tuple[EndpointConfig, ...]:
        found = {endpoint.identity.name: endpoint for endpoint in self._every_channel.matching(event_type)}
        for channel in channels:
            index = self._by_channel.get(channel)
            if index is not None:
                found.update((endpoint.identity.name, endpoint) for endpoint in index.matching(event_type))
        return tuple(found[name] for name in sorted(found))

    def _filtered(self, candidates: tuple[EndpointConfig, ...], view_of: Callable[[], EventView]) -> Route:
        chosen: list[EndpointConfig] = []
        errors: list[str] = []
        view: EventView | None = None
        for endpoint in candidates:
            if endpoint.filter is None:
                chosen.append(endpoint)
                continue
            condition = self._filters[endpoint.identity.name]
            view = view or view_of()
            matched = None if condition is None else condition.matches(view)
            if matched is None:
                errors.append(endpoint.identity.name)
            elif matched:
                chosen.append(endpoint)
        return Route(tuple(chosen), tuple(errors))


_NOBODY: Final = Route()


@dataclass(slots=True)
class _TypeIndex:
    """Endpoints by what they say of types: everything, exact names, prefixes (with their dot)."""

    every: list[EndpointConfig] = field(default_factory=list)
    exact: dict[str, list[EndpointConfig]] = field(default_factory=dict)
    prefix: dict[str, list[EndpointConfig]] = field(default_factory=dict)

    def add(self, endpoint: EndpointConfig) -> None:
        if endpoint.event_types is None:
            self.every.append(endpoint)
            return
        for pattern in endpoint.event_types:
            prefix = prefix_of(pattern)
            if prefix is None:
                self.exact.setdefault(pattern, []).append(endpoint)
            else:
                self.prefix.setdefault(prefix, []).append(endpoint)

    def matching(self, event_type: str) -> Iterator[EndpointConfig]:
        yield from self.every
        yield from self.exact.get(event_type, ())
        if self.prefix:
            position = event_type.find(".")
            while position >= 0:
                yield from self.prefix.get(event_type[: position + 1], ())
                position = event_type.find(".", position + 1)
