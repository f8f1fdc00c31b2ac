"""From an object to a typed value or problems."""

from __future__ import annotations

from typing import Any

import pytest

from hookstead.resources import kinds
from hookstead.resources.kinds import API_VERSION, DELIVERY_DEFAULTS, Kind
from hookstead.resources.parse import parse, validate

Json = Any


def endpoint(**spec: Json) -> Json:
    return {
        "apiVersion": API_VERSION,
        "kind": "WebhookEndpoint",
        "metadata": {"name": "acme"},
        "spec": {"url": "https://receiver.example/", **spec},
    }


def environment(**spec: Json) -> Json:
    return {
        "apiVersion": API_VERSION,
        "kind": "WebhookEnvironment",
        "metadata": {"name": "default"},
        "spec": spec,
    }


def messages(obj: Json) -> list[str]:
    return [str(problem) for problem in validate(obj)]


def test_an_endpoint_becomes_a_typed_value() -> None:
    obj = endpoint(channelRefs=[{"name": "client-acme"}], headers=[{"name": "x-a", "value": "b"}], state="Paused")
    parsed = parse(obj)
    assert isinstance(parsed, kinds.Endpoint)
    assert parsed.spec.url == "https://receiver.example/"
    assert parsed.spec.channel_refs == (kinds.NameRef(name="client-acme"),)
    assert parsed.spec.headers == (kinds.Header(name="x-a", value="b"),)
    assert parsed.spec.state is kinds.EndpointState.PAUSED


def test_what_is_absent_stays_absent_where_the_schema_has_no_default() -> None:
    parsed = parse(endpoint())
    assert isinstance(parsed, kinds.Endpoint)
    assert parsed.spec == kinds.EndpointSpec(url="https://receiver.example/")


@pytest.mark.parametrize(
    "obj",
    [
        environment(),
        {key: value for key, value in environment().items() if key != "spec"},
        {**environment(), "spec": None},
        environment(deliveryDefaults=None, egress={}, retention=None, displayName=None),
        environment(deliveryDefaults={"retry": {}}),
    ],
)
def test_an_environment_that_says_nothing_has_the_defaults_of_the_typed_value(obj: Json) -> None:
    parsed = parse(obj)
    assert isinstance(parsed, kinds.Environment)
    assert parsed.spec == kinds.EnvironmentSpec()
    assert parsed.spec.delivery_defaults == DELIVERY_DEFAULTS


def test_defaults_fill_up_field_by_field() -> None:
    parsed = parse(environment(deliveryDefaults={"maxInFlight": 3}, egress={"plaintextHTTP": "Allow"}))
    assert isinstance(parsed, kinds.Environment)
    assert parsed.spec.delivery_defaults.max_in_flight == 3
    assert parsed.spec.delivery_defaults.timeout_seconds == 15
    assert parsed.spec.egress == kinds.EgressSpec(plaintext_http=kinds.Switch.ALLOW)


def test_metadata_is_kept_as_far_as_the_product_uses_it() -> None:
    obj = endpoint()
    obj["metadata"] |= {
        "namespace": "prod",
        "uid": "u-1",
        "generation": 7,
        "creationTimestamp": "2026-01-01T00:00:00Z",
        "resourceVersion": "42",
        "labels": {"a": "b"},
        "annotations": {"hookstead.dev/resume-requested-at": "x", "kubectl.kubernetes.io/other": "y"},
        "managedFields": [{"anything": None}],
    }
    parsed = parse(obj)
    assert isinstance(parsed, kinds.Endpoint)
    assert parsed.meta == kinds.Meta(
        name="acme",
        namespace="prod",
        uid="u-1",
        generation=7,
        creation_time="2026-01-01T00:00:00Z",
        resource_version="42",
        annotations={"hookstead.dev/resume-requested-at": "x"},
    )


def test_an_object_without_a_namespace_gets_the_callers() -> None:
    parsed = parse(endpoint(), namespace="prod")
    assert isinstance(parsed, kinds.Endpoint)
    assert parsed.meta.namespace == "prod"


def test_schema_and_sample_keep_their_nulls() -> None:
    obj = {
        "apiVersion": API_VERSION,
        "kind": "WebhookEventType",
        "metadata": {"name": "a"},
        "spec": {"type": "a", "description": "x", "schema": {"const": None}, "sample": {"a": [None]}},
    }
    parsed = parse(obj)
    assert isinstance(parsed, kinds.EventType)
    assert parsed.spec.schema == {"const": None}
    assert parsed.spec.sample == {"a": [None]}


def test_parsing_leaves_the_object_alone() -> None:
    obj = environment(deliveryDefaults=None)
    parse(obj)
    assert obj == environment(deliveryDefaults=None)


