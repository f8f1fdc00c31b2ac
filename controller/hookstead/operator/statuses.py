"""From everything that is known to the status that each object should have. Pure but for the cache of answers."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec

from hookstead.config.model import (
    ChannelConfig,
    DeliveryConfig,
    EndpointConfig,
    EnvironmentConfig,
    EventTypeConfig,
    ReplayConfig,
)
from hookstead.config.report import EndpointReport, EnvironmentActivity, NamedActivity
from hookstead.config.status import (
    PROGRAMMED,
    ConfigSize,
    EndpointCounts,
    Gateways,
    Programming,
    Status,
    channel_status,
    endpoint_status,
    endpoints_by_channel,
    endpoints_by_event_type,
    environment_status,
    event_type_status,
    replay_status,
)
from hookstead.operator.compact import plain
from hookstead.operator.programming import differing
from hookstead.operator.reports import is_blank, is_blank_activity
from hookstead.operator.schedule import Key
from hookstead.resources.conditions import ConditionStatus, ConditionType, Reason
from hookstead.resources.kinds import Kind

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from datetime import datetime

    from hookstead.operator.objects import Entry, ObjectStore
    from hookstead.operator.programming import Fleet, Index
    from hookstead.operator.reports import News, ReportBook


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """One compiled configuration and what can be counted in it."""

    config: DeliveryConfig
    size: ConfigSize
    index: Index
    by_channel: Mapping[str, int]
    by_event_type: Mapping[str, int]
    channel_objects: Mapping[str, tuple[str, ...]]
    event_type_objects: Mapping[str, tuple[str, ...]]


def view(config: DeliveryConfig, *, size: ConfigSize, index: Index) -> View:
    """Count once per configuration."""
    return View(
        config=config,
        size=size,
        index=index,
        by_channel=endpoints_by_channel(config),
        by_event_type=endpoints_by_event_type(config),
        channel_objects=_by_wire_name((item.channel_name, item.identity.name) for item in config.channels),
        event_type_objects=_by_wire_name((item.type, item.identity.name) for item in config.event_types),
    )


def _by_wire_name(pairs: Iterator[tuple[str, str]]) -> dict[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    for wire, name in pairs:
        found[wire] = (*found.get(wire, ()), name)
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """By what the statuses were computed last, as far as it is for more than one of them."""

    view: View
    general: Programming | None
    hashes: frozenset[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What an object's status should be. `settled`: nothing is being waited for."""

    key: Key
    uid: str
    status: Status
    written: bytes
    settled: bool


