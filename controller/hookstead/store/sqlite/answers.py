"""Results on their way from a thread of the store to the event loop: one wake-up for a whole batch."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True, kw_only=True)
class Task:
    """A request and whoever awaits it. `orphaned` undoes a result that nobody is there to take."""

    run: Callable[[Any], Any]
    future: asyncio.Future[Any]
    loop: asyncio.AbstractEventLoop
    orphaned: Callable[[Any], None] | None = None
    finished: Callable[[Task], None] | None = None
    caller_keys: list[bytes] = field(default_factory=list)
    rows: int = 1
    size: int = 0
    grows: bool = False
    """It brings new work in; refused as StoreFull where the disk is full, while what ends work is unavailable."""


Answer = tuple[Task, Any, BaseException | None]


def deliver(answers: list[Answer]) -> None:
    """Hand results to the loops of those who await them. Called from any thread."""
    by_loop: dict[asyncio.AbstractEventLoop, list[Answer]] = {}
    for answer in answers:
        by_loop.setdefault(answer[0].loop, []).append(answer)
    for loop, share in by_loop.items():
        # A closed loop has nobody left who awaits anything.
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(_resolve, share)


def _resolve(answers: list[Answer]) -> None:
    for task, result, error in answers:
        if task.finished is not None:
            task.finished(task)
        if task.future.done():
            if error is None and task.orphaned is not None:
                task.orphaned(result)
        elif error is not None:
            task.future.set_exception(error)
        else:
            task.future.set_result(result)