@pytest.mark.parametrize(
    ("obj", "expected"),
    [
        ([], "object: must be a mapping with apiVersion, kind, metadata and spec"),
        ({}, "object: apiVersion: must be hookstead.dev/v1alpha1, not absent: correct it"),
        (
            {"apiVersion": API_VERSION, "kind": "WebhookEndpiont", "metadata": {"name": "a"}},
            (
                "WebhookEndpiont a: kind: must be one of WebhookEnvironment, WebhookEndpoint, WebhookChannel, "
                'WebhookEventType, WebhookReplay, not "WebhookEndpiont" (did you mean "WebhookEndpoint"?)'
            ),
        ),
        (
            endpoint(delivery={"timeoutSecond": 5}),
            (
                "WebhookEndpoint acme: spec.delivery.timeoutSecond: is not a field here (did you mean "
                '"timeoutSeconds"?): correct the name'
            ),
        ),
        (
            endpoint(signing={"keys": [{"id": "a", "secretKeyRef": {"name": "s"}}]}),
            (
                "WebhookEndpoint acme: spec.signing.keys[0].secretKeyRef.key: is required: add it (key is the key "
                "within the Secret's data)"
            ),
        ),
        (
            endpoint(state="paused"),
            (
                'WebhookEndpoint acme: spec.state: must be Enabled, Disabled or Paused, not "paused" (did you mean '
                '"Paused"?)'
            ),
        ),
        (
            endpoint(delivery={"timeoutSeconds": "5"}),
            (
                'WebhookEndpoint acme: spec.delivery.timeoutSeconds: must be an integer, not a string ("5"): write it '
                "without quotes"
            ),
        ),
        (
            endpoint(description=5),
            "WebhookEndpoint acme: spec.description: must be a string, not a number (5): put it in quotes",
        ),
        (
            endpoint(eventTypes="order.created"),
            (
                'WebhookEndpoint acme: spec.eventTypes: must be a list, not a string ("order.created"): write it as a '
                "list of one"
            ),
        ),
        (
            endpoint(delivery={"maxInFlight": 0}),
            "WebhookEndpoint acme: spec.delivery.maxInFlight: must be at least 1, not 0",
        ),
        (
            endpoint(description="x" * 257),
            "WebhookEndpoint acme: spec.description: must be at most 256 characters long, not 257: shorten it",
        ),
        (
            endpoint(channelRefs=[{"name": "a"}, {"name": "b"}, {"name": "a"}]),
            (
                "WebhookEndpoint acme: spec.channelRefs[2]: must differ from entry [0], which has the same name: "
                "remove one of the two"
            ),
        ),
        (
            endpoint(url="ftp://receiver.example/"),
            (
                "WebhookEndpoint acme: spec.url: must begin with https:// (or http://), then a host, and have no "
                'spaces, not "ftp://receiver.example/"'
            ),
        ),
        (
            {**endpoint(), "metadata": {"name": "acme", "labels": {"a": True}}},
            "WebhookEndpoint acme: metadata.labels.a: must be a string, not a boolean (true): put it in quotes",
        ),
        (
            {**endpoint(), "metadata": {}},
            "WebhookEndpoint: metadata.name: is required: add it",
        ),
        (
            {**endpoint(), "status": {"conditons": []}},
            (
                'WebhookEndpoint acme: status.conditons: is not a field here (did you mean "conditions"?): correct the '
                "name"
            ),
        ),
    ],
)
def test_messages_name_object_field_expectation_and_remedy(obj: Json, expected: str) -> None:
    assert messages(obj) == [expected]


def test_every_problem_of_an_object_is_told_at_once() -> None:
    fields = [problem.field for problem in validate(endpoint(bogus=1, state="x", delivery={"maxInFlight": 0}))]
    assert fields == ["spec.bogus", "spec.delivery.maxInFlight", "spec.state"]


def test_a_rule_speaks_for_the_pattern_beside_it() -> None:
    assert messages(endpoint(eventTypes=["*"])) == [
        (
            "WebhookEndpoint acme: spec.eventTypes[0]: must be a wire name or prefix.*, and a bare * is neither: "
            "remove spec.eventTypes to select every event type"
        )
    ]


def test_strings_are_counted_in_characters_as_the_server_does() -> None:
    assert messages(endpoint(description="😀" * 256)) == []


def test_an_object_that_came_from_the_server_with_its_status_is_taken() -> None:
    status = {"observedGeneration": 1, "conditions": [{"type": "Ready", "status": "True"}], "scope": "AllChannels"}
    assert messages({**endpoint(), "status": status}) == []


@pytest.mark.parametrize("value", [float("nan"), {1: 2}, {"a": {1, 2}}, b"x", 2**70, "\ud800"])
def test_values_that_are_no_json_are_refused_and_raise_nothing(value: Json) -> None:
    assert messages(endpoint(description=value)) or value == "\ud800"


@pytest.mark.parametrize("depth", [250, 100_000])
def test_an_object_that_nests_too_deep_is_refused_before_a_library_recurses(depth: int) -> None:
    deep: Json = {}
    for _ in range(depth):
        deep = {"a": [deep]}
    event_type = {"type": "a", "description": "x", "sample": deep}
    obj = {"apiVersion": API_VERSION, "kind": "WebhookEventType", "metadata": {"name": "a"}, "spec": event_type}
    assert messages(obj) == ["WebhookEventType a: must nest at most 250 deep: make it flatter"]
    while deep:  # Python itself takes such a thing apart by recursion
        deep = deep.pop("a").pop()


def test_kinds_have_their_plurals() -> None:
    assert Kind.EVENT_TYPE.plural == "webhookeventtypes"
