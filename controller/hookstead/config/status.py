"""The `status` of each kind, from the compiled object, what the gateways run and what they report.

Pure: time is handed in and nothing is read but the arguments. The operator writes these bodies, the gateway's
query API shows them. A body is complete: what is not in it is to be absent from the object. Never a payload,
a response body, a header value, a secret, or more of a URL than its host.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hookstead.config.endpoint_status import effective_delivery, endpoint_status, next_key_expiry_ms
from hookstead.config.event_patterns import covered
from hookstead.config.model import Finding
from hookstead.config.replay_status import replay_status
from hookstead.config.status_body import (
    PROGRAMMED,
    STATUS_LIMIT,
    Programming,
    Status,
    active,
    bounded,
    closed_environment,
    echo,
    gateway_unavailable,
    judged,
    merged_conditions,
    named_activity,
    pending,
    plain,
    unaccepted,
    without_none,
)
from hookstead.resources.conditions import Reason
from hookstead.resources.kinds import ChannelState

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from hookstead.config.model import ChannelConfig, DeliveryConfig, EnvironmentConfig, EventTypeConfig
    from hookstead.config.report import EnvironmentActivity, NamedActivity

__all__ = [
    "PROGRAMMED",
    "STATUS_LIMIT",
    "ConfigSize",
    "EndpointCounts",
    "Gateways",
    "Programming",
    "Status",
    "channel_status",
    "effective_delivery",
    "endpoint_status",
    "endpoints_by_channel",
    "endpoints_by_event_type",
    "environment_status",
    "event_type_status",
    "gateway_unavailable",
    "next_key_expiry_ms",
    "pending",
    "replay_status",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointCounts:
    """How many endpoints there are, and how many of them are Ready, Active, and not Healthy."""

    total: int = 0
    ready: int = 0
    active: int = 0
    failing: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Gateways:
    """The live gateways: how many, how many run the present configuration, and their version ("" unknown)."""

    replicas: int = 0
    programmed_replicas: int = 0
    version: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigSize:
    """The published configuration's digest and encoded size in bytes."""

    hash: str = ""
    bytes: int = 0


def environment_status(
    environment: EnvironmentConfig,
    *,
    endpoints: EndpointCounts,
    channels: int,
    event_types: int,
    gateways: Gateways,
    config: ConfigSize,
    activity: EnvironmentActivity | None,
    programmed: Programming,
    previous: Mapping[str, Any],
    now: datetime,
    handled_reconcile: str | None = None,
) -> Status:
    """`WebhookEnvironment.status`."""
    generation = environment.identity.generation
    conditions = [
        *judged(environment.verdict, programmed, generation),
        active(closed_environment(environment), generation),
    ]
    return bounded(
        {
            "observedGeneration": generation,
            "conditions": merged_conditions(conditions, previous, now),
            "endpoints": {
                "total": endpoints.total,
                "ready": endpoints.ready,
                "active": endpoints.active,
                "failing": endpoints.failing,
            },
            "channels": channels,
            "eventTypes": event_types,
            "gateway": without_none(
                {
                    "replicas": gateways.replicas,
                    "programmedReplicas": gateways.programmed_replicas,
                    "version": gateways.version or None,
                }
            ),
            "config": {"hash": config.hash, "sizeBytes": config.bytes} if config.hash else None,
            "activity": plain(activity) if activity is not None else previous.get("activity"),
            "lastHandledReconcileAt": echo(handled_reconcile),
        }
    )


def channel_status(
    channel: ChannelConfig,
    *,
    environment: EnvironmentConfig | None,
    activity: NamedActivity | None,
    endpoints: int,
    programmed: Programming,
    previous: Mapping[str, Any],
    now: datetime,
    handled_reconcile: str | None = None,
) -> Status:
    """`WebhookChannel.status`; `endpoints`: how many receive through it (`endpoints_by_channel`)."""
    generation = channel.identity.generation
    closed = closed_environment(environment) or unaccepted(channel.verdict)
    if closed is None and channel.state is ChannelState.DISABLED:
        closed = Finding(
            reason=Reason.CHANNEL_DISABLED,
            message="spec.state is Disabled: nothing reaches its endpoints through it.",
        )
    conditions = [*judged(channel.verdict, programmed, generation), active(closed, generation)]
    return bounded(
        {
            "observedGeneration": generation,
            "conditions": merged_conditions(conditions, previous, now),
            "endpoints": endpoints,
            "activity": named_activity(activity, previous, fields=("accepted", "lastEventTime")),
            "lastHandledReconcileAt": echo(handled_reconcile),
        }
    )


def event_type_status(
    event_type: EventTypeConfig,
    *,
    environment: EnvironmentConfig | None,
    activity: NamedActivity | None,
    endpoints: int,
    programmed: Programming,
    previous: Mapping[str, Any],
    now: datetime,
    handled_reconcile: str | None = None,
) -> Status:
    """`WebhookEventType.status`; `endpoints`: how many select it (`endpoints_by_event_type`)."""
    generation = event_type.identity.generation
    closed = closed_environment(environment) or unaccepted(event_type.verdict)
    conditions = [*judged(event_type.verdict, programmed, generation), active(closed, generation)]
    return bounded(
        {
            "observedGeneration": generation,
            "conditions": merged_conditions(conditions, previous, now),
            "schemaDigest": event_type.schema_digest,
            "endpoints": endpoints,
            "activity": named_activity(activity, previous, fields=("accepted", "rejected", "lastEventTime")),
            "lastHandledReconcileAt": echo(handled_reconcile),
        }
    )


def endpoints_by_channel(config: DeliveryConfig) -> Mapping[str, int]:
    """How many endpoints select each channel, by its wire name. Those of every channel count for none."""
    return Counter(
        name for endpoint in config.endpoints for name in endpoint.channels or () if endpoint.verdict.is_accepted
    )


def endpoints_by_event_type(config: DeliveryConfig) -> Mapping[str, int]:
    """How many endpoints get each declared type, by type; an endpoint without `eventTypes` gets all."""
    selections = Counter(endpoint.event_types for endpoint in config.endpoints if endpoint.verdict.is_accepted)
    declared = sorted({entry.type for entry in config.event_types})  # once each, whoever else claims it
    counts: Counter[str] = Counter()
    for selection, endpoints in selections.items():
        for event_type in covered(selection, declared):
            counts[event_type] += endpoints
    return counts
