"""`hookstead dev` as a subprocess, and a receiver that verifies what it gets."""

from __future__ import annotations

import http.server
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from standardwebhooks.webhooks import Webhook

if TYPE_CHECKING:
    from collections.abc import Mapping

CONTROLLER = Path(__file__).parents[3] / "controller"
WAIT_SECONDS = 15.0


def environment(**more: str) -> dict[str, str]:
    """Variables for a program of ours, none of the caller's own HOOKSTEAD_… among them."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("HOOKSTEAD_")}
    return {**kept, "PYTHONPATH": str(CONTROLLER), "PYTHONUNBUFFERED": "1", "NO_COLOR": "1", **more}


@dataclass
class Lines:
    """The lines of a stream, as they come; read by a thread so that nothing ever blocks on a full pipe."""

    stream: Any
    seen: list[str] = field(default_factory=list)
    coming: queue.Queue[str | None] = field(default_factory=queue.Queue)

    def __post_init__(self) -> None:
        self.pump = threading.Thread(target=self._pump, daemon=True)
        self.pump.start()

    def close(self) -> None:
        """Once the program has ended."""
        self.pump.join(timeout=WAIT_SECONDS)
        self.stream.close()

    def _pump(self) -> None:
        for line in self.stream:
            self.coming.put(line.rstrip("\n"))
        self.coming.put(None)

    def until(self, text: str) -> str:
        """The next line that contains `text`; fails with everything that came when none does."""
        while True:
            try:
                line = self.coming.get(timeout=WAIT_SECONDS)
            except queue.Empty:
                line = None
            if line is None:
                raise AssertionError(f"no line with {text!r} in:\n" + "\n".join(self.seen))
            self.seen.append(line)
            if text in line:
                return line

    def rest(self) -> list[str]:
        """Everything, once the program has ended."""
        while (line := self.coming.get(timeout=WAIT_SECONDS)) is not None:
            self.seen.append(line)
        return self.seen


def dev_command(folder: Path, *flags: str, state: Path) -> list[str]:
    """The command line of `hookstead dev` on free ports."""
    addresses = ["--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--state-dir", str(state)]
    return [sys.executable, "-m", "hookstead.cli.main", "dev", str(folder), *addresses, *flags]


class Dev:
    """One run of `hookstead dev`. Use as a context manager: it is killed if it was not stopped."""

    def __init__(self, folder: Path, *flags: str, state: Path) -> None:
        self.process = subprocess.Popen(
            dev_command(folder, *flags, state=state),
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.out, self.err = Lines(self.process.stdout), Lines(self.process.stderr)
        try:
            self.url = self.out.until("events: ").split()[-1].removesuffix("/v1/events")
            self.admin = self.out.until("health: ").split()[-1].removesuffix("/healthz")
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End it, if it has not ended."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(timeout=WAIT_SECONDS)
        self.out.close()
        self.err.close()

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Ask it to stop; the exit code."""
        self.process.send_signal(number)
        return self.process.wait(timeout=WAIT_SECONDS)

    def publish(self, event_type: str, data: Any, **more: Any) -> dict[str, Any]:
        """Publish an event; the answer's body."""
        return self.ask("/v1/events", {"type": event_type, "data": data, **more})

    def ask(self, path: str, body: Any = None, *, headers: Mapping[str, str] | None = None) -> dict[str, Any]:
        """GET, or POST with a body; the answer's JSON, whatever its status (as `httpStatus`)."""
        content = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(
            self.url + path, data=content, headers={"content-type": "application/json", **(headers or {})}
        )
        try:
            with urllib.request.urlopen(request, timeout=WAIT_SECONDS) as answer:
                return {**json.load(answer), "httpStatus": answer.status}
        except urllib.error.HTTPError as refused:
            with refused:
                return {**json.load(refused), "httpStatus": refused.code}


@dataclass(frozen=True)
class Received:
    path: str
    headers: dict[str, str]
    body: bytes

    def verified(self, key: str) -> Any:
        """The payload; raises where the signature does not fit."""
        return Webhook(key).verify(self.body, self.headers)


class Receiver:
    """Answers every POST with the status of its path, such as /500, else 204."""

    def __init__(self) -> None:
        self.received: queue.Queue[Received] = queue.Queue()
        receiver = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                headers = {name.lower(): value for name, value in self.headers.items()}
                receiver.received.put(Received(self.path, headers, body))
                status = self.path.rpartition("/")[2]
                self.send_response(int(status) if status.isdigit() else 204)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()

    def next(self) -> Received:
        """The next request."""
        return self.received.get(timeout=WAIT_SECONDS)


ENVIRONMENT = """\
apiVersion: hookstead.dev/v1alpha1
kind: WebhookEnvironment
metadata: {name: default}
spec:
  state: Enabled
  egress: {plaintextHTTP: Allow, privateNetworks: Allow, allowedCIDRs: [127.0.0.0/8]}
"""


def endpoint(name: str, url: str, **spec: Any) -> str:
    """A manifest of an endpoint, in YAML (which JSON is)."""
    return json.dumps(
        {
            "apiVersion": "hookstead.dev/v1alpha1",
            "kind": "WebhookEndpoint",
            "metadata": {"name": name},
            "spec": {"url": url, **spec},
        }
    )


def event_type(wire: str, **spec: Any) -> str:
    """A manifest of an event type."""
    return json.dumps(
        {
            "apiVersion": "hookstead.dev/v1alpha1",
            "kind": "WebhookEventType",
            "metadata": {"name": wire.replace(".", "-")},
            "spec": {"type": wire, "description": "For tests.", **spec},
        }
    )
