"""The state that a gateway tells of itself, as one side of a plan: for `hookstead dev`, where no cluster can be asked.

A gateway tells which objects it has, their conditions, settings in force, key ids and schemas. What endpoints select,
and where keys and URLs come from, it does not; there the new side's values stand in, so that they show no change.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import msgspec

from hookstead.cli.client import RefusedError
from hookstead.config.changes import Side
from hookstead.config.model import (
    ChannelConfig,
    DeliveryConfig,
    DeliveryPolicy,
    EndpointConfig,
    EnvironmentConfig,
    EventTypeConfig,
    Finding,
    Identity,
    Scope,
    Verdict,
)
from hookstead.config.verdicts import ACCEPTED, RESOLVED
from hookstead.resources.conditions import Reason
from hookstead.resources.json_schema import digest
from hookstead.resources.kinds import (
    ChannelState,
    CircuitBreaker,
    EndpointSpec,
    EndpointState,
    EnvironmentState,
    Lifecycle,
    Ordering,
    SecretKeyRef,
    SigningKey,
    SigningSpec,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from hookstead.cli.client import Gateway

NOTE: Final = (
    "A gateway does not tell what endpoints select, nor where their URLs, keys and headers come from: that was taken "
    "to stay as it is. Compare with the folder that it runs from to see it."
)
UNTOLD: Final = "not told by a gateway"
Item = dict[str, Any]


def observed(gateway: Gateway, new: Side) -> Side:
    """What the gateway runs now. Raises CommandError."""
    config = new.config
    listed = list(gateway.items("endpoints", limit=None))
    catalog = {item["type"]: item for item in gateway.items("catalog", limit=None)}
    return Side(
        config=replace_config(
            config,
            environment=_environment(gateway, config.environment),
            endpoints=[_endpoint(item, config) for item in listed],
            channels=[_channel(item) for item in gateway.items("channels", limit=None)],
            event_types=[_event_type(item, catalog) for item in gateway.items("event-types", limit=None)],
        ),
        endpoints={item["name"]: _spec(item, new.endpoints.get(item["name"])) for item in listed},
        annotations=new.annotations,
        assumed=frozenset({*_secrets(new), UNTOLD}),
    )


def opened(new: Side) -> Side:
    """The new side with every Secret taken for unknown, since the other side's are."""
    return replace(new, assumed=frozenset({*_secrets(new), UNTOLD}))


def replace_config(config: DeliveryConfig, **parts: Any) -> DeliveryConfig:
    """The configuration with these parts, each list by name."""
    lists = {
        name: tuple(sorted(part, key=lambda one: one.identity.name)) if isinstance(part, list) else part
        for name, part in parts.items()
    }
    return msgspec.structs.replace(config, replays=config.replays, **lists)


def _environment(gateway: Gateway, like: EnvironmentConfig | None) -> EnvironmentConfig | None:
    try:
        item = gateway.get("environment")
    except RefusedError as refused:
        if refused.status == 404:
            return None
        raise
    known = like or EnvironmentConfig(identity=Identity(name="default"), verdict=_verdict(item))
    return msgspec.structs.replace(
        known,
        identity=Identity(name="default"),
        verdict=_verdict(item),
        state=EnvironmentState(item.get("state", known.state)),
        display_name=item.get("displayName"),
    )


def _endpoint(item: Item, config: DeliveryConfig) -> EndpointConfig:
    name, verdict = item["name"], _verdict(item)
    like = next((one for one in config.endpoints if one.identity.name == name), None)
    if like is None:  # it goes, and what it selected is not known
        like = EndpointConfig(identity=Identity(name=name), verdict=verdict, channels=(), event_types=())
    scope = Scope(item.get("scope", like.scope))
    selected = {Scope.ALL_CHANNELS: None, Scope.NOTHING: ()}.get(scope, like.channels or ())
    reason = _active(item)
    return msgspec.structs.replace(
        like,
        verdict=verdict,
        state=_STATES.get(reason, EndpointState.ENABLED),
        description=item.get("description"),
        hold=None if verdict.is_accepted and verdict.is_resolved else like.hold,
        host=item.get("host") or "",
        scope=scope,
        channels=selected if like.event_types != () else (),
        delivery=_delivery(item["delivery"]) if "delivery" in item else like.delivery,
    )


