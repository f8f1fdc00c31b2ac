"""Latencies as counts in logarithmic classes: mergeable, a few bytes each, percentiles within 3 %.

Below 32 ms every millisecond has its own class; above, each doubling is cut into 16. Class 255 ends at 2^19 ms, well
beyond the longest attempt.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Final

_EXACT: Final = 32
_STEPS: Final = 16
_LAST: Final = 255
_PAIR: Final = struct.Struct("<BI")
_COUNT_LIMIT: Final = 0xFFFFFFFF


def class_of(milliseconds: int) -> int:
    if milliseconds < _EXACT:
        return max(milliseconds, 0)
    shift = milliseconds.bit_length() - 5
    return min(_EXACT + (shift - 1) * _STEPS + (milliseconds >> shift) - _STEPS, _LAST)


def midpoint_of(index: int) -> int:
    """The milliseconds that stand for a class."""
    if index < _EXACT:
        return index
    doubling, step = divmod(index - _EXACT, _STEPS)
    shift = doubling + 1
    return ((_STEPS + step) << shift) + ((1 << shift) >> 1)


def pack(counts: Mapping[int, int]) -> bytes:
    return b"".join(_PAIR.pack(index, min(count, _COUNT_LIMIT)) for index, count in sorted(counts.items()))


def add_packed(counts: dict[int, int], packed: bytes) -> None:
    """Add a packed histogram to `counts`."""
    for index, count in _PAIR.iter_unpack(packed):
        counts[index] = counts.get(index, 0) + count


def percentile(counts: Mapping[int, int], share: float) -> int | None:
    """The latency below or at which `share` (0–1) of the attempts lie; None without attempts."""
    total = sum(counts.values())
    if not total:
        return None
    rank = max(1, -int(-share * total // 1))
    for index in sorted(counts):
        rank -= counts[index]
        if rank <= 0:
            return midpoint_of(index)
    raise AssertionError("the ranks of a histogram add up to its total")
