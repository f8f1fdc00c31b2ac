"""Four endpoints that between them do everything that an endpoint can do to a delivery."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from builders import endpoint
from hookstead.resources.kinds import CircuitBreaker, DeliverySpec, EndpointState, RetrySpec

if TYPE_CHECKING:
    from faults.sink import Sink

FINE, FLAKY, HOPELESS, HELD = "/fine", "/flaky", "/hopeless", "/held"
ENDING: Final = (FINE, FLAKY, HOPELESS)
"""Where every delivery ends by itself; at the one that is held none does."""
IN_FLIGHT: Final = 8
UNRECORDED: Final = 2 * 512
"""Attempts that may be sent and not be committed: a batch that is being written, and one that fills meanwhile."""


def endpoints(receiver: Sink) -> list[object]:
    """One that takes everything, one that does at the second try, one that never does, and one that is paused."""
    receiver.statuses = {FLAKY: (500, 204), HOPELESS: (500,)}
    policy = DeliverySpec(
        max_in_flight=IN_FLIGHT,
        circuit_breaker=CircuitBreaker.NONE,
        retry=RetrySpec(schedule_seconds=(1, 1, 1)),
    )
    return [
        *(endpoint(path[1:], url=receiver.url + path, delivery=policy) for path in ENDING),
        endpoint(HELD[1:], url=receiver.url + HELD, state=EndpointState.PAUSED),
    ]