_STATES: Final = {
    Reason.ENDPOINT_DISABLED.value: EndpointState.DISABLED,
    Reason.PAUSED.value: EndpointState.PAUSED,
}


def _delivery(values: Mapping[str, Any]) -> DeliveryPolicy:
    return DeliveryPolicy(
        timeout_seconds=values["timeoutSeconds"],
        schedule_seconds=tuple(values["retry"]["scheduleSeconds"]),
        requests_per_second=values.get("requestsPerSecond"),
        max_in_flight=values["maxInFlight"],
        ordering=Ordering(values["ordering"]),
        circuit_breaker=CircuitBreaker(values["circuitBreaker"]),
    )


def _spec(item: Item, like: EndpointSpec | None) -> EndpointSpec:
    """The new spec with the keys that sign now; a generated key has no spec."""
    known = like or EndpointSpec(url="")
    active = (item.get("signing") or {}).get("activeKeyIDs")
    keys = {} if known.signing is None else {key.id: key for key in known.signing.keys}
    if active is None or (known.signing is None and active == ["key"]):
        return known
    untold = {id_: SigningKey(id=id_, secret_key_ref=SecretKeyRef(name=UNTOLD, key=id_)) for id_ in active}
    signing = SigningSpec(keys=tuple(keys.get(id_, untold[id_]) for id_ in active))
    return msgspec.structs.replace(known, signing=signing)


def _secrets(side: Side) -> set[str]:
    """Names of every Secret that keys, headers and URLs come from."""
    names = set(side.assumed)
    for spec in side.endpoints.values():
        names |= {key.secret_key_ref.name for key in (spec.signing.keys if spec.signing else ())}
        names |= {header.value_from.secret_key_ref.name for header in spec.headers if header.value_from is not None}
        names |= {source.secret_key_ref.name for source in (spec.url_from,) if source is not None}
    return names


def _channel(item: Item) -> ChannelConfig:
    disabled = _active(item) == Reason.CHANNEL_DISABLED.value
    return ChannelConfig(
        identity=Identity(name=item["name"]),
        verdict=_verdict(item),
        channel_name=item.get("channelName", ""),
        state=ChannelState.DISABLED if disabled else ChannelState.ENABLED,
        description=item.get("description"),
    )


def _event_type(item: Item, catalog: Mapping[str, Item]) -> EventTypeConfig:
    wire = item.get("type", "")
    entry = catalog.get(wire, {})
    schema = entry.get("schema")
    return EventTypeConfig(
        identity=Identity(name=item["name"]),
        verdict=_verdict(item),
        type=wire,
        description=item.get("description", ""),
        group=entry.get("group"),
        lifecycle=Lifecycle(item.get("lifecycle", Lifecycle.ACTIVE)),
        replaced_by=entry.get("replacedBy"),
        schema=schema,
        schema_digest=None if schema is None else digest(schema),
        sample=entry.get("sample"),
    )


def _verdict(item: Item) -> Verdict:
    conditions = {one["type"]: one for one in item.get("conditions", ())}
    return Verdict(
        accepted=_finding(conditions.get("Accepted"), ACCEPTED),
        resolved=_finding(conditions.get("ResolvedRefs"), RESOLVED),
    )


def _finding(condition: Item | None, good: Finding) -> Finding:
    if condition is None or condition["status"] == "True":
        return good
    try:
        return Finding(reason=Reason(condition["reason"]), message=condition.get("message", ""))
    except ValueError:  # a newer gateway's reason
        return Finding(reason=Reason.INVALID_SPEC, message=condition.get("message", ""))


def _active(item: Item) -> str:
    """The reason of `Active`; empty where it is not told."""
    return next((one["reason"] for one in item.get("conditions", ()) if one["type"] == "Active"), "")
