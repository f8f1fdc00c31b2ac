"""Verdicts and compiled values, object by object."""

from __future__ import annotations

from typing import Any

import pytest

from builders import (
    SIGNING_TEXT,
    channel,
    compiled,
    config,
    endpoint,
    endpoint_of,
    environment,
    event_type,
    meta,
    secret,
)
from hookstead.config.compile import Rejected
from hookstead.config.model import Scope
from hookstead.config.times import format_time
from hookstead.resources.conditions import Reason
from hookstead.resources.kinds import (
    ChannelState,
    DeliverySpec,
    EnvironmentState,
    EventValidation,
    Header,
    Kind,
    NameRef,
    Ordering,
    Replay,
    ReplaySpec,
    RetrySpec,
    SecretKeyRef,
    SecretSource,
    SigningKey,
    SigningSpec,
    TlsSpec,
)
from hookstead.resources.problem import Problem


def _ref(name: str, key: str = "k") -> SecretSource:
    return SecretSource(secret_key_ref=SecretKeyRef(name=name, key=key))


def _keys(*names: str) -> SigningSpec:
    refs = [SigningKey(id=name, secret_key_ref=SecretKeyRef(name=name, key="k")) for name in names]
    return SigningSpec(keys=tuple(refs))


ENDPOINT_VERDICTS: list[tuple[str, dict[str, Any], Reason, Reason, Reason | None, str]] = [
    ("plain", {}, Reason.ACCEPTED, Reason.RESOLVED_REFS, None, ""),
    (
        "literal denied address",
        {"url": "http://169.254.169.254/"},
        Reason.INVALID_SPEC,
        Reason.RESOLVED_REFS,
        Reason.INVALID_SPEC,
        "spec.url: ",
    ),
    (
        "filter that is no bool",
        {"filter": "1 + 1"},
        Reason.FILTER_INVALID,
        Reason.RESOLVED_REFS,
        Reason.FILTER_INVALID,
        "spec.filter: must be of type bool",
    ),
    (
        "unknown channel",
        {"channels": ["client-acmee"]},
        Reason.ACCEPTED,
        Reason.CHANNEL_NOT_FOUND,
        None,
        "spec.channelRefs[0].name: no WebhookChannel 'client-acmee' in namespace prod (did you mean \"client-acme\"?).",
    ),
    (
        "unknown exact type",
        {"types": ["order.created", "order.*", "order.gone"]},
        Reason.ACCEPTED,
        Reason.EVENT_TYPE_NOT_FOUND,
        None,
        "spec.eventTypes[2]: no WebhookEventType declares 'order.gone'",
    ),
    (
        "missing key Secret",
        {"signing": _keys("absent")},
        Reason.ACCEPTED,
        Reason.SECRET_NOT_FOUND,
        Reason.SECRET_NOT_FOUND,
        "spec.signing.keys[0].secretKeyRef.name: no Secret 'absent' in namespace prod.",
    ),
    (
        "Secret without the label",
        {"signing": _keys("unlabelled")},
        Reason.ACCEPTED,
        Reason.SECRET_NOT_PERMITTED,
        Reason.SECRET_NOT_PERMITTED,
        "is not labelled for endpoints",
    ),
    (
        "Secret without the key",
        {"headers": (Header(name="x-a", value_from=_ref("good", "other")),)},
        Reason.ACCEPTED,
        Reason.SECRET_KEY_MISSING,
        Reason.SECRET_KEY_MISSING,
        "spec.headers[0].valueFrom.secretKeyRef.key: Secret 'good' has no key 'other'",
    ),
    (
        "key that is too short",
        {"signing": _keys("good", "short")},
        Reason.ACCEPTED,
        Reason.SECRET_INVALID,
        Reason.SECRET_INVALID,
        "expected whsec_ and base64 of 24 to 64 bytes, found 18",
    ),
    (
        "URL from a Secret that is none",
        {"url": None, "url_from": _ref("good")},
        Reason.ACCEPTED,
        Reason.SECRET_INVALID,
        Reason.SECRET_INVALID,
        "expected one http or https URL",
    ),
    (
        "header value with a line break",
        {"headers": (Header(name="x-a", value_from=_ref("broken")),)},
        Reason.ACCEPTED,
        Reason.SECRET_INVALID,
        Reason.SECRET_INVALID,
        "expected a header value",
    ),
    (
        "CA that is no certificate",
        {"tls": TlsSpec(ca_secret_ref=NameRef(name="ca"))},
        Reason.ACCEPTED,
        Reason.SECRET_INVALID,
        Reason.SECRET_INVALID,
        "spec.tls.caSecretRef: Secret 'ca', key 'ca.crt': expected PEM certificates",
    ),
]

