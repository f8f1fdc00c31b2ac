"""Cancelled deliveries, told to whoever watches a few at a time: an endpoint that is deleted may have had thousands."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import Final

from hookstead.delivery.observer import Observer
from hookstead.delivery.ports import DeliveryStatus, EndpointKey

AT_ONCE: Final = 128
"""Told in one go. A watcher's queue holds some hundreds, and one that overflows loses its watcher."""
PAUSE_SECONDS: Final = 0.001


class Announcements:
    """Runs on one event loop. Nothing is kept where nothing was cancelled."""

    def __init__(self, observer: Observer) -> None:
        self._observer: Final = observer
        self._waiting: Final[deque[tuple[str, Sequence[str]]]] = deque()
        self._task: asyncio.Task[None] | None = None

    def cancelled(self, endpoint: EndpointKey, deliveries: Sequence[str]) -> None:
        """These deliveries ended as Cancelled. A `ports.Ended`."""
        for start in range(0, len(deliveries), AT_ONCE):
            self._waiting.append((endpoint.name, deliveries[start : start + AT_ONCE]))
        if self._task is None and self._waiting:
            self._task = asyncio.get_running_loop().create_task(self._run(), name="announcements")

    async def _run(self) -> None:
        told = 0
        while self._waiting:
            endpoint, deliveries = self._waiting.popleft()
            for delivery in deliveries:
                self._observer.delivery_finished(endpoint, delivery, DeliveryStatus.CANCELLED)
            told += len(deliveries)
            if told >= AT_ONCE:
                told = 0
                await asyncio.sleep(PAUSE_SECONDS)
        self._task = None

    async def stop(self) -> None:
        """Tell nobody any more."""
        self._waiting.clear()
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
