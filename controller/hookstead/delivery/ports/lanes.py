"""What is remembered of an endpoint: its state, its counts, what a starting engine reads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from hookstead.delivery.ports.attempts import RecentAttempt
from hookstead.delivery.ports.deliveries import EndpointKey


@dataclass(frozen=True, slots=True, kw_only=True)
class LaneState:
    """What the engine must remember of an endpoint across restarts. Times are wall milliseconds, None = not so."""

    consecutive_failures: int = 0
    failing_since_ms: int | None = None
    last_attempt_ms: int | None = None
    last_success_ms: int | None = None
    last_failure_ms: int | None = None
    retry_after_until_ms: int | None = None
    circuit_opened_ms: int | None = None
    circuit_probe_ms: int | None = None
    circuit_backoff_seconds: int = 0
    suspended_ms: int | None = None
    gone_ms: int | None = None
    handled_resume_at: str | None = None


class EndpointCounts(NamedTuple):
    """Each delivery once, under its present status. Their sum is what the endpoint was ever given."""

    pending: int = 0
    delivered: int = 0
    dead_lettered: int = 0
    cancelled: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointWindow:
    """Attempts and dead letters of one endpoint within the last 24 h, to the hour."""

    succeeded: int = 0
    failed: int = 0
    dead_lettered: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Boot:
    """What a starting engine reads once. Keys absent from a mapping have zero of it."""

    lanes: Mapping[EndpointKey, LaneState] = field(default_factory=dict)
    counts: Mapping[EndpointKey, EndpointCounts] = field(default_factory=dict)
    windows: Mapping[EndpointKey, EndpointWindow] = field(default_factory=dict)
    next_due_ms: Mapping[EndpointKey, int] = field(default_factory=dict)
    recent: Mapping[EndpointKey, tuple[RecentAttempt, ...]] = field(default_factory=dict)
