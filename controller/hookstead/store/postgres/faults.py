"""What an error of PostgreSQL, or of the way to it, means for those who asked, and for the store as a whole."""

from __future__ import annotations

from typing import Final

import asyncpg

from hookstead.delivery.ports import StoreError, StoreFull, StoreUnavailable

LEASE_LOST: Final = "HS001"
CHANGED: Final = "HS002"

_AGAIN: Final = ("40001", "40P01", "55P03", "57014")
"""Serialisation, deadlock, a lock or a statement that took too long: nothing of the transaction happened."""
_AWAY: Final = ("08", "57P", "53300", "25P03")
"""The connection or the server went away, or does not take us now."""
_FULL: Final = ("53100",)
_READ_ONLY: Final = ("25006",)
"""A server that was demoted to a standby: the address will lead to the new primary some day."""


class LeaseLost(StoreError):
    """Another gateway has taken over; this one must write nothing any more."""


class Changed(StoreError):
    """A delivery is not as it was known; look again."""


def _state(error: BaseException) -> str:
    return str(getattr(error, "sqlstate", "") or "")


def is_away(error: BaseException) -> bool:
    """The connection is of no use any more, and nobody knows whether the statement happened."""
    if isinstance(error, (OSError, TimeoutError, asyncpg.InterfaceError, asyncpg.InternalClientError)):
        return not isinstance(error, asyncpg.DataError)
    return _state(error).startswith((*_AWAY, *_READ_ONLY))


def may_pass(error: BaseException) -> bool:
    """The same again may succeed."""
    return is_away(error) or _state(error) in _AGAIN


def meaning(error: BaseException, *, name: str, grows: bool = False) -> BaseException:
    """The error for the caller. `grows`: the caller wanted to add work."""
    state = _state(error)
    if isinstance(error, StoreError):
        return error
    if state == LEASE_LOST:
        return LeaseLost(f"store {name}: another gateway has taken over; this one ends")
    if state == CHANGED:
        return Changed(f"store {name}: a delivery changed while its attempt was recorded; try again")
    if state in _FULL:
        text = f"store {name}: the database's disk is full"
        return StoreFull(text) if grows else StoreUnavailable(f"{text}; free some space")
    if may_pass(error):
        return StoreUnavailable(f"store {name}: {_text(error)}; try again")
    if isinstance(error, asyncpg.PostgresError):
        return StoreError(f"store {name}: {_text(error)}")
    return error


def _text(error: BaseException) -> str:
    """One line; a time-out has no text of its own."""
    lines = str(error).splitlines()
    return lines[0] if lines else type(error).__name__


class Health:
    """Whether this process may still work on the store. Once it may not, nothing is tried again."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.failure: str | None = None

    def require(self) -> None:
        """Raises StoreUnavailable."""
        if self.failure is not None:
            raise StoreUnavailable(self.failure)

    def give_up(self, why: str) -> None:
        if self.failure is None:
            self.failure = why

    def meaning(self, error: BaseException, *, grows: bool = False) -> BaseException:
        """As the function; a lost lease ends the store."""
        found = meaning(error, name=self.name, grows=grows)
        if isinstance(found, LeaseLost):
            self.give_up(str(found))
            return StoreUnavailable(str(found))
        return found
