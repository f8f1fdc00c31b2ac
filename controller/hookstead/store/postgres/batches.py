"""Messages on their way through NOTIFY: kept up to a bound, cut into payloads, put together again.

A payload has less than 8,000 bytes, of characters that any encoding of a database has; so messages are lines of ASCII.
A batch goes in one transaction, so its parts arrive behind one another. Of equal payloads in one transaction PostgreSQL
passes on one only: each has its place in it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

MESSAGES: Final = 4096
"""That wait to be sent: what is told in 50 ms at 80,000 a second."""
BYTES: Final = 1024 * 1024
_TEXT: Final = 7800
"""Of a payload, beside its head."""
PARTS: Final = BYTES // _TEXT + 2


@dataclass(frozen=True, slots=True)
class Batch:
    """What a member told. `lost`: messages before these that it told and could not pass on."""

    messages: Sequence[str]
    lost: int = 0


class Outbox:
    """What waits to be sent, with when it was told. Beyond its bounds the oldest are lost, and counted."""

    def __init__(self, *, messages: int = MESSAGES, size: int = BYTES) -> None:
        self._limit: Final = messages
        self._size_limit: Final = size
        self._waiting: deque[tuple[float, str]] = deque()
        self._size = 0
        self._lost = 0

    def __bool__(self) -> bool:
        return bool(self._waiting or self._lost)

    def put(self, message: str, *, now: float) -> None:
        self._waiting.append((now, message))
        self._size += len(message) + 1
        while len(self._waiting) > self._limit or self._size > self._size_limit:
            self._lose_oldest()

    def lose(self, *, before: float) -> None:
        """What was told before that is news no more."""
        while self._waiting and self._waiting[0][0] < before:
            self._lose_oldest()

    def _lose_oldest(self) -> None:
        self._size -= len(self._waiting.popleft()[1]) + 1
        self._lost += 1

    def take(self) -> Batch:
        batch = Batch(tuple(message for _, message in self._waiting), self._lost)
        self.clear()
        return batch

    def failed(self, batch: Batch) -> None:
        """It may not have arrived. It is not sent again: it may have."""
        self._lost += batch.lost + len(batch.messages)

    def clear(self) -> None:
        self._waiting.clear()
        self._size = self._lost = 0


def payloads(member: str, batch: Batch) -> list[str]:
    """Of one transaction."""
    text = "\n".join(batch.messages)
    parts = [text[start : start + _TEXT] for start in range(0, len(text), _TEXT)] or [""]
    return [f"{member} {place} {len(parts)} {batch.lost} {part}" for place, part in enumerate(parts)]


class Assembly:
    """Puts the payloads of others together. What is no payload of ours, or behind a missing part, is passed over."""

    def __init__(self) -> None:
        self._from = ""
        self._parts: list[str] = []

    def clear(self) -> None:
        self._parts = []

    def add(self, payload: str) -> tuple[str, Batch] | None:
        """A member and its batch, once that is whole."""
        head = payload.split(" ", 4)
        if len(head) < 5 or not all(_is_number(field) for field in head[:4]):
            return None
        member, (place, count, lost), text = head[0], map(int, head[1:4]), head[4]
        if place == 0:
            self._from, self._parts = member, []
        if (member, place) != (self._from, len(self._parts)) or not place < count <= PARTS:
            return None
        self._parts.append(text)
        if place < count - 1:
            return None
        whole, self._parts = "".join(self._parts), []
        return member, Batch(tuple(whole.split("\n")) if whole else (), lost)


def _is_number(field: str) -> bool:
    return field.isascii() and field.isdecimal() and len(field) < 20
