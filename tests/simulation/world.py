"""What surrounds the process under test: time, chance, power, and the trace of everything that happened."""

from __future__ import annotations

import asyncio
import hashlib
from collections import Counter
from collections.abc import Callable
from enum import StrEnum
from random import Random
from typing import TypeVar

from hookstead.delivery.ports import StoreUnavailable
from virtual_time import VirtualClock

Choice = TypeVar("Choice")


class Violation(AssertionError):
    """A promise was broken. The message says which, and where."""


class CrashPoint(StrEnum):
    """Where the power may fail."""

    ANY_TIME = "between two events of the loop"
    QUEUED = "while requests wait for the writer"
    WRITING = "in the middle of writing a commit"
    BEFORE_SYNC = "behind the writes of a commit, before its sync"
    AFTER_SYNC = "behind the sync of a commit, before anybody was told"
    CHECKPOINT = "in the middle of a checkpoint"
    SENDING = "as a request leaves"
    ANSWERED = "between a receiver's answer and its record"
    OPENING = "while the store is opened"


class World:
    """One run. The streams of chance are apart, so that one more draw here does not change everything there."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.clock = VirtualClock()
        self.shape = Random(f"{seed} shape")
        self.people = Random(f"{seed} people")
        self.receivers = Random(f"{seed} receivers")
        self.storage = Random(f"{seed} storage")
        self.power = Random(f"{seed} power")
        self.trace: list[str] = []
        self.stats: Counter[str] = Counter()
        self.latest_ms = self.clock.now_ms()
        self.stepped_back_ms = 0
        self.hiccups = False
        self.excused = False
        """The store had reasons to refuse or to be late."""
        self.images: dict[str, bytes] | None = None
        self.died = asyncio.Event()
        self.broken: Violation | None = None
        self.take_images: Callable[[], dict[str, bytes]] = dict
        self._armed: CrashPoint | None = None
        self._countdown = 0

    # ------------------------------------------------------------------------------------------------- trace

    def note(self, *words: object) -> None:
        self.trace.append(f"{self.clock.seconds:.6f} " + " ".join(map(str, words)))

    def digest(self) -> str:
        """Stands for the whole course of the run."""
        return hashlib.sha256("\n".join(self.trace).encode()).hexdigest()

    def require(self, holds: object, *words: object) -> None:
        """Raise Violation unless it holds; the run ends with it, whoever catches it."""
        if not holds:
            raise self.broke(" ".join(map(str, words)))

    def broke(self, what: str) -> Violation:
        """The run ends with this violation, or with an earlier one."""
        self.broken = self.broken or Violation(what)
        self.note("VIOLATION", what)
        self.died.set()
        return self.broken

    # ------------------------------------------------------------------------------------------------- time

    def monotonic(self) -> float:
        return self.clock.seconds

    def now_ms(self) -> int:
        """The wall clock; with `monotonic` a `hookstead.delivery.ports.Clock`."""
        now = self.clock.now_ms()
        self.latest_ms = max(self.latest_ms, now)
        return now

    def hiccup(self) -> None:
        """Raises StoreUnavailable now and then while the store has hiccups; nothing was changed then."""
        if self.hiccups and self.storage.random() < 0.4:
            raise StoreUnavailable("the store has hiccups")

    # ------------------------------------------------------------------------------------------------- power

    @property
    def alive(self) -> bool:
        """Whether the process still runs. What a dead one does has no effect."""
        return self.images is None

    def begin_life(self) -> None:
        self.images = None
        self.died = asyncio.Event()

    def arm(self, point: CrashPoint, countdown: int) -> None:
        """The power will fail when the point is reached for the `countdown`th time."""
        self._armed, self._countdown = point, countdown

    def disarm(self) -> None:
        self._armed = None

    def reached(self, point: CrashPoint) -> bool:
        """Whether the power fails here and now."""
        if point is not self._armed or not self.alive:
            return False
        self._countdown -= 1
        if self._countdown > 0:
            return False
        self.fail_power(point)
        return True

    def fail_power(self, point: CrashPoint) -> None:
        if self.alive:
            self._armed = None
            self.images = self.take_images()
            self.stats[f"crash {point.name}"] += 1
            self.note("power fails", point.value)
            self.died.set()


def pick(chance: Random, weighted: dict[Choice, float]) -> Choice:
    """One of the keys, by weight."""
    return chance.choices(list(weighted), list(weighted.values()))[0]
