"""An answer without end ends when its reader may no longer have it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass

import aiohttp
import pytest

from hookstead.gateway import server
from hookstead.gateway.authorize import ANYONE, Caller, Permission, unauthenticated
from hookstead.gateway.exchange import EventStream, Request
from hookstead.gateway.problems import Problem
from hookstead.gateway.router import Route, Router
from hookstead.gateway.server import HttpServer


@dataclass
class Door:
    """Lets everybody in while it is open."""

    open: bool = True

    async def identify(self, authorization: str | None) -> Caller | Problem:
        return ANYONE if self.open else unauthenticated("no more")

    async def close(self) -> None:
        """Nothing."""


async def test_a_stream_does_not_outlive_the_right_to_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "JUDGE_SECONDS", 0.0)
    ended = asyncio.Event()

    async def numbers() -> AsyncGenerator[bytes, None]:
        try:
            while True:
                yield b"data: 1\n\n"
                await asyncio.sleep(0.005)
        finally:
            ended.set()

    async def stream(request: Request) -> EventStream:
        return EventStream(numbers(), lambda: None)

    door = Door()
    listener = HttpServer(
        Router([Route(method="GET", path="/s", handler=stream, needs=Permission.READ)]), authorizer=door
    )
    await listener.start(("127.0.0.1", 0))
    try:
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"http://127.0.0.1:{listener.port}/s") as answer,
            asyncio.timeout(10),
        ):
            for _ in range(5):
                assert await answer.content.readline() == b"data: 1\n"
                await answer.content.readline()
            assert not ended.is_set()
            door.open = False
            await answer.content.read()
            await ended.wait()
    finally:
        await listener.stop()
