"""Laws of a plan: what routing would do otherwise is what the difference tells, and equal sides differ in nothing."""

from __future__ import annotations

from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from builders import channel, compiled, endpoint, environment, event_type
from hookstead.config.changes import EndpointChange, Fate, Side
from hookstead.config.difference import difference
from hookstead.config.event_patterns import covers
from hookstead.config.model import DeliveryConfig
from hookstead.config.receiving import EVERY_OTHER, NameChanges
from hookstead.delivery.routing import Router
from hookstead.resources.kinds import ChannelState, EndpointState, EnvironmentState, EventValidation, Lifecycle

TYPES = ("a", "a.b", "a.b.c", "x.y", "z")
PATTERNS = (*TYPES, "a.*", "a.b.*", "x.*")
CHANNELS = ("c1", "c2", "c3")


@st.composite
def sides(draw: st.DrawFn) -> Side:
    """An environment with a few endpoints, channels and types, in any state."""
    items: list[Any] = [
        environment(
            state=draw(
                st.sampled_from([EnvironmentState.ENABLED, EnvironmentState.ENABLED, EnvironmentState.DISABLED])
            ),
            validation=draw(st.sampled_from(list(EventValidation))),
        )
    ]
    for name, state in draw(st.dictionaries(st.sampled_from(CHANNELS), st.sampled_from(list(ChannelState)))).items():
        items.append(channel(name, state=state))
    for name, lifecycle in draw(st.dictionaries(st.sampled_from(TYPES), st.sampled_from(list(Lifecycle)))).items():
        items.append(event_type(name, lifecycle=lifecycle))
    endpoints = [
        endpoint(
            name,
            state=draw(st.sampled_from(list(EndpointState))),
            types=draw(st.none() | st.lists(st.sampled_from(PATTERNS), min_size=1, max_size=3, unique=True)),
            channels=draw(st.none() | st.lists(st.sampled_from(CHANNELS), min_size=1, max_size=2, unique=True)),
        )
        for name in draw(st.sets(st.sampled_from(["e1", "e2", "e3"])))
    ]
    return Side(config=compiled(*items, *endpoints).config, endpoints={item.meta.name: item.spec for item in endpoints})


def routed(config: DeliveryConfig, event: tuple[str, str | None]) -> set[str]:
    """Who gets an event; under Enforce only of a usable type, since others are refused."""
    name, in_channel = event
    strict = config.environment is not None and config.environment.event_validation is EventValidation.ENFORCE
    usable = {one.type for one in config.event_types if one.lifecycle is not Lifecycle.ARCHIVED}
    if strict and name not in usable:
        return set()
    route = Router(config).route(name, () if in_channel is None else (in_channel,), lambda: None)  # type: ignore[arg-type,return-value]  # no filters
    return {one.identity.name for one in route.endpoints}


def tells(names: tuple[str, ...], name: str | None) -> bool:
    return EVERY_OTHER in names or (name is not None and covers(names, name))


def told(change: EndpointChange | None, event: tuple[str, str | None], which: str) -> bool:
    if change is None:
        return False
    types: NameChanges = change.event_types
    channels: NameChanges = change.channels
    return tells(getattr(types, which), event[0]) or tells(getattr(channels, which), event[1])


EVENTS = st.tuples(st.sampled_from(TYPES), st.none() | st.sampled_from(CHANNELS))


def validating(validation: EventValidation) -> Side:
    """One endpoint for every event and one for a prefix, and no declared type."""
    endpoints = [endpoint("e1"), endpoint("e2", types=["a.*"])]
    return Side(
        config=compiled(environment(validation=validation), *endpoints).config,
        endpoints={item.meta.name: item.spec for item in endpoints},
    )


@settings(max_examples=200)
@given(old=sides(), new=sides(), event=EVENTS)
@example(old=validating(EventValidation.NONE), new=validating(EventValidation.ENFORCE), event=("z", None))
@example(old=validating(EventValidation.ENFORCE), new=validating(EventValidation.WARN), event=("a.b", None))
def test_whatever_is_routed_otherwise_is_told_of_its_endpoint(
    old: Side, new: Side, event: tuple[str, str | None]
) -> None:
    changes = {change.name: change for change in difference(old, new, now_ms=0).endpoints}
    before, after = routed(old.config, event), routed(new.config, event)
    for name in after - before:
        assert told(changes.get(name), event, "started"), (name, changes.get(name))
    for name in before - after:
        assert told(changes.get(name), event, "stopped"), (name, changes.get(name))


@settings(max_examples=50)
@given(side=sides())
def test_equal_sides_differ_in_nothing(side: Side) -> None:
    found = difference(side, side, now_ms=0)
    assert (found.objects, found.endpoints, found.event_types) == ((), (), ())


@settings(max_examples=50)
@given(old=sides(), new=sides())
def test_what_starts_there_stops_back(old: Side, new: Side) -> None:
    back = {change.name: change for change in difference(new, old, now_ms=0).endpoints}
    for change in difference(old, new, now_ms=0).endpoints:
        other = back.get(change.name)
        if other is None:  # what is wrong now was right before, and being right again is no news
            assert change.problem
            continue
        assert change.event_types.started == other.event_types.stopped
        assert change.channels.started == other.channels.stopped
        assert (change.fate is Fate.GAINED) == (other.fate is Fate.LOST)
        assert {key.id for key in change.keys_started} == {key.id for key in other.keys_stopped}
