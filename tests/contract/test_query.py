"""Contract, section 3, "Query and operate": shapes, order, pages, filters."""

from __future__ import annotations

import json
import re
import time
from datetime import datetime
from typing import TYPE_CHECKING, Any

import pytest

from contract.processes import Answer, ask, until

if TYPE_CHECKING:
    from contract.site import Site

pytestmark = pytest.mark.two_gateways

DELIVERY = {
    "id",
    "eventId",
    "eventType",
    "endpoint",
    "channels",
    "status",
    "cancelReason",
    "attemptCount",
    "createdTime",
    "nextAttemptTime",
    "completedTime",
}
ATTEMPT = {
    "number",
    "time",
    "trigger",
    "outcome",
    "statusCode",
    "errorCode",
    "durationMilliseconds",
    "message",
    "responseBody",
}
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")
LISTS = (
    "/v1/deliveries",
    "/v1/events",
    "/v1/endpoints",
    "/v1/channels",
    "/v1/event-types",
    "/v1/replays",
    "/v1/catalog",
)


@pytest.fixture(scope="module")
def busy(module_site: Site) -> Site:
    """Two endpoints, one of which fails, and a dozen events in two channels and types."""
    site = module_site
    site.apply(
        site.channel("c"),
        site.event_type("t0"),
        site.endpoint("ok"),
        site.endpoint("bad", delivery={"retry": {"scheduleSeconds": [600]}}),
        site.endpoint("paused", state="Paused", eventTypes=[site.type("t1")]),
    )
    site.answers("bad", Answer(500, body=b"went wrong"))
    for number in range(12):
        channels = {"channels": [site.channel_name("c")]} if number % 3 == 0 else {}
        site.publish({"n": number}, event=f"t{number % 2}", **channels)
        time.sleep(0.01)
    until(lambda: len(site.deliveries("ok", status="Delivered")) == 12, what="delivered")
    until(lambda: all(one["attemptCount"] for one in site.deliveries("bad")), what="failed once")
    return site


def test_a_delivery_has_exactly_these_members(busy: Site) -> None:
    for one in (*busy.deliveries("ok"), *busy.deliveries("bad"), *busy.deliveries("paused")):
        assert one.keys() == DELIVERY
        assert one["id"].startswith("dlv_")
        assert one["eventId"].startswith("msg_")
        assert isinstance(one["channels"], list)
        assert TIME.fullmatch(one["createdTime"])
        assert one["cancelReason"] is None
    bad = busy.deliveries("bad")[0]
    assert TIME.fullmatch(bad["nextAttemptTime"])
    assert bad["completedTime"] is None
    good = busy.deliveries("ok")[0]
    assert TIME.fullmatch(good["completedTime"])
    assert good["nextAttemptTime"] is None


def test_by_id_a_delivery_also_has_its_attempts(busy: Site) -> None:
    found = busy.delivery(busy.deliveries("bad")[0]["id"])
    assert found.keys() == DELIVERY | {"attempts"}
    (row,) = found["attempts"]
    assert row.keys() == ATTEMPT
    assert (row["number"], row["trigger"], row["outcome"]) == (1, "Scheduled", "Failed")
    assert (row["statusCode"], row["errorCode"], row["responseBody"]) == (500, "http-status", "went wrong")
    assert isinstance(row["durationMilliseconds"], int)
    assert row["message"]
    assert TIME.fullmatch(row["time"])
    success = busy.delivery(busy.deliveries("ok")[0]["id"])["attempts"][0]
    assert (success["outcome"], success["errorCode"]) == ("Succeeded", None)


def test_an_event_has_its_payload_and_deliveries_by_id(busy: Site) -> None:
    listed = busy.dev.list("/v1/events", eventType=busy.type("t1"))
    assert len(listed) == 6
    assert all("data" not in one or one["data"] is None for one in listed) or listed[0]["data"] == {"n": 11}
    found = busy.dev.get(f"/v1/events/{listed[0]['id']}")
    assert found.keys() >= {"id", "type", "channels", "timestamp", "data", "deliveries"}
    assert (found["type"], found["data"]) == (busy.type("t1"), {"n": 11})
    assert {one["endpoint"] for one in found["deliveries"]} == {busy.name(name) for name in ("ok", "bad", "paused")}
    for one in found["deliveries"]:
        assert one.keys() == DELIVERY
    assert listed[0].keys() >= {"id", "type", "channels", "timestamp"}


