"""The activity stream: server-sent events about what happens now, to any number of readers up to a bound.

Every reader has a queue of its own. One that does not keep up is dropped: its stream ends, and it reconnects. What
happens at the other gateways comes by the store's relay, while there are readers; what was lost on that way is told as
an event of its own, `missed`. Nothing in any of it is a payload, a response body or a secret.
"""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import AsyncGenerator, Sequence
from typing import Any, Final

import msgspec

from hookstead.config.times import format_optional, format_time
from hookstead.delivery.ports import DeliveryStatus, RecentAttempt, Relay
from hookstead.gateway.exchange import EventStream, Request
from hookstead.gateway.parameters import Parameters
from hookstead.gateway.problems import ProblemKind, refuse

QUEUE: Final = 512
"""Messages that a reader may be behind."""
MAX_READERS: Final = 64
HEARTBEAT_SECONDS: Final = 15.0
AT_ONCE: Final = 128
"""Given to readers in one go, so that what comes at once, a batch or another gateway's news, is nobody's fault."""
PAUSE_SECONDS: Final = 0.001
HOLD_SECONDS: Final = 0.1
"""For so long attempts and ends are held where there may be other gateways: another one may have to tell of the
acceptance that they follow from."""
INBOX: Final = 16_384
"""Messages that wait for that. What comes beyond is missed by all."""
_ACCEPTED: Final = "event.accepted"
_ATTEMPT: Final = "attempt"
_FINISHED: Final = "delivery.finished"
_MISSED: Final = "missed"
_NAMES: Final = frozenset((_ACCEPTED, _ATTEMPT, _FINISHED))
_HEARTBEAT: Final = b": still here\n\n"


