"""The store: durable state of one environment."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Protocol

from hookstead.config.model import RetentionPolicy
from hookstead.delivery.ports.attempts import AttemptRecord
from hookstead.delivery.ports.deliveries import CancelReason, Claim, Ended, EndpointKey, RedeliveryRefusal
from hookstead.delivery.ports.events import Accepted, Clash, Duplicate, NewEvent
from hookstead.delivery.ports.lanes import Boot, EndpointCounts, LaneState
from hookstead.delivery.ports.lists import (
    ActivityBucket,
    AttemptRow,
    DeliveryQuery,
    DeliveryRow,
    EventQuery,
    EventRow,
    Page,
)
from hookstead.delivery.ports.peers import Peers, Relay
from hookstead.delivery.ports.replays import ReplayDelivery, ReplayPage, ReplayPhase, ReplayRow, ReplayWindow


class Store(Protocol):
    """Durable state of one environment. Every method that changes something returns after its commit.

    Writes of several callers share a transaction (group commit). Any method may raise StoreUnavailable (try again)
    or StoreFull (disk watermark); nothing was changed then.
    """

    @property
    def failure(self) -> str | None:
        """Why the store was given up for good; None while it works. A process that sees one should end."""

    @property
    def peers(self) -> Peers | None:
        """The other processes on this store; None where it has one process only, which owns every endpoint."""

    @property
    def relay(self) -> Relay | None:
        """What passes happenings on between them; None where there is one process, or no way for it."""

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

    async def replace_blob(self, name: str, old: bytes | None, new: bytes) -> bool:
        """As `put_blob`, if the value still is `old` (None: there is none); False, and nothing done, if it is not."""

    async def check(self) -> Sequence[str]:
        """Integrity and the conservation law; sentences that name what is wrong, none when all is well."""

    async def close(self) -> None:
        """Finish what was handed in, then close. Calls after it raise StoreUnavailable."""
