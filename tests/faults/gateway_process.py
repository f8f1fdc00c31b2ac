"""`hookstead gateway` as a real process on a configuration, on free loopback ports, life after life on one store.

A process is killed when its block ends, whatever happened in the test, and dies with the test's process. A `preface`
is Python that runs in the child before the command line does: the only way in which a test sabotages the product.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import signal
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

import aiohttp
import msgspec

from builders import config
from cluster.child import Child
from hookstead.config import serial
from hookstead.config.model import Epoch
from hookstead.gateway.configuration import ShardMeta
from hookstead.gateway.system import SystemClock
from hookstead.store.opening import open_store

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

    from hookstead.config.model import DeliveryConfig

CONTROLLER: Final = Path(__file__).parents[2] / "controller"
TOKEN: Final = "internal-token"
WAIT_SECONDS: Final = 30.0

# 1 is PR_SET_PDEATHSIG: under a wrapper (strace) the parent is the wrapper, which dies with the test.
_MAIN: Final = """
import ctypes, signal, sys
ctypes.CDLL(None).prctl(1, signal.SIGKILL)
from hookstead.cli.main import main
sys.exit(main())
"""
_LISTENS: Final = re.compile(r"the (\w+) port listens on (127\.0\.0\.1:\d+)")


async def until(look: Callable[[], Awaitable[Any]], *, what: str, seconds: float = WAIT_SECONDS) -> Any:
    """What `look` gives once it is truthy; fails with `what` and the last answer when the time is up."""
    found: Any = None
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            while not (found := await look()):
                await asyncio.sleep(0.02)
            return found
    raise AssertionError(f"not within {seconds:g} s: {what}; last seen: {found!r}")


@dataclass(slots=True)
class Answer:
    """What a client saw; `body` is the document."""

    status: int
    body: Any
    headers: Any


class Life:
    """One run of the program, from its start to its end."""

    def __init__(self, child: Child, session: aiohttp.ClientSession) -> None:
        self.child: Final = child
        self.session: Final = session
        self._ports: dict[str, str] = {}

    @property
    def url(self) -> str:
        """Of the public port."""
        return f"http://{self._ports['public']}"

    @property
    def admin(self) -> str:
        return f"http://{self._ports['admin']}"

    @property
    def internal(self) -> str:
        return f"http://{self._ports['internal']}"

    @property
    def log(self) -> str:
        """Everything that it has said so far."""
        return self.child.last_words(lines=100_000)

    @property
    def children(self) -> list[int]:
        """What runs under the program that was started: a wrapper's gateway, or the processes of `--processes`."""
        return [int(pid) for pid in Path(f"/proc/{self.child.pid}/task/{self.child.pid}/children").read_text().split()]

    @property
    def pid(self) -> int:
        """Of the gateway itself, which under a wrapper is the wrapper's child."""
        return next(iter(self.children), self.child.pid)

    async def ready(self, *, seconds: float = WAIT_SECONDS) -> Self:
        """Wait until it takes events; fails with its log when it ends before."""

        async def listens() -> bool:
            assert self.child.running, f"the gateway ended:\n{self.log}"
            self._ports = dict(_LISTENS.findall(self.log))
            if len(self._ports) < 3:
                return False
            with contextlib.suppress(aiohttp.ClientError):
                return (await self.get(f"{self.admin}/readyz")).status == 200
            return False

        await until(listens, what="a ready gateway", seconds=seconds)
        return self

    async def get(self, url: str, **more: Any) -> Answer:
        return await self.call("GET", url, **more)

    async def call(self, method: str, url: str, **more: Any) -> Answer:
        """One request, on the public port unless `url` is absolute."""
        target = url if url.startswith("http") else self.url + url
        async with self.session.request(method, target, **more) as response:
            raw = await response.read()
            is_json = response.content_type.endswith("json")
            return Answer(response.status, json.loads(raw) if is_json else raw.decode(), response.headers)

    async def publish(self, **members: Any) -> Answer:
        return await self.call("POST", "/v1/events", json={"type": "order.created", "data": {}, **members})

    async def push(self, configuration: DeliveryConfig, *, epoch: str) -> None:
        """A new configuration, as the operator brings it."""
        document = serial.encode(configuration)
        headers = {
            "Authorization": f"Bearer {TOKEN}",
            "hookstead-epoch": epoch,
            "hookstead-hash": serial.digest(document),
        }
        answer = await self.call("PUT", f"{self.internal}/internal/v1/config", data=document, headers=headers)
        assert answer.status == 200, answer

    async def deliveries(self, **query: str) -> list[dict[str, Any]]:
        """All of them, newest first."""
        items: list[dict[str, Any]] = []
        cursor: str | None = None
        while True:
            page = {"limit": "250", **query, **({} if cursor is None else {"cursor": cursor})}
            body = (await self.get("/v1/deliveries", params=page)).body
            items += body["items"]
            cursor = body["nextCursor"]
            if cursor is None:
                return items

    async def metric(self, name: str, **labels: str) -> float:
        """The sum of the samples of this name that carry these labels."""
        text = (await self.get(f"{self.admin}/metrics")).body
        total = 0.0
        for line in text.splitlines():
            head, _, value = line.rpartition(" ")
            if head.partition("{")[0] == name and all(f'{key}="{wanted}"' in head for key, wanted in labels.items()):
                total += float(value)
        return total

    async def settled(self, count: int, *, seconds: float = WAIT_SECONDS) -> None:
        """Wait until so many deliveries are Delivered."""

        async def delivered() -> bool:
            return await self.metric("hookstead_deliveries", status="Delivered") >= count

        await until(delivered, what=f"{count} delivered", seconds=seconds)

    def send(self, number: signal.Signals) -> None:
        """A signal to the gateway."""
        os.kill(self.pid, number)

    def kill(self) -> None:
        """SIGKILL, to all of it: no chance to say anything."""
        for pid in self.children:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.child.kill()

    async def ended(self, *, seconds: float = WAIT_SECONDS) -> int:
        """The exit code, once it has ended by itself."""

        async def gone() -> bool:
            return not self.child.running

        await until(gone, what=f"the end of the process; it said:\n{self.log}", seconds=seconds)
        return self.child.terminate(grace_seconds=0)

    async def stop(self, number: signal.Signals = signal.SIGTERM, *, seconds: float = WAIT_SECONDS) -> int:
        """Ask it to stop; the exit code."""
        self.send(number)
        return await self.ended(seconds=seconds)


