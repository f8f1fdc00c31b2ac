"""Contract, section 3, "Delivery": what an answer means, and what follows from it."""

from __future__ import annotations

import contextlib
import itertools
import socket
import threading
import time
from email.utils import formatdate
from typing import TYPE_CHECKING, Any

import pytest

from contract.processes import Answer, until
from contract.site import Slot

if TYPE_CHECKING:
    from collections.abc import Iterator

    from contract.site import Site

pytestmark = pytest.mark.two_gateways

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
SHORT = {"retry": {"scheduleSeconds": [1]}, "timeoutSeconds": 1}
LONG = {"retry": {"scheduleSeconds": [600]}, "timeoutSeconds": 1}


@pytest.fixture(scope="module")
def slots(module_site: Site) -> dict[str, Iterator[Slot]]:
    """Endpoints of which every case takes one: `long` ones are retried after the test, `short` ones after a second."""
    made = {kind: [Slot(module_site, f"{kind}{number}") for number in range(60)] for kind in ("long", "short")}
    module_site.apply(
        *(slot.manifest(delivery=LONG) for slot in made["long"]),
        *(slot.manifest(delivery=SHORT) for slot in made["short"]),
    )
    return {kind: iter(found) for kind, found in made.items()}


@pytest.fixture
def long(slots: dict[str, Iterator[Slot]]) -> Slot:
    return next(slots["long"])


@pytest.fixture
def short(slots: dict[str, Iterator[Slot]]) -> Slot:
    return next(slots["short"])


def attempt(slot: Slot, answer: Answer | int) -> dict[str, Any]:
    """The first attempt's row, for a receiver that answers so."""
    slot.answers(answer)
    slot.publish({})
    found: dict[str, Any] = slot.attempted(1)["attempts"][0]
    return found


@pytest.mark.parametrize("status", [200, 201, 202, 204, 206, 226, 299])
def test_any_2xx_is_success(long: Slot, status: int) -> None:
    long.answers(Answer(status, body=b"" if status == 204 else b"fine"))
    long.publish({})
    found = long.settled("Delivered")
    (row,) = found["attempts"]
    assert row.keys() == ATTEMPT
    assert (row["number"], row["trigger"], row["outcome"]) == (1, "Scheduled", "Succeeded")
    assert (row["statusCode"], row["errorCode"]) == (status, None)
    assert found["completedTime"]
    assert found["nextAttemptTime"] is None


def test_the_response_body_is_kept_up_to_16_kib_and_success_does_not_wait_for_the_rest(long: Slot) -> None:
    head = b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n"
    long.answers(Answer(raw=head + b"x" * 16384, stall=10))
    long.publish({})
    row = long.settled("Delivered")["attempts"][0]
    assert row["responseBody"] == "x" * 16384
    assert row["durationMilliseconds"] < 900


def test_a_body_longer_than_16_kib_that_ends_is_success_and_cut(long: Slot) -> None:
    row = attempt(long, Answer(200, body=b"y" * 100_000))
    assert row["outcome"] == "Succeeded"
    assert row["responseBody"] == "y" * 16384


def test_a_body_is_kept_as_text_whatever_it_holds(long: Slot) -> None:
    row = attempt(long, Answer(200, body=b"\x00\xff\xfe nul and no utf-8", headers={"content-encoding": "gzip"}))
    assert row["outcome"] == "Succeeded"
    assert "nul and no utf-8" in row["responseBody"]


BROKEN = [
    b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nshort",
    b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n",
    b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\nhello\r\n",
    b"HTTP/1.1 200 OK\r\ncontent-le",
    b"not http at all\r\n\r\n",
    b"HTTP/1.1 xyz OK\r\n\r\n",
]


@pytest.mark.parametrize("raw", BROKEN)
def test_an_answer_that_breaks_off_or_is_no_http_is_protocol(long: Slot, raw: bytes) -> None:
    row = attempt(long, Answer(raw=raw))
    assert (row["outcome"], row["errorCode"]) == ("Failed", "protocol")


