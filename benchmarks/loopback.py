"""A load generator and a receiver that cost little, so that a benchmark measures the product and not them.

Both speak just enough HTTP/1.1 over loopback: keep-alive, content-length, no pipelining.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator

_ANSWER = b"HTTP/1.1 204 No Content\r\n\r\n"


class Receiver(asyncio.Protocol):
    """Answers 204 to every request and calls `received` for each."""

    def __init__(self, received: Callable[[], None]) -> None:
        self._received = received
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while True:
            head_end = self._buffer.find(b"\r\n\r\n")
            if head_end < 0:
                return
            end = head_end + 4 + _content_length(self._buffer[:head_end])
            if len(self._buffer) < end:
                return
            self._buffer = self._buffer[end:]
            self._transport.write(_ANSWER)  # type: ignore[attr-defined]  # a stream transport
            self._received()


class Producer(asyncio.Protocol):
    """Sends the next request as soon as the last was answered; counts answers by status."""

    def __init__(self, requests: Iterator[bytes], statuses: dict[int, int], done: asyncio.Event) -> None:
        self._requests = requests
        self._statuses = statuses
        self._done = done
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._next()

    def _next(self) -> None:
        request = next(self._requests, None)
        if request is None:
            self._done.set()
            self._transport.close()
        else:
            self._transport.write(request)  # type: ignore[attr-defined]  # a stream transport

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head_end = self._buffer.find(b"\r\n\r\n")
        if head_end < 0:
            return
        end = head_end + 4 + _content_length(self._buffer[:head_end])
        if len(self._buffer) < end:
            return
        status = int(self._buffer[9:12])
        self._statuses[status] = self._statuses.get(status, 0) + 1
        self._buffer = self._buffer[end:]
        self._next()

    def connection_lost(self, exc: Exception | None) -> None:
        self._done.set()


def _content_length(head: bytes) -> int:
    lowered = head.lower()
    start = lowered.find(b"content-length:")
    if start < 0:
        return 0
    end = lowered.find(b"\r\n", start)
    return int(lowered[start + 15 : end if end >= 0 else None])


def post(path: str, body: bytes) -> bytes:
    """One request, ready for the wire."""
    return (
        f"POST {path} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n"
        f"content-length: {len(body)}\r\n\r\n"
    ).encode() + body
