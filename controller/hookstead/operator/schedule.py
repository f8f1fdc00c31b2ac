"""Which status is written when: the budgets of the contract as a pure scheduler. Time and chance are handed in.

Per object: the answer to a change of the object itself goes out as soon as the gateways have answered, at the
latest after 2 s; then at most one transition every 10 s, and facts that are none (counts, hashes) no oftener;
routine activity at most once a period, with jitter.
Per environment: answers at most 100 a second, everything else at most 10, transitions first, oldest first; both
halved when the API server is slow or says 429, recovering by and by. What equals the written status is not written.
"""

from __future__ import annotations

import heapq
import math
from collections import deque
from dataclasses import dataclass, field
from enum import IntEnum
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from hookstead.operator.compact import canonical, plain
from hookstead.resources.kinds import Kind

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

SETTLE_SECONDS: Final = 1.75
"""How long a status waits for the gateways' answers: what comes of it is to be written within two seconds."""
TRANSITION_SECONDS: Final = 10.0
"""Between two transitions of one object."""
ANSWERS_PER_SECOND: Final = 99
OTHERS_PER_SECOND: Final = 9
"""Both one below the contract's 100 and 10: a request that broke off is sent again by the client."""
WINDOW_SECONDS: Final = 1.005
"""From the end of one write to the begin of the one that takes its place, so that the API server receives no more
within any second, however long a write lay in a queue of ours."""
SLOW_SECONDS: Final = 1.0
"""An answer that takes longer than this halves the pace."""
HALVING_SECONDS: Final = 1.0
"""Between two halvings: a stall slows all writes that are under way, and is one stall."""
LOWEST_SHARE: Final = 1 / 16
RECOVERY_PER_SECOND: Final = 0.05
"""Of the full pace, regained per second without trouble."""
PERIOD_JITTER: Final = 0.1
GATHER_SECONDS: Final = 2.0
"""Within this time the first activity after a quiet period is written, with what came meanwhile."""
RETRY_SECONDS: Final = 1.0
RETRY_CEILING_SECONDS: Final = 60.0

_ROUTINE_FIELDS: Final = frozenset({"activity", "recentDeliveries"})
_ECHOES: Final = ("observedGeneration", "lastHandledReconcileAt", "lastHandledResumeAt")


class Key(NamedTuple):
    kind: Kind
    name: str


