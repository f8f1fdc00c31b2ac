"""What is wrong with an environment as a whole: the verdicts as findings, and what no single verdict tells.

Pure. Errors are what the operator would refuse or could not resolve; warnings are what it accepts and somebody
probably did not mean.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import Enum, StrEnum
from typing import Final, TypeAlias, TypeVar

from hookstead.config.compile import Compiled, Inputs, Rejected
from hookstead.config.event_patterns import covers, prefix_of
from hookstead.config.model import ChannelConfig, EndpointConfig, EventTypeConfig, Finding, Verdict
from hookstead.resources.conditions import Reason
from hookstead.resources.kinds import (
    Channel,
    ChannelState,
    Endpoint,
    EndpointState,
    EventType,
    EventValidation,
    Kind,
    Lifecycle,
    kind_of,
)
from hookstead.resources.problem import Problem, field_path
from hookstead.resources.schema_typos import unknown_keywords
from hookstead.resources.suggestion import did_you_mean


class Severity(Enum):
    """Whether the operator would mind."""

    ERROR = "error"
    WARNING = "warning"


class Rule(StrEnum):
    """The findings that are no condition's reason; stable, for programs."""

    ENVIRONMENT_MISSING = "EnvironmentMissing"
    EVENT_TYPE_NOT_FOUND = "EventTypeNotFound"
    NEVER_MATCHES = "NeverMatches"
    CHANNEL_UNUSED = "ChannelUnused"
    EVENT_TYPE_ARCHIVED = "EventTypeArchived"
    REPLACEMENT_NOT_FOUND = "ReplacementNotFound"
    REDUNDANT_EVENT_TYPE = "RedundantEventType"
    UNKNOWN_KEYWORD = "UnknownKeyword"


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """One finding. `rule` is a condition's reason or one of Rule."""

    severity: Severity
    rule: str
    problem: Problem


@dataclass(frozen=True, slots=True)
class _World:
    """The environment, by the names that objects use for each other."""

    inputs: Inputs
    compiled: Compiled
    channels: dict[str, ChannelConfig]
    types: dict[str, EventTypeConfig]
    endpoints: dict[str, EndpointConfig]

    @property
    def validation(self) -> EventValidation:
        environment = self.compiled.config.environment
        return EventValidation.WARN if environment is None else environment.event_validation


_T = TypeVar("_T")
Check: TypeAlias = Callable[[Endpoint, _World], Iterator[Notice]]

_FIELD: Final = re.compile(r"((?:spec|metadata)(?:\.\w+|\[\d+\])*): (.*)", re.DOTALL)
_INNER: Final = re.compile(r'((?:[\w$-]+|\["[^"]*"\])(?:\.[\w$-]+|\[\d+\]|\["[^"]*"\])*): (.*)', re.DOTALL)
_WITH_INNER_PATHS: Final = (Reason.SCHEMA_INVALID, Reason.SAMPLE_INVALID)
"""Their messages go on with a path within the schema or the sample."""


def lint(inputs: Inputs, compiled: Compiled) -> tuple[Notice, ...]:
    """Every finding, by kind and name, then errors first.

    `compiled` is what `compile_environment(inputs)` gave. Where there is no WebhookEnvironment every object has that
    as its verdict, which hides the rest: compile with a stand-in to see it.
    """
    config = compiled.config
    world = _World(
        inputs=inputs,
        compiled=compiled,
        channels={channel.identity.name: channel for channel in config.channels},
        types={entry.type: entry for entry in config.event_types if entry.verdict.is_accepted},
        endpoints={endpoint.identity.name: endpoint for endpoint in config.endpoints},
    )
    notices = [*_verdicts(world), *_endpoints(world), *_unused_channels(world), *_replacements(world)]
    notices += _misspelt_keywords(world)
    return tuple(sorted(notices, key=_order))


def missing_environment(namespace: str) -> Notice:
    """The one finding for a namespace without a WebhookEnvironment."""
    return _warning(
        Rule.ENVIRONMENT_MISSING,
        Kind.ENVIRONMENT,
        "default",
        "",
        f'no WebhookEnvironment "default" in namespace {namespace} among these manifests: without one nothing is '
        "accepted or delivered there. The rest was checked as if there were one.",
    )


def _order(notice: Notice) -> tuple[str, str, bool, str, str]:
    problem = notice.problem
    return (
        problem.kind,
        problem.name,
        notice.severity is not Severity.ERROR,
        problem.field,
        problem.message,
    )


# --------------------------------------------------------------------------------------------------- verdicts


