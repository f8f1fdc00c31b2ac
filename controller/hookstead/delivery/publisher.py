"""From an incoming event to stored deliveries: gate, route, accept, hand over to the lanes."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from hookstead.config.model import DeliveryConfig, EndpointConfig
from hookstead.config.times import format_time
from hookstead.delivery.dispatcher import Dispatcher
from hookstead.delivery.event_catalog import Catalog, ValidatorCache
from hookstead.delivery.event_counters import EventCounters
from hookstead.delivery.intake import IncomingEvent, PublishResult, RefusalKind, Refused
from hookstead.delivery.lane import Lane
from hookstead.delivery.observer import Observer
from hookstead.delivery.ports import (
    Accepted,
    CancelReason,
    Clash,
    Clock,
    DeliveryStatus,
    Duplicate,
    EndpointKey,
    Job,
    NewDelivery,
    NewEvent,
    Random,
    Store,
    StoreError,
    StoreFull,
    Trigger,
)
from hookstead.delivery.routing import Router
from hookstead.resources.event_filter import EventView
from hookstead.resources.kinds import EndpointState

TRANSACTION_DELIVERIES: Final = 10_000


@dataclass(slots=True)
class _Routed:
    """One event on its way into the store, with the lanes that its claimed deliveries reserved."""

    index: int
    event: NewEvent
    lanes: list[Lane | None]


class Publisher:
    """Accepts events under the configuration in force. One event loop."""

    def __init__(
        self,
        *,
        store: Store,
        dispatcher: Dispatcher,
        clock: Clock,
        random: Random,
        observer: Observer,
        counters: EventCounters,
        backlog_limit: int,
    ) -> None:
        self._store = store
        self._dispatcher = dispatcher
        self._clock = clock
        self._random = random
        self._observer = observer
        self._counters = counters
        self._backlog_limit = backlog_limit
        self._validators = ValidatorCache()
        self._router: Router | None = None
        self._catalog: Catalog | None = None
        self._enabled = False
        self._under_way = 0
        self._draining = False
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def catalog(self) -> Catalog | None:
        return self._catalog

    def apply(self, config: DeliveryConfig) -> None:
        """Route and validate by this configuration from the next event on."""
        self._router = Router(config)
        self._catalog = Catalog(config, self._validators)
        self._enabled = config.enabled
        self._counters.declare(config, alone=self._store.peers is None)

    async def drain(self) -> None:
        """Refuse from now on; returns when the store has answered for everything that was let in."""
        self._draining = True
        await self._idle.wait()

    async def publish(self, events: Sequence[IncomingEvent]) -> Sequence[PublishResult]:
        """Answers in input order, after the fsync for those that were accepted.

        Goes on when the caller is cancelled: what the store took is handed to the lanes all the same.
        """
        refused = self._closed(len(events))
        if refused is not None:
            return [refused] * len(events)
        self._under_way += len(events)
        self._idle.clear()
        task = asyncio.get_running_loop().create_task(self._publish(events))
        return await asyncio.shield(task)

    def _closed(self, count: int) -> Refused | None:
        if self._draining:
            return Refused(RefusalKind.DRAINING, "The gateway is shutting down; send the event again.", 1)
        if self._router is None:
            return Refused(
                RefusalKind.NOT_CONFIGURED, "This gateway has no configuration yet; send the event again.", 5
            )
        if not self._enabled:
            return Refused(
                RefusalKind.ENVIRONMENT_DISABLED,
                "Webhooks are disabled here: it takes a WebhookEnvironment default with spec.state: Enabled.",
            )
        if self._under_way + count > self._backlog_limit:
            return Refused(RefusalKind.SATURATED, "Too many events are waiting for the disk; slow down.", 1)
        return None

    async def _publish(self, events: Sequence[IncomingEvent]) -> Sequence[PublishResult]:
        results: list[PublishResult | None] = [None] * len(events)
        waiting: list[_Routed] = []
        try:
            # Before the selection: between it and the store nobody may bring another configuration.
            await self._dispatcher.recorder.join()
            for index, event in enumerate(events):
                prepared = self._prepare(index, event)
                if isinstance(prepared, Refused):
                    results[index] = prepared
                else:
                    waiting.append(prepared)
            for together in tuple(_transactions(waiting)):
                del waiting[: len(together)]
                for item, answer in zip(together, await self._accept(together), strict=True):
                    results[item.index] = answer
            return [result for result in results if result is not None]
        finally:
            self._forget(waiting)  # none but where something broke
            self._under_way -= len(events)
            if not self._under_way:
                self._idle.set()

    def _prepare(self, index: int, event: IncomingEvent) -> _Routed | Refused:
        catalog, router = self._catalog, self._router
        if catalog is None or router is None:
            return Refused(RefusalKind.NOT_CONFIGURED, "No configuration is in force.", 5)
        mismatch = catalog.check(event)
        refused = catalog.enforced(event, mismatch)
        if refused is not None:
            self._counters.refused(event.type, refused.kind)
            return refused
        if mismatch is not None:
            self._counters.warned(event.type)
        return self._route(index, event, router)

    def _route(self, index: int, event: IncomingEvent, router: Router) -> _Routed:
        now_ms = self._clock.now_ms()
        event_id = self._random.event_id()
        timestamp = event.timestamp or b'"%s"' % format_time(now_ms).encode()
        channels = event.channels if len(event.channels) < 2 else tuple(dict.fromkeys(event.channels))
        route = router.route(
            event.type,
            channels,
            lambda: EventView(type=event.type, channels=channels, id=event_id, timestamp=timestamp, data=event.data),
        )
        if route.filter_errors:
            self._counters.filter_failed(route.filter_errors)
        lanes: list[Lane | None] = []
        deliveries = []
        for endpoint in route.endpoints:
            lane = self._lane_of(endpoint)
            claimed = lane is not None and self._dispatcher.claims.reserve(lane, len(event.data))
            lanes.append(lane)
            deliveries.append(
                NewDelivery(
                    id=self._random.delivery_id(),
                    endpoint=EndpointKey(endpoint.identity.name, endpoint.identity.uid),
                    payload_format=endpoint.payload_format,
                    claimed=claimed,
                )
            )
        accepted = NewEvent(
            id=event_id,
            type=event.type,
            channels=channels,
            timestamp=timestamp,
            data=event.data,
            digest=_digest(event, channels) if event.caller_id is not None else b"",
            accepted_ms=now_ms,
            caller_id=event.caller_id,
            source=event.source,
            traceparent=event.traceparent,
            deliveries=tuple(deliveries),
        )
        return _Routed(index, accepted, lanes)

    def _lane_of(self, endpoint: EndpointConfig) -> Lane | None:
        lane = self._dispatcher.lanes.get(endpoint.identity.name)
        return lane if lane is not None and lane.key.uid == endpoint.identity.uid else None

    async def _accept(self, routed: Sequence[_Routed]) -> Sequence[PublishResult]:
        try:
            answers = await self._store.accept([item.event for item in routed])
        except BaseException as error:
            # Whatever it was: room that stayed reserved would be lost to its lanes for good.
            self._forget(routed)
            if not isinstance(error, StoreError):
                raise
            return [_refused(error)] * len(routed)
        touched: dict[EndpointKey, Lane] = {}
        for item, answer in zip(routed, answers, strict=True):
            self._hand_over(item, answer, touched)
        for lane in touched.values():
            self._dispatcher.pump(lane)
        return answers

    def _forget(self, routed: Sequence[_Routed]) -> None:
        for item in routed:
            self._unreserve(item)

    def _unreserve(self, item: _Routed) -> None:
        for lane, delivery in zip(item.lanes, item.event.deliveries, strict=True):
            if lane is not None and delivery.claimed:
                self._dispatcher.claims.unreserve(lane)

    def _hand_over(self, item: _Routed, answer: Accepted | Duplicate | Clash, touched: dict[EndpointKey, Lane]) -> None:
        if not isinstance(answer, Accepted):
            self._counters.repeated(clash=isinstance(answer, Clash))
            self._unreserve(item)
            return
        event = item.event
        self._counters.accepted(event.type, event.channels, now_ms=event.accepted_ms)
        self._observer.event_accepted(event.id, event.type, event.channels, answer.endpoints)
        for lane, delivery in zip(item.lanes, event.deliveries, strict=True):
            self._deliver(event, delivery, lane, touched)

    def _deliver(
        self, event: NewEvent, delivery: NewDelivery, lane: Lane | None, touched: dict[EndpointKey, Lane]
    ) -> None:
        current = self._dispatcher.lanes.get(delivery.endpoint.name)
        if lane is not None and current is lane:
            lane.activity.added(1)
            self._dispatcher.touched(lane)
            if delivery.claimed:
                self._dispatcher.claims.enqueue(lane, _job(event, delivery))
            else:
                self._dispatcher.claims.left_in_store(lane)
            touched[delivery.endpoint] = lane
            if lane.config.state is not EndpointState.DISABLED:
                return
        # The configuration changed between selection and commit.
        if delivery.claimed and lane is not None and current is not lane:
            self._dispatcher.claims.disown(lane, delivery.id)
        reason = CancelReason.ENDPOINT_DELETED if current is not lane else CancelReason.ENDPOINT_DISABLED
        self._dispatcher.cancel_soon(delivery.endpoint, reason)


def _refused(error: StoreError) -> Refused:
    if isinstance(error, StoreFull):
        return Refused(RefusalKind.STORE_FULL, str(error), 30)
    return Refused(RefusalKind.STORE_UNAVAILABLE, str(error), 5)


def _transactions(routed: Sequence[_Routed]) -> Iterator[Sequence[_Routed]]:
    """The events, in order, in runs of a bounded number of deliveries: a large batch for many must not hold the disk.

    One event's deliveries stay together, however many they are.
    """
    start, deliveries = 0, 0
    for end, item in enumerate(routed):
        deliveries += len(item.event.deliveries)
        if deliveries > TRANSACTION_DELIVERIES and end > start:
            yield routed[start:end]
            start, deliveries = end, len(item.event.deliveries)
    if routed:
        yield routed[start:]


def _digest(event: IncomingEvent, channels: tuple[str, ...]) -> bytes:
    """What must be equal for a repeated caller's id to be the same event."""
    head = "\x00".join((event.type, ",".join(sorted(channels)))).encode()
    return hashlib.sha256(b"\x00".join((head, event.timestamp or b"", event.data))).digest()


def _job(event: NewEvent, delivery: NewDelivery) -> Job:
    return Job(
        delivery_id=delivery.id,
        endpoint=delivery.endpoint,
        event_id=event.id,
        event_type=event.type,
        timestamp=event.timestamp,
        data=event.data,
        payload_format=delivery.payload_format,
        trigger=Trigger.SCHEDULED,
        status=DeliveryStatus.PENDING,
        attempt_count=0,
        schedule_position=0,
        due_ms=event.accepted_ms,
        channels=event.channels,
        source=event.source,
        traceparent=event.traceparent,
    )
