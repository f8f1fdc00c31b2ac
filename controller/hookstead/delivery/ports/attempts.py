"""An attempt: as it is recorded, and as it is shown."""

from __future__ import annotations

from dataclasses import dataclass

from hookstead.delivery.ports.deliveries import DeliveryStatus, EndpointKey, ErrorCode, Settlement, Trigger


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptRecord:
    """One attempt that was sent (or denied at the dial), and what it means for its delivery.

    The store numbers it (attempt_count + 1), applies the settlement with compare-and-set on the delivery's status
    through `transitions.reconcile`, and releases the claim, all in one transaction.
    """

    delivery_id: str
    endpoint: EndpointKey
    trigger: Trigger
    started_ms: int
    duration_ms: int
    succeeded: bool
    status_code: int
    error: ErrorCode | None
    message: str
    response_body: bytes
    prior_status: DeliveryStatus
    settlement: Settlement


@dataclass(frozen=True, slots=True, kw_only=True)
class RecentAttempt:
    """One line of `status.recentDeliveries`."""

    delivery_id: str
    event_type: str
    started_ms: int
    number: int
    succeeded: bool
    status_code: int
    duration_ms: int
    message: str
    next_attempt_ms: int | None
