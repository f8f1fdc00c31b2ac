"""Contract, section 6: `hookstead dev`."""

from __future__ import annotations

import json
import signal
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from contract.processes import (
    Answer,
    Dev,
    ask,
    command,
    environment,
    environment_variables,
    manifest,
    raw_exchange,
    run,
    until,
)
from contract.site import Site

if TYPE_CHECKING:
    from pathlib import Path

    from contract.processes import Environment, Receiver

pytestmark = pytest.mark.dev_alone


@pytest.mark.parametrize(
    "host", ["example.com", "example.com:80", "127.0.0.1.example.com", "10.0.0.1", "0.0.0.0", "[::2]", "x"]
)
def test_a_request_whose_host_is_not_loopback_is_403_on_either_port(shared_dev: Environment, host: str) -> None:
    for address, path in (
        (shared_dev.address, "/v1/endpoints"),
        (shared_dev.address, "/openapi.json"),
        (shared_dev.admin_address, "/metrics"),
        (shared_dev.admin_address, "/healthz"),
    ):
        ask(address, "GET", path, headers={"Host": host}).problem(403)
    document = json.dumps({"type": "a.b", "data": {}}).encode()
    shared_dev.ask(
        "POST", "/v1/events", body=document, headers={"Host": host, "content-type": "application/json"}
    ).problem(403)


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:1", "127.0.0.1", "127.0.0.1:9999", "127.8.9.10", "[::1]", "[::1]:80"]
)
def test_a_loopback_host_is_taken(shared_dev: Environment, host: str) -> None:
    assert ask(shared_dev.address, "GET", "/v1/endpoints", headers={"Host": host}).status == 200
    assert ask(shared_dev.admin_address, "GET", "/healthz", headers={"Host": host}).status == 200


@pytest.mark.parametrize(
    "origin", ["http://example.com", "https://localhost.example.com", "null", "http://evil", "file://"]
)
def test_a_foreign_origin_is_403_on_either_port(shared_dev: Environment, origin: str) -> None:
    for address, path in ((shared_dev.address, "/v1/endpoints"), (shared_dev.admin_address, "/metrics")):
        ask(address, "GET", path, headers={"Origin": origin}).problem(403)
    document = json.dumps({"type": "a.b", "data": {}}).encode()
    shared_dev.ask(
        "POST", "/v1/events", body=document, headers={"Origin": origin, "content-type": "application/json"}
    ).problem(403)


def test_its_own_origin_is_taken(shared_dev: Environment) -> None:
    own = f"http://{shared_dev.address}"
    assert ask(shared_dev.address, "GET", "/v1/endpoints", headers={"Origin": own}).status == 200


def test_a_request_without_a_host_is_refused(shared_dev: Environment) -> None:
    answer = raw_exchange(shared_dev.address, b"GET /v1/endpoints HTTP/1.0\r\n\r\n")
    assert answer.split()[1] in (b"400", b"403")


def test_objects_of_other_namespaces_are_ignored_with_one_warning(own_dev: Any) -> None:
    site = own_dev()
    other = [
        manifest("WebhookEndpoint", f"other-{n}", {"url": "http://127.0.0.1:9/"}, namespace="elsewhere")
        for n in range(3)
    ]
    own = site.endpoint("a")
    own["metadata"]["namespace"] = "default"
    site.apply(*other, own)
    site.apply(*other, own, site.endpoint("b"))
    names = {one["name"] for one in site.dev.list("/v1/endpoints")}
    assert names == {site.name("a"), site.name("b")}
    warnings = [line for line in site.dev.log.splitlines() if "elsewhere" in line]
    assert len(warnings) == 1


