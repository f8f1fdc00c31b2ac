"""The Store port over one PostgreSQL database: requests go to the writer, claims and reads beside it."""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import Any, Final, TypeVar

from hookstead.config.model import RetentionPolicy
from hookstead.delivery.ports import (
    Accepted,
    ActivityBucket,
    AttemptRecord,
    AttemptRow,
    Boot,
    CancelReason,
    Claim,
    Clash,
    Clock,
    DeliveryQuery,
    DeliveryRow,
    Duplicate,
    Ended,
    EndpointCounts,
    EndpointKey,
    EventQuery,
    EventRow,
    LaneState,
    NewEvent,
    Page,
    RedeliveryRefusal,
    Relay,
    ReplayDelivery,
    ReplayPage,
    ReplayPhase,
    ReplayRow,
    ReplayWindow,
)
from hookstead.store.codec import DELIVERY, EVENT, REASON_CODES
from hookstead.store.postgres import audit, booting, ids, queries, replays, retention
from hookstead.store.postgres.claimer import Claimer
from hookstead.store.postgres.claims import Claims
from hookstead.store.postgres.dropping import Dropping
from hookstead.store.postgres.faults import Health
from hookstead.store.postgres.link import Link, Target
from hookstead.store.postgres.membership import Membership, require_fence
from hookstead.store.postgres.migrate import LOCK
from hookstead.store.postgres.news import News
from hookstead.store.postgres.partitions import Calendar
from hookstead.store.postgres.peers import PostgresPeers
from hookstead.store.postgres.reader import Reader
from hookstead.store.postgres.settings import Settings
from hookstead.store.postgres.writer import Writer

Result = TypeVar("Result")
log = logging.getLogger(__name__)
_CANCEL: Final = "SELECT id, done FROM hookstead.cancel_1($1, $2, $3, $4, $5, $6, $7, $8, $9)"
_REQUEST: Final = "SELECT name, uid, erased FROM hookstead.request_1($1, $2, $3, $4, $5)"
_BRING_FORWARD: Final = "SELECT hookstead.bring_forward_1($1, $2, $3, $4, $5, $6, $7)"
_BUSY_SECONDS: Final = 0.05
"""Until the next try where another transaction was at all of the rows that were left."""


