"""Cursors of lists that are ordered in memory: opaque to callers, and good for one list only."""

from __future__ import annotations

import base64

import msgspec

from hookstead.gateway.parameters import bad_cursor


def write_cursor(listing: str, *position: str) -> str:
    """A cursor behind the item at `position`, the values that the list is ordered by."""
    document = msgspec.json.encode((listing, *position))
    return base64.urlsafe_b64encode(document).decode("ascii").rstrip("=")


def read_cursor(listing: str, cursor: str, *, values: int) -> tuple[str, ...]:
    """The position in a cursor of this list. Raises ProblemError (400) for any other."""
    try:
        document = base64.b64decode(cursor + "=" * (-len(cursor) % 4), b"-_", validate=True)
        found = msgspec.json.decode(document, type=tuple[str, ...])
    except (ValueError, msgspec.DecodeError):
        raise bad_cursor() from None
    if len(found) != values + 1 or found[0] != listing:
        raise bad_cursor()
    return found[1:]
