"""`kubectl hooks` against a real `hookstead dev`: what a person types, and what comes back."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest

from integration.cli.dev_process import WAIT_SECONDS, Dev, Receiver, endpoint, environment, event_type

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class Hooks:
    """The plugin, as a process of its own, asked with HOOKSTEAD_SERVER."""

    def __init__(self, dev: Dev) -> None:
        self.dev = dev

    def run(self, *argv: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        """The ended process."""
        return subprocess.run(
            [sys.executable, "-m", "hookstead.cli.kubectl_hooks", *argv],
            env=environment(HOOKSTEAD_SERVER=self.dev.url),
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
            timeout=30,
        )

    def lines(self, *argv: str, stdin: str = "") -> list[str]:
        """The lines of a run that must succeed."""
        ended = self.run(*argv, stdin=stdin)
        assert (ended.returncode, ended.stderr) == (0, "")
        return ended.stdout.splitlines()

    def json(self, *argv: str) -> Any:
        """The document of a run with `-o json`."""
        return json.loads("\n".join(self.lines(*argv, "-o", "json")))


@pytest.fixture
def hooks(folder: Path, tmp_path: Path, receiver: Receiver) -> Iterator[Hooks]:
    (folder / "types.yaml").write_text(event_type("order.created", sample={"orderId": "A-1"}))
    (folder / "acme.yaml").write_text(endpoint("acme", receiver.url + "/acme"))
    (folder / "broken.yaml").write_text(
        endpoint("broken", receiver.url + "/500", delivery={"retry": {"scheduleSeconds": [86400]}})
    )
    with Dev(folder, state=tmp_path / "state") as dev:
        yield Hooks(dev)


def settled(hooks: Hooks, event: str) -> list[Any]:
    """The event's deliveries, once each was attempted."""
    until = time.monotonic() + WAIT_SECONDS
    while time.monotonic() < until:
        deliveries: list[Any] = hooks.dev.ask(f"/v1/events/{event}")["deliveries"]
        if all(delivery["attemptCount"] for delivery in deliveries):
            return deliveries
        time.sleep(0.05)
    raise AssertionError(f"{event} was not attempted: {deliveries}")


def test_an_event_is_sent_followed_and_redelivered(hooks: Hooks, receiver: Receiver) -> None:
    (line,) = hooks.lines("send", "order.created", "--data", "-", "--id", "mine-1", stdin='{"total": 1.0}')
    event = line.split()[0].removeprefix("event/")
    assert line == f"event/{event} accepted for 2 endpoints"
    assert {receiver.next().path, receiver.next().path} == {"/acme", "/500"}
    (again,) = hooks.lines("send", "order.created", "--data", '{"total": 1.0}', "--id", "mine-1")
    assert again == f"event/{event} accepted for 2 endpoints, a duplicate of an earlier one"
    deliveries = {delivery["endpoint"]: delivery for delivery in settled(hooks, event)}

    rows = [line.split() for line in hooks.lines("deliveries")]
    assert rows[0] == ["ID", "ENDPOINT", "TYPE", "STATUS", "ATTEMPTS", "NEXT", "AGE"]
    shown = {row[1]: row for row in rows[1:]}
    assert shown["acme"][3:6] == ["Delivered", "1", "<none>"]
    assert shown["broken"][3:5] == ["Pending", "1"]
    assert shown["broken"][5].endswith("h")
    assert len(hooks.lines("deliveries", "--endpoint", "acme", "--since", "1h")) == 2
    assert hooks.lines("deliveries", "--status", "Pending", "-o", "name") == [f"delivery/{deliveries['broken']['id']}"]
    assert hooks.run("deliveries", "--event-type", "no.such").stderr == "No resources found\n"

    attempts = hooks.lines("deliveries", deliveries["broken"]["id"])
    assert attempts[3].split()[:2] == ["ATTEMPT", "TRIGGER"]
    assert attempts[4].split()[:5] == ["1", "Scheduled", "Failed", "500", "http-status"]

    assert hooks.lines("redeliver", deliveries["acme"]["id"]) == [
        f"delivery/{deliveries['acme']['id']} redelivery requested"
    ]
    assert receiver.next().headers["webhook-id"] == event
    refused = hooks.run("redeliver", "dlv_0")
    assert (refused.returncode, refused.stdout) == (1, "")
    assert refused.stderr.startswith("error: delivery/dlv_0: ")

    assert '  "total": 1.0' in hooks.lines("events", event)
    assert hooks.json("events", event)["deliveries"]
    assert [item["id"] for item in hooks.json("events")["items"]] == [event]