def test_another_namespace_is_chosen_by_its_flag(tmp_path: Path, receiver: Receiver) -> None:
    found = environment()
    found["metadata"]["namespace"] = "shop"
    with Dev(tmp_path, "--namespace", "shop", objects=[found]) as dev:
        site = Site(dev, receiver, "shop")
        endpoint = site.endpoint("a", payloadFormat="CloudEvents")
        endpoint["metadata"]["namespace"] = "shop"
        dev.write("shop", endpoint, manifest("WebhookEndpoint", "not-mine", {"url": receiver.url}, namespace="default"))
        until(lambda: [one["name"] for one in dev.list("/v1/endpoints")] == ["shop-a"], what="the endpoint")
        site.publish({})
        assert site.wait("a")[0].json["source"] == "/namespaces/shop"


def test_an_unreadable_file_keeps_its_last_good_objects_and_is_reported(own_dev: Any) -> None:
    site = own_dev()
    site.apply(site.endpoint("a"))
    path = site.dev.folder / f"{site.tag}.yaml"
    for broken in ("{broken", "a: b: c", "\x00", "a: &a [*a, *a]"):
        path.write_text(broken)
        site.dev.in_force()
        assert site.publish({})["endpoints"] == 1
    assert path.name in site.dev.log
    path.write_bytes(b"\xff\xfe")
    site.dev.in_force()
    assert site.publish({})["endpoints"] == 1
    site.apply(site.endpoint("a"), site.endpoint("b"))
    assert site.publish({})["endpoints"] == 2


def test_the_last_good_objects_survive_a_restart(own_dev: Any) -> None:
    site = own_dev()
    site.apply(site.endpoint("a"))
    (site.dev.folder / f"{site.tag}.yaml").write_text("{broken")
    site.dev.in_force()
    assert site.dev.stop(signal.SIGTERM) == 0
    with site.dev.again() as second:
        assert Site(second, site.receiver, site.tag).publish({})["endpoints"] == 1


def test_a_deleted_file_deletes_its_objects(own_dev: Any) -> None:
    site = own_dev()
    site.apply(site.endpoint("a"))
    site.apply(site.endpoint("b"), file="-b")
    assert site.publish({})["endpoints"] == 2
    site.dev.delete(f"{site.tag}-b")
    assert site.publish({})["endpoints"] == 1


def test_yaml_yml_several_documents_lists_and_subfolders_are_read(own_dev: Any) -> None:
    site = own_dev()
    folder = site.dev.folder
    (folder / "deep" / "er").mkdir(parents=True)
    several = "\n---\n".join(json.dumps(site.endpoint(name)) for name in "ab")
    (folder / "deep" / "one.yml").write_text(f"---\n{several}\n---\n# nothing\n")
    listed = {"apiVersion": "v1", "kind": "List", "items": [site.endpoint("c"), site.endpoint("d")]}
    (folder / "deep" / "er" / "two.yaml").write_text(json.dumps(listed))
    (folder / "three.txt").write_text(json.dumps(site.endpoint("e")))
    (folder / "other.yaml").write_text("apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: x}\n")
    site.dev.in_force()
    assert {one["name"] for one in site.dev.list("/v1/endpoints")} == {site.name(name) for name in "abcd"}


def test_generation_counts_effective_edits(own_dev: Any) -> None:
    site = own_dev()

    def generation() -> int:
        found: int = site.status("a")["observedGeneration"]
        return found

    site.apply(site.endpoint("a"))
    assert generation() == 1
    site.apply(site.endpoint("a", state="Enabled"))
    assert generation() == 1, "a default written out is no edit"
    site.apply(site.endpoint("a", annotations={"x": "y"}))
    assert generation() == 1, "annotations are no edit"
    site.apply(site.endpoint("a", state="Paused"))
    assert generation() == 2
    (site.dev.folder / f"{site.tag}.yaml").write_text(json.dumps(site.endpoint("a", state="Paused"), indent=7))
    site.dev.in_force()
    assert generation() == 2, "white space is no edit"
    assert site.dev.stop(signal.SIGTERM) == 0
    with site.dev.again() as second:
        assert Site(second, site.receiver, site.tag).status("a")["observedGeneration"] == 2


