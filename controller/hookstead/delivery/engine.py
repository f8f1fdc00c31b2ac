"""The engine: the data plane of one environment behind its five ports. Everything a shell calls is here."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from hookstead.config.model import DeliveryConfig, RetentionPolicy
from hookstead.config.report import EndpointReport, EnvironmentActivity, NamedActivity, ReplayReport, Report, Running
from hookstead.delivery import reporting
from hookstead.delivery.activity import RECENT_LIMIT
from hookstead.delivery.budget import MemoryBudget
from hookstead.delivery.clock_watch import ClockWatch, went_back
from hookstead.delivery.dispatcher import Dispatcher
from hookstead.delivery.event_counters import EventCounters
from hookstead.delivery.intake import IncomingEvent, OperateRefusal, PublishResult, TestResult
from hookstead.delivery.observer import NullObserver, Observer
from hookstead.delivery.ports import (
    Clock,
    Random,
    RedeliveryRefusal,
    Store,
    StoreError,
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
_CLOCK_BLOB: Final = "wall-clock"
"""Milliseconds that the wall clock has shown: one that shows less at the next start went back."""
RECOUNT_SECONDS: Final = 0.05
"""How long several reasons to count again wait for each other."""
_COUNTERS_BLOB: Final = "event-counters"


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
    """Start, apply a configuration, publish; drain and stop at the end. One event loop."""

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
        self._config: DeliveryConfig | None = None
        self._running = Running(instance="", version="")
        self._applying = asyncio.Lock()
        self._housekeeping: asyncio.Task[None] | None = None
        self._recounting: asyncio.Task[None] | None = None
        self._watch = ClockWatch(clock.now_ms(), 0.0)
        self._behind_ms = 0

    # ------------------------------------------------------------------------------------------ life

    async def start(self) -> None:
        """Read the store's memory. Nothing is sent, and every event refused, until `apply`."""
        saved = await self._store.get_blob(_CLOCK_BLOB)
        now_ms = self._clock.now_ms()
        back_ms = 0 if saved is None else went_back(expected_ms=int(saved), now_ms=now_ms)
        if back_ms:
            await self._bring_forward(back_ms, now_ms=now_ms)
        self._dispatcher.start(await self._store.boot(recent_limit=RECENT_LIMIT))
        if back_ms:
            self._dispatcher.clock_went_back(back_ms)
        self._watch = ClockWatch(self._clock.now_ms(), self._clock.monotonic())
        saved = await self._store.get_blob(_COUNTERS_BLOB)
        if saved is not None:
            self._counters.restore(saved)
        loop = asyncio.get_running_loop()
        self._housekeeping = loop.create_task(self._keep_house(), name="housekeeping")
        self._recounting = loop.create_task(self._recount(), name="recount")

    async def apply(self, config: DeliveryConfig, *, running: Running) -> None:
        """Put a configuration in force, as a whole; returns when it is. `running` goes into reports."""
        async with self._applying:
            self._publisher.apply(config)
            self._config, self._running = config, running
            self._replayer.apply(config)  # before anything is awaited: it must not deliver to what is being cancelled
            await self._dispatcher.apply(config)
            for endpoint in config.endpoints:
                self._resume_if_asked(endpoint.identity.name, endpoint.resume_requested_at)
            self._dispatcher.versions.transition()

    def _resume_if_asked(self, name: str, request: str | None) -> None:
        lane = self._dispatcher.lanes.get(name)
        if lane is not None and request is not None and lane.state.handled_resume_at != request:
            self._dispatcher.resume(lane, request)
            self._dispatcher.pump(lane)

    async def drain(self, *, deadline_seconds: float) -> None:
        """Refuse new events, finish what is in flight within the deadline, give the rest back to the store.

        Returns FLUSH_SECONDS after the deadline at the latest, also when the store answers nobody: what is not
        recorded then is sent again by the next life.
        """
        ends = self._clock.monotonic() + deadline_seconds
        try:
            async with asyncio.timeout(deadline_seconds + FLUSH_SECONDS):
                await self._publisher.drain()
                await self._replayer.stop()
                await self._dispatcher.drain(deadline_seconds=max(0.0, ends - self._clock.monotonic()))
        except TimeoutError:
            log.error("the store did not take everything in time", extra={"action": "drain_incomplete"})

    def end_waits(self) -> None:
        """Answer everybody who waits for a transition with what there is: a stop must not wait for them."""
        self._dispatcher.versions.close()

    async def stop(self) -> None:
        """End every task. Without `drain` this is a crash that saves its counters."""
        for task in (self._housekeeping, self._recounting):
            if task is not None:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
        await self._replayer.stop()
        await self._dispatcher.stop()
        await self._save_counters()

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
        lane.manual_requested = True
        self._dispatcher.left_in_store(lane)
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
        await self._refresh_counts()
        return True

    # ------------------------------------------------------------------------------------------ look

    def endpoint_report(self, name: str) -> EndpointReport | None:
        """One endpoint as it is now; None when the configuration has no such endpoint."""
        lane = self._dispatcher.lanes.get(name)
        return None if lane is None else reporting.endpoint_report(lane, now_ms=self._clock.now_ms())

    def channel_activity(self) -> tuple[NamedActivity, ...]:
        """Every declared channel that was counted, by its wire name."""
        return self._counters.channels()

    def event_type_activity(self) -> tuple[NamedActivity, ...]:
        """Every declared event type that was counted."""
        return self._counters.event_types()

    def replay_report(self, uid: str) -> ReplayReport | None:
        """One replay as it is now; None before it began."""
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
        lanes = self._dispatcher.lanes.values()
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

    # ------------------------------------------------------------------------------------------ housekeeping

    async def _keep_house(self) -> None:
        """Retention, counts as the store has them, timers after a step of the wall clock."""
        while True:
            await asyncio.sleep(self._settings.housekeeping_seconds)
            try:
                await self._follow_clock()
                await self._expire()
                await self._refresh_counts()
                await self._save_counters()
            except StoreError as error:
                log.warning("housekeeping failed", extra={"action": "housekeeping_failed", "error": str(error)})
            except Exception:
                # A fault of ours in one chore must not end all of them without a word: the disk would fill up.
                log.exception("housekeeping failed", extra={"action": "housekeeping_failed"})
            self._dispatcher.resync()

    async def _follow_clock(self) -> None:
        """What waits must not wait longer because the wall clock went back."""
        now_ms = self._look_at_clock()
        if self._behind_ms:
            await self._bring_forward(self._behind_ms, now_ms=now_ms)
            self._dispatcher.clock_went_back(self._behind_ms)
            self._behind_ms = 0

    def _look_at_clock(self) -> int:
        now_ms = self._clock.now_ms()
        self._behind_ms += self._watch.look(now_ms=now_ms, monotonic=self._clock.monotonic())
        return now_ms

    async def _bring_forward(self, back_ms: int, *, now_ms: int) -> None:
        log.warning(
            "the wall clock went back by %d s: what waits keeps what is left of its wait",
            back_ms // 1000,
            extra={"action": "clock_went_back", "milliseconds": back_ms},
        )
        await self._store.bring_forward(step_ms=back_ms, now_ms=now_ms)
        await self._store.put_blob(_CLOCK_BLOB, b"%d" % now_ms)

    async def _expire(self) -> None:
        environment = self._config.environment if self._config is not None else None
        retention = RetentionPolicy() if environment is None else environment.retention
        while await self._store.expire(
            retention,
            now_ms=self._clock.now_ms(),
            limit=self._settings.retention_batch,
            ended=self._dispatcher.announcements.cancelled,
        ):
            log.debug("retired a batch", extra={"action": "retired"})
        if self._config is not None and self._settings.forget_replays:
            present = {replay.identity.uid for replay in self._config.replays}
            await self._store.forget_replays(present, retention, now_ms=self._clock.now_ms())

    async def _recount(self) -> None:
        """Take the counts from the store soon after the engine could not tell them by itself."""
        while True:
            await self._dispatcher.recount.wait()
            await asyncio.sleep(RECOUNT_SECONDS)
            self._dispatcher.recount.clear()
            try:
                await self._refresh_counts()
            except StoreError as error:
                log.warning("not counted yet", extra={"action": "recount_failed", "error": str(error)})

    async def _refresh_counts(self) -> None:
        for key, counts in (await self._store.counts()).items():
            lane = self._dispatcher.lanes.get(key.name)
            if lane is not None and lane.key == key and lane.activity.counts != counts:
                lane.activity.counts = counts
                self._dispatcher.touched(lane)

    async def _save_counters(self) -> None:
        now_ms = self._look_at_clock()
        # A step that was not followed yet must still be seen by the next life.
        clock = () if self._behind_ms else (self._store.put_blob(_CLOCK_BLOB, b"%d" % now_ms),)
        try:
            await asyncio.gather(self._store.put_blob(_COUNTERS_BLOB, self._counters.save()), *clock)
        except StoreError as error:
            log.warning("counters not saved", extra={"action": "save_failed", "error": str(error)})
