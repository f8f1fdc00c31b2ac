"""How a gateway process starts, refuses to start, drains and comes back."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from builders import config, endpoint
from hookstead.config import serial
from hookstead.gateway.options import AuthMode, OptionsError, settle
from hookstead.gateway.process import GatewayProcess, StartError
from integration.gateway.gateway_bench import options, receiving, running

CONTROLLER = Path(__file__).parents[3] / "controller"
TOKEN = "internal-token"


async def test_a_drain_refuses_at_once_and_finishes_what_is_in_flight(tmp_path: Path) -> None:
    async with running(tmp_path) as bench:
        bench.receiver.release = asyncio.Event()
        await bench.publish()
        await bench.receiver.first()
        bench.process.request_stop()
        stopping = asyncio.create_task(bench.process.drain_and_stop())
        await asyncio.sleep(0.05)
        refused = await bench.publish()
        assert (refused.status, refused.problem) == (503, "draining")
        assert refused.headers["Retry-After"]
        assert refused.headers["Connection"] == "close"
        assert (await bench.get(f"{bench.admin}/readyz")).status == 503
        assert (await bench.get(f"{bench.admin}/healthz")).status == 200
        assert not stopping.done()
        bench.receiver.release.set()
        await asyncio.wait_for(stopping, 5)
    async with running(tmp_path) as bench:
        assert [item["status"] for item in (await bench.get("/v1/deliveries")).json["items"]] == ["Delivered"]


async def test_what_a_drain_could_not_finish_is_delivered_by_the_next_process(tmp_path: Path) -> None:
    async with running(tmp_path, drain_seconds=0.2) as bench:
        bench.receiver.release = asyncio.Event()
        event = (await bench.publish()).json["id"]
        await bench.receiver.first()
        await asyncio.wait_for(bench.process.drain_and_stop(), 5)
    async with running(tmp_path) as bench:
        await bench.process.apply(config(endpoint("all", url=bench.receiver.url)))
        assert (await bench.receiver.first()).headers["webhook-id"] == event
        await bench.finished()


async def test_a_second_request_to_stop_waits_for_nothing(tmp_path: Path) -> None:
    async with running(tmp_path, drain_seconds=60) as bench:
        bench.receiver.release = asyncio.Event()
        await bench.publish()
        await bench.receiver.first()
        stopping = asyncio.create_task(bench.process.drain_and_stop())
        await asyncio.sleep(0.05)
        bench.process.request_stop()
        await asyncio.wait_for(stopping, 5)


async def test_who_is_told_that_a_stop_will_follow_takes_events_and_keeps_no_connection(tmp_path: Path) -> None:
    async with running(tmp_path) as bench:
        kept = (await bench.publish()).headers
        assert "Connection" not in kept
        reader, writer = await asyncio.open_connection("127.0.0.1", int(bench.base.rpartition(":")[2]))
        writer.write(b"GET /openapi.json HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        assert b" 200 " in await reader.readline()
        bench.process.leave()
        for _ in range(2):
            taken = await bench.publish()
            assert (taken.status, taken.headers["Connection"]) == (202, "close")
        assert (await bench.get(f"{bench.admin}/readyz")).status == 200
        # An idle connection ends by itself: its client does not send its next event to a process that stops.
        await asyncio.wait_for(reader.read(), 20)
        writer.close()


async def test_an_open_stream_does_not_hold_up_a_stop(tmp_path: Path) -> None:
    async with running(tmp_path) as bench, bench.session.get(f"{bench.base}/v1/activity/stream") as stream:
        await stream.content.readline()
        await asyncio.wait_for(bench.process.drain_and_stop(), 5)
        assert b"data" not in await stream.content.read()


async def test_a_second_process_on_one_store_is_told_so(tmp_path: Path) -> None:
    async with running(tmp_path):
        with pytest.raises(StartError, match=r"store\.db"):
            await GatewayProcess(options(tmp_path)).start()


async def test_an_address_in_use_is_named_and_nothing_is_left_running(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(StartError, match=f"public port cannot listen on 127.0.0.1:{port}"):
            await GatewayProcess(options(tmp_path, listen=("127.0.0.1", port))).start()
    async with running(tmp_path) as bench:
        assert (await bench.publish()).status == 202


async def test_own_listeners_are_never_dialled(tmp_path: Path) -> None:
    async with running(tmp_path) as bench:
        for url in (f"{bench.base}/v1/events", f"{bench.admin}/healthz"):
            await bench.process.apply(config(endpoint("self", url=url)))
            answer = (await bench.post("/v1/endpoints/self/test")).json
            assert (answer["outcome"], answer["errorCode"]) == ("Failed", "address-denied")


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"listen": ("0.0.0.0", 8080)}, "--listen 0.0.0.0:8080 is not loopback"),
        ({"listen": ("10.0.0.1", 8080)}, "--auth none"),
        ({"admin_listen": ("::", 9090)}, "--admin-listen"),
        ({"internal_listen": ("0.0.0.0", 9443)}, "certificate"),
        ({"auth": AuthMode.STATIC}, "--auth-keys"),
        ({"auth": AuthMode.STATIC, "auth_keys": Path("/nonexistent/keys")}, "cannot be read"),
        ({"auth": AuthMode.KUBERNETES}, "--kubeconfig"),
        ({"max_event_bytes": 1000}, "65536"),
    ],
)
async def test_options_that_do_not_go_together_are_refused(tmp_path: Path, changes: dict[str, Any], says: str) -> None:
    with pytest.raises(OptionsError, match=says.replace("(", r"\(")):
        GatewayProcess(options(tmp_path, **changes))


def test_without_authentication_an_open_choice_of_interface_is_loopback(tmp_path: Path) -> None:
    settled = settle(options(tmp_path, listen=("", 8080), admin_listen=("", 9090), internal_listen=("", 9443)), {})
    assert [settled.listen[0], settled.admin_listen[0], settled.internal_listen] == [
        "127.0.0.1",
        "127.0.0.1",
        ("127.0.0.1", 9443),
    ]


def test_with_authentication_it_is_every_interface(tmp_path: Path) -> None:
    settled = settle(options(tmp_path, listen=("", 8080), auth=AuthMode.STATIC), {})
    assert settled.listen == ("", 8080)


@pytest.mark.parametrize("headers", [{"Host": "evil.test"}, {"Origin": "https://evil.test"}, {"Origin": "null"}])
async def test_foreign_hosts_and_pages_are_refused_on_either_port(tmp_path: Path, headers: dict[str, str]) -> None:
    async with running(tmp_path) as bench:
        for url in ("/v1/events", "/openapi.json", f"{bench.admin}/healthz", f"{bench.admin}/metrics"):
            answer = await bench.get(url, headers=headers)
            assert (answer.status, answer.problem) == (403, "forbidden")
        answer = await bench.post("/v1/events", json={"type": "a", "data": 1}, headers=headers)
        assert answer.status == 403
        assert (await bench.get("/v1/events")).json["items"] == []


async def test_static_keys_open_what_their_scopes_say(tmp_path: Path) -> None:
    keys = tmp_path / "keys.json"
    scopes = {"publisher": ["publish"], "reader": ["read"], "auditor": ["read", "events"], "operator": ["operate"]}
    entries = [
        {"name": name, "sha256": hashlib.sha256(name.encode()).hexdigest(), "scopes": held}
        for name, held in scopes.items()
    ]
    keys.write_text(json.dumps({"keys": entries}))
    async with running(tmp_path, auth=AuthMode.STATIC, auth_keys=keys) as bench:

        async def status(method: str, url: str, name: str | None) -> int:
            headers = {} if name is None else {"Authorization": f"Bearer {name}"}
            body = {"type": "a", "data": {"n": 1}} if url == "/v1/events" and method == "POST" else None
            return (await bench.call(method, url, headers=headers, json=body)).status

        calls = {
            ("POST", "/v1/events"): {"publisher": 202},
            ("GET", "/v1/endpoints"): {"reader": 200, "auditor": 200},
            ("GET", "/v1/deliveries"): {"reader": 200, "auditor": 200},
            ("GET", "/v1/catalog"): {"reader": 200, "auditor": 200},
            ("GET", "/v1/events"): {"auditor": 200},
            ("GET", "/v1/events/msg_x"): {"auditor": 404},
            ("POST", "/v1/deliveries/dlv_x/redeliver"): {"operator": 404},
            ("DELETE", "/v1/events/msg_x/payload"): {"operator": 404},
        }
        for (method, url), allowed in calls.items():
            assert await status(method, url, None) == 401
            assert await status(method, url, "stranger") == 401
            for name in scopes:
                assert await status(method, url, name) == allowed.get(name, 403), (method, url, name)
        assert await status("GET", "/openapi.json", None) == 200
        assert await status("GET", f"{bench.admin}/readyz", None) == 200
        by_name = {"Authorization": "Bearer reader", "Host": "any.test"}
        assert (await bench.get("/v1/endpoints", headers=by_name)).status == 200

        reader, auditor = ({"Authorization": f"Bearer {name}"} for name in ("reader", "auditor"))

        async def done() -> Any:
            items = (await bench.get("/v1/deliveries", headers=reader)).json["items"]
            return items and items[0]["status"] == "Delivered" and items[0]["id"]

        delivery = await bench.until(done)
        hidden = (await bench.get(f"/v1/deliveries/{delivery}", headers=reader)).json["attempts"][0]
        shown = (await bench.get(f"/v1/deliveries/{delivery}", headers=auditor)).json["attempts"][0]
        assert (hidden["responseBody"], shown["responseBody"]) == (None, "thanks")


async def test_a_refusal_is_given_before_the_body_is_read(tmp_path: Path) -> None:
    keys = tmp_path / "keys.json"
    keys.write_text(json.dumps({"keys": [{"name": "a", "sha256": "0" * 64, "scopes": ["publish"]}]}))
    async with running(tmp_path, auth=AuthMode.STATIC, auth_keys=keys) as bench:
        assert bench.process.public is not None
        reader, writer = await asyncio.open_connection("127.0.0.1", bench.process.public.port)
        writer.write(b"POST /v1/events HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n")
        assert (await asyncio.wait_for(reader.readline(), 2)).startswith(b"HTTP/1.1 401")
        writer.close()
        await writer.wait_closed()


# ---------------------------------------------------------------------------------------------- as a program


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Program:
    """`hookstead gateway` as a subprocess."""

    def __init__(self, folder: Path, *flags: str) -> None:
        self.port, self.admin, self.internal = free_port(), free_port(), free_port()
        listen = [("listen", self.port), ("admin-listen", self.admin), ("internal-listen", self.internal)]
        addresses = [word for flag, port in listen for word in (f"--{flag}", f"127.0.0.1:{port}")]
        kept = {name: value for name, value in os.environ.items() if not name.startswith("HOOKSTEAD_")}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "hookstead.cli.main", "gateway", "--auth", "none", "--allow-loopback", "--store",
             f"sqlite:{folder / 'store.db'}", "--min-free-bytes", "0", *addresses, *flags],
            env={**kept, "PYTHONPATH": str(CONTROLLER), "HOOKSTEAD_INTERNAL_TOKEN": TOKEN},
            stderr=subprocess.PIPE,
            text=True,
        )  # fmt: skip

    def call(self, method: str, port: int, path: str, body: bytes | None = None, **headers: str) -> tuple[int, Any]:
        request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", data=body, method=method)
        for name, value in headers.items():
            request.add_header(name.replace("_", "-"), value)
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read()

    def push(self, document: bytes, *, epoch: str, token: str = TOKEN) -> tuple[int, Any]:
        return self.call(
            "PUT",
            self.internal,
            "/internal/v1/config",
            serial.compress(document),
            Authorization=f"Bearer {token}",
            Content_Encoding="gzip",
            hookstead_epoch=epoch,
            hookstead_hash=serial.digest(document),
        )

    def wait_until_alive(self, path: str = "/healthz") -> None:
        for _ in range(400):
            assert self.process.poll() is None, self.process.stderr and self.process.stderr.read()
            try:
                if self.call("GET", self.admin, path)[0] == 200:
                    return
            except OSError:
                pass
            try:
                self.process.wait(0.05)
            except subprocess.TimeoutExpired:
                continue
        raise AssertionError("the gateway did not come up")

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(10)
        if self.process.stderr is not None:
            self.process.stderr.close()

    def stop(self, number: int = signal.SIGTERM) -> tuple[int, str]:
        self.process.send_signal(number)
        _, errors = self.process.communicate(timeout=20)
        return self.process.returncode, errors


@pytest.fixture
def programs(tmp_path: Path) -> Iterator[Any]:
    started: list[Program] = []

    def start(*flags: str) -> Program:
        started.append(Program(tmp_path, *flags))
        return started[-1]

    yield start
    for program in started:
        program.kill()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_program_with_0(programs: Any, number: int) -> None:
    program = programs()
    program.wait_until_alive()
    code, errors = program.stop(number)
    assert code == 0, errors


def test_sigusr1_lets_clients_go_and_ends_nothing(programs: Any) -> None:
    """What the chart's preStop hook sends, some seconds before the SIGTERM of the kubelet."""
    program = programs()
    program.wait_until_alive()
    program.process.send_signal(signal.SIGUSR1)
    program.wait_until_alive()
    assert program.process.poll() is None
    code, errors = program.stop()
    assert code == 0, errors
    assert "letting clients go" in errors