def test_status_shows_the_endpoints_as_kubectl_get_does(hooks: Hooks, receiver: Receiver) -> None:
    (line,) = hooks.lines("send", "order.created")
    settled(hooks, line.split()[0].removeprefix("event/"))
    rows = [line.split() for line in hooks.lines("status")]
    assert rows[0][:3] == ["ENVIRONMENT", "ACTIVE", "READY"]
    assert rows[1][:4] == ["default", "True", "True", "2"]
    assert rows[3] == ["NAME", "READY", "ACTIVE", "HEALTHY", "LAST-DELIVERY", "FAILURES"]
    endpoints = {row[0]: row for row in rows[4:]}
    assert endpoints["acme"][1:4] == ["True", "True", "True"]
    assert endpoints["broken"][1:4] == ["True", "True", "False"]
    assert endpoints["broken"][5] == "1"
    assert hooks.json("status", "acme")["name"] == "acme"
    assert hooks.run("status", "nobody").returncode == 1


def test_a_test_says_how_the_endpoint_answered_and_is_counted_nowhere(hooks: Hooks, receiver: Receiver) -> None:
    good, bad = hooks.run("test", "acme"), hooks.run("test", "broken", "--event-type", "order.created")
    assert (good.returncode, bad.returncode) == (0, 1)
    assert good.stdout.splitlines()[1].split()[:3] == ["acme", "Succeeded", "204"]
    assert bad.stdout.splitlines()[1].split()[:4] == ["broken", "Failed", "500", "http-status"]
    assert json.loads(receiver.next().body)["data"] == {"orderId": "A-1"}
    assert hooks.run("deliveries").stderr == "No resources found\n"
    unknown = hooks.run("test", "nobody")
    assert unknown.returncode == 1
    assert "nobody" in unknown.stderr


