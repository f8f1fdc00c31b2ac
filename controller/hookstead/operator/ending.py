"""How the process comes to its end: a signal, a lost Lease, a part that failed."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import threading
from typing import TYPE_CHECKING, Any, Final

from hookstead.operator.lease import LeaseLost

if TYPE_CHECKING:
    from collections.abc import Iterable

WIND_DOWN_SECONDS: Final = 5.0

log: Final = logging.getLogger(__name__)


def take_signals(stop: asyncio.Event) -> None:
    """From now on SIGTERM and SIGINT set `stop`."""
    if threading.current_thread() is threading.main_thread():
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)


def verdict(done: Iterable[asyncio.Task[Any]]) -> int:
    """Why a part that should not end has ended; the exit code."""
    for task in done:
        error = task.exception()
        if error is not None and _is_lease_lost(error):
            log.error("not the leader any more; the process ends", extra={"action": "lease-lost"})
        elif error is not None:
            log.error("the operator ends: %s failed", task.get_name(), exc_info=error, extra={"action": "failed"})
        elif task.get_name() == "feed":
            return 0  # Kopf took a signal before we took the signals back.
    return 1


def see_to_the_end(code: int, *, seconds: float) -> None:
    """End the process even where tasks of Kopf's do not take their cancellation: a shell that watches nothing is worse
    than none. By then what may be wound down is, or hangs as well.
    """
    last = threading.Timer(min(seconds, WIND_DOWN_SECONDS), os._exit, (code,))
    last.daemon = True
    last.start()


def _is_lease_lost(error: BaseException) -> bool:
    if isinstance(error, BaseExceptionGroup):
        return error.subgroup(LeaseLost) is not None
    return isinstance(error, LeaseLost)