class Urgency(IntEnum):
    """Most urgent first."""

    ANSWER = 0
    """The object itself was changed, or asks to be looked at, and status does not say so yet."""
    TRANSITION = 1
    """A condition differs in status or reason."""
    FACTS = 2
    """Something else than activity differs: a count, a hash, a message."""
    ROUTINE = 3
    """Only activity differs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Write:
    """One status to be written now: a JSON merge patch of the object, guarded by its uid."""

    key: Key
    uid: str
    urgency: Urgency
    patch: Mapping[str, Any]
    before: Mapping[str, Any]
    after: Mapping[str, Any]
    desired: bytes


def classify(written: Mapping[str, Any], desired: Mapping[str, Any]) -> Urgency | None:
    """How urgent the difference is; None where there is none."""
    if written == desired:
        return None
    if any(written.get(name) != desired.get(name) for name in _ECHOES):
        return Urgency.ANSWER
    if _verdicts(written) != _verdicts(desired):
        return Urgency.TRANSITION
    names = {*written, *desired} - _ROUTINE_FIELDS
    if any(written.get(name) != desired.get(name) for name in names):
        return Urgency.FACTS
    return Urgency.ROUTINE


def _verdicts(status: Mapping[str, Any]) -> set[tuple[Any, Any, Any]]:
    conditions = status.get("conditions")
    if not isinstance(conditions, list):
        return set()
    return {(item.get("type"), item.get("status"), item.get("reason")) for item in conditions if isinstance(item, dict)}


def _routine(status: Mapping[str, Any]) -> list[Any]:
    return [status.get(name) for name in sorted(_ROUTINE_FIELDS)]


def merge_diff(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
    """The JSON merge patch (RFC 7386) that turns `before` into `after`."""
    patch: dict[str, Any] = {name: None for name in before if name not in after}
    for name, value in after.items():
        old = before.get(name)
        if isinstance(old, dict) and isinstance(value, dict):
            if old != value:
                patch[name] = merge_diff(old, value)
        elif name not in before or old != value:
            patch[name] = value
    return patch


@dataclass(slots=True)
class Pace:
    """At most `per_second` within any second, slowed down by `share`; a burst may use the second up at once."""

    per_second: int
    share: float = 1.0
    _under_way: int = 0
    _ended: deque[float] = field(default_factory=deque)

    def wait(self, now: float) -> float:
        """Seconds until the next one may go; 0 when it may go now; infinite while that depends on one under way."""
        limit = max(1, int(self.per_second * self.share))
        free = limit - self._under_way
        if free <= 0:
            return math.inf
        if len(self._ended) < free:
            return 0.0
        return max(0.0, self._ended[-free] + WINDOW_SECONDS - now)

    def take(self) -> None:
        self._under_way += 1

    def ended(self, now: float) -> None:
        """One of those that were taken is through, well or badly."""
        self._under_way -= 1
        self._ended.append(now)
        while len(self._ended) > self.per_second:
            self._ended.popleft()


@dataclass(slots=True)
class _Entry:
    """What one object wants. `written` is what the API server has, `desired` what it should have."""

    uid: str
    written: bytes = b"{}"
    desired: bytes = b""
    urgency: Urgency | None = None
    since: float = 0.0
    settled: bool = False
    in_flight: bool = False
    version: int = 0
    last_transition: float = float("-inf")
    last_facts: float = float("-inf")
    routine_at: float = float("-inf")
    retry_at: float = float("-inf")
    failures: int = 0
    echo: tuple[bytes, bytes] = (b"", b"")
    """What was last sent, and what the API server made of it: a pruned field must not be sent for ever."""


@dataclass(slots=True)
class Scheduler:
    """`jitter` gives numbers in [0, 1). `period_seconds` follows the environment."""

    jitter: Callable[[], float]
    period_seconds: float = 60.0
    _entries: dict[Key, _Entry] = field(default_factory=dict)
    _waiting: list[tuple[float, int, Key, int]] = field(default_factory=list)
    _answers: list[tuple[float, int, Key, int]] = field(default_factory=list)
    _others: list[tuple[Urgency, float, int, Key, int]] = field(default_factory=list)
    _answer_pace: Pace = field(default_factory=lambda: Pace(ANSWERS_PER_SECOND))
    _other_pace: Pace = field(default_factory=lambda: Pace(OTHERS_PER_SECOND))
    _pause_until: float = float("-inf")
    _eased_at: float = float("-inf")
    _halved_at: float = float("-inf")
    _count: int = 0

    def want(
        self, key: Key, *, uid: str, desired: Mapping[str, Any], written: bytes, settled: bool, now: float
    ) -> Urgency | None:
        """State what an object's status should be, and what it is; the latest word counts."""
        entry = self._entries.get(key)
        if entry is None or entry.uid != uid:
            entry = self._entries[key] = _Entry(uid=uid)
        entry.written = written
        entry.desired = canonical(desired)
        if entry.desired == written:
            entry.desired = written  # one copy in memory, ten thousand times
        if entry.in_flight:
            entry.settled = settled
            return entry.urgency
        self._assess(entry, key, settled=settled, now=now, after=desired)
        return entry.urgency

    def drop(self, key: Key) -> None:
        """The object is gone."""
        self._entries.pop(key, None)

    def take(self, now: float) -> Write | None:
        """The next status to write now, within the budgets. Answer with `succeeded` or `failed`."""
        picked = self._pick(now)
        if picked is None:
            return None
        key, heap, pace = picked
        heapq.heappop(heap)
        pace.take()
        return self._begin(key)

    def next_key(self, now: float) -> Key | None:
        """Whose status `take` would give now: the moment to look whether what it says still holds."""
        picked = self._pick(now)
        return None if picked is None else picked[0]

    def next_at(self, now: float) -> float | None:
        """When `take` may next give something, at the earliest; None: not before something is wanted or written."""
        self._promote(now)
        times = []
        if self._waiting:
            times.append(self._waiting[0][0])
        if self._answers:
            times.append(max(now + self._answer_pace.wait(now), self._pause_until))
        if self._others:
            times.append(max(now + self._other_pace.wait(now), self._pause_until))
        return min((time for time in times if time < math.inf), default=None)

    def overtaken(self, write: Write) -> bool:
        """Whether the object was given another status to have while this write was under way."""
        entry = self._entries.get(write.key)
        return entry is not None and entry.uid == write.uid and entry.desired != write.desired

    def succeeded(self, write: Write, *, status: bytes, now: float, seconds: float) -> None:
        """The API server took the write within `seconds`, and has `status` now."""
        self._ended(write, now)
        self._ease(now, trouble=seconds > SLOW_SECONDS)
        entry = self._entries.get(write.key)
        if entry is None or entry.uid != write.uid:
            return
        entry.in_flight = False
        entry.failures = 0
        entry.written = status
        entry.echo = (write.desired, status)
        if write.urgency is Urgency.TRANSITION:
            entry.last_transition = now
        if write.urgency in (Urgency.TRANSITION, Urgency.FACTS):
            entry.last_facts = now
        if _routine(write.before) != _routine(write.after):
            entry.routine_at = now + self.period_seconds * (1 + PERIOD_JITTER * self.jitter())
        self._assess(entry, write.key, settled=entry.settled, now=now)

    def failed(self, write: Write, *, now: float, throttled: float | None = None, trouble: bool = True) -> None:
        """The write did not happen; it is tried again. `throttled`: seconds that a 429 asked for.

        `trouble`: whether that says something about the API server, which is then asked less.
        """
        self._ended(write, now)
        self._ease(now, trouble=trouble)
        if throttled is not None:
            self._pause_until = max(self._pause_until, now + throttled)
        entry = self._entries.get(write.key)
        if entry is None or entry.uid != write.uid:
            return
        entry.in_flight = False
        entry.failures += 1
        wait = min(RETRY_SECONDS * 2 ** (entry.failures - 1), RETRY_CEILING_SECONDS)
        entry.retry_at = now + wait * (1 + self.jitter())
        self._assess(entry, write.key, settled=entry.settled, now=now)

    def abandoned(self, write: Write, *, now: float) -> None:
        """The write was sent, and there is no such object any more."""
        self._ended(write, now)
        self.drop(write.key)

    # Inside.

    def _ended(self, write: Write, now: float) -> None:
        pace = self._answer_pace if write.urgency is Urgency.ANSWER else self._other_pace
        pace.ended(now)

    def _assess(
        self,
        entry: _Entry,
        key: Key,
        *,
        settled: bool,
        now: float,
        after: Mapping[str, Any] | None = None,
    ) -> None:
        """Compare, and (re)file the entry where its urgency or its readiness changed."""
        same = entry.desired in (b"", entry.written) or entry.echo == (entry.desired, entry.written)
        if same:
            entry.urgency = None
            entry.version += 1
            return
        desired = after if after is not None else plain(entry.desired)
        urgency = classify(plain(entry.written), desired)
        if urgency is None:
            entry.urgency = None
            entry.version += 1
            return
        if entry.urgency is None or urgency < entry.urgency:
            entry.since = now
        elif urgency == entry.urgency and settled == entry.settled:
            return
        entry.urgency = urgency
        entry.settled = settled
        self._file(entry, key)

    def _file(self, entry: _Entry, key: Key) -> None:
        entry.version += 1
        self._count += 1
        heapq.heappush(self._waiting, (self._due(entry), self._count, key, entry.version))

    def _due(self, entry: _Entry) -> float:
        settle = entry.since if entry.settled else entry.since + SETTLE_SECONDS
        if entry.urgency is Urgency.ANSWER:
            due = settle
        elif entry.urgency is Urgency.ROUTINE:
            due = max(entry.since + GATHER_SECONDS * (0.5 + 0.5 * self.jitter()), entry.routine_at)
        else:
            # A count that moved must not keep the transition after it waiting: the end of a replay is one.
            last = entry.last_transition if entry.urgency is Urgency.TRANSITION else entry.last_facts
            due = max(settle, last + TRANSITION_SECONDS)
        return max(due, entry.retry_at)

    def _promote(self, now: float) -> None:
        """Move what has become due to where it is picked from."""
        while self._waiting and self._waiting[0][0] <= now:
            _, count, key, version = heapq.heappop(self._waiting)
            entry = self._entries.get(key)
            if entry is None or entry.version != version or entry.urgency is None:
                continue
            if entry.urgency is Urgency.ANSWER:
                heapq.heappush(self._answers, (entry.since, count, key, version))
            else:
                heapq.heappush(self._others, (entry.urgency, entry.since, count, key, version))

    def _pick(self, now: float) -> tuple[Key, list[Any], Pace] | None:
        """Who is next, with the heap that it leads and the budget that it is for."""
        self._promote(now)
        if now < self._pause_until:
            return None
        queues: tuple[tuple[list[Any], Pace], ...] = (
            (self._answers, self._answer_pace),
            (self._others, self._other_pace),
        )
        for heap, pace in queues:
            if pace.wait(now) <= 0 and (key := self._head(heap)) is not None:
                return key, heap, pace
        return None

    def _head(self, heap: list[Any]) -> Key | None:
        """The first that still waits; what was filed anew or is under way is dropped on the way to it."""
        while heap:
            *_, key, version = heap[0]
            if self._current(key, version):
                found: Key = key
                return found
            heapq.heappop(heap)
        return None

    def _current(self, key: Key, version: int) -> bool:
        entry = self._entries.get(key)
        return entry is not None and entry.version == version and not entry.in_flight

    def _begin(self, key: Key) -> Write:
        entry = self._entries[key]
        urgency = entry.urgency
        assert urgency is not None
        before = plain(entry.written)
        after = plain(entry.desired)
        entry.in_flight = True
        entry.urgency = None
        entry.version += 1
        return Write(
            key=key,
            uid=entry.uid,
            urgency=urgency,
            patch={"metadata": {"uid": entry.uid}, "status": merge_diff(before, after)},
            before=before,
            after=after,
            desired=entry.desired,
        )

    def _ease(self, now: float, *, trouble: bool) -> None:
        """Halve the pace on trouble, regain it slowly without."""
        elapsed = max(0.0, now - self._eased_at) if self._eased_at > float("-inf") else 0.0
        self._eased_at = now
        share = self._answer_pace.share
        if not trouble:
            share += RECOVERY_PER_SECOND * elapsed
        elif now - self._halved_at >= HALVING_SECONDS:
            share /= 2
            self._halved_at = now
        share = min(1.0, max(LOWEST_SHARE, share))
        self._answer_pace.share = self._other_pace.share = share