def _verdicts(world: _World) -> Iterator[Notice]:
    config = world.compiled.config
    rejected = _rejected(world.inputs)
    environment = [] if config.environment is None else [config.environment]
    for kind, items in (
        (Kind.ENVIRONMENT, environment),
        (Kind.ENDPOINT, config.endpoints),
        (Kind.CHANNEL, config.channels),
        (Kind.EVENT_TYPE, config.event_types),
        (Kind.REPLAY, config.replays),
    ):
        for item in items:
            refused = rejected.get((kind, item.identity.name))
            if refused is None:
                yield from _of_verdict(kind, item.identity.name, item.verdict)
            else:
                yield from (
                    Notice(severity=Severity.ERROR, rule=problem.reason.value, problem=problem)
                    for problem in refused.problems
                )


def _rejected(inputs: Inputs) -> dict[tuple[Kind, str], Rejected]:
    groups = (inputs.environments, inputs.endpoints, inputs.channels, inputs.event_types, inputs.replays)
    return {(item.kind, item.meta.name): item for group in groups for item in group if isinstance(item, Rejected)}


def _of_verdict(kind: Kind, name: str, verdict: Verdict) -> Iterator[Notice]:
    if not verdict.is_accepted:
        yield _of_finding(kind, name, verdict.accepted)
    if not verdict.is_resolved:
        yield _of_finding(kind, name, verdict.resolved)


def _of_finding(kind: Kind, name: str, finding: Finding) -> Notice:
    match = _FIELD.fullmatch(finding.message)
    field, message = match.groups() if match else ("", finding.message)
    inner = _INNER.fullmatch(message) if finding.reason in _WITH_INNER_PATHS else None
    if inner is not None:
        field, message = f"{field}{'' if inner[1].startswith('[') else '.'}{inner[1]}", inner[2]
    return Notice(
        severity=Severity.ERROR,
        rule=finding.reason.value,
        problem=Problem(kind=kind.value, name=name, field=field, message=message, reason=finding.reason),
    )


# -------------------------------------------------------------------------------------------------- endpoints


def _endpoints(world: _World) -> Iterator[Notice]:
    for item in world.inputs.endpoints:
        if isinstance(item, Endpoint):
            for check in _ENDPOINT_CHECKS:
                yield from check(item, world)


def _further_channels_missing(item: Endpoint, world: _World) -> Iterator[Notice]:
    """The missing channels that the verdict does not name: it tells one reference only."""
    told = world.endpoints[item.meta.name].verdict.resolved.message
    for index, ref in enumerate(item.spec.channel_refs or ()):
        field = f"spec.channelRefs[{index}].name"
        if ref.name not in world.channels and not told.startswith(f"{field}: "):
            yield _error(
                Reason.CHANNEL_NOT_FOUND,
                item,
                field,
                f"no WebhookChannel {ref.name!r} in namespace {world.inputs.namespace}"
                f"{did_you_mean(ref.name, world.channels)}.",
            )


def _further_types_missing(item: Endpoint, world: _World) -> Iterator[Notice]:
    """Names of event types that nobody declares; under None the operator does not mind."""
    told = world.endpoints[item.meta.name].verdict.resolved.message
    for index, name in enumerate(item.spec.event_types or ()):
        field = f"spec.eventTypes[{index}]"
        if prefix_of(name) is not None or name in world.types or told.startswith(f"{field}: "):
            continue
        message = f"no WebhookEventType declares {name!r}{did_you_mean(name, world.types)}."
        if world.validation is EventValidation.NONE:
            text = f"{message} Under eventValidation: None it still matches events of that type."
            yield _warning(Rule.EVENT_TYPE_NOT_FOUND, Kind.ENDPOINT, item.meta.name, field, text)
        else:
            yield _error(Reason.EVENT_TYPE_NOT_FOUND, item, field, message)


def _archived_types(item: Endpoint, world: _World) -> Iterator[Notice]:
    for index, name in enumerate(item.spec.event_types or ()):
        entry = world.types.get(name)
        if entry is not None and entry.lifecycle is Lifecycle.ARCHIVED:
            instead = f" Its replacement is {entry.replaced_by!r}." if entry.replaced_by else ""
            yield _warning(
                Rule.EVENT_TYPE_ARCHIVED,
                Kind.ENDPOINT,
                item.meta.name,
                f"spec.eventTypes[{index}]",
                f"event type {name!r} is Archived: producers are to send it no more.{instead}",
            )


