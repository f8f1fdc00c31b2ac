"""Cursors: where a list goes on. Opaque to callers, bound to the list that gave them, checked when they come back."""

from __future__ import annotations

import base64
import binascii
import struct
import zlib
from typing import Final

from hookstead.delivery.ports import InvalidCursor

DELIVERIES: Final = b"d"
EVENTS: Final = b"e"

_FORM: Final = struct.Struct(">cqI")
_LENGTH: Final = 18
"""Characters of a cursor: 13 bytes in base64 without padding."""


def encode(kind: bytes, seq: int) -> str:
    """The rows behind `seq` come next."""
    check = zlib.crc32(kind + seq.to_bytes(8, "big", signed=True))
    return base64.urlsafe_b64encode(_FORM.pack(kind, seq, check)).decode().rstrip("=")


def decode(kind: bytes, cursor: str) -> int:
    """Raises InvalidCursor."""
    try:
        raw = base64.b64decode(cursor.encode("ascii") + b"==", altchars=b"-_", validate=True)
        found, seq, _ = _FORM.unpack(raw)
    except (ValueError, binascii.Error, struct.error) as error:
        raise InvalidCursor("cursor: it was not given out by this list; leave it out to start over") from error
    if found != kind or encode(kind, seq) != cursor or len(cursor) != _LENGTH:
        raise InvalidCursor("cursor: it was given out by another list; leave it out to start over")
    return int(seq)
