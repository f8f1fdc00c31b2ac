"""The five kinds as typed values: what a manifest is once it has passed validation.

Every field carries the wire's name (camelCase) in its serial form, so `msgspec.to_builtins(spec)` is the
manifest's `spec` again, less what stands at its default. The defaults here are the defaults of `crds/`;
`tests/unit/resources` holds the two together. None always means absent.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Final, TypeAlias

import msgspec

GROUP: Final = "hookstead.dev"
VERSION: Final = "v1alpha1"
API_VERSION: Final = f"{GROUP}/{VERSION}"
ENVIRONMENT_NAME: Final = "default"
"""The one name that a WebhookEnvironment may have: an environment is a namespace."""

RECONCILE_ANNOTATION: Final = "hookstead.dev/reconcile-requested-at"
RESUME_ANNOTATION: Final = "hookstead.dev/resume-requested-at"
SECRET_LABEL: Final = "hookstead.dev/endpoint-secret"  # noqa: S105  (a label, no password)
"""Only Secrets labelled `"true"` under this name may be read for an endpoint."""


class Kind(StrEnum):
    """The kinds of the group, by the name that manifests and messages use."""

    ENVIRONMENT = "WebhookEnvironment"
    ENDPOINT = "WebhookEndpoint"
    CHANNEL = "WebhookChannel"
    EVENT_TYPE = "WebhookEventType"
    REPLAY = "WebhookReplay"

    @property
    def plural(self) -> str:
        """The resource's name in URLs and RBAC."""
        return f"{self.value.lower()}s"


class Switch(StrEnum):
    """A permission that is closed unless someone opens it."""

    DENY = "Deny"
    ALLOW = "Allow"


class EnvironmentState(StrEnum):
    DISABLED = "Disabled"
    ENABLED = "Enabled"


class EndpointState(StrEnum):
    ENABLED = "Enabled"
    DISABLED = "Disabled"
    PAUSED = "Paused"


class ChannelState(StrEnum):
    ENABLED = "Enabled"
    DISABLED = "Disabled"


class Ordering(StrEnum):
    UNORDERED = "Unordered"
    ORDERED = "Ordered"


class CircuitBreaker(StrEnum):
    AUTO = "Auto"
    NONE = "None"


class EventValidation(StrEnum):
    NONE = "None"
    WARN = "Warn"
    ENFORCE = "Enforce"


class DeliveryLog(StrEnum):
    NONE = "None"
    FAILURES_ONLY = "FailuresOnly"
    ALL = "All"


class PayloadFormat(StrEnum):
    STANDARD_WEBHOOKS = "StandardWebhooks"
    CLOUD_EVENTS = "CloudEvents"
    DATA_ONLY = "DataOnly"


class Lifecycle(StrEnum):
    ACTIVE = "Active"
    DEPRECATED = "Deprecated"
    ARCHIVED = "Archived"


class ReplaySelect(StrEnum):
    FAILED = "Failed"
    MISSED = "Missed"
    ALL = "All"


