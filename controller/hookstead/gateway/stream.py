"""The activity stream: server-sent events about what happens now, to any number of readers up to a bound.

Every reader has a queue of its own. One that does not keep up is dropped: its stream ends, and it reconnects.
Nothing in it is a payload, a response body or a secret.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from typing import Any, Final

import msgspec

from hookstead.config.times import format_optional, format_time
from hookstead.delivery.ports import DeliveryStatus, RecentAttempt
from hookstead.gateway.exchange import EventStream, Request
from hookstead.gateway.parameters import Parameters
from hookstead.gateway.problems import ProblemKind, refuse

QUEUE: Final = 512
"""Messages that a reader may be behind."""
MAX_READERS: Final = 64
HEARTBEAT_SECONDS: Final = 15.0
_HEARTBEAT: Final = b": still here\n\n"


class ActivityStream:
    """Implements the engine's Observer. Costs nothing while nobody reads."""

    def __init__(self, *, queue: int = QUEUE, readers: int = MAX_READERS) -> None:
        self._queue: Final = queue
        self._limit: Final = readers
        self._readers: Final[set[asyncio.Queue[bytes | None]]] = set()
        self._closed = False

    @property
    def readers(self) -> int:
        return len(self._readers)

    async def handle(self, request: Request) -> EventStream:
        """`GET /v1/activity/stream`"""
        Parameters(request, ())
        if self._closed:
            raise refuse(ProblemKind.DRAINING, "The gateway is shutting down: reconnect to another one.")
        if len(self._readers) >= self._limit:
            raise refuse(ProblemKind.SATURATED, f"{self._limit} streams are open, which is all: close one.")
        queue: asyncio.Queue[bytes | None] = asyncio.Queue(self._queue + 1)
        self._readers.add(queue)
        return EventStream(self._read(queue), lambda: self._readers.discard(queue))

    def close(self) -> None:
        """End every stream, after what is queued for it."""
        self._closed = True
        for queue in tuple(self._readers):
            self._drop(queue)

    def event_accepted(self, event_id: str, event_type: str, channels: Sequence[str], endpoints: int) -> None:
        if self._readers:
            self._send(
                "event.accepted", {"id": event_id, "type": event_type, "channels": channels, "endpoints": endpoints}
            )

    def attempt(self, endpoint: str, attempt: RecentAttempt) -> None:
        if self._readers:
            self._send("attempt", {"endpoint": endpoint, **attempt_summary(attempt)})

    def delivery_finished(self, endpoint: str, delivery_id: str, status: DeliveryStatus) -> None:
        if self._readers:
            self._send("delivery.finished", {"id": delivery_id, "endpoint": endpoint, "status": status})

    def _send(self, name: str, data: dict[str, Any]) -> None:
        message = b"event: " + name.encode("ascii") + b"\ndata: " + msgspec.json.encode(data) + b"\n\n"
        for queue in tuple(self._readers):
            if queue.qsize() >= self._queue:
                self._drop(queue)
            else:
                queue.put_nowait(message)

    def _drop(self, queue: asyncio.Queue[bytes | None]) -> None:
        self._readers.discard(queue)
        if not queue.full():
            queue.put_nowait(None)

    async def _read(self, queue: asyncio.Queue[bytes | None]) -> AsyncGenerator[bytes, None]:
        yield b"retry: 2000\n\n"
        while True:
            try:
                async with asyncio.timeout(HEARTBEAT_SECONDS):
                    message = await queue.get()
            except TimeoutError:
                message = _HEARTBEAT
            if message is None:
                return
            yield message


def attempt_summary(attempt: RecentAttempt) -> dict[str, Any]:
    """One attempt as a line of `recentDeliveries` has it."""
    return {
        "id": attempt.delivery_id,
        "eventType": attempt.event_type,
        "time": format_time(attempt.started_ms),
        "attempt": attempt.number,
        "outcome": "Succeeded" if attempt.succeeded else "Failed",
        "statusCode": attempt.status_code,
        "durationMilliseconds": attempt.duration_ms,
        "nextAttemptTime": format_optional(attempt.next_attempt_ms),
        "message": attempt.message,
    }
