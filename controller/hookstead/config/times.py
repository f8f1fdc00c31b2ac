"""Times on the wire (RFC 3339) and inside (milliseconds since the Unix epoch, UTC)."""

from __future__ import annotations

import functools
import re
from datetime import UTC, datetime, timedelta
from typing import Final

_RFC3339: Final = re.compile(r"(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?([Zz]|[+-]\d\d:\d\d)", re.ASCII)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND: Final = timedelta(milliseconds=1)


def parse_time(text: str) -> int:
    """Milliseconds of an RFC 3339 date-time (section 5.6); a leap second counts as the second before it.

    Raises ValueError.
    """
    match = _RFC3339.fullmatch(text)
    if match is None:
        raise ValueError(f"expected an RFC 3339 date-time such as 2026-01-31T12:00:00Z, found {text[:40]!r}")
    date, clock, fraction, zone = match.groups()
    if clock.endswith(":60"):
        clock = clock[:-2] + "59"
    zone = "+00:00" if zone in "Zz" else zone
    moment = datetime.fromisoformat(f"{date}T{clock}{zone}")
    return (moment - _EPOCH) // _MILLISECOND + int((fraction or "0").ljust(3, "0")[:3])


def format_time(milliseconds: int) -> str:
    """RFC 3339 in UTC with milliseconds, `2026-01-31T12:00:00.000Z`."""
    seconds, rest = divmod(milliseconds, 1000)
    return f"{_to_the_second(seconds)}.{rest:03d}Z"


@functools.lru_cache(maxsize=256)
def _to_the_second(seconds: int) -> str:
    """Cached: everything that is accepted within a second has the same one, and strftime is slow."""
    return f"{datetime.fromtimestamp(seconds, tz=UTC):%Y-%m-%dT%H:%M:%S}"


def format_optional(milliseconds: int | None) -> str | None:
    """As `format_time`; None stays None."""
    return None if milliseconds is None else format_time(milliseconds)