def test_lists_are_items_and_next_cursor(busy: Site) -> None:
    for path in LISTS:
        page = busy.dev.get(path)
        assert page.keys() == {"items", "nextCursor"}, path
        assert len(page["items"]) <= 50
        assert page["nextCursor"] is None or isinstance(page["nextCursor"], str)


def test_deliveries_and_events_are_newest_first(busy: Site) -> None:
    for items in (busy.deliveries("ok"), busy.dev.list("/v1/events"), busy.dev.list("/v1/deliveries")):
        times = [one["createdTime"] for one in items]
        assert times == sorted(times, reverse=True)
    numbers = [busy.dev.get(f"/v1/events/{one['eventId']}")["data"]["n"] for one in busy.deliveries("ok")]
    assert numbers == list(range(11, -1, -1))


@pytest.mark.parametrize("path", ["/v1/deliveries", "/v1/events"])
def test_pages_are_complete_and_stay_stable_while_events_arrive(busy: Site, path: str) -> None:
    whole = [one["id"] for one in busy.dev.list(path)]
    seen: list[str] = []
    cursor: dict[str, Any] = {}
    while True:
        page = busy.dev.get(path, limit=5, **cursor)
        seen += [one["id"] for one in page["items"]]
        busy.publish({}, event="later")
        if page["nextCursor"] is None:
            break
        assert len(page["items"]) == 5
        cursor = {"cursor": page["nextCursor"]}
    assert seen == whole


def test_a_cursor_stays_with_its_filters_and_gives_the_same_page_again(busy: Site) -> None:
    first = busy.dev.get("/v1/deliveries", endpoint=busy.name("ok"), eventType=busy.type("t0"), limit=2)
    twice = [
        busy.dev.get(
            "/v1/deliveries", endpoint=busy.name("ok"), eventType=busy.type("t0"), limit=2, cursor=first["nextCursor"]
        )
        for _ in range(2)
    ]
    assert twice[0] == twice[1]
    assert not {one["id"] for one in first["items"]} & {one["id"] for one in twice[0]["items"]}


def test_deliveries_are_filtered_by_endpoint_status_type_and_channel(busy: Site) -> None:
    tag = {one["id"] for name in ("ok", "bad", "paused") for one in busy.deliveries(name)}

    def count(**query: str) -> int:
        return len([one for one in busy.dev.list("/v1/deliveries", **query) if one["id"] in tag])

    until(lambda: not busy.deliveries("ok", status="Pending"), what="nothing pending")
    later = len(busy.deliveries("ok")) - 12
    assert count(endpoint=busy.name("ok"), status="Delivered") == 12 + later
    assert count(endpoint=busy.name("bad"), status="Pending") == 12 + later
    assert count(endpoint=busy.name("bad"), status="Delivered") == 0
    assert count(eventType=busy.type("t1")) == 18
    assert count(channel=busy.channel_name("c")) == 4 + 4 + 2
    assert count(channel=busy.channel_name("c"), eventType=busy.type("t1"), endpoint=busy.name("paused")) == 2
    assert count(endpoint="nobody") == 0
    assert count(status="Cancelled") == count(status="DeadLettered") == 0


def test_events_are_filtered_by_type_and_channel(busy: Site) -> None:
    assert len(busy.dev.list("/v1/events", channel=busy.channel_name("c"))) == 4
    assert len(busy.dev.list("/v1/events", channel=busy.channel_name("c"), eventType=busy.type("t0"))) == 2


