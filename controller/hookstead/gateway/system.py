"""Time and chance as the running process has them: the engine's Clock and Random ports."""

from __future__ import annotations

import asyncio
import random
import time

import uuid_utils


class SystemClock:
    """The machine's clocks; `monotonic` is the running loop's."""

    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000

    def monotonic(self) -> float:
        return asyncio.get_running_loop().time()


class SystemRandom:
    """Time-ordered ids (UUIDv7), so that rows are appended where they are found again."""

    def jitter(self) -> float:
        return random.uniform(-1.0, 1.0)  # noqa: S311  (spreads retries, guards nothing)

    def event_id(self) -> str:
        return f"msg_{uuid_utils.uuid7().hex}"

    def delivery_id(self) -> str:
        return f"dlv_{uuid_utils.uuid7().hex}"