class _Value(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """A frozen value whose serial form has the manifest's field names."""


class Meta(_Value, frozen=True, kw_only=True):
    """What the product uses of `metadata`."""

    name: str
    namespace: str = "default"
    uid: str = ""
    """The API server's; in `hookstead dev` a stable stand-in. Empty for a manifest that was never applied."""
    generation: int = 1
    creation_time: str | None = None
    """RFC 3339 (`metadata.creationTimestamp`); None for a manifest that was never applied."""
    resource_version: str = ""
    annotations: Mapping[str, str] = {}
    """Only those under `hookstead.dev/`."""


# --- what several kinds share -------------------------------------------------------------------------------


class NameRef(_Value, frozen=True, kw_only=True):
    """A reference by `metadata.name` within the namespace: a channel, an endpoint or a Secret."""

    name: str


class SecretKeyRef(_Value, frozen=True, kw_only=True):
    """One key of one Secret of the namespace."""

    name: str
    key: str


class SecretSource(_Value, frozen=True, kw_only=True):
    """`urlFrom` and `valueFrom`: a value that lives in a Secret."""

    secret_key_ref: SecretKeyRef


class RetrySpec(_Value, frozen=True, kw_only=True):
    schedule_seconds: tuple[int, ...] | None = None


class DeliverySpec(_Value, frozen=True, kw_only=True):
    """How deliveries are made. On an endpoint None inherits from the environment."""

    timeout_seconds: int | None = None
    retry: RetrySpec | None = None
    requests_per_second: int | None = None
    max_in_flight: int | None = None
    ordering: Ordering | None = None
    circuit_breaker: CircuitBreaker | None = None


# --- WebhookEnvironment -------------------------------------------------------------------------------------


class EgressSpec(_Value, frozen=True, kw_only=True):
    plaintext_http: Switch = msgspec.field(default=Switch.DENY, name="plaintextHTTP")
    private_networks: Switch = Switch.DENY
    allowed_cidrs: tuple[str, ...] = msgspec.field(default=(), name="allowedCIDRs")


class RetentionSpec(_Value, frozen=True, kw_only=True):
    payload_days: int = 30
    attempt_days: int = 30
    dead_letter_days: int = 30


class StatusReportingSpec(_Value, frozen=True, kw_only=True):
    delivery_log: DeliveryLog = DeliveryLog.ALL
    delivery_log_limit: int = 10
    period_seconds: int = 60


DEFAULT_SCHEDULE_SECONDS: Final = (5, 300, 1800, 7200, 18000, 36000, 50400, 72000, 86400)
"""The Standard Webhooks schedule: 10 attempts over 75 h 35 m."""

DELIVERY_DEFAULTS: Final = DeliverySpec(
    timeout_seconds=15,
    retry=RetrySpec(schedule_seconds=DEFAULT_SCHEDULE_SECONDS),
    max_in_flight=20,
    ordering=Ordering.UNORDERED,
    circuit_breaker=CircuitBreaker.AUTO,
)
"""What `spec.deliveryDefaults: {}` becomes: the API server writes these. No rate means unlimited."""


class EnvironmentSpec(_Value, frozen=True, kw_only=True):
    state: EnvironmentState = EnvironmentState.DISABLED
    display_name: str | None = None
    delivery_defaults: DeliverySpec = DELIVERY_DEFAULTS
    suspend_after_seconds: int = 432000
    event_validation: EventValidation = EventValidation.WARN
    egress: EgressSpec = EgressSpec()
    retention: RetentionSpec = RetentionSpec()
    status_reporting: StatusReportingSpec = StatusReportingSpec()


# --- WebhookEndpoint ----------------------------------------------------------------------------------------


class SigningKey(_Value, frozen=True, kw_only=True):
    id: str
    secret_key_ref: SecretKeyRef
    not_after_time: str | None = None
    """RFC 3339; the key signs until then. None: for good."""


class SigningSpec(_Value, frozen=True, kw_only=True):
    keys: tuple[SigningKey, ...]


class Header(_Value, frozen=True, kw_only=True):
    """Exactly one of `value` and `value_from` is set."""

    name: str
    value: str | None = None
    value_from: SecretSource | None = None


class TlsSpec(_Value, frozen=True, kw_only=True):
    ca_secret_ref: NameRef | None = None
    client_cert_secret_ref: NameRef | None = None


class EndpointSpec(_Value, frozen=True, kw_only=True):
    """Exactly one of `url` and `url_from` is set."""

    url: str | None = None
    url_from: SecretSource | None = None
    description: str | None = None
    state: EndpointState = EndpointState.ENABLED
    channel_refs: tuple[NameRef, ...] | None = None
    """None: events of every channel, and events without one. Never empty."""
    event_types: tuple[str, ...] | None = None
    """Wire names or `prefix.*`; None: every type. Never empty."""
    filter: str | None = None
    signing: SigningSpec | None = None
    """None: the operator generates the Secret `<endpoint>-signing`."""
    headers: tuple[Header, ...] = ()
    tls: TlsSpec | None = None
    payload_format: PayloadFormat = PayloadFormat.STANDARD_WEBHOOKS
    delivery: DeliverySpec = DeliverySpec()


# --- WebhookChannel, WebhookEventType, WebhookReplay --------------------------------------------------------


class ChannelSpec(_Value, frozen=True, kw_only=True):
    channel_name: str
    description: str | None = None
    state: ChannelState = ChannelState.ENABLED


class EventTypeSpec(_Value, frozen=True, kw_only=True):
    type: str
    description: str
    group: str | None = None
    schema: dict[str, Any] | None = None
    """JSON Schema 2020-12, as written; `resources.json_schema` compiles it."""
    sample: dict[str, Any] | None = None
    lifecycle: Lifecycle = Lifecycle.ACTIVE
    replaced_by: str | None = None


class ReplaySpec(_Value, frozen=True, kw_only=True):
    endpoint_ref: NameRef
    select: ReplaySelect = ReplaySelect.FAILED
    since: str
    """RFC 3339, inclusive."""
    until: str | None = None
    """RFC 3339, exclusive; None: the object's creation."""
    event_types: tuple[str, ...] | None = None
    requests_per_second: int | None = None


class Environment(_Value, frozen=True, kw_only=True):
    meta: Meta
    spec: EnvironmentSpec


class Endpoint(_Value, frozen=True, kw_only=True):
    meta: Meta
    spec: EndpointSpec


class Channel(_Value, frozen=True, kw_only=True):
    meta: Meta
    spec: ChannelSpec


class EventType(_Value, frozen=True, kw_only=True):
    meta: Meta
    spec: EventTypeSpec


class Replay(_Value, frozen=True, kw_only=True):
    meta: Meta
    spec: ReplaySpec


Resource: TypeAlias = Environment | Endpoint | Channel | EventType | Replay

RESOURCE_TYPES: Final[Mapping[Kind, type[Resource]]] = {
    Kind.ENVIRONMENT: Environment,
    Kind.ENDPOINT: Endpoint,
    Kind.CHANNEL: Channel,
    Kind.EVENT_TYPE: EventType,
    Kind.REPLAY: Replay,
}


def kind_of(resource: Resource) -> Kind:
    """The kind of a typed value."""
    return _KINDS[type(resource)]


_KINDS: Final[Mapping[type[Resource], Kind]] = {cls: kind for kind, cls in RESOURCE_TYPES.items()}
