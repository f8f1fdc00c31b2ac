"""Which deliveries are on their way in this process. In memory only: one process owns the file.

A claim is visible before the commit that makes it claimable and goes after the commit that ends it, and a reader
takes its snapshot and picks under the same lock; so no delivery is picked twice.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(slots=True)
class Held:
    """A claimed delivery as it was when it was claimed. `stale`: something changed it since; read it again.

    `manual`: claimed for an attempt that a person asked for.
    """

    seq: int
    endpoint_id: int
    status: int = 0
    attempt_count: int = 0
    schedule_position: int = 0
    next_attempt_ms: int | None = None
    completed_ms: int | None = None
    cancel_reason: int | None = None
    stale: bool = False
    manual: bool = False


class Claims:
    """The claimed deliveries, by id and by endpoint. Callers hold `lock` around every method but `get`."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self._by_id: dict[str, Held] = {}
        self._by_endpoint: dict[int, dict[int, Held]] = {}

    def __len__(self) -> int:
        return len(self._by_id)

    def get(self, delivery_id: str) -> Held | None:
        return self._by_id.get(delivery_id)

    def reserve(self, held: Held) -> None:
        """Nobody else gets this row; its id is not known yet."""
        self._by_endpoint.setdefault(held.endpoint_id, {})[held.seq] = held

    def name(self, delivery_id: str, held: Held) -> None:
        self._by_id[delivery_id] = held

    def hold(self, delivery_id: str, held: Held) -> None:
        self.reserve(held)
        self._by_id[delivery_id] = held

    def unreserve(self, held: Held) -> None:
        rows = self._by_endpoint.get(held.endpoint_id)
        if rows is not None:
            rows.pop(held.seq, None)
            if not rows:
                del self._by_endpoint[held.endpoint_id]

    def drop(self, delivery_ids: Iterable[str]) -> None:
        for delivery_id in delivery_ids:
            held = self._by_id.pop(delivery_id, None)
            if held is not None:
                self.unreserve(held)

    def of(self, endpoint_id: int) -> dict[int, Held]:
        """By row number. Not to be changed, not to be kept."""
        return self._by_endpoint.get(endpoint_id, {})

    def mark_stale(self, endpoint_ids: Iterable[int] | None) -> None:
        """What is known of these endpoints' claimed rows is out of date; None: of all endpoints'."""
        for endpoint_id in self._by_endpoint if endpoint_ids is None else endpoint_ids:
            for held in self.of(endpoint_id).values():
                held.stale = True

    def clear(self) -> None:
        self._by_id.clear()
        self._by_endpoint.clear()