def _redundant_types(item: Endpoint, _world: _World) -> Iterator[Notice]:
    entries = item.spec.event_types or ()
    wildcards = [entry for entry in entries if prefix_of(entry) is not None]
    for index, name in enumerate(entries):
        wider = next((entry for entry in wildcards if entry != name and covers((entry,), name)), None)
        if wider is not None:
            yield _warning(
                Rule.REDUNDANT_EVENT_TYPE,
                Kind.ENDPOINT,
                item.meta.name,
                f"spec.eventTypes[{index}]",
                f"{name!r} is covered by {wider!r} already: remove one of the two.",
            )


def _prefixes_without_types(item: Endpoint, world: _World) -> Iterator[Notice]:
    """A prefix under which nothing is declared: a slip of the pen, unless events need not be declared."""
    if world.validation is EventValidation.NONE:
        return
    for index, name in enumerate(item.spec.event_types or ()):
        if prefix_of(name) is not None and not any(covers((name,), declared) for declared in world.types):
            yield _warning(
                Rule.NEVER_MATCHES,
                Kind.ENDPOINT,
                item.meta.name,
                f"spec.eventTypes[{index}]",
                f"no declared event type begins with {name[:-1]!r}, so it matches nothing that the catalog has.",
            )


def _receives_nothing(item: Endpoint, world: _World) -> Iterator[Notice]:
    """All channels are there, and all are switched off."""
    if item.spec.state is EndpointState.DISABLED or item.spec.channel_refs is None:
        return
    channels = [world.channels.get(ref.name) for ref in item.spec.channel_refs]
    if all(channel is not None and channel.state is ChannelState.DISABLED for channel in channels):
        yield _warning(
            Rule.NEVER_MATCHES,
            Kind.ENDPOINT,
            item.meta.name,
            "spec.channelRefs",
            "every channel that it names is Disabled, so it receives nothing: enable one, or disable the endpoint.",
        )


_ENDPOINT_CHECKS: Final[tuple[Check, ...]] = (
    _further_channels_missing,
    _further_types_missing,
    _archived_types,
    _redundant_types,
    _prefixes_without_types,
    _receives_nothing,
)


# ------------------------------------------------------------------------------------ channels and event types


def _unused_channels(world: _World) -> Iterator[Notice]:
    """Channels that no endpoint names, where some endpoint names channels, every name fits and all are readable."""
    endpoints = [item for item in world.inputs.endpoints if isinstance(item, Endpoint)]
    if len(endpoints) < len(world.inputs.endpoints):
        return
    used = {ref.name for item in endpoints for ref in item.spec.channel_refs or ()}
    if not used or not used <= world.channels.keys():
        return
    for channel in _typed(world.inputs.channels, Channel):
        if channel.meta.name not in used:
            yield _warning(
                Rule.CHANNEL_UNUSED,
                Kind.CHANNEL,
                channel.meta.name,
                "",
                f"no endpoint names it in spec.channelRefs, so events for {channel.spec.channel_name!r} reach only "
                "endpoints of every channel.",
            )


def _replacements(world: _World) -> Iterator[Notice]:
    for entry in _typed(world.inputs.event_types, EventType):
        wanted = entry.spec.replaced_by
        if wanted is not None and wanted not in world.types:
            yield _warning(
                Rule.REPLACEMENT_NOT_FOUND,
                Kind.EVENT_TYPE,
                entry.meta.name,
                "spec.replacedBy",
                f"no WebhookEventType declares {wanted!r}{did_you_mean(wanted, world.types)}.",
            )


def _misspelt_keywords(world: _World) -> Iterator[Notice]:
    """JSON Schema ignores what it does not know, so a slip there makes a schema that checks less than it seems to."""
    for entry in _typed(world.inputs.event_types, EventType):
        if entry.spec.schema is None:
            continue
        for path, message in unknown_keywords(entry.spec.schema):
            field = field_path(("spec", "schema", *path))
            yield _warning(Rule.UNKNOWN_KEYWORD, Kind.EVENT_TYPE, entry.meta.name, field, message)


def _typed(items: Iterable[object], cls: type[_T]) -> Iterator[_T]:
    return (item for item in items if isinstance(item, cls))


def _error(reason: Reason, item: Endpoint, field: str, message: str) -> Notice:
    kind, name = kind_of(item).value, item.meta.name
    problem = Problem(kind=kind, name=name, field=field, message=message, reason=reason)
    return Notice(severity=Severity.ERROR, rule=reason.value, problem=problem)


def _warning(rule: Rule, kind: Kind, name: str, field: str, message: str) -> Notice:
    problem = Problem(kind=kind.value, name=name, field=field, message=message)
    return Notice(severity=Severity.WARNING, rule=rule.value, problem=problem)
