"""What the gateways report, put together: one view per object, whoever told of it last."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, TypeVar

import msgspec

from hookstead.config.report import (
    EndpointActivity,
    EndpointReport,
    EnvironmentActivity,
    NamedActivity,
    ReplayReport,
    Report,
)
from hookstead.operator.compact import canonical, json_of

if TYPE_CHECKING:
    from collections.abc import Iterable

Value = TypeVar("Value")

_DECODER: Final = msgspec.json.Decoder(EndpointReport)


@dataclass(frozen=True, slots=True, kw_only=True)
class News:
    """Whom a report tells something new about: object names, wire names of channels and types."""

    environment: bool = False
    endpoints: tuple[str, ...] = ()
    channels: tuple[str, ...] = ()
    event_types: tuple[str, ...] = ()
    replays: tuple[str, ...] = ()

    @property
    def any(self) -> bool:
        return bool(self.environment or self.endpoints or self.channels or self.event_types or self.replays)


@dataclass(slots=True)
class _Told:
    """What one gateway has told since it was first heard."""

    environment: EnvironmentActivity | None = None
    endpoints: dict[str, bytes] = field(default_factory=dict)
    """What `compact.canonical` made of it: as objects they would be 60 MB, of ten thousand with their deliveries."""
    channels: dict[str, NamedActivity] = field(default_factory=dict)
    event_types: dict[str, NamedActivity] = field(default_factory=dict)
    replays: dict[str, ReplayReport] = field(default_factory=dict)


@dataclass(slots=True)
class ReportBook:
    """By gateway address. Gateways of one environment share a store, so their counts are views, never summands."""

    _told: dict[str, _Told] = field(default_factory=dict)

    def take(self, address: str, report: Report) -> News:
        """Take in a report; what it repeats is no news."""
        told = self._told.setdefault(address, _Told())
        environment_news = told.environment != report.environment
        told.environment = report.environment
        return News(
            environment=environment_news,
            endpoints=_update(told.endpoints, ((item.name, canonical(item)) for item in report.endpoints)),
            channels=_update(told.channels, ((item.name, item) for item in report.channels)),
            event_types=_update(told.event_types, ((item.name, item) for item in report.event_types)),
            replays=_update(told.replays, ((item.name, item) for item in report.replays)),
        )

    def retain(self, addresses: Iterable[str]) -> News:
        """Forget gateways that are gone, unless nobody else is there to know better. What they told of is news: by now
        it is told otherwise.
        """
        wanted = frozenset(addresses)
        gone = [address for address in self._told if address not in wanted] if wanted else []
        forgotten = [self._told.pop(address) for address in gone]
        return News(
            environment=bool(forgotten),
            endpoints=tuple({name: None for told in forgotten for name in told.endpoints}),
            channels=tuple({name: None for told in forgotten for name in told.channels}),
            event_types=tuple({name: None for told in forgotten for name in told.event_types}),
            replays=tuple({name: None for told in forgotten for name in told.replays}),
        )

    @property
    def environment(self) -> EnvironmentActivity | None:
        known = [told.environment for told in self._told.values() if told.environment is not None]
        return max(known, key=lambda item: item.accepted, default=None)

    def told_of_endpoint(self, name: str) -> tuple[bytes, ...]:
        """What `endpoint` is made of: equal exactly when nothing new was told."""
        return tuple(raw for told in self._told.values() if (raw := told.endpoints.get(name)) is not None)

    def endpoint(self, name: str, uid: str) -> EndpointReport | None:
        """The view of the gateway that attempted last; held if any of them holds."""
        told = (_DECODER.decode(json_of(raw)) for raw in self.told_of_endpoint(name))
        known = [report for report in told if report.uid == uid]
        if len(known) <= 1:
            return known[0] if known else None
        latest = max(known, key=lambda item: item.activity.last_attempt_time or "")
        holder = next((item for item in known if item.held is not None), latest)
        resumed = max((item.handled_resume_at or "" for item in known), default="") or None
        return EndpointReport(
            name=name,
            uid=uid,
            held=holder.held,
            held_message=holder.held_message,
            handled_resume_at=resumed,
            activity=latest.activity,
            recent_deliveries=latest.recent_deliveries,
        )

    def channel(self, wire_name: str) -> NamedActivity | None:
        return _most([told.channels.get(wire_name) for told in self._told.values()])

    def event_type(self, wire_name: str) -> NamedActivity | None:
        return _most([told.event_types.get(wire_name) for told in self._told.values()])

    def replay(self, name: str, uid: str) -> ReplayReport | None:
        known = [
            report
            for told in self._told.values()
            if (report := told.replays.get(name)) is not None and report.uid == uid
        ]
        return max(
            known,
            key=lambda item: (item.completion_time or "", item.delivered + item.failed),
            default=None,
        )


def is_blank(report: EndpointReport) -> bool:
    """Whether it tells nothing: such a report is no reason to write to an object that never had any activity."""
    return (
        report.held is None
        and report.handled_resume_at is None
        and not report.recent_deliveries
        and report.activity == EndpointActivity(window_seconds=report.activity.window_seconds)
    )


def is_blank_activity(activity: NamedActivity) -> bool:
    return activity == NamedActivity(name=activity.name)


def _update(known: dict[str, Value], news: Iterable[tuple[str, Value]]) -> tuple[str, ...]:
    changed = []
    for name, value in news:
        if known.get(name) != value:
            known[name] = value
            changed.append(name)
    return tuple(changed)


def _most(known: list[NamedActivity | None]) -> NamedActivity | None:
    return max((item for item in known if item is not None), key=lambda item: item.accepted, default=None)
