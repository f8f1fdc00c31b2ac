"""The ports of the engine: what it needs of the world, and what every implementation owes.

Units: `…_ms` are integer milliseconds (wall times since the Unix epoch); durations in seconds say so.
All values are frozen; a Store implementation may keep them after the call.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Generic, NamedTuple, Protocol, TypeVar

from hookstead.config.model import EgressPolicy, RetentionPolicy, TlsMaterial
from hookstead.resources.kinds import PayloadFormat, ReplaySelect

Row = TypeVar("Row", covariant=True)

RESPONSE_BODY_LIMIT = 16 * 1024
"""Bytes of a response body that are read, kept and shown; the connection is closed behind them."""


class EndpointKey(NamedTuple):
    """An endpoint's identity. A new object of the same name has another uid and inherits nothing."""

    name: str
    uid: str


class DeliveryStatus(StrEnum):
    PENDING = "Pending"
    DELIVERED = "Delivered"
    DEAD_LETTERED = "DeadLettered"
    CANCELLED = "Cancelled"


class CancelReason(StrEnum):
    ENDPOINT_DELETED = "EndpointDeleted"
    ENDPOINT_DISABLED = "EndpointDisabled"
    PAYLOAD_ERASED = "PayloadErased"
    EXPIRED = "Expired"


class Trigger(StrEnum):
    SCHEDULED = "Scheduled"
    MANUAL = "Manual"
    REPLAY = "Replay"


class ErrorCode(StrEnum):
    DNS = "dns"
    ADDRESS_DENIED = "address-denied"
    CONNECT = "connect"
    TLS = "tls"
    TIMEOUT = "timeout"
    PROTOCOL = "protocol"
    HTTP_STATUS = "http-status"


# --------------------------------------------------------------------------------------------------- clock, chance


class Clock(Protocol):
    def now_ms(self) -> int:
        """Wall clock. May step; only what outlives the process is measured with it."""

    def monotonic(self) -> float:
        """Seconds on a clock that never steps; the asyncio loop's own clock, so that timers agree with it."""


class Random(Protocol):
    def jitter(self) -> float:
        """A number in [-1, 1), uniform."""

    def event_id(self) -> str:
        """A new `msg_…`, time-ordered, unique."""

    def delivery_id(self) -> str:
        """A new `dlv_…`, time-ordered, unique."""


# ------------------------------------------------------------------------------------------------------- transport


@dataclass(frozen=True, slots=True, kw_only=True)
class OutboundRequest:
    """One POST. `endpoint` names the connection pool; nothing is shared between two endpoints.

    `headers` are complete but for `host` and `content-length`, names in lower case, validated.
    `timeout_seconds` covers the whole attempt: look-up, connect, TLS, request, response.
    """

    endpoint: EndpointKey
    url: str = field(repr=False)
    headers: tuple[tuple[str, str], ...] = field(repr=False)
    body: bytes = field(repr=False)
    timeout_seconds: float
    policy: EgressPolicy
    tls: TlsMaterial | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SendResult:
    """How an attempt ended. `error` is None when a complete answer arrived, whatever its status.

    `status_code` is 0 while no status line was read. `body` holds at most RESPONSE_BODY_LIMIT bytes, undecoded.
    `retry_after` is the raw header value. `message` says in one line what happened, without secrets or paths.
    """

    status_code: int = 0
    error: ErrorCode | None = None
    message: str = ""
    retry_after: str | None = None
    body: bytes = b""


class Transport(Protocol):
    async def send(self, request: OutboundRequest) -> SendResult:
        """Dial, send, read, within the timeout. Never raises but for cancellation. Never follows a redirect."""

    def forget(self, endpoint: EndpointKey) -> None:
        """Close the endpoint's idle connections: its URL, TLS material or the policy changed, or it is gone."""

    async def close(self) -> None:
        """Close every connection. Attempts under way are cancelled by their callers beforehand."""


# ----------------------------------------------------------------------------------------------------------- store


