"""From the resources of one environment to the configuration that its gateways run.

Pure and total: whatever the objects say, the result is a configuration, in which each object carries its verdict.
One bad object never blocks the rest. The order of the input does not matter.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeAlias, TypeVar

from hookstead.config.catalog import compile_channels, compile_event_types
from hookstead.config.endpoint import EndpointContext, compile_endpoint, signing_secret_name
from hookstead.config.environment import compile_environment_object
from hookstead.config.model import (
    DeliveryConfig,
    EgressPolicy,
    EndpointConfig,
    EnvironmentConfig,
    Finding,
    Identity,
    ReplayConfig,
    Verdict,
)
from hookstead.config.secret_values import SecretObject, SecretReader
from hookstead.config.times import parse_time
from hookstead.config.verdicts import ACCEPTED, RESOLVED, Rejected, identity_of, missing_environment, refusal
from hookstead.resources.conditions import Reason
from hookstead.resources.kinds import (
    Channel,
    DeliverySpec,
    Endpoint,
    Environment,
    EventType,
    EventValidation,
    Kind,
    Replay,
)
from hookstead.resources.suggestion import did_you_mean

__all__ = [
    "Compiled",
    "Inputs",
    "Rejected",
    "SecretObject",
    "compile_environment",
    "signing_secret_name",
]

Object = TypeVar("Object", Environment, Endpoint, Channel, EventType, Replay)
Place: TypeAlias = tuple[Kind, str]

_NO_DEFAULTS: Final = DeliverySpec()


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    """Everything of one namespace. A name occurs once per kind; `secrets` has no entry for what does not exist.

    `last_environment` is the environment's last valid form, kept while it is edited into something invalid.
    `precedence` overrides creation times where two objects claim one wire name: the lower number is the older.
    """

    namespace: str
    environments: Sequence[Environment | Rejected] = ()
    endpoints: Sequence[Endpoint | Rejected] = ()
    channels: Sequence[Channel | Rejected] = ()
    event_types: Sequence[EventType | Rejected] = ()
    replays: Sequence[Replay | Rejected] = ()
    secrets: Mapping[str, SecretObject] = field(default_factory=dict)
    last_environment: EnvironmentConfig | None = None
    allow_loopback: bool = False
    precedence: Mapping[Place, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Compiled:
    """The configuration, the endpoints whose generated Secret does not exist yet, and every Secret that is named."""

    config: DeliveryConfig
    secrets_wanted: tuple[Identity, ...] = ()
    secrets_referenced: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class _Remembered:
    """What an endpoint came to, and from which object and Secrets (None: there was none of that name)."""

    item: Endpoint
    secrets: tuple[tuple[str, SecretObject | None], ...]
    result: EndpointConfig


@dataclass(slots=True)
class Memory:
    """What the last compilation came to. An endpoint that would be compiled from the very same things is not compiled
    again: its configuration is the same object. For one namespace, and one compilation at a time.
    """

    surroundings: object = None
    """What every endpoint depends on, in a form that compares."""
    endpoints: dict[str, _Remembered] = field(default_factory=dict)


def compile_environment(inputs: Inputs, *, memory: Memory | None = None) -> Compiled:
    """Judge and compile all objects of one namespace. `memory` makes it faster and changes nothing of the result."""
    environment, defaults = _environment(inputs)
    exists = environment is not None
    channels = compile_channels(inputs.channels, precedence=inputs.precedence, environment_exists=exists)
    event_types = compile_event_types(inputs.event_types, precedence=inputs.precedence, environment_exists=exists)
    context = EndpointContext(
        environment_exists=exists,
        defaults=defaults,
        egress=environment.egress if environment else EgressPolicy(),
        validation=environment.event_validation if environment else EventValidation.WARN,
        channels={channel.identity.name: channel for channel in channels},
        declared_types=frozenset(entry.type for entry in event_types if entry.verdict.is_accepted),
        reader=SecretReader(inputs.namespace, inputs.secrets),
        allow_loopback=inputs.allow_loopback,
    )
    found = _endpoints(inputs, context, memory or Memory())
    endpoints = tuple(one if isinstance(one, EndpointConfig) else one.result for one in found)
    config = DeliveryConfig(
        namespace=inputs.namespace,
        environment=environment,
        endpoints=endpoints,
        channels=channels,
        event_types=event_types,
        replays=tuple(_replay(item, endpoints, exists=exists) for item in _by_name(inputs.replays)),
    )
    typed = [one for one in found if isinstance(one, _Remembered)]
    return Compiled(
        config=config,
        secrets_wanted=tuple(
            one.result.identity
            for one in typed
            if one.item.spec.signing is None and signing_secret_name(one.item.meta.name) not in inputs.secrets
        ),
        secrets_referenced=frozenset(name for one in typed for name, _ in one.secrets),
    )


def _endpoints(inputs: Inputs, context: EndpointContext, memory: Memory) -> list[_Remembered | EndpointConfig]:
    """By name; those that could be read with what they were made of."""
    surroundings = _surroundings(context)
    if surroundings != memory.surroundings:
        memory.surroundings = surroundings
        memory.endpoints = {}
    before, memory.endpoints = memory.endpoints, {}
    found: list[_Remembered | EndpointConfig] = []
    for item in _by_name(inputs.endpoints):
        if isinstance(item, Rejected):
            found.append(compile_endpoint(item, context))
            continue
        known = before.get(item.meta.name)
        if known is None or known.item is not item or not _same_secrets(known, inputs.secrets):
            known = _Remembered(
                item=item,
                secrets=tuple((name, inputs.secrets.get(name)) for name in _secret_names(item)),
                result=compile_endpoint(item, context),
            )
        memory.endpoints[item.meta.name] = known
        found.append(known)
    return found


def _surroundings(context: EndpointContext) -> object:
    """Everything of the context that is not of one endpoint alone. A channel's description, for one, is not in it."""
    channels = {
        name: (channel.channel_name, channel.verdict.accepted.reason, channel.state)
        for name, channel in context.channels.items()
    }
    return (
        context.environment_exists,
        context.defaults,
        context.egress,
        context.validation,
        channels,
        context.declared_types,
        context.reader.namespace,
        context.allow_loopback,
    )


