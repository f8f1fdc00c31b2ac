"""What a slow judge decided, remembered for a while and up to a bound."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from hookstead.gateway.kubernetes_api import Undecided

GRANTED_LIMIT: Final = 20_000
REFUSED_LIMIT: Final = 2_000
ASKING_LIMIT: Final = 1_000
"""Questions that may be open at one time."""
RETRY_SECONDS: Final = 1.0
"""After a renewal that failed."""

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


@dataclass(frozen=True, slots=True)
class Decision(Generic[Value]):
    """An answer, and for how many seconds after the question it may be relied on."""

    value: Value
    granted: bool
    seconds: float


@dataclass(slots=True)
class Remembered(Generic[Value]):
    """A decision and its times, on the cache's clock."""

    value: Value
    ends: float
    renews: float


class Decisions(Generic[Key, Value]):
    """Decisions by key. `now` is monotonic, in seconds.

    A grant that is still used in the second half of its life is renewed in the background, so that callers do not wait
    and a short absence of the judge is not noticed; one that cannot be renewed counts until it ends. Refusals are kept
    apart: whoever is refused under many keys displaces nobody who is not.
    """

    def __init__(
        self, *, now: Callable[[], float], granted_limit: int = GRANTED_LIMIT, refused_limit: int = REFUSED_LIMIT
    ) -> None:
        self._now: Final = now
        self._granted: Final[OrderedDict[Key, Remembered[Value]]] = OrderedDict()
        self._refused: Final[OrderedDict[Key, Remembered[Value]]] = OrderedDict()
        self._granted_limit: Final = granted_limit
        self._refused_limit: Final = refused_limit
        self._asking: Final[dict[Key, asyncio.Task[Value]]] = {}

    def __len__(self) -> int:
        return len(self._granted) + len(self._refused)

    def fresh(self, key: Key) -> Remembered[Value] | None:
        """A grant that need not be looked at again, None where only `get` can tell. For the hot path: no coroutine."""
        found = self._granted.get(key)
        if found is None or self._now() >= found.renews:
            return None
        self._granted.move_to_end(key)
        return found

    async def get(self, key: Key, ask: Callable[[], Awaitable[Decision[Value]]]) -> Value:
        """The decision that is remembered, else the one that `ask` gives. Raises Undecided, which is not remembered.

        Of several who want the same answer at one time only one asks.
        """
        now = self._now()
        found = self._granted.get(key)
        if found is not None and now < found.ends:
            self._granted.move_to_end(key)
            if now >= found.renews and key not in self._asking and len(self._asking) < ASKING_LIMIT:
                self._start(key, ask)
            return found.value
        found = self._refused.get(key)
        if found is not None and now < found.ends:
            return found.value
        task = self._asking.get(key)
        if task is None:
            if len(self._asking) >= ASKING_LIMIT:
                raise Undecided(f"{ASKING_LIMIT} decisions are waited for already")
            task = self._start(key, ask)
        return await asyncio.shield(task)

    async def close(self) -> None:
        """Ask nothing any more."""
        tasks = list(self._asking.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _start(self, key: Key, ask: Callable[[], Awaitable[Decision[Value]]]) -> asyncio.Task[Value]:
        task = asyncio.get_running_loop().create_task(self._ask(key, ask), name="decision")
        self._asking[key] = task
        task.add_done_callback(lambda ended: self._ended(key, ended))
        return task

    async def _ask(self, key: Key, ask: Callable[[], Awaitable[Decision[Value]]]) -> Value:
        asked = self._now()
        decision = await ask()
        self._granted.pop(key, None)
        self._refused.pop(key, None)
        kept, limit = (self._granted, self._granted_limit) if decision.granted else (self._refused, self._refused_limit)
        kept[key] = Remembered(decision.value, asked + decision.seconds, asked + decision.seconds / 2)
        if len(kept) > limit:
            kept.popitem(last=False)
        return decision.value

    def _ended(self, key: Key, task: asyncio.Task[Value]) -> None:
        del self._asking[key]
        # Looking at the exception marks it as seen: a renewal has nobody who waits for it.
        if not task.cancelled() and task.exception() is not None:
            found = self._granted.get(key)
            if found is not None:
                found.renews = self._now() + RETRY_SECONDS
