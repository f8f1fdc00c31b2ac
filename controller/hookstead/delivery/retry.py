"""When a failed delivery is tried again, or that it is not. Pure: time and chance are handed in."""

from __future__ import annotations

import email.utils
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC
from typing import Final

JITTER: Final = 0.2
"""The largest part of a wait by which it moves either way."""

RETRY_AFTER_CAP_MS: Final = 24 * 3600 * 1000
"""A receiver must not be able to park its queue for good."""


@dataclass(frozen=True, slots=True)
class RetryAt:
    """Try again, no earlier than `due_ms` (wall milliseconds)."""

    due_ms: int


@dataclass(frozen=True, slots=True)
class Dead:
    """The schedule is used up, or trying again is pointless; the delivery goes to the dead letters."""


def after_failure(
    *,
    schedule_seconds: Sequence[int],
    position: int,
    now_ms: int,
    jitter: float,
    retry_after_ms: int | None = None,
    hopeless: bool = False,
) -> RetryAt | Dead:
    """What follows a failed attempt.

    `position` counts the attempts of this schedule before the failed one, so the first attempt has position 0 and
    its failure waits `schedule_seconds[0]`. `jitter` is in [-1, 1). `retry_after_ms` is the receiver's wish as a
    duration; it only ever lengthens the wait, is capped first, and carries no jitter.
    """
    if hopeless or position >= len(schedule_seconds):
        return Dead()
    wait = round(schedule_seconds[position] * 1000 * (1 + JITTER * jitter))
    if retry_after_ms is not None:
        wait = max(wait, min(retry_after_ms, RETRY_AFTER_CAP_MS))
    return RetryAt(now_ms + wait)


def parse_retry_after(text: str | None, *, now_ms: int) -> int | None:
    """The duration that a Retry-After field asks for, in milliseconds, at most RETRY_AFTER_CAP_MS.

    Seconds or an HTTP date (RFC 9110, section 10.2.3). What is neither, or lies in the past, is None.
    """
    if text is None:
        return None
    text = text.strip()
    if text.isascii() and text.isdigit():
        asked = int(text[:10]) * 1000
    else:
        asked = _until_date(text, now_ms=now_ms)
    return min(asked, RETRY_AFTER_CAP_MS) if asked > 0 else None


def _until_date(text: str, *, now_ms: int) -> int:
    try:
        moment = email.utils.parsedate_to_datetime(text)
    except (ValueError, TypeError, IndexError, OverflowError):
        # OverflowError: numbers of any length get as far as C, and the text is the receiver's.
        return 0
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return int(moment.timestamp() * 1000) - now_ms