STALLS = [
    Answer(raw=b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nshort", stall=10),
    Answer(raw=b"HTTP/1.1 200 OK\r\ncontent-le", stall=10),
    Answer(raw=b"", stall=10),
    Answer(wait=3),
    Answer(raw=b"HTTP/1.1 200 OK\r\n\r\nuntil the end", stall=10),
]


def test_an_answer_that_stalls_is_timeout(slots: dict[str, Iterator[Slot]]) -> None:
    stalled = [(next(slots["long"]), answer) for answer in STALLS]
    for slot, answer in stalled:
        slot.answers(answer)
        slot.publish({})
    for slot, answer in stalled:
        row = slot.attempted(1)["attempts"][0]
        assert (row["outcome"], row["errorCode"]) == ("Failed", "timeout"), answer
        assert 900 <= row["durationMilliseconds"] < 2500


def test_a_body_that_ends_with_the_connection_is_success(long: Slot) -> None:
    row = attempt(long, Answer(raw=b"HTTP/1.1 200 OK\r\n\r\nuntil the end"))
    assert (row["outcome"], row["responseBody"]) == ("Succeeded", "until the end")


def test_interim_answers_are_passed_over(long: Slot) -> None:
    row = attempt(long, Answer(raw=b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n"))
    assert (row["outcome"], row["statusCode"]) == ("Succeeded", 204)


def test_a_close_before_the_first_byte_of_an_answer_is_connect(long: Slot) -> None:
    row = attempt(long, Answer(raw=b""))
    assert (row["outcome"], row["errorCode"], row["statusCode"]) == ("Failed", "connect", 0)
    assert row["responseBody"] is None


def test_a_refused_connection_is_connect(site: Site) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        site.apply(site.endpoint("a", url=f"http://127.0.0.1:{port}/", delivery=LONG))
        site.publish({})
        row = site.attempted(1)["attempts"][0]
    assert (row["errorCode"], row["statusCode"]) == ("connect", 0)


@pytest.fixture
def plain() -> Iterator[str]:
    """An address where whoever connects is greeted in plain text."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def greet() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = server.accept()
                    with connection:
                        connection.sendall(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n")
                        connection.recv(4096)

        threading.Thread(target=greet, daemon=True).start()
        yield f"127.0.0.1:{server.getsockname()[1]}"


def test_a_receiver_that_speaks_no_tls_is_tls(site: Site, plain: str) -> None:
    site.apply(site.endpoint("a", url=f"https://{plain}/", delivery={**LONG, "timeoutSeconds": 10}))
    site.publish({})
    row = site.attempted(1)["attempts"][0]
    assert (row["errorCode"], row["statusCode"]) == ("tls", 0)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308, 300, 304])
def test_redirects_are_failures_and_never_followed(long: Slot, status: int) -> None:
    target = long.site.path("elsewhere")
    row = attempt(long, Answer(status, headers={"location": long.site.receiver.url + target}))
    assert (row["outcome"], row["statusCode"], row["errorCode"]) == ("Failed", status, "http-status")
    time.sleep(0.2)
    assert long.site.receiver.received(target) == []


def test_other_answers_are_http_status_and_retried_on_the_schedule(slots: dict[str, Iterator[Slot]]) -> None:
    failing = [(next(slots["short"]), status) for status in (400, 401, 404, 422, 429, 500, 502, 503, 599)]
    for slot, status in failing:
        slot.answers(status, 204)
        slot.publish({})
    for slot, status in failing:
        found = slot.settled("Delivered")
        first, second = found["attempts"]
        assert (first["errorCode"], first["statusCode"], first["number"]) == ("http-status", status, 1)
        assert (second["errorCode"], second["number"], found["attemptCount"]) == (None, 2, 2)


def seconds_between(site: Site) -> list[float]:
    times = [one.at for one in site.received("a")]
    return [after - before for before, after in itertools.pairwise(times)]


def test_waits_follow_the_schedule_within_20_percent_and_then_it_is_dead_lettered(site: Site) -> None:
    site.answers("a", 500)
    site.apply(site.endpoint("a", delivery={"retry": {"scheduleSeconds": [1, 2, 1]}}))
    site.publish({})
    first = site.attempted(1)
    assert first["status"] == "Pending"
    assert first["nextAttemptTime"] > first["attempts"][0]["time"]
    found = site.settled("DeadLettered")
    assert [one["number"] for one in found["attempts"]] == [1, 2, 3, 4]
    assert found["attemptCount"] == 4
    assert found["nextAttemptTime"] is None
    assert found["completedTime"]
    for gap, planned in zip(seconds_between(site), (1, 2, 1), strict=True):
        assert planned * 0.8 - 0.05 <= gap <= planned * 1.2 + 0.5
    (listed,) = site.deliveries("a", status="DeadLettered")
    assert listed["id"] == found["id"]
    assert site.status("a")["activity"]["deadLettered"] == 1


def test_410_stops_the_endpoint_and_holds_everything_until_it_is_resumed(site: Site) -> None:
    site.answers("a", 410, 204)
    site.apply(site.endpoint("a", delivery=SHORT))
    first = site.publish({"n": 1})
    site.attempted(1)
    until(lambda: site.condition("Active") == ("False", "Gone"), what="Gone")
    assert site.condition("Ready")[0] == "True"
    second = site.publish({"n": 2})
    assert second["endpoints"] == 1, "new events are fanned out too"
    time.sleep(1.6)
    assert len(site.received("a")) == 1
    assert {one["status"] for one in site.deliveries("a")} == {"Pending"}
    stamp = "2026-01-31T12:00:00Z"
    site.apply(site.endpoint("a", delivery=SHORT, annotations={"hookstead.dev/resume-requested-at": stamp}))
    site.wait("a", 3)
    assert {one.id for one in site.received("a")} == {first["id"], second["id"]}
    until(lambda: {one["status"] for one in site.deliveries("a")} == {"Delivered"}, what="both delivered")
    assert site.condition("Active") == ("True", "Active")
    assert site.status("a")["lastHandledResumeAt"] == stamp


def test_a_delivery_that_got_the_410_is_held_also_when_it_was_its_last_attempt(site: Site) -> None:
    site.answers("a", 500, 410, 204)
    site.apply(site.endpoint("a", delivery=SHORT))
    site.publish({})
    site.attempted(2)
    until(lambda: site.condition("Active") == ("False", "Gone"), what="Gone")
    assert site.only()["status"] == "Pending"
    site.apply(site.endpoint("a", delivery=SHORT, annotations={"hookstead.dev/resume-requested-at": "x"}))
    assert site.settled("Delivered")["attemptCount"] == 3


@pytest.mark.parametrize("status", [429, 503])
def test_retry_after_pauses_the_endpoint_and_takes_no_attempt_from_anybody(site: Site, status: int) -> None:
    site.answers("a", Answer(status, headers={"retry-after": "3"}), 204)
    site.apply(site.endpoint("a", delivery=SHORT))
    first = site.publish({"n": 1})
    site.attempted(1)
    second = site.publish({"n": 2})
    until(lambda: site.condition("Active") == ("False", "Throttled"), what="Throttled")
    site.wait("a", 3)
    requests = site.received("a")
    assert all(one.at - requests[0].at >= 2.95 for one in requests[1:]), "no jitter on it, and never earlier"
    assert requests[1].at - requests[0].at < 4.5
    assert {one.id for one in requests[1:]} == {first["id"], second["id"]}
    until(lambda: {one["status"] for one in site.deliveries("a")} == {"Delivered"}, what="both delivered")
    assert sorted(one["attemptCount"] for one in site.deliveries("a")) == [1, 2]
    assert site.condition("Active") == ("True", "Active")


def moment(text: str) -> float:
    from datetime import datetime

    return datetime.fromisoformat(text).timestamp()


@pytest.mark.parametrize(
    ("value", "seconds"),
    [("100000", 86400), ("86400", 86400), ("99999999999999999999", 86400), ("1000", 1000), ("date", 1000)],
)
def test_retry_after_is_at_most_24_hours(short: Slot, value: str, seconds: int) -> None:
    if value == "date":
        value = formatdate(time.time() + seconds, usegmt=True)
    short.answers(Answer(503, headers={"retry-after": value}))
    short.publish({})
    found = short.attempted(1)
    wait = moment(found["nextAttemptTime"]) - moment(found["attempts"][0]["time"])
    assert wait == pytest.approx(seconds, abs=2)


def test_a_retry_after_never_shortens_the_wait(site: Site) -> None:
    site.answers("a", Answer(503, headers={"retry-after": "1"}))
    site.apply(site.endpoint("a", delivery={"retry": {"scheduleSeconds": [100]}}))
    site.publish({})
    found = site.attempted(1)
    assert 79 <= moment(found["nextAttemptTime"]) - moment(found["attempts"][0]["time"]) <= 121


def test_a_retry_after_on_another_answer_or_of_another_form_is_nothing(slots: dict[str, Iterator[Slot]]) -> None:
    cases = [(500, "30"), (404, "30"), (503, "soon"), (503, "-5"), (302, "30")]
    failing = [next(slots["short"]) for _ in cases]
    for slot, (status, value) in zip(failing, cases, strict=True):
        slot.answers(Answer(status, headers={"retry-after": value}), 204)
        slot.publish({})
    for slot in failing:
        slot.settled("Delivered", seconds=5)


def test_a_schedule_longer_than_retry_after_leaves_other_deliveries_to_the_retry_after(site: Site) -> None:
    site.answers("a", Answer(503, headers={"retry-after": "2"}), 204)
    site.apply(site.endpoint("a", delivery=LONG))
    site.publish({"n": 1})
    site.attempted(1)
    second = site.publish({"n": 2})
    requests = site.wait("a", 2, seconds=6)
    assert requests[1].id == second["id"]
    assert requests[1].at - requests[0].at >= 1.95


@pytest.fixture
def deaf() -> Iterator[str]:
    """An address whose backlog is full: connections to it stall."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as server:
        fillers = []
        for _ in range(3):
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex(server.getsockname())
            fillers.append(filler)
        yield f"127.0.0.1:{server.getsockname()[1]}"
        for filler in fillers:
            filler.close()


def test_the_timeout_covers_the_connection_too(site: Site, deaf: str) -> None:
    site.apply(site.endpoint("a", url=f"http://{deaf}/", delivery=LONG))
    site.publish({})
    row = site.attempted(1)["attempts"][0]
    assert row["errorCode"] == "timeout"
    assert 900 <= row["durationMilliseconds"] < 2500


def test_one_dead_endpoint_never_delays_another(site: Site) -> None:
    gate = threading.Event()
    site.answers("slow", Answer(gate=gate))
    site.apply(site.endpoint("slow", delivery={"timeoutSeconds": 60}), site.endpoint("fast"))
    for number in range(60):
        site.publish(number)
    try:
        site.wait("fast", 60, seconds=10)
    finally:
        gate.set()