@dataclass
class Home:
    """A folder with a configuration and a store, in which one gateway lives after the other."""

    folder: Path
    session: aiohttp.ClientSession
    store: Path
    url: str = ""
    """Of a store elsewhere; the file `store` is used without one."""
    lives: list[Life] = field(default_factory=list)

    @property
    def environment(self) -> dict[str, str]:
        """Variables for our programs, none of the caller's own HOOKSTEAD_… among them."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("HOOKSTEAD_")}
        return {
            **kept,
            "HOME": str(self.folder),
            "PYTHONPATH": os.pathsep.join([str(CONTROLLER), str(Path(__file__).parents[1])]),
            "PYTHONUNBUFFERED": "1",
            "HOOKSTEAD_INTERNAL_TOKEN": TOKEN,
        }

    def configure(self, configuration: DeliveryConfig, *, sequence: int = 1) -> None:
        """Mount a configuration, as the operator's Secrets would be."""
        document = serial.encode(configuration)
        mounted = self.folder / "config"
        mounted.mkdir(exist_ok=True)
        meta = ShardMeta(hash=serial.digest(document), epoch=Epoch(term=1, sequence=sequence), shard=0, shards=1)
        (mounted / "config-0.json.gz").write_bytes(serial.compress(document))
        (mounted / "config-0.meta.json").write_bytes(msgspec.json.encode(meta))

    def launch(self, *flags: str, preface: str = "", wrapper: Sequence[str | Path] = ()) -> Life:
        """Start a program without waiting for anything."""
        ports = [
            word for flag in ("listen", "admin-listen", "internal-listen") for word in (f"--{flag}", "127.0.0.1:0")
        ]
        minimum = () if "--min-free-bytes" in flags else ("--min-free-bytes", "0")
        child = Child(
            [
                *(*wrapper, sys.executable, "-c", preface + _MAIN, "gateway", "--auth", "none", "--allow-loopback"),
                *("--store", self.url or f"sqlite:{self.store}", "--config-dir", self.folder / "config", *minimum),
                *(*ports, *flags),
            ],
            log=self.folder / f"gateway-{len(self.lives)}.log",
            environment=self.environment,
        )
        life = Life(child, self.session)
        self.lives.append(life)
        return life

    async def start(self, *flags: str, **more: Any) -> Life:
        """Start a gateway that takes events."""
        return await self.launch(*flags, **more).ready()

    async def check(self) -> list[str]:
        """What is wrong in the store, the conservation law included; for when no process has it."""
        store = open_store(f"sqlite:{self.store}", min_free_bytes=0, clock=SystemClock())
        try:
            return list(await store.check())
        finally:
            await store.close()

    def close(self) -> None:
        for life in self.lives:
            if life.child.running:
                with contextlib.suppress(ProcessLookupError):
                    life.kill()


@contextlib.asynccontextmanager
async def home(folder: Path, *objects: Any, store: Path | None = None, url: str = "") -> AsyncIterator[Home]:
    """A place for gateways that run on these objects, and an environment that may reach loopback."""
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=WAIT_SECONDS)) as session:
        place = Home(folder, session, store or folder / "store.db", url)
        place.configure(config(*objects))
        try:
            yield place
        finally:
            place.close()
