"""Contract, section 2: what holds deliveries back, what cancels them, and what an edit does not touch."""

from __future__ import annotations

import json
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from contract.processes import Answer, environment, until

if TYPE_CHECKING:
    from contract.site import Site

pytestmark = pytest.mark.two_gateways

LONG = {"retry": {"scheduleSeconds": [600]}}
ONCE = {"retry": {"scheduleSeconds": [1]}}


def statuses(site: Site, name: str = "a") -> list[tuple[str, str | None]]:
    return [(one["status"], one["cancelReason"]) for one in site.deliveries(name)]


def test_a_paused_endpoint_queues_and_delivers_on_resume_without_consuming_an_attempt(site: Site) -> None:
    site.apply(site.endpoint("a", state="Paused"))
    assert site.condition("Active") == ("False", "Paused")
    assert site.condition("Ready") == ("True", "Ready")
    ids = [site.publish(number)["id"] for number in range(3)]
    time.sleep(0.4)
    assert site.received("a") == []
    assert statuses(site) == [("Pending", None)] * 3
    assert site.status("a")["activity"]["pending"] == 3
    site.apply(site.endpoint("a"))
    assert {one.id for one in site.wait("a", 3)} == set(ids)
    until(lambda: statuses(site) == [("Delivered", None)] * 3, what="all delivered")
    assert [one["attemptCount"] for one in site.deliveries("a")] == [1, 1, 1]


def test_a_disabled_endpoint_gets_no_events_and_what_was_pending_is_cancelled_visibly(site: Site) -> None:
    site.answers("a", 500)
    site.apply(site.endpoint("a", delivery=LONG))
    site.publish({})
    site.attempted(1)
    site.apply(site.endpoint("a", state="Disabled", delivery=LONG))
    found = site.settled("Cancelled")
    assert found["cancelReason"] == "EndpointDisabled"
    assert found["nextAttemptTime"] is None
    assert found["completedTime"]
    assert len(found["attempts"]) == 1
    assert site.publish({})["endpoints"] == 0
    assert site.condition("Active") == ("False", "EndpointDisabled")
    assert site.condition("Ready") == ("True", "Ready"), "True when deliberately disabled"
    site.apply(site.endpoint("a", delivery=LONG))
    time.sleep(0.3)
    assert statuses(site) == [("Cancelled", "EndpointDisabled")]


def test_a_deleted_endpoint_cancels_and_its_deliveries_stay_listed(site: Site) -> None:
    site.answers("a", 500)
    site.apply(site.endpoint("a", delivery=LONG))
    site.publish({})
    site.attempted(1)
    site.apply()
    found = site.settled("Cancelled")
    assert found["cancelReason"] == "EndpointDeleted"
    assert site.dev.ask("GET", f"/v1/endpoints/{site.name('a')}").status == 404


def test_an_endpoint_of_the_same_name_that_comes_later_is_another_one(site: Site) -> None:
    site.answers("a", 500)
    site.apply(site.endpoint("a", delivery=LONG))
    site.publish({})
    site.attempted(1)
    site.apply()
    site.settled("Cancelled")
    site.answers("a", 204)
    site.apply(site.endpoint("a"))
    assert site.status("a")["activity"]["pending"] == 0
    site.publish({})
    site.wait("a", 2)
    time.sleep(0.2)
    assert len(site.received("a")) == 2


def test_an_attempt_under_way_when_its_endpoint_is_disabled_still_counts_if_it_arrives(site: Site) -> None:
    gate = threading.Event()
    site.answers("a", Answer(gate=gate))
    site.apply(site.endpoint("a", delivery={"timeoutSeconds": 30}))
    site.publish({})
    site.wait("a")
    site.apply(site.endpoint("a", state="Disabled", delivery={"timeoutSeconds": 30}))
    gate.set()
    assert site.settled("Delivered")["cancelReason"] is None


