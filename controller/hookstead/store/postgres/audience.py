"""Which members listen to what the others do, as far as one of them knows."""

from __future__ import annotations

import math
from typing import Final

RENEW_SECONDS: Final = 2.0
"""A member that listens says so again and again,"""
WANTED_SECONDS: Final = 7.0
"""and each time for so long: one that vanished is told nothing any more after that."""
SURE_SECONDS: Final = 1.0
"""Within this a member that asks who listens has its answers."""
_MEMBERS: Final = 1000
"""More than ever share a database."""


class Audience:
    """Times are seconds of one steady clock, which is handed in.

    Without a connection nobody is heard, so anybody may listen, until who does had the time to say so on the next one.
    """

    def __init__(self) -> None:
        self._until: dict[str, float] = {}
        self._last = -math.inf
        self._sure_at = math.inf

    def heard(self, member: str, *, seconds: float, now: float) -> None:
        """The member listens for so long; 0: no more."""
        self._until = {other: until for other, until in self._until.items() if now < until}
        if seconds <= 0:
            self._until.pop(member, None)
        elif member in self._until or len(self._until) < _MEMBERS:
            self._until[member] = now + seconds
        self._last = max(self._until.values(), default=-math.inf)

    def connected(self, now: float) -> None:
        self._sure_at = now + SURE_SECONDS

    def disconnected(self) -> None:
        self._sure_at = math.inf

    def present(self, now: float) -> bool:
        """Somebody listens, as far as is known."""
        return now < self._last

    def possible(self, now: float) -> bool:
        """Somebody listens, or that is not known yet."""
        return now < self._sure_at or now < self._last

    def settles(self) -> float:
        """From when on nobody listens, unless somebody is heard until then."""
        return max(self._sure_at, self._last)
