"""The machine as the running process has it: the engine's Clock and Random ports, memory, open files."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import random
import resource
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


def settle_memory() -> None:
    """After start-up: what exists now is there to stay, so the collector need not look at it again and again.

    Events are acyclic and short-lived; reference counts free them (measured: a tenth of the CPU time an event).
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 50, 100)


def raise_file_limit() -> None:
    """Allow as many open files as the system lets us: each connection is one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
