"""Contract, section 3: manual redelivery, tests of endpoints, erasure of payloads."""

from __future__ import annotations

import json
import signal
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from contract.processes import Answer, secret, until

if TYPE_CHECKING:
    from contract.site import Site

pytestmark = pytest.mark.two_gateways

LONG = {"retry": {"scheduleSeconds": [600, 600]}, "timeoutSeconds": 2}
ONCE = {"retry": {"scheduleSeconds": [1]}}


def failed_once(site: Site, *answers: Answer | int, **delivery: Any) -> dict[str, Any]:
    """A delivery that waits for its second attempt."""
    site.answers("a", 500, *answers)
    site.apply(site.endpoint("a", delivery={**LONG, **delivery}))
    site.publish({"n": 1})
    found: dict[str, Any] = site.attempted(1)
    return found


def dead(site: Site, *later: Answer | int) -> dict[str, Any]:
    site.answers("a", 500, 500, *later)
    site.apply(site.endpoint("a", delivery=ONCE))
    site.publish({"n": 1})
    found: dict[str, Any] = site.settled("DeadLettered")
    return found


def test_a_failed_redelivery_leaves_next_attempt_time_and_the_remaining_attempts_as_they_were(site: Site) -> None:
    before = failed_once(site, 500)
    for count in (2, 3, 4):
        reply = site.redeliver(before["id"])
        assert reply.status == 202
        after = site.attempted(count)
        assert (after["status"], after["nextAttemptTime"]) == ("Pending", before["nextAttemptTime"])
    assert [one["trigger"] for one in after["attempts"]] == ["Scheduled", "Manual", "Manual", "Manual"]
    assert [one["number"] for one in after["attempts"]] == [1, 2, 3, 4]


def test_a_failed_redelivery_takes_no_attempt_from_the_schedule(site: Site) -> None:
    site.answers("a", 500)
    site.apply(site.endpoint("a", delivery={"retry": {"scheduleSeconds": [2, 1]}}))
    site.publish({})
    first = site.attempted(1)
    assert site.redeliver(first["id"]).status == 202
    found = site.settled("DeadLettered")
    assert [one["trigger"] for one in found["attempts"]] == ["Scheduled", "Manual", "Scheduled", "Scheduled"]


def test_a_successful_redelivery_ends_the_delivery_as_delivered(site: Site) -> None:
    before = failed_once(site, 204)
    assert site.redeliver(before["id"]).status == 202
    after = site.settled("Delivered", attempts=2)
    assert after["nextAttemptTime"] is None
    assert after["completedTime"]
    assert after["attempts"][1]["trigger"] == "Manual"
    first, second = site.received("a")
    assert (first.id, first.body) == (second.id, second.body)


def test_a_dead_letter_is_redelivered_and_counts_once_under_its_present_status(site: Site) -> None:
    before = dead(site, 500, 204)
    assert site.redeliver(before["id"]).status == 202
    failed = site.attempted(3)
    assert (failed["status"], failed["nextAttemptTime"]) == ("DeadLettered", None)
    assert site.redeliver(before["id"]).status == 202
    site.settled("Delivered", attempts=4)
    assert len(site.deliveries("a")) == 1
    activity = site.status("a")["activity"]
    assert (activity["deadLettered"], activity["pending"]) == (0, 0)


def test_a_delivered_one_may_be_sent_again_and_stays_delivered_whatever_comes_of_it(site: Site) -> None:
    site.answers("a", 204, 500, 204)
    site.apply(site.endpoint("a", delivery=LONG))
    site.publish({})
    found = site.settled("Delivered")
    for count in (2, 3):
        assert site.redeliver(found["id"]).status == 202
        again = site.attempted(count)
        assert (again["status"], again["nextAttemptTime"]) == ("Delivered", None)
    assert [one["outcome"] for one in again["attempts"]] == ["Succeeded", "Failed", "Succeeded"]


def test_redelivery_to_a_disabled_endpoint_is_409_to_a_deleted_one_404(site: Site) -> None:
    found = dead(site)
    site.apply(site.endpoint("a", state="Disabled", delivery=ONCE))
    site.redeliver(found["id"]).problem(409)
    site.apply()
    site.redeliver(found["id"]).problem(404)
    site.apply(site.endpoint("a", delivery=ONCE))
    site.redeliver(found["id"]).problem(404)
    assert site.delivery(found["id"])["status"] == "DeadLettered"


def test_redelivery_of_an_erased_payload_is_410(site: Site) -> None:
    found = dead(site)
    assert site.dev.ask("DELETE", f"/v1/events/{found['eventId']}/payload").status == 204
    site.redeliver(found["id"]).problem(410)


