"""Findings about an environment as a whole: what the operator would refuse, and what nobody meant."""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec
import pytest

from hookstead.config.compile import Inputs, SecretObject, compile_environment
from hookstead.config.lint import Notice, Severity, lint
from hookstead.resources.kinds import Channel, Endpoint, Environment, EventType
from hookstead.resources.secret import Secret

T = TypeVar("T")
URL = "https://hooks.example.com/in"


def environment(**spec: Any) -> Environment:
    return _made(Environment, "default", {"state": "Enabled", **spec})


def endpoint(name: str = "acme", **spec: Any) -> Endpoint:
    return _made(Endpoint, name, {"url": URL, **spec})


def channel(name: str, **spec: Any) -> Channel:
    return _made(Channel, name, {"channelName": name.replace("-", "_"), **spec})


def event_type(wire: str, **spec: Any) -> EventType:
    return _made(EventType, wire.replace(".", "-"), {"type": wire, "description": "something", **spec})


def _made(cls: type[T], name: str, spec: dict[str, Any]) -> T:
    meta = {"name": name, "uid": name}
    return msgspec.convert({"meta": meta, "spec": spec}, cls)


def findings(*objects: Any) -> list[str]:
    return [_line(notice) for notice in notices(*objects)]


def notices(*objects: Any) -> tuple[Notice, ...]:
    def of(cls: type) -> list[Any]:
        return [item for item in objects if isinstance(item, cls)]

    key = Secret(b"whsec_" + b"MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=")
    inputs = Inputs(
        namespace="default",
        environments=of(Environment) or [environment()],
        endpoints=of(Endpoint),
        channels=of(Channel),
        event_types=of(EventType),
        secrets={
            f"{item.meta.name}-signing": SecretObject(
                name=f"{item.meta.name}-signing", permitted=True, data={"key": key}, owner_uid=item.meta.uid
            )
            for item in of(Endpoint)
        },
    )
    return lint(inputs, compile_environment(inputs))


def _line(notice: Notice) -> str:
    return f"{notice.severity.value} {notice.rule} {notice.problem.name} {notice.problem.field}".rstrip()


CLIENT = channel("client-7")
ORDER = event_type("order.created")


@pytest.mark.parametrize(
    ("objects", "expected"),
    [
        ([endpoint(), CLIENT, ORDER], []),
        ([endpoint(channelRefs=[{"name": "client-7"}], eventTypes=["order.*"]), CLIENT, ORDER], []),
        (
            [endpoint(channelRefs=[{"name": "client-8"}, {"name": "client-7"}, {"name": "x"}]), CLIENT],
            [
                "error ChannelNotFound acme spec.channelRefs[0].name",
                "error ChannelNotFound acme spec.channelRefs[2].name",
            ],
        ),
        (
            [endpoint(eventTypes=["order.created", "order.creatd", "x"]), ORDER],
            ["error EventTypeNotFound acme spec.eventTypes[1]", "error EventTypeNotFound acme spec.eventTypes[2]"],
        ),
        (
            [environment(eventValidation="None"), endpoint(eventTypes=["order.creatd"]), ORDER],
            ["warning EventTypeNotFound acme spec.eventTypes[0]"],
        ),
        (
            [endpoint(eventTypes=["payment.*"]), ORDER],
            ["warning NeverMatches acme spec.eventTypes[0]"],
        ),
        ([environment(eventValidation="None"), endpoint(eventTypes=["payment.*"]), ORDER], []),
        (
            [endpoint(eventTypes=["order.*", "order.created"]), ORDER],
            ["warning RedundantEventType acme spec.eventTypes[1]"],
        ),
        (
            [
                endpoint(eventTypes=["order.created"]),
                event_type("order.created", lifecycle="Archived", replacedBy="order.made"),
            ],
            [
                "warning EventTypeArchived acme spec.eventTypes[0]",
                "warning ReplacementNotFound order-created spec.replacedBy",
            ],
        ),
        (
            [endpoint(channelRefs=[{"name": "client-7"}]), CLIENT, channel("client-8")],
            ["warning ChannelUnused client-8"],
        ),
        (
            [endpoint(channelRefs=[{"name": "client-7"}]), channel("client-7", state="Disabled")],
            ["warning NeverMatches acme spec.channelRefs"],
        ),
        (
            [channel("client-7"), _made(Channel, "other", {"channelName": "client_7"})],
            ["error DuplicateChannelName other spec.channelName"],
        ),
        (
            [event_type("a.b", schema={"type": "object", "required": ["n"]}, sample={})],
            ["error SampleInvalid a-b spec.sample"],
        ),
        ([event_type("a.b", schema={"type": "nothing"})], ["error SchemaInvalid a-b spec.schema.type"]),
        ([endpoint(filter="event.data.x +")], ["error FilterInvalid acme spec.filter"]),
        ([endpoint(url="http://hooks.example.com/in")], ["error InvalidSpec acme spec.url"]),
        (
            [environment(egress={"privateNetworks": "Allow", "allowedCIDRs": ["8.8.8.0/24"]})],
            ["error InvalidSpec default spec.egress.allowedCIDRs[0]"],
        ),
        (
            [endpoint(headers=[{"name": "x-key", "valueFrom": {"secretKeyRef": {"name": "gone", "key": "k"}}}])],
            ["error SecretNotFound acme spec.headers[0].valueFrom.secretKeyRef.name"],
        ),
    ],
)
def test_each_slip_is_found_once_with_its_field(objects: list[Any], expected: list[str]) -> None:
    assert findings(*objects) == expected


def test_errors_come_before_warnings_of_one_object() -> None:
    found = notices(
        endpoint(eventTypes=["order.*", "order.created", "nope"], filter="1"),
        ORDER,
    )
    assert [notice.severity for notice in found] == [Severity.ERROR, Severity.ERROR, Severity.WARNING]


def test_a_finding_says_what_was_probably_meant() -> None:
    found = notices(endpoint(channelRefs=[{"name": "client-77"}]), CLIENT)
    assert 'did you mean "client-7"?' in found[-1].problem.message
