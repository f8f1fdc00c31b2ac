"""One seed: the production engine over the production store, through lives, crashes and a peaceful end."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gc
import logging
import os
import tempfile
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from unittest.mock import patch

import apsw

import virtual_time
from engine_bench import SeededRandom
from hookstead.delivery.dispatcher import Dispatcher
from hookstead.delivery.engine import Engine, EngineSettings
from hookstead.delivery.lane import Lane
from hookstead.delivery.observer import NullObserver
from hookstead.delivery.ports import (
    Accepted,
    Clash,
    Duplicate,
    Job,
    NewEvent,
    RecentAttempt,
    ReplayDelivery,
    ReplayPage,
    ReplayWindow,
    StoreError,
)
from hookstead.resources.conditions import Reason
from hookstead.store.errors import StoreRefused
from hookstead.store.sqlite.settings import Settings
from hookstead.store.sqlite.store import SQLiteStore
from hookstead.store.sqlite.workers import Workers
from simulation.disk import Disk
from simulation.ledger import Ledger
from simulation.loop_workers import LoopWorkers
from simulation.manifests import Editor, first_plan
from simulation.people import ACTIONS, Action, People
from simulation.receivers import DELIVERY, Receivers
from simulation.world import CrashPoint, Violation, World, pick

PAUSES: Final = {0.0: 6, 0.003: 4, 0.05: 4, 1.0: 4, 8.0: 3, 45.0: 2, 400.0: 0.7, 7200.0: 0.15}
"""Seconds between two actions, on average, and how often."""

REACH: Final = {CrashPoint.OPENING: 6, CrashPoint.CHECKPOINT: 3, CrashPoint.WRITING: 60, CrashPoint.SENDING: 8}
"""A point is passed that often at most before the power fails there; 12 times where nothing is said."""

PATIENCE: Final = (1, 4, 15, 40, 60, 60, 120, 120, 240, 480, 900, 1800, *[3600] * 60)
"""Seconds that the end waits, bit by bit, for what has to be waited for."""


class WatchedStore(SQLiteStore):
    """The production store; what it is given and what it answers is put down in the ledger."""

    ledger: Ledger

    async def accept(self, events: Sequence[NewEvent]) -> Sequence[Accepted | Duplicate | Clash]:
        self.ledger.offered(events)
        try:
            self.ledger.world.hiccup()
            answers = await super().accept(events)
        except StoreError:
            if self.ledger.world.alive:
                for event in events:
                    self.ledger.settled(event, stored=False)
            raise
        if self.ledger.world.alive:
            for event, answer in zip(events, answers, strict=True):
                self.ledger.settled(event, stored=isinstance(answer, Accepted))
        return answers

    async def advance_replay(
        self, window: ReplayWindow, page: ReplayPage, deliveries: Sequence[ReplayDelivery], *, now_ms: int
    ) -> int:
        self.ledger.replaying(window, deliveries)
        self.ledger.accepting += 1
        try:
            self.ledger.world.hiccup()
            return await super().advance_replay(window, page, deliveries, now_ms=now_ms)
        finally:
            self.ledger.accepting -= 1


def _hiccuping(name: str) -> Callable[..., Any]:
    """A method that now and then does nothing but say so, as the port allows every method."""

    async def call(self: WatchedStore, *args: Any, **options: Any) -> Any:
        self.ledger.world.hiccup()
        return await getattr(SQLiteStore, name)(self, *args, **options)

    return call


_HICCUPING: Final = (
    "record claim release cancel request_redelivery erase_payload expire counts delivery put_blob bring_forward"
    " begin_replay replay_candidates finish_replay"
)
for _name in _HICCUPING.split():
    setattr(WatchedStore, _name, _hiccuping(_name))


def production_store(path: Path, *, clock: Any, settings: Settings, workers: Workers) -> WatchedStore:
    return WatchedStore(path, clock=clock, min_free_bytes=0, settings=settings, workers=workers)


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What a mutant may exchange."""

    store: Callable[..., WatchedStore] = production_store
    engine: type[Engine] = Engine
    random: type[SeededRandom] = SeededRandom


PRODUCTION: Final = Parts()


@dataclass(frozen=True, slots=True)
class Outcome:
    """`violation` is None where everything held."""

    seed: int
    digest: str
    violation: str | None
    trace: Sequence[str]
    stats: Counter[str]


class _Watcher(NullObserver):
    def __init__(self, simulation: Simulation) -> None:
        self._simulation = simulation

    def attempt(self, endpoint: str, attempt: RecentAttempt) -> None:
        if self._simulation.world.alive:
            self._simulation.ledger.recorded(attempt)


