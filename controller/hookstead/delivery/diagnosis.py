"""Why an endpoint gets an event, or does not: the rule of the contract's section 2, a sentence at a time. Pure.

Each sentence is judged by the router itself, on a configuration that differs from the rule in nothing else.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import msgspec

from hookstead.config.model import DeliveryConfig, EndpointConfig, EnvironmentConfig, Finding, Identity, Verdict
from hookstead.config.times import format_time, parse_time
from hookstead.delivery.routing import Router
from hookstead.resources.conditions import Reason
from hookstead.resources.event_filter import EventView
from hookstead.resources.kinds import EndpointState, EnvironmentState
from hookstead.resources.suggestion import did_you_mean


class Rule(StrEnum):
    """The parts of the rule, in its own order."""

    ENVIRONMENT = "environment"
    ACCEPTED = "accepted"
    STATE = "state"
    EVENT_TYPES = "eventTypes"
    CHANNEL_REFS = "channelRefs"
    FILTER = "filter"
    TIME = "time"


SENTENCES: Final = {
    Rule.ENVIRONMENT: "the environment is enabled",
    Rule.ACCEPTED: "an endpoint that is not Accepted gets no new events",
    Rule.STATE: "the endpoint is not Disabled",
    Rule.EVENT_TYPES: "its eventTypes is absent or covers the type",
    Rule.CHANNEL_REFS: "its channelRefs is absent or one of its channels' names is among the event's channels",
    Rule.FILTER: "its filter (if any) is true",
    Rule.TIME: "selection is decided at acceptance",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class DiagnosedEvent:
    """An event that was accepted (`accepted_ms`), or one that might be. `data` None: not known."""

    type: str
    channels: tuple[str, ...]
    id: str = ""
    timestamp: bytes = b'""'
    data: bytes | None = None
    accepted_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Check:
    """One sentence and whether it lets the event through; None: only the event's data could tell."""

    rule: Rule
    passed: bool | None
    detail: str

    @property
    def sentence(self) -> str:
        return SENTENCES[self.rule]


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """Every check, in the rule's order."""

    checks: tuple[Check, ...]

    @property
    def excluded_by(self) -> Check | None:
        """The first sentence that keeps the event from the endpoint."""
        return next((check for check in self.checks if check.passed is False), None)

    @property
    def selected(self) -> bool | None:
        """Whether the endpoint gets the event; None: that depends on data which is not known."""
        if self.excluded_by is not None:
            return False
        return None if any(check.passed is None for check in self.checks) else True


def diagnose(config: DeliveryConfig, endpoint: EndpointConfig, event: DiagnosedEvent) -> Diagnosis:
    """What each sentence says of this endpoint and this event, by the configuration given."""
    return Diagnosis(tuple(check(config, endpoint, event) for check in _CHECKS))


def _environment(config: DeliveryConfig, endpoint: EndpointConfig, event: DiagnosedEvent) -> Check:
    found = config.environment
    if found is None:
        return Check(Rule.ENVIRONMENT, False, f'no WebhookEnvironment "default" in namespace {config.namespace}')
    return Check(Rule.ENVIRONMENT, found.enabled, f"spec.state of WebhookEnvironment default is {found.state}")


def _accepted(config: DeliveryConfig, endpoint: EndpointConfig, event: DiagnosedEvent) -> Check:
    finding = endpoint.verdict.accepted
    return Check(Rule.ACCEPTED, endpoint.verdict.is_accepted, f"{finding.reason}: {finding.message}".removesuffix(": "))


def _state(config: DeliveryConfig, endpoint: EndpointConfig, event: DiagnosedEvent) -> Check:
    queued = ": the event is queued" if endpoint.state is EndpointState.PAUSED else ""
    return Check(Rule.STATE, endpoint.state is not EndpointState.DISABLED, f"spec.state is {endpoint.state}{queued}")


def _event_types(config: DeliveryConfig, endpoint: EndpointConfig, event: DiagnosedEvent) -> Check:
    patterns = endpoint.event_types
    if patterns is None:
        return Check(Rule.EVENT_TYPES, True, "spec.eventTypes is absent: every type")
    passed = _routed(msgspec.structs.replace(endpoint, channels=None, filter=None), event)
    detail = f"spec.eventTypes has {_some(patterns)}; the event is {event.type}"
    if not passed:
        detail += did_you_mean(event.type, (one for one in patterns if not one.endswith(".*")))
        if f"{event.type}.*" in patterns:
            detail += f": {event.type}.* does not cover {event.type} itself"
    return Check(Rule.EVENT_TYPES, passed, detail)