def test_what_changes_is_shown_as_it_happens(hooks: Hooks, receiver: Receiver) -> None:
    following = subprocess.Popen(
        [sys.executable, "-m", "hookstead.cli.kubectl_hooks", "deliveries", "-f", "--endpoint", "acme"],
        env=environment(HOOKSTEAD_SERVER=hooks.dev.url),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        hooks.lines("send", "order.created")
        assert following.stdout is not None
        lines = [following.stdout.readline().split() for _ in range(2)]
        while lines[-1][3] != "Delivered":
            lines.append(following.stdout.readline().split())
        # Long ended, and touched again: the stream tells of it.
        hooks.lines("redeliver", lines[-1][0])
        lines.append(following.stdout.readline().split())
    finally:
        following.send_signal(signal.SIGINT)
        _, err = following.communicate(timeout=WAIT_SECONDS)
    assert lines[0][:2] == ["ID", "ENDPOINT"]
    assert {row[1] for row in lines[1:]} == {"acme"}
    assert lines[-1][3:5] == ["Delivered", "2"]
    assert (following.returncode, err) == (130, "")


def test_who_follows_waits_for_a_gateway_that_restarts(folder: Path, tmp_path: Path, receiver: Receiver) -> None:
    (folder / "acme.yaml").write_text(endpoint("acme", receiver.url + "/acme"))
    with Dev(folder, state=tmp_path / "state") as first:
        address = first.url.removeprefix("http://")
        first.publish("order.created", {})
        following = subprocess.Popen(
            [sys.executable, "-m", "hookstead.cli.kubectl_hooks", "deliveries", "-f", "-o", "name"],
            env=environment(HOOKSTEAD_SERVER=first.url),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            assert following.stdout is not None
            assert following.stderr is not None
            known = {following.stdout.readline()}
            assert first.stop() == 0
            assert "Looking for a gateway for 60 s." in following.stderr.readline()
            with Dev(folder, "--listen", address, state=tmp_path / "state") as second:
                second.publish("order.created", {})
                while (line := following.stdout.readline()) in known:
                    pass
                assert line.startswith("delivery/dlv_")
        finally:
            following.kill()
            following.communicate(timeout=WAIT_SECONDS)


def test_events_that_come_are_shown_as_they_come(hooks: Hooks) -> None:
    following = subprocess.Popen(
        [sys.executable, "-m", "hookstead.cli.kubectl_hooks", "events", "-w", "-o", "name"],
        env=environment(HOOKSTEAD_SERVER=hooks.dev.url),
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        sent = [hooks.lines("send", "order.created", "-o", "name")[0] for _ in range(3)]
        assert following.stdout is not None
        assert [following.stdout.readline().strip() for _ in range(3)] == sent
    finally:
        following.kill()
        following.communicate(timeout=WAIT_SECONDS)


def test_the_catalog_is_listed_and_its_sample_sent(hooks: Hooks, receiver: Receiver) -> None:
    assert [line.split()[:3] for line in hooks.lines("catalog")] == [
        ["TYPE", "GROUP", "LIFECYCLE"],
        ["order.created", "<none>", "Active"],
    ]
    assert "sample:" in hooks.lines("catalog", "order.created")
    assert hooks.json("catalog", "--format", "openapi")["openapi"] == "3.1.0"
    unknown = hooks.run("catalog", "order.creatd")
    assert (unknown.returncode, unknown.stdout) == (1, "")
    assert 'did you mean "order.created"' in unknown.stderr
    hooks.lines("send", "order.created", "--sample")
    assert json.loads(receiver.next().body)["data"] == {"orderId": "A-1"}


def test_a_diagnosis_names_the_sentence_that_excludes(hooks: Hooks, folder: Path, receiver: Receiver) -> None:
    (line,) = hooks.lines("send", "order.created")
    event = line.split()[0]
    said = hooks.lines("diagnose", "acme", event)
    assert said[0] == f"acme gets {event.removeprefix('event/')} (order.created without channels)"
    assert said.count("  yes  the environment is enabled") == 1
    assert any(row.startswith("dlv_") for row in said)

    (folder / "acme.yaml").write_text(
        endpoint("acme", receiver.url + "/acme", eventTypes=["user.*"], filter="event.data.n > 1")
    )
    until = time.monotonic() + WAIT_SECONDS
    while (ended := hooks.run("diagnose", "acme", "--event-type", "order.created")).returncode != 1:
        assert time.monotonic() < until
    verdict = "acme does not get an event (order.created without channels): its eventTypes is absent or covers the type"
    assert ended.stdout.splitlines()[0] == verdict
    assert hooks.run("diagnose", "acme", event).stdout.startswith(f"acme got {event.removeprefix('event/')}")
    assert "if its filter is true: give --data" in hooks.lines("diagnose", "acme", "--event-type", "user.born")[0]
    assert hooks.json("diagnose", "acme", "--event-type", "user.born", "--data", '{"n": 2}')["selected"] is True
    assert hooks.run("diagnose", "nobody", "--event-type", "a").returncode == 1


def test_a_replay_is_written_into_the_folder_and_followed(hooks: Hooks, folder: Path, receiver: Receiver) -> None:
    hooks.lines("send", "order.created")
    assert {receiver.next().path, receiver.next().path} == {"/acme", "/500"}
    words = ("replay", "acme", "--since", "1h", "--select", "All", "--into", str(folder), "--wait", "--timeout", "30")
    ended = hooks.run(*words)
    assert ended.returncode == 0, ended.stderr
    written, complete = ended.stdout.splitlines()
    assert written.endswith(".yaml written")
    assert complete.endswith("1 delivery selected, 1 delivered, 0 failed, 100 % done")
    assert receiver.next().path == "/acme"
    manifest = hooks.lines("replay", "acme", "--since", "1h", "--dry-run")
    assert manifest[1] == "kind: WebhookReplay"