class PostgresStore:
    """See `hookstead.delivery.ports.Store`. For one event loop; made by `opening.open_postgres`."""

    def __init__(
        self, where: Target, membership: Membership, *, clock: Clock, health: Health, settings: Settings
    ) -> None:
        self._clock = clock
        self._settings = settings
        self._health = health
        self._membership = membership
        self._links = [Link(where, settings, purpose=purpose) for purpose in ("writer", "claims", "partitions")]
        claims: Claims = {}
        self._writer = Writer(membership, self._links[0], claims=claims, health=health, settings=settings)
        self._claimer = Claimer(membership, self._links[1], claims=claims, health=health, settings=settings)
        self._calendar = Calendar(self._links[2], days_ahead=settings.days_ahead, lock=LOCK)
        readers = [Link(where, settings, purpose="reader") for _ in range(settings.readers)]
        self._reader = Reader(readers, health=health)
        self._dropping = Dropping(self._links[2], owner=membership.owner, health=health)
        news = News(Link(where.around or where, settings, purpose="news"), me=membership.owner)
        self._relay = news.relay
        self._peers = PostgresPeers(
            membership,
            Link(where, settings, purpose="looks"),
            news,
            self._reader,
            clock=clock,
            in_line=self._writer.work,
            health=health,
            settings=settings,
        )
        self._closing: asyncio.Future[None] | None = None
        self._writer.lane.start()
        self._claimer.lane.start()

    @property
    def failure(self) -> str | None:
        """Why the store was given up for good; None while it works. A process that sees one should end."""
        return self._health.failure

    @property
    def peers(self) -> PostgresPeers:
        """The other processes on the database, and this one's part among them."""
        return self._peers

    @property
    def relay(self) -> Relay | None:
        """None behind a transaction-mode pooler without a way around it: nobody can listen there."""
        return self._relay

    async def prepare(self) -> None:
        """Make the partitions of today and of the days ahead."""
        await self._prepare(self._clock.now_ms())

    async def _prepare(self, now_ms: int) -> None:
        """What can not be made now is made later: until then its rows go to the partition of the rest."""
        try:
            await self._calendar.prepare(now_ms)
        except Exception as error:  # noqa: BLE001 - whatever it is, no event waits for it
            log.warning("no partitions ahead", extra={"action": "partitions_ahead", "error": str(error)})

    # ---------------------------------------------------------------------------------------------------- changes

    async def accept(self, events: Sequence[NewEvent]) -> Sequence[Accepted | Duplicate | Clash]:
        if not events:
            return []
        outcomes: Sequence[Accepted | Duplicate | Clash] = await self._writer.accept(events)
        self._peers.made(delivery.endpoint for event in events for delivery in event.deliveries)
        return outcomes

    async def record(self, attempts: Sequence[AttemptRecord], lanes: Mapping[EndpointKey, LaneState]) -> Sequence[int]:
        numbers: Sequence[int] = await self._writer.record(attempts, lanes)
        return numbers

    async def cancel(
        self, endpoint: EndpointKey, *, reason: CancelReason, now_ms: int, ended: Ended | None = None
    ) -> int:
        # Behind a shield: half a cancellation would leave deliveries of which the engine believes that they ended.
        return await asyncio.shield(asyncio.ensure_future(self._cancel(endpoint, reason, now_ms, ended)))

    async def _cancel(self, endpoint: EndpointKey, reason: CancelReason, now_ms: int, ended: Ended | None) -> int:
        """One transaction after the other: other work goes in between."""
        gone = reason is CancelReason.ENDPOINT_DELETED

        async def share() -> tuple[list[str], bool]:
            rows = await self._writer.commits.fetch(
                _CANCEL, *endpoint, REASON_CODES[reason], now_ms, self._settings.cancel_rows, gone
            )
            return [ids.unpack(DELIVERY, row[0]) for row in rows if row[0] is not None], rows[-1][1]

        total = 0
        while True:
            deliveries, done = await self._writer.work(share)
            total += len(deliveries)
            _tell(ended, {endpoint: deliveries})
            if done:
                return total
            if not deliveries:
                await asyncio.sleep(_BUSY_SECONDS)

    async def request_redelivery(self, delivery_id: str, *, now_ms: int) -> EndpointKey | RedeliveryRefusal:
        stored = ids.find(DELIVERY, delivery_id)
        if stored is None:
            return RedeliveryRefusal.NOT_FOUND
        rows = await self._writer.work(lambda: self._writer.commits.fetch(_REQUEST, stored, now_ms))
        if not rows:
            return RedeliveryRefusal.NOT_FOUND
        name, uid, erased = rows[0]
        if erased:
            return RedeliveryRefusal.PAYLOAD_ERASED
        self._peers.made([EndpointKey(name, uid)])
        return EndpointKey(name, uid)

    async def erase_payload(
        self, event_id: str, *, now_ms: int, ended: Ended | None = None
    ) -> Sequence[EndpointKey] | None:
        stored = ids.find(EVENT, event_id)
        if stored is None:
            return None

        async def run(connection: Any) -> retention.Withdrawn | None:
            # Numbers before rows: what it does is told to the others by a number.
            await connection.execute("SELECT FROM hookstead.numbering FOR UPDATE")
            seq = await connection.fetchval("SELECT seq FROM hookstead.events WHERE id = $1 FOR UPDATE", stored)
            if seq is None:
                return None
            step = retention.Step(connection, 1, 0, self._membership.owner)
            await retention.withdraw(step, [seq], reason=CancelReason.PAYLOAD_ERASED, now_ms=now_ms)
            return step.withdrawn

        withdrawn = await self._change(run)
        if withdrawn is None:
            return None
        self._peers.made(withdrawn.touched)
        _tell(ended, withdrawn.ended)
        return sorted(withdrawn.touched)

    async def expire(self, policy: RetentionPolicy, *, now_ms: int, limit: int, ended: Ended | None = None) -> bool:
        await self._prepare(now_ms)
        ages = retention.ages(policy, now_ms)
        await self._dropping.step(ages)
        more = False
        for sort in retention.SORTS:
            step = await self._change(functools.partial(self._expire, sort, ages, limit))
            self._peers.made(step.withdrawn.touched)
            _tell(ended, step.withdrawn.ended)
            more = more or step.more
        return more

    async def _expire(self, sort: retention.Sort, ages: retention.Ages, limit: int, connection: Any) -> retention.Step:
        slack_ms = self._settings.retention_slack_ms
        return await retention.expire(
            connection, sort, ages, owner=self._membership.owner, limit=limit, slack_ms=slack_ms
        )

    async def bring_forward(self, *, step_ms: int, now_ms: int) -> None:
        after: int | None = 0
        while after is not None:
            after = await self._bring_forward(step_ms, now_ms, after)

    async def _bring_forward(self, step_ms: int, now_ms: int, after: int) -> int | None:
        rows = await self._writer.work(
            lambda: self._writer.commits.fetch(_BRING_FORWARD, step_ms, now_ms, after, self._settings.cancel_rows)
        )
        last: int | None = rows[0][0]
        return last

    async def put_blob(self, name: str, value: bytes) -> None:
        await self._change(
            lambda connection: connection.execute(
                "INSERT INTO hookstead.blobs (name, value) VALUES ($1, $2)"
                " ON CONFLICT (name) DO UPDATE SET value = excluded.value",
                name,
                value,
            )
        )

    async def replace_blob(self, name: str, old: bytes | None, new: bytes) -> bool:
        if old is None:
            sql = "INSERT INTO hookstead.blobs (name, value) VALUES ($1, $2) ON CONFLICT (name) DO NOTHING RETURNING 1"
            arguments: tuple[object, ...] = (name, new)
        else:
            sql = "UPDATE hookstead.blobs SET value = $2 WHERE name = $1 AND value = $3 RETURNING 1"
            arguments = (name, new, old)
        return await self._change(lambda connection: connection.fetchval(sql, *arguments)) is not None

    async def _change(self, run: Callable[[Any], Awaitable[Result]]) -> Result:
        """`run` in the writer's turn, in one transaction, under the member's lease. Not tried again: each of these may
        be asked for twice."""

        async def work() -> Result:
            number = self._writer.commits.number()

            async def fenced(connection: Any) -> Result:
                await require_fence(connection, number)
                return await run(connection)

            return await self._writer.link.transaction(fenced)

        return await self._writer.work(work)

    # ---------------------------------------------------------------------------------------------------- replays

    async def begin_replay(self, uid: str, name: str, *, now_ms: int) -> ReplayRow:
        async def run(connection: Any) -> ReplayRow:
            await connection.execute(replays.BEGIN, uid, name, ReplayPhase.RUNNING.value, now_ms)
            return await replays.require(connection, uid)

        return await self._change(run)

    async def replay(self, uid: str) -> ReplayRow | None:
        return await self._reader.in_one_snapshot(lambda connection: replays.find(connection, uid))

    async def replay_candidates(self, window: ReplayWindow, *, limit: int, with_data: bool) -> ReplayPage:
        return await self._reader.in_one_snapshot(
            lambda connection: replays.candidates(connection, window, limit=limit, with_data=with_data)
        )

    async def advance_replay(
        self, window: ReplayWindow, page: ReplayPage, deliveries: Sequence[ReplayDelivery], *, now_ms: int
    ) -> int:
        arguments = replays.advance_arguments(window, page, deliveries, now_ms=now_ms)
        rows = await self._writer.work(lambda: self._writer.commits.fetch(replays.ADVANCE, *arguments))
        self._peers.made([window.endpoint] if rows[0][0] else [])
        return int(rows[0][0])

    async def finish_replay(self, uid: str, phase: ReplayPhase, *, now_ms: int) -> ReplayRow:
        async def run(connection: Any) -> ReplayRow:
            row = await replays.require(connection, uid)
            await connection.execute(replays.FINISH, uid, phase.value, row.delivered, row.failed, now_ms)
            return await replays.require(connection, uid)

        return await self._change(run)

    async def forget_replays(self, present: Collection[str], policy: RetentionPolicy, *, now_ms: int) -> None:
        longest = max(policy.payload_days, policy.attempt_days, policy.dead_letter_days)
        before_ms = now_ms - longest * retention.DAY_MS
        await self._change(
            lambda connection: replays.forget(connection, sorted(present), before_ms=before_ms, now_ms=now_ms)
        )

    # ----------------------------------------------------------------------------------------------------- claims

    async def claim(self, endpoint: EndpointKey, *, now_ms: int, limit: int, max_bytes: int, ordered: bool) -> Claim:
        return await self._claimer.claim(endpoint, now_ms=now_ms, limit=limit, max_bytes=max_bytes, ordered=ordered)

    async def release(self, delivery_ids: Sequence[str]) -> None:
        await self._claimer.release(delivery_ids)

    # ------------------------------------------------------------------------------------------------------ reads

    async def boot(self, *, recent_limit: int) -> Boot:
        await self._claimer.void()
        now_ms = self._clock.now_ms()

        async def read(connection: Any) -> tuple[Boot, int]:
            boot = await booting.boot(connection, recent_limit=recent_limit, now_ms=now_ms)
            return boot, int(await connection.fetchval("SELECT last FROM hookstead.numbering"))

        boot, last = await self._reader.in_one_snapshot(read)
        self._peers.booted(last)
        return boot

    async def counts(self) -> Mapping[EndpointKey, EndpointCounts]:
        # In line with what is written: read beside it, they might show what its caller was not told yet.
        return booting.counted(await self._writer.work(lambda: self._writer.link.fetch(booting.COUNTS)))

    async def delivery(self, delivery_id: str) -> tuple[DeliveryRow, Sequence[AttemptRow]] | None:
        return await self._reader.in_one_snapshot(lambda connection: queries.delivery(connection, delivery_id))

    async def deliveries(self, query: DeliveryQuery, *, cursor: str | None, limit: int) -> Page[DeliveryRow]:
        return await self._reader.in_one_snapshot(
            lambda connection: queries.deliveries(
                connection, query, cursor=cursor, limit=limit, scan_rows=self._settings.scan_rows
            )
        )

    async def event(self, event_id: str) -> EventRow | None:
        return await self._reader.in_one_snapshot(lambda connection: queries.event(connection, event_id))

    async def events(self, query: EventQuery, *, cursor: str | None, limit: int) -> Page[EventRow]:
        return await self._reader.in_one_snapshot(
            lambda connection: queries.events(
                connection, query, cursor=cursor, limit=limit, scan_rows=self._settings.scan_rows
            )
        )

    async def activity(self, *, since_ms: int, until_ms: int, bucket_seconds: int) -> Sequence[ActivityBucket]:
        return await self._reader.in_one_snapshot(
            lambda connection: booting.activity(
                connection, since_ms=since_ms, until_ms=until_ms, bucket_seconds=bucket_seconds
            )
        )

    async def get_blob(self, name: str) -> bytes | None:
        rows = await self._reader.fetch("SELECT value FROM hookstead.blobs WHERE name = $1", name)
        return rows[0][0] if rows else None

    async def check(self) -> Sequence[str]:
        return await self._reader.in_one_snapshot(audit.check)

    # ------------------------------------------------------------------------------------------------------ close

    async def close(self) -> None:
        if self._closing is None:
            self._closing = asyncio.ensure_future(self._close())
        await asyncio.shield(self._closing)

    async def _close(self) -> None:
        await self._writer.lane.close()
        await self._claimer.lane.close()
        await self._reader.close()
        await self._peers.close()
        await self._membership.leave()
        for link in self._links:
            await link.close()


def _tell(ended: Ended | None, deliveries: Mapping[EndpointKey, Sequence[str]]) -> None:
    if ended is not None:
        for endpoint, of in deliveries.items():
            if of:
                ended(endpoint, of)
