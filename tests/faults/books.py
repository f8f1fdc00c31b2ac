"""What is on the disk after a kill, and which requests that arrived are in none of its records."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from faults.sink import Sink

Key = tuple[str, str]
"""Path (which is `/` and the endpoint's name) and event id: one delivery."""


@dataclass
class Books:
    """`attempts`: how many are recorded of a delivery. `statuses`: deliveries by path and status (0 is Pending)."""

    events: set[str]
    attempts: dict[Key, int]
    statuses: Counter[tuple[str, int]]


def unrecorded(receiver: Sink, found: Books) -> Counter[Key]:
    """By delivery, the requests that are in no record: each repeats another, or will be repeated."""
    gaps = {key: count - found.attempts.get(key, 0) for key, count in receiver.seen.items()}
    assert min(gaps.values(), default=0) >= 0, "more attempts are recorded than were sent"
    return Counter({key: gap for key, gap in gaps.items() if gap})


@dataclass
class Repeats:
    """Requests that arrived and are in no record, by delivery; what every kill added to them.

    `most`: how many one kill may leave at each of the paths: what is in flight, and what is not recorded yet.
    """

    paths: Sequence[str]
    most: int
    known: Counter[Key] = field(default_factory=Counter)
    by_kill: list[int] = field(default_factory=list)

    def after_kill(self, receiver: Sink, found: Books) -> None:
        """Each delivery may have one more of them than before: the attempt that was under way or not recorded."""
        now = unrecorded(receiver, found)
        added = now - self.known
        assert not self.known - now, "an attempt was recorded that was never sent"
        assert set(added.values()) <= {1}, f"sent more than once in one life, unrecorded: {added.most_common(3)}"
        for path in self.paths:
            assert sum(key[0] == path for key in added) <= self.most
        self.known = now
        self.by_kill.append(added.total())

    def at_the_end(self, receiver: Sink, found: Books) -> None:
        """A life that was not killed adds none."""
        assert unrecorded(receiver, found) == self.known
