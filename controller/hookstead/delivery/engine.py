"""The engine: the data plane of one environment behind its five ports. Everything a shell calls is here."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from hookstead.config.model import DeliveryConfig
from hookstead.config.report import EndpointReport, EnvironmentActivity, NamedActivity, ReplayReport, Report, Running
from hookstead.delivery import reporting
from hookstead.delivery.activity import RECENT_LIMIT
from hookstead.delivery.budget import MemoryBudget
from hookstead.delivery.dispatcher import Dispatcher
from hookstead.delivery.event_counters import EventCounters
from hookstead.delivery.housekeeping import Housekeeping
from hookstead.delivery.intake import IncomingEvent, OperateRefusal, PublishResult, TestResult
from hookstead.delivery.observer import NullObserver, Observer
from hookstead.delivery.ownership import Ownership
from hookstead.delivery.ports import (
    Clock,
    Random,
    RedeliveryRefusal,
    Store,
    Transport,
)
from hookstead.delivery.probe import send_test
from hookstead.delivery.publisher import Publisher
from hookstead.delivery.queue_age import queue_age_ms
from hookstead.delivery.replayer import Replayer
from hookstead.resources.kinds import EndpointState

log = logging.getLogger(__name__)

FLUSH_SECONDS: Final = 2.0
"""How long a drain waits for the store behind its deadline."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineSettings:
    """Bounds. `publish_backlog` counts events between HTTP and the disk; the memory limits are for
    claimed jobs that wait, the attempt limits for those under way; beyond these each endpoint has one attempt.

    `forget_replays`: a replay whose object is gone is forgotten with the retention. False where an object that comes
    back has the same uid however late: it must not run again.
    """

    user_agent: str = "Hookstead"
    linger_seconds: float = 0.025
    publish_backlog: int = 10_000
    memory_jobs: int = 4096
    memory_bytes: int = 8 * 1024 * 1024
    attempts: int = 50_000
    attempt_bytes: int = 64 * 1024 * 1024
    housekeeping_seconds: float = 10.0
    retention_batch: int = 1000
    forget_replays: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineMetrics:
    """Counters for a scrape. Endpoint names are the manifests'; nothing here comes from a caller."""

    events: Mapping[str, int]
    attempts: Mapping[tuple[str, str], int]
    deliveries: Mapping[tuple[str, str], int]
    queue_age_ms: int
    filter_errors: Mapping[str, int]
    undeclared_channels: int
    mismatches: int
    in_flight: int
    memory_jobs: int


