"""`hookstead` as a process, seen from outside only: a folder, loopback ports, exit codes. Imports nothing of it."""

from __future__ import annotations

import abc
import http.client
import itertools
import json
import os
import re
import socket
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol, Self
from urllib.parse import urlencode

from cluster.child import Child

if TYPE_CHECKING:
    import signal
    from collections.abc import Callable, Iterable, Mapping

CONTROLLER: Final = Path(__file__).parents[2] / "controller"
WAIT_SECONDS: Final = 45.0
START_SECONDS: Final = 90.0
"""How long a program may take to start where the machine is busy: a test that shares it must not pay for that."""
API: Final = "hookstead.dev/v1alpha1"
INTERNAL_TOKEN: Final = "internal-token"

_LISTENS: Final = re.compile(r"the (\w+) port listens on (\S+:\d+)")
_EVENTS: Final = re.compile(r"events: http://(\S+)/v1/events")
_HEALTH: Final = re.compile(r"health: http://(\S+)/healthz")


def until(look: Callable[[], Any], *, what: str, seconds: float = WAIT_SECONDS, pause: float = 0.02) -> Any:
    """What `look` gives once it is truthy; fails with `what` and the last answer when the time is up."""
    ends = time.monotonic() + seconds
    while True:
        found = look()
        if found:
            return found
        assert time.monotonic() < ends, f"not within {seconds:g} s: {what}; last seen: {found!r}"
        time.sleep(pause)


def environment_variables(**more: str) -> dict[str, str]:
    """Variables for a program of ours, none of the caller's own HOOKSTEAD_… among them."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("HOOKSTEAD_")}
    return {**kept, "PYTHONPATH": str(CONTROLLER), "PYTHONUNBUFFERED": "1", "NO_COLOR": "1", **more}


def command(*words: str | Path) -> list[str]:
    """The command line of `hookstead`."""
    return [sys.executable, "-m", "hookstead.cli.main", *map(str, words)]


def run(*words: str | Path, seconds: float = WAIT_SECONDS) -> subprocess.CompletedProcess[str]:
    """`hookstead` run to its end."""
    return subprocess.run(
        command(*words), env=environment_variables(), capture_output=True, text=True, timeout=seconds, check=False
    )


# ------------------------------------------------------------------------------------------------- asking


@dataclass(frozen=True)
class Reply:
    """An answer over HTTP. Header names are lower case."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)

    @property
    def text(self) -> str:
        return self.body.decode()

    def problem(self, status: int, slug: str | None = None) -> dict[str, Any]:
        """The problem document, after its shape (RFC 9457) was checked."""
        assert self.status == status, (self.status, self.body)
        assert self.headers["content-type"].partition(";")[0] == "application/problem+json", self.headers
        document: dict[str, Any] = self.json
        check_problem(document, status)
        if status in (429, 503, 507):
            assert int(self.headers["retry-after"]) >= 1
        if slug is not None:
            assert document["type"].endswith(f"/{slug}"), document
        return document


def check_problem(document: Any, status: int) -> None:
    """That a document has the members of RFC 9457, for this status."""
    assert document["status"] == status, document
    assert re.match(r"^https?://\S+$", document["type"]), document
    assert isinstance(document["title"], str)
    assert document["title"]
    assert isinstance(document["detail"], str)


def ask(
    address: str,
    method: str,
    path: str,
    *,
    body: bytes | Iterable[bytes] | None = None,
    headers: Mapping[str, str] | None = None,
    query: Mapping[str, Any] | None = None,
    seconds: float = WAIT_SECONDS,
) -> Reply:
    """One request on a connection of its own. An iterable body goes chunked."""
    host, _, port = address.rpartition(":")
    connection = http.client.HTTPConnection(host.strip("[]"), int(port), timeout=seconds)
    target = path + (f"?{urlencode(query)}" if query else "")
    try:
        chunked = body is not None and not isinstance(body, bytes)
        connection.request(method, target, body=body, headers=dict(headers or {}), encode_chunked=chunked)
        response = connection.getresponse()
        found = {name.lower(): value for name, value in response.getheaders()}
        return Reply(response.status, found, response.read())
    finally:
        connection.close()


def raw_exchange(address: str, request: bytes, *, seconds: float = WAIT_SECONDS) -> bytes:
    """Bytes sent as they are; everything that comes back until the server closes or says nothing for long."""
    host, _, port = address.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=seconds) as connection:
        connection.sendall(request)
        answer = b""
        while chunk := connection.recv(65536):
            answer += chunk
        return answer


