"""One endpoint: its verdict, the first failing check of an ordered chain, and what the engine needs of it."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias

from hookstead.config.addresses import Target, UrlProblem, check_url, parse_url
from hookstead.config.event_patterns import prefix_of
from hookstead.config.model import (
    ChannelConfig,
    DeliveryPolicy,
    EgressPolicy,
    EndpointConfig,
    Finding,
    Header,
    Scope,
    SigningKey,
    TlsMaterial,
    Verdict,
)
from hookstead.config.secret_values import SecretReader, Unresolved
from hookstead.config.times import parse_time
from hookstead.config.verdicts import (
    ACCEPTED,
    RESOLVED,
    Rejected,
    identity_of,
    missing_environment,
    refusal,
)
from hookstead.resources.conditions import Reason
from hookstead.resources.event_filter import FilterError, compile_filter
from hookstead.resources.kinds import (
    DELIVERY_DEFAULTS,
    RECONCILE_ANNOTATION,
    RESUME_ANNOTATION,
    ChannelState,
    DeliverySpec,
    Endpoint,
    EventValidation,
    RetrySpec,
    SecretKeyRef,
)
from hookstead.resources.secret import Secret
from hookstead.resources.suggestion import did_you_mean

SIGNING_KEY: Final = "key"
"""The data key of a generated signing Secret, and the id under which it is listed."""


def signing_secret_name(endpoint: str) -> str:
    """The name of the Secret that is generated for an endpoint without `spec.signing`."""
    return f"{endpoint}-signing"


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointContext:
    """What the rest of the environment means to one endpoint. `channels` is by object name."""

    environment_exists: bool
    defaults: DeliverySpec
    egress: EgressPolicy
    validation: EventValidation
    channels: Mapping[str, ChannelConfig]
    declared_types: frozenset[str]
    reader: SecretReader
    allow_loopback: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class _Values:
    """Everything that an endpoint takes from Secrets."""

    url: Secret | None = None
    keys: tuple[SigningKey, ...] = ()
    headers: tuple[Header, ...] = ()
    tls: TlsMaterial | None = None


Check: TypeAlias = Callable[[Endpoint, _Values, EndpointContext], Finding | None]


def compile_endpoint(item: Endpoint | Rejected, context: EndpointContext) -> EndpointConfig:
    """The endpoint's part of the configuration; an unusable one is in it too, held."""
    identity = identity_of(item)
    if isinstance(item, Rejected):
        verdict = refusal(item) if context.environment_exists else missing_environment()
        return EndpointConfig(
            identity=identity,
            verdict=verdict,
            hold=verdict.accepted.reason,
            scope=Scope.NOTHING,
            reconcile_requested_at=item.meta.annotations.get(RECONCILE_ANNOTATION),
        )
    values, unread = _read(item, context)
    accepted = _first(_ACCEPTED_CHECKS, item, values, context) or ACCEPTED
    resolved = unread or _first(_RESOLVED_CHECKS, item, values, context) or RESOLVED
    hold = accepted.reason if accepted is not ACCEPTED else unread.reason if unread else None
    channels = _channel_names(item, context)
    spec = item.spec
    return EndpointConfig(
        identity=identity,
        verdict=Verdict(accepted=accepted, resolved=resolved),
        state=spec.state,
        description=spec.description,
        hold=hold,
        url=values.url,
        host=_host(values.url),
        scope=_scope(channels),
        channels=channels,
        event_types=None if spec.event_types is None else tuple(sorted(spec.event_types)),
        filter=spec.filter,
        keys=values.keys,
        headers=values.headers,
        tls=values.tls,
        payload_format=spec.payload_format,
        delivery=effective_delivery(spec.delivery, context.defaults),
        reconcile_requested_at=item.meta.annotations.get(RECONCILE_ANNOTATION),
        resume_requested_at=item.meta.annotations.get(RESUME_ANNOTATION),
    )