def test_generated_keys_live_in_the_state_folder_and_survive_a_restart(own_dev: Any) -> None:
    from standardwebhooks.webhooks import Webhook

    site = own_dev()
    site.apply(site.endpoint("a"))
    site.publish({"n": 1})
    first = site.wait("a")[0]

    def keys() -> list[str]:
        texts = [path.read_bytes() for path in site.dev.state.rglob("*") if path.is_file() and "signing" in str(path)]
        return [text.decode().strip() for text in texts if text.startswith(b"whsec_")]

    before = keys()
    assert len(before) == 1
    assert site.dev.stop(signal.SIGTERM) == 0
    with site.dev.again() as second:
        again = Site(second, site.receiver, site.tag)
        again.publish({"n": 2})
        request = again.wait("a", 2)[1]
        assert keys() == before
        for one in (first, request):
            Webhook(before[0]).verify(one.body, one.headers)


def test_of_two_objects_the_older_is_the_first_by_path_then_by_document(own_dev: Any) -> None:
    site = own_dev()

    def channel(name: str) -> dict[str, Any]:
        return manifest("WebhookChannel", name, {"channelName": "same"})

    def winner() -> list[str]:
        found = []
        for one in site.dev.list("/v1/channels"):
            told = {each["type"]: each["status"] for each in one["conditions"]}
            if one["channelName"] == "same" and told["Accepted"] == "True":
                found.append(one["name"])
        return found

    site.dev.apply("m", channel("second"), channel("third"))
    assert winner() == ["second"]
    site.dev.apply("a", channel("first"))
    assert winner() == ["first"], "the path counts, not the time"


def test_a_stop_does_not_wait_for_streams_and_idle_connections(own_dev: Any) -> None:
    import socket

    site = own_dev()
    host, _, port = site.dev.address.rpartition(":")
    lines = {
        "stream": b"GET /v1/activity/stream HTTP/1.1\r\nhost: localhost\r\n\r\n",
        "idle": b"GET /v1/endpoints HTTP/1.1\r\nhost: localhost\r\n\r\n",
        "nothing": b"",
        "half": b"POST /v1/events HTTP/1.1\r\nhost: localhost\r\ncontent-length: 10\r\n\r\n{",
    }
    opened = {name: socket.create_connection((host, int(port))) for name in lines}
    for name, data in lines.items():
        opened[name].sendall(data)
    assert opened["stream"].recv(10)
    assert opened["idle"].recv(10)
    began = time.monotonic()
    assert site.dev.stop(signal.SIGTERM) == 0
    assert time.monotonic() - began < 8
    for one in opened.values():
        one.close()


def test_a_second_process_on_the_same_state_folder_exits_1_with_a_message(own_dev: Any) -> None:
    site = own_dev()
    ports = ("--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0")
    ended = run("dev", site.dev.folder, *ports, "--state-dir", site.dev.state)
    assert ended.returncode == 1
    assert ended.stderr.strip()
    assert "Traceback" not in ended.stderr
    assert site.publish({})["endpoints"] == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_exits_0_on_either_signal_after_what_is_in_flight_was_finished(own_dev: Any, number: signal.Signals) -> None:
    site = own_dev()
    site.answers("a", Answer(wait=0.7))
    site.apply(site.endpoint("a"))
    site.publish({})
    site.wait("a")
    assert site.dev.stop(number) == 0
    with site.dev.again() as second:
        assert Site(second, site.receiver, site.tag).settled("Delivered")["attemptCount"] == 1


def test_drain_seconds_bound_the_drain_and_what_was_cut_is_sent_again(own_dev: Any) -> None:
    site = own_dev("--drain-seconds", "1")
    gate = threading.Event()
    site.answers("a", Answer(gate=gate), 204)
    site.apply(site.endpoint("a"))
    accepted = site.publish({})
    site.wait("a")
    began = time.monotonic()
    assert site.dev.stop(signal.SIGTERM) == 0
    assert time.monotonic() - began < 6
    gate.set()
    with site.dev.again() as second:
        again = Site(second, site.receiver, site.tag)
        again.settled("Delivered")
        assert {one.id for one in again.received("a")} == {accepted["id"]}


