"""A queue with one task that serves it: what waits when the task comes is one batch (natural group commit)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

from hookstead.delivery.ports import StoreUnavailable
from hookstead.store.postgres.faults import Health

Result = TypeVar("Result")
Item = TypeVar("Item", bound="Request")


@dataclass(slots=True, kw_only=True)
class Request:
    """Work and whoever awaits it. `orphaned` undoes a result that nobody is there to take."""

    future: asyncio.Future[Any]
    rows: int = 1
    size: int = 0
    grows: bool = False
    """It brings new work in: refused where too much waits, and as StoreFull where the disk is full."""
    orphaned: Callable[[Any], Awaitable[None]] | None = None

    async def answer(self, result: object) -> None:
        if self.future.done():
            if self.orphaned is not None:
                await self.orphaned(result)
        else:
            self.future.set_result(result)

    def fail(self, error: BaseException) -> None:
        if not self.future.done():
            self.future.set_exception(error)


class Lane(Generic[Item]):
    """Serves requests in the order in which they came, as many at once as `serve` takes from the list.

    `serve` removes from the list what it has answered; what it leaves is served again, with what came meanwhile.
    """

    def __init__(
        self,
        serve: Callable[[list[Item]], Awaitable[None]],
        *,
        name: str,
        health: Health,
        queue_rows: int,
        queue_bytes: int,
    ) -> None:
        self._serve = serve
        self._name = name
        self._health = health
        self._limits: Final = (queue_rows, queue_bytes)
        self._waiting: list[Item] = []
        self._rows = 0
        self._size = 0
        self._closed = False
        self._awake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._run(), name=f"hookstead store {self._name}")

    def require(self) -> None:
        """Raises StoreUnavailable where no answer would come."""
        if self._closed:
            raise StoreUnavailable("the store is closed")
        self._health.require()

    def submit(self, request: Item) -> asyncio.Future[Any]:
        """Raises StoreUnavailable for new work where too much waits already."""
        self.require()
        rows, size = self._rows + request.rows, self._size + request.size
        if request.grows and self._rows and (rows > self._limits[0] or size > self._limits[1]):
            raise StoreUnavailable(f"the store is saturated: {self._rows} rows wait to be written; try again")
        self._rows, self._size = rows, size
        request.future.add_done_callback(lambda _: self._finished(request))
        self._waiting.append(request)
        self._awake.set()
        return request.future

    def _finished(self, request: Item) -> None:
        self._rows -= request.rows
        self._size -= request.size

    async def _run(self) -> None:
        while True:
            if not self._waiting:
                if self._closed:
                    return
                self._awake.clear()
                await self._awake.wait()
                continue
            batch, self._waiting = self._waiting, []
            try:
                self._health.require()
                await self._serve(batch)
            except Exception as error:  # noqa: BLE001 - whatever a request raises must not end the lane
                for request in batch:
                    request.fail(self._health.meaning(error, grows=request.grows))
                batch = []
            self._waiting = batch + self._waiting

    async def close(self) -> None:
        """No more requests; those that wait are finished first."""
        self._closed = True
        self._awake.set()
        if self._task is not None:
            await self._task