class CallerId(NamedTuple):
    """The caller's idempotency key. Native ids live in space "", CloudEvents in the space of their source."""

    space: str
    id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NewDelivery:
    """A delivery to be created with its event. `claimed`: it is already on its way in this process."""

    id: str
    endpoint: EndpointKey
    payload_format: PayloadFormat
    claimed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class NewEvent:
    """An event as it was accepted. `timestamp` and `data` are JSON text, byte for byte the caller's.

    `source` is the CloudEvents source, None for native events. `digest` covers type, channels, timestamp and data.
    """

    id: str
    type: str
    channels: tuple[str, ...]
    timestamp: bytes
    data: bytes
    digest: bytes
    accepted_ms: int
    caller_id: CallerId | None = None
    source: str | None = None
    traceparent: str | None = None
    deliveries: tuple[NewDelivery, ...] = ()


@dataclass(frozen=True, slots=True)
class Accepted:
    """The event is on stable storage, with its deliveries."""

    id: str
    endpoints: int


@dataclass(frozen=True, slots=True)
class Duplicate:
    """The caller's id was seen before with the same content; `id` and `endpoints` are the first's."""

    id: str
    endpoints: int


@dataclass(frozen=True, slots=True)
class Clash:
    """The caller's id was seen before with other content; `id` is the first event's."""

    id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A claimed delivery with what an attempt needs.

    `attempt_count` counts every attempt so far; `schedule_position` only those of the present schedule (manual ones
    never move it, a replay resets it). `due_ms` is the scheduled time of the attempt (None for a manual one of a
    delivery that is not pending).
    """

    delivery_id: str
    endpoint: EndpointKey
    event_id: str
    event_type: str
    timestamp: bytes
    data: bytes
    payload_format: PayloadFormat
    trigger: Trigger
    status: DeliveryStatus
    attempt_count: int
    schedule_position: int
    due_ms: int | None
    channels: tuple[str, ...] = ()
    source: str | None = None
    traceparent: str | None = None
    in_order: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """What `claim` found. `next_due_ms`: the earliest pending, unclaimed delivery left behind, None if none is.

    A manual request for a delivery whose scheduled attempt is under way counts as left behind, too.
    """

    jobs: tuple[Job, ...] = ()
    next_due_ms: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Settlement:
    """What becomes of a delivery after an attempt; computed by `delivery.transitions`, applied by the store."""

    status: DeliveryStatus
    next_attempt_ms: int | None = None
    schedule_position: int = 0
    cancel_reason: CancelReason | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptRecord:
    """One attempt that was sent (or denied at the dial), and what it means for its delivery.

    The store numbers it (attempt_count + 1), applies the settlement with compare-and-set on the delivery's status
    through `transitions.reconcile`, and releases the claim, all in one transaction.
    """

    delivery_id: str
    endpoint: EndpointKey
    trigger: Trigger
    started_ms: int
    duration_ms: int
    succeeded: bool
    status_code: int
    error: ErrorCode | None
    message: str
    response_body: bytes
    prior_status: DeliveryStatus
    settlement: Settlement


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
class DeliveryRow:
    id: str
    event_id: str
    event_type: str
    endpoint: str
    channels: tuple[str, ...]
    status: DeliveryStatus
    cancel_reason: CancelReason | None
    attempt_count: int
    created_ms: int
    next_attempt_ms: int | None
    completed_ms: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptRow:
    number: int
    started_ms: int
    trigger: Trigger
    succeeded: bool
    status_code: int
    error: ErrorCode | None
    duration_ms: int
    message: str
    response_body: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class EventRow:
    """`data` is None once the payload was erased or its retention ended, and in lists."""

    id: str
    type: str
    channels: tuple[str, ...]
    timestamp: bytes
    accepted_ms: int
    data: bytes | None = None
    source: str | None = None
    deliveries: tuple[DeliveryRow, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryQuery:
    """Filters of a list of deliveries, newest first; `since_ms` inclusive, `until_ms` exclusive, on creation."""

    endpoint: str | None = None
    status: DeliveryStatus | None = None
    event_type: str | None = None
    channel: str | None = None
    since_ms: int | None = None
    until_ms: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EventQuery:
    event_type: str | None = None
    channel: str | None = None
    since_ms: int | None = None
    until_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Page(Generic[Row]):
    """One page of a list, newest first. `next_cursor` is opaque and stays valid while rows arrive; None = the end."""

    items: tuple[Row, ...]
    next_cursor: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ActivityBucket:
    """What happened in [start_ms, start_ms + width). Latencies are attempt durations; None where none was made."""

    start_ms: int
    accepted: int = 0
    delivered: int = 0
    failed: int = 0
    dead_lettered: int = 0
    p50_ms: int | None = None
    p99_ms: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointWindow:
    """Attempts and dead letters of one endpoint within the last 24 h, to the hour."""

    succeeded: int = 0
    failed: int = 0
    dead_lettered: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class RecentAttempt:
    """One line of `status.recentDeliveries`."""

    delivery_id: str
    event_type: str
    started_ms: int
    number: int
    succeeded: bool
    status_code: int
    duration_ms: int
    message: str
    next_attempt_ms: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Boot:
    """What a starting engine reads once. Keys absent from a mapping have zero of it."""

    lanes: Mapping[EndpointKey, LaneState] = field(default_factory=dict)
    counts: Mapping[EndpointKey, EndpointCounts] = field(default_factory=dict)
    windows: Mapping[EndpointKey, EndpointWindow] = field(default_factory=dict)
    next_due_ms: Mapping[EndpointKey, int] = field(default_factory=dict)
    recent: Mapping[EndpointKey, tuple[RecentAttempt, ...]] = field(default_factory=dict)


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


Ended = Callable[[EndpointKey, Sequence[str]], None]
"""Told, on the event loop and behind the commit, which deliveries of an endpoint were cancelled; must not raise."""


class RedeliveryRefusal(StrEnum):
    NOT_FOUND = "NotFound"
    PAYLOAD_ERASED = "PayloadErased"


class Store(Protocol):
    """Durable state of one environment. Every method that changes something returns after its commit.

    Writes of several callers share a transaction (group commit). Any method may raise StoreUnavailable (try again)
    or StoreFull (disk watermark); nothing was changed then.
    """

    @property
    def failure(self) -> str | None:
        """Why the store was given up for good; None while it works. A process that sees one should end."""

    async def boot(self, *, recent_limit: int) -> Boot:
        """State for a starting engine; all claims of a former life of this process are void."""

    async def accept(self, events: Sequence[NewEvent]) -> Sequence[Accepted | Duplicate | Clash]:
        """Persist events and their deliveries in one transaction; returns after the fsync, in input order.

        Two events of one call with one caller's id are judged one after the other.
        """

    async def claim(self, endpoint: EndpointKey, *, now_ms: int, limit: int, max_bytes: int, ordered: bool) -> Claim:
        """Claim up to `limit` due deliveries, manual requests first, then by due time, then by age.

        Stops once payloads exceed `max_bytes` (but returns at least one). With `ordered`, of the deliveries that are
        in order at most the oldest pending one is returned, and only when it is due and not claimed.
        """

    async def release(self, delivery_ids: Sequence[str]) -> None:
        """Give claimed deliveries back unattempted; they stay as they were."""

    async def record(self, attempts: Sequence[AttemptRecord], lanes: Mapping[EndpointKey, LaneState]) -> Sequence[int]:
        """Persist attempts, settlements and lane states in one transaction; release the claims. Returns numbers."""

    async def cancel(
        self, endpoint: EndpointKey, *, reason: CancelReason, now_ms: int, ended: Ended | None = None
    ) -> int:
        """Every Pending delivery of the endpoint ends as Cancelled; returns how many. Safe to repeat.

        Goes on to the end also where the caller is cancelled. `ended` is called once for each transaction.
        """

    async def request_redelivery(self, delivery_id: str, *, now_ms: int) -> EndpointKey | RedeliveryRefusal:
        """Ask durably for one manual attempt, due now, whatever the delivery's status. Asking twice is asking once."""

    async def begin_replay(self, uid: str, name: str, *, now_ms: int) -> ReplayRow:
        """Remember a replay; one that is known is returned as it is."""

    async def replay(self, uid: str) -> ReplayRow | None: ...

    async def replay_candidates(self, window: ReplayWindow, *, limit: int, with_data: bool) -> ReplayPage:
        """What follows behind the replay's position; erased payloads and other endpoints' deliveries are left out."""

    async def advance_replay(
        self, window: ReplayWindow, page: ReplayPage, deliveries: Sequence[ReplayDelivery], *, now_ms: int
    ) -> int:
        """Make or re-arm deliveries and move the position, in one transaction: a restart repeats nothing.

        Returns how many were made; a dead letter that is none any more is passed over. Outside the order.
        """

    async def finish_replay(self, uid: str, phase: ReplayPhase, *, now_ms: int) -> ReplayRow:
        """End a replay for good; one that has ended stays as it ended."""

    async def forget_replays(self, present: Collection[str], retention: RetentionPolicy, *, now_ms: int) -> None:
        """Drop the replays that have been absent from `present` (uids) at every call for the longest retention.

        One that comes back before that is known again, with its end. Every call is one bounded step.
        """

    async def erase_payload(
        self, event_id: str, *, now_ms: int, ended: Ended | None = None
    ) -> Sequence[EndpointKey] | None:
        """Erase data, keep the log; Pending deliveries become Cancelled (PayloadErased). None: no such event.

        Soon after it no byte of the data is left in any file of the store.
        """

    async def expire(self, retention: RetentionPolicy, *, now_ms: int, limit: int, ended: Ended | None = None) -> bool:
        """One bounded step of retention; True when there is more to do. Expired Pending deliveries are Cancelled."""

    async def counts(self) -> Mapping[EndpointKey, EndpointCounts]:
        """From roll-ups, never by counting history.

        As of a point in the order of the writes: whoever was answered before sees his own in it, and nobody's later.
        """

    async def delivery(self, delivery_id: str) -> tuple[DeliveryRow, Sequence[AttemptRow]] | None: ...

    async def deliveries(self, query: DeliveryQuery, *, cursor: str | None, limit: int) -> Page[DeliveryRow]:
        """Raises InvalidCursor for a cursor that this list did not give."""

    async def event(self, event_id: str) -> EventRow | None: ...

    async def events(self, query: EventQuery, *, cursor: str | None, limit: int) -> Page[EventRow]: ...

    async def activity(self, *, since_ms: int, until_ms: int, bucket_seconds: int) -> Sequence[ActivityBucket]:
        """Consecutive buckets, oldest first, empty ones included; boundaries are multiples of the width."""

    async def get_blob(self, name: str) -> bytes | None:
        """A small value that was put under this name."""

    async def bring_forward(self, *, step_ms: int, now_ms: int) -> None:
        """Make pending deliveries and manual requests that are due after `now_ms` due `step_ms` earlier.

        Each once, in one or several transactions: the wall clock went back, and what is left of a wait stays the same.
        """

    async def put_blob(self, name: str, value: bytes) -> None:
        """Keep a small value, durably, under a name of ours."""

    async def check(self) -> Sequence[str]:
        """Integrity and the conservation law; sentences that name what is wrong, none when all is well."""

    async def close(self) -> None:
        """Finish what was handed in, then close. Calls after it raise StoreUnavailable."""


# ---------------------------------------------------------------------------------------------------------- errors


class StoreError(Exception):
    """The store could not do it."""


class StoreUnavailable(StoreError):
    """The store cannot answer now; nothing was changed; try again."""


class StoreFull(StoreError):
    """Free disk space is below the watermark; nothing was changed."""


class InvalidCursor(ValueError):
    """The cursor was not given out by this list."""
