"""An event loop whose clock jumps: hours of retries pass in milliseconds, through production code.

Time stands still while something real is under way (a store's thread); it jumps to the next timer when nothing is.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

Result = TypeVar("Result")

START_MS = 1_800_000_000_000
"""Where virtual wall time begins: 2027-01-15T08:00:00Z."""


class VirtualClock:
    """`hookstead.delivery.ports.Clock` on virtual time; `step_ms` moves the wall clock alone, as NTP would."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.step_ms = 0

    def now_ms(self) -> int:
        return START_MS + self.step_ms + round(self.seconds * 1000)

    def monotonic(self) -> float:
        return self.seconds


class _Selector(selectors.DefaultSelector):
    """Waits for real while something real is outstanding, else moves the clock."""

    def __init__(self, clock: VirtualClock, outstanding: Callable[[], bool]) -> None:
        super().__init__()
        self._clock = clock
        self._outstanding = outstanding

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if ready or timeout == 0:
            return ready
        if self._outstanding() or timeout is None:
            return super().select(10)
        self._clock.seconds += timeout
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    def __init__(self, clock: VirtualClock, outstanding: Callable[[], bool]) -> None:
        super().__init__(_Selector(clock, outstanding))
        self._virtual = clock

    def time(self) -> float:
        return self._virtual.seconds


class _NothingReal(selectors.SelectSelector):
    """Waits for nobody: what the clock cannot bring about will never happen."""

    def __init__(self, clock: VirtualClock) -> None:
        super().__init__()
        self._clock = clock

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise RuntimeError("everybody waits for something that will never happen")
        self._clock.seconds += max(timeout, 0.0)
        return []


class ClosedLoop(asyncio.SelectorEventLoop):
    """A loop beside which nothing runs, no thread and no socket: the same work takes the same course every time."""

    def __init__(self, clock: VirtualClock) -> None:
        super().__init__(_NothingReal(clock))
        self._virtual = clock

    def time(self) -> float:
        return self._virtual.seconds

    # The stubs bind the arguments to the callback's, which a plain pass-through cannot say before Python 3.12.
    def call_soon_threadsafe(self, callback: Any, *args: Any, context: Any = None) -> asyncio.Handle:  # type: ignore[override]
        return self.call_soon(callback, *args, context=context)


class Outstanding:
    """Counts calls of an asynchronous object that are under way, so that time waits for them."""

    def __init__(self, target: Any) -> None:
        self._target = target
        self.count = 0

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._target, name)
        if not asyncio.iscoroutinefunction(found):
            return found

        async def counted(*args: Any, **kwargs: Any) -> Any:
            self.count += 1
            try:
                return await found(*args, **kwargs)
            finally:
                self.count -= 1

        return counted


def run(
    main: Callable[[], Coroutine[Any, Any, Result]], *, clock: VirtualClock, outstanding: Callable[[], bool]
) -> Result:
    """Run a coroutine to its end in virtual time; leftover tasks are cancelled."""
    with asyncio.Runner(loop_factory=lambda: VirtualLoop(clock, outstanding)) as runner:
        return runner.run(main())
