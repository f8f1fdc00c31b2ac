"""A remembered compilation changes nothing but the time it takes."""

from __future__ import annotations

import base64
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from builders import NAMESPACE, channel, endpoint, environment, event_type, generated_secret, secret
from hookstead.config.compile import Inputs, Memory, compile_environment
from hookstead.resources.kinds import (
    ChannelState,
    DeliverySpec,
    EventValidation,
    SecretKeyRef,
    SigningKey,
    SigningSpec,
)

KEYED = SigningSpec(keys=(SigningKey(id="main", secret_key_ref=SecretKeyRef(name="team", key="key")),))
ENDPOINTS = [
    endpoint("a"),
    endpoint("a", channels=["one"]),
    endpoint("b", types=["made.up", "order.*"], signing=KEYED),
    endpoint("b", url="https://10.0.0.1/x", signing=KEYED),
    endpoint("c", channels=["one", "two"], types=["order.created"]),
]
CHANNELS = [channel("one"), channel("one", state=ChannelState.DISABLED), channel("two", "w"), channel("to")]
TYPES = [event_type("t", "order.created"), event_type("u", "made.up")]
ENVIRONMENTS = [
    environment(),
    environment(cidrs=("10.0.0.0/8",)),
    environment(defaults=DeliverySpec(timeout_seconds=3)),
    environment(validation=EventValidation.NONE),
]
KEY = b"whsec_" + base64.b64encode(bytes(32))
SECRETS = [
    *[generated_secret(item) for item in (ENDPOINTS[0], ENDPOINTS[4])],
    secret("team", key=KEY),
    secret("team", key=b"broken"),
    secret("tean", key=KEY),
    secret("team", permitted=False),
]


def some(items: list[Any], name: Any) -> st.SearchStrategy[list[Any]]:
    return st.lists(st.sampled_from(items), unique_by=name, max_size=len(items))


@st.composite
def everything(draw: st.DrawFn) -> Inputs:
    return Inputs(
        namespace=NAMESPACE,
        environments=draw(st.lists(st.sampled_from(ENVIRONMENTS), max_size=1)),
        endpoints=draw(some(ENDPOINTS, lambda item: item.meta.name)),
        channels=draw(some(CHANNELS, lambda item: item.meta.name)),
        event_types=draw(some(TYPES, lambda item: item.meta.name)),
        secrets={item.name: item for item in draw(some(SECRETS, lambda item: item.name))},
        allow_loopback=draw(st.booleans()),
    )


@given(st.lists(everything(), min_size=1, max_size=4))
def test_what_is_remembered_is_what_would_be_compiled(series: list[Inputs]) -> None:
    memory = Memory()
    for inputs in series:
        assert compile_environment(inputs, memory=memory) == compile_environment(inputs)


@given(everything())
def test_nothing_changed_gives_the_very_same_endpoints(inputs: Inputs) -> None:
    memory = Memory()
    first = compile_environment(inputs, memory=memory).config.endpoints
    again = compile_environment(inputs, memory=memory).config.endpoints
    for before, after in zip(first, again, strict=True):
        assert before == after
        assert before is after or before.hold is not None
