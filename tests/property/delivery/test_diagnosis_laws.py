"""What a diagnosis says is what the router does, and the sentence that it blames is the one that excludes."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builders import channel, config, endpoint, endpoint_of, environment
from hookstead.delivery.diagnosis import DiagnosedEvent, Rule, diagnose
from hookstead.delivery.routing import Router
from hookstead.resources.event_filter import EventView
from hookstead.resources.kinds import ChannelState, EndpointState, EnvironmentState

CHANNELS = [
    *(channel(f"c{n}", f"client_{n}") for n in range(3)),
    channel("off", "client_off", state=ChannelState.DISABLED),
]
ENVIRONMENTS = [None, environment(), environment(state=EnvironmentState.DISABLED)]
SPEC: st.SearchStrategy[dict[str, Any]] = st.builds(
    dict,
    channels=st.none() | st.lists(st.sampled_from(["c0", "c1", "c2", "off", "gone"]), min_size=1, unique=True),
    types=st.none() | st.lists(st.sampled_from(["order", "order.*", "order.paid", "user.*"]), min_size=1, unique=True),
    filter=st.none() | st.sampled_from(["event.data.n > 1", "event.data.missing == 1", "true"]),
    state=st.sampled_from(list(EndpointState)),
    url=st.sampled_from(["http://127.0.0.1:9/", "http://169.254.169.254/"]),
)
EVENT = st.builds(
    lambda event_type, channels, n: DiagnosedEvent(
        type=event_type,
        channels=tuple(channels),
        id="msg_1",
        timestamp=b'"2026-01-01T00:00:00Z"',
        data=b'{"n":%d}' % n,
    ),
    st.sampled_from(["order", "order.paid", "order.paid.late", "orders.paid", "user.new"]),
    st.lists(st.sampled_from(["client_0", "client_1", "client_off", "client_unknown"]), max_size=3, unique=True),
    st.integers(0, 3),
)


@given(SPEC, EVENT, st.sampled_from([1, 2]))
def test_a_diagnosis_is_what_the_router_does(spec: dict[str, Any], event: DiagnosedEvent, which: int) -> None:
    site = ENVIRONMENTS[which]
    compiled = config(site, endpoint("e", **spec), endpoint("other"), *CHANNELS)
    view = EventView(
        type=event.type, channels=event.channels, id=event.id, timestamp=event.timestamp, data=event.data or b""
    )
    routed = {one.identity.name for one in Router(compiled).route(event.type, event.channels, lambda: view).endpoints}
    found = diagnose(compiled, endpoint_of(compiled, "e"), event)
    assert found.selected == ("e" in routed)
    assert [check.rule for check in found.checks] == list(Rule)
    assert all(check.detail and check.sentence for check in found.checks)


@pytest.mark.parametrize(
    ("spec", "event", "rule", "words"),
    [
        ({}, {}, None, "spec.eventTypes is absent"),
        ({"state": EndpointState.PAUSED}, {}, None, "the event is queued"),
        ({"state": EndpointState.DISABLED}, {}, Rule.STATE, "spec.state is Disabled"),
        ({"url": "http://169.254.169.254/"}, {}, Rule.ACCEPTED, "InvalidSpec"),
        ({"types": ["order.payd"]}, {}, Rule.EVENT_TYPES, 'did you mean "order.payd"'),
        ({"types": ["order.*"]}, {"type": "order"}, Rule.EVENT_TYPES, "order.* does not cover order itself"),
        ({"channels": ["c0"]}, {}, Rule.CHANNEL_REFS, "the event has no channels"),
        ({"channels": ["c0"]}, {"channels": ("client_1",)}, Rule.CHANNEL_REFS, "the event is for client_1"),
        ({"channels": ["c0"]}, {"channels": ("client_00",)}, Rule.CHANNEL_REFS, 'did you mean "client_0"'),
        ({"channels": ["gone"]}, {"channels": ("client_0",)}, Rule.CHANNEL_REFS, "ChannelNotFound"),
        ({"channels": ["off"]}, {"channels": ("client_off",)}, Rule.CHANNEL_REFS, "declared and enabled"),
        ({"filter": "event.data.n > 1"}, {"data": b'{"n":1}'}, Rule.FILTER, "which is false here"),
        ({"filter": "event.data.x > 1"}, {"data": b'{"n":1}'}, Rule.FILTER, "which fails on this event"),
        ({}, {"accepted_ms": 1}, Rule.TIME, "before the endpoint was created"),
    ],
)
def test_the_sentence_that_excludes_is_named_with_what_it_says_here(
    spec: dict[str, Any], event: dict[str, Any], rule: Rule | None, words: str
) -> None:
    compiled = config(endpoint("e", **spec), *CHANNELS)
    asked = DiagnosedEvent(**{"type": "order.paid", "channels": (), "data": b"{}", **event})
    found = diagnose(compiled, endpoint_of(compiled, "e"), asked)
    excluded = found.excluded_by
    assert (None if excluded is None else excluded.rule) == rule
    assert any(words in check.detail for check in found.checks), found


def test_without_data_a_filter_is_not_judged_unless_something_else_excludes() -> None:
    compiled = config(endpoint("e", filter="event.data.n > 1", types=["a"]))
    item = endpoint_of(compiled, "e")
    assert diagnose(compiled, item, DiagnosedEvent(type="a", channels=())).selected is None
    assert diagnose(compiled, item, DiagnosedEvent(type="b", channels=())).selected is False


def test_a_missing_or_disabled_environment_comes_first() -> None:
    for site, words in ((ENVIRONMENTS[2], "is Disabled"), (None, "no WebhookEnvironment")):
        objects = [one for one in (site, endpoint("e", types=["b"])) if one is not None]
        compiled = config(*objects)
        if site is None:
            compiled = type(compiled)(namespace="prod", endpoints=compiled.endpoints)
        excluded = diagnose(compiled, compiled.endpoints[0], DiagnosedEvent(type="a", channels=())).excluded_by
        assert excluded is not None
        assert excluded.rule is Rule.ENVIRONMENT
        assert words in excluded.detail
