"""Contract, sections 1 and 3: WebhookReplay."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from contract.processes import manifest, until

if TYPE_CHECKING:
    from contract.site import Site

pytestmark = pytest.mark.two_gateways

ONCE = {"retry": {"scheduleSeconds": [1]}}


def stamp(offset: float = 0.0) -> str:
    return (datetime.now(UTC) + timedelta(seconds=offset)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def replay(site: Site, name: str = "r", endpoint: str = "a", **spec: Any) -> dict[str, Any]:
    spec = {"endpointRef": {"name": site.name(endpoint)}, "since": "2020-01-01T00:00:00Z", **spec}
    return manifest("WebhookReplay", site.name(name), spec)


def shown(site: Site, name: str = "r") -> dict[str, Any]:
    found: dict[str, Any] = site.dev.get(f"/v1/replays/{site.name(name)}")
    return found


def conditions(found: dict[str, Any]) -> dict[str, tuple[str, str]]:
    return {one["type"]: (one["status"], one["reason"]) for one in found["conditions"]}


def ended(site: Site, name: str = "r", *, seconds: float = 20) -> dict[str, Any]:
    def look() -> Any:
        found = shown(site, name)
        told = conditions(found)
        return found if told.get("Complete", ("",))[0] == "True" or told.get("Failed", ("",))[0] == "True" else None

    found: dict[str, Any] = until(look, what=f"the end of {name}", seconds=seconds)
    return found


def dead_letters(site: Site, count: int, *, then: int = 204, **spec: Any) -> list[str]:
    """So many dead letters; afterwards the receiver answers `then`."""
    site.answers("a", 500)
    site.apply(site.endpoint("a", delivery=ONCE, **spec))
    ids = [site.publish({"n": number}, event=f"x{number % 2}")["id"] for number in range(count)]
    until(lambda: len(site.deliveries("a", status="DeadLettered")) == count, what="dead letters")
    site.answers("a", then)
    return ids


def test_failed_rearms_the_dead_letters_themselves(site: Site) -> None:
    ids = dead_letters(site, 4)
    before = {one["id"] for one in site.deliveries("a")}
    site.apply(replay(site), file="-replay")
    found = ended(site)
    assert (found["selected"], found["delivered"], found["failed"]) == (4, 4, 0)
    told = conditions(found)
    assert told["Complete"] == ("True", "Completed")
    assert told["Ready"] == ("True", "Completed")
    assert told["Accepted"][0] == told["ResolvedRefs"][0] == "True"
    assert not {"Active", "Programmed", "Healthy", "Reconciling"} & told.keys()
    assert found["startTime"] <= found["completionTime"]
    assert {one["id"] for one in site.deliveries("a")} == before, "the same deliveries"
    assert {one["status"] for one in site.deliveries("a")} == {"Delivered"}
    assert {one.id for one in site.received("a")} == set(ids)
    rows = site.delivery(site.deliveries("a")[0]["id"])["attempts"]
    assert [one["trigger"] for one in rows] == ["Scheduled", "Scheduled", "Replay"]
    assert site.status("a")["activity"]["deadLettered"] == 0


def test_each_rearmed_delivery_gets_the_full_schedule(site: Site) -> None:
    dead_letters(site, 1, then=500)
    site.apply(replay(site), file="-replay")

    def running() -> bool:
        told = conditions(shown(site))
        return told.get("Ready") == ("False", "Running") and told.get("Reconciling", ("",))[0] == "True"

    until(running, what="Running")
    found = ended(site)
    assert (found["selected"], found["delivered"], found["failed"]) == (1, 0, 1)
    assert conditions(found)["Complete"] == ("True", "Completed")
    assert [one["number"] for one in site.only()["attempts"]] == [1, 2, 3, 4]
    assert site.only()["status"] == "DeadLettered"


def test_failed_takes_types_and_the_window_of_acceptance(site: Site) -> None:
    dead_letters(site, 2)
    middle = stamp()
    time.sleep(0.05)
    site.answers("a", 500)
    for number in range(2):
        site.publish({}, event=f"x{number}")
    until(lambda: len(site.deliveries("a", status="DeadLettered")) == 4, what="dead letters")
    site.answers("a", 204)
    site.apply(replay(site, since=middle, eventTypes=[site.type("x1")]), file="-replay")
    assert ended(site)["selected"] == 1
    site.apply(
        replay(site, since=middle, eventTypes=[site.type("x1")]),
        replay(site, "s", until=middle, eventTypes=[site.type("*")]),
        file="-replay",
    )
    assert ended(site, "s")["selected"] == 2
    (left,) = site.deliveries("a", status="DeadLettered")
    assert left["eventType"] == site.type("x0")


def test_missed_delivers_matching_events_that_never_became_a_delivery(site: Site) -> None:
    ids = [site.publish({"n": number})["id"] for number in range(3)]
    other = site.publish({"n": 9}, event="other.kind")["id"]
    site.apply(site.endpoint("a", filter="event.data.n != 1", eventTypes=[site.type("order.*")]))
    had = site.publish({"n": 5})["id"]
    site.wait("a", 1)
    site.apply(replay(site, select="Missed"), file="-replay")
    found = ended(site)
    assert (found["selected"], found["delivered"]) == (2, 2)
    assert {one.id for one in site.received("a")} == {had, ids[0], ids[2]}, "selection as of now"
    assert len(site.received("a")) == 3
    assert other not in {one.id for one in site.received("a")}
    made = [site.delivery(one["id"]) for one in site.deliveries("a") if one["eventId"] in ids]
    assert {one["attempts"][0]["trigger"] for one in made} == {"Replay"}
    event = site.dev.get(f"/v1/events/{ids[0]}")
    assert len(event["deliveries"]) == 1


def test_all_makes_new_deliveries_of_the_same_event_id(site: Site) -> None:
    site.apply(site.endpoint("a"))
    ids = [site.publish({"n": number})["id"] for number in range(3)]
    until(lambda: len(site.deliveries("a", status="Delivered")) == 3, what="delivered")
    site.apply(replay(site, select="All"), file="-replay")
    found = ended(site)
    assert (found["selected"], found["delivered"]) == (3, 3)
    assert len(site.deliveries("a")) == 6
    received = site.received("a")
    assert sorted(one.id for one in received) == sorted(ids * 2)
    bodies: dict[str, set[bytes]] = {one.id: set() for one in received}
    for one in received:
        bodies[one.id].add(one.body)
    assert all(len(found) == 1 for found in bodies.values())


@pytest.mark.two_gateways
def test_a_finished_replay_is_never_run_again_and_another_spec_is_another_replay(own_dev: Any) -> None:
    import signal

    from contract.site import Site

    site = own_dev()
    site.apply(site.endpoint("a"))
    site.publish({})
    site.settled("Delivered")
    objects = [site.endpoint("a"), replay(site, select="All")]
    site.apply(*objects)
    first = ended(site)
    assert len(site.received("a")) == 2
    site.apply(site.endpoint("a"))
    site.apply(*objects)
    time.sleep(0.5)
    assert site.dev.stop(signal.SIGTERM) == 0
    with site.dev.again() as second:
        site = Site(second, site.receiver, site.tag)
        assert ended(site)["completionTime"] == first["completionTime"]
        time.sleep(0.5)
        assert len(site.received("a")) == 2
        site.apply(site.endpoint("a"), replay(site, select="All", eventTypes=[site.type("*")]))
        until(lambda: len(site.received("a")) >= 3, what="another replay")
        assert ended(site)["startTime"] > first["completionTime"]


def test_a_replay_with_nothing_to_select_fails_with_nothing_selected(site: Site) -> None:
    site.apply(site.endpoint("a"), replay(site))
    found = ended(site)
    told = conditions(found)
    assert (found["selected"], found["delivered"], found["failed"]) == (0, 0, 0)
    assert "NothingSelected" in {reason for _, reason in told.values()}
    assert told["Complete"] == ("True", "NothingSelected")


def test_an_endpoint_that_does_not_exist_or_is_disabled_fails_the_replay(site: Site) -> None:
    site.apply(
        site.endpoint("off", state="Disabled"), replay(site, endpoint="nobody"), replay(site, "s", endpoint="off")
    )
    assert conditions(ended(site, "s"))["Failed"] == ("True", "EndpointDisabled")
    told = conditions(ended(site, seconds=60))
    assert told["Failed"] == ("True", "EndpointNotFound")
    assert told["ResolvedRefs"] == ("False", "EndpointNotFound")


def test_a_replay_of_its_own_rate_is_smooth(site: Site) -> None:
    site.apply(site.endpoint("a", state="Disabled"))
    for number in range(9):
        site.publish(number)
    site.apply(site.endpoint("a"))
    site.apply(replay(site, select="Missed", requestsPerSecond=4), file="-replay")
    requests = site.wait("a", 9)
    assert requests[-1].at - requests[0].at >= 1.7
    assert ended(site)["delivered"] == 9


def test_until_defaults_to_the_creation_of_the_replay(site: Site) -> None:
    site.apply(site.endpoint("a", state="Paused"))
    site.publish({"n": 1})
    site.apply(site.endpoint("a"))
    site.settled("Delivered")
    site.apply(replay(site, select="All"), file="-replay")
    assert ended(site)["selected"] == 1
    site.publish({"n": 2})
    time.sleep(0.5)
    assert shown(site)["selected"] == 1


def test_invalid_replays_are_not_accepted(site: Site) -> None:
    bad: dict[str, dict[str, Any]] = {
        "e": {"since": "yesterday"},
        "f": {"since": "2026-02-01T00:00:00Z", "until": "2026-01-01T00:00:00Z"},
        "g": {"select": "Some"},
        "h": {"requestsPerSecond": 0},
        "i": {"since": None},
        "j": {"eventTypes": []},
    }
    site.apply(site.endpoint("a"), *(replay(site, name, **spec) for name, spec in bad.items()))
    for name in bad:
        told = conditions(shown(site, name))
        assert told["Accepted"] == ("False", "InvalidSpec"), name
        assert told["Stalled"][0] == "True"


def test_an_erased_payload_is_not_replayed(site: Site) -> None:
    ids = dead_letters(site, 2)
    assert site.dev.ask("DELETE", f"/v1/events/{ids[0]}/payload").status == 204
    site.apply(replay(site), file="-replay")
    assert ended(site)["selected"] == 1
    assert {one["status"] for one in site.deliveries("a")} == {"DeadLettered", "Delivered"}


def test_a_replay_runs_outside_the_order(site: Site) -> None:
    missed = site.publish({"n": 1})["id"]
    site.answers("a", 500, 204)
    site.apply(site.endpoint("a", delivery={"ordering": "Ordered", "retry": {"scheduleSeconds": [600]}}))
    blocking = site.publish({"n": 2})["id"]
    site.attempted(1)
    site.apply(replay(site, select="Missed"), file="-replay")
    assert ended(site)["delivered"] == 1
    assert [one.id for one in site.received("a")] == [blocking, missed]


def test_a_paused_endpoint_holds_a_replay_that_runs(site: Site) -> None:
    dead_letters(site, 1)
    site.apply(site.endpoint("a", state="Paused", delivery=ONCE))
    site.apply(replay(site), file="-replay")
    until(lambda: shown(site).get("selected") == 1, what="selected")
    time.sleep(0.3)
    assert conditions(shown(site))["Ready"] == ("False", "Running")
    assert site.only()["status"] == "Pending"
    site.apply(site.endpoint("a", delivery=ONCE))
    assert ended(site)["delivered"] == 1
