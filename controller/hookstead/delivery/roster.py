"""Which lanes there are: one for each endpoint of the configuration in force, and a memory of those without one."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from hookstead.config.key_material import KeyMaterialError
from hookstead.config.model import DeliveryConfig, EgressPolicy, EndpointConfig, EnvironmentConfig
from hookstead.delivery import pacing
from hookstead.delivery.attempt import Sealed
from hookstead.delivery.lane import Lane
from hookstead.delivery.memory import Memory, memories
from hookstead.delivery.pacing import Rate
from hookstead.delivery.ports import Boot, Clock, EndpointKey, LaneState, Transport, slot_of
from hookstead.resources.kinds import CircuitBreaker

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Hands:
    """What the roster has done to lanes. `release` gives back what is claimed, `retire` ends a lane's timers,
    `changed` tells that a report would show something else, `set_state` makes a state last."""

    release: Callable[[Lane], int]
    retire: Callable[[Lane], None]
    changed: Callable[[Lane], None]
    set_state: Callable[[Lane, LaneState], None]


class Roster:
    """Runs on the dispatcher's event loop; does no I/O of its own.

    `lanes` by the endpoint's name; `departed` are lanes that were taken away while attempts were under way; they count
    where the endpoint comes back. `owned` are the slots that this process has of those that it shares with others, None
    where it is alone; `dropped` are then lanes that were taken away with something claimed.
    """

    def __init__(self, *, transport: Transport, clock: Clock, user_agent: str, hands: Hands) -> None:
        self.lanes: Final[dict[str, Lane]] = {}
        self.memories: dict[EndpointKey, Memory] = {}
        self.departed: Final[dict[EndpointKey, Lane]] = {}
        self.dropped: list[Lane] = []
        self.owned: set[int] | None = None
        self.environment: EnvironmentConfig | None = None
        self.namespace = ""
        self._policy = EgressPolicy()
        self._transport: Final = transport
        self._clock: Final = clock
        self._user_agent: Final = user_agent
        self._hands: Final = hands

    def start(self, boot: Boot, *, shared: bool) -> None:
        """Begin with what the store remembers; owning nothing yet where the store is shared."""
        self.memories = memories(boot)
        self.owned = set() if shared else None

    def apply(self, config: DeliveryConfig) -> list[EndpointKey]:
        """Let the lanes follow the configuration; the keys whose pending deliveries are to be cancelled now."""
        self.environment = config.environment
        self.namespace = config.namespace
        policy = config.environment.egress if config.environment else EgressPolicy()
        wanted = {EndpointKey(item.identity.name, item.identity.uid): item for item in config.endpoints}
        gone = self._drop(wanted.keys())
        for key, endpoint in wanted.items():
            self._place(key, endpoint, policy)
        self._policy = policy
        return gone

    def owns(self, key: EndpointKey) -> bool:
        """Whether this process alone delivers for the endpoint."""
        return self.owned is None or slot_of(key) in self.owned

    def present(self, key: EndpointKey) -> Lane | None:
        """The endpoint's lane, as long as it is that endpoint's."""
        lane = self.lanes.get(key.name)
        return lane if lane is not None and lane.key == key else None

    def rested(self, lane: Lane) -> None:
        """An attempt of a lane that was taken away ended: with the last one it is forgotten."""
        departed = self.departed.get(lane.key)
        if departed is not None and not departed.under_way:
            del self.departed[lane.key]

    def _drop(self, wanted: Iterable[EndpointKey]) -> list[EndpointKey]:
        """Remove lanes whose endpoint is no more; returns every key that may still have pending deliveries."""
        kept = set(wanted)
        gone = [lane.key for lane in self.lanes.values() if lane.key not in kept]
        for key in gone:
            lane = self.lanes.pop(key.name)
            if lane.under_way:
                self.departed[key] = lane
            self.memories[key] = Memory(counts=lane.activity.counts, state=lane.state)
            self._hands.release(lane)
            self._hands.retire(lane)
            self._transport.forget(key)
            if self.owned is not None and lane.is_busy:
                self.dropped = [*(other for other in self.dropped if other.is_busy), lane]
        waiting = [key for key, memory in self.memories.items() if memory.counts.pending and key not in kept]
        if self.owned is not None:  # whether they are cancelled, and by whom, is not for this process alone to say
            return [key for key in dict.fromkeys([*gone, *waiting]) if self.owns(key)]
        for key in (*gone, *waiting):
            self.memories[key].without_pending()
        return list(dict.fromkeys([*gone, *waiting]))

    def _place(self, key: EndpointKey, endpoint: EndpointConfig, policy: EgressPolicy) -> None:
        lane = self.lanes.get(key.name)
        if lane is None:
            lane = self._new_lane(key, endpoint)
            self.lanes[key.name] = lane
        elif lane.config == endpoint and policy == self._policy:
            lane.config = endpoint
            return
        sealed = self._seal(endpoint, policy)
        if lane.config is not endpoint:
            self._adjust(lane, endpoint)
        if lane.sealed is None or sealed is None or not lane.sealed.same_destination(sealed):
            self._transport.forget(key)
        lane.config, lane.sealed = endpoint, sealed
        lane.backlog = lane.backlog or lane.activity.counts.pending > 0
        self._hands.changed(lane)

    def _new_lane(self, key: EndpointKey, endpoint: EndpointConfig) -> Lane:
        memory = self.memories.pop(key, None)
        rate = _rate(endpoint, None)
        if memory is None:
            memory = Memory()
        elif rate is not None:
            rate = Rate.after_restart(rate.per_second, self._clock.monotonic())
        before = self.departed.pop(key, None)
        slot = -1 if self.owned is None else slot_of(key)
        owned = self.owned is None or slot in self.owned
        return Lane(
            key=key,
            config=endpoint,
            sealed=None,
            state=memory.state,
            shown=memory.state,
            activity=memory.activity(now_ms=self._clock.now_ms()),
            rate=rate,
            next_due_ms=memory.next_due_ms,
            before=before,
            # What is under way there was cancelled meanwhile.
            intervened_ms=-1 if before is None else self._clock.now_ms(),
            slot=slot,
            owned=owned,
            yielded=None if owned else -1,
        )

    def restore(self, lane: Lane, memory: Memory) -> None:
        """Let the lane go on as another process left it."""
        self.show(lane, memory)
        rate = _rate(lane.config, None)
        lane.rate = None if rate is None else Rate.after_restart(rate.per_second, self._clock.monotonic())
        lane.next_due_ms = memory.next_due_ms
        lane.backlog = lane.backlog or memory.counts.pending > 0
        lane.owned, lane.yielded = True, None
        self._without_circuit(lane, lane.config)

    def show(self, lane: Lane, memory: Memory) -> None:
        """Let the lane tell what another process made of it."""
        lane.state = lane.shown = memory.state
        lane.activity = memory.activity(now_ms=self._clock.now_ms())

    def _adjust(self, lane: Lane, endpoint: EndpointConfig) -> None:
        lane.rate = _rate(endpoint, lane.rate)
        if endpoint.delivery.ordering is not lane.config.delivery.ordering:
            self._hands.release(lane)  # what was claimed was claimed by the other rule
        if lane.owned:
            self._without_circuit(lane, endpoint)

    def _without_circuit(self, lane: Lane, endpoint: EndpointConfig) -> None:
        if endpoint.delivery.circuit_breaker is CircuitBreaker.NONE and lane.state.circuit_opened_ms is not None:
            self._hands.set_state(lane, pacing.without_circuit(lane.state))

    def _seal(self, endpoint: EndpointConfig, policy: EgressPolicy) -> Sealed | None:
        if endpoint.hold is not None or endpoint.url is None:
            return None
        try:
            return Sealed(endpoint, policy=policy, user_agent=self._user_agent)
        except KeyMaterialError as error:
            # compile() refuses such keys; one damaged endpoint must not keep the others from their configuration.
            name = endpoint.identity.name
            log.error("held: unusable key", extra={"action": "held", "endpoint": name, "error": str(error)})
            return None


def _rate(endpoint: EndpointConfig, before: Rate | None) -> Rate | None:
    limit = endpoint.delivery.requests_per_second
    if limit is None:
        return None
    if before is None:
        return Rate(limit)
    return before if before.per_second == limit else Rate(limit, tat=before.tat)
