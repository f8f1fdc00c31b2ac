"""Identifiers as PostgreSQL keeps them: 16 bytes where they are 32 lower-case hexadecimal digits, else marked text."""

from __future__ import annotations

from typing import Final

from hookstead.store.codec import find_id, pack_id, unpack_id

_PACKED: Final = 16


def pack(prefix: str, text: str) -> bytes:
    """Raises ValueError where the prefix is another one."""
    return _stored(pack_id(prefix, text))


def find(prefix: str, text: str) -> bytes | None:
    """As `pack`, None for what cannot be an id of ours."""
    found = find_id(prefix, text)
    return None if found is None else _stored(found)


def _stored(key: bytes | str) -> bytes:
    """Text gets a tail that says its own length, so that it never has 16 bytes in all."""
    if isinstance(key, bytes):
        return key
    raw = key.encode()
    return raw + (b"\x01" if len(raw) + 1 != _PACKED else b"\x02\x02")


def unpack(prefix: str, stored: bytes) -> str:
    return unpack_id(prefix, stored if len(stored) == _PACKED else stored[: -stored[-1]].decode())
