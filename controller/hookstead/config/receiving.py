"""Which new events an endpoint gets, in one state of its environment, and how two states differ in that."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

import msgspec

from hookstead.config.event_patterns import covered, prefix_of
from hookstead.config.model import DeliveryConfig, EndpointConfig
from hookstead.resources.conditions import Reason
from hookstead.resources.kinds import ChannelState, EndpointState, EventValidation, Lifecycle

EVERY_OTHER: Final = "*"
"""In a list of names: every name that is not known here as well, and for channels events without one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reach:
    """What an endpoint gets. None is everything; `nothing` is why it gets nothing at all, else empty."""

    event_types: tuple[str, ...] | None = None
    channels: tuple[str, ...] | None = None
    nothing: str = ""


class NameChanges(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What is selected before and after (None: everything), and the known names that come and go."""

    before: tuple[str, ...] | None = ()
    after: tuple[str, ...] | None = ()
    started: tuple[str, ...] = ()
    stopped: tuple[str, ...] = ()


NO_CHANGE: Final = NameChanges()


def reach_of(endpoint: EndpointConfig | None, config: DeliveryConfig) -> Reach:
    """The reach of an endpoint; of one that does not exist, nothing."""
    nothing = _why_nothing(endpoint, config)
    if endpoint is None or nothing:
        return Reach(event_types=(), channels=(), nothing=nothing)
    return Reach(event_types=endpoint.event_types, channels=endpoint.channels)


def _why_nothing(endpoint: EndpointConfig | None, config: DeliveryConfig) -> str:
    """As a reason of `Active`, `Accepted` or `ResolvedRefs`; contract, section 2."""
    if endpoint is None:
        return "EndpointMissing"
    if config.environment is None:
        return Reason.ENVIRONMENT_MISSING.value
    if not config.enabled:
        return Reason.ENVIRONMENT_DISABLED.value
    if not endpoint.verdict.is_accepted:
        return endpoint.verdict.accepted.reason.value
    if endpoint.state is EndpointState.DISABLED:
        return Reason.ENDPOINT_DISABLED.value
    if endpoint.channels == ():
        resolved = endpoint.verdict.resolved.reason
        return Reason.CHANNEL_NOT_FOUND.value if resolved is Reason.CHANNEL_NOT_FOUND else "ChannelDisabled"
    return ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Names:
    """What may be published in one state: known types, those usable where only declared ones are, known channels."""

    types: frozenset[str]
    usable: frozenset[str] | None
    channels: frozenset[str]


def names_of(config: DeliveryConfig) -> Names:
    """Every type that is declared or named anywhere, and every enabled channel."""
    declared = [entry for entry in config.event_types if entry.verdict.is_accepted]
    environment = config.environment
    is_strict = environment is not None and environment.event_validation is EventValidation.ENFORCE
    named = {name for one in config.endpoints for name in one.event_types or () if prefix_of(name) is None}
    return Names(
        types=frozenset({entry.type for entry in declared} | named),
        usable=frozenset(entry.type for entry in declared if entry.lifecycle is not Lifecycle.ARCHIVED)
        if is_strict
        else None,
        channels=frozenset(
            channel.channel_name
            for channel in config.channels
            if channel.verdict.is_accepted and channel.state is ChannelState.ENABLED
        ),
    )


class Comparison:
    """The reach of endpoints in two states of one environment."""

    def __init__(self, old: DeliveryConfig, new: DeliveryConfig) -> None:
        self._old: Final = names_of(old)
        self._new: Final = names_of(new)
        self._types: Final = sorted(self._old.types | self._new.types)
        self._channels: Final = self._old.channels | self._new.channels

    def types(self, before: Reach, after: Reach) -> NameChanges:
        """Event types that an endpoint starts and stops to get, among those that are known."""
        if before.event_types == after.event_types and self._old.usable == self._new.usable:
            return NameChanges(before=before.event_types, after=after.event_types)
        had = self._possible(before.event_types, self._old)
        has = self._possible(after.event_types, self._new)
        opened, opens = before.event_types, after.event_types
        if (self._old.usable is None) != (self._new.usable is None):  # a pattern opens no undeclared name to Enforce
            opened = opened if self._old.usable is None else ()
            opens = opens if self._new.usable is None else ()
        return NameChanges(
            before=before.event_types,
            after=after.event_types,
            started=(*_new_patterns(opened, opens), *sorted(has - had)),
            stopped=(*_new_patterns(opens, opened), *sorted(had - has)),
        )

    def channels(self, before: Reach, after: Reach) -> NameChanges:
        """Channels whose events an endpoint starts and stops to get."""
        if before.channels == after.channels:
            return NameChanges(before=before.channels, after=after.channels)
        had = self._channels if before.channels is None else {*before.channels}
        has = self._channels if after.channels is None else {*after.channels}
        opens = after.channels is None and before.channels is not None
        closes = before.channels is None and after.channels is not None
        return NameChanges(
            before=before.channels,
            after=after.channels,
            started=((EVERY_OTHER,) if opens else ()) + tuple(sorted(has - had)),
            stopped=((EVERY_OTHER,) if closes else ()) + tuple(sorted(had - has)),
        )

    def _possible(self, patterns: tuple[str, ...] | None, names: Names) -> set[str]:
        """Those of the known types that the patterns cover and that may be published: under Enforce, not all may."""
        chosen: Collection[str] = covered(patterns, self._types)
        return set(chosen) if names.usable is None else set(chosen) & names.usable


def _new_patterns(before: tuple[str, ...] | None, after: tuple[str, ...] | None) -> tuple[str, ...]:
    """What `after` opens beyond single names: everything, or prefixes that no pattern of `before` covers."""
    if before is None:
        return ()
    if after is None:
        return (EVERY_OTHER,)
    held = [prefix for pattern in before if (prefix := prefix_of(pattern)) is not None]
    return tuple(
        pattern
        for pattern in after
        if (prefix := prefix_of(pattern)) is not None and not any(prefix.startswith(wider) for wider in held)
    )