@pytest.mark.two_gateways
def test_an_environment_switched_to_disabled_holds_and_goes_on_by_itself(own_dev: Any) -> None:
    site = own_dev()
    site.answers("a", 500, 204)
    site.apply(site.endpoint("a", delivery={"retry": {"scheduleSeconds": [2]}}))
    site.publish({})
    site.attempted(1)
    site.dev.apply("00-environment", environment(state="Disabled"))
    assert site.condition("Active") == ("False", "EnvironmentDisabled")
    assert site.condition("Ready") == ("True", "Ready")
    time.sleep(3)
    assert len(site.received("a")) == 1
    assert site.only()["status"] == "Pending"
    site.dev.delete("00-environment")
    assert site.condition("Active") == ("False", "EnvironmentMissing")
    assert site.condition("Accepted") == ("False", "EnvironmentMissing")
    assert site.condition("Ready")[0] == "False"
    assert site.condition("Reconciling")[0] == "True"
    assert site.only()["status"] == "Pending"
    assert site.dev.ask("GET", "/v1/environment").status == 404
    site.dev.apply("00-environment", environment())
    assert site.settled("Delivered")["attemptCount"] == 2


def test_an_endpoint_edited_into_something_invalid_holds_and_its_last_valid_form_is_not_used(site: Site) -> None:
    site.answers("a", 500, 204)
    site.apply(site.endpoint("a", delivery=ONCE))
    site.publish({"n": 1})
    site.attempted(1)
    site.apply(site.endpoint("a", delivery=ONCE, headers=[{"name": "host", "value": "x"}]))
    assert site.condition("Accepted") == ("False", "InvalidSpec")
    time.sleep(1.5)
    assert len(site.received("a")) == 1
    assert site.only()["status"] == "Pending"
    assert site.publish({"n": 2})["endpoints"] == 0, "not Accepted gets no new events"
    site.apply(site.endpoint("a", delivery=ONCE))
    assert site.settled("Delivered")["attemptCount"] == 2


def test_a_policy_that_tightens_holds_what_was_pending(own_dev: Any) -> None:
    site = own_dev()
    site.answers("a", 500, 204)
    site.apply(site.endpoint("a", delivery=ONCE))
    site.publish({})
    site.attempted(1)
    strict = environment()
    strict["spec"]["egress"]["plaintextHTTP"] = "Deny"
    site.dev.apply("00-environment", strict)
    assert site.condition("Accepted") == ("False", "InvalidSpec")
    time.sleep(1.5)
    assert site.only()["status"] == "Pending"
    assert site.only()["attemptCount"] == 1
    site.dev.apply("00-environment", environment())
    assert site.settled("Delivered")["attemptCount"] == 2


def test_an_environment_edited_into_something_invalid_keeps_its_last_valid_form(own_dev: Any) -> None:
    site = own_dev(deliveryDefaults={"timeoutSeconds": 7})
    site.apply(site.endpoint("a"))
    site.dev.apply("00-environment", environment(deliveryDefaults={"timeoutSeconds": 999}))
    shown = {one["type"]: (one["status"], one["reason"]) for one in site.dev.get("/v1/environment")["conditions"]}
    assert shown["Accepted"] == ("False", "InvalidSpec")
    assert site.status("a")["delivery"]["timeoutSeconds"] == 7
    assert site.publish({})["endpoints"] == 1
    site.wait("a")


def test_the_last_valid_form_of_an_environment_survives_a_restart_until_the_environment_is_deleted(
    own_dev: Any,
) -> None:
    site = own_dev(deliveryDefaults={"timeoutSeconds": 7})
    site.apply(site.endpoint("a"))
    broken = environment(deliveryDefaults={"timeoutSeconds": 999})
    site.dev.write("00-environment", broken)
    site.dev.close()
    with site.dev.again() as second:
        site.dev = second
        shown = {one["type"]: one["reason"] for one in second.get("/v1/environment")["conditions"]}
        assert shown["Accepted"] == "InvalidSpec"
        assert site.status("a")["delivery"]["timeoutSeconds"] == 7
        assert site.publish({})["endpoints"] == 1
        site.settled("Delivered")
        second.delete("00-environment")
        second.apply("00-environment", broken)
        second.post("/v1/events", json.dumps({"type": "a.b", "data": {}}).encode()).problem(403)


