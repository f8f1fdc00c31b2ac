"""JSON values of which an operator keeps ten thousand: as bytes, deterministic, compressed where that pays.

A status with ten recent deliveries has 2.8 kB, as Python objects 8 kB, and 0.7 kB here, for 40 µs on the way in and 15
on the way out.
"""

from __future__ import annotations

import zlib
from typing import Any, Final

import msgspec

PLAIN_BYTES: Final = 512
"""What is no longer than this stays as it is."""

_ENCODER: Final = msgspec.json.Encoder(order="deterministic")
_PLAIN: Final = frozenset(b'{["-0123456789tfn')
"""How JSON begins, and what is compressed never does."""


def canonical(value: object) -> bytes:
    """Bytes that are equal exactly when the values are, within one process."""
    raw = _ENCODER.encode(value)
    return raw if len(raw) <= PLAIN_BYTES else zlib.compress(raw, 1)


def plain(kept: bytes) -> Any:
    """The value of which `canonical` made `kept`; of a struct what JSON has of it."""
    return msgspec.json.decode(json_of(kept))


def json_of(kept: bytes) -> bytes:
    """Its JSON, for a typed decoder."""
    return kept if kept[:1] and kept[0] in _PLAIN else zlib.decompress(kept)
