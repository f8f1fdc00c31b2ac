"""Counts of events: over all, and for each declared channel and event type. Names that nobody declared share a row."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet

import msgspec

from hookstead.config.model import DeliveryConfig
from hookstead.config.report import NamedActivity
from hookstead.config.times import format_optional
from hookstead.delivery.intake import RefusalKind


class _Tally(msgspec.Struct):
    """`version` is the counters' when it last changed; it means nothing outside of the process."""

    accepted: int = 0
    rejected: int = 0
    last_ms: int | None = None
    version: int = 0


class _Sums(msgspec.Struct, omit_defaults=True):
    """`by` tells who wrote the blob, so that a process whose write nobody answered knows it again."""

    channels: dict[str, _Tally] = {}
    event_types: dict[str, _Tally] = {}
    accepted: int = 0
    last_ms: int | None = None
    by: str = ""


class EventCounters:
    """What all processes of the store counted, as far as it was read, and what this one counted since.

    The sum is a blob of the store, to which each process adds its part from time to time (`added_to`, `merged`): a
    crash may forget the last seconds of counting, no event.
    """

    def __init__(self) -> None:
        self._shared = _Sums()
        self._own = _Sums()
        self._declared_channels: frozenset[str] = frozenset()
        self._declared_types: frozenset[str] = frozenset()
        self._gone_channels: set[str] = set()
        self._gone_types: set[str] = set()
        self.results: Counter[str] = Counter()
        self.filter_errors: Counter[str] = Counter()
        self.undeclared_channels = 0
        self.mismatches = 0
        self.version = 0

    def declare(self, config: DeliveryConfig, *, alone: bool) -> None:
        """Only these names are counted apart: a caller must not be able to grow memory.

        What was declared before and is not any more is forgotten; `alone`: so is what nobody here ever declared, since
        no other process can have.
        """
        channels = frozenset(c.channel_name for c in config.channels if c.verdict.is_accepted)
        types = frozenset(e.type for e in config.event_types if e.verdict.is_accepted)
        self._gone_channels |= self._declared_channels | (self._shared.channels.keys() if alone else set())
        self._gone_types |= self._declared_types | (self._shared.event_types.keys() if alone else set())
        self._gone_channels -= channels
        self._gone_types -= types
        self._declared_channels, self._declared_types = channels, types
        for sums in (self._shared, self._own):
            self._forget(sums)

    def _forget(self, sums: _Sums) -> None:
        for tallies, names in ((sums.channels, self._gone_channels), (sums.event_types, self._gone_types)):
            for gone in names & tallies.keys():
                del tallies[gone]

    def accepted(self, event_type: str, channels: Sequence[str], *, now_ms: int) -> None:
        self.version += 1
        self.results["accepted"] += 1
        self._own.accepted += 1
        self._own.last_ms = now_ms
        if event_type in self._declared_types:
            self._count(self._own.event_types, event_type, now_ms)
        for channel in channels:
            if channel in self._declared_channels:
                self._count(self._own.channels, channel, now_ms)
            else:
                self.undeclared_channels += 1

    def _count(self, tallies: dict[str, _Tally], name: str, now_ms: int) -> None:
        tally = tallies.setdefault(name, _Tally())
        tally.accepted += 1
        tally.last_ms = now_ms
        tally.version = self.version

    def refused(self, event_type: str, kind: RefusalKind) -> None:
        self.version += 1
        self.results[kind.value] += 1
        self._reject(event_type)

    def warned(self, event_type: str) -> None:
        """Wrong by the catalog and delivered all the same."""
        self.version += 1
        self.mismatches += 1
        self._reject(event_type)

    def _reject(self, event_type: str) -> None:
        if event_type in self._declared_types:
            tally = self._own.event_types.setdefault(event_type, _Tally())
            tally.rejected += 1
            tally.version = self.version

    def repeated(self, *, clash: bool) -> None:
        self.results["clash" if clash else "duplicate"] += 1

    def filter_failed(self, endpoints: Sequence[str]) -> None:
        for endpoint in endpoints:
            self.filter_errors[endpoint] += 1

    @property
    def total_accepted(self) -> int:
        return self._shared.accepted + self._own.accepted

    @property
    def last_event_time(self) -> str | None:
        return format_optional(_later(self._shared.last_ms, self._own.last_ms))

    def channels(self, *, after: int = -1) -> tuple[NamedActivity, ...]:
        """Declared channels that were counted after the version."""
        return _activities(self._shared.channels, self._own.channels, self._declared_channels, after)

    def event_types(self, *, after: int = -1) -> tuple[NamedActivity, ...]:
        """Declared event types that were counted after the version."""
        return _activities(self._shared.event_types, self._own.event_types, self._declared_types, after)

    def added_to(self, saved: bytes | None, *, by: str) -> Addition:
        """The shared sum with what was counted here, where `saved` is what the store has now. `by`: a name that no
        other write has."""
        sums = _Sums() if saved is None else msgspec.json.decode(saved, type=_Sums)
        own = msgspec.json.decode(msgspec.json.encode(self._own), type=_Sums)
        before = msgspec.json.encode(sums)
        _add(sums, own)
        self._forget(sums)
        if msgspec.json.encode(sums) == before:
            return Addition(None, sums, own)
        sums.by = by
        return Addition(msgspec.json.encode(sums), sums, own)

    def merged(self, addition: Addition) -> None:
        """The addition is the shared sum now. What was counted since it was made is added next time."""
        own, sums = self._own, addition.sums
        _subtract(own, addition.own)
        changed = sums.accepted != self._shared.accepted + addition.own.accepted
        for before, after, mine in (
            (self._shared.channels, sums.channels, addition.own.channels),
            (self._shared.event_types, sums.event_types, addition.own.event_types),
        ):
            for name, tally in after.items():
                known, part = before.get(name, _Tally()), mine.get(name, _Tally())
                tally.version = max(known.version, part.version)
                if tally.accepted != known.accepted + part.accepted or tally.rejected != known.rejected + part.rejected:
                    tally.version = self.version + 1  # somebody else counted, too
                    changed = True
        self.version += changed
        self._shared = sums
        self._forget(sums)


