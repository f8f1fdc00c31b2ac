"""The delivery configuration: everything a gateway needs to know of one environment, and nothing else.

Values are frozen. The serial form (`config/serial.py`) is the JSON of these structures, so a field that is added
here needs a default: a gateway of an older or newer version must still read its last good copy.

Times are integer milliseconds since the Unix epoch (`…_ms`); wire names are the camelCase of the field names.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

import msgspec

from hookstead.resources.conditions import Reason
from hookstead.resources.kinds import (
    ChannelState,
    CircuitBreaker,
    DeliveryLog,
    DeliverySpec,
    EndpointState,
    EnvironmentState,
    EventValidation,
    Lifecycle,
    Ordering,
    PayloadFormat,
    ReplaySelect,
)
from hookstead.resources.secret import Secret


class Frozen(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """Base of every value of the configuration: frozen, slotted, camelCase on the wire."""


class Finding(Frozen, frozen=True):
    """What one check said of one object: the reason (`Accepted`, `ResolvedRefs` when all is well) and its message."""

    reason: Reason
    message: str = ""


class Verdict(Frozen, frozen=True):
    """Both judgements that can be made from manifests alone, for one object of one generation."""

    accepted: Finding
    resolved: Finding

    @property
    def is_accepted(self) -> bool:
        return self.accepted.reason is Reason.ACCEPTED

    @property
    def is_resolved(self) -> bool:
        return self.resolved.reason is Reason.RESOLVED_REFS


class Identity(Frozen, frozen=True):
    """Which object, in which generation."""

    name: str
    uid: str = ""
    generation: int = 0
    creation_time: str | None = None


class Scope(StrEnum):
    """Whose events an endpoint may see."""

    ALL_CHANNELS = "AllChannels"
    SELECTED_CHANNELS = "SelectedChannels"
    NOTHING = "Nothing"


class SigningKey(Frozen, frozen=True):
    """One key that signs. `material` is the text form (`whsec_…`, `whsk_…`), trimmed and validated."""

    id: str
    material: Secret
    not_after_ms: int | None = None


class Header(Frozen, frozen=True):
    """One extra request header, its name in lower case."""

    name: str
    value: Secret


class TlsMaterial(Frozen, frozen=True):
    """PEM texts for the connection to one endpoint; absent parts are None."""

    ca: Secret | None = None
    certificate: Secret | None = None
    key: Secret | None = None


class DeliveryPolicy(Frozen, frozen=True):
    """Effective delivery values of one endpoint: its own, else the environment's, else the contract's defaults."""

    timeout_seconds: int = 15
    schedule_seconds: tuple[int, ...] = (5, 300, 1800, 7200, 18000, 36000, 50400, 72000, 86400)
    requests_per_second: int | None = None
    max_in_flight: int = 20
    ordering: Ordering = Ordering.UNORDERED
    circuit_breaker: CircuitBreaker = CircuitBreaker.AUTO


class EgressPolicy(Frozen, frozen=True):
    """What may be dialled beyond public addresses over TLS. An empty `allowed_cidrs` opens nothing private."""

    plaintext_http: bool = False
    allowed_cidrs: tuple[str, ...] = ()


class RetentionPolicy(Frozen, frozen=True):
    payload_days: int = 30
    attempt_days: int = 30
    dead_letter_days: int = 30


class StatusReporting(Frozen, frozen=True):
    delivery_log: DeliveryLog = DeliveryLog.ALL
    delivery_log_limit: int = 10
    period_seconds: int = 60


class EnvironmentConfig(Frozen, frozen=True):
    identity: Identity
    verdict: Verdict
    state: EnvironmentState = EnvironmentState.DISABLED
    display_name: str | None = None
    suspend_after_seconds: int = 432_000
    event_validation: EventValidation = EventValidation.WARN
    egress: EgressPolicy = EgressPolicy()
    retention: RetentionPolicy = RetentionPolicy()
    status_reporting: StatusReporting = StatusReporting()
    delivery_defaults: DeliverySpec = DeliverySpec()
    """`spec.deliveryDefaults` as written: what its endpoints inherit if the environment becomes invalid later."""

    @property
    def enabled(self) -> bool:
        return self.state is EnvironmentState.ENABLED


class EndpointConfig(Frozen, frozen=True):
    """One endpoint as the engine sees it.

    `channels` and `event_types` are None for "all" and empty for "nothing": the two must never be confused.
    `channels` holds wire names of usable channels only (declared, enabled, not a losing duplicate).
    An endpoint that is not accepted gets no new events; one with `hold` set keeps what it has as Pending.
    """

    identity: Identity
    verdict: Verdict
    state: EndpointState = EndpointState.ENABLED
    description: str | None = None
    hold: Reason | None = None
    url: Secret | None = None
    host: str = ""
    scope: Scope = Scope.ALL_CHANNELS
    channels: tuple[str, ...] | None = None
    event_types: tuple[str, ...] | None = None
    filter: str | None = None
    keys: tuple[SigningKey, ...] = ()
    headers: tuple[Header, ...] = ()
    tls: TlsMaterial | None = None
    payload_format: PayloadFormat = PayloadFormat.STANDARD_WEBHOOKS
    delivery: DeliveryPolicy = DeliveryPolicy()
    reconcile_requested_at: str | None = None
    resume_requested_at: str | None = None


class ChannelConfig(Frozen, frozen=True):
    identity: Identity
    verdict: Verdict
    channel_name: str = ""
    state: ChannelState = ChannelState.ENABLED
    description: str | None = None


class EventTypeConfig(Frozen, frozen=True):
    """One catalog entry. `schema` and `sample` are plain JSON values; None where the object has none."""

    identity: Identity
    verdict: Verdict
    type: str = ""
    description: str = ""
    group: str | None = None
    lifecycle: Lifecycle = Lifecycle.ACTIVE
    replaced_by: str | None = None
    schema: Mapping[str, Any] | None = None
    schema_digest: str | None = None
    sample: Mapping[str, Any] | None = None


class ReplayConfig(Frozen, frozen=True):
    identity: Identity
    verdict: Verdict
    endpoint: str = ""
    select: ReplaySelect = ReplaySelect.FAILED
    since_ms: int = 0
    until_ms: int = 0
    event_types: tuple[str, ...] | None = None
    requests_per_second: int | None = None


class DeliveryConfig(Frozen, frozen=True):
    """One environment, compiled. Objects are sorted by name, so equal inputs give equal bytes.

    `environment` is None where no WebhookEnvironment exists, which also means disabled. Objects that were not
    accepted are here too, with their verdict: the query API shows them, and their deliveries are held.
    """

    namespace: str
    environment: EnvironmentConfig | None = None
    endpoints: tuple[EndpointConfig, ...] = ()
    channels: tuple[ChannelConfig, ...] = ()
    event_types: tuple[EventTypeConfig, ...] = ()
    replays: tuple[ReplayConfig, ...] = ()

    @property
    def enabled(self) -> bool:
        return self.environment is not None and self.environment.enabled


class Epoch(Frozen, frozen=True, order=True):
    """Which of two configurations is newer: the lease's transitions, then the publisher's own count."""

    term: int = 0
    sequence: int = 0