# ------------------------------------------------------------------------------------------------- manifests


def manifest(kind: str, name: str, spec: Mapping[str, Any], **metadata: Any) -> dict[str, Any]:
    """An object of ours."""
    return {"apiVersion": API, "kind": kind, "metadata": {"name": name, **metadata}, "spec": dict(spec)}


def environment(**spec: Any) -> dict[str, Any]:
    """An enabled environment that may reach loopback."""
    egress = {"plaintextHTTP": "Allow", "privateNetworks": "Allow", "allowedCIDRs": ["127.0.0.0/8", "::1/128"]}
    return manifest("WebhookEnvironment", "default", {"state": "Enabled", "egress": egress, **spec})


def secret(name: str, *, labelled: bool = True, **values: Any) -> dict[str, Any]:
    """A Secret with the opt-in label."""
    labels = {"hookstead.dev/endpoint-secret": "true"} if labelled else {}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "labels": labels}, "stringData": values}


# ------------------------------------------------------------------------------------------------- processes


class Program:
    """A run of one serving program, or of several that serve one environment; killed by `close`, and with the thread
    that started it."""

    def __init__(self, *children: Child) -> None:
        self.children: Final = children
        self._addresses: list[str] = []
        self._admin_addresses: list[str] = []
        self._turn = itertools.count()

    @property
    def log(self) -> str:
        return "\n".join(child.last_words(lines=100_000) for child in self.children)

    @property
    def running(self) -> bool:
        """Whether any of it has not ended."""
        return any(child.running for child in self.children)

    @property
    def addresses(self) -> tuple[str, ...]:
        """Public ones, of all processes."""
        return tuple(self._addresses)

    @property
    def address(self) -> str:
        """A public one: of several processes each in its turn, as if a Service stood before them."""
        return self._addresses[next(self._turn) % len(self._addresses)]

    @property
    def admin_addresses(self) -> tuple[str, ...]:
        return tuple(self._admin_addresses)

    @property
    def admin_address(self) -> str:
        return self._admin_addresses[0]

    def ask(self, method: str, path: str, **more: Any) -> Reply:
        """One request on the public port."""
        return ask(self.address, method, path, **more)

    def get(self, path: str, **query: Any) -> Any:
        """The JSON of a GET that succeeds."""
        reply = self.ask("GET", path, query=query)
        assert reply.status == 200, (path, reply.status, reply.body)
        return reply.json

    def post(self, path: str, body: bytes = b"", content_type: str = "application/json", **headers: str) -> Reply:
        """A POST; header names are written with underscores."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.ask("POST", path, body=body, headers={"content-type": content_type, **named})

    def publish(self, event_type: str, data: Any = None, **members: Any) -> dict[str, Any]:
        """Publish a native event that is accepted; the answer's document."""
        reply = self.post("/v1/events", json.dumps({"type": event_type, "data": data, **members}).encode())
        assert reply.status == 202, (reply.status, reply.body)
        document: dict[str, Any] = reply.json
        return document

    def list(self, path: str, **query: Any) -> list[dict[str, Any]]:
        """All pages of a list."""
        items: list[dict[str, Any]] = []
        cursor: dict[str, str] = {}
        while True:
            page = self.get(path, **{"limit": 250, **query, **cursor})
            items += page["items"]
            if page["nextCursor"] is None:
                return items
            cursor = {"cursor": page["nextCursor"]}

    def metrics(self) -> dict[str, float]:
        """Samples by `name{labels}` as they are written, summed over the processes."""
        found: dict[str, float] = {}
        for address in self._admin_addresses:
            reply = ask(address, "GET", "/metrics")
            assert reply.status == 200
            samples = (line.rpartition(" ") for line in reply.text.splitlines() if line and not line.startswith("#"))
            for head, _, value in samples:
                found[head] = found.get(head, 0.0) + float(value)
        return found

    def ask_to_stop(self, number: signal.Signals) -> None:
        """To each process that serves; waits for nothing."""
        for child in self.children:
            os.kill(child.pid, number)

    def stop(self, number: signal.Signals, *, seconds: float = WAIT_SECONDS) -> int:
        """Ask it to stop; the exit code, of several the first that is not 0."""
        self.ask_to_stop(number)
        return self.ended(seconds=seconds)

    def ended(self, *, seconds: float = WAIT_SECONDS) -> int:
        """Wait for its end; the exit code as of `stop`."""
        until(
            lambda: not any(child.running for child in self.children),
            what=f"the end of the process; it said:\n{self.log}",
            seconds=seconds,
        )
        return next(filter(None, (child.terminate(grace_seconds=0) for child in self.children)), 0)

    def close(self) -> None:
        for child in self.children:
            if child.running:
                child.kill()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