def _channel_refs(config: DeliveryConfig, endpoint: EndpointConfig, event: DiagnosedEvent) -> Check:
    channels = endpoint.channels
    if channels is None:
        return Check(Rule.CHANNEL_REFS, True, "spec.channelRefs is absent: the events of every channel, and of none")
    passed = _routed(msgspec.structs.replace(endpoint, event_types=None, filter=None), event)
    if not channels:
        resolved = endpoint.verdict.resolved
        why = "" if endpoint.verdict.is_resolved else f" ({resolved.reason}: {resolved.message})"
        return Check(Rule.CHANNEL_REFS, passed, f"spec.channelRefs names no channel that is declared and enabled{why}")
    theirs = f"the event is for {_some(event.channels)}" if event.channels else "the event has no channels"
    detail = f"spec.channelRefs leads to {_some(channels)}; {theirs}"
    if not passed:
        declared = [one.channel_name for one in config.channels if one.verdict.is_accepted]
        detail += "".join(
            f": no WebhookChannel declares {name!r}{did_you_mean(name, declared)}"
            for name in event.channels[:3]
            if name not in declared
        )
    return Check(Rule.CHANNEL_REFS, passed, detail)


def _filter(config: DeliveryConfig, endpoint: EndpointConfig, event: DiagnosedEvent) -> Check:
    if endpoint.filter is None:
        return Check(Rule.FILTER, True, "spec.filter is absent")
    if event.data is None:
        return Check(Rule.FILTER, None, f"spec.filter is {endpoint.filter}; the event's data are not known")
    alone = _only(msgspec.structs.replace(endpoint, channels=None, event_types=None))
    route = Router(alone).route(event.type, event.channels, lambda: _view(event))
    if route.filter_errors:
        return Check(
            Rule.FILTER, False, f"spec.filter is {endpoint.filter}, which fails on this event: has() asks for members"
        )
    passed = bool(route.endpoints)
    return Check(Rule.FILTER, passed, f"spec.filter is {endpoint.filter}, which is {str(passed).lower()} here")


def _time(config: DeliveryConfig, endpoint: EndpointConfig, event: DiagnosedEvent) -> Check:
    created = endpoint.identity.creation_time
    if event.accepted_ms is None:
        return Check(Rule.TIME, True, "by the configuration as it is now")
    accepted = format_time(event.accepted_ms)
    # A creation time has whole seconds: within the same one nobody knows who was first.
    if created is not None and parse_time(created) > event.accepted_ms:
        return Check(
            Rule.TIME, False, f"the event was accepted at {accepted}, before the endpoint was created at {created}"
        )
    return Check(Rule.TIME, True, f"the event was accepted at {accepted}; the endpoint is judged as it is now")


_CHECKS: Final[tuple[Callable[[DeliveryConfig, EndpointConfig, DiagnosedEvent], Check], ...]] = (
    _environment,
    _accepted,
    _state,
    _event_types,
    _channel_refs,
    _filter,
    _time,
)

_FINE: Final = Verdict(accepted=Finding(reason=Reason.ACCEPTED), resolved=Finding(reason=Reason.RESOLVED_REFS))
_ENABLED: Final = EnvironmentConfig(identity=Identity(name="default"), verdict=_FINE, state=EnvironmentState.ENABLED)


def _routed(endpoint: EndpointConfig, event: DiagnosedEvent) -> bool:
    return bool(Router(_only(endpoint)).route(event.type, event.channels, lambda: _view(event)).endpoints)


def _only(endpoint: EndpointConfig) -> DeliveryConfig:
    """The endpoint alone, accepted and enabled: what is left is its own selection."""
    open_to_all = msgspec.structs.replace(endpoint, verdict=_FINE, state=EndpointState.ENABLED)
    return DeliveryConfig(namespace="", environment=_ENABLED, endpoints=(open_to_all,))


def _view(event: DiagnosedEvent) -> EventView:
    data = b"null" if event.data is None else event.data
    return EventView(type=event.type, channels=event.channels, id=event.id, timestamp=event.timestamp, data=data)


def _some(names: tuple[str, ...]) -> str:
    return ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
