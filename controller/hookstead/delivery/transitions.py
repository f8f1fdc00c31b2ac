"""Which ways a delivery may go, and what an attempt means for a delivery that changed while it was in flight.

Pure. The engine proposes (`Settlement`), the store asks `reconcile` inside its transaction, and nobody else moves
a delivery. Source: the contract's section 3 "Delivery" and section 4.
"""

from __future__ import annotations

from typing import Final

from hookstead.delivery.ports import DeliveryStatus, Settlement, Trigger

ALLOWED: Final[frozenset[tuple[DeliveryStatus, DeliveryStatus]]] = frozenset(
    {
        (DeliveryStatus.PENDING, DeliveryStatus.PENDING),  # a retry on the schedule
        (DeliveryStatus.PENDING, DeliveryStatus.DELIVERED),
        (DeliveryStatus.PENDING, DeliveryStatus.DEAD_LETTERED),
        (DeliveryStatus.PENDING, DeliveryStatus.CANCELLED),
        (DeliveryStatus.DEAD_LETTERED, DeliveryStatus.DELIVERED),  # a manual attempt that arrived
        (DeliveryStatus.DEAD_LETTERED, DeliveryStatus.PENDING),  # a replay of what failed
        (
            DeliveryStatus.CANCELLED,
            DeliveryStatus.DELIVERED,
        ),  # it was in flight already, or sent again by hand
    }
)
"""Every transition there is. Delivered is final: nothing that happens later can make it not have arrived."""


def is_allowed(current: DeliveryStatus, following: DeliveryStatus) -> bool:
    return (current, following) in ALLOWED


def reconcile(
    current: DeliveryStatus,
    prior: DeliveryStatus,
    proposed: Settlement,
    *,
    succeeded: bool,
    trigger: Trigger,
) -> Settlement | None:
    """What becomes of a delivery that is `current` now and was `prior` when the attempt began.

    None leaves status, next attempt and remaining schedule as they are; the attempt itself is kept in any case.
    A success always counts, since the receiver has it. A failure counts only for the state it was made in, and a
    manual one never: it must not cost the delivery an automatic attempt.
    """
    if succeeded:
        if current is DeliveryStatus.DELIVERED:
            return None
        return Settlement(status=DeliveryStatus.DELIVERED, schedule_position=proposed.schedule_position)
    if trigger is Trigger.MANUAL or current is not prior or proposed.status is DeliveryStatus.DELIVERED:
        return None
    return proposed if is_allowed(current, proposed.status) else None