_numbers: Final = itertools.count()


class Environment(Program, abc.ABC):
    """An environment that is served from a folder of manifests under `home`. What it needs to be served again, by
    `again`, outlives it."""

    def __init__(self, home: Path, *children: Child) -> None:
        super().__init__(*children)
        self.home: Final = home
        self.folder: Final = home / "manifests"
        self.state: Final = home / "state"

    @abc.abstractmethod
    def again(self) -> Environment:
        """Served once more, by new processes, now that this run has ended."""

    def write(self, name: str, *objects: dict[str, Any]) -> Path:
        """A file of manifests (JSON documents are YAML)."""
        return write(self.folder, name, *objects)

    def in_force(self) -> None:
        """Wait until the folder as it is now is in force: a channel written last becomes visible everywhere."""
        name = f"zz-mark-{next(_numbers)}"
        self.write("zz-mark", manifest("WebhookChannel", name, {"channelName": name}))

        def visible() -> bool:
            return all(ask(one, "GET", f"/v1/channels/{name}").status == 200 for one in self.addresses)

        until(visible, what=f"the folder in force; it said:\n{self.log[-3000:]}")

    def apply(self, name: str, *objects: dict[str, Any]) -> None:
        """Write a file, and wait until it is in force."""
        self.write(name, *objects)
        self.in_force()

    def delete(self, name: str) -> None:
        """Delete a file, and wait until that is in force."""
        (self.folder / f"{name}.yaml").unlink()
        self.in_force()


class NewStore(Protocol):
    """A store of its own for a program with a folder, as `--store` names it."""

    def __call__(self, folder: Path) -> str: ...


class Serve(Protocol):
    """Serves a new environment, until it is closed."""

    def __call__(self, home: Path, *flags: str, objects: Iterable[dict[str, Any]] | None = None) -> Environment: ...


