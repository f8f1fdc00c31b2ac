"""Proxies on loopback that misbehave when a test tells them to: one of bytes, one that understands the Kubernetes API.

Each runs an event loop in a thread of its own and keeps its port until it is closed.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
import threading
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass, field
from typing import Any, Final, Self, TypeVar

import aiohttp
from aiohttp import web

from cluster.apiserver import ApiServer

Value = TypeVar("Value")
DROPPED_HEADERS: Final = ("host", "connection", "transfer-encoding", "content-length", "accept-encoding", "keep-alive")


class _Served:
    """A loop in a thread, with a port."""

    def __init__(self) -> None:
        self.port = 0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    async def open(self) -> int:
        """Listen; the port."""
        raise NotImplementedError

    async def shut(self) -> None:
        """Let everything go."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        self._thread.start()
        self.port = self.call(self.open())
        return self

    def __exit__(self, *_: object) -> None:
        self.call(self.shut())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def call(self, job: Coroutine[Any, Any, Value]) -> Value:
        """Run it on the loop, from another thread."""
        return asyncio.run_coroutine_threadsafe(job, self._loop).result(20)


class TcpProxy(_Served):
    """Passes bytes on to a port of this host, until it is `parted`: then they wait, in both directions, and new
    connections are taken and lead nowhere, as behind a network that drops packets. `healed`, they go on.
    """

    def __init__(self, port: int) -> None:
        super().__init__()
        self._target: Final = port
        self._whole = asyncio.Event()
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    def part(self) -> None:
        self.call(self._set(whole=False))

    def heal(self) -> None:
        self.call(self._set(whole=True))

    def reset(self) -> None:
        """Cut every connection."""
        self.call(self._cut())

    async def open(self) -> int:
        self._whole.set()
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    async def shut(self) -> None:
        assert self._server is not None
        self._server.close()
        await self._cut()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _set(self, *, whole: bool) -> None:
        (self._whole.set if whole else self._whole.clear)()

    async def _cut(self) -> None:
        for writer in list(self._writers):
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        self._writers.add(writer)
        try:
            await self._whole.wait()
            with contextlib.suppress(OSError):
                back, forth = await asyncio.open_connection("127.0.0.1", self._target)
                self._writers.add(forth)
                try:
                    await asyncio.gather(self._pass_on(reader, forth), self._pass_on(back, writer))
                finally:
                    self._writers.discard(forth)
                    forth.transport.abort()
        except asyncio.CancelledError:
            pass
        finally:
            self._writers.discard(writer)
            writer.transport.abort()

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            await self._whole.wait()
            writer.write(data)
            await writer.drain()
        with contextlib.suppress(OSError):
            writer.write_eof()


@dataclass(frozen=True, slots=True)
class Asked:
    """A request to the API server."""

    method: str
    path: str
    query: str

    @property
    def watches(self) -> bool:
        return "watch=true" in self.query or "watch=1" in self.query


@dataclass(frozen=True, slots=True)
class Answer:
    """What is answered in the API server's place."""

    status: int
    message: str = "injected"
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class FirstItems:
    """The API server's list, cut after so many items, as if there were no others."""

    count: int


@dataclass(frozen=True, slots=True)
class WatchError:
    """A watch that begins, says this, and ends."""

    code: int


@dataclass(frozen=True, slots=True)
class Silence:
    """Nothing, for as long as the connection lasts."""


Fault = Answer | FirstItems | WatchError | Silence
Rule = Callable[[Asked], Fault | None]


