"""Several processes on one store: who delivers for which endpoint, and what the others did."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final, Protocol, TypeAlias

from hookstead.delivery.ports.clock import Clock
from hookstead.delivery.ports.deliveries import EndpointKey
from hookstead.delivery.ports.lanes import Boot

SLOTS: Final = 256
"""Endpoints are handed from process to process in this many lots; the number is part of the stored state."""


@lru_cache(maxsize=65_536)
def slot_of(endpoint: EndpointKey) -> int:
    """The lot of an endpoint: the same in every process and version."""
    digest = hashlib.blake2b(f"{endpoint.name}\x00{endpoint.uid}".encode(), digest_size=2).digest()
    return int.from_bytes(digest, "big") % SLOTS


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What a look at the others brought.

    `owned`: the slots for whose endpoints this process alone may claim, attempt and record, until it lets them go or
    its lease is lost. `unwanted`: those of them that another process should have.
    `arrivals`: how many deliveries, of endpoints of any owner, came to be pending since the last look by the doing of
    another process (0: something else is to be claimed, such as a manual request). `erased`: events whose payload is
    gone since then, each with the endpoints of which it had deliveries.
    """

    owned: frozenset[int]
    unwanted: frozenset[int] = frozenset()
    arrivals: Mapping[EndpointKey, int] = field(default_factory=dict)
    erased: Mapping[str, Sequence[EndpointKey]] = field(default_factory=dict)


class Peers(Protocol):
    """A store's view of the processes that share it. Used on the loop of its store; may raise StoreUnavailable."""

    @property
    def clock(self) -> Clock:
        """The store's clock, which all of them go by: their own may differ."""

    @property
    def lease_holds(self) -> bool:
        """Whether nobody can have taken this process for dead yet. While it is False nothing may be sent."""

    async def look(self, *, whole: bool = True) -> Look:
        """Take the free slots that should be this process's, and read what the others did since the last look.

        Not `whole`: only the latter; slots are as they were. Raises StoreUnavailable.
        """

    async def let_go(self, slots: Collection[int]) -> None:
        """Give slots away: nothing of theirs is under way or claimed here any more."""

    async def memory(self, slots: Collection[int], *, recent_limit: int) -> Boot:
        """What is remembered of the endpoints of these slots, as `Store.boot` gives it for all."""

    async def news(self, *, timeout_seconds: float) -> bool:
        """Return when another process told of something, or the time is up. Hints may be lost, and are joined.

        False where all that was told is that there is something to deliver; else a whole look is due.
        """


Hear: TypeAlias = Callable[[Sequence[str], int | None], None]
"""Takes what one of the others told, and how many messages before that were lost (None: nobody knows, perhaps none).

Called on the event loop; must be quick and never raise."""


class Relay(Protocol):
    """Passes on what happens at one process to those of the others that listen: soon, in order, once or not at all.

    A message is one line of ASCII. Costs nothing while nobody listens, and keeps no more than a bound: what is told
    faster than it can be passed on is lost, the oldest first, and listeners hear how much.
    """

    @property
    def wanted(self) -> bool:
        """Whether another process may be listening. While it is False, nothing need be told."""

    def tell(self, message: str) -> None:
        """To those that listen, soon."""

    async def listen(self, hear: Hear) -> None:
        """Give `hear` what others tell from now on.

        Returns once all of them know of it, or after about a second. Repeated, it waits for the same.
        """

    def end(self) -> None:
        """Listen no more."""
