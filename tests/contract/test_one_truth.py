"""What a client reads does not depend on which gateway it asks: sections 3 and 5, where several share a database.

Whoever is alone agrees with himself, so that the tests hold of `hookstead dev` as well.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from contract.processes import ask, until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from contract.site import Site

pytestmark = pytest.mark.two_gateways

ONCE = {"retry": {"scheduleSeconds": [1]}}
LISTS = (
    "/v1/endpoints",
    "/v1/channels",
    "/v1/event-types",
    "/v1/replays",
    "/v1/deliveries",
    "/v1/events",
    "/v1/activity",
    "/v1/catalog",
    "/v1/environment",
)


def answers(site: Site, path: str, **query: Any) -> list[Any]:
    """Each gateway's."""
    replies = [ask(address, "GET", path, query=query) for address in site.dev.addresses]
    assert {reply.status for reply in replies} == {200}, (path, replies)
    return [reply.json for reply in replies]


def differences(one: Any, other: Any, place: str = "") -> Iterator[str]:
    """When a condition flipped is dated by each gateway's own look at it."""
    if isinstance(one, dict) and isinstance(other, dict):
        for name in sorted((one.keys() | other.keys()) - {"lastTransitionTime"}):
            yield from differences(one.get(name), other.get(name), f"{place}.{name}")
    elif isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        for index, pair in enumerate(zip(one, other, strict=True)):
            yield from differences(*pair, f"{place}[{index}]")
    elif one != other:
        yield f"{place}: {one!r}, {other!r}"


def agree(site: Site, path: str, **query: Any) -> None:
    """Wait until they do: counts of events and deliveries are exchanged every few seconds."""
    seen: list[str] = []

    def agreed() -> bool:
        first, *others = answers(site, path, **query)
        seen[:] = [line for other in others for line in differences(first, other)]
        return not seen

    try:
        until(agreed, what=f"one truth of {path}", pause=0.2)
    except AssertionError as error:
        raise AssertionError(f"{error}; differences: {seen}") from None


def test_what_is_accepted_is_there_at_once_whomever_one_asks(site: Site) -> None:
    site.apply(site.endpoint("a"), site.endpoint("paused", state="Paused"))
    for number in range(6):
        accepted = site.publish(number)["id"]
        for event in answers(site, f"/v1/events/{accepted}"):
            assert event["data"] == number
            assert {one["endpoint"] for one in event["deliveries"]} == {site.name("a"), site.name("paused")}
        for page in answers(site, "/v1/deliveries", endpoint=site.name("paused")):
            assert len(page["items"]) == number + 1
            assert page["items"][0]["eventId"] == accepted


def test_what_was_recorded_is_told_alike_by_all(site: Site) -> None:
    site.answers("bad", 500)
    site.apply(
        site.channel("c"),
        site.event_type("x"),
        site.endpoint("ok"),
        site.endpoint("bad", delivery=ONCE),
        site.endpoint("paused", state="Paused"),
    )
    for number in range(12):
        site.publish(number, event="x", channels=[site.channel_name("c")] if number % 2 else [])
    until(lambda: len(site.deliveries("bad", status="DeadLettered")) == 12, what="dead letters")
    until(lambda: len(site.deliveries("ok", status="Delivered")) == 12, what="delivered")
    for path in LISTS:
        agree(site, path)
    for name, pending in (("ok", 0), ("bad", 0), ("paused", 12)):
        agree(site, f"/v1/endpoints/{site.name(name)}")
        assert site.status(name)["activity"]["pending"] == pending
    for shown in answers(site, f"/v1/event-types/{site.name('x')}"):
        assert shown["activity"]["accepted"] == 12


def test_what_one_was_asked_to_do_all_have_done(site: Site) -> None:
    site.answers("a", 500, 500, 204)
    site.apply(site.endpoint("a", delivery=ONCE))
    site.publish({})
    dead = site.settled("DeadLettered")
    for attempts, address in enumerate(site.dev.addresses, 3):
        assert ask(address, "POST", f"/v1/deliveries/{dead['id']}/redeliver").status == 202
        site.settled("Delivered", attempts=attempts)
        for shown in answers(site, f"/v1/deliveries/{dead['id']}"):
            assert (shown["status"], len(shown["attempts"])) == ("Delivered", attempts)
    for address in site.dev.addresses:
        assert ask(address, "DELETE", f"/v1/events/{dead['eventId']}/payload").status == 204
        for event in answers(site, f"/v1/events/{dead['eventId']}"):
            assert event["data"] is None
        ask(address, "POST", f"/v1/deliveries/{dead['id']}/redeliver").problem(410)