@dataclass(slots=True)
class Statuses:
    """Computes a status again only when something that it depends on is different."""

    objects: ObjectStore
    reports: ReportBook
    _inputs: dict[Key, tuple[Any, ...]] = field(default_factory=dict)
    _flags: dict[str, tuple[bool, bool, bool]] = field(default_factory=dict)
    _tally: Counter[tuple[bool, bool, bool]] = field(default_factory=Counter)
    """How many endpoints have the same three flags."""

    def keys(self, current: View) -> list[Key]:
        """Every object of the configuration; the environment last, since it counts the others."""
        for gone in [name for name in self._flags if (Kind.ENDPOINT, name) not in current.index.objects]:
            self.forget(Key(Kind.ENDPOINT, gone))
        names = [Key(kind, name) for kind, name in current.index.objects]
        return sorted(names, key=lambda key: key.kind is Kind.ENVIRONMENT)

    def affected(self, before: Seen, current: View, fleet: Fleet) -> list[Key] | None:
        """The objects whose status may be another than it was by what was seen before; None: any."""
        general = fleet.general
        per_object = (None, PROGRAMMED)
        if before.view.config.environment != current.config.environment:
            return None
        if before.general != general and not (before.general in per_object and general in per_object):
            return None
        indexes = [before.view.index, current.index]
        if general in per_object:
            known = [fleet.history.get(digest) for digest in before.hashes | fleet.hashes]
            if None in known:
                return None
            indexes += [entry for entry in known if entry is not None]
        keys = {Key(*place) for place in differing(indexes)}
        for gone in [key for key in keys if key not in current.index.objects]:
            self.forget(gone)
        keys.update(self._recounted(before.view, current))
        if current.config.environment is not None:
            keys.add(Key(Kind.ENVIRONMENT, current.config.environment.identity.name))
        return sorted(keys, key=lambda key: key.kind is Kind.ENVIRONMENT)

    def _recounted(self, before: View, current: View) -> Iterator[Key]:
        """Channels and event types that another number of endpoints is for."""
        for wire in _moved(before.by_channel, current.by_channel):
            yield from (Key(Kind.CHANNEL, name) for name in current.channel_objects.get(wire, ()))
        for wire in _moved(before.by_event_type, current.by_event_type):
            yield from (Key(Kind.EVENT_TYPE, name) for name in current.event_type_objects.get(wire, ()))

    def touched(self, news: News, current: View) -> list[Key]:
        """The objects that a report tells something new about."""
        keys = [Key(Kind.ENDPOINT, name) for name in news.endpoints]
        for wire in news.channels:
            keys += [Key(Kind.CHANNEL, name) for name in current.channel_objects.get(wire, ())]
        for wire in news.event_types:
            keys += [Key(Kind.EVENT_TYPE, name) for name in current.event_type_objects.get(wire, ())]
        keys += [Key(Kind.REPLAY, name) for name in news.replays]
        if (news.environment or news.endpoints) and current.config.environment is not None:
            keys.append(Key(Kind.ENVIRONMENT, current.config.environment.identity.name))
        return keys

    def wanted(self, key: Key, current: View, *, fleet: Fleet, settled: bool, now: datetime) -> Wanted | None:
        """The status of one object; None where nothing that it depends on has changed, or the object is gone."""
        entry = self.objects.kinds[key.kind].get(key.name)
        item = current.index.objects.get(key)
        if entry is None or item is None or _identity(item).uid != entry.meta.uid:
            self.forget(key)
            return None
        programmed = fleet.of(key.kind, item, key.name)
        extra = self._extra(item, current, fleet)
        inputs = (item, current.config.environment, programmed, entry.status, entry.reconcile_requested_at, *extra)
        if _same(self._inputs.get(key), inputs):
            return None
        self._inputs[key] = inputs
        status = self._status(item, entry, current, programmed=programmed, extra=extra, now=now)
        if isinstance(item, EndpointConfig):
            self._flag(key.name, _flags(status))
        done = programmed.holds or (settled and programmed.reason is Reason.GATEWAY_UNAVAILABLE)
        return Wanted(
            key=key,
            uid=entry.meta.uid,
            status=status,
            written=entry.status,
            settled=done,
        )

    def forget(self, key: Key) -> None:
        """Compute it afresh next time."""
        self._inputs.pop(key, None)
        if key.kind is Kind.ENDPOINT:
            self._flag(key.name, None)

    def forget_all(self) -> None:
        """Compute everything afresh next time: a key has expired."""
        self._inputs.clear()

    def _extra(self, item: msgspec.Struct, current: View, fleet: Fleet) -> tuple[Any, ...]:
        """What the status of this kind depends on beyond the object, the environment and the gateways."""
        match item:
            case EndpointConfig():
                return self.reports.told_of_endpoint(item.identity.name)
            case ChannelConfig():
                name = item.channel_name
                told = self.reports.channel(name) if item.verdict.is_accepted else None
                return (told, current.by_channel.get(name, 0) if item.verdict.is_accepted else 0)
            case EventTypeConfig():
                told = self.reports.event_type(item.type) if item.verdict.is_accepted else None
                return (told, current.by_event_type.get(item.type, 0) if item.verdict.is_accepted else 0)
            case ReplayConfig():
                return (self.reports.replay(item.identity.name, item.identity.uid),)
            case _:
                gateways = Gateways(
                    replicas=len(fleet.members), programmed_replicas=fleet.programmed, version=fleet.version
                )
                return (self.reports.environment, gateways, self._counts(), current.size)

    def _counts(self) -> EndpointCounts:
        ready, active, failing = (
            sum(count for flags, count in self._tally.items() if flags[place]) for place in range(3)
        )
        return EndpointCounts(total=len(self._flags), ready=ready, active=active, failing=failing)

    def _flag(self, name: str, flags: tuple[bool, bool, bool] | None) -> None:
        before = self._flags.pop(name, None)
        if before is not None:
            self._tally[before] -= 1
        if flags is not None:
            self._flags[name] = flags
            self._tally[flags] += 1

    def _status(
        self,
        item: msgspec.Struct,
        entry: Entry,
        current: View,
        *,
        programmed: Programming,
        extra: tuple[Any, ...],
        now: datetime,
    ) -> Status:
        previous: Status = plain(entry.status)
        heard: Any = (
            self.reports.endpoint(item.identity.name, item.identity.uid)
            if isinstance(item, EndpointConfig)
            else extra[0]
        )
        told = None if _is_blank(heard) and "activity" not in previous else heard
        environment = current.config.environment
        handled = entry.reconcile_requested_at
        match item:
            case EndpointConfig():
                return endpoint_status(
                    item,
                    environment=environment,
                    report=told,
                    programmed=programmed,
                    previous=previous,
                    now=now,
                )
            case ChannelConfig():
                return channel_status(
                    item,
                    environment=environment,
                    activity=told,
                    endpoints=extra[1],
                    programmed=programmed,
                    previous=previous,
                    now=now,
                    handled_reconcile=handled,
                )
            case EventTypeConfig():
                return event_type_status(
                    item,
                    environment=environment,
                    activity=told,
                    endpoints=extra[1],
                    programmed=programmed,
                    previous=previous,
                    now=now,
                    handled_reconcile=handled,
                )
            case ReplayConfig():
                return replay_status(
                    item,
                    environment=environment,
                    report=told,
                    programmed=programmed,
                    previous=previous,
                    now=now,
                    handled_reconcile=handled,
                )
            case EnvironmentConfig():
                return environment_status(
                    item,
                    endpoints=extra[2],
                    channels=len(current.config.channels),
                    event_types=len(current.config.event_types),
                    gateways=extra[1],
                    config=extra[3],
                    activity=told,
                    programmed=programmed,
                    previous=previous,
                    now=now,
                    handled_reconcile=handled,
                )
            case _:
                raise TypeError(f"no status for {type(item).__name__}")


def _is_blank(told: object) -> bool:
    if isinstance(told, EndpointReport):
        return is_blank(told)
    if isinstance(told, NamedActivity):
        return is_blank_activity(told)
    return told == EnvironmentActivity()


def _moved(before: Mapping[str, int], now: Mapping[str, int]) -> set[str]:
    return {name for name in {*before, *now} if before.get(name) != now.get(name)}


def _identity(item: Any) -> Any:
    return item.identity


def _same(before: tuple[Any, ...] | None, now: tuple[Any, ...]) -> bool:
    return (
        before is not None
        and len(before) == len(now)
        and all(a is b or a == b for a, b in zip(before, now, strict=True))
    )


def _flags(status: Status) -> tuple[bool, bool, bool]:
    """Ready, Active, failing."""
    said = {item["type"]: item["status"] for item in status["conditions"]}
    return (
        said.get(ConditionType.READY.value) == ConditionStatus.TRUE.value,
        said.get(ConditionType.ACTIVE.value) == ConditionStatus.TRUE.value,
        said.get(ConditionType.HEALTHY.value) == ConditionStatus.FALSE.value,
    )
