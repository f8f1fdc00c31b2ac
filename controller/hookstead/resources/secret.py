"""A secret that cannot be printed by accident."""

from __future__ import annotations

import hmac
from typing import Final, final

MASK: Final = "***"


@final
class Secret:
    """Bytes that print as `***`, compare in constant time, and come out only through `reveal()`."""

    __slots__ = ("_value",)
    _value: bytes

    def __init__(self, value: bytes) -> None:
        object.__setattr__(self, "_value", bytes(value))

    def reveal(self) -> bytes:
        """The bytes themselves. Every call is a place to look at in a review."""
        return self._value

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError("a Secret cannot be changed")

    def __repr__(self) -> str:
        return MASK

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return format(MASK, spec)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        return hmac.compare_digest(self._value, other._value)

    def __hash__(self) -> int:
        return hash((Secret, self._value))

    def __bool__(self) -> bool:
        return bool(self._value)

    def __reduce__(self) -> tuple[object, ...]:
        raise TypeError("a Secret is not pickled: reveal() it and say why")