@pytest.mark.parametrize(
    "words",
    [
        ["dev"],
        ["dev", "FOLDER", "--nonsense"],
        ["dev", "FOLDER", "--listen", "0.0.0.0:0"],
        ["dev", "FOLDER", "--listen", "nonsense"],
        ["dev", "FOLDER", "--drain-seconds", "-1"],
        ["dev", "/no/such/folder"],
        ["nonsense"],
        ["gateway", "--auth", "none"],
        ["gateway", "--store", "sqlite:FOLDER/s.db", "--auth", "none", "--listen", "0.0.0.0:0"],
    ],
)
def test_usage_errors_exit_2_on_stderr(tmp_path: Path, words: list[str]) -> None:
    ended = run(*(word.replace("FOLDER", str(tmp_path)) for word in words))
    assert ended.returncode == 2
    assert ended.stderr.strip()
    assert "Traceback" not in ended.stderr
    assert ended.stdout == ""


def test_a_port_that_is_taken_exits_1(shared_dev: Environment, tmp_path: Path) -> None:
    flags = ("--listen", shared_dev.address, "--admin-listen", "127.0.0.1:0", "--state-dir", tmp_path / "state")
    ended = run("dev", tmp_path, *flags)
    assert ended.returncode == 1
    assert shared_dev.address in ended.stderr
    assert "Traceback" not in ended.stderr


def test_every_flag_has_an_environment_variable(tmp_path: Path) -> None:
    import subprocess

    variables = environment_variables(
        HOOKSTEAD_LISTEN="127.0.0.1:0",
        HOOKSTEAD_ADMIN_LISTEN="127.0.0.1:0",
        HOOKSTEAD_STATE_DIR=str(tmp_path / "other"),
    )
    process = subprocess.Popen(command("dev", tmp_path), env=variables, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        until(lambda: (tmp_path / "other").is_dir(), what="the state folder")
        assert any("events: http://127.0.0.1:" in line for line in (process.stdout.readline() for _ in range(4)))
    finally:
        process.terminate()
        assert process.wait(20) == 0
        process.stdout.close()  # type: ignore[union-attr]  # asserted above


def test_a_hostile_object_stops_no_other(own_dev: Any) -> None:
    site = own_dev()
    hostile: list[Any] = [
        {"apiVersion": "hookstead.dev/v1alpha1", "kind": "WebhookEndpoint", "metadata": {"name": "x"}},
        {"apiVersion": "hookstead.dev/v1alpha1", "kind": "WebhookEndpoint"},
        {
            "apiVersion": "hookstead.dev/v1alpha1",
            "kind": "WebhookEndpoint",
            "metadata": {"name": "A_B"},
            "spec": {"url": 7},
        },
        {
            "apiVersion": "hookstead.dev/v1alpha1",
            "kind": "WebhookChannel",
            "metadata": {"name": "n" * 64},
            "spec": {"channelName": "q"},
        },
        {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "data": {"k": "not base64!"}},
        {"apiVersion": "v1", "kind": "Secret", "metadata": None},
    ]
    site.apply(*hostile, site.endpoint("a"))
    assert site.publish({})["endpoints"] == 1
    site.wait("a")


def test_a_mistyped_kind_deletes_nothing_and_is_reported(own_dev: Any) -> None:
    site = own_dev()
    site.apply(site.endpoint("a"))
    mistyped = site.endpoint("a")
    mistyped["kind"] = "WebhookEndpiont"
    site.apply(mistyped)
    assert site.publish({})["endpoints"] == 1
    assert "WebhookEndpiont" in site.dev.log


def test_the_ports_are_on_loopback_where_nothing_is_said() -> None:
    helped = run("dev", "--help").stdout
    for default in ("127.0.0.1:8080", "127.0.0.1:9090", ".hookstead", "default"):
        assert default in helped