class Addition(msgspec.Struct):
    """What the shared blob is to become (None: it stays): the present sum (`sums`) with one process's part in it."""

    blob: bytes | None
    sums: _Sums
    own: _Sums


def _add(sums: _Sums, part: _Sums) -> None:
    sums.accepted += part.accepted
    sums.last_ms = _later(sums.last_ms, part.last_ms)
    for tallies, more in ((sums.channels, part.channels), (sums.event_types, part.event_types)):
        for name, tally in more.items():
            total = tallies.setdefault(name, _Tally())
            total.accepted += tally.accepted
            total.rejected += tally.rejected
            total.last_ms = _later(total.last_ms, tally.last_ms)
            total.version = 0


def _subtract(sums: _Sums, part: _Sums) -> None:
    sums.accepted -= part.accepted
    for tallies, less in ((sums.channels, part.channels), (sums.event_types, part.event_types)):
        for name, tally in less.items():
            rest = tallies.get(name)
            if rest is None:
                continue
            rest.accepted -= tally.accepted
            rest.rejected -= tally.rejected
            if not rest.accepted and not rest.rejected:
                del tallies[name]


def _later(first: int | None, second: int | None) -> int | None:
    return max((moment for moment in (first, second) if moment is not None), default=None)


def _activities(
    shared: Mapping[str, _Tally], own: Mapping[str, _Tally], declared: AbstractSet[str], after: int
) -> tuple[NamedActivity, ...]:
    nothing = _Tally()
    found = []
    for name in sorted((shared.keys() | own.keys()) & declared):
        base, more = shared.get(name, nothing), own.get(name, nothing)
        if max(base.version, more.version) > after:
            found.append(
                NamedActivity(
                    name=name,
                    accepted=base.accepted + more.accepted,
                    rejected=base.rejected + more.rejected,
                    last_event_time=format_optional(_later(base.last_ms, more.last_ms)),
                )
            )
    return tuple(found)
