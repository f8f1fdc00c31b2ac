"""How values look in the database: small integers for enums, 16 bytes for ids, one line per channel.

The integers are on disk: they may be added to, never renumbered (a test pins them).
"""

from __future__ import annotations

import hashlib
from typing import Final

from hookstead.delivery.ports import CallerId, CancelReason, DeliveryStatus, ErrorCode, Trigger
from hookstead.resources.kinds import PayloadFormat

PENDING: Final = 0
DELIVERED: Final = 1
DEAD_LETTERED: Final = 2
CANCELLED: Final = 3

STATUSES: Final = (
    DeliveryStatus.PENDING,
    DeliveryStatus.DELIVERED,
    DeliveryStatus.DEAD_LETTERED,
    DeliveryStatus.CANCELLED,
)
REASONS: Final = (
    CancelReason.ENDPOINT_DELETED,
    CancelReason.ENDPOINT_DISABLED,
    CancelReason.PAYLOAD_ERASED,
    CancelReason.EXPIRED,
)
TRIGGERS: Final = (Trigger.SCHEDULED, Trigger.MANUAL, Trigger.REPLAY)
ERRORS: Final = (
    ErrorCode.DNS,
    ErrorCode.ADDRESS_DENIED,
    ErrorCode.CONNECT,
    ErrorCode.TLS,
    ErrorCode.TIMEOUT,
    ErrorCode.PROTOCOL,
    ErrorCode.HTTP_STATUS,
)
FORMATS: Final = (PayloadFormat.STANDARD_WEBHOOKS, PayloadFormat.CLOUD_EVENTS, PayloadFormat.DATA_ONLY)

STATUS_CODES: Final = {value: code for code, value in enumerate(STATUSES)}
REASON_CODES: Final = {value: code for code, value in enumerate(REASONS)}
TRIGGER_CODES: Final = {value: code for code, value in enumerate(TRIGGERS)}
ERROR_CODES: Final = {value: code for code, value in enumerate(ERRORS)}
FORMAT_CODES: Final = {value: code for code, value in enumerate(FORMATS)}

EVENT: Final = "msg_"
DELIVERY: Final = "dlv_"

Key = bytes | str
"""An id as it is stored: 16 bytes for 32 lower-case hexadecimal digits, else the text behind the prefix."""


def pack_id(prefix: str, text: str) -> Key:
    """Raises ValueError where the prefix is another one."""
    if not text.startswith(prefix) or len(text) == len(prefix):
        raise ValueError(f"not an id of the form {prefix}…: {text[:80]!r}")
    body = text[len(prefix) :]
    if len(body) == 32:
        try:
            packed = bytes.fromhex(body)
        except ValueError:
            return body
        if packed.hex() == body:  # upper case and inner blanks must come back as they were
            return packed
    return body


def find_id(prefix: str, text: str) -> Key | None:
    """As `pack_id`, None for what cannot be an id of ours."""
    try:
        text.encode()
        return pack_id(prefix, text)
    except ValueError:
        return None


def unpack_id(prefix: str, stored: Key) -> str:
    return prefix + (stored.hex() if isinstance(stored, bytes) else stored)


def pack_channels(channels: tuple[str, ...]) -> str:
    """One name a line. Raises ValueError for a name that is empty or has a line break of its own."""
    if not channels:
        return ""
    text = "\n".join(channels)
    if text.count("\n") != len(channels) - 1 or "" in channels:
        raise ValueError("a channel name is empty or holds a line break")
    return text


def unpack_channels(stored: str) -> tuple[str, ...]:
    return tuple(stored.split("\n")) if stored else ()


def caller_key(caller: CallerId) -> bytes:
    """16 bytes that stand for the caller's id; the length keeps space and id apart."""
    text = f"{len(caller.space)}:{caller.space}{caller.id}".encode()
    return hashlib.blake2b(text, digest_size=16).digest()


def safe_text(text: str) -> str:
    """Text that SQLite can keep: lone surrogates, which receivers' names and errors may carry, become marks."""
    return text if text.isascii() else text.encode(errors="replace").decode()
