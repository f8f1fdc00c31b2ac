"""Channels and the event catalog: each declared name belongs to one object, the oldest."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, TypeVar

import msgspec

from hookstead.config.model import ChannelConfig, EventTypeConfig, Verdict
from hookstead.config.verdicts import (
    GOOD,
    Rejected,
    identity_of,
    missing_environment,
    oldest_first,
    refusal,
    refused,
)
from hookstead.resources.conditions import Reason
from hookstead.resources.json_schema import SchemaError, compile_schema, digest
from hookstead.resources.kinds import Channel, EventType, EventTypeSpec, Kind

Object = TypeVar("Object", Channel, EventType)
Precedence = Mapping[tuple[Kind, str], int]

_DUPLICATE: Final = {
    Kind.CHANNEL: (Reason.DUPLICATE_CHANNEL_NAME, "spec.channelName"),
    Kind.EVENT_TYPE: (Reason.DUPLICATE_EVENT_TYPE, "spec.type"),
}


def compile_channels(
    items: Sequence[Channel | Rejected], *, precedence: Precedence, environment_exists: bool
) -> tuple[ChannelConfig, ...]:
    """All channels, by object name. Of two with one `channelName` the oldest is accepted."""
    compiled = [
        ChannelConfig(
            identity=identity_of(item),
            verdict=verdict if environment_exists else missing_environment(),
            **_channel_fields(item),
        )
        for item, verdict in _contest(items, Kind.CHANNEL, lambda channel: channel.spec.channel_name, precedence)
    ]
    return tuple(sorted(compiled, key=lambda channel: channel.identity.name))


def compile_event_types(
    items: Sequence[EventType | Rejected], *, precedence: Precedence, environment_exists: bool
) -> tuple[EventTypeConfig, ...]:
    """The catalog, by object name. Of two with one `type` the oldest is accepted."""
    compiled = []
    for item, claim in _contest(items, Kind.EVENT_TYPE, lambda entry: entry.spec.type, precedence):
        verdict = claim
        if claim is GOOD and not isinstance(item, Rejected):
            verdict = _judge_schema(item.spec)
        compiled.append(
            EventTypeConfig(
                identity=identity_of(item),
                verdict=verdict if environment_exists else missing_environment(),
                **_event_type_fields(item),
            )
        )
    return tuple(sorted(compiled, key=lambda entry: entry.identity.name))


def _contest(
    items: Sequence[Object | Rejected], kind: Kind, wire_name: Callable[[Object], str], precedence: Precedence
) -> Iterator[tuple[Object | Rejected, Verdict]]:
    """Each object with the verdict on its claim to its wire name, oldest first."""
    holders: dict[str, str] = {}
    reason, field = _DUPLICATE[kind]
    for item in oldest_first(items, precedence):
        if isinstance(item, Rejected):
            yield item, refusal(item)
            continue
        holder = holders.setdefault(wire_name(item), item.meta.name)
        if holder == item.meta.name:
            yield item, GOOD
        else:
            yield (
                item,
                refused(
                    reason,
                    f"{field}: {kind.value} {holder!r} came first and has {wire_name(item)!r} already. Give this "
                    "object another name, or delete one of the two.",
                ),
            )


def _channel_fields(item: Channel | Rejected) -> dict[str, Any]:
    if isinstance(item, Rejected):
        return {}
    spec = item.spec
    return {"channel_name": spec.channel_name, "state": spec.state, "description": spec.description}


def _event_type_fields(item: EventType | Rejected) -> dict[str, Any]:
    if isinstance(item, Rejected):
        return {}
    spec = item.spec
    return {
        "type": spec.type,
        "description": spec.description,
        "group": spec.group,
        "lifecycle": spec.lifecycle,
        "replaced_by": spec.replaced_by,
        "schema": spec.schema,
        "schema_digest": None if spec.schema is None else digest(spec.schema),
        "sample": spec.sample,
    }


def _judge_schema(spec: EventTypeSpec) -> Verdict:
    if spec.schema is None:
        return GOOD
    sample = None if spec.sample is None else msgspec.json.encode(spec.sample)
    return _judged(msgspec.json.encode(spec.schema), sample)


@functools.lru_cache(maxsize=4096)
def _judged(schema: bytes, sample: bytes | None) -> Verdict:
    """The verdict on a schema and its sample, as JSON. Remembered: every pass judges the whole catalog."""
    try:
        validator = compile_schema(msgspec.json.decode(schema))
    except SchemaError as error:
        return refused(Reason.SCHEMA_INVALID, f"spec.schema: {error}")
    mismatch = None if sample is None else validator.first_error(msgspec.json.decode(sample))
    return GOOD if mismatch is None else refused(Reason.SAMPLE_INVALID, f"spec.sample: {mismatch}")
