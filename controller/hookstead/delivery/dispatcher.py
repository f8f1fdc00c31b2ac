"""The loop that turns pending deliveries into attempts: lanes, their timers, and what follows an attempt."""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Coroutine, Iterable
from typing import Any, Final

from hookstead.config.model import DeliveryConfig
from hookstead.delivery import attempt, clock_watch, pacing
from hookstead.delivery.announcements import Announcements
from hookstead.delivery.attempt import Outcome
from hookstead.delivery.budget import MemoryBudget
from hookstead.delivery.claims import STORE_RETRY_SECONDS, Claims
from hookstead.delivery.conclusion import Timing, conclude, next_state
from hookstead.delivery.handover import Handover
from hookstead.delivery.lane import Lane, Wait
from hookstead.delivery.observer import Observer
from hookstead.delivery.ports import (
    Boot,
    CancelReason,
    Clock,
    DeliveryStatus,
    EndpointKey,
    Job,
    LaneState,
    Random,
    Store,
    StoreError,
    Transport,
    Trigger,
)
from hookstead.delivery.recorder import Pending, Recorder
from hookstead.delivery.roster import Hands, Roster
from hookstead.delivery.telling import Telling
from hookstead.delivery.wakeups import Wakeups
from hookstead.resources.kinds import EndpointState

log = logging.getLogger(__name__)

RELEASE_AFTER_SECONDS: Final = 5.0
"""A lane that has to wait longer gives its claimed jobs back, so that they do not fill the memory budget."""

UNSIGNED_RETRY_MS: Final = 30_000
FAULT_RETRY_MS: Final = 30_000
LEASE_RETRY_SECONDS: Final = 0.5
"""How soon to look again whether this process may send, where others may have taken it for dead."""
ERASED_LIMIT: Final = 4096
"""Erasures that are remembered, for as long as a claimed job may be older than them."""


