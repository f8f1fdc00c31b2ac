"""A receiver of the tests' own: keeps which message came to which path, and answers as it is told."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from faults.receivers.server import receiver

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@dataclass
class Sink:
    """What arrived, as (path, webhook-id); `order` in the order of arrival.

    `gate`, where set, holds every answer until it is set itself. `status` is what is answered; `statuses` by path,
    where the n-th time that a message comes gets the n-th status, later ones the last.
    """

    url: str = ""
    order: list[tuple[str, str]] = field(default_factory=list)
    seen: Counter[tuple[str, str]] = field(default_factory=Counter)
    gate: asyncio.Event | None = None
    status: int = 204
    statuses: dict[str, tuple[int, ...]] = field(default_factory=dict)
    connections: int = 0
    open: int = 0
    most_open: int = 0

    def ids(self, path: str) -> set[str]:
        """Messages that came to a path."""
        return {message for where, message in self.seen if where == path}

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        self.connections += 1
        try:
            await self._serve(reader, writer)
        finally:
            self.connections -= 1

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            path, message = await _request(reader)
            self.order.append((path, message))
            self.seen[path, message] += 1
            self.open += 1
            self.most_open = max(self.most_open, self.open)
            try:
                if self.gate is not None:
                    await self.gate.wait()
            finally:
                self.open -= 1
            answers = self.statuses.get(path, (self.status,))
            status = answers[min(self.seen[path, message], len(answers)) - 1]
            writer.write(f"HTTP/1.1 {status} So\r\ncontent-length: 0\r\n\r\n".encode())


async def _request(reader: asyncio.StreamReader) -> tuple[str, str]:
    head = await reader.readuntil(b"\r\n\r\n")
    lines = head.decode("latin-1").split("\r\n")
    fields = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
    await reader.readexactly(int(fields["content-length"]))
    return lines[0].split(" ")[1], fields["webhook-id"]


@contextlib.asynccontextmanager
async def sink() -> AsyncIterator[Sink]:
    """A running one."""
    one = Sink()
    async with receiver(one.serve) as running:
        one.url = f"http://127.0.0.1:{running.port}"
        try:
            yield one
        finally:
            if one.gate is not None:
                one.gate.set()
