"""Writes statuses: asks what each should be, lets the scheduler say which goes when, patches, and learns."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING, Final

from hookstead.config.status import PROGRAMMED
from hookstead.operator.compact import canonical
from hookstead.operator.events import occurrences
from hookstead.operator.kube import Conflict, Forbidden, Invalid, KubeClient, KubeError, NotFound, Throttled, kind_path
from hookstead.operator.statuses import Seen
from hookstead.resources.kinds import Kind

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from datetime import datetime

    from hookstead.operator.events import Recorder
    from hookstead.operator.objects import ObjectStore
    from hookstead.operator.programming import Fleet
    from hookstead.operator.reports import News
    from hookstead.operator.schedule import Key, Scheduler, Write
    from hookstead.operator.statuses import Statuses, View

WRITERS: Final = 12
BATCH: Final = 200
"""Statuses computed before the loop gets its turn."""
FIRST_ANSWER_SECONDS: Final = 1.5
FIRST_ANSWER_OBJECTS: Final = 5000.0
"""A second for so many objects."""
START_SECONDS: Final = 2.0
"""For so long after its first pass, or after the last gateway went, the operator does not believe that none is."""

log: Final = logging.getLogger(__name__)


class Reporter:
    """The one writer of status in this namespace."""

    def __init__(
        self,
        kube: KubeClient,
        *,
        namespace: str,
        objects: ObjectStore,
        statuses: Statuses,
        scheduler: Scheduler,
        recorder: Recorder,
        fleet: Callable[[], Fleet],
        may_write: Callable[[], None],
        monotonic: Callable[[], float],
        now: Callable[[], datetime],
    ) -> None:
        self._kube: Final = kube
        self._namespace: Final = namespace
        self._objects: Final = objects
        self._statuses: Final = statuses
        self._scheduler: Final = scheduler
        self._recorder: Final = recorder
        self._fleet: Final = fleet
        self._may_write: Final = may_write
        self._monotonic: Final = monotonic
        self._now: Final = now
        self._started: float | None = None
        self._without_gateways_since: float | None = None
        self._view: View | None = None
        self._seen: Seen | None = None
        self._all = False
        self._some: dict[Key, None] = {}
        self._changed: dict[Key, None] = {}
        self._stale: Final = asyncio.Event()
        self._ready: Final = asyncio.Event()
        self.writes = 0
        self.failures = 0

    # What others tell.

    def show(self, view: View) -> None:
        """A pass has compiled this configuration."""
        self._view = view
        if self._started is None:
            self._started = self._monotonic()
        environment = view.config.environment
        if environment is not None:
            self._scheduler.period_seconds = float(environment.status_reporting.period_seconds)
        changed, self._changed = self._changed, {}
        self.look_at(changed)

    def changed(self, key: Key) -> None:
        """The object was edited, annotated perhaps: it is looked at after the next pass, whatever that compiles."""
        self._changed[key] = None

    def gateways_changed(self) -> None:
        """What a gateway runs, whether it answers, or whether the configuration is stored, is different now."""
        self._stale.set()

    def look_at_all(self) -> None:
        """Something that every status depends on is different now."""
        self._all = True
        self._stale.set()

    def look_at(self, keys: Iterable[Key]) -> None:
        """Something about these objects is different now."""
        self._some.update(dict.fromkeys(keys))
        self._stale.set()

    def heard(self, news: News) -> None:
        """A gateway has reported."""
        if self._view is not None and news.any:
            self.look_at(self._statuses.touched(news, self._view))

    def keys_expired(self) -> None:
        """A signing key has stopped signing."""
        self._statuses.forget_all()
        self.look_at_all()

    def gone(self, key: Key) -> None:
        self._scheduler.drop(key)
        self._statuses.forget(key)

    # What runs.

    async def assess(self) -> None:
        """Compute what has become stale, for ever."""
        while True:
            await self._stale.wait()
            self._stale.clear()
            if self._view is None:
                continue
            if self._seen is None:
                await self._first_answer(len(self._view.index.objects))
            view, fleet = self._view, self._fleet()
            await self._compute(self._stale_keys(view, fleet), view, fleet)

    async def _first_answer(self, objects: int) -> None:
        """Give the gateways a moment to take the first configuration: ten thousand statuses that call it pending
        would cost them, and us, more time than that.
        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(min(FIRST_ANSWER_SECONDS, objects / FIRST_ANSWER_OBJECTS)):
                while self._fleet().general is not PROGRAMMED:
                    self._stale.clear()
                    await self._stale.wait()

    def _stale_keys(self, view: View, fleet: Fleet) -> list[Key]:
        """What is to be computed again by now, the environment last: it counts the others."""
        seen, self._seen = self._seen, Seen(view=view, general=fleet.general, hashes=fleet.hashes)
        whole, self._all = self._all, False
        some, self._some = self._some, {}
        affected = None if whole or seen is None else self._statuses.affected(seen, view, fleet)
        if affected is None:
            return self._statuses.keys(view)
        return sorted({**some, **dict.fromkeys(affected)}, key=_environment_last)

    async def _compute(self, keys: Sequence[Key], view: View, fleet: Fleet) -> None:
        settled = self._believes(fleet)
        for count, key in enumerate(keys, start=1):
            self._want(key, view, fleet, settled=settled)
            if count % BATCH == 0:
                await asyncio.sleep(0)
                if self._view is not view:
                    self.look_at(keys[count:])  # by the newer pass
                    return

    def _want(self, key: Key, view: View, fleet: Fleet, *, settled: bool) -> bool:
        """Compute what the object's status should be; whether that may be something else than before."""
        wanted = self._statuses.wanted(key, view, fleet=fleet, settled=settled, now=self._now())
        if wanted is None:
            return False
        self._scheduler.want(
            wanted.key,
            uid=wanted.uid,
            desired=wanted.status,
            written=wanted.written,
            settled=wanted.settled,
            now=self._monotonic(),
        )
        self._ready.set()
        return True

    def _want_as_of_now(self, key: Key) -> bool:
        """As `_want`, by the last pass and the gateways of this moment."""
        if self._view is None:
            return False
        fleet = self._fleet()
        if not self._want(key, self._view, fleet, settled=self._believes(fleet)):
            return False
        self._some[key] = None  # by what `_seen` does not know of: it is compared again after the next change
        return True

    def _believes(self, fleet: Fleet) -> bool:
        """Whether a missing gateway is a fact: not right after the start, and not for a moment between two pods."""
        now = self._monotonic()
        if fleet.members:
            self._without_gateways_since = None
        elif self._without_gateways_since is None:
            self._without_gateways_since = now
        since = (self._started, self._without_gateways_since)
        return all(at is None or now - at > START_SECONDS for at in since)

    async def write(self) -> None:
        """Write what is due, for ever; at most WRITERS at a time."""
        slots = asyncio.Semaphore(WRITERS)
        async with asyncio.TaskGroup() as group:
            while True:
                await slots.acquire()
                write = await self._next()
                task = group.create_task(self._send(write))
                task.add_done_callback(lambda _: slots.release())

    async def _next(self) -> Write:
        computed = 0
        while True:
            self._ready.clear()
            now = self._monotonic()
            # A gateway may have come since it was computed, and ten thousand take a while to be computed again.
            while (key := self._scheduler.next_key(now)) is not None:
                if self._want_as_of_now(key):
                    computed += 1
                    if computed % BATCH == 0:
                        await asyncio.sleep(0)
                        now = self._monotonic()
                    continue
                write = self._scheduler.take(now)
                assert write is not None, "there was one a moment ago"
                return write
            due = self._scheduler.next_at(now)
            try:
                async with asyncio.timeout(None if due is None else max(due - now, 0.001)):
                    await self._ready.wait()
            except TimeoutError:
                continue

    async def _send(self, write: Write) -> None:
        self._may_write()
        key = write.key
        started = self._monotonic()
        path = kind_path(key.kind, self._namespace, key.name, status=True)
        try:
            body = await self._kube.merge_patch(path, write.patch)
        except NotFound:
            # Deleted: if there is another object of that name, the feed tells, and it is looked at afresh.
            self._scheduler.abandoned(write, now=self._monotonic())
            self._statuses.forget(key)
        except Conflict:
            # Another object of that name, which the feed tells; or one that is much written to, and nobody else asks.
            self._scheduler.failed(write, now=self._monotonic(), trouble=False)
        except KubeError as error:
            self.failures += 1
            throttled = error.retry_after if isinstance(error, Throttled) else None
            self._scheduler.failed(write, now=self._monotonic(), throttled=throttled)
            level = logging.ERROR if isinstance(error, (Invalid, Forbidden)) else logging.WARNING
            log.log(
                level,
                "a status was not written",
                extra={"action": "status-write", "kind": key.kind.value, "object": key.name, "error": str(error)},
            )
        else:
            self.writes += 1
            self._learn(write, body, seconds=self._monotonic() - started)
        self._ready.set()

    def _learn(self, write: Write, body: dict[str, object], *, seconds: float) -> None:
        status = canonical(body.get("status") or {})
        if status == write.desired:
            status = write.desired  # one copy in memory, ten thousand times
        entry = self._objects.kinds[write.key.kind].get(write.key.name)
        if entry is not None and entry.meta.uid == write.uid:
            meta = body["metadata"]
            version = int(meta["resourceVersion"]) if isinstance(meta, dict) else 0
            if version >= entry.resource_version:
                entry.resource_version = version
                entry.status = status
        if self._scheduler.overtaken(write):
            # What was computed meanwhile knew nothing of this write: its conditions would seem to be younger.
            self._want_as_of_now(write.key)
        self._scheduler.succeeded(write, status=status, now=self._monotonic(), seconds=seconds)
        for occurrence in occurrences(write.key, write.uid, before=write.before, after=write.after):
            self._recorder.record(occurrence)


def _environment_last(key: Key) -> bool:
    return key.kind is Kind.ENVIRONMENT
