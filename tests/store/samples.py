"""Events, attempts and a clock for tests of the Store port. Nothing here knows an implementation."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Protocol

from hookstead.delivery.ports import (
    AttemptRecord,
    CallerId,
    Claim,
    DeliveryStatus,
    EndpointKey,
    ErrorCode,
    Job,
    NewDelivery,
    NewEvent,
    Settlement,
    Store,
    Trigger,
)
from hookstead.resources.kinds import PayloadFormat

NOW = 1_800_000_000_000
DAY = 86_400_000
A = EndpointKey("a", "uid-a")
B = EndpointKey("b", "uid-b")
_numbers = count(1)


@dataclass(slots=True)
class StoppedClock:
    """A clock that a test moves by hand."""

    wall_ms: int = NOW
    seconds: float = 0.0

    def now_ms(self) -> int:
        return self.wall_ms

    def monotonic(self) -> float:
        return self.seconds


class Host(Protocol):
    """Where a store lives: it can be opened, and opened again with what it holds."""

    clock: StoppedClock

    async def open(self) -> Store: ...


def event(
    *endpoints: EndpointKey,
    at: int = NOW,
    caller: str | None = None,
    space: str = "",
    content: str = "",
    type_: str = "order.paid",
    channels: Sequence[str] = (),
    claimed: bool = False,
    data: bytes = b'{"n":1}',
    source: str | None = None,
    traceparent: str | None = None,
) -> NewEvent:
    number = next(_numbers)
    return NewEvent(
        id=f"msg_{number:032x}",
        type=type_,
        channels=tuple(channels),
        timestamp=b'"2027-01-15T08:00:00Z"',
        data=data,
        digest=hashlib.sha256(content.encode()).digest(),
        accepted_ms=at,
        caller_id=None if caller is None else CallerId(space, caller),
        source=source,
        traceparent=traceparent,
        deliveries=tuple(
            NewDelivery(
                id=f"dlv_{next(_numbers):032x}",
                endpoint=endpoint,
                payload_format=PayloadFormat.STANDARD_WEBHOOKS,
                claimed=claimed,
            )
            for endpoint in endpoints
        ),
    )


def delivery_id(of: NewEvent, place: int = 0) -> str:
    return of.deliveries[place].id


DELIVERED = Settlement(status=DeliveryStatus.DELIVERED)
DEAD = Settlement(status=DeliveryStatus.DEAD_LETTERED)


def retry(at: int, position: int = 1) -> Settlement:
    return Settlement(status=DeliveryStatus.PENDING, next_attempt_ms=at, schedule_position=position)


def attempt(
    of: str | Job,
    settlement: Settlement = DELIVERED,
    *,
    endpoint: EndpointKey = A,
    trigger: Trigger = Trigger.SCHEDULED,
    prior: DeliveryStatus = DeliveryStatus.PENDING,
    at: int = NOW,
    duration: int = 20,
    succeeded: bool | None = None,
    message: str = "",
    body: bytes = b"",
) -> AttemptRecord:
    """An attempt of a delivery (by id) or of a claimed job; it succeeded where the settlement says Delivered."""
    if succeeded is None:
        succeeded = settlement.status is DeliveryStatus.DELIVERED
    if isinstance(of, Job):
        endpoint, trigger, prior = of.endpoint, of.trigger, of.status
    return AttemptRecord(
        delivery_id=of.delivery_id if isinstance(of, Job) else of,
        endpoint=endpoint,
        trigger=trigger,
        started_ms=at,
        duration_ms=duration,
        succeeded=succeeded,
        status_code=200 if succeeded else 500,
        error=None if succeeded else ErrorCode.HTTP_STATUS,
        message=message,
        response_body=body,
        prior_status=prior,
        settlement=settlement,
    )


async def claim(
    store: Store,
    endpoint: EndpointKey = A,
    *,
    now: int = NOW,
    limit: int = 100,
    max_bytes: int = 1 << 20,
    ordered: bool = False,
) -> Claim:
    return await store.claim(endpoint, now_ms=now, limit=limit, max_bytes=max_bytes, ordered=ordered)


async def status_of(store: Store, delivery: str) -> DeliveryStatus:
    found = await store.delivery(delivery)
    assert found is not None
    return found[0].status


def ids(found: Claim) -> list[str]:
    return [job.delivery_id for job in found.jobs]


Opener = Callable[[], Store]