class _Alarm(logging.Handler):
    """Whatever the product logs as an error is one."""

    def __init__(self, world: World) -> None:
        super().__init__(logging.ERROR)
        self._world = world

    def emit(self, record: logging.LogRecord) -> None:
        if getattr(record, "action", "") == "drain_incomplete":  # a disk may stall; what is lost then is the ledger's
            return
        if self._world.alive and self._world.broken is None:
            cause = record.exc_info[1] if record.exc_info else None
            self._world.broke(f"the product logged an error: {record.getMessage()}: {cause!r}")


@dataclass(eq=False)
class Simulation:
    seed: int
    folder: Path
    parts: Parts = PRODUCTION
    size: float = 1.0
    crash: CrashPoint | None = None
    world: World = field(init=False)

    def __post_init__(self) -> None:
        world = self.world = World(self.seed)
        shape = world.shape
        self.ledger = Ledger(world)
        self.receivers = Receivers(world, self.ledger)
        self.disk = Disk(world, self.folder)
        if shape.random() < 0.95:
            self.disk.fill(_empty_store())
        editor = Editor(first_plan(shape), world.people)
        self.people = People(world, self.ledger, self.receivers, self.disk, editor)
        self.random = self.parts.random(self.seed, jitter=None)
        self.lives = shape.choice((1, 2, 2, 3, 3))
        self.steps = round(self.size * shape.choice((4, 7, 11, 18)))
        self.stalls = shape.choice((0.0, 0.01, 0.1))
        self.actions = {action: weight * shape.choice((0, 1, 1, 2)) for action, weight in ACTIONS.items()}
        self.actions[People.publish] = 10
        self.pauses = {pause: weight * shape.choice((0, 1, 1)) for pause, weight in PAUSES.items()} | {0.003: 1}
        self.settings = EngineSettings(
            user_agent="Hookstead/simulated",
            linger_seconds=shape.choice((0.0, 0.01)),
            housekeeping_seconds=shape.choice((200.0, 1800.0, 3600.0)),
            memory_jobs=shape.choice((4, 64, 4096)),
        )
        if self.settings.housekeeping_seconds < 1000:  # many rounds of it cost more than they show
            self.pauses = {pause: weight for pause, weight in self.pauses.items() if pause < 100}
            self.receivers.longest_wish = 60
        self.finished = False

    # ------------------------------------------------------------------------------------------------- lives

    def run(self) -> Outcome:
        try:
            while not self.finished:
                self._one_loop()
        except Violation:
            pass
        finally:
            self.disk.close()
        broken = self.world.broken
        return Outcome(
            self.seed, self.world.digest(), None if broken is None else str(broken), self.world.trace, self.world.stats
        )

    def _one_loop(self) -> None:
        loop = virtual_time.ClosedLoop(self.world.clock)
        loop.set_exception_handler(self._uncaught)
        try:
            loop.run_until_complete(self._live())
        finally:
            loop.close()

    def _uncaught(self, _loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        if self.world.alive and self.world.broken is None:
            self.world.broke(f"nobody caught: {context.get('message')}: {context.get('exception')!r}")

    async def _live(self) -> None:
        world = self.world
        world.begin_life()
        world.hiccups = self.disk.full = False
        self.lives -= 1
        self._tempt_fate()
        store = self._open()
        if store is not None:
            try:
                await self._while_powered(self._work(store))
            finally:
                await self._bury(store)
        if world.broken is not None:
            raise world.broken
        if world.images is not None:
            self.disk.restore(world.images)

    def _tempt_fate(self) -> None:
        """Decide whether, and where, the power fails in this life."""
        power = self.world.power
        self.world.disarm()
        if self.lives > 0 and (self.crash is not None or power.random() < 0.8):
            point = self.crash or power.choice(list(CrashPoint))
            countdown = REACH.get(point, 12)
            self.world.arm(point, power.randint(1, countdown))
        self.world.note("a life begins", self.lives)

    def _open(self) -> WatchedStore | None:
        workers = LoopWorkers(self.world, stalls=self.stalls)
        settings = Settings(vfs=self.disk.name, checkpoint_at=120_000, restart_at=300_000, cancel_rows=7, scan_rows=500)
        try:
            store = self.parts.store(self.disk.path, clock=self.world, settings=settings, workers=workers)
        except (StoreRefused, StoreError, apsw.Error):
            if self.world.alive:
                raise
            return None
        store.ledger = self.ledger
        self.ledger.records.open(store)
        self.ledger.reopened()
        self.ledger.audit()
        self.people.learn()
        return store

    async def _while_powered(self, work: Coroutine[Any, Any, None]) -> None:
        """Until the work is done, the power fails, or a promise is broken."""
        working = asyncio.ensure_future(work)
        death = asyncio.ensure_future(self.world.died.wait())
        await asyncio.wait([working, death], return_when=asyncio.FIRST_COMPLETED)
        if working.done() and not self.world.died.is_set():
            error = working.exception()
            if error is not None:
                self.world.broke(f"the process ended by itself: {error!r}")

    async def _bury(self, store: WatchedStore) -> None:
        """Nothing of this life goes on."""
        me = asyncio.current_task()
        while others := [task for task in asyncio.all_tasks() if task is not me]:
            for task in others:
                task.cancel()
            await asyncio.gather(*others, return_exceptions=True)
        if not self.world.alive or self.world.broken is not None:
            self.world.images = self.world.images or {}
            store._health.give_up("the power failed")
            try:
                await store.close()
            except asyncio.CancelledError:  # the power failed before its closing began,
                store._finish()
            except apsw.Error:  # or in the middle of it
                store._lock.release()

    async def _work(self, store: WatchedStore) -> None:
        engine = self.parts.engine(
            store=store,
            transport=self.receivers,
            clock=self.world,
            random=self.random,
            settings=self.settings,
            observer=_Watcher(self),
        )
        people = self.people
        people.engine, people.draining = engine, False
        self.ledger.follow(engine)
        await engine.start()
        if self.world.latest_ms > virtual_time.START_MS and self.world.people.random() < 0.3:
            self.world.note("while nothing ran:", people.editor.edit(self.world.now_ms()))
        await people.apply()
        await self._act()
        if self.lives <= 0:
            await self._make_peace(engine, store)
        await self._stop(engine, store)
        self.finished = self.lives <= 0

    async def _act(self) -> None:
        world = self.world
        under_way: set[asyncio.Task[None]] = set()
        for number in range(self.steps):
            task = asyncio.ensure_future(self._guard(pick(world.people, self.actions)))
            under_way.add(task)
            task.add_done_callback(under_way.discard)
            pause = pick(world.people, self.pauses)
            await asyncio.sleep(pause and world.people.expovariate(1 / pause))
            if number % 4 == 3:
                self.ledger.audit()
            if world.reached(CrashPoint.ANY_TIME):
                await asyncio.Event().wait()
        self.disk.full = world.hiccups = False
        if under_way:
            await asyncio.wait(under_way, timeout=100)
        world.require(not under_way, "an operation was never answered")

    async def _guard(self, action: Action) -> None:
        self.world.stats[action.__name__] += 1
        try:
            await action(self.people)
        except StoreError as error:
            self.world.note(action.__name__, "failed:", type(error).__name__)
            self.world.require(self.world.excused or not self.world.alive, "the store failed without a cause:", error)
        except Violation:
            return
        except Exception as error:  # noqa: BLE001 - whatever an operation raises is a finding, not the end of the runner
            self.world.broke(f"{action.__name__} raised {error!r}")

    async def _stop(self, engine: Engine, store: WatchedStore) -> None:
        self.people.draining = True
        await engine.drain(deadline_seconds=self.world.people.choice((0.01, 5.0, 30.0)))
        await engine.stop()
        await store.close()
        self.world.note("stopped")

    # ------------------------------------------------------------------------------------------------- the end

    async def _make_peace(self, engine: Engine, store: WatchedStore) -> None:
        """Everybody is well and everything enabled: then nothing may stay Pending, and all books must balance."""
        world, ledger, people = self.world, self.ledger, self.people
        self.receivers.heal()
        await asyncio.sleep(20)  # what the receivers were about to say, they still say
        people.editor.heal()
        reports = [engine.endpoint_report(plan.name) for plan in people.editor.plan.endpoints]
        if any(report is not None and report.held in (Reason.GONE, Reason.SUSPENDED) for report in reports):
            people.editor.resume()
        await people.apply()
        for seconds in PATIENCE:
            if not self._pending(store) and not self._held(engine) and not self._replaying(engine):
                break
            await asyncio.sleep(seconds)
        world.require(not self._pending(store), "still to be sent at the end:", self._pending(store)[:3])
        world.require(not self._replaying(engine), "a replay has not ended although everything was delivered")
        await people.publish_events([people._event() for _ in range(3)])
        await asyncio.sleep(30 + self.settings.housekeeping_seconds)
        world.require(not self._pending(store), "not delivered in time to healthy receivers:", self._pending(store)[:3])
        ledger.audit()
        self._balance(engine, store)
        jittered = len(ledger.ratios) < 8 or len(set(ledger.ratios)) > 1
        world.require(jittered, "every wait is the same part of its schedule: no jitter")
        world.require((problems := await store.check()) == [], problems)
        for row in ledger.records.deliveries():
            world.note("end", row.id, row.status.value, row.attempts)

    def _held(self, engine: Engine) -> bool:
        reports = [engine.endpoint_report(plan.name) for plan in self.people.editor.plan.endpoints]
        return any(report is not None and report.held is Reason.THROTTLED for report in reports)

    def _replaying(self, engine: Engine) -> bool:
        reports = {report.uid: report for report in engine.report(after=None).replays}
        wanted = [plan.uid for plan in self.people.editor.plan.replays]
        return any(uid not in reports or reports[uid].phase is Reason.RUNNING for uid in wanted)

    def _pending(self, store: WatchedStore) -> list[Any]:
        rows = store._reader._connection.execute(
            "SELECT id, endpoint_id, status, next_attempt_ms, manual_due_ms FROM deliveries"
            " WHERE status = 0 OR manual_due_ms IS NOT NULL"
        ).fetchall()
        alive = {store._context.endpoints.ids.get(plan.key) for plan in self.people.editor.plan.endpoints}
        return [row for row in rows if row[1] in alive or row[2] == 0]

    def _balance(self, engine: Engine, store: WatchedStore) -> None:
        """What the engine holds in memory at rest: nothing, and the store's own counts."""
        world, dispatcher = self.world, engine._dispatcher
        world.require(engine._budget.jobs == 0 and engine._budget.bytes == 0, "jobs are counted that nobody holds")
        world.require(len(store._claims) == 0, "claims are held that nobody works on")
        stored = self.ledger.records.counts()
        for lane in dispatcher.lanes.values():
            world.require(lane.held_jobs == 0, lane.key, "counts jobs that it does not have")
            report = engine.endpoint_report(lane.key.name)
            idle = report is not None and report.held in (None, Reason.CIRCUIT_OPEN)  # open until there is a probe
            world.require(idle, lane.key, "is held by nothing")
            # The store forgets a deleted endpoint that has nothing left; one that comes back is as the engine knows it.
            kept = self.ledger.records.lanes().get(lane.key, lane.state)
            world.require(
                lane.shown == lane.state == kept,
                lane.key,
                "is",
                lane.state,
                "shows",
                lane.shown,
                "and is stored as something else",
            )
            shown, counted = tuple(lane.activity.counts), stored.get(lane.key, (0,) * 5)[1:]
            world.require(shown == counted, lane.key, "shows", shown, "and the store counts", counted)


@functools.lru_cache(maxsize=1)
def _empty_store() -> bytes:
    """A file with the schema and nothing in it; made once, since a schema costs more than a run."""

    async def make(path: Path) -> None:
        await SQLiteStore(path, clock=virtual_time.VirtualClock(), min_free_bytes=0).close()

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "store.db"
        with asyncio.Runner() as runner:
            runner.run(make(path))
        return path.read_bytes()


@contextlib.contextmanager
def _alarmed(world: World) -> Iterator[None]:
    log, handler = logging.getLogger("hookstead"), _Alarm(world)
    before = log.level, log.propagate
    log.addHandler(handler)
    log.setLevel(logging.ERROR)
    log.propagate = False
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.level, log.propagate = before


@contextlib.contextmanager
def _watched_attempts() -> Iterator[None]:
    """Let the receivers know which delivery a request is for."""
    attempt = Dispatcher._attempt

    async def watched(self: Dispatcher, lane: Lane, job: Job) -> None:
        DELIVERY.set(job.delivery_id)
        await attempt(self, lane, job)

    with patch.object(Dispatcher, "_attempt", watched):
        yield


@contextlib.contextmanager
def _resting_collector() -> Iterator[None]:
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


def _memory() -> str | None:
    """A folder in memory where there is one: what is durable is the VFS's business, and real syncs are slow."""
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


def run_seed(seed: int, *, parts: Parts = PRODUCTION, size: float = 1.0, crash: CrashPoint | None = None) -> Outcome:
    """One run. `size` multiplies the number of actions; `crash` is where the power fails, where it does.

    The collector of cycles rests: it costs a fifth of the time, and a run's objects go when the run does.
    """
    with tempfile.TemporaryDirectory(prefix="hookstead-simulation-", dir=_memory()) as folder:
        simulation = Simulation(seed, Path(folder), parts, size, crash)
        with _alarmed(simulation.world), _resting_collector(), _watched_attempts():
            return simulation.run()