def test_redelivery_runs_outside_the_order(site: Site) -> None:
    before = failed_once(site, 204, ordering="Ordered")
    site.publish({"n": 2})
    time.sleep(0.3)
    assert len(site.received("a")) == 1
    assert site.redeliver(before["id"]).status == 202
    site.wait("a", 3)


def test_redelivery_is_not_held_by_a_retry_after(site: Site) -> None:
    before = failed_once(site)
    site.answers("a", 500, Answer(503, headers={"retry-after": "600"}), 204)
    assert site.redeliver(before["id"]).status == 202
    site.attempted(2)
    assert site.redeliver(before["id"]).status == 202
    site.settled("Delivered", attempts=3, seconds=5)


# ------------------------------------------------------------------------------------------------- tests


def test_a_test_sends_the_sample_of_a_type_at_once_and_answers_with_the_outcome(site: Site) -> None:
    site.apply(
        site.event_type("b", sample={"b": 1}),
        site.event_type("c", sample={"c": [1, "x"]}),
        site.endpoint("a", eventTypes=[site.type("c")], channelRefs=[{"name": "nowhere"}], filter="event.data.c == 5"),
    )
    reply = site.test("a")
    assert reply.status == 200
    result = reply.json
    assert result.keys() >= {"outcome", "statusCode", "errorCode", "durationMilliseconds"}
    assert (result["outcome"], result["statusCode"], result["errorCode"]) == ("Succeeded", 204, None)
    assert isinstance(result["durationMilliseconds"], int)
    (request,) = site.received("a")
    assert request.json["type"] == site.type("c")
    assert request.json["data"] == {"c": [1, "x"]}
    for header in ("webhook-id", "webhook-timestamp", "webhook-signature"):
        assert request.headers[header]
    assert site.test("a", json.dumps({"eventType": site.type("b")}).encode()).json["outcome"] == "Succeeded"
    assert site.received("a")[1].json["data"] == {"b": 1}, "whatever the endpoint selects"


def test_without_a_declared_type_that_it_selects_the_type_is_hookstead_test(site: Site) -> None:
    site.apply(site.endpoint("a", eventTypes=["nobody.declares.this"]))
    assert site.test("a").json["outcome"] == "Succeeded"
    assert site.received("a")[0].json["type"] == "hookstead.test"


@pytest.fixture(scope="module")
def ready(module_site: Site) -> Site:
    """A site with one endpoint."""
    module_site.apply(module_site.endpoint("a"))
    return module_site


@pytest.mark.parametrize("body", [b"", b"{}", b" "])
def test_the_body_of_a_test_is_optional(ready: Site, body: bytes) -> None:
    assert ready.test("a", body).status == 200


@pytest.mark.parametrize("body", [b"{", b"[]", b'"x"', b'{"eventType":7}', b'{"type":"x"}', b'{"eventType":"a b"}'])
def test_a_broken_body_of_a_test_is_400(ready: Site, body: bytes) -> None:
    ready.test("a", body).problem(400)


