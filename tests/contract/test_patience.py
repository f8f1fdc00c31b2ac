"""Contract, section 1: the circuit breaker and suspension, at their real times; a minute for all of them."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from typing import TYPE_CHECKING

import pytest

from contract.processes import environment, until
from contract.site import Site

if TYPE_CHECKING:
    from collections.abc import Iterator

    from contract.processes import Receiver, Serve


class Slow:
    """A request that stalls after these bytes; when its connection ended, and what came back."""

    def __init__(self, address: str, data: bytes) -> None:
        host, _, port = address.rpartition(":")
        self.began = time.monotonic()
        self.ended = float("inf")
        self.answer = b""
        self._socket = socket.create_connection((host, int(port)), timeout=60)
        self._socket.sendall(data)
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        with self._socket, contextlib.suppress(OSError):
            while chunk := self._socket.recv(65536):
                self.answer += chunk
        self.ended = time.monotonic()

    def seconds(self) -> float:
        """How long it was let live."""
        self._thread.join(60)
        return self.ended - self.began


@pytest.fixture(scope="module")
def stalled(patient: Site) -> dict[str, Slow]:
    """Requests that never end, begun together with everything else here."""
    head = b"POST /v1/events HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
    address = patient.dev.address
    return {
        "headers": Slow(address, head),
        "body": Slow(address, head + b'content-length: 100\r\n\r\n{"type":'),
        "chunks": Slow(address, head + b"transfer-encoding: chunked\r\n\r\n5\r\n{"),
    }


@pytest.fixture(scope="module")
def patient(serve: Serve, tmp_path_factory: pytest.TempPathFactory, receiver: Receiver) -> Iterator[Site]:
    """An environment that suspends after a minute, for the tests that take half of one; they run side by side."""
    spec = {"suspendAfterSeconds": 60, "deliveryDefaults": {"retry": {"scheduleSeconds": [2] * 24}}}
    with serve(tmp_path_factory.mktemp("patient"), objects=[environment(**spec)]) as dev:
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


def test_headers_have_10_seconds_and_a_body_30(stalled: dict[str, Slow]) -> None:
    assert 9 <= stalled["headers"].seconds() <= 13
    for name in ("body", "chunks"):
        assert 29 <= stalled[name].seconds() <= 33
        assert stalled[name].answer.startswith(b"HTTP/1.1 408 ")
        assert b"application/problem+json" in stalled[name].answer


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