def test_an_environment_that_was_never_valid_counts_as_disabled(own_dev: Any) -> None:
    site = own_dev(deliveryDefaults={"timeoutSeconds": 999})
    site.apply(site.endpoint("a"))
    site.dev.post("/v1/events", json.dumps({"type": "a.b", "data": {}}).encode()).problem(403)


def test_an_environment_of_another_name_is_none(own_dev: Any) -> None:
    other = environment()
    other["metadata"]["name"] = "other"
    site = own_dev(objects=[other])
    site.dev.post("/v1/events", json.dumps({"type": "a.b", "data": {}}).encode()).problem(403)


def test_defaults_are_inherited_field_by_field(own_dev: Any) -> None:
    site = own_dev(
        deliveryDefaults={
            "timeoutSeconds": 7,
            "maxInFlight": 3,
            "retry": {"scheduleSeconds": [9, 9]},
            "ordering": "Ordered",
            "circuitBreaker": "None",
            "requestsPerSecond": 50,
        }
    )
    site.apply(site.endpoint("a"), site.endpoint("b", delivery={"maxInFlight": 5, "ordering": "Unordered"}))
    base = {
        "timeoutSeconds": 7,
        "maxInFlight": 3,
        "retry": {"scheduleSeconds": [9, 9]},
        "ordering": "Ordered",
        "circuitBreaker": "None",
        "requestsPerSecond": 50,
    }
    assert site.status("a")["delivery"] == base
    assert site.status("b")["delivery"] == {**base, "maxInFlight": 5, "ordering": "Unordered"}


def test_without_any_defaults_the_contracts_are_in_force(own_dev: Any) -> None:
    site = own_dev()
    site.apply(site.endpoint("a"))
    found = site.status("a")["delivery"]
    assert found["timeoutSeconds"] == 15
    assert found["retry"]["scheduleSeconds"] == [5, 300, 1800, 7200, 18000, 36000, 50400, 72000, 86400]
    assert (found["maxInFlight"], found["ordering"], found["circuitBreaker"]) == (20, "Unordered", "Auto")
    assert "requestsPerSecond" not in found or found["requestsPerSecond"] is None


@pytest.mark.two_gateways
def test_pending_deliveries_survive_a_restart_and_the_retry_comes_in_time(own_dev: Any) -> None:
    import signal

    from contract.site import Site

    site = own_dev()
    site.answers("a", 500, 204)
    site.apply(site.endpoint("a", delivery={"retry": {"scheduleSeconds": [3]}}))
    site.publish({"n": 1})
    before = site.attempted(1)
    assert site.dev.stop(signal.SIGTERM) == 0
    with site.dev.again() as second:
        again = Site(second, site.receiver, site.tag)
        assert again.only()["nextAttemptTime"] in (before["nextAttemptTime"], None), "None where it came already"
        after = again.settled("Delivered")
        assert after["attemptCount"] == 2
        assert after["attempts"][1]["time"] >= before["nextAttemptTime"]


@pytest.mark.two_gateways
def test_kill_9_loses_nothing_that_was_accepted(own_dev: Any) -> None:
    from contract.site import Site

    site = own_dev()
    site.apply(site.endpoint("a", state="Paused"))
    ids = {site.publish(number)["id"] for number in range(20)}
    site.dev.close()
    site.dev.write(site.tag, site.endpoint("a"))
    with site.dev.again() as second:
        again = Site(second, site.receiver, site.tag)
        assert {one.id for one in again.wait("a", 20)} == ids