@pytest.mark.parametrize("path", ["/v1/deliveries", "/v1/events"])
def test_since_is_inclusive_and_until_exclusive_on_created_time(busy: Site, path: str) -> None:
    query = {"eventType": busy.type("t0")}
    items = busy.dev.list(path, **query)
    times = sorted({one["createdTime"] for one in items})
    middle = times[len(times) // 2]
    since = busy.dev.list(path, since=middle, **query)
    until_ = busy.dev.list(path, until=middle, **query)
    assert {one["createdTime"] for one in since} == {time for time in times if time >= middle}
    assert {one["createdTime"] for one in until_} == {time for time in times if time < middle}
    assert len(since) + len(until_) == len(items)
    shifted = datetime.fromisoformat(middle).astimezone().isoformat()
    assert busy.dev.list(path, since=shifted, **query) == since
    assert busy.dev.list(path, since=middle, until=middle, **query) == []


@pytest.mark.parametrize("limit", ["0", "-1", "251", "x", "", "1.5", "1e2", "９", "99999999999999999999"])
@pytest.mark.parametrize("path", LISTS)
def test_a_bad_limit_is_400(shared_dev: Any, path: str, limit: str) -> None:
    shared_dev.ask("GET", path, query={"limit": limit}).problem(400)


@pytest.mark.parametrize("path", LISTS)
def test_limits_from_1_to_250_are_taken(shared_dev: Any, path: str) -> None:
    for limit in (1, 250):
        assert len(shared_dev.get(path, limit=limit)["items"]) <= limit


@pytest.mark.parametrize("cursor", ["x", "", "AAAA", "eyJhIjoxfQ", "%00", "../..", "é", "-1", "x" * 3000])
@pytest.mark.parametrize("path", LISTS)
def test_a_bad_cursor_is_400(shared_dev: Any, path: str, cursor: str) -> None:
    shared_dev.ask("GET", path, query={"cursor": cursor}).problem(400)


def test_a_cursor_of_another_list_is_400(busy: Site) -> None:
    cursor = busy.dev.get("/v1/deliveries", limit=1)["nextCursor"]
    busy.dev.ask("GET", "/v1/events", query={"cursor": cursor}).problem(400)


@pytest.mark.parametrize("status", ["pending", "Failed", "", "x", "Pending,Delivered"])
def test_a_bad_status_is_400(shared_dev: Any, status: str) -> None:
    shared_dev.ask("GET", "/v1/deliveries", query={"status": status}).problem(400)


@pytest.mark.parametrize("name", ["since", "until"])
@pytest.mark.parametrize("value", ["yesterday", "", "2026-01-31", "2026-01-31T12:00:00", "1769860800"])
def test_a_bad_time_is_400(shared_dev: Any, name: str, value: str) -> None:
    for path in ("/v1/deliveries", "/v1/events", "/v1/activity"):
        shared_dev.ask("GET", path, query={name: value}).problem(400)


def test_an_endpoint_is_shown_in_the_form_of_its_status_at_the_top_level(busy: Site) -> None:
    found = busy.status("bad")
    assert found.keys() >= {
        "name",
        "observedGeneration",
        "conditions",
        "scope",
        "host",
        "delivery",
        "signing",
        "activity",
        "recentDeliveries",
    }
    assert found["name"] == busy.name("bad")
    assert found["observedGeneration"] == 1
    assert found["host"].startswith("127.0.0.1")
    assert found["activity"].keys() >= {
        "windowSeconds",
        "succeeded",
        "failed",
        "pending",
        "deadLettered",
        "consecutiveFailures",
        "lastAttemptTime",
        "lastFailureTime",
    }
    for condition in found["conditions"]:
        assert condition.keys() >= {"type", "status", "reason", "lastTransitionTime", "observedGeneration"}
        assert condition["status"] in ("True", "False", "Unknown")
    assert {one["type"] for one in found["conditions"]} >= {
        "Accepted",
        "ResolvedRefs",
        "Programmed",
        "Ready",
        "Active",
        "Healthy",
    }
    (listed,) = [one for one in busy.dev.list("/v1/endpoints") if one["name"] == busy.name("bad")]
    assert listed.keys() == found.keys()


def test_recent_deliveries_are_attempts_newest_first_and_bounded(busy: Site) -> None:
    recent = busy.status("bad")["recentDeliveries"]
    assert 1 <= len(recent) <= 20
    times = [one["time"] for one in recent]
    assert times == sorted(times, reverse=True)
    for one in recent:
        assert one.keys() <= {
            "id",
            "eventType",
            "time",
            "attempt",
            "outcome",
            "statusCode",
            "durationMilliseconds",
            "nextAttemptTime",
            "message",
        }
        found = busy.delivery(one["id"])
        assert found["attempts"][one["attempt"] - 1]["time"] == one["time"], "`time` is the attempt's"
        assert (one["outcome"], one["statusCode"], one["attempt"]) == ("Failed", 500, 1)
        assert len(one["message"]) <= 256
    assert "went wrong" not in json.dumps(busy.status("bad")), "never a response body"


def test_healthy_follows_the_attempts(busy: Site, site: Site) -> None:
    assert busy.condition("Healthy", "ok") == ("True", "Succeeding")
    assert busy.condition("Healthy", "bad") == ("False", "Failing")
    site.apply(site.endpoint("new"))
    assert site.condition("Healthy", "new") == ("Unknown", "NoRecentDeliveries")
    assert site.status("new")["recentDeliveries"] == []


def everywhere_counted(site: Site, path: str, count: int) -> None:
    """Wait until every gateway tells of so many events."""

    def counted() -> bool:
        return all(ask(one, "GET", path).json["activity"]["accepted"] == count for one in site.dev.addresses)

    until(counted, what=f"{count} events at {path}")


def test_the_environment_channels_and_types_have_the_same_form(busy: Site) -> None:
    environment = busy.dev.get("/v1/environment")
    assert environment.keys() >= {
        "conditions",
        "observedGeneration",
        "endpoints",
        "channels",
        "eventTypes",
        "gateway",
        "config",
        "activity",
    }
    assert environment["endpoints"].keys() >= {"total", "ready", "active", "failing"}
    assert environment["gateway"].keys() >= {"replicas", "programmedReplicas", "version"}
    assert environment["config"]["hash"]
    assert environment["config"]["sizeBytes"] > 100
    # Gateways exchange such counts every second.
    everywhere_counted(busy, f"/v1/channels/{busy.name('c')}", 4)
    everywhere_counted(busy, f"/v1/event-types/{busy.name('t0')}", 6)
    channel = busy.dev.get(f"/v1/channels/{busy.name('c')}")
    assert channel.keys() >= {"name", "conditions", "observedGeneration", "endpoints", "activity"}
    kind = busy.dev.get(f"/v1/event-types/{busy.name('t0')}")
    assert kind.keys() >= {"name", "conditions", "observedGeneration", "endpoints", "activity"}
    assert kind["activity"].keys() >= {"accepted", "rejected", "lastEventTime"}
    assert kind["activity"]["accepted"] == 6


def test_what_was_never_used_has_its_activity_too(site: Site) -> None:
    site.apply(site.channel("new"), site.event_type("new"), site.endpoint("new"))
    assert site.dev.get(f"/v1/channels/{site.name('new')}")["activity"]["accepted"] == 0
    kind = site.dev.get(f"/v1/event-types/{site.name('new')}")["activity"]
    assert (kind["accepted"], kind["rejected"]) == (0, 0)
    assert site.status("new")["activity"]["pending"] == 0


def test_times_are_rfc_3339_in_utc(busy: Site) -> None:
    text = json.dumps([busy.status("bad"), busy.deliveries("bad"), busy.dev.get("/v1/environment")])
    for found in re.findall(r'"(\w*[tT]ime)": "([^"]*)"', text):
        assert TIME.fullmatch(found[1]), found


def test_head_is_get_without_a_body(shared_dev: Any) -> None:
    reply = shared_dev.ask("HEAD", "/v1/endpoints")
    assert (reply.status, reply.body) == (200, b"")


def test_a_misspelt_parameter_is_400(shared_dev: Any) -> None:
    shared_dev.ask("GET", "/v1/deliveries", query={"endpont": "x"}).problem(400)
