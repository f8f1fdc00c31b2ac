"""Contract, section 1: the circuit breaker and suspension, at their real times; a minute for all of them."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from contract.processes import Dev, environment, until
from contract.site import Site

if TYPE_CHECKING:
    from collections.abc import Iterator

    from contract.processes import Receiver


@pytest.fixture(scope="module")
def patient(tmp_path_factory: pytest.TempPathFactory, receiver: Receiver) -> Iterator[Site]:
    """An environment that suspends after a minute, for the tests that take half of one; they run side by side."""
    spec = {"suspendAfterSeconds": 60, "deliveryDefaults": {"retry": {"scheduleSeconds": [2] * 24}}}
    with Dev(tmp_path_factory.mktemp("patient"), objects=[environment(**spec)]) as dev:
        site = Site(dev, receiver, "patient")
        for name in ("auto", "none", "quick", "suspend"):
            site.answers(name, 500)
        slow = {"retry": {"scheduleSeconds": [3] * 24}}
        site.apply(
            site.endpoint("auto", delivery=slow, eventTypes=["patient.auto"]),
            site.endpoint("none", delivery={**slow, "circuitBreaker": "None"}, eventTypes=["patient.auto"]),
            site.endpoint("quick", delivery={"retry": {"scheduleSeconds": [600]}}, eventTypes=["patient.quick"]),
            site.endpoint(
                "suspend",
                delivery={"circuitBreaker": "None", "retry": {"scheduleSeconds": [5] * 24}},
                eventTypes=["patient.suspend"],
            ),
        )
        for _ in range(40):
            site.publish({}, event="quick")
        site.publish({}, event="suspend")
        site.publish({}, event="auto")
        yield site


def test_ten_failures_within_30_seconds_do_not_open_the_circuit(patient: Site) -> None:
    patient.wait("quick", 40)
    until(lambda: patient.status("quick")["activity"]["consecutiveFailures"] == 40, what="40 failures in a row")
    assert patient.condition("Active", "quick") == ("True", "Active")
    assert patient.condition("Healthy", "quick") == ("False", "Failing")


def test_the_circuit_opens_after_ten_failures_over_30_seconds_and_one_success_closes_it(patient: Site) -> None:
    until(lambda: patient.condition("Active", "auto") == ("False", "CircuitOpen"), what="an open circuit", seconds=50)
    failures = patient.received("auto")
    assert len(failures) >= 10
    assert failures[-1].at - failures[0].at >= 29.5
    assert len(patient.received("none")) >= 10
    assert patient.condition("Active", "none") == ("True", "Active")
    count = patient.only("auto")["attemptCount"]
    patient.answers("auto", 204)
    extra = [patient.publish({"n": n}, event="auto")["id"] for n in range(3)]
    time.sleep(3)
    assert len(patient.received("auto")) == len(failures), "held without consuming an attempt"
    assert patient.dev.get(f"/v1/deliveries?endpoint={patient.name('auto')}")["items"][-1]["attemptCount"] == count
    patient.wait("auto", len(failures) + 4, seconds=35)
    after = patient.received("auto")[len(failures) :]
    assert after[0].at - failures[-1].at >= 29.5, "one probe after 30 s"
    assert {one.id for one in after} >= set(extra)
    until(lambda: patient.condition("Active", "auto") == ("True", "Active"), what="a closed circuit")


def test_after_continuous_failure_an_endpoint_is_suspended_until_it_is_resumed(patient: Site) -> None:
    until(lambda: patient.condition("Active", "suspend") == ("False", "Suspended"), what="Suspended", seconds=90)
    count = len(patient.received("suspend"))
    assert patient.received("suspend")[-1].at - patient.received("suspend")[0].at >= 59
    assert patient.publish({}, event="suspend")["endpoints"] == 1
    time.sleep(1)
    assert len(patient.received("suspend")) == count
    assert {one["status"] for one in patient.deliveries("suspend")} == {"Pending"}
    patient.answers("suspend", 204)
    patient.apply(
        patient.endpoint(
            "suspend", annotations={"hookstead.dev/resume-requested-at": "now"}, eventTypes=["patient.suspend"]
        ),
        file="-resumed",
    )
    (patient.dev.folder / "patient.yaml").unlink()
    patient.dev.in_force()
    until(
        lambda: {one["status"] for one in patient.deliveries("suspend")} == {"Delivered"},
        what="all delivered",
        seconds=15,
    )