class ActivityStream:
    """Implements the engine's Observer. Costs nothing while nobody reads, here or elsewhere."""

    def __init__(
        self, *, queue: int = QUEUE, readers: int = MAX_READERS, inbox: int = INBOX, hold_seconds: float = HOLD_SECONDS
    ) -> None:
        self._queue: Final = queue
        self._limit: Final = readers
        self._readers: Final[set[asyncio.Queue[bytes | None]]] = set()
        self._inbox: Final[deque[bytes]] = deque()
        self._inbox_limit: Final = inbox
        self._missed = 0
        self._feeding: asyncio.Handle | None = None
        self._relay: Relay | None = None
        self._hold: Final = hold_seconds
        self._held: Final[deque[tuple[float, str, bytes]]] = deque()
        self._closed = False

    @property
    def readers(self) -> int:
        return len(self._readers)

    def share(self, relay: Relay | None) -> None:
        """From now on, be one with the streams of the other gateways. Before the first reader."""
        self._relay = relay

    async def handle(self, request: Request) -> EventStream:
        """`GET /v1/activity/stream`: what happens anywhere once the answer has begun is in it."""
        Parameters(request, ())
        if self._closed:
            raise refuse(ProblemKind.DRAINING, "The gateway is shutting down: reconnect to another one.")
        if len(self._readers) >= self._limit:
            raise refuse(ProblemKind.SATURATED, f"{self._limit} streams are open, which is all: close one.")
        queue: asyncio.Queue[bytes | None] = asyncio.Queue(self._queue + 1)
        self._readers.add(queue)
        try:
            if self._relay is not None:
                await self._relay.listen(self._hear)
        except BaseException:
            self._leave(queue)
            raise
        return EventStream(self._read(queue), lambda: self._leave(queue))

    def close(self) -> None:
        """End every stream, after what is queued for it. What happens from now on is still told to other gateways."""
        self._closed = True
        self._release(len(self._held))
        while self._inbox and self._readers:
            self._feed()
        for queue in tuple(self._readers):
            self._drop(queue)

    # ---------------------------------------------------------------------------------------------- what happens here

    def event_accepted(self, event_id: str, event_type: str, channels: Sequence[str], endpoints: int) -> None:
        if self._is_watched():
            self._tell(_ACCEPTED, {"id": event_id, "type": event_type, "channels": channels, "endpoints": endpoints})

    def attempt(self, endpoint: str, attempt: RecentAttempt) -> None:
        if self._is_watched():
            self._tell(_ATTEMPT, {"endpoint": endpoint, **attempt_summary(attempt)})

    def delivery_finished(self, endpoint: str, delivery_id: str, status: DeliveryStatus) -> None:
        if self._is_watched():
            self._tell(_FINISHED, {"id": delivery_id, "endpoint": endpoint, "status": status})

    def _is_watched(self) -> bool:
        return bool(self._readers) or (self._relay is not None and self._relay.wanted)

    def _tell(self, name: str, data: dict[str, Any]) -> None:
        encoded = msgspec.json.encode(data)
        if name == _ACCEPTED or self._relay is None or self._closed:
            self._tell_now(name, encoded)
            return
        loop = asyncio.get_running_loop()
        if not self._held:
            loop.call_later(self._hold, self._release_due)
        self._held.append((loop.time() + self._hold, name, encoded))
        self._release(len(self._held) - self._inbox_limit)

    def _release_due(self) -> None:
        loop = asyncio.get_running_loop()
        while self._held and self._held[0][0] <= loop.time():
            self._release(1)
        if self._held:
            loop.call_at(self._held[0][0], self._release_due)

    def _release(self, count: int) -> None:
        """The oldest so many."""
        for _ in range(count):
            _, name, encoded = self._held.popleft()
            self._tell_now(name, encoded)

    def _tell_now(self, name: str, encoded: bytes) -> None:
        if self._readers:
            self._put(_message(name, encoded))
        if self._relay is not None and self._relay.wanted:
            self._relay.tell(f"{name} {_ascii(encoded)}")

    # ----------------------------------------------------------------------------------------- what happens elsewhere

    def _hear(self, lines: Sequence[str], lost: int | None) -> None:
        """A line of a newer gateway that this one does not know is passed over."""
        if lost != 0 and self._readers:
            self._put(_message(_MISSED, msgspec.json.encode({"count": lost})))
        for line in lines:
            name, _, data = line.partition(" ")
            if self._readers and name in _NAMES:
                self._put(_message(name, data.encode("ascii", "replace")))

    # -------------------------------------------------------------------------------------------------------- readers

    def _put(self, message: bytes) -> None:
        if len(self._inbox) >= self._inbox_limit:
            self._missed += 1
            return
        self._inbox.append(message)
        if self._feeding is None:
            self._feeding = asyncio.get_running_loop().call_soon(self._feed)

    def _feed(self) -> None:
        for _ in range(min(AT_ONCE, len(self._inbox))):
            self._give(self._inbox.popleft())
        if self._feeding is not None:
            self._feeding.cancel()
            self._feeding = None
        if self._inbox:
            self._feeding = asyncio.get_running_loop().call_later(PAUSE_SECONDS, self._feed)
        elif self._missed:
            missed, self._missed = self._missed, 0
            self._give(_message(_MISSED, msgspec.json.encode({"count": missed})))

    def _give(self, message: bytes) -> None:
        for queue in tuple(self._readers):
            if queue.qsize() >= self._queue:
                self._drop(queue)
            else:
                queue.put_nowait(message)

    def _drop(self, queue: asyncio.Queue[bytes | None]) -> None:
        self._leave(queue)
        if not queue.full():
            queue.put_nowait(None)

    def _leave(self, queue: asyncio.Queue[bytes | None]) -> None:
        if queue not in self._readers:
            return
        self._readers.discard(queue)
        if not self._readers:
            self._inbox.clear()
            self._missed = 0
            if self._relay is not None:
                self._relay.end()

    async def _read(self, queue: asyncio.Queue[bytes | None]) -> AsyncGenerator[bytes, None]:
        yield b"retry: 2000\n\n"
        while (message := await _next(queue) if queue.empty() else queue.get_nowait()) is not None:
            yield message


async def _next(queue: asyncio.Queue[bytes | None]) -> bytes | None:
    try:
        async with asyncio.timeout(HEARTBEAT_SECONDS):
            return await queue.get()
    except TimeoutError:
        return _HEARTBEAT


def _message(name: str, data: bytes) -> bytes:
    return b"event: " + name.encode("ascii") + b"\ndata: " + data + b"\n\n"


def _ascii(encoded: bytes) -> str:
    """JSON of the same value in one line of ASCII."""
    return encoded.decode() if encoded.isascii() else json.dumps(json.loads(encoded), separators=(",", ":"))


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
