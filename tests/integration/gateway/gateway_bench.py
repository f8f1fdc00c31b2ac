"""A whole gateway in the test's process, on free loopback ports, and a receiver that keeps what it got."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web

from builders import config, endpoint
from hookstead.gateway.options import AuthMode, GatewayOptions
from hookstead.gateway.process import GatewayProcess

WAIT_SECONDS = 10.0


@dataclass(slots=True)
class Answer:
    """What a client saw."""

    status: int
    headers: Any
    body: bytes

    @property
    def json(self) -> Any:
        import json

        return json.loads(self.body)

    @property
    def problem(self) -> str:
        """The slug of the problem's type."""
        assert self.headers["Content-Type"] == "application/problem+json", self
        assert self.json["status"] == self.status
        return str(self.json["type"].rpartition("/")[2])


@dataclass(slots=True)
class Got:
    headers: dict[str, str]
    body: bytes


@dataclass(slots=True)
class Receiver:
    """Answers every POST with `status` and keeps it."""

    status: int = 200
    text: str = "thanks"
    url: str = ""
    got: list[Got] = field(default_factory=list)
    arrived: asyncio.Event = field(default_factory=asyncio.Event)
    release: asyncio.Event | None = None
    """When set to an event, answers wait for it."""

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        self.got.append(Got({name.lower(): value for name, value in request.headers.items()}, await request.read()))
        self.arrived.set()
        if self.release is not None:
            await self.release.wait()
        return web.Response(status=self.status, text=self.text)

    async def first(self) -> Got:
        async with asyncio.timeout(WAIT_SECONDS):
            await self.arrived.wait()
        return self.got[0]


@contextlib.asynccontextmanager
async def receiving() -> AsyncIterator[Receiver]:
    receiver = Receiver()
    server = web.Server(receiver.handle, access_log=None)
    runner = web.ServerRunner(server, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    receiver.url = f"http://127.0.0.1:{runner.addresses[0][1]}/hook"
    try:
        yield receiver
    finally:
        if receiver.release is not None:
            receiver.release.set()
        await runner.cleanup()


@dataclass(slots=True)
class Bench:
    """A running gateway and a client for it."""

    process: GatewayProcess
    session: aiohttp.ClientSession
    receiver: Receiver

    @property
    def base(self) -> str:
        assert self.process.public is not None
        return f"http://127.0.0.1:{self.process.public.port}"

    @property
    def admin(self) -> str:
        assert self.process.admin is not None
        return f"http://127.0.0.1:{self.process.admin.port}"

    @property
    def internal(self) -> str:
        assert self.process.internal is not None
        return f"http://127.0.0.1:{self.process.internal.port}"

    async def call(self, method: str, url: str, **more: Any) -> Answer:
        target = url if url.startswith("http") else self.base + url
        async with self.session.request(method, target, **more) as response:
            return Answer(response.status, response.headers, await response.read())

    async def get(self, url: str, **more: Any) -> Answer:
        return await self.call("GET", url, **more)

    async def post(self, url: str, **more: Any) -> Answer:
        return await self.call("POST", url, **more)

    async def publish(self, **members: Any) -> Answer:
        return await self.post("/v1/events", json={"type": "order.created", "data": {}, **members})

    async def until(self, look: Callable[[], Awaitable[Any]]) -> Any:
        """What `look` gives once it is truthy."""
        async with asyncio.timeout(WAIT_SECONDS):
            while not (found := await look()):
                await asyncio.sleep(0.01)
        return found

    async def finished(self, count: int = 1) -> list[dict[str, Any]]:
        """All deliveries, once `count` of them are no longer Pending."""

        async def look() -> list[dict[str, Any]] | None:
            items: list[dict[str, Any]] = (await self.get("/v1/deliveries")).json["items"]
            return items if sum(item["status"] != "Pending" for item in items) >= count else None

        found: list[dict[str, Any]] = await self.until(look)
        return found


@dataclass(frozen=True, slots=True)
class Place:
    """Where a gateway keeps its events."""

    store: str


def options(place: Path | Place, **changes: Any) -> GatewayOptions:
    """`place`: a folder for an SQLite store, or where another store is."""
    given: dict[str, Any] = {
        "store": f"sqlite:{place / 'store.db'}" if isinstance(place, Path) else place.store,
        "listen": ("127.0.0.1", 0),
        "admin_listen": ("127.0.0.1", 0),
        "internal_listen": None,
        "auth": AuthMode.NONE,
        "allow_loopback": True,
        "drain_seconds": 5.0,
        "min_free_bytes": 0,
    }
    return GatewayOptions(**{**given, **changes})


@contextlib.asynccontextmanager
async def running(place: Path | Place, *objects: Any, **changes: Any) -> AsyncIterator[Bench]:
    """A gateway with these objects applied; without any, one endpoint `all` that gets everything."""
    async with receiving() as receiver, aiohttp.ClientSession() as session:
        process = GatewayProcess(options(place, **changes))
        await process.start()
        try:
            bench = Bench(process, session, receiver)
            if process.options.internal_listen is None:
                await process.apply(config(*(objects or (endpoint("all", url=receiver.url),))))
            yield bench
        finally:
            await process.drain_and_stop()
