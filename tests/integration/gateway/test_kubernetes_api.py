"""The gateway's client of the API server, over loopback: what it takes, what it repeats, when it leaves it alone."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import msgspec
import pytest
from aiohttp import web

from hookstead.gateway import kubernetes_api
from hookstead.gateway.kubernetes_api import MAX_PAUSE_SECONDS, PAUSE_SECONDS, ApiServer, Undecided


class Answer(msgspec.Struct):
    value: int


@dataclass
class Access:
    server: str
    tokens: list[str]
    server_name: str | None = None

    def bearer(self) -> str | None:
        return self.tokens[0] if len(self.tokens) == 1 else self.tokens.pop(0)

    def tls(self) -> ssl.SSLContext:
        raise AssertionError("plain HTTP here")


@dataclass
class Bench:
    """A client of a server that answers with `status` and `text`."""

    client: ApiServer
    status: int = 200
    text: str = '{"value": 7, "further": 1}'
    headers: dict[str, str] = field(default_factory=dict)
    drop: int = 0
    """So many requests lose their connection instead."""
    seen: list[tuple[str, str, bytes, str | None]] = field(default_factory=list)
    seconds: float = 100.0

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        self.seen.append((request.method, request.path, await request.read(), request.headers.get("Authorization")))
        if self.drop:
            self.drop -= 1
            assert request.transport is not None
            request.transport.close()
        return web.Response(status=self.status, text=self.text, headers=self.headers)

    async def refused(self) -> Undecided:
        with pytest.raises(Undecided) as caught:
            await self.client.get("/x", Answer)
        return caught.value


@contextlib.asynccontextmanager
async def serving(*tokens: str) -> AsyncIterator[Bench]:
    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        return await bench.handle(request)

    runner = web.ServerRunner(web.Server(handle, access_log=None))
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    access = Access(f"http://127.0.0.1:{runner.addresses[0][1]}", list(tokens or ("t",)))
    bench = Bench(ApiServer(access, now=lambda: bench.seconds))
    try:
        yield bench
    finally:
        await bench.client.close()
        await runner.cleanup()


async def test_it_asks_with_the_present_token_and_reads_what_it_needs() -> None:
    async with serving("first", "second", "third") as bench:
        assert (await bench.client.get("/x", Answer)).value == 7
        assert (await bench.client.post("/y", {"a": 1}, Answer)).value == 7
        assert bench.seen == [("GET", "/x", b"", "Bearer first"), ("POST", "/y", b'{"a":1}', "Bearer second")]


async def test_a_connection_that_is_lost_is_not_an_answer_yet() -> None:
    async with serving() as bench:
        bench.drop = 1
        assert (await bench.client.post("/y", {}, Answer)).value == 7
        bench.drop = 99
        await bench.refused()
        assert len(bench.seen) < 10


@pytest.mark.parametrize(
    ("status", "headers", "wait"),
    [
        (500, {}, PAUSE_SECONDS),
        (403, {}, PAUSE_SECONDS),
        (401, {}, PAUSE_SECONDS),
        (429, {"Retry-After": "3"}, 3.0),
        (503, {"Retry-After": "86400"}, MAX_PAUSE_SECONDS),
        (429, {"Retry-After": "soon"}, PAUSE_SECONDS),
    ],
)
async def test_after_a_failure_it_leaves_the_server_alone_for_a_moment(
    status: int, headers: dict[str, str], wait: float
) -> None:
    async with serving() as bench:
        bench.status, bench.headers = status, headers
        assert (await bench.refused()).retry_after == wait
        bench.status = 200
        bench.seconds += wait - 0.1
        assert (await bench.refused()).retry_after == pytest.approx(0.1)
        assert len(bench.seen) == 1
        bench.seconds += 0.1
        assert (await bench.client.get("/x", Answer)).value == 7


@pytest.mark.parametrize("status", [302, 400, 422])
async def test_what_one_question_gets_is_not_held_against_the_next(status: int) -> None:
    async with serving() as bench:
        bench.status = status
        await bench.refused()
        bench.status = 200
        assert (await bench.client.get("/x", Answer)).value == 7


@pytest.mark.parametrize("text", ["", "<html>", "[]", '{"value": "7"}'])
async def test_an_answer_of_another_shape_is_none(text: str) -> None:
    async with serving() as bench:
        bench.text = text
        await bench.refused()


async def test_a_server_that_stalls_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kubernetes_api, "TIMEOUT_SECONDS", 0.05)
    async with serving() as bench:

        async def stall(request: web.BaseRequest) -> web.StreamResponse:
            answer = web.StreamResponse()
            await answer.prepare(request)
            await answer.write(b" ")
            while request.transport is not None and not request.transport.is_closing():
                await asyncio.sleep(0.01)
            return answer

        bench.handle = stall  # type: ignore[method-assign]  # (one server, another temper)
        assert "no answer within" in str(await bench.refused())


async def test_the_log_says_once_that_it_is_away_why_and_once_that_it_is_back(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, logger=kubernetes_api.__name__)
    async with serving("s3cret") as bench:
        bench.status, bench.text = 403, '{"message": "no access", "value": 7}'
        for _ in range(5):
            await bench.refused()
            bench.seconds += 1
        bench.status = 200
        for _ in range(3):
            await bench.client.get("/x", Answer)
    actions = [getattr(record, "action", "") for record in caplog.records]
    assert actions == ["authorization_unavailable", "authorization_available"]
    assert "403 no access: the gateway's ServiceAccount lacks this right" in caplog.text
    assert "s3cret" not in caplog.text