def _same_secrets(known: _Remembered, secrets: Mapping[str, SecretObject]) -> bool:
    """Where one is missing the message may suggest any other, so that is always judged anew."""
    return all(secret is not None and secrets.get(name) is secret for name, secret in known.secrets)


def _environment(inputs: Inputs) -> tuple[EnvironmentConfig | None, DeliverySpec]:
    objects = sorted(inputs.environments, key=lambda item: item.meta.name)
    if not objects:
        return None, _NO_DEFAULTS
    return compile_environment_object(
        objects[0], last_valid=inputs.last_environment, allow_loopback=inputs.allow_loopback
    )


def _by_name(objects: Sequence[Object | Rejected]) -> list[Object | Rejected]:
    return sorted(objects, key=lambda item: item.meta.name)


def _replay(item: Replay | Rejected, endpoints: Sequence[EndpointConfig], *, exists: bool) -> ReplayConfig:
    identity = identity_of(item)
    if not exists:
        return ReplayConfig(identity=identity, verdict=missing_environment())
    if isinstance(item, Rejected):
        return ReplayConfig(identity=identity, verdict=refusal(item))
    spec = item.spec
    known = [endpoint.identity.name for endpoint in endpoints]
    resolved = RESOLVED
    if spec.endpoint_ref.name not in known:
        resolved = Finding(
            reason=Reason.ENDPOINT_NOT_FOUND,
            message=f"spec.endpointRef.name: no WebhookEndpoint {spec.endpoint_ref.name!r} here"
            f"{did_you_mean(spec.endpoint_ref.name, known)}. A replay cannot be edited: delete it and create another.",
        )
    return ReplayConfig(
        identity=identity,
        verdict=Verdict(accepted=ACCEPTED, resolved=resolved),
        endpoint=spec.endpoint_ref.name,
        select=spec.select,
        since_ms=parse_time(spec.since),
        until_ms=parse_time(spec.until) if spec.until else _end_of_creation(item.meta.creation_time),
        event_types=spec.event_types,
        requests_per_second=spec.requests_per_second,
    )


def _end_of_creation(created: str | None) -> int:
    """The default of `until`, exclusive. An API server cuts the creation to the second: what came before it within
    that second, such as the events that somebody has just seen go amiss, belongs to the window."""
    if not created:
        return 0
    return parse_time(created) + (0 if "." in created else 1000)


def _secret_names(endpoint: Endpoint) -> list[str]:
    spec = endpoint.spec
    names = [header.value_from.secret_key_ref.name for header in spec.headers if header.value_from is not None]
    if spec.url_from is not None:
        names.append(spec.url_from.secret_key_ref.name)
    if spec.signing is None:
        names.append(signing_secret_name(endpoint.meta.name))
    else:
        names.extend(key.secret_key_ref.name for key in spec.signing.keys)
    if spec.tls is not None:
        refs = (spec.tls.ca_secret_ref, spec.tls.client_cert_secret_ref)
        names.extend(ref.name for ref in refs if ref is not None)
    return names
