"""What a change of the configuration does to deliveries: two states of one environment, compared.

Pure. A state (`Side`) is a compiled configuration with the manifests behind it. Where a Secret is not among the
manifests its content is assumed, so that everything else can be judged; assumed content is never compared.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import msgspec

from hookstead.config.changes import (
    Difference,
    EventTypeChange,
    Fate,
    FieldChange,
    ObjectChange,
    SchemaNote,
    Side,
    fate_of,
    fields_of,
    flat,
    new_problem,
    paired,
)
from hookstead.config.endpoint_changes import endpoint_changes
from hookstead.config.model import ChannelConfig, DeliveryConfig, EnvironmentConfig, EventTypeConfig
from hookstead.config.schema_changes import SchemaChange, sample_changes, schema_changes
from hookstead.resources.conditions import Reason
from hookstead.resources.kinds import EventValidation, Kind, Lifecycle

BREAKING_CHANGE: Final = "hookstead.dev/breaking-change"
"""Annotation of a WebhookEventType whose schema may break: `allowed`, or the digest of the one schema that may."""


def difference(old: Side, new: Side, *, now_ms: int) -> Difference:
    """What `new` changes about `old`, each list by name. Keys that have expired at `now_ms` do not sign."""
    return Difference(
        namespace=new.config.namespace,
        objects=(
            *_environment(old.config.environment, new.config.environment),
            *_channels(old.config, new.config),
            *_replays(old.config, new.config),
        ),
        endpoints=tuple(endpoint_changes(old, new, now_ms)),
        event_types=tuple(_event_types(old, new)),
    )


# ------------------------------------------------------------------------------------- environment, channels, replays


def _environment(old: EnvironmentConfig | None, new: EnvironmentConfig | None) -> Iterator[ObjectChange]:
    fields = fields_of(_environment_values(old), _environment_values(new))
    if old is None or new is None:  # the rest is defaults, mostly
        fields = [one for one in fields if new is not None and one.field in ("state", "eventValidation")]
    yield from _object(Kind.ENVIRONMENT, "default", old, new, fields)


def _channels(old: DeliveryConfig, new: DeliveryConfig) -> Iterator[ObjectChange]:
    for name, before, after in paired(old.channels, new.channels):
        fields = (
            [] if after is None or _is_unread(after) else fields_of(*(_channel_values(one) for one in (before, after)))
        )
        yield from _object(Kind.CHANNEL, name, before, after, fields)


def _replays(old: DeliveryConfig, new: DeliveryConfig) -> Iterator[ObjectChange]:
    """One more is an operation that will run; they are immutable."""
    for name, before, after in paired(old.replays, new.replays):
        fields = [] if after is None else fields_of({}, {"endpointRef": after.endpoint, "select": after.select.value})
        yield from _object(Kind.REPLAY, name, before, after, fields if before is None else [])


def _object(kind: Kind, name: str, old: Any, new: Any, fields: Sequence[FieldChange]) -> Iterator[ObjectChange]:
    problem = new_problem(old, new)
    fate = fate_of(old, new)
    if (old is not None or new is not None) and (fate is not Fate.CHANGED or fields or problem):
        yield ObjectChange(kind=kind.value, name=name, fate=fate, fields=tuple(fields), problem=problem)


def _environment_values(environment: EnvironmentConfig | None) -> dict[str, Any]:
    """Dotted, as the fields of spec are called."""
    if environment is None:
        return {}
    told = msgspec.to_builtins(
        {
            "state": environment.state,
            "displayName": environment.display_name,
            "suspendAfterSeconds": environment.suspend_after_seconds,
            "eventValidation": environment.event_validation,
            "egress.plaintextHTTP": "Allow" if environment.egress.plaintext_http else "Deny",
            "egress.allowedCIDRs": ", ".join(environment.egress.allowed_cidrs) or None,
            "retention.payloadDays": environment.retention.payload_days,
            "retention.attemptDays": environment.retention.attempt_days,
            "retention.deadLetterDays": environment.retention.dead_letter_days,
            "statusReporting.deliveryLog": environment.status_reporting.delivery_log,
            "statusReporting.deliveryLogLimit": environment.status_reporting.delivery_log_limit,
            "statusReporting.periodSeconds": environment.status_reporting.period_seconds,
        }
    )
    defaults = flat(msgspec.to_builtins(environment.delivery_defaults), "deliveryDefaults")
    return {**told, **defaults}


def _is_unread(channel: ChannelConfig | None) -> bool:
    """Whether nothing is known of it but that it does not parse."""
    return channel is not None and not channel.channel_name


def _channel_values(channel: ChannelConfig | None) -> dict[str, Any]:
    if channel is None:
        return {}
    return {"channelName": channel.channel_name, "state": channel.state.value, "description": channel.description}


# --------------------------------------------------------------------------------------------------------- event types


def _event_types(old: Side, new: Side) -> Iterator[EventTypeChange]:
    for name, before, after in paired(old.config.event_types, new.config.event_types):
        both_are_read = before is not None and after is not None and bool(before.type) and bool(after.type)
        notes = [] if before is None or after is None else _schema_notes(before, after)
        change = EventTypeChange(
            name=name,
            type=next(one.type for one in (after, before) if one is not None),
            fate=fate_of(before, after),
            fields=tuple(fields_of(_type_values(before), _type_values(after))) if both_are_read else (),
            schema=tuple(notes),
            schema_digest=None if after is None else after.schema_digest,
            closes=_closing(before, after, new.config),
            allowed=after is not None and _is_allowed(new.annotations.get(name, {}), after),
            problem=new_problem(before, after),
        )
        is_new_text = before is not None and after is not None and before.schema_digest != after.schema_digest
        if change.fate is not Fate.CHANGED or change.fields or notes or change.problem or is_new_text:
            yield change


def _schema_notes(before: EventTypeConfig, after: EventTypeConfig) -> list[SchemaNote]:
    """Nothing is compared where one of the two is no schema: its verdict tells."""
    if {before.verdict.accepted.reason, after.verdict.accepted.reason} - _COMPARABLE:
        return []
    found: tuple[SchemaChange, ...] = schema_changes(before.schema, after.schema)
    if before.schema is not None:
        found += sample_changes(before.sample, after.schema, found=found)
    return [
        SchemaNote(effect=one.effect.value, breaking=one.is_breaking, path=one.path, message=one.message)
        for one in found
    ]


def _closing(before: EventTypeConfig | None, after: EventTypeConfig | None, new: DeliveryConfig) -> str:
    """What producers of a type meet that was fine before: under Enforce a refusal, under Warn only a count."""
    if not _is_open(before) or _is_open(after) or new.environment is None:
        return ""
    why = "is not declared any more" if after is None or not after.verdict.is_accepted else "is Archived"
    match new.environment.event_validation:
        case EventValidation.ENFORCE:
            return f"{why}: events of it are refused (422)"
        case EventValidation.WARN:
            return f"{why}: events of it are delivered, and counted as rejected"
        case EventValidation.NONE:
            return ""


def _is_open(entry: EventTypeConfig | None) -> bool:
    return entry is not None and entry.verdict.is_accepted and entry.lifecycle is not Lifecycle.ARCHIVED


_COMPARABLE: Final = frozenset({Reason.ACCEPTED, Reason.SAMPLE_INVALID, Reason.ENVIRONMENT_MISSING})


def _is_allowed(annotations: Mapping[str, str], entry: EventTypeConfig) -> bool:
    mark = annotations.get(BREAKING_CHANGE)
    return mark is not None and mark in ("allowed", entry.schema_digest)


def _type_values(entry: EventTypeConfig | None) -> dict[str, Any]:
    if entry is None:
        return {}
    return {
        "type": entry.type,
        "description": entry.description,
        "group": entry.group,
        "lifecycle": entry.lifecycle.value,
        "replacedBy": entry.replaced_by,
    }
