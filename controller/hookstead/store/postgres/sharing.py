"""Which member should have which slot, and whom the others may take for dead: pure decisions on what a look shows."""

from __future__ import annotations

import datetime
import hashlib
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final

from hookstead.delivery.ports import SLOTS

ALL_SLOTS: Final = frozenset(range(SLOTS))


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """A process that has joined. `alive`: its lease has not lapsed by the database's clock; `ready`: it takes slots."""

    owner: int
    lease_until: datetime.datetime
    alive: bool
    ready: bool


@lru_cache(maxsize=64)
def wanted(owners: frozenset[int]) -> tuple[int, ...]:
    """Who of `owners` should have each slot, by rendezvous hashing.

    When one comes or goes, only slots that it gets or had change hands.
    """
    return tuple(max(owners, key=lambda owner: _weight(slot, owner)) for slot in range(SLOTS))


def _weight(slot: int, owner: int) -> tuple[bytes, int]:
    return hashlib.blake2b(b"%d %d" % (slot, owner), digest_size=8).digest(), owner


def takers(members: Iterable[Member], me: int) -> frozenset[int]:
    """The members among whom slots are shared out: this one, and the others that are alive and take any."""
    return frozenset({me, *(member.owner for member in members if member.alive and member.ready)})


@dataclass(slots=True)
class Watch:
    """Since when each member's lease has been the same one, on this process's own clock (seconds).

    The database's clock alone is not believed: after it stepped, every lease would have lapsed at once.
    """

    _seen: dict[int, tuple[datetime.datetime, float]] = field(default_factory=dict)

    def dead(
        self, members: Collection[Member], *, me: int, now: float, unbroken_since: float, lease_seconds: float
    ) -> list[Member]:
        """Those that did not renew for a whole lease in which this process could have seen it."""
        seen = {}
        for member in members:
            before = self._seen.get(member.owner)
            same = before is not None and before[0] == member.lease_until
            seen[member.owner] = before if same and before is not None else (member.lease_until, now)
        self._seen = seen
        return [
            member
            for member in members
            if member.owner != me
            and not member.alive
            and now - max(seen[member.owner][1], unbroken_since) >= lease_seconds
        ]