def effective_delivery(own: DeliverySpec, defaults: DeliverySpec) -> DeliveryPolicy:
    """Field by field: the endpoint's own value, else the environment's, else the contract's."""
    layers = (own, defaults, DELIVERY_DEFAULTS)

    def first(field: str) -> object:
        return next((value for layer in layers if (value := getattr(layer, field)) is not None), None)

    retries = [layer.retry or RetrySpec() for layer in layers]
    schedule = next(retry.schedule_seconds for retry in retries if retry.schedule_seconds is not None)
    fields = ("timeout_seconds", "requests_per_second", "max_in_flight", "ordering", "circuit_breaker")
    return DeliveryPolicy(schedule_seconds=schedule, **{field: first(field) for field in fields})  # type: ignore[arg-type]  # one getattr for five types


# ------------------------------------------------------------------------------------------------------- the chain


def _environment_exists(_item: Endpoint, _values: _Values, context: EndpointContext) -> Finding | None:
    return None if context.environment_exists else missing_environment().accepted


def _url_is_allowed(item: Endpoint, values: _Values, context: EndpointContext) -> Finding | None:
    if values.url is None:
        return None
    problem = check_url(_text(values.url), context.egress, allow_loopback=context.allow_loopback)
    if problem is None:
        return None
    field = "spec.url" if item.spec.url is not None else "spec.urlFrom"
    return Finding(reason=Reason.INVALID_SPEC, message=f"{field}: {problem}")


def _filter_compiles(item: Endpoint, _values: _Values, _context: EndpointContext) -> Finding | None:
    problem = None if item.spec.filter is None else _filter_problem(item.spec.filter)
    return None if problem is None else Finding(reason=Reason.FILTER_INVALID, message=f"spec.filter: {problem}")


@functools.lru_cache(maxsize=16_384)
def _filter_problem(text: str) -> str | None:
    """What is wrong with a filter. Remembered: every pass judges every endpoint, and few filters change."""
    try:
        compile_filter(text)
    except FilterError as error:
        return str(error)
    return None


def _channels_exist(item: Endpoint, _values: _Values, context: EndpointContext) -> Finding | None:
    missing = [
        (index, ref.name)
        for index, ref in enumerate(item.spec.channel_refs or ())
        if ref.name not in context.channels or not context.channels[ref.name].verdict.is_accepted
    ]
    if not missing:
        return None
    index, name = missing[0]
    others = len(item.spec.channel_refs or ()) - len(missing)
    effect = "receives only its other channels" if others else "receives nothing"
    cure = "is accepted" if name in context.channels else "exists"
    if name in context.channels:
        what = f"WebhookChannel {name!r} is not accepted ({context.channels[name].verdict.accepted.reason.value})"
    else:
        what = (
            f"no WebhookChannel {name!r} in namespace {context.reader.namespace}{did_you_mean(name, context.channels)}"
        )
    return Finding(
        reason=Reason.CHANNEL_NOT_FOUND,
        message=f"spec.channelRefs[{index}].name: {what}. The endpoint {effect} until it {cure}.",
    )


def _event_types_exist(item: Endpoint, _values: _Values, context: EndpointContext) -> Finding | None:
    if context.validation is EventValidation.NONE:
        return None
    for index, name in enumerate(item.spec.event_types or ()):
        if prefix_of(name) is None and name not in context.declared_types:
            return Finding(
                reason=Reason.EVENT_TYPE_NOT_FOUND,
                message=f"spec.eventTypes[{index}]: no WebhookEventType declares {name!r}"
                f"{did_you_mean(name, context.declared_types)}. Declare it, or correct the name.",
            )
    return None


_ACCEPTED_CHECKS: Final[tuple[Check, ...]] = (_environment_exists, _url_is_allowed, _filter_compiles)
_RESOLVED_CHECKS: Final[tuple[Check, ...]] = (_channels_exist, _event_types_exist)


def _first(checks: tuple[Check, ...], item: Endpoint, values: _Values, context: EndpointContext) -> Finding | None:
    return next((finding for check in checks if (finding := check(item, values, context)) is not None), None)


# --------------------------------------------------------------------------------------------------------- secrets