SECRETS = (
    secret("good", k=SIGNING_TEXT + b"\n"),
    secret("unlabelled", permitted=False, k=SIGNING_TEXT),
    secret("short", k=b"whsec_plJ3nmyCDGBKInavdOK15jsl"),
    secret("broken", k=b"a\r\nb"),
    secret("ca", ca__crt=b"no pem"),
)


@pytest.mark.parametrize(
    ("spec", "accepted", "resolved", "hold", "message"),
    [row[1:] for row in ENDPOINT_VERDICTS],
    ids=[row[0] for row in ENDPOINT_VERDICTS],
)
def test_the_verdict_on_an_endpoint_is_its_first_failing_check(
    spec: dict[str, Any], accepted: Reason, resolved: Reason, hold: Reason | None, message: str
) -> None:
    found = endpoint_of(
        config(endpoint("acme", **spec), channel("client-acme"), event_type("order.created"), secrets=SECRETS), "acme"
    )
    assert (found.verdict.accepted.reason, found.verdict.resolved.reason, found.hold) == (accepted, resolved, hold)
    assert message in found.verdict.accepted.message + found.verdict.resolved.message


def test_plain_http_is_refused_unless_the_environment_allows_it() -> None:
    strict = environment(cidrs=()).spec
    assert strict.egress.allowed_cidrs == ()
    found = endpoint_of(config(endpoint("a", url="http://example.com/")), "a")
    assert found.verdict.is_accepted
    denied = endpoint_of(
        compiled(
            type(environment())(meta=meta("default"), spec=type(strict)(state=EnvironmentState.ENABLED)),
            endpoint("a", url="http://example.com/"),
        ).config,
        "a",
    )
    assert denied.verdict.accepted.reason is Reason.INVALID_SPEC


def test_a_key_from_a_file_loses_its_final_newline_and_keeps_its_order() -> None:
    found = endpoint_of(
        config(endpoint("a", signing=_keys("good", "second")), secrets=(*SECRETS, secret("second", k=SIGNING_TEXT))),
        "a",
    )
    assert [(key.id, key.material.reveal()) for key in found.keys] == [
        ("good", SIGNING_TEXT),
        ("second", SIGNING_TEXT),
    ]


def test_without_an_environment_nothing_is_accepted_and_nothing_enabled() -> None:
    found = compiled(endpoint("a"), channel("c"), event_type("t")).config
    assert not found.enabled
    judged: list[Any] = [*found.endpoints, *found.channels, *found.event_types]
    verdicts = [item.verdict.accepted.reason for item in judged]
    assert verdicts == [Reason.ENVIRONMENT_MISSING] * 3


def test_an_endpoint_whose_only_channels_dangle_receives_nothing() -> None:
    found = endpoint_of(config(endpoint("a", channels=["gone"])), "a")
    assert (found.channels, found.scope) == ((), Scope.NOTHING)
    assert "receives nothing until it exists" in found.verdict.resolved.message


def test_a_dangling_channel_leaves_the_others() -> None:
    found = endpoint_of(config(endpoint("a", channels=["gone", "c"]), channel("c", "client_1")), "a")
    assert (found.channels, found.scope) == (("client_1",), Scope.SELECTED_CHANNELS)
    assert "receives only its other channels" in found.verdict.resolved.message


def test_a_disabled_channel_lets_nothing_through_and_is_no_missing_reference() -> None:
    found = endpoint_of(config(endpoint("a", channels=["c"]), channel("c", state=ChannelState.DISABLED)), "a")
    assert (found.channels, found.verdict.is_resolved) == ((), True)


@pytest.mark.parametrize(
    ("make", "field", "reason"),
    [
        (channel, "channels", Reason.DUPLICATE_CHANNEL_NAME),
        (event_type, "event_types", Reason.DUPLICATE_EVENT_TYPE),
    ],
)
def test_of_two_with_one_wire_name_the_oldest_wins(make: Any, field: str, reason: Reason) -> None:
    young = make("a", "twice", created="2026-02-01T00:00:00Z")
    old = make("b", "twice", created="2026-01-01T00:00:00Z")
    items = getattr(config(young, old), field)
    assert [item.verdict.accepted.reason for item in items] == [reason, Reason.ACCEPTED]
    precedence = {(Kind.CHANNEL, "b"): 1, (Kind.EVENT_TYPE, "b"): 1}
    items = getattr(config(young, old, precedence=precedence), field)
    assert [item.verdict.accepted.reason for item in items] == [Reason.ACCEPTED, reason]


