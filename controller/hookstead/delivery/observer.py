"""Who may watch what happens: the activity stream. Called on the event loop; must be quick and never raise."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from hookstead.delivery.ports import DeliveryStatus, RecentAttempt


class Observer(Protocol):
    def event_accepted(self, event_id: str, event_type: str, channels: Sequence[str], endpoints: int) -> None:
        """An event was stored."""

    def attempt(self, endpoint: str, attempt: RecentAttempt) -> None:
        """An attempt was recorded."""

    def delivery_finished(self, endpoint: str, delivery_id: str, status: DeliveryStatus) -> None:
        """A delivery reached a status that is not Pending."""


class NullObserver:
    """Nobody watches."""

    def event_accepted(self, event_id: str, event_type: str, channels: Sequence[str], endpoints: int) -> None:
        return

    def attempt(self, endpoint: str, attempt: RecentAttempt) -> None:
        return

    def delivery_finished(self, endpoint: str, delivery_id: str, status: DeliveryStatus) -> None:
        return
