"""The whole thing on loopback, with a place to break it between any two parts: operator, gateway, API server, receiver.

    operator ── ApiProxy ── TcpProxy ── kube-apiserver        operator ── TcpProxy (TLS passes through) ── gateway

What a kubelet does is done here: the internal Secret is mounted, and whatever ends may be started again.
"""

from __future__ import annotations

import contextlib
import http.client
import itertools
import json
import os
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from cluster.apiserver import ApiServer
from cluster.child import Child, free_port
from cluster.contract_site import EGRESS
from cluster.kubelet import Mount, mounted
from cluster.operator_fixtures import ACCOUNT, ROLE, World, environment
from cluster.proxies import ApiProxy, TcpProxy
from contract.processes import Receiver, Reply, ask, environment_variables, until

MAIN: Final = "import sys\nfrom hookstead.cli.main import main\nsys.exit(main())"
HASTE: Final = """
import hookstead.operator.feed as feed
import hookstead.operator.guard as guard
import hookstead.operator.kube as kube
import hookstead.operator.run as run
feed.INACTIVITY_SECONDS = 4.0
guard.SECOND_LOOK_SECONDS = 6.0
guard.RETRY_SECONDS = 2.0
kube.TIMEOUT_SECONDS = 4.0
run.CREDENTIALS_SECONDS = 1.0
"""
"""What takes minutes in life takes seconds here: a watch that is silent, a request without an answer, a renewal."""


@dataclass
class Stage(World):
    """One namespace and everything in it; `World` has the objects and the statuses. The fake gateway is not used."""

    api: ApiProxy = field(kw_only=True)
    wire: TcpProxy = field(kw_only=True)
    receiver: Receiver = field(kw_only=True)
    mount: Mount = field(kw_only=True)
    port: int = field(default_factory=free_port, kw_only=True)
    admin: int = field(default_factory=free_port, kw_only=True)
    internal: int = field(kw_only=True)
    gateways: list[Child] = field(default_factory=list, kw_only=True)

    # Programs.

    def operate(self, *flags: str) -> Child:
        """`hookstead operator`, through both proxies."""
        token = self.server.service_account_token(self.namespace, ACCOUNT)
        path = self.folder / f"kubeconfig-{len(self.operators)}"
        path.write_text(json.dumps(_kubeconfig(self.api.url, token, self.namespace)))
        child = self._start(
            self.operators,
            HASTE,
            *("operator", "--namespace", self.namespace, "--kubeconfig", str(path), "--allow-loopback"),
            *("--gateway", f"https://127.0.0.1:{self.wire.port}"),
            *flags,
        )
        self.operators.append(child)
        return child

    def open_gateway(self) -> Child:
        """`hookstead gateway` on the store of the one before; returns when it takes events."""
        until(self.mount.look, what=f"the internal Secret; the operator said:\n{self.words()}")
        child = self._start(
            self.gateways,
            "",
            *("gateway", "--namespace", self.namespace, "--auth", "none", "--allow-loopback"),
            *("--store", f"sqlite:{self.folder / 'gateway.db'}", "--internal-dir", str(self.mount.folder)),
            *("--listen", f"127.0.0.1:{self.port}", "--admin-listen", f"127.0.0.1:{self.admin}"),
            *("--internal-listen", f"127.0.0.1:{self.internal}", "--min-free-bytes", "0"),
        )
        self.gateways.append(child)
        until(lambda: self.ready(child), what=f"the gateway takes events; it said:\n{child.last_words()}", seconds=40)
        return child

    def ready(self, child: Child) -> bool:
        assert child.running, child.last_words()
        try:
            return ask(f"127.0.0.1:{self.admin}", "GET", "/readyz").status == 200
        except OSError:
            return False

    @property
    def operator(self) -> Child:
        return self.operators[-1]

    @property
    def hookstead(self) -> Child:
        """The gateway that lives now."""
        return self.gateways[-1]

    def _start(self, siblings: Sequence[Child], preface: str, *words: str) -> Child:
        return Child(
            [sys.executable, "-c", f"{preface}\n{MAIN}", *words],
            log=self.folder / f"{words[0]}-{len(siblings)}.log",
            environment=environment_variables(),
        )

    def close(self) -> None:
        for child in (*self.operators, *self.gateways):
            with contextlib.suppress(ProcessLookupError):
                os.kill(child.pid, signal.SIGCONT)
            child.kill()

    # What is asked of the gateway.

    def ask(self, method: str, path: str, **more: Any) -> Reply:
        return ask(f"127.0.0.1:{self.port}", method, path, **more)

    def selects(self, event_type: str) -> int:
        """How many endpoints an event of this type reaches now."""
        body = json.dumps({"type": event_type, "data": {}}).encode()
        reply = self.ask("POST", "/v1/events", body=body, headers={"content-type": "application/json"})
        assert reply.status == 202, reply.body
        count: int = reply.json["endpoints"]
        return count

    def sample(self, name: str, **labels: str) -> float:
        """The sum of the metric's samples that carry these labels."""
        text = ask(f"127.0.0.1:{self.admin}", "GET", "/metrics").text
        total = 0.0
        for line in text.splitlines():
            head, _, value = line.rpartition(" ")
            if head.partition("{")[0] == name and all(f'{key}="{wanted}"' in head for key, wanted in labels.items()):
                total += float(value)
        return total