class Dispatcher:
    """Runs on one event loop; every method is called there. Owns the lanes."""

    def __init__(
        self,
        *,
        store: Store,
        transport: Transport,
        clock: Clock,
        random: Random,
        observer: Observer,
        user_agent: str,
        budget: MemoryBudget,
        under_way: MemoryBudget,
        linger_seconds: float,
    ) -> None:
        self._telling: Final = Telling(store=store, observer=observer, clock=clock)
        self.versions: Final = self._telling.versions
        self.attempts: Final = self._telling.attempts
        self.recorder = Recorder(store=store, committed=self._committed, linger_seconds=linger_seconds)
        self.recount: Final = asyncio.Event()
        self._store = store
        self._transport = transport
        self._clock = clock
        self._random = random
        self.announcements: Final = Announcements(observer)
        self._budget = budget
        self._under_way = under_way
        self._wakeups: Wakeups[Lane] = Wakeups(self.pump)
        self._tasks: set[asyncio.Task[None]] = set()
        self._erased: OrderedDict[str, None] = OrderedDict()
        self._stopping = False
        self.claims: Final = Claims(
            store=store,
            clock=clock,
            budget=budget,
            wakeups=self._wakeups,
            held_back=lambda lane: self._stopping or lane.hold(self._roster.environment) is not None,
            spawn=self._spawn,
            pump=self.pump,
        )
        self._abandoned: list[str] = []
        self._peers: Final = store.peers
        hands = Hands(
            release=self.claims.release,
            retire=self._wakeups.cancel,
            changed=self._telling.touched,
            set_state=self._set_state,
        )
        self._roster: Final = Roster(transport=transport, clock=clock, user_agent=user_agent, hands=hands)
        self.lanes: Final = self._roster.lanes
        self.owns: Final = self._roster.owns
        self.handover: Final = Handover(
            roster=self._roster,
            hands=hands,
            recorder=self.recorder,
            versions=self.versions,
            resume=self.resume_if_asked,
            pump=self.pump,
        )

    # ------------------------------------------------------------------------------------------ life

    def start(self, boot: Boot) -> None:
        """Begin with what the store remembers. Nothing is sent before the first `apply`."""
        self._roster.start(boot, shared=self._peers is not None)
        self.recorder.start()

    async def drain(self, *, deadline_seconds: float) -> None:
        """Start nothing more, let what is under way finish until the deadline, give the rest back."""
        self._stopping = True
        self._wakeups.cancel_all()
        released = [self.claims.release(lane) for lane in self.lanes.values()]
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=deadline_seconds)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)
            if self._abandoned and self._peers is not None:
                # Whoever has the endpoint next could not claim them, and would not look again.
                await self.claims.give_back(self._abandoned)
        log.debug("drained", extra={"action": "drained", "released": sum(released)})
        await self.recorder.flushed()

    async def stop(self) -> None:
        """After `drain`; or, without it, at once: what is under way is sent again by the next life."""
        self._stopping = True
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.recorder.stop()
        await self.announcements.stop()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._finished)

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("a delivery task failed", exc_info=error, extra={"action": "task_failed"})

    # ------------------------------------------------------------------------------------------ configuration

    async def apply(self, config: DeliveryConfig) -> None:
        """Put a configuration in force: lanes follow the endpoints, deliveries without one are cancelled."""
        for key in self._roster.apply(config):
            await self.cancel(key, CancelReason.ENDPOINT_DELETED)
        for lane in tuple(self.lanes.values()):
            if lane.config.state is EndpointState.DISABLED and lane.activity.counts.pending:
                await self.cancel(lane.key, CancelReason.ENDPOINT_DISABLED)
        self.pump_all()

    def place(self, config: DeliveryConfig) -> list[EndpointKey]:
        """Lanes follow the endpoints, and nothing else happens yet. Returns whose pending deliveries may have to be
        cancelled: those of this process that are gone or disabled."""
        gone = self._roster.apply(config)
        disabled = (lane for lane in self.lanes.values() if lane.owned and lane.config.state is EndpointState.DISABLED)
        return [*gone, *(lane.key for lane in disabled if lane.activity.counts.pending)]

    def pump_all(self) -> None:
        for lane in tuple(self.lanes.values()):
            self.pump(lane)

    def resume_if_asked(self, lane: Lane) -> None:
        """Re-arm a lane that is gone, suspended or open, where a person asks for it and it was not done yet."""
        request = lane.config.resume_requested_at
        if lane.owned and request is not None and lane.state.handled_resume_at != request:
            self._set_state(lane, pacing.resumed(lane.state, request=request))
            self._telling.touched(lane)
            self.pump(lane)

    def _set_state(self, lane: Lane, state: LaneState) -> None:
        lane.state = lane.shown = state
        self.recorder.save(lane.key, state)

    async def cancel(self, key: EndpointKey, reason: CancelReason) -> None:
        """End every pending delivery of an endpoint that is gone or disabled."""
        try:
            cancelled = await self._store.cancel(
                key, reason=reason, now_ms=self._clock.now_ms(), ended=self.announcements.cancelled
            )
        except StoreError as error:
            log.warning("not cancelled yet", extra={"action": "cancel_failed", "error": str(error)})
            asyncio.get_running_loop().call_later(STORE_RETRY_SECONDS, self._cancel_again, key, reason)
            return
        lane = self.lanes.get(key.name)
        if lane is not None and lane.key == key:
            self.claims.release(lane)
            counts = lane.activity.counts
            lane.activity.counts = counts._replace(
                pending=max(0, counts.pending - cancelled), cancelled=counts.cancelled + cancelled
            )
            lane.intervened_ms = self._clock.now_ms()
            self._telling.touched(lane)
        elif self._peers is not None and (memory := self._roster.memories.get(key)) is not None:
            memory.without_pending()

    def erased(self, event_id: str, endpoints: Iterable[EndpointKey]) -> None:
        """The event's payload is gone from the store; what is claimed of it, or just being claimed, is not sent.

        `endpoints` had deliveries of it that were cancelled.
        """
        for key in endpoints:
            lane = self.lanes.get(key.name)
            if lane is not None and lane.key == key:
                lane.intervened_ms = self._clock.now_ms()
                self.claims.give_back_erased(lane, event_id)
                self.claims.left_in_store(lane)  # in order, the next one waited for this
                self.pump(lane)
        self._erased[event_id] = None
        if len(self._erased) > ERASED_LIMIT:
            self._erased.popitem(last=False)

    def _cancel_again(self, key: EndpointKey, reason: CancelReason) -> None:
        """Unless the endpoint was enabled, or came back, meanwhile."""
        lane = self.lanes.get(key.name)
        wanted = lane is not None and lane.key == key and lane.config.state is not EndpointState.DISABLED
        if not self._stopping and not wanted and self.owns(key):
            self.cancel_soon(key, reason)

    def cancel_soon(self, key: EndpointKey, reason: CancelReason) -> None:
        """As `cancel`, without waiting for it. Where the endpoint is another process's, that one sees to it: it learns
        of the delivery from the store."""
        if self.owns(key):
            self._spawn(self.cancel(key, reason))

    # ------------------------------------------------------------------------------------------ the pump

    def pump(self, lane: Lane) -> None:
        """Start what may start, fetch what is due, and set the timer for what comes next."""
        if self._stopping or not lane.owned or self.lanes.get(lane.key.name) is not lane:
            self.claims.release(lane)
            return
        if self._peers is not None and not self._peers.lease_holds:
            self._wakeups.ask(lane, LEASE_RETRY_SECONDS)
            return
        if lane.hold(self._roster.environment) is not None or lane.sealed is None:
            self.claims.release(lane)
            self._telling.notice(lane)
            return
        now_ms, monotonic = self._clock.now_ms(), self._clock.monotonic()
        wait = self._start_ready(lane, now_ms, monotonic)
        self._telling.notice(lane)
        if wait is not None and wait.seconds is not None:
            if wait.seconds > RELEASE_AFTER_SECONDS:
                self.claims.release(lane)
            self._wakeups.ask(lane, wait.seconds)
        deferred = pacing.deferred_until_ms(lane.state, now_ms=now_ms)
        if deferred is not None and not lane.manual_requested:
            self._wakeups.ask(lane, (deferred[1] - now_ms) / 1000)
        elif lane.wants_claim(now_ms=now_ms, monotonic=monotonic):
            self.claims.claim_soon(lane)
        elif lane.next_due_ms is not None and lane.next_due_ms > now_ms:
            # What is due already waits for room: the attempt that makes some asks again, no timer has to.
            self._wakeups.ask(lane, (lane.next_due_ms - now_ms) / 1000)

    def _start_ready(self, lane: Lane, now_ms: int, monotonic: float) -> Wait | None:
        while lane.ready or lane.manual:
            wait = lane.may_start(now_ms=now_ms, monotonic=monotonic)
            if wait is not None:
                return wait
            job = self._take(lane, monotonic)
            if job is None:
                break
            self._spawn(self._work(lane, job))
        return None

    def clock_went_back(self, back_ms: int) -> None:
        """The wall clock is `back_ms` behind where it was, and so is the store's schedule: follow, without attempts."""
        for key, memory in self._roster.memories.items():
            memory.state = clock_watch.follow(memory.state, back_ms=back_ms)
            self.recorder.save(key, memory.state)
        for lane in self.lanes.values():
            self.claims.release(lane)
            self._set_state(lane, clock_watch.follow(lane.state, back_ms=back_ms))
            if lane.next_due_ms is not None:
                lane.next_due_ms -= back_ms

    def resync(self) -> None:
        """Recompute every timer from the wall clock, which may have stepped."""
        for lane in tuple(self.lanes.values()):
            # In order, what all others wait for may have expired.
            lane.backlog = lane.backlog or (lane.ordered and lane.activity.counts.pending > 0)
            if not lane.owned:
                continue
            if lane.next_due_ms is not None or lane.backlog:
                self._wakeups.cancel(lane)
                self.pump(lane)

    # ------------------------------------------------------------------------------------------ attempts

    async def _work(self, lane: Lane, job: Job) -> None:
        """Attempt one job after the other for as long as the lane lets the next one start."""
        following: Job | None = job
        while following is not None:
            current = following
            try:
                await self._attempt(lane, current)
            except asyncio.CancelledError:
                self._abandoned.append(current.delivery_id)
                raise
            except Exception as error:  # a fault of ours must cost the lane neither the job nor its slot
                log.exception("an attempt failed", exc_info=error, extra={"action": "attempt_fault"})
                await self.claims.give_back([current.delivery_id])
                lane.next_due_ms = self._clock.now_ms() + FAULT_RETRY_MS
            finally:
                lane.finished(current, monotonic=self._clock.monotonic())
                self._under_way.remove(current)
            following = self._next(lane)
            now_ms, monotonic = self._clock.now_ms(), self._clock.monotonic()
            if following is not None and lane.wants_claim(now_ms=now_ms, monotonic=monotonic):
                self.pump(lane)
        self.pump(lane)
        self._make_room(lane)

    def _make_room(self, lane: Lane) -> None:
        """An attempt ended: where its endpoint went and came back meanwhile, the new lane waited for it."""
        present = self._roster.present(lane.key)
        if present is not lane:
            self._roster.rested(lane)
            if present is not None:
                self.pump(present)

    def _next(self, lane: Lane) -> Job | None:
        if self._stopping or not self._flows(lane):
            return None
        monotonic = self._clock.monotonic()
        if lane.may_start(now_ms=self._clock.now_ms(), monotonic=monotonic) is not None:
            return None
        return self._take(lane, monotonic)

    def _flows(self, lane: Lane) -> bool:
        """Whether the configuration, and the endpoint's own answers, let anything be sent at all."""
        if not lane.owned or self.lanes.get(lane.key.name) is not lane or lane.sealed is None:
            return False
        if self._peers is not None and not self._peers.lease_holds:
            return False
        return lane.hold(self._roster.environment) is None

    def _take(self, lane: Lane, monotonic: float) -> Job | None:
        """The next job, under way from now on; None where there is none, or no memory for one more payload.

        A lane may always have one attempt under way, however little memory the others left, and asks again when it
        ends.
        """
        following = lane.following
        if following is None or (lane.under_way and not self._under_way.has_room(len(following.data))):
            return None
        job = lane.take(monotonic=monotonic)
        if job is not None:
            self._budget.remove(job)
            self._under_way.add(job)
        return job

    async def _attempt(self, lane: Lane, job: Job) -> None:
        if not self._may_be_sent(lane, job):
            await self.claims.give_back([job.delivery_id], lane)
            return
        sealed, started_ms = lane.sealed, self._clock.now_ms()
        request = None if sealed is None else sealed.request(job, namespace=self._roster.namespace, now_ms=started_ms)
        if request is None:
            # compile() sees to it that one key never expires; should none sign all the same, wait, do not spin.
            await self.claims.give_back([job.delivery_id])
            lane.next_due_ms = started_ms + UNSIGNED_RETRY_MS
            return
        began = self._clock.monotonic()
        result = await self._transport.send(request)
        duration_ms = round((self._clock.monotonic() - began) * 1000)
        now_ms = self._clock.now_ms()
        outcome = attempt.judge(result, now_ms=now_ms)
        timing = Timing(started_ms=started_ms, duration_ms=duration_ms, now_ms=now_ms)
        pending = self._conclude(lane, job, outcome, result.body, timing)
        await self.recorder.room()
        if lane.ordered:
            pending.waiter = asyncio.get_running_loop().create_future()
            self.recorder.add(pending)
            await pending.waiter
        else:
            self.recorder.add(pending)

    def _may_be_sent(self, lane: Lane, job: Job) -> bool:
        """Whether it still may: between a job's taking and its sending the loop may have turned."""
        if job.event_id in self._erased or not self._flows(lane):
            return False
        manual = job.trigger is Trigger.MANUAL
        return manual or pacing.deferred_until_ms(lane.state, now_ms=self._clock.now_ms()) is None

    def _conclude(self, lane: Lane, job: Job, outcome: Outcome, body: bytes, timing: Timing) -> Pending:
        """Put the lane into its new state; the record of the attempt, on its way to the store."""
        present = self.lanes.get(lane.key.name)
        if present is not None and present.key == lane.key:
            lane = present  # another one where the endpoint went and came back meanwhile
        policy = lane.config.delivery
        suspend = self._roster.environment.suspend_after_seconds if self._roster.environment else 0
        lane.state = next_state(lane.state, outcome, timing=timing, policy=policy, suspend_after_seconds=suspend)
        if lane.key in self._roster.memories:
            self._roster.memories[lane.key].state = lane.state
        jitter = self._random.jitter()
        record = conclude(lane.key, job, outcome, body=body, timing=timing, policy=policy, jitter=jitter)
        return Pending(record, lane.state, job.event_type)

    def _committed(self, pending: Pending, number: int) -> None:
        """After the commit: tell everybody who looks, and set the retry's timer."""
        record, settlement = pending.record, pending.record.settlement
        recent = self._telling.attempted(pending, number)
        lane = self.lanes.get(record.endpoint.name)
        present = lane is not None and lane.key == record.endpoint
        if settlement.status not in (DeliveryStatus.PENDING, record.prior_status):
            undisturbed = present and lane is not None and record.started_ms > lane.intervened_ms
            if record.succeeded or undisturbed:
                self._telling.ended(record)
            else:
                self._spawn(self._telling.ended_if_stored(record))
        if lane is None or not present:
            return
        if not pending.late:
            lane.shown = pending.lane
        lane.activity.attempted(recent, status=settlement.status, now_ms=self._clock.now_ms())
        lane.activity.moved(record.prior_status, settlement.status)
        manual = record.trigger is Trigger.MANUAL
        if manual or record.started_ms <= lane.intervened_ms:
            # The delivery may have changed while the attempt was under way: what became of it, only the store knows.
            self.recount.set()
        if manual:
            lane.intervened_ms = self._clock.now_ms()
        self._telling.touched(lane)
        if lane.ordered:
            self.claims.left_in_store(lane)
        if settlement.next_attempt_ms is not None:
            lane.arrivals += 1
            lane.becomes_due(settlement.next_attempt_ms)
            self._wakeups.ask(lane, (settlement.next_attempt_ms - self._clock.now_ms()) / 1000)
        if lane.ordered and pending.waiter is None:  # sent before it became Ordered: nobody else asks for the next
            self.pump(lane)

    def touched(self, lane: Lane) -> None:
        """New deliveries were added to the lane."""
        lane.version = self.versions.next()

    @property
    def in_flight(self) -> int:
        return sum(lane.in_flight for lane in self.lanes.values())
