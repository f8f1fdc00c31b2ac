"""Contract, section 2: which endpoints get an event."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from contract.processes import until

if TYPE_CHECKING:
    from contract.site import Site


def refs(site: Site, *names: str) -> list[dict[str, str]]:
    return [{"name": site.name(name)} for name in names]


@pytest.fixture(scope="module")
def routed(module_site: Site) -> Site:
    site = module_site
    site.apply(
        site.channel("one"),
        site.channel("two"),
        site.channel("off", state="Disabled"),
        site.endpoint("all"),
        site.endpoint("one", channelRefs=refs(site, "one")),
        site.endpoint("both", channelRefs=refs(site, "one", "two")),
        site.endpoint("dangling", channelRefs=refs(site, "nowhere")),
        site.endpoint("half", channelRefs=refs(site, "nowhere", "two")),
        site.endpoint("off", channelRefs=refs(site, "off")),
        site.endpoint("off-or-one", channelRefs=refs(site, "off", "one")),
        site.endpoint("exact", eventTypes=[site.type("order.created")]),
        site.endpoint("deep", eventTypes=[site.type("order.*")]),
        site.endpoint("several", eventTypes=[site.type("user.created"), site.type("order.item.*")]),
        site.endpoint("disabled", state="Disabled"),
        site.endpoint("broken", filter="event.data.n >"),
        site.endpoint("wrong-kind", filter="event.data.n"),
        site.endpoint("small", filter="event.data.n < 10"),
        site.endpoint("in-two", filter=f'"{site.channel_name("two")}" in event.channels'),
        site.endpoint("by-id", filter='event.id.startsWith("msg_")'),
        site.endpoint("late", filter='timestamp(event.timestamp) > timestamp("2030-01-01T00:00:00Z")'),
        site.endpoint(
            "by-type", filter=f'event.type.endsWith("created") && event.type != "{site.type("user.created")}"'
        ),
    )
    return site


def chosen(site: Site, event: str, channels: tuple[str, ...] = (), data: Any = None, **more: Any) -> set[str]:
    names = [site.channel_name(name) for name in channels]
    members = {**({"channels": names} if channels else {}), **more}
    accepted = site.publish({"n": 5} if data is None else data, event=event, **members)
    found = site.dev.get(f"/v1/events/{accepted['id']}")["deliveries"]
    assert accepted["endpoints"] == len(found)
    return {one["endpoint"].removeprefix(f"{site.tag}-") for one in found}


OPEN = {"all", "small", "by-id"}


@pytest.mark.parametrize(
    ("event", "channels", "expected"),
    [
        ("x", (), OPEN),
        ("x", ("one",), OPEN | {"one", "both", "off-or-one"}),
        ("x", ("two",), OPEN | {"both", "half", "in-two"}),
        ("x", ("one", "two"), OPEN | {"one", "both", "half", "off-or-one", "in-two"}),
        ("x", ("off",), OPEN),
        ("x", ("off", "one"), OPEN | {"one", "both", "off-or-one"}),
        ("x", ("nobody",), OPEN),
        ("x", ("nowhere",), OPEN),
        ("x", ("ONE",), OPEN),
        ("order.created", (), OPEN | {"exact", "deep", "by-type"}),
        ("order.created.v2", (), OPEN | {"deep"}),
        ("order", (), OPEN),
        ("orders.created", (), OPEN | {"by-type"}),
        ("order.item.added", (), OPEN | {"deep", "several"}),
        ("order.item", (), OPEN | {"deep"}),
        ("Order.created", (), OPEN | {"by-type"}),
        ("order.Created", (), OPEN | {"deep"}),
        ("user.created", (), OPEN | {"several"}),
        ("user.created.x", (), OPEN),
    ],
)
def test_channels_types_and_states_select(
    routed: Site, event: str, channels: tuple[str, ...], expected: set[str]
) -> None:
    assert chosen(routed, event, channels) == expected


@pytest.mark.parametrize(
    ("data", "matches"),
    [
        ({"n": 9}, True),
        ({"n": 9.99}, True),
        ({"n": 10}, False),
        ({}, False),
        ({"n": "9"}, False),
        (7, False),
        ([1], False),
        ({"n": None}, False),
    ],
)
def test_a_filter_selects_by_data_and_one_that_errors_does_not_match(routed: Site, data: Any, matches: bool) -> None:
    assert ("small" in chosen(routed, "x", data=data)) is matches


def test_a_filter_that_errors_is_counted(routed: Site) -> None:
    name = f'hookstead_filter_errors_total{{endpoint="{routed.name("small")}"}}'
    before = routed.dev.metrics().get(name, 0)
    routed.publish({"no": "n"}, event="x")
    assert routed.dev.metrics()[name] == before + 1


def test_a_filter_sees_the_timestamp(routed: Site) -> None:
    assert "late" in chosen(routed, "x", timestamp="2031-01-01T00:00:00Z")
    assert "late" not in chosen(routed, "x", timestamp="2029-01-01T00:00:00Z")


def test_an_endpoint_that_is_not_accepted_gets_no_events_and_is_listed_all_the_same(routed: Site) -> None:
    for name in ("broken", "wrong-kind"):
        assert routed.condition("Accepted", name) == ("False", "FilterInvalid")
        assert routed.condition("Ready", name)[0] == "False"
        assert routed.condition("Stalled", name)[0] == "True"
    names = {one["name"] for one in routed.dev.list("/v1/endpoints")}
    assert {routed.name("broken"), routed.name("disabled"), routed.name("all")} <= names


def test_scope_tells_what_an_endpoint_can_get(routed: Site) -> None:
    scopes = {name: routed.status(name)["scope"] for name in ("all", "one", "half", "dangling")}
    assert scopes == {
        "all": "AllChannels",
        "one": "SelectedChannels",
        "half": "SelectedChannels",
        "dangling": "Nothing",
    }
    assert routed.condition("ResolvedRefs", "dangling") == ("False", "ChannelNotFound")
    assert routed.condition("ResolvedRefs", "half") == ("False", "ChannelNotFound")
    assert routed.condition("ResolvedRefs", "one") == ("True", "ResolvedRefs")


def test_a_disabled_channel_says_so(routed: Site) -> None:
    def conditions(name: str) -> dict[str, tuple[str, str]]:
        found = routed.dev.get(f"/v1/channels/{routed.name(name)}")["conditions"]
        return {one["type"]: (one["status"], one["reason"]) for one in found}

    assert conditions("off")["Active"] == ("False", "ChannelDisabled")
    assert conditions("off")["Ready"][0] == "True"
    assert conditions("one")["Active"] == ("True", "Active")


def test_an_event_for_a_channel_nobody_declared_is_accepted_and_counted(routed: Site) -> None:
    before = routed.dev.metrics()["hookstead_undeclared_channels_total"]
    assert chosen(routed, "x", ("really_nobody",)) == OPEN
    assert routed.dev.metrics()["hookstead_undeclared_channels_total"] == before + 1


def test_a_new_or_changed_endpoint_applies_to_the_next_event_within_2_seconds(site: Site) -> None:
    import time

    def reaches(count: int) -> bool:
        return bool(site.publish({})["endpoints"] == count)

    for objects, count in (([site.endpoint("a")], 1), ([site.endpoint("a"), site.endpoint("b")], 2), ([], 0)):
        began = time.monotonic()
        site.dev.write(site.tag, *objects)
        until(lambda count=count: reaches(count), what=f"{count} endpoints", seconds=10)  # type: ignore[misc]
        assert time.monotonic() - began < 2.0


def test_selection_is_decided_at_acceptance(site: Site) -> None:
    site.apply(site.channel("c"), site.endpoint("a", state="Paused", channelRefs=refs(site, "c")))
    assert site.publish({"n": 1}, channels=[site.channel_name("c")])["endpoints"] == 1
    site.apply(
        site.endpoint("a", eventTypes=["nothing.at.all"], filter="event.data.n == 2", channelRefs=refs(site, "zzz"))
    )
    assert site.wait("a")[0].json["data"] == {"n": 1}
    assert site.settled("Delivered")["attemptCount"] == 1


def test_an_empty_list_of_channels_or_types_and_a_bare_star_are_invalid(site: Site) -> None:
    site.apply(
        site.endpoint("a", channelRefs=[]),
        site.endpoint("b", eventTypes=[]),
        site.endpoint("c", eventTypes=["*"]),
        site.endpoint("d", url=None),
    )
    for name in "abcd":
        assert site.condition("Accepted", name) == ("False", "InvalidSpec")
    assert site.publish({})["endpoints"] == 0


def test_of_two_channels_with_one_name_the_oldest_wins(site: Site) -> None:
    first, second = site.channel("c"), site.channel("d")
    second["spec"]["channelName"] = first["spec"]["channelName"]
    site.apply(
        first,
        second,
        site.endpoint("first", channelRefs=refs(site, "c")),
        site.endpoint("second", channelRefs=refs(site, "d")),
    )
    found = {
        one["type"]: (one["status"], one["reason"])
        for one in site.dev.get(f"/v1/channels/{site.name('d')}")["conditions"]
    }
    assert found["Accepted"] == ("False", "DuplicateChannelName")
    assert found["Stalled"][0] == "True"
    site.publish({}, channels=[site.channel_name("c")])
    site.wait("first")
    assert site.deliveries("second") == []
    assert site.status("second")["scope"] == "Nothing"


def test_of_two_event_types_with_one_type_the_oldest_wins(site: Site) -> None:
    first, second = site.event_type("t", schema={"required": ["a"]}), site.event_type("u")
    second["spec"]["type"] = first["spec"]["type"]
    site.apply(first, second)
    found = {one["type"]: one for one in site.dev.get(f"/v1/event-types/{site.name('u')}")["conditions"]}
    assert (found["Accepted"]["status"], found["Accepted"]["reason"]) == ("False", "DuplicateEventType")


def test_json_in_a_filter_is_typed_as_cel_has_it(site: Site) -> None:
    filters = {
        "int": "event.data.i == 5",
        "double": "event.data.d > 1",
        "bool": "event.data.b",
        "list": "event.data.l.exists(x, x == 2)",
        "map": 'event.data.m["k"] == "v"',
        "has": "has(event.data.m.k) && !has(event.data.m.z)",
        "null": "event.data.z == null",
        "regex": 'event.data.m.k.matches("^v$")',
        "big": "event.data.big > 1",
    }
    site.apply(*(site.endpoint(name, filter=text) for name, text in filters.items() if name != "bool"))
    data = '{"i":5,"d":1.5,"b":true,"l":[1,2],"m":{"k":"v"},"z":null,"big":1e400}'
    document = f'{{"type":"{site.type("x")}","data":{data}}}'
    accepted = site.dev.post("/v1/events", document.encode()).json
    found = site.dev.get(f"/v1/events/{accepted['id']}")["deliveries"]
    assert {one["endpoint"].removeprefix(f"{site.tag}-") for one in found} == filters.keys() - {"bool"}
    assert json.loads(data)