def write(folder: Path, name: str, *objects: dict[str, Any]) -> Path:
    """A file of manifests in a folder, which is made where it is missing."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.yaml"
    path.write_text("\n---\n".join(json.dumps(one) for one in objects))
    return path


def prepare(home: Path, objects: Iterable[dict[str, Any]] | None) -> None:
    """The folder of an environment that is about to be served."""
    (home / "manifests").mkdir(parents=True, exist_ok=True)
    if objects is not None:
        write(home / "manifests", "00-environment", *objects)


class Dev(Environment):
    """`hookstead dev` on a folder of its own under `home`."""

    def __init__(self, home: Path, *flags: str, objects: Iterable[dict[str, Any]] | None = None) -> None:
        prepare(home, objects)
        ports = ("--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--state-dir", home / "state")
        log = home / f"dev-{next(_numbers)}.log"
        child = Child(command("dev", home / "manifests", *ports, *flags), log=log, environment=environment_variables())
        super().__init__(home, child)
        try:
            self._find()
        except BaseException:
            self.close()
            raise

    def again(self) -> Dev:
        return Dev(self.home)

    def _find(self) -> None:
        def listens() -> bool:
            assert self.running, f"hookstead dev ended:\n{self.log}"
            events, health = _EVENTS.search(self.log), _HEALTH.search(self.log)
            if events is None or health is None:
                return False
            self._addresses, self._admin_addresses = [events.group(1)], [health.group(1)]
            return True

        until(listens, what="the addresses of hookstead dev", seconds=START_SECONDS)


class Gateway(Program):
    """`hookstead gateway` on free loopback ports. Without `wait` it is known where once `find` has returned."""

    def __init__(
        self, home: Path, *flags: str | Path, variables: Mapping[str, str] | None = None, wait: bool = True
    ) -> None:
        log = home / f"gateway-{next(_numbers)}.log"
        ports = ("--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--internal-listen", "127.0.0.1:0")
        variables = {"HOOKSTEAD_INTERNAL_TOKEN": INTERNAL_TOKEN, **(variables or {})}
        super().__init__(
            Child(command("gateway", *ports, *flags), log=log, environment=environment_variables(**variables))
        )
        self.internal_address = ""
        if not wait:
            return
        try:
            self.find()
        except BaseException:
            self.close()
            raise

    def find(self) -> None:
        """Wait until it listens."""

        def listens() -> bool:
            assert self.running, f"hookstead gateway ended:\n{self.log}"
            found = dict(_LISTENS.findall(self.log))
            if not {"public", "admin", "internal"} <= found.keys():
                return False
            self._addresses, self._admin_addresses = [found["public"]], [found["admin"]]
            self.internal_address = found["internal"]
            return True

        until(listens, what="the addresses of hookstead gateway", seconds=START_SECONDS)


# ------------------------------------------------------------------------------------------------- receivers


@dataclass(frozen=True)
class Received:
    """A request as it came. Header names as they were sent; `at` is wall time in seconds."""

    method: str
    path: str
    version: str
    fields: tuple[tuple[str, str], ...]
    body: bytes
    at: float

    @property
    def headers(self) -> dict[str, str]:
        """By lower-case name."""
        return {name.lower(): value for name, value in self.fields}

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True)
class Answer:
    """What a receiver answers. `raw`, where given, is written in place of a well-formed answer; `wait` seconds pass
    before the first byte, `stall` before the connection closes; `gate` holds the answer until it is set."""

    status: int = 204
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    raw: bytes | None = None
    wait: float = 0.0
    stall: float = 0.0
    close: bool = False
    gate: threading.Event | None = None

    def octets(self) -> bytes:
        """As it goes over the wire."""
        if self.raw is not None:
            return self.raw
        fields = {"content-length": str(len(self.body)), **self.headers}
        head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        return f"HTTP/1.1 {self.status} Status\r\n{head}\r\n".encode("latin-1") + self.body


class Receiver:
    """A server on loopback that keeps what came to which path and answers as its script says (204 without one)."""

    def __init__(self) -> None:
        self._received: dict[str, list[Received]] = {}
        self._scripts: dict[str, list[Answer]] = {}
        self._open: dict[str, int] = {}
        self.most_open: dict[str, int] = {}
        self._lock = threading.Condition()
        self._closing = threading.Event()
        self._socket = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.port: Final[int] = self._socket.getsockname()[1]
        self.url: Final = f"http://127.0.0.1:{self.port}"
        threading.Thread(target=self._accept, daemon=True).start()

    def on(self, path: str, *answers: Answer | int) -> None:
        """The n-th request to a path gets the n-th answer, later ones the last."""
        with self._lock:
            self._scripts[path] = [Answer(one) if isinstance(one, int) else one for one in answers]

    def received(self, path: str) -> list[Received]:
        """What came to a path so far."""
        with self._lock:
            return list(self._received.get(path, ()))

    def wait(self, path: str, count: int = 1, *, seconds: float = WAIT_SECONDS) -> list[Received]:
        """Everything that came to a path, once it is `count` or more."""
        ends = time.monotonic() + seconds
        with self._lock:
            while len(self._received.get(path, ())) < count:
                left = ends - time.monotonic()
                assert left > 0, f"{count} requests at {path} not within {seconds:g} s, only {self._received.get(path)}"
                self._lock.wait(left)
            return list(self._received[path])

    def close(self) -> None:
        self._closing.set()
        self._socket.close()

    def _accept(self) -> None:
        while not self._closing.is_set():
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        try:
            with connection, connection.makefile("rb") as stream:
                while self._one(connection, stream):
                    pass
        except (OSError, ValueError):
            return

    def _one(self, connection: socket.socket, stream: Any) -> bool:
        request = _read_request(stream)
        if request is None:
            return False
        path = request.path
        with self._lock:
            seen = self._received.setdefault(path, [])
            seen.append(request)
            script = self._scripts.get(path) or [Answer()]
            answer = script[min(len(seen), len(script)) - 1]
            self._open[path] = self._open.get(path, 0) + 1
            self.most_open[path] = max(self.most_open.get(path, 0), self._open[path])
            self._lock.notify_all()
        try:
            if answer.gate is not None:
                answer.gate.wait(WAIT_SECONDS)
            time.sleep(answer.wait)
        finally:
            with self._lock:
                self._open[path] -= 1
        connection.sendall(answer.octets())
        if answer.stall:
            self._closing.wait(answer.stall)
        return not answer.close and answer.raw is None


def _read_request(stream: Any) -> Received | None:
    line = stream.readline()
    if not line:
        return None
    method, path, version = line.decode("latin-1").split()
    fields: list[tuple[str, str]] = []
    while (line := stream.readline()) not in (b"\r\n", b""):
        name, _, value = line.decode("latin-1").partition(":")
        fields.append((name, value.strip()))
    sizes = [int(value) for name, value in fields if name.lower() == "content-length"]
    body = stream.read(sizes[0]) if sizes else b""
    return Received(method, path, version, tuple(fields), body, time.time())
