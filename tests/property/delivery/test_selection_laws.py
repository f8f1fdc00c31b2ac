"""The selection rule against its own text: contract section 2, written out naively and compared."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from builders import channel, config, endpoint, environment
from hookstead.config.model import EndpointConfig
from hookstead.delivery.routing import Router
from hookstead.resources.event_filter import EventView
from hookstead.resources.kinds import ChannelState, EndpointState, EnvironmentState

CHANNEL_OBJECTS = [channel(f"c{n}", f"client_{n}") for n in range(3)] + [
    channel("off", "client_off", state=ChannelState.DISABLED)
]
WIRE = ["client_0", "client_1", "client_2", "client_off", "client_unknown"]
EVENT_TYPES = ["order", "order.paid", "order.paid.late", "orders.paid", "user.new"]
PATTERNS = ["order", "order.*", "order.paid", "order.paid.*", "user.*"]
FILTERS: dict[str, Callable[[int], bool | None]] = {
    "event.data.n > 1": lambda n: n > 1,
    "event.data.missing == 1": lambda n: None,
    "true": lambda n: True,
}

ENDPOINTS: st.SearchStrategy[list[dict[str, Any]]] = st.lists(
    st.builds(
        dict,
        channels=st.none() | st.lists(st.sampled_from(["c0", "c1", "c2", "off", "gone"]), min_size=1, unique=True),
        types=st.none() | st.lists(st.sampled_from(PATTERNS), min_size=1, unique=True),
        filter=st.none() | st.sampled_from(list(FILTERS)),
        state=st.sampled_from(list(EndpointState)),
        url=st.sampled_from(["http://127.0.0.1:9/", "http://169.254.169.254/"]),
    ),
    max_size=6,
)
EVENT = st.tuples(
    st.sampled_from(EVENT_TYPES), st.lists(st.sampled_from(WIRE), max_size=3, unique=True), st.integers(0, 3)
)


def _view(event: tuple[str, Sequence[str], int]) -> EventView:
    return EventView(
        type=event[0], channels=event[1], id="msg_1", timestamp=b'"2026-01-01T00:00:00Z"', data=b'{"n":%d}' % event[2]
    )


def _covers(patterns: Sequence[str] | None, event_type: str) -> bool:
    if patterns is None:
        return True
    return any(event_type.startswith(p[:-1]) if p.endswith(".*") else p == event_type for p in patterns)


def _expected(spec: dict[str, Any], event: tuple[str, Sequence[str], int]) -> bool:
    event_type, channels, n = event
    if spec["state"] is EndpointState.DISABLED or "169.254" in spec["url"]:
        return False
    names = {"c0": "client_0", "c1": "client_1", "c2": "client_2"}
    in_channel = spec["channels"] is None or any(names.get(ref) in channels for ref in spec["channels"] if ref in names)
    passes = spec["filter"] is None or FILTERS[spec["filter"]](n) is True
    return _covers(spec["types"], event_type) and in_channel and passes


@given(ENDPOINTS, EVENT)
def test_an_endpoint_gets_an_event_if_and_only_if_the_rule_says_so(
    specs: list[dict[str, Any]], event: tuple[str, list[str], int]
) -> None:
    objects = [endpoint(f"e{index}", **spec) for index, spec in enumerate(specs)]
    route = Router(config(*objects, *CHANNEL_OBJECTS)).route(event[0], event[1], lambda: _view(event))
    got = sorted(item.identity.name for item in route.endpoints)
    assert got == [f"e{index}" for index, spec in enumerate(specs) if _expected(spec, event)]


@given(ENDPOINTS, EVENT)
def test_an_event_never_leaks_into_a_foreign_channel(
    specs: list[dict[str, Any]], event: tuple[str, list[str], int]
) -> None:
    objects = [endpoint(f"e{index}", **spec) for index, spec in enumerate(specs)]
    route = Router(config(*objects, *CHANNEL_OBJECTS)).route(event[0], event[1], lambda: _view(event))
    assert all(_shares(item, event[1]) for item in route.endpoints)


def _shares(item: EndpointConfig, channels: Sequence[str]) -> bool:
    return item.channels is None or bool(set(item.channels) & set(channels))


@given(ENDPOINTS, EVENT)
def test_a_disabled_environment_selects_nobody(specs: list[dict[str, Any]], event: tuple[str, list[str], int]) -> None:
    off = environment(state=EnvironmentState.DISABLED)
    objects = [endpoint(f"e{index}", **spec) for index, spec in enumerate(specs)]
    assert (
        Router(config(off, *objects, *CHANNEL_OBJECTS)).route(event[0], event[1], lambda: _view(event)).endpoints == ()
    )


def test_a_failing_filter_selects_nobody_and_is_named() -> None:
    route = Router(config(endpoint("e", filter="event.data.missing == 1"))).route("t", (), lambda: _view(("t", (), 1)))
    assert (route.endpoints, route.filter_errors) == ((), ("e",))


def test_an_event_without_channels_reaches_only_endpoints_without_channels() -> None:
    router = Router(config(endpoint("all"), endpoint("one", channels=["c0"]), *CHANNEL_OBJECTS))
    assert [item.identity.name for item in router.route("t", (), lambda: _view(("t", (), 1))).endpoints] == ["all"]


def test_a_filter_of_another_version_matches_nothing_and_blocks_nobody_else() -> None:
    valid = config(endpoint("newer", filter="true"), endpoint("other", filter="true"))
    foreign = [
        msgspec.structs.replace(item, filter="event.from_the_future()") if item.identity.name == "newer" else item
        for item in valid.endpoints
    ]
    route = Router(msgspec.structs.replace(valid, endpoints=tuple(foreign))).route("t", (), lambda: _view(("t", (), 0)))
    assert [item.identity.name for item in route.endpoints] == ["other"]
    assert route.filter_errors == ("newer",)
