"""One timer for each key: the earliest of what was asked for."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, Generic, TypeVar

Key = TypeVar("Key")

SHORTEST_SECONDS: Final = 0.001
LONGEST_SECONDS: Final = 86_400.0


class Wakeups(Generic[Key]):
    """`woken` is called with the key when its time has come; asking again may only bring that time forward."""

    def __init__(self, woken: Callable[[Key], None]) -> None:
        self._woken = woken
        self._timers: dict[Key, tuple[float, asyncio.Handle]] = {}

    def ask(self, key: Key, seconds: float) -> None:
        """Wake `key` after `seconds`, or at an earlier time that is already set."""
        loop = asyncio.get_running_loop()
        due = loop.time() + min(max(seconds, SHORTEST_SECONDS), LONGEST_SECONDS)
        present = self._timers.get(key)
        if present is not None:
            if present[0] <= due:
                return
            present[1].cancel()
        self._timers[key] = due, loop.call_at(due, self._wake, key)

    def cancel(self, key: Key) -> None:
        present = self._timers.pop(key, None)
        if present is not None:
            present[1].cancel()

    def cancel_all(self) -> None:
        for key in tuple(self._timers):
            self.cancel(key)

    def _wake(self, key: Key) -> None:
        self._timers.pop(key, None)
        self._woken(key)
