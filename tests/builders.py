"""Resources for tests, in one line each. Everything that a test does not say is the simplest valid value."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import Any

from hookstead.config.compile import Compiled, Inputs, Rejected, SecretObject, compile_environment
from hookstead.config.model import DeliveryConfig, EndpointConfig, Epoch
from hookstead.config.report import Running
from hookstead.config.times import format_time
from hookstead.resources.kinds import (
    Channel,
    ChannelSpec,
    ChannelState,
    DeliverySpec,
    EgressSpec,
    Endpoint,
    EndpointSpec,
    Environment,
    EnvironmentSpec,
    EnvironmentState,
    EventType,
    EventTypeSpec,
    EventValidation,
    Lifecycle,
    Meta,
    NameRef,
    Replay,
    ReplaySelect,
    ReplaySpec,
    Switch,
)
from hookstead.resources.secret import Secret

NAMESPACE = "prod"
SIGNING_TEXT = b"whsec_" + base64.b64encode(bytes(range(32)))
RUNNING = Running(instance="test", version="0", hash="sha256:0", epoch=Epoch(term=1, sequence=1))


def meta(name: str, *, uid: str | None = None, created: str = "2026-01-01T00:00:00Z", **annotations: str) -> Meta:
    """Metadata; annotations by their last word, e.g. `resume_requested_at="1"`."""
    return Meta(
        name=name,
        namespace=NAMESPACE,
        uid=f"uid-{name}" if uid is None else uid,
        generation=1,
        creation_time=created,
        annotations={f"hookstead.dev/{key.replace('_', '-')}": value for key, value in annotations.items()},
    )


def environment(
    *,
    state: EnvironmentState = EnvironmentState.ENABLED,
    validation: EventValidation = EventValidation.WARN,
    defaults: DeliverySpec | None = None,
    cidrs: tuple[str, ...] = ("127.0.0.0/8",),
    **spec: Any,
) -> Environment:
    """An Enabled environment that may reach loopback over plain HTTP, as in `hookstead dev`."""
    if defaults is not None:
        spec["delivery_defaults"] = defaults
    return Environment(
        meta=meta("default"),
        spec=EnvironmentSpec(
            state=state,
            event_validation=validation,
            egress=EgressSpec(
                plaintext_http=Switch.ALLOW,
                private_networks=Switch.ALLOW if cidrs else Switch.DENY,
                allowed_cidrs=cidrs,
            ),
            **spec,
        ),
    )


def endpoint(
    name: str,
    *,
    url: str | None = "http://127.0.0.1:9/hook",
    channels: Sequence[str] | None = None,
    types: Sequence[str] | None = None,
    annotations: Mapping[str, str] | None = None,
    uid: str | None = None,
    **spec: Any,
) -> Endpoint:
    """`channels` are object names of WebhookChannels."""
    refs = None if channels is None else tuple(NameRef(name=channel) for channel in channels)
    return Endpoint(
        meta=meta(name, uid=uid, **(annotations or {})),
        spec=EndpointSpec(url=url, channel_refs=refs, event_types=None if types is None else tuple(types), **spec),
    )


def channel(
    name: str,
    wire_name: str | None = None,
    *,
    state: ChannelState = ChannelState.ENABLED,
    created: str = "2026-01-01T00:00:00Z",
) -> Channel:
    return Channel(meta=meta(name, created=created), spec=ChannelSpec(channel_name=wire_name or name, state=state))


def event_type(
    name: str,
    wire_name: str | None = None,
    *,
    schema: dict[str, Any] | None = None,
    sample: dict[str, Any] | None = None,
    lifecycle: Lifecycle = Lifecycle.ACTIVE,
    created: str = "2026-01-01T00:00:00Z",
) -> EventType:
    return EventType(
        meta=meta(name, created=created),
        spec=EventTypeSpec(
            type=wire_name or name, description="A test type.", schema=schema, sample=sample, lifecycle=lifecycle
        ),
    )


def secret(name: str, *, permitted: bool = True, owner: str | None = None, **data: bytes) -> SecretObject:
    """Data keys with a dot are written with two underscores: `ca__crt`."""
    values = {key.replace("__", "."): Secret(value) for key, value in data.items()}
    return SecretObject(name=name, permitted=permitted, data=values if permitted else {}, owner_uid=owner)


def generated_secret(item: Endpoint) -> SecretObject:
    """What the operator generates for an endpoint without keys of its own."""
    return secret(f"{item.meta.name}-signing", owner=item.meta.uid, key=SIGNING_TEXT)


def compiled(*objects: Any, secrets: Sequence[SecretObject] = (), generate: bool = True, **inputs: Any) -> Compiled:
    """Compile objects of any kinds; endpoints without keys get their generated Secret unless told otherwise."""
    endpoints = [item for item in objects if isinstance(item, Endpoint)]
    known = {item.name: item for item in secrets}
    if generate:
        for item in endpoints:
            found = generated_secret(item)
            known.setdefault(found.name, found)
    rejected = [item for item in objects if isinstance(item, Rejected)]

    def of(cls: type) -> list[Any]:
        return [item for item in objects if isinstance(item, cls)] + [
            item for item in rejected if item.kind.value.removeprefix("Webhook") == cls.__name__
        ]

    return compile_environment(
        Inputs(
            namespace=NAMESPACE,
            environments=of(Environment),
            endpoints=of(Endpoint),
            channels=of(Channel),
            event_types=of(EventType),
            replays=of(Replay),
            secrets=known,
            allow_loopback=inputs.pop("allow_loopback", True),
            **inputs,
        )
    )


def config(*objects: Any, **options: Any) -> DeliveryConfig:
    """The configuration of some objects, with an Enabled environment unless one is among them."""
    if not any(isinstance(item, Environment) for item in objects):
        objects = (environment(), *objects)
    return compiled(*objects, **options).config


def endpoint_of(compiled_config: DeliveryConfig, name: str) -> EndpointConfig:
    return next(item for item in compiled_config.endpoints if item.identity.name == name)


def replay(
    name: str,
    endpoint_name: str,
    *,
    select: ReplaySelect,
    since_ms: int,
    until_ms: int,
    types: Sequence[str] | None = None,
    rate: int | None = None,
) -> Replay:
    return Replay(
        meta=meta(name),
        spec=ReplaySpec(
            endpoint_ref=NameRef(name=endpoint_name),
            select=select,
            since=format_time(since_ms),
            until=format_time(until_ms),
            event_types=None if types is None else tuple(types),
            requests_per_second=rate,
        ),
    )