def test_a_losing_duplicate_lends_its_name_to_nobody() -> None:
    first = channel("a", "twice", created="2026-01-01T00:00:00Z")
    second = channel("b", "twice", created="2026-01-02T00:00:00Z")
    found = endpoint_of(config(first, second, endpoint("e", channels=["b"])), "e")
    assert (found.channels, found.verdict.resolved.reason) == ((), Reason.CHANNEL_NOT_FOUND)


@pytest.mark.parametrize(
    ("schema", "sample", "reason"),
    [
        ({"type": "object"}, {"a": 1}, Reason.ACCEPTED),
        ({"type": "nonsense"}, None, Reason.SCHEMA_INVALID),
        ({"$ref": "https://example.com/s.json"}, None, Reason.SCHEMA_INVALID),
        ({"required": ["id"]}, {"a": 1}, Reason.SAMPLE_INVALID),
        (None, {"a": 1}, Reason.ACCEPTED),
    ],
)
def test_a_schema_must_compile_and_its_sample_fit(schema: Any, sample: Any, reason: Reason) -> None:
    (found,) = config(event_type("t", schema=schema, sample=sample)).event_types
    assert found.verdict.accepted.reason is reason


def test_under_none_unknown_types_are_no_finding() -> None:
    found = endpoint_of(config(environment(validation=EventValidation.NONE), endpoint("a", types=["x"])), "a")
    assert found.verdict.is_resolved


def test_delivery_values_are_inherited_field_by_field() -> None:
    defaults = DeliverySpec(timeout_seconds=7, retry=RetrySpec(schedule_seconds=(1, 2)), ordering=Ordering.ORDERED)
    own = DeliverySpec(timeout_seconds=9, requests_per_second=3)
    found = endpoint_of(config(environment(defaults=defaults), endpoint("a", delivery=own)), "a").delivery
    assert (found.timeout_seconds, found.schedule_seconds, found.requests_per_second) == (9, (1, 2), 3)
    assert (found.ordering, found.max_in_flight) == (Ordering.ORDERED, 20)


def test_a_generated_secret_is_wanted_once_and_a_foreign_one_left_alone() -> None:
    wanted = compiled(environment(), endpoint("a"), generate=False)
    assert [item.name for item in wanted.secrets_wanted] == ["a"]
    assert endpoint_of(wanted.config, "a").hold is Reason.SECRET_NOT_FOUND
    foreign = compiled(environment(), endpoint("a"), secrets=[secret("a-signing", key=SIGNING_TEXT)])
    assert foreign.secrets_wanted == ()
    assert endpoint_of(foreign.config, "a").hold is Reason.SECRET_NOT_PERMITTED


def test_a_rejected_object_is_held_and_blocks_nobody() -> None:
    problem = Problem(kind="WebhookEndpoint", name="bad", field="spec.url", message="must be a URL")
    found = config(Rejected(kind=Kind.ENDPOINT, meta=meta("bad"), problems=(problem,)), endpoint("good"))
    bad, good = found.endpoints
    assert (bad.hold, bad.verdict.accepted.message) == (Reason.INVALID_SPEC, "spec.url: must be a URL")
    assert good.hold is None


def test_an_invalid_environment_keeps_its_last_valid_form() -> None:
    last = config(environment(defaults=DeliverySpec(timeout_seconds=7))).environment
    broken = compiled(environment(cidrs=("8.8.8.0/24",)), endpoint("a"), last_environment=last).config
    assert broken.enabled
    assert broken.environment is not None
    assert broken.environment.verdict.accepted.reason is Reason.INVALID_SPEC
    assert endpoint_of(broken, "a").delivery.timeout_seconds == 7
    assert not compiled(environment(cidrs=("8.8.8.0/24",))).config.enabled


@pytest.mark.parametrize(
    ("created", "until"),
    [
        ("2026-01-01T00:00:00Z", "2026-01-01T00:00:01.000Z"),
        ("2026-01-01T00:00:00.250Z", "2026-01-01T00:00:00.250Z"),
    ],
)
def test_a_replay_without_until_has_the_whole_second_of_its_creation(created: str, until: str) -> None:
    """An API server cuts creation times to the second; a folder of manifests does not."""
    spec = ReplaySpec(endpoint_ref=NameRef(name="a"), since="2025-12-31T00:00:00Z")
    (found,) = config(endpoint("a"), Replay(meta=meta("r", created=created), spec=spec)).replays
    assert format_time(found.until_ms) == until