class Engine:
    """Start, apply a configuration, publish; drain and stop at the end. One event loop.

    Where the store has peers, their clock is the engine's.
    """

    def __init__(
        self,
        *,
        store: Store,
        transport: Transport,
        clock: Clock,
        random: Random,
        settings: EngineSettings | None = None,
        observer: Observer | None = None,
    ) -> None:
        self._settings = settings or EngineSettings()
        self._store = store
        peers = store.peers
        clock = clock if peers is None else peers.clock
        self._transport = transport
        self._clock = clock
        self._random = random
        self._counters = EventCounters()
        self._budget = MemoryBudget(job_limit=self._settings.memory_jobs, byte_limit=self._settings.memory_bytes)
        watcher = observer or NullObserver()
        self._dispatcher = Dispatcher(
            store=store,
            transport=transport,
            clock=clock,
            random=random,
            observer=watcher,
            user_agent=self._settings.user_agent,
            budget=self._budget,
            under_way=MemoryBudget(job_limit=self._settings.attempts, byte_limit=self._settings.attempt_bytes),
            linger_seconds=self._settings.linger_seconds,
        )
        self._replayer = Replayer(store=store, dispatcher=self._dispatcher, clock=clock, random=random)
        self._publisher = Publisher(
            store=store,
            dispatcher=self._dispatcher,
            clock=clock,
            random=random,
            observer=watcher,
            counters=self._counters,
            backlog_limit=self._settings.publish_backlog,
        )
        self._housekeeping = Housekeeping(
            store=store,
            dispatcher=self._dispatcher,
            counters=self._counters,
            clock=clock,
            random=random,
            config=lambda: self._config,
            seconds=self._settings.housekeeping_seconds,
            retention_batch=self._settings.retention_batch,
            forget_replays=self._settings.forget_replays,
        )
        self._ownership = (
            None
            if peers is None
            else Ownership(
                store=store,
                peers=peers,
                dispatcher=self._dispatcher,
                replayer=self._replayer,
                share=self._housekeeping.share_counters,
                clock=clock,
            )
        )
        self._config: DeliveryConfig | None = None
        self._running = Running(instance="", version="")
        self._applying = asyncio.Lock()

    # ------------------------------------------------------------------------------------------ life

    async def start(self) -> None:
        """Read the store's memory. Nothing is sent, and every event refused, until `apply`."""
        back_ms = await self._housekeeping.before_boot()
        self._dispatcher.start(await self._store.boot(recent_limit=RECENT_LIMIT))
        if back_ms:
            self._dispatcher.clock_went_back(back_ms)
        await self._housekeeping.start()

    async def apply(self, config: DeliveryConfig, *, running: Running) -> None:
        """Put a configuration in force, as a whole; returns when it is. `running` goes into reports."""
        async with self._applying:
            if self._ownership is not None:
                await self._ownership.announce(running.epoch)
            self._publisher.apply(config)
            self._config, self._running = config, running
            self._replayer.apply(config)  # before anything is awaited: it must not deliver to what is being cancelled
            if self._ownership is not None:
                await self._ownership.apply(config, epoch=running.epoch)
            else:
                await self._dispatcher.apply(config)
            for lane in tuple(self._dispatcher.lanes.values()):
                self._dispatcher.resume_if_asked(lane)
            self._dispatcher.versions.transition()

    async def drain(self, *, deadline_seconds: float) -> None:
        """Refuse new events, finish what is in flight within the deadline, give the rest back to the store.

        Returns FLUSH_SECONDS after the deadline at the latest, also when the store answers nobody: what is not
        recorded then is sent again by the next life.
        """
        ends = self._clock.monotonic() + deadline_seconds
        try:
            async with asyncio.timeout(deadline_seconds + FLUSH_SECONDS):
                await self._publisher.drain()
                if self._ownership is None:
                    await self._replayer.stop()
                else:
                    self._ownership.retire()
                await self._dispatcher.drain(deadline_seconds=max(0.0, ends - self._clock.monotonic()))
                if self._ownership is not None:
                    await self._ownership.let_all_go()
        except TimeoutError:
            log.error("the store did not take everything in time", extra={"action": "drain_incomplete"})

    def end_waits(self) -> None:
        """Answer everybody who waits for a transition with what there is: a stop must not wait for them."""
        self._dispatcher.versions.close()

    async def stop(self) -> None:
        """End every task. Without `drain` this is a crash that saves its counters."""
        await self._housekeeping.stop()
        if self._ownership is not None:
            await self._ownership.stop()
        await self._replayer.stop()
        await self._dispatcher.stop()
        await self._housekeeping.save()

    # ------------------------------------------------------------------------------------------ use

    @property
    def config(self) -> DeliveryConfig | None:
        """The configuration in force; None before the first."""
        return self._config

    @property
    def running(self) -> Running:
        return self._running

    async def publish(self, events: Sequence[IncomingEvent]) -> Sequence[PublishResult]:
        """Results in input order; those accepted are on stable storage. Survives the caller's cancellation."""
        return await self._publisher.publish(events)

    async def redeliver(self, delivery_id: str) -> OperateRefusal | None:
        """Ask for one manual attempt; None when it is on its way. The automatic schedule stays as it is."""
        found = await self._store.delivery(delivery_id)
        if found is None or self._config is None:
            return OperateRefusal.NOT_FOUND
        lane = self._dispatcher.lanes.get(found[0].endpoint)
        if lane is None:
            return OperateRefusal.NOT_FOUND
        if lane.config.state is EndpointState.DISABLED:
            return OperateRefusal.ENDPOINT_DISABLED
        answer = await self._store.request_redelivery(delivery_id, now_ms=self._clock.now_ms())
        if isinstance(answer, RedeliveryRefusal):
            return OperateRefusal(answer.value)
        if answer != lane.key:
            return OperateRefusal.NOT_FOUND
        if lane.owned:
            lane.manual_requested = True
            self._dispatcher.claims.left_in_store(lane)
            self._dispatcher.pump(lane)
        return None

    async def test(self, endpoint: str, *, event_type: str | None) -> TestResult | OperateRefusal:
        """Send a sample at once; stored and counted nowhere."""
        lane = self._dispatcher.lanes.get(endpoint)
        if lane is None or self._config is None:
            return OperateRefusal.NOT_FOUND
        return await send_test(
            lane,
            config=self._config,
            event_type=event_type,
            transport=self._transport,
            clock=self._clock,
            random=self._random,
        )

    async def erase(self, event_id: str) -> bool:
        """Erase a payload; its pending deliveries are cancelled. False when there is no such event."""
        endpoints = await self._store.erase_payload(
            event_id, now_ms=self._clock.now_ms(), ended=self._dispatcher.announcements.cancelled
        )
        if endpoints is None:
            return False
        self._dispatcher.erased(event_id, endpoints)
        await self._housekeeping.refresh_counts()
        return True

    # ------------------------------------------------------------------------------------------ look

    async def look_up(self, *, endpoints: Collection[str] | None = (), replays: Collection[str] = ()) -> None:
        """Read what other processes made of these endpoints (names; None: all) and replays (uids), so that their
        reports are as of now. Raises StoreError."""
        if self._ownership is not None:
            await self._ownership.look_up(endpoints)
            await self._replayer.look_up(replays)

    def endpoint_report(self, name: str) -> EndpointReport | None:
        """One endpoint as it is now (see `look_up`); None when the configuration has no such endpoint."""
        lane = self._dispatcher.lanes.get(name)
        return None if lane is None else reporting.endpoint_report(lane, now_ms=self._clock.now_ms())

    def channel_activity(self) -> tuple[NamedActivity, ...]:
        """Every declared channel that was counted, by its wire name."""
        return self._counters.channels()

    def event_type_activity(self) -> tuple[NamedActivity, ...]:
        """Every declared event type that was counted."""
        return self._counters.event_types()

    def replay_report(self, uid: str) -> ReplayReport | None:
        """One replay as it is now (see `look_up`); None before it began."""
        return self._replayer.report(uid)

    def report(self, *, after: str | None) -> Report:
        """Everything that changed after the cursor; everything for a cursor of another life, or none."""
        return reporting.report(
            self._dispatcher.lanes,
            running=self._running,
            counters=self._counters,
            replayer=self._replayer,
            environment=self.environment_activity(),
            version=self._dispatcher.versions.current,
            after=after,
            now_ms=self._clock.now_ms(),
        )

    async def report_changed(self, *, after: str, timeout_seconds: float) -> None:
        """Wait until a transition happened after the cursor, or the time is up."""
        version = reporting.version_of(after, instance=self._running.instance)
        if version is not None:
            await self._dispatcher.versions.transition_after(version, timeout_seconds=timeout_seconds)

    def environment_activity(self) -> EnvironmentActivity:
        return reporting.environment_activity(self._dispatcher.lanes, self._counters)

    def metrics(self) -> EngineMetrics:
        lanes = [lane for lane in self._dispatcher.lanes.values() if lane.owned]  # so that a sum over processes is true
        environment = self._config.environment if self._config is not None else None
        return EngineMetrics(
            events=dict(self._counters.results),
            attempts=dict(self._dispatcher.attempts),
            deliveries={
                (lane.key.name, status): count
                for lane in lanes
                for status, count in reporting.counts_by_status(lane).items()
            },
            queue_age_ms=queue_age_ms(
                lanes, environment=environment, now_ms=self._clock.now_ms(), monotonic=self._clock.monotonic()
            ),
            filter_errors=dict(self._counters.filter_errors),
            undeclared_channels=self._counters.undeclared_channels,
            mismatches=self._counters.mismatches,
            in_flight=self._dispatcher.in_flight,
            memory_jobs=self._budget.jobs,
        )
