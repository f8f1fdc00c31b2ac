"""A TCP proxy in front of PostgreSQL that breaks a connection at a chosen moment of a statement."""

from __future__ import annotations

import asyncio
import contextlib
from enum import Enum
from types import TracebackType
from typing import Self

_CHUNK = 1 << 16


class Cut(Enum):
    """When the connection breaks, seen from the next thing that the client says on it."""

    BEFORE = "before the server hears of it"
    WHILE = "as soon as the server was told"
    AFTER = "when the server has answered, before the client hears of that"


class Proxy:
    """`cuts` by purpose (the second word of the client's application name); each is used once."""

    def __init__(self, upstream_port: int) -> None:
        self._upstream_port = upstream_port
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self.cuts: dict[str, Cut] = {}
        self.made = 0
        self.closed_door = False

    @property
    def port(self) -> int:
        assert self._server is not None
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        try:
            if not self.closed_door:
                await self._pass(reader, writer)
        except OSError:
            pass
        finally:
            writer.transport.abort()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        up_reader, up_writer = await asyncio.open_connection("127.0.0.1", self._upstream_port)
        cut = asyncio.Event()
        answers = asyncio.create_task(self._answers(up_reader, writer, cut))
        try:
            await self._requests(reader, up_writer, cut, answers)
        finally:
            answers.cancel()
            with contextlib.suppress(asyncio.CancelledError, OSError):
                await answers
            up_writer.transport.abort()

    async def _requests(
        self,
        reader: asyncio.StreamReader,
        up_writer: asyncio.StreamWriter,
        cut: asyncio.Event,
        answers: asyncio.Task[None],
    ) -> None:
        purpose = ""
        while chunk := await reader.read(_CHUNK):
            if not purpose and b"application_name\x00hookstead " in chunk:
                purpose = chunk.split(b"application_name\x00hookstead ")[1].split(b"\x00")[0].decode()
            how = self.cuts.pop(purpose, None)
            if how is not None:
                self.made += 1
            if how is Cut.BEFORE:
                return
            if how is Cut.AFTER:
                cut.set()
            up_writer.write(chunk)
            await up_writer.drain()
            if how is Cut.WHILE:
                return
            if how is Cut.AFTER:
                await answers
                return

    async def _answers(self, up_reader: asyncio.StreamReader, writer: asyncio.StreamWriter, cut: asyncio.Event) -> None:
        try:
            while chunk := await up_reader.read(_CHUNK):
                if cut.is_set():
                    return
                writer.write(chunk)
                await writer.drain()
        except OSError:
            pass  # the server went away with something of ours unread, which resets the connection
        writer.transport.abort()
