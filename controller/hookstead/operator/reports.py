"""What the gateways report, put together: one view per object, that of the gateway which is in charge of it.

An endpoint has one owner among the gateways, which alone reports of it and says when it has let go. Between that and
the first word of the next owner, and after the end of a gateway that said nothing, the last view stays.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NamedTuple

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
from hookstead.resources.conditions import Reason

if TYPE_CHECKING:
    from collections.abc import Iterable

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


class _View(NamedTuple):
    """What a gateway tells of an endpoint. `turn` counts the moments at which one began to tell of one."""

    turn: int
    raw: bytes
    """What `compact.canonical` made of it: as objects they would be 60 MB, of ten thousand with their deliveries."""

    def report(self) -> EndpointReport:
        return _DECODER.decode(json_of(self.raw))


class _Progress(NamedTuple):
    """What a gateway tells of a replay, and when it told something new, in turns."""

    turn: int
    report: ReplayReport


@dataclass(slots=True)
class _Told:
    """What one gateway has told since it was first heard."""

    instance: str = ""
    environment: tuple[int, EnvironmentActivity] | None = None
    """And in which turn it was told: where nothing was accepted since, the later one knows more."""
    endpoints: dict[str, _View] = field(default_factory=dict)
    """Those that it owns."""
    channels: dict[str, NamedActivity] = field(default_factory=dict)
    event_types: dict[str, NamedActivity] = field(default_factory=dict)
    replays: dict[str, _Progress] = field(default_factory=dict)


@dataclass(slots=True)
class ReportBook:
    """By gateway address. Gateways of one environment share a store, so their counts are views, never summands."""

    _told: dict[str, _Told] = field(default_factory=dict)
    _former: _Told = field(default_factory=_Told)
    """The last views of those that tell no more, until one that does tells of the same."""
    _turn: int = 0

    def take(self, address: str, report: Report) -> News:
        """Take in a report; what it repeats is no news."""
        instance = report.running.instance
        if address in self._told and self._told[address].instance != instance:
            self._part(self._told.pop(address))  # another process: what it owns it will say
        told = self._told.setdefault(address, _Told(instance=instance))
        environment_news = told.environment is None or told.environment[1] != report.environment
        if environment_news:
            told.environment = self._next_turn(), report.environment
        self._former.environment = None
        return News(
            environment=environment_news,
            endpoints=tuple({item.name: None for item in report.endpoints if self._hear(told, item)}),
            channels=_update(told.channels, report.channels, former=self._former.channels),
            event_types=_update(told.event_types, report.event_types, former=self._former.event_types),
            replays=tuple(item.name for item in report.replays if self._hear_of_replay(told, item)),
        )

    def retain(self, addresses: Iterable[str]) -> None:
        """Who is not among these tells no more. No view is another for that, until somebody else tells of the same."""
        wanted = frozenset(addresses)
        for address in [address for address in self._told if address not in wanted]:
            self._part(self._told.pop(address))

    def drop_endpoint(self, name: str) -> None:
        """There is no such endpoint any more."""
        for told in self._everybody():
            told.endpoints.pop(name, None)

    # What is known.

    @property
    def environment(self) -> EnvironmentActivity | None:
        known = [told.environment for told in self._everybody() if told.environment is not None]
        return max(known, key=_environment_order)[1] if known else None

    def told_of_endpoint(self, name: str) -> tuple[bytes, ...]:
        """What `endpoint` is made of: equal exactly when nothing new was told."""
        return tuple(view.raw for view in self._views(name))

    def endpoint(self, name: str, uid: str) -> EndpointReport | None:
        """The view of its owner, or of the last one. Where two call it theirs, one has not said yet that it let go: the
        owner is who attempted last, or who came last.
        """
        known = [(view, report) for view in self._views(name) if (report := view.report()).uid == uid]
        if not known:
            return None
        return max(known, key=lambda item: (_attempted(item[1]), item[0].turn))[1]

    def channel(self, wire_name: str) -> NamedActivity | None:
        return _most(told.channels.get(wire_name) for told in self._everybody())

    def event_type(self, wire_name: str) -> NamedActivity | None:
        return _most(told.event_types.get(wire_name) for told in self._everybody())

    def replay(self, name: str, uid: str) -> ReplayReport | None:
        """The view that is furthest on: whoever ran it before its endpoint's present owner has stopped earlier."""
        known = [
            progress
            for told in self._everybody()
            if (progress := told.replays.get(name)) is not None and progress.report.uid == uid
        ]
        return max(known, key=_furtherance).report if known else None

    # Inside.

    def _everybody(self) -> tuple[_Told, ...]:
        return (*self._told.values(), self._former)

    def _views(self, name: str) -> list[_View]:
        """Of nearly every endpoint there is one; two or more while it is handed over."""
        return sorted(view for told in self._everybody() if (view := told.endpoints.get(name)) is not None)

    def _next_turn(self) -> int:
        self._turn += 1
        return self._turn

    def _hear(self, told: _Told, item: EndpointReport) -> bool:
        """Take in what a gateway tells of an endpoint; True when that is news."""
        known = told.endpoints.get(item.name)
        if not item.owner:
            # What else it says then may be old by now: after an operator's start everything is told once more.
            if known is None or known.report().uid != item.uid:
                return False
            self._keep(item.name, told.endpoints.pop(item.name))
            return True
        raw = canonical(item)
        if known is None:
            told.endpoints[item.name] = _View(self._next_turn(), raw)
            self._former.endpoints.pop(item.name, None)
            return True
        told.endpoints[item.name] = _View(known.turn, raw)
        return self._is_behind(item) or known.raw != raw

    def _is_behind(self, item: EndpointReport) -> bool:
        """Whether there is a last view of another, which the owner's has passed by now; it is dropped."""
        view = self._former.endpoints.get(item.name)
        last = view.report() if view is not None else None
        if last is None or (last.uid == item.uid and _attempted(last) > _attempted(item)):
            return False
        del self._former.endpoints[item.name]
        return True

    def _keep(self, name: str, view: _View) -> None:
        """What one told who tells no more of the endpoint stays, unless somebody knows as much."""
        owners = [other for told in self._told.values() if (other := told.endpoints.get(name)) is not None]
        last = self._former.endpoints.get(name)
        if not any(_lateness(other) >= _lateness(view) for other in owners) and (
            last is None or _lateness(last) <= _lateness(view)
        ):
            self._former.endpoints[name] = view

    def _hear_of_replay(self, told: _Told, item: ReplayReport) -> bool:
        known = told.replays.get(item.name)
        if known is not None and known.report == item:
            return False
        told.replays[item.name] = _Progress(self._next_turn(), item)
        self._former.replays.pop(item.name, None)
        return True

    def _part(self, told: _Told) -> None:
        """Keep the last views of one that is gone: `told` is nobody's any more."""
        former = self._former
        for name, view in told.endpoints.items():
            self._keep(name, view)
        for name, progress in told.replays.items():
            former.replays[name] = max(progress, former.replays.get(name, progress), key=_furtherance)
        _keep_most(former.channels, told.channels)
        _keep_most(former.event_types, told.event_types)
        environments = [item for item in (former.environment, told.environment) if item is not None]
        former.environment = max(environments, key=_environment_order, default=None)


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


