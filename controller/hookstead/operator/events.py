"""Kubernetes Events: only for transitions that a person acts on, one object per series, within a token bucket.

Never one per delivery. Losing one is no harm: status says the same.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections import OrderedDict, deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from hookstead.operator.kube import Conflict, KubeClient, KubeError, NotFound, core_path
from hookstead.resources.conditions import ConditionStatus, ConditionType, Reason, shorten
from hookstead.resources.kinds import API_VERSION, Kind

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from hookstead.operator.schedule import Key

COMPONENT: Final = "hookstead-operator"
BURST: Final = 25
PER_SECOND: Final = 0.5
SERIES_REMEMBERED: Final = 1_000
QUEUE_LIMIT: Final = 200
MESSAGE_LIMIT: Final = 1_000

ACTED_ON: Final = frozenset(
    {
        Reason.INVALID_SPEC,
        Reason.SCHEMA_INVALID,
        Reason.SAMPLE_INVALID,
        Reason.FILTER_INVALID,
        Reason.DUPLICATE_CHANNEL_NAME,
        Reason.DUPLICATE_EVENT_TYPE,
        Reason.SECRET_NOT_FOUND,
        Reason.SECRET_KEY_MISSING,
        Reason.SECRET_NOT_PERMITTED,
        Reason.SECRET_INVALID,
        Reason.CHANNEL_NOT_FOUND,
        Reason.EVENT_TYPE_NOT_FOUND,
        Reason.ENDPOINT_NOT_FOUND,
        Reason.SUSPENDED,
        Reason.GONE,
        Reason.GATEWAY_UNAVAILABLE,
    }
)
"""Reasons for which somebody has to edit, create, label or resume something."""

log: Final = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Occurrence:
    """Something that happened to one object."""

    key: Key
    uid: str
    reason: Reason
    message: str


def occurrences(key: Key, uid: str, *, before: Mapping[str, Any], after: Mapping[str, Any]) -> list[Occurrence]:
    """What a person should hear of, given the status before and after: each reason once."""
    old, new = _reasons(key.kind, before), _reasons(key.kind, after)
    found: dict[Reason, Occurrence] = {}
    for condition, (reason, message) in new.items():
        if reason in ACTED_ON and old.get(condition, (None, ""))[0] is not reason and reason not in found:
            found[reason] = Occurrence(key=key, uid=uid, reason=reason, message=message)
    return list(found.values())


def _reasons(kind: Kind, status: Mapping[str, Any]) -> dict[str, tuple[Reason, str]]:
    """Of the conditions that are False and say it first-hand.

    Programmed does so on the environment only: a gateway that is away is one Event, not ten thousand.
    """
    said = {}
    first_hand = _FIRST_HAND_OF_ENVIRONMENT if kind is Kind.ENVIRONMENT else _FIRST_HAND
    for item in status.get("conditions") or ():
        if item.get("status") == ConditionStatus.FALSE.value and item.get("type") in first_hand:
            try:
                said[item["type"]] = (Reason(item["reason"]), item.get("message", ""))
            except (KeyError, ValueError):
                continue
    return said


_FIRST_HAND: Final = (
    ConditionType.ACCEPTED.value,
    ConditionType.RESOLVED_REFS.value,
    ConditionType.ACTIVE.value,
)
_FIRST_HAND_OF_ENVIRONMENT: Final = (*_FIRST_HAND, ConditionType.PROGRAMMED.value)


@dataclass(slots=True)
class Bucket:
    """A token bucket; time is handed in."""

    tokens: float = BURST
    at: float = float("-inf")

    def take(self, now: float) -> bool:
        if self.at > float("-inf"):
            self.tokens = min(float(BURST), self.tokens + (now - self.at) * PER_SECOND)
        self.at = now
        if self.tokens < 1:
            return False
        self.tokens -= 1
        return True


class Recorder:
    """Writes Events in the background; what does not fit the bucket is dropped."""

    def __init__(
        self,
        kube: KubeClient,
        *,
        namespace: str,
        instance: str,
        monotonic: Callable[[], float],
        timestamp: Callable[[], str],
    ) -> None:
        self._kube: Final = kube
        self._namespace: Final = namespace
        self._instance: Final = instance
        self._monotonic: Final = monotonic
        self._timestamp: Final = timestamp
        self._bucket: Final = Bucket()
        self._queue: deque[Occurrence] = deque(maxlen=QUEUE_LIMIT)
        self._wake: Final = asyncio.Event()
        self._series: OrderedDict[tuple[str, str, Reason], int] = OrderedDict()

    def record(self, occurrence: Occurrence) -> None:
        if self._bucket.take(self._monotonic()):
            self._queue.append(occurrence)
            self._wake.set()

    async def run(self) -> None:
        """Write for ever."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._queue:
                occurrence = self._queue.popleft()
                try:
                    await self._write(occurrence)
                except KubeError as error:
                    log.warning(
                        "an Event was not written",
                        extra={"action": "event", "object": occurrence.key.name, "error": str(error)},
                    )

    async def _write(self, occurrence: Occurrence) -> None:
        series = (occurrence.uid, occurrence.key.kind.value, occurrence.reason)
        count = self._series.pop(series, 0) + 1
        self._series[series] = count
        if len(self._series) > SERIES_REMEMBERED:
            self._series.popitem(last=False)
        name = event_name(occurrence)
        now = self._timestamp()
        if count > 1 and await self._count(name, occurrence, count=count, now=now):
            return
        try:
            await self._kube.create(
                core_path("events", self._namespace),
                event(occurrence, namespace=self._namespace, name=name, now=now, instance=self._instance),
            )
        except Conflict:
            # An earlier life of this operator began the series.
            body = await self._kube.get(core_path("events", self._namespace, name))
            count = int(body.get("count") or 1) + 1
            self._series[series] = count
            await self._count(name, occurrence, count=count, now=now)

    async def _count(self, name: str, occurrence: Occurrence, *, count: int, now: str) -> bool:
        """Add to the series; False where its Event has expired."""
        patch = {"count": count, "lastTimestamp": now, "message": shorten(occurrence.message, MESSAGE_LIMIT)}
        try:
            await self._kube.merge_patch(core_path("events", self._namespace, name), patch)
        except NotFound:
            return False
        return True


def event_name(occurrence: Occurrence) -> str:
    """The same for the same object and reason, so that a series stays one object."""
    text = f"{occurrence.uid}/{occurrence.reason.value}"
    digest = hashlib.sha256(text.encode("utf-8")).hexdigest()[:16]
    return f"{occurrence.key.name[:200]}.{digest}"


def event(occurrence: Occurrence, *, namespace: str, name: str, now: str, instance: str) -> dict[str, Any]:
    """The core/v1 Event, which `kubectl events --for` and `kubectl describe` show."""
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": name, "namespace": namespace},
        "involvedObject": {
            "apiVersion": API_VERSION,
            "kind": occurrence.key.kind.value,
            "name": occurrence.key.name,
            "namespace": namespace,
            "uid": occurrence.uid,
        },
        "type": "Warning",
        "reason": occurrence.reason.value,
        "message": shorten(occurrence.message, MESSAGE_LIMIT),
        "source": {"component": COMPONENT},
        "reportingComponent": COMPONENT,
        "reportingInstance": instance,
        "firstTimestamp": now,
        "lastTimestamp": now,
        "count": 1,
    }
