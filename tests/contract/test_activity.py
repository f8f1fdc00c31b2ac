"""Contract, sections 3 and 4: buckets, the stream, metrics, the conservation law."""

from __future__ import annotations

import itertools
import json
import re
import socket
import threading
import time
from collections import Counter
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from contract.processes import Answer, ask, until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from contract.processes import Environment
    from contract.site import Site

pytestmark = pytest.mark.two_gateways


def test_activity_is_in_buckets_of_the_width_that_was_asked_for(site: Site) -> None:
    site.answers("bad", 500)
    site.apply(site.endpoint("ok"), site.endpoint("bad", delivery={"retry": {"scheduleSeconds": [1]}}))

    def totals() -> Counter[str]:
        found: Counter[str] = Counter()
        for one in site.dev.get("/v1/activity", bucketSeconds=10)["items"]:
            found.update({name: one[name] for name in ("accepted", "delivered", "failed", "deadLettered")})
        return found

    before = totals()
    for number in range(3):
        site.publish(number)
    until(lambda: len(site.deliveries("bad", status="DeadLettered")) == 3, what="dead letters")
    after = totals()
    after.subtract(before)
    assert after == {"accepted": 3, "delivered": 3, "failed": 6, "deadLettered": 3}


@pytest.mark.parametrize("width", [1, 10, 60, 3600, 86400])
def test_buckets_have_these_members_and_follow_one_another(shared_dev: Environment, width: int) -> None:
    until_ = datetime.now().astimezone()
    since = until_ - timedelta(seconds=width * 5)
    page = shared_dev.get("/v1/activity", bucketSeconds=width, since=since.isoformat(), until=until_.isoformat())
    assert page["items"]
    starts = []
    for one in page["items"]:
        assert one.keys() == {"start", "accepted", "delivered", "failed", "deadLettered", "latencyMilliseconds"}
        assert one["latencyMilliseconds"].keys() == {"p50", "p99"}
        starts.append(datetime.fromisoformat(one["start"]))
    steps = {abs((after - before).total_seconds()) for before, after in itertools.pairwise(starts)}
    assert steps <= {float(-(-width // 10) * 10)}, "ten seconds are the finest; widths are rounded up"


def test_latencies_are_of_what_was_delivered(site: Site) -> None:
    site.apply(site.endpoint("a"))
    site.publish({})
    site.settled("Delivered")
    buckets = [one for one in site.dev.get("/v1/activity")["items"] if one["delivered"]]
    latency = buckets[-1]["latencyMilliseconds"]
    assert 0 <= latency["p50"] <= latency["p99"] < 60_000


@pytest.mark.parametrize("width", ["0", "-1", "x", "1.5", ""])
def test_a_bad_bucket_width_is_400(shared_dev: Environment, width: str) -> None:
    shared_dev.ask("GET", "/v1/activity", query={"bucketSeconds": width}).problem(400)


class Stream:
    """A reader of server-sent events."""

    def __init__(self, address: str) -> None:
        host, _, port = address.rpartition(":")
        self.socket = socket.create_connection((host, int(port)), timeout=10)
        self.socket.sendall(f"GET /v1/activity/stream HTTP/1.1\r\nHost: {address}\r\n\r\n".encode())
        self.file = self.socket.makefile("rb")
        self.status = int(self.file.readline().split()[1])
        self.headers: dict[str, str] = {}
        while (line := self.file.readline().decode().strip()) != "":
            name, _, value = line.partition(":")
            self.headers[name.lower()] = value.strip()

    def close(self) -> None:
        self.file.close()
        self.socket.close()

    def next(self) -> tuple[str, dict[str, Any], bytes]:
        """Name, data and raw bytes of the next event."""
        name, data, raw = "", "", b""
        while True:
            line = self.file.readline()
            assert line, "the stream ended"
            raw += line
            text = line.decode().rstrip("\r\n")
            if text.startswith("event:"):
                name = text[6:].strip()
            elif text.startswith("data:"):
                data += text[5:].strip()
            elif text == "" and name:
                return name, json.loads(data), raw


@pytest.fixture
def stream(shared_dev: Environment) -> Iterator[Stream]:
    opened = Stream(shared_dev.address)
    yield opened
    opened.close()


def test_the_stream_tells_of_events_attempts_and_ends_and_never_a_body(site: Site, stream: Stream) -> None:
    assert stream.status == 200
    assert stream.headers["content-type"].partition(";")[0] == "text/event-stream"
    site.answers("a", 500, 204)
    site.apply(site.endpoint("a"))
    accepted = site.publish({"private": "s3cret"}, channels=["c1"])
    seen: list[tuple[str, dict[str, Any]]] = []
    raw = b""
    while len([one for one in seen if one[0] == "delivery.finished"]) < 1:
        name, data, octets = stream.next()
        raw += octets
        if site.tag in json.dumps(data) or data.get("id") == accepted["id"]:
            seen.append((name, data))
    assert [name for name, _ in seen] == ["event.accepted", "attempt", "attempt", "delivery.finished"]
    event, first, second, finished = (data for _, data in seen)
    assert (event["id"], event["type"]) == (accepted["id"], site.type("order.created"))
    assert (first["outcome"], first["statusCode"], second["outcome"]) == ("Failed", 500, "Succeeded")
    assert first["endpoint"] == finished["endpoint"] == site.name("a")
    assert finished["status"] == "Delivered"
    assert finished["id"] == site.only()["id"]
    assert b"s3cret" not in raw


@pytest.mark.parametrize(
    ("how", "reason"), [("disable", "EndpointDisabled"), ("delete", "EndpointDeleted"), ("erase", "PayloadErased")]
)
def test_the_stream_tells_of_cancellations(site: Site, stream: Stream, how: str, reason: str) -> None:
    site.apply(site.endpoint("a", state="Paused"))
    accepted = [site.publish(number) for number in range(1 if how == "erase" else 700)]
    if how == "disable":
        site.apply(site.endpoint("a", state="Disabled"))
    elif how == "delete":
        site.apply()
    else:
        assert site.dev.ask("DELETE", f"/v1/events/{accepted[0]['id']}/payload").status == 204
    ended: list[str] = []
    while len(ended) < len(accepted):
        name, data, _ = stream.next()
        if name == "delivery.finished" and data["endpoint"] == site.name("a"):
            assert data["status"] == "Cancelled"
            ended.append(data["id"])
    assert len(set(ended)) == len(accepted)
    assert site.delivery(ended[-1])["cancelReason"] == reason


def test_metrics_have_the_names_and_labels_of_the_contract(site: Site) -> None:
    site.answers("a", 500, 204)
    site.apply(site.endpoint("a"), site.endpoint("odd", filter="event.data.x == 1"))
    accepted = site.dev.metrics()["hookstead_events_accepted_total"]
    site.publish({})
    site.settled("Delivered")
    found = site.dev.metrics()
    assert found["hookstead_events_accepted_total"] == accepted + 1
    name = site.name("a")
    assert found[f'hookstead_attempts_total{{endpoint="{name}",outcome="Failed"}}'] == 1
    assert found[f'hookstead_attempts_total{{endpoint="{name}",outcome="Succeeded"}}'] == 1
    assert found[f'hookstead_deliveries{{endpoint="{name}",status="Delivered"}}'] == 1
    assert found[f'hookstead_filter_errors_total{{endpoint="{site.name("odd")}"}}'] == 1


def test_no_label_value_comes_from_a_caller(site: Site) -> None:
    mark = f"callers-own-{site.tag}"
    site.apply(site.endpoint("a", eventTypes=None))
    site.dev.publish(mark, {mark: mark}, channels=[mark], id=mark)
    site.dev.ask("GET", f"/{mark}")
    site.dev.ask(mark.upper(), "/v1/events")
    site.wait("a")
    assert mark not in ask(site.dev.admin_address, "GET", "/metrics").text


def test_the_admin_port_serves_health_readiness_and_metrics_and_nothing_else(shared_dev: Environment) -> None:
    for path in ("/healthz", "/readyz"):
        assert ask(shared_dev.admin_address, "GET", path).status == 200
    reply = ask(shared_dev.admin_address, "GET", "/metrics")
    assert reply.status == 200
    assert reply.headers["content-type"].startswith("text/plain")
    assert re.search(
        r"^# TYPE hookstead_events_accepted_total counter$|^# TYPE hookstead_events_accepted counter$", reply.text, re.M
    )
    for path in ("/v1/events", "/openapi.json", "/"):
        ask(shared_dev.admin_address, "GET", path).problem(404)


def test_always_accepted_is_delivered_and_dead_lettered_and_pending_and_cancelled_per_endpoint(site: Site) -> None:
    once = {"retry": {"scheduleSeconds": [1]}}
    site.answers("mixed", 204, 500, 500, 204, 500, 500, 204)
    site.answers("slow", 500)
    objects = [
        site.endpoint("mixed", delivery={**once, "maxInFlight": 1}),
        site.endpoint("slow", delivery={"retry": {"scheduleSeconds": [600]}}),
        site.endpoint("paused", state="Paused"),
    ]
    site.apply(*objects)
    ids = [site.publish(number)["id"] for number in range(9)]
    site.dev.ask("DELETE", f"/v1/events/{ids[3]}/payload")
    until(lambda: not site.deliveries("mixed", status="Pending"), what="mixed settled")
    site.redeliver(site.deliveries("mixed")[0]["id"])
    objects[1] = site.endpoint("slow", state="Disabled")
    site.apply(*objects)
    time.sleep(0.3)
    metrics = site.dev.metrics()
    for name in ("mixed", "slow", "paused"):
        listed = Counter(one["status"] for one in site.deliveries(name))
        assert sum(listed.values()) == 9, "each delivery counts once"
        gauge = {
            status: metrics.get(f'hookstead_deliveries{{endpoint="{site.name(name)}",status="{status}"}}', 0)
            for status in ("Pending", "Delivered", "DeadLettered", "Cancelled")
        }
        assert gauge == {status: listed.get(status, 0) for status in gauge}
        activity = site.status(name)["activity"]
        assert activity["pending"] == listed["Pending"]
        assert activity["deadLettered"] == listed["DeadLettered"]


@pytest.mark.parametrize("status", [204, 500])
@pytest.mark.parametrize("how", ["disable", "erase", "redeliver"])
def test_the_counts_hold_when_a_delivery_changes_in_mid_attempt(site: Site, how: str, status: int) -> None:
    gates = [threading.Event(), threading.Event()]
    site.answers("a", *(Answer(status, gate=gate) for gate in gates))
    delivery = {"timeoutSeconds": 30, "retry": {"scheduleSeconds": [600]}}
    site.apply(site.endpoint("a", delivery=delivery))
    accepted = site.publish({})
    site.wait("a")
    found = site.only()
    if how == "disable":
        site.apply(site.endpoint("a", state="Disabled", delivery=delivery))
    elif how == "erase":
        assert site.dev.ask("DELETE", f"/v1/events/{accepted['id']}/payload").status == 204
    else:
        assert site.redeliver(found["id"]).status == 202
    for gate in gates:
        gate.set()
    attempts = 2 if how == "redeliver" else 1
    after = site.attempted(attempts)
    time.sleep(0.5)
    metrics = site.dev.metrics()
    counted = {
        name: metrics.get(f'hookstead_deliveries{{endpoint="{site.name("a")}",status="{name}"}}', 0)
        for name in ("Pending", "Delivered", "DeadLettered", "Cancelled")
    }
    assert counted == {name: float(name == after["status"]) for name in counted}
    assert site.status("a")["activity"]["pending"] == counted["Pending"]


def test_activity_of_an_endpoint_follows_its_attempts(site: Site) -> None:
    site.answers("a", 500, 500, 204)
    site.apply(site.endpoint("a", delivery={"retry": {"scheduleSeconds": [1, 1]}}))
    site.publish({})
    site.attempted(1)
    first = site.status()["activity"]
    assert (first["failed"], first["succeeded"], first["consecutiveFailures"], first["pending"]) == (1, 0, 1, 1)
    assert first.get("lastSuccessTime") is None
    found = site.settled("Delivered")
    last = site.status()["activity"]
    assert (last["failed"], last["succeeded"], last["consecutiveFailures"], last["pending"]) == (2, 1, 0, 0)
    assert last["lastFailureTime"] >= found["attempts"][1]["time"]
    assert last["lastSuccessTime"] >= found["attempts"][2]["time"]
    assert last["lastAttemptTime"] == last["lastSuccessTime"]
