"""The ports of the engine: what it needs of the world, and what every implementation owes.

Units: `…_ms` are integer milliseconds (wall times since the Unix epoch); durations in seconds say so.
All values are frozen; a Store implementation may keep them after the call.
"""

from __future__ import annotations

from hookstead.delivery.ports.attempts import AttemptRecord, RecentAttempt
from hookstead.delivery.ports.clock import Clock, Random
from hookstead.delivery.ports.deliveries import (
    CancelReason,
    Claim,
    DeliveryStatus,
    Ended,
    EndpointKey,
    ErrorCode,
    Job,
    RedeliveryRefusal,
    Settlement,
    Trigger,
)
from hookstead.delivery.ports.errors import StoreError, StoreFull, StoreUnavailable
from hookstead.delivery.ports.events import Accepted, CallerId, Clash, Duplicate, NewDelivery, NewEvent
from hookstead.delivery.ports.lanes import Boot, EndpointCounts, EndpointWindow, LaneState
from hookstead.delivery.ports.lists import (
    ActivityBucket,
    AttemptRow,
    DeliveryQuery,
    DeliveryRow,
    EventQuery,
    EventRow,
    InvalidCursor,
    Page,
)
from hookstead.delivery.ports.peers import SLOTS, Hear, Look, Peers, Relay, slot_of
from hookstead.delivery.ports.replays import (
    ReplayCandidate,
    ReplayDelivery,
    ReplayPage,
    ReplayPhase,
    ReplayRow,
    ReplayWindow,
)
from hookstead.delivery.ports.store import Store
from hookstead.delivery.ports.transport import RESPONSE_BODY_LIMIT, OutboundRequest, SendResult, Transport

__all__ = [
    "RESPONSE_BODY_LIMIT",
    "SLOTS",
    "Accepted",
    "ActivityBucket",
    "AttemptRecord",
    "AttemptRow",
    "Boot",
    "CallerId",
    "CancelReason",
    "Claim",
    "Clash",
    "Clock",
    "DeliveryQuery",
    "DeliveryRow",
    "DeliveryStatus",
    "Duplicate",
    "Ended",
    "EndpointCounts",
    "EndpointKey",
    "EndpointWindow",
    "ErrorCode",
    "EventQuery",
    "EventRow",
    "Hear",
    "InvalidCursor",
    "Job",
    "LaneState",
    "Look",
    "NewDelivery",
    "NewEvent",
    "OutboundRequest",
    "Page",
    "Peers",
    "Random",
    "RecentAttempt",
    "RedeliveryRefusal",
    "Relay",
    "ReplayCandidate",
    "ReplayDelivery",
    "ReplayPage",
    "ReplayPhase",
    "ReplayRow",
    "ReplayWindow",
    "SendResult",
    "Settlement",
    "Store",
    "StoreError",
    "StoreFull",
    "StoreUnavailable",
    "Transport",
    "Trigger",
    "slot_of",
]