def _read(item: Endpoint, context: EndpointContext) -> tuple[_Values, Finding | None]:
    """Everything that can be read, and the first reference that could not."""
    findings: list[Finding] = []
    reader = context.reader

    def attempt(read: Callable[[], object]) -> object:
        try:
            return read()
        except Unresolved as unresolved:
            findings.append(unresolved.finding)
            return None

    url = attempt(lambda: _read_url(item, reader))
    keys = attempt(lambda: _read_keys(item, reader))
    headers = attempt(lambda: _read_headers(item, reader))
    tls = attempt(lambda: None if item.spec.tls is None else reader.tls(item.spec.tls, where="spec.tls"))
    values = _Values(url=url, keys=keys or (), headers=headers or (), tls=tls)  # type: ignore[arg-type]  # `attempt` erases the type
    return values, findings[0] if findings else None


def _read_url(item: Endpoint, reader: SecretReader) -> Secret:
    if item.spec.url_from is None:
        return Secret((item.spec.url or "").encode())
    where, ref = "spec.urlFrom.secretKeyRef", item.spec.url_from.secret_key_ref
    url = reader.text(ref, where=where)
    if isinstance(parse_url(_text(url)), UrlProblem):
        raise Unresolved(
            Reason.SECRET_INVALID,
            f"{where}: Secret {ref.name!r}, key {ref.key!r}: expected one http or https URL, without user "
            "information or fragment.",
        )
    return url


def _read_keys(item: Endpoint, reader: SecretReader) -> tuple[SigningKey, ...]:
    signing = item.spec.signing
    if signing is None:
        return (SigningKey(id=SIGNING_KEY, material=_read_generated(item, reader)),)
    return tuple(
        SigningKey(
            id=key.id,
            material=reader.signing_key(key.secret_key_ref, where=f"spec.signing.keys[{index}].secretKeyRef"),
            not_after_ms=None if key.not_after_time is None else parse_time(key.not_after_time),
        )
        for index, key in enumerate(signing.keys)
    )


def _read_generated(item: Endpoint, reader: SecretReader) -> Secret:
    name = signing_secret_name(item.meta.name)
    found = reader.secrets.get(name)
    if found is None:  # at first, ten thousand times at once: there is no other name that could have been meant
        raise Unresolved(Reason.SECRET_NOT_FOUND, f"spec.signing: no Secret {name!r} yet: the operator generates it.")
    if found.owner_uid != item.meta.uid:
        raise Unresolved(
            Reason.SECRET_NOT_PERMITTED,
            f"spec.signing: a Secret {name!r} exists that this endpoint does not own, so none is generated. Delete or "
            "rename it, or name your own key in spec.signing.keys.",
        )
    return reader.signing_key(SecretKeyRef(name=name, key=SIGNING_KEY), where="spec.signing")


def _read_headers(item: Endpoint, reader: SecretReader) -> tuple[Header, ...]:
    headers = []
    for index, header in enumerate(item.spec.headers):
        if header.value_from is None:
            value = Secret((header.value or "").encode())
        else:
            where = f"spec.headers[{index}].valueFrom.secretKeyRef"
            value = reader.header_value(header.value_from.secret_key_ref, where=where)
        headers.append(Header(name=header.name, value=value))
    return tuple(headers)


# --------------------------------------------------------------------------------------------------------- derived


def _channel_names(item: Endpoint, context: EndpointContext) -> tuple[str, ...] | None:
    """Wire names of the usable channels; None for all. Dangling references never widen to everybody."""
    if item.spec.channel_refs is None:
        return None
    found = (context.channels.get(ref.name) for ref in item.spec.channel_refs)
    return tuple(
        sorted(
            channel.channel_name
            for channel in found
            if channel is not None and channel.verdict.is_accepted and channel.state is ChannelState.ENABLED
        )
    )


def _scope(channels: tuple[str, ...] | None) -> Scope:
    if channels is None:
        return Scope.ALL_CHANNELS
    return Scope.SELECTED_CHANNELS if channels else Scope.NOTHING


def _text(url: Secret) -> str:
    return url.reveal().decode("utf-8", "replace")


def _host(url: Secret | None) -> str:
    target = None if url is None else parse_url(_text(url))
    return target.host if isinstance(target, Target) else ""