def _environment_order(told: tuple[int, EnvironmentActivity]) -> tuple[int, int]:
    turn, activity = told
    return activity.accepted, turn


def _counted(activity: NamedActivity) -> tuple[int, int]:
    """Both only grow."""
    return activity.accepted, activity.rejected


def _attempted(report: EndpointReport) -> str:
    return report.activity.last_attempt_time or ""


def _lateness(view: _View) -> str:
    return _attempted(view.report())


def _furtherance(progress: _Progress) -> tuple[bool, int, int, int, int]:
    """Orders views of one replay: what has ended is last, and the counts only grow (a failed one may be delivered)."""
    report = progress.report
    ended = report.phase is not Reason.RUNNING
    return ended, report.delivered + report.failed, report.delivered, report.selected, progress.turn


def _update(
    known: dict[str, NamedActivity], news: Iterable[NamedActivity], *, former: dict[str, NamedActivity]
) -> tuple[str, ...]:
    changed = []
    for item in news:
        if former.pop(item.name, None) is not None or known.get(item.name) != item:
            known[item.name] = item
            changed.append(item.name)
    return tuple(changed)


def _keep_most(former: dict[str, NamedActivity], told: dict[str, NamedActivity]) -> None:
    for name, item in told.items():
        former[name] = max(item, former.get(name, item), key=_counted)


def _most(known: Iterable[NamedActivity | None]) -> NamedActivity | None:
    return max((item for item in known if item is not None), key=_counted, default=None)
