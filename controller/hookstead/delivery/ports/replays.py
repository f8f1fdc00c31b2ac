"""A replay: where it looks, what it finds, how far it is."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from hookstead.delivery.ports.deliveries import EndpointKey
from hookstead.resources.kinds import PayloadFormat, ReplaySelect


class ReplayPhase(StrEnum):
    """RUNNING goes on; each of the others is an end, and an ended replay is never run again."""

    RUNNING = "Running"
    COMPLETED = "Completed"
    NOTHING_SELECTED = "NothingSelected"
    ENDPOINT_NOT_FOUND = "EndpointNotFound"
    ENDPOINT_DISABLED = "EndpointDisabled"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayRow:
    """What the store knows of one replay. `selecting`: it has not looked at its whole window yet.

    `pending`, `delivered` and `failed` (dead-lettered or cancelled) count the deliveries that it made or re-armed.
    """

    uid: str
    name: str
    phase: ReplayPhase
    selecting: bool
    selected: int
    pending: int
    delivered: int
    failed: int
    started_ms: int
    completed_ms: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayWindow:
    """Where a replay looks: events accepted in [since_ms, until_ms), for one endpoint."""

    uid: str
    endpoint: EndpointKey
    select: ReplaySelect
    since_ms: int
    until_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayCandidate:
    """An event that the replay may deliver again. `delivery_id` names the dead letter, for `Failed` alone.

    `data` is None unless it was asked for.
    """

    event_id: str
    event_type: str
    channels: tuple[str, ...]
    timestamp: bytes
    data: bytes | None
    delivery_id: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayPage:
    """The next candidates, and the position behind them. `exhausted`: the window ends here."""

    candidates: tuple[ReplayCandidate, ...]
    position: int
    exhausted: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayDelivery:
    """One delivery to make (or, with `rearm`, a dead letter to re-arm), with a whole schedule, due at `due_ms`."""

    event_id: str
    delivery_id: str
    rearm: bool
    payload_format: PayloadFormat
    due_ms: int