class ApiProxy(_Served):
    """An API server in plain HTTP before a real one; `rule` says what becomes of a request (None: what is right)."""

    def __init__(self, server: ApiServer) -> None:
        super().__init__()
        self._server: Final = server
        self._rule: Rule | None = None
        self._watches = 0
        self._deaf_below = 0
        self._session: aiohttp.ClientSession | None = None
        self._runner: web.AppRunner | None = None
        self._streams: set[asyncio.Transport] = set()
        self._hanging: set[asyncio.Transport] = set()
        self.injected: Counter[str] = Counter()
        """How often each kind of fault was answered."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @contextlib.contextmanager
    def faulty(self, rule: Rule) -> Iterator[None]:
        """By this rule within the block."""
        self._rule = rule
        try:
            yield
        finally:
            self._rule = None

    def silence_watches(self) -> None:
        """Every watch that is open now brings nothing any more, and does not end; new ones are as they should be."""
        self._deaf_below = self._watches

    def drop_watches(self) -> None:
        """Every watch that is open now ends, as when a load balancer is restarted."""
        self.call(self._end(self._streams))

    def hang_up(self) -> None:
        """Every request that hangs, and every watch, loses its connection."""
        self.call(self._end(self._streams | self._hanging))

    async def _end(self, connections: set[asyncio.Transport]) -> None:
        for connection in list(connections):
            connection.abort()

    async def open(self) -> int:
        self._session = aiohttp.ClientSession(auto_decompress=False, timeout=aiohttp.ClientTimeout(total=None))
        app = web.Application(client_max_size=64 * 1024 * 1024)
        app.router.add_route("*", "/{path:.*}", self._serve)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1, handler_cancellation=True)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port).start()
        port: int = self._runner.addresses[0][1]
        return port

    async def shut(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
        if self._session is not None:
            await self._session.close()

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        asked = Asked(request.method, request.path, request.query_string)
        fault = self._rule(asked) if self._rule is not None else None
        if fault is not None:
            self.injected[type(fault).__name__] += 1
        if isinstance(fault, Silence):
            await self._hang(request)
        if isinstance(fault, Answer):
            return _refusal(fault)
        if isinstance(fault, WatchError):
            told = {"type": "ERROR", "object": json.loads(_status(fault.code, "injected"))}
            return web.Response(text=json.dumps(told) + "\n", content_type="application/json")
        try:
            return await self._forward(request, asked, limit=fault.count if isinstance(fault, FirstItems) else None)
        except (aiohttp.ClientError, ConnectionError):
            # The API server is away: what a load balancer without a backend does. Or the asker is.
            if request.transport is not None:
                request.transport.abort()
            return web.Response(status=502)

    async def _forward(self, request: web.Request, asked: Asked, *, limit: int | None) -> web.StreamResponse:
        assert self._session is not None
        headers = {name: value for name, value in request.headers.items() if name.lower() not in DROPPED_HEADERS}
        url = self._server.url + request.raw_path
        context = ssl.create_default_context(cafile=str(self._server.ca_file))
        async with self._session.request(
            request.method,
            url,
            data=await request.read() or None,
            headers=headers | {"Accept-Encoding": "identity"},
            ssl=context,
            allow_redirects=False,
        ) as found:
            kept = {name: found.headers[name] for name in ("Content-Type", "Retry-After") if name in found.headers}
            if asked.watches and found.status == 200:
                return await self._stream(request, found, kept)
            body = await found.read()
            if limit is not None and found.status == 200:
                document = json.loads(body)
                document["items"] = document.get("items", [])[:limit]
                document["metadata"].pop("continue", None)
                body = json.dumps(document).encode()
            return web.Response(body=body, status=found.status, headers=kept)

    async def _stream(
        self, request: web.Request, found: aiohttp.ClientResponse, headers: dict[str, str]
    ) -> web.StreamResponse:
        self._watches += 1
        number = self._watches
        response = web.StreamResponse(headers=headers)
        await response.prepare(request)
        connection = _connection(request)
        self._streams.add(connection)
        try:
            async for chunk in found.content.iter_any():
                if number > self._deaf_below:
                    await response.write(chunk)
            if number <= self._deaf_below:
                await self._hang(request)  # not even its end is heard
        finally:
            self._streams.discard(connection)
        return response

    async def _hang(self, request: web.Request) -> None:
        connection = _connection(request)
        self._hanging.add(connection)
        try:
            await asyncio.Event().wait()
        finally:
            self._hanging.discard(connection)


def _connection(request: web.Request) -> asyncio.Transport:
    connection = request.transport
    if connection is None:
        raise ConnectionResetError("the asker is gone")
    return connection


def _status(code: int, message: str) -> str:
    return json.dumps(
        {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": message, "code": code}
    )


def _refusal(answer: Answer) -> web.Response:
    return web.Response(
        text=_status(answer.status, answer.message),
        status=answer.status,
        headers=answer.headers,
        content_type="application/json",
    )
