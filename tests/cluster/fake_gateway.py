"""A stand-in for the gateway's internal port: takes configurations, reports what a test tells it to."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any, Final, Self

import msgspec
from aiohttp import web

from hookstead.config.model import Epoch
from hookstead.config.report import (
    EndpointReport,
    EnvironmentActivity,
    NamedActivity,
    ReplayReport,
    Report,
    Running,
)
from hookstead.config.serial import decode, decompress, digest

INSTANCE: Final = "fake"
VERSION: Final = "9.9.9"


class FakeGateway:
    """One gateway on a loopback port of its own thread.

    It keeps its port over `stop` and `start`, as a restarted gateway behind one address does.
    """

    def __init__(self) -> None:
        self.config: Any = None
        """The DeliveryConfig that was pushed last; Any, so that a test may look inside without asking for None."""
        self.running: Running = Running(instance=INSTANCE, version=VERSION)
        self.history: list[tuple[float, dict[str, int]]] = []
        """When which generation of each endpoint came to be in force (monotonic seconds)."""
        self.pushes: list[tuple[str, str]] = []
        """Epoch and hash of every push that arrived, refused ones too."""
        self.frozen = False
        """Answers pushes with 500, so that it stays behind."""
        self.port = 0
        self._reports: dict[str, dict[str, Any]] = {"endpoints": {}, "channels": {}, "event_types": {}, "replays": {}}
        self._environment: EnvironmentActivity = EnvironmentActivity()
        self._version = 1
        self._changed: asyncio.Event | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._thread: threading.Thread | None = None
        self.token = ""

    def start(self) -> Self:
        started = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve(started)), daemon=True)
        self._thread.start()
        assert started.wait(10), "the fake gateway did not start"
        return self

    def stop(self) -> None:
        """Close the port and every connection."""
        if self._loop is not None and self._stop is not None and self._thread is not None:
            self._loop.call_soon_threadsafe(self._stop.set)
            self._thread.join(10)
            self._thread = None

    def restart(self) -> None:
        """A new process of the same address: it runs nothing until it is told."""
        self.stop()
        self.forget()
        self.start()

    def forget(self) -> None:
        self.config = None
        self.running = Running(instance=f"{INSTANCE}-{len(self.pushes)}", version=VERSION)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def endpoint(self, name: str) -> Any:
        """The EndpointConfig as it was pushed last, or None."""
        found = (item for item in (self.config.endpoints if self.config else ()) if item.identity.name == name)
        return next(found, None)

    def report_endpoint(self, report: EndpointReport) -> None:
        self._say("endpoints", report.name, report)

    def report_channel(self, activity: NamedActivity) -> None:
        self._say("channels", activity.name, activity)

    def report_event_type(self, activity: NamedActivity) -> None:
        self._say("event_types", activity.name, activity)

    def report_replay(self, report: ReplayReport) -> None:
        self._say("replays", report.name, report)

    def report_environment(self, activity: EnvironmentActivity) -> None:
        self._environment = activity
        self._tell()

    def _say(self, group: str, name: str, value: Any) -> None:
        self._reports[group][name] = (self._version + 1, value)
        self._tell()

    def _tell(self) -> None:
        self._version += 1
        if self._loop is not None and self._changed is not None and self._loop.is_running():
            self._loop.call_soon_threadsafe(self._changed.set)

    async def _serve(self, started: threading.Event) -> None:
        self._loop = asyncio.get_running_loop()
        self._changed, self._stop = asyncio.Event(), asyncio.Event()
        app = web.Application(client_max_size=64 * 1024 * 1024)
        app.add_routes(
            [
                web.put("/internal/v1/config", self._push),
                web.get("/internal/v1/report", self._report),
                web.get("/internal/v1/running", self._running),
            ]
        )
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1, auto_decompress=False)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", self.port, reuse_address=True)
        await site.start()
        self.port = runner.addresses[0][1]
        started.set()
        await self._stop.wait()
        await runner.cleanup()

    def _refuse(self, request: web.Request) -> web.Response | None:
        if self.token and request.headers.get("authorization") != f"Bearer {self.token}":
            return web.json_response({"type": "about:blank"}, status=401)
        return None

    async def _push(self, request: web.Request) -> web.Response:
        if (refusal := self._refuse(request)) is not None:
            return refusal
        packed = await request.read()
        epoch_text, hashed = request.headers["hookstead-epoch"], request.headers["hookstead-hash"]
        self.pushes.append((epoch_text, hashed))
        if self.frozen:
            return web.json_response({"title": "frozen"}, status=500)
        term, _, sequence = epoch_text.partition(".")
        epoch = Epoch(term=int(term), sequence=int(sequence))
        if epoch < self.running.epoch:
            return self._answer(self.running, status=409)
        document = decompress(packed)
        assert digest(document) == hashed
        self.config = decode(document)
        self.running = msgspec.structs.replace(self.running, hash=hashed, epoch=epoch)
        generations = {item.identity.name: item.identity.generation for item in self.config.endpoints}
        self.history.append((time.monotonic(), generations))
        self._tell()
        return self._answer(self.running)

    async def _running(self, request: web.Request) -> web.Response:
        return self._refuse(request) or self._answer(self.running)

    async def _report(self, request: web.Request) -> web.Response:
        if (refusal := self._refuse(request)) is not None:
            return refusal
        instance, _, after = request.query.get("after", "").partition(":")
        known = int(after) if after and instance == self.running.instance else 0
        wait = float(request.query.get("waitSeconds", "0"))
        assert self._changed is not None
        if known >= self._version and wait:
            self._changed.clear()
            try:
                async with asyncio.timeout(wait):
                    await self._changed.wait()
            except TimeoutError:
                pass
        return self._answer(
            Report(
                running=self.running,
                cursor=f"{self.running.instance}:{self._version}",
                environment=self._environment,
                endpoints=self._since("endpoints", known),
                channels=self._since("channels", known),
                event_types=self._since("event_types", known),
                replays=self._since("replays", known),
            )
        )

    def _since(self, group: str, known: int) -> tuple[Any, ...]:
        return tuple(value for version, value in self._reports[group].values() if version > known)

    def _answer(self, value: Any, *, status: int = 200) -> web.Response:
        return web.Response(body=msgspec.json.encode(value), status=status, content_type="application/json")
