"""Counts of events: over all, and for each declared channel and event type. Names that nobody declared share a row."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import msgspec

from hookstead.config.model import DeliveryConfig
from hookstead.config.report import NamedActivity
from hookstead.config.times import format_optional
from hookstead.delivery.intake import RefusalKind


class _Tally(msgspec.Struct):
    accepted: int = 0
    rejected: int = 0
    last_ms: int | None = None
    version: int = 0


class _Saved(msgspec.Struct):
    channels: dict[str, _Tally] = {}
    event_types: dict[str, _Tally] = {}
    accepted: int = 0
    last_ms: int | None = None


class EventCounters:
    """In memory, saved as a blob from time to time: a crash may forget the last seconds of counting, no event."""

    def __init__(self) -> None:
        self._saved = _Saved()
        self._declared_channels: frozenset[str] = frozenset()
        self._declared_types: frozenset[str] = frozenset()
        self.results: Counter[str] = Counter()
        self.filter_errors: Counter[str] = Counter()
        self.undeclared_channels = 0
        self.mismatches = 0
        self.version = 0

    def declare(self, config: DeliveryConfig) -> None:
        """Only these names are counted apart: a caller must not be able to grow memory."""
        self._declared_channels = frozenset(c.channel_name for c in config.channels if c.verdict.is_accepted)
        self._declared_types = frozenset(e.type for e in config.event_types if e.verdict.is_accepted)
        for tallies, names in (
            (self._saved.channels, self._declared_channels),
            (self._saved.event_types, self._declared_types),
        ):
            for gone in tallies.keys() - names:
                del tallies[gone]

    def accepted(self, event_type: str, channels: Sequence[str], *, now_ms: int) -> None:
        self.version += 1
        self.results["accepted"] += 1
        self._saved.accepted += 1
        self._saved.last_ms = now_ms
        if event_type in self._declared_types:
            self._count(self._saved.event_types, event_type, now_ms)
        for channel in channels:
            if channel in self._declared_channels:
                self._count(self._saved.channels, channel, now_ms)
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
            tally = self._saved.event_types.setdefault(event_type, _Tally())
            tally.rejected += 1
            tally.version = self.version

    def repeated(self, *, clash: bool) -> None:
        self.results["clash" if clash else "duplicate"] += 1

    def filter_failed(self, endpoints: Sequence[str]) -> None:
        for endpoint in endpoints:
            self.filter_errors[endpoint] += 1

    @property
    def total_accepted(self) -> int:
        return self._saved.accepted

    @property
    def last_event_time(self) -> str | None:
        return format_optional(self._saved.last_ms)

    def channels(self, *, after: int = -1) -> tuple[NamedActivity, ...]:
        """Channels that were counted after the version."""
        return _activities(self._saved.channels, after)

    def event_types(self, *, after: int = -1) -> tuple[NamedActivity, ...]:
        """Event types that were counted after the version."""
        return _activities(self._saved.event_types, after)

    def save(self) -> bytes:
        return msgspec.json.encode(self._saved)

    def restore(self, saved: bytes) -> None:
        self._saved = msgspec.json.decode(saved, type=_Saved)
        for tally in (*self._saved.channels.values(), *self._saved.event_types.values()):
            tally.version = 0


def _activities(tallies: dict[str, _Tally], after: int) -> tuple[NamedActivity, ...]:
    return tuple(
        NamedActivity(
            name=name,
            accepted=tally.accepted,
            rejected=tally.rejected,
            last_event_time=format_optional(tally.last_ms),
        )
        for name, tally in sorted(tallies.items())
        if tally.version > after
    )