def _kubeconfig(server: str, token: str, namespace: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "test", "cluster": {"server": server}}],
        "users": [{"name": "test", "user": {"token": token}}],
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test", "namespace": namespace}}],
        "current-context": "test",
    }


def enabled(**spec: Any) -> dict[str, Any]:
    """An environment whose endpoints may be on loopback and retry every second, for long."""
    defaults = {"timeoutSeconds": 5, "circuitBreaker": "None", "retry": {"scheduleSeconds": [1] * 24}}
    return environment(deliveryDefaults=defaults, egress=EGRESS, **spec)


@contextlib.contextmanager
def stage(server: ApiServer, namespace: str, folder: Path) -> Iterator[Stage]:
    """Everything but the two programs, which are a test's to start; ended with the block."""
    from cluster.fake_gateway import FakeGateway

    internal = free_port()
    server.kubectl("apply", "-f", ROLE, namespace=namespace)
    receiver = Receiver()
    with contextlib.ExitStack() as stack:
        stack.callback(receiver.close)
        api, wire = stack.enter_context(ApiProxy(server)), stack.enter_context(TcpProxy(internal))
        made: list[Stage] = []
        mount = stack.enter_context(
            mounted(lambda: made[0].secret("hookstead-internal") if made else None, folder / "internal")
        )
        one = Stage(
            server=server,
            namespace=namespace,
            folder=folder,
            gateway=FakeGateway(),
            api=api,
            wire=wire,
            receiver=receiver,
            mount=mount,
            internal=internal,
        )
        made.append(one)
        stack.callback(one.close)
        yield one


# Traffic. ---------------------------------------------------------------------------------------------------------


class Traffic:
    """A producer that does what one should: each event under an id of its own, again until it gets its 202."""

    def __init__(self, port: int, *, event_type: str = "traffic.made", pause: float = 0.02) -> None:
        self._address: Final = f"127.0.0.1:{port}"
        self._type: Final = event_type
        self._pause: Final = pause
        self._leaving: Final = threading.Event()
        self._thread: Final = threading.Thread(target=self._produce, daemon=True)
        self.promised: dict[str, str] = {}
        """Event id by caller's id."""
        self.refusals: Counter[int] = Counter()
        """Answers other than 202 by status, 0 for none."""

    def begin(self) -> None:
        self._thread.start()

    def end(self) -> None:
        """After the present event has got its 202."""
        self._leaving.set()
        self._thread.join(60)
        assert not self._thread.is_alive(), "the last event was never accepted"

    def flows(self, count: int = 10, *, seconds: float = 30) -> None:
        """Wait until so many more were accepted."""
        wanted = len(self.promised) + count
        until(lambda: len(self.promised) >= wanted, what=f"{count} more events accepted", seconds=seconds)

    def _produce(self) -> None:
        for number in itertools.count(1):
            caller = f"traffic-{number}"
            body = json.dumps({"type": self._type, "id": caller, "data": {"n": number}}).encode()
            while (event := self._publish(body)) is None:
                time.sleep(0.1)
            self.promised[caller] = event
            if self._leaving.wait(self._pause):
                return

    def _publish(self, body: bytes) -> str | None:
        headers = {"content-type": "application/json"}
        try:
            reply = ask(self._address, "POST", "/v1/events", body=body, headers=headers, seconds=3)
        except (OSError, http.client.HTTPException):
            self.refusals[0] += 1
            return None
        if reply.status != 202:
            self.refusals[reply.status] += 1
            return None
        return str(reply.json["id"])
