"""A count of changes, and a bell that rings at transitions: what a report needs to be "only what changed"."""

from __future__ import annotations

import asyncio


class Versions:
    """Versions grow by one with every change; transitions are those changes that somebody should see soon."""

    def __init__(self) -> None:
        self.current = 0
        self._last_transition = 0
        self._bell = asyncio.Event()
        self._closed = False

    def next(self) -> int:
        self.current += 1
        return self.current

    def transition(self) -> None:
        """The present version is a transition."""
        self._last_transition = self.next()
        self._bell.set()
        self._bell = asyncio.Event()

    def close(self) -> None:
        """Nobody waits any longer, now or later: what has happened is all there will be."""
        self._closed = True
        self._bell.set()

    async def transition_after(self, version: int, *, timeout_seconds: float) -> bool:
        """Wait for a transition later than `version`; False when the time is up."""
        if self._closed or self._last_transition > version:
            return True
        try:
            async with asyncio.timeout(timeout_seconds):
                await self._bell.wait()
        except TimeoutError:
            return False
        return True