def test_a_second_program_on_the_store_exits_with_1_and_a_message(programs: Any) -> None:
    programs().wait_until_alive()
    second = programs()
    _, errors = second.process.communicate(timeout=20)
    assert second.process.returncode == 1
    assert "store.db" in errors
    assert "Traceback" not in errors


async def test_a_pushed_configuration_is_in_force_and_survives_a_restart(programs: Any) -> None:
    async with receiving() as receiver:
        document = serial.encode(config(endpoint("all", url=receiver.url)))
        await asyncio.to_thread(push_and_restart, programs, document)
        assert (await receiver.first()).body.endswith(b'"data":1}')


def push_and_restart(programs: Any, document: bytes) -> None:
    program: Program = programs()
    program.wait_until_alive()
    assert program.call("GET", program.admin, "/readyz")[0] == 503
    assert program.push(document, epoch="1.1", token="wrong")[0] == 401
    status, body = program.push(document, epoch="3.7")
    running_now = json.loads(body)
    assert (status, running_now["hash"]) == (200, serial.digest(document))
    assert running_now["epoch"] == {"term": 3, "sequence": 7}
    status, body = program.push(document, epoch="3.6")
    assert (status, json.loads(body)["epoch"]) == (409, {"term": 3, "sequence": 7})
    assert program.push(document, epoch="3.7")[0] == 200
    assert program.call("GET", program.admin, "/readyz")[0] == 200
    program.kill()

    again: Program = programs()
    again.wait_until_alive("/readyz")
    status, body = again.call("GET", again.internal, "/internal/v1/running", Authorization=f"Bearer {TOKEN}")
    assert json.loads(body)["hash"] == serial.digest(document)
    assert json.loads(body)["instance"] != running_now["instance"]
    event = json.dumps({"type": "a", "data": 1}).encode()
    assert again.call("POST", again.port, "/v1/events", event, Content_Type="application/json")[0] == 202