@pytest.mark.parametrize(
    ("answer", "status", "code"),
    [
        (500, 500, "http-status"),
        (302, 302, "http-status"),
        (Answer(raw=b""), 0, "connect"),
        (Answer(raw=b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nx"), 200, "protocol"),
    ],
)
def test_a_test_that_fails_says_how(ready: Site, answer: Any, status: int, code: str) -> None:
    ready.answers("a", answer)
    result = ready.test("a").json
    assert (result["outcome"], result["statusCode"], result["errorCode"]) == ("Failed", status, code)


def test_a_test_makes_no_delivery_and_is_counted_nowhere(site: Site) -> None:
    site.apply(site.endpoint("a"))
    site.answers("a", 500, 410, Answer(503, headers={"retry-after": "600"}), 500)

    def seen() -> Any:
        status = site.status("a")
        numbers = {name: value for name, value in site.dev.metrics().items() if site.name("a") in name}
        # Each gateway dates a condition by when it saw it itself.
        conditions = [{**one, "lastTransitionTime": ""} for one in status["conditions"]]
        return status["activity"], status["recentDeliveries"], conditions, site.deliveries("a"), numbers

    before, events = seen(), site.dev.metrics()["hookstead_events_accepted_total"]
    for _ in range(5):
        assert site.test("a").json["outcome"] == "Failed"
    assert seen() == before
    assert site.dev.metrics()["hookstead_events_accepted_total"] == events
    assert site.condition("Active") == ("True", "Active")


def test_a_test_waits_for_no_rate_and_for_no_slot(site: Site) -> None:
    gate = threading.Event()
    site.apply(site.endpoint("a", delivery={"requestsPerSecond": 1, "maxInFlight": 1}))
    site.answers("a", Answer(gate=gate), 204)
    site.publish({})
    site.wait("a")
    try:
        began = time.monotonic()
        for _ in range(5):
            assert site.test("a").json["outcome"] == "Succeeded"
        assert time.monotonic() - began < 2
    finally:
        gate.set()


def test_a_test_of_a_disabled_endpoint_is_409_of_a_paused_or_gone_one_allowed(site: Site) -> None:
    site.apply(site.endpoint("a", state="Disabled"))
    site.test("a").problem(409)
    site.apply(site.endpoint("a", state="Paused"))
    assert site.test("a").json["outcome"] == "Succeeded"
    site.apply(site.endpoint("a"))
    site.answers("a", 410)
    site.publish({})
    until(lambda: site.condition("Active") == ("False", "Gone"), what="Gone")
    site.answers("a", 204)
    assert site.test("a").json["outcome"] == "Succeeded"
    assert site.condition("Active") == ("False", "Gone"), "counted nowhere"


def test_a_test_of_an_endpoint_that_is_not_accepted_or_has_no_key_is_refused(site: Site) -> None:
    site.apply(
        site.endpoint("a", filter="("),
        secret(site.name("keys"), one="rubbish"),
        site.endpoint("b", signing={"keys": [{"id": "x", "secretKeyRef": {"name": site.name("keys"), "key": "one"}}]}),
    )
    for name in "ab":
        assert 400 <= site.test(name).status < 500
        assert site.test(name).headers["content-type"] == "application/problem+json"
        assert site.received(name) == []


def test_the_sample_of_an_event_type_without_one_is_an_object(site: Site) -> None:
    site.apply(site.event_type("b"), site.endpoint("a"))
    assert site.test("a").json["outcome"] == "Succeeded"
    assert isinstance(site.received("a")[0].json["data"], dict)


# ------------------------------------------------------------------------------------------------- erasure


def test_erasure_takes_the_payload_cancels_what_is_pending_and_leaves_the_log(site: Site) -> None:
    site.answers("a", Answer(500, body=b"echo: s3cret"))
    site.apply(site.endpoint("a", delivery=LONG), site.endpoint("b"), site.endpoint("paused", state="Paused"))
    accepted = site.publish({"private": "s3cret"})
    site.attempted(1, "a")
    done = site.settled("Delivered", "b")
    reply = site.dev.ask("DELETE", f"/v1/events/{accepted['id']}/payload")
    assert (reply.status, reply.body) == (204, b"")
    event = site.dev.get(f"/v1/events/{accepted['id']}")
    assert event["data"] is None
    assert event["id"] == accepted["id"]
    assert event["type"] == site.type("order.created")
    for name, attempts in (("a", 1), ("paused", 0)):
        found = site.only(name)
        assert (found["status"], found["cancelReason"]) == ("Cancelled", "PayloadErased")
        assert found["nextAttemptTime"] is None
        assert found["completedTime"]
        assert len(found["attempts"]) == attempts
    kept = site.only("b")
    assert (kept["status"], kept["cancelReason"]) == ("Delivered", None)
    assert len(kept["attempts"]) == len(done["attempts"])
    assert site.status("a")["activity"]["pending"] == 0
    assert site.dev.ask("DELETE", f"/v1/events/{accepted['id']}/payload").status == 204, "again"
    time.sleep(0.2)
    assert len(site.received("a")) == 1


@pytest.mark.dev_alone
def test_the_payload_leaves_the_disk_at_the_latest_when_the_process_stops(own_dev: Any) -> None:
    site = own_dev()
    site.apply(site.endpoint("a", state="Paused"))
    mark = "erase-me-9f2c"
    accepted = site.publish({"private": mark})

    def traces() -> list[str]:
        files = [path for path in site.dev.state.rglob("*") if path.is_file()]
        return [path.name for path in files if mark.encode() in path.read_bytes()]

    assert traces()
    assert site.dev.ask("DELETE", f"/v1/events/{accepted['id']}/payload").status == 204
    assert site.dev.stop(signal.SIGTERM) == 0
    assert traces() == []


def test_an_id_whose_payload_was_erased_is_still_known_for_a_duplicate(site: Site) -> None:
    document = {"type": site.type("x"), "id": site.name("id"), "data": {"a": 1}}
    first = site.dev.post("/v1/events", json.dumps(document).encode()).json
    assert site.dev.ask("DELETE", f"/v1/events/{first['id']}/payload").status == 204
    again = site.dev.post("/v1/events", json.dumps(document).encode())
    assert again.json == {**first, "duplicate": True}
