"""Idle connections: per endpoint, bounded in number and age, closed when their purpose changes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from hookstead.config.addresses import Target
    from hookstead.config.model import EgressPolicy, TlsMaterial
    from hookstead.delivery.ports import EndpointKey, OutboundRequest
    from hookstead.egress.connection import Connection
    from hookstead.egress.gate import Gate

IDLE_PER_ENDPOINT: Final = 20
IDLE_IN_ALL: Final = 1000
IDLE_SECONDS: Final = 30.0
"""Below the 60 s after which common load balancers drop an idle connection without a word."""
AGE_SECONDS: Final = 300.0
"""After that a name is looked up again, so that a receiver that moved is followed."""
LANE_SECONDS: Final = 60.0
"""How long an endpoint's parsed URL is kept without a connection or a request."""
SWEEP_SECONDS: Final = 5.0


@dataclass(slots=True, kw_only=True, repr=False, eq=False)
class Lane:
    """One endpoint's way out under one URL, policy and TLS material; another of these is another lane.

    Without a repr: the URL may be a secret.
    """

    url: str
    policy: EgressPolicy
    tls: TlsMaterial | None
    target: Target
    gate: Gate
    start: str
    idle: list[Connection] = field(default_factory=list)
    retired: bool = False
    used: float = 0.0
    in_flight: int = 0

    def serves(self, request: OutboundRequest) -> bool:
        return (
            self.url == request.url
            and (self.policy is request.policy or self.policy == request.policy)
            and (self.tls is request.tls or self.tls == request.tls)
        )


class Pool:
    """All lanes, and all idle connections in the order in which they became idle. Times are the loop's."""

    def __init__(
        self,
        *,
        idle_per_endpoint: int = IDLE_PER_ENDPOINT,
        idle_in_all: int = IDLE_IN_ALL,
        idle_seconds: float = IDLE_SECONDS,
        age_seconds: float = AGE_SECONDS,
    ) -> None:
        self._idle_per_endpoint = idle_per_endpoint
        self._idle_in_all = idle_in_all
        self._idle_seconds = idle_seconds
        self._age_seconds = age_seconds
        self._lanes: dict[EndpointKey, Lane] = {}
        self._idle: dict[Connection, Lane] = {}

    @property
    def idle_count(self) -> int:
        return len(self._idle)

    @property
    def lane_count(self) -> int:
        return len(self._lanes)

    def lane(self, request: OutboundRequest) -> Lane | None:
        """The endpoint's lane if it still fits the request; one that does not is retired."""
        lane = self._lanes.get(request.endpoint)
        if lane is None or lane.serves(request):
            return lane
        self.forget(request.endpoint)
        return None

    def add(self, endpoint: EndpointKey, lane: Lane) -> None:
        self._lanes[endpoint] = lane

    def checkout(self, lane: Lane, now: float) -> Connection | None:
        """The most recently used idle connection that can carry a request right now."""
        idle = lane.idle
        while idle:
            connection = idle.pop()
            del self._idle[connection]
            if not self._is_stale(connection, now) and connection.is_quiet():
                return connection
            connection.abort()
        return None

    def give_back(self, lane: Lane, connection: Connection, now: float) -> None:
        """Keep a connection after its exchange, or close it where a bound says so."""
        if not connection.reusable or lane.retired or now - connection.opened >= self._age_seconds:
            connection.abort()
            return
        if len(lane.idle) >= self._idle_per_endpoint:
            connection.abort()
            return
        if len(self._idle) >= self._idle_in_all:
            self._drop(next(iter(self._idle)))
        connection.idle_since = now
        lane.idle.append(connection)
        self._idle[connection] = lane

    def forget(self, endpoint: EndpointKey) -> None:
        """Close the endpoint's idle connections; those under way are closed when they come back."""
        lane = self._lanes.pop(endpoint, None)
        if lane is not None:
            lane.retired = True
            for connection in tuple(lane.idle):
                self._drop(connection)

    def sweep(self, now: float) -> None:
        """Close what is closed by the peer or too old, and drop lanes that nobody uses."""
        for connection in tuple(self._idle):
            if not connection.reusable or self._is_stale(connection, now):
                self._drop(connection)
        unused = [
            endpoint
            for endpoint, lane in self._lanes.items()
            if not lane.idle and not lane.in_flight and now - lane.used >= LANE_SECONDS
        ]
        for endpoint in unused:
            del self._lanes[endpoint]

    def drop_idle(self) -> None:
        """Close every idle connection, because their descriptors are wanted."""
        for connection in tuple(self._idle):
            self._drop(connection)

    def clear(self) -> None:
        for endpoint in tuple(self._lanes):
            self.forget(endpoint)

    def _is_stale(self, connection: Connection, now: float) -> bool:
        limit = self._idle_seconds
        if connection.idle_limit is not None:
            # A second early: the peer counts from when it sent, we from when we received.
            limit = min(limit, connection.idle_limit - 1.0)
        return now - connection.idle_since >= limit or now - connection.opened >= self._age_seconds

    def _drop(self, connection: Connection) -> None:
        self._idle.pop(connection).idle.remove(connection)
        connection.abort()
