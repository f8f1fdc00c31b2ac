"""The Store port over one SQLite file: requests go to the writer, reads and claims to workers beside it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Final, TypeVar

import apsw

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
    ReplayDelivery,
    ReplayPage,
    ReplayPhase,
    ReplayRow,
    ReplayWindow,
    StoreFull,
)
from hookstead.store.sqlite import audit, booting, changes, claiming, queries, replays, retention, rollups
from hookstead.store.sqlite.accepting import accept, caller_keys
from hookstead.store.sqlite.checkpoint import Checkpointer, Gate
from hookstead.store.sqlite.claims import Claims
from hookstead.store.sqlite.clock_steps import BringForward
from hookstead.store.sqlite.connect import open_checkpointer, open_reader, open_writer
from hookstead.store.sqlite.faults import Health
from hookstead.store.sqlite.files import (
    DiskWatermark,
    claim_file,
    require_sqlite,
    sync_folder,
)
from hookstead.store.sqlite.group import Context, Endpoints, Group, Numbering, Ring, get_meta
from hookstead.store.sqlite.reader import Reader, in_one_snapshot
from hookstead.store.sqlite.recording import record
from hookstead.store.sqlite.rows import fetch, fetch_one
from hookstead.store.sqlite.settings import Settings
from hookstead.store.sqlite.workers import Threads, Workers
from hookstead.store.sqlite.writer import AGAIN, Writer

Result = TypeVar("Result")

EVENT_BYTES: Final = 1024
"""What an event costs beside its data, for the disk watermark."""


class SQLiteStore:
    """See `hookstead.delivery.ports.Store`. One process, one file; thread-safe towards one event loop at a time."""

    def __init__(
        self,
        path: Path,
        *,
        clock: Clock,
        min_free_bytes: int | None = None,
        settings: Settings | None = None,
        workers: Workers | None = None,
    ) -> None:
        """Open or create the file; a thread for each part unless told otherwise.

        Raises StoreRefused with what to do about it.
        """
        self._settings = settings or Settings()
        self._workers = workers or Threads()
        self._clock = clock
        require_sqlite()
        path = path.absolute()
        self._lock = claim_file(path)
        try:
            self._open(path, min_free_bytes)
        except BaseException:
            self._lock.release()
            raise
        self._writer.start()
        self._reader.start()
        self._claimer.start()
        self._checkpointer.start()
        self._checkpointer.empty_soon()  # the life before may have ended between an erasure and its last trace

    def _open(self, path: Path, min_free_bytes: int | None) -> None:
        settings, workers = self._settings, self._workers
        self._health = Health(path)
        self._disk = DiskWatermark(path.parent, min_free_bytes, monotonic=self._clock.monotonic)
        self._path = path
        self._connection = open_writer(path, settings)
        sync_folder(path.parent)
        self._claims = Claims()
        self._context = _context(self._connection, self._claims)
        gate = Gate()
        self._checkpointer = Checkpointer(
            open_checkpointer(path, settings), gate=gate, health=self._health, settings=settings, workers=workers
        )
        self._connection.set_wal_hook(self._checkpointer.noticed)
        self._writer = Writer(self._context, health=self._health, gate=gate, settings=settings, workers=workers)
        self._reader = Reader(open_reader(path, settings), name="reader", health=self._health, workers=workers)
        self._claimer = Reader(open_reader(path, settings), name="claims", health=self._health, workers=workers)
        self._closing: asyncio.Future[None] | None = None

    @property
    def failure(self) -> str | None:
        """Why the store was given up for good; None while it works. A process that sees one should end."""
        return self._health.failure

    @property
    def peers(self) -> None:
        """One process owns the file."""

    @property
    def relay(self) -> None:
        """There is nobody to tell."""

    # ---------------------------------------------------------------------------------------------------- changes

    async def accept(self, events: Sequence[NewEvent]) -> Sequence[Accepted | Duplicate | Clash]:
        if not events:
            return []
        if self._disk.is_low(sum(EVENT_BYTES + len(event.data) for event in events)):
            raise StoreFull(
                f"store {self._path}: less than {self._disk.min_free_bytes} bytes are free on its disk; "
                "free some space or lower --min-free-bytes"
            )
        return await self._writer.submit(
            lambda group: accept(group, events),
            caller_keys=caller_keys(events),
            rows=sum(1 + len(event.deliveries) for event in events),
            size=sum(len(event.data) for event in events),
            grows=True,
            orphaned=lambda _: self._drop_claims(
                [delivery.id for event in events for delivery in event.deliveries if delivery.claimed]
            ),
        )

    async def record(self, attempts: Sequence[AttemptRecord], lanes: Mapping[EndpointKey, LaneState]) -> Sequence[int]:
        return await self._writer.submit(lambda group: record(group, attempts, lanes), rows=len(attempts) + len(lanes))

    async def cancel(
        self, endpoint: EndpointKey, *, reason: CancelReason, now_ms: int, ended: Ended | None = None
    ) -> int:
        step = changes.Cancellation(endpoint=endpoint, reason=reason, now_ms=now_ms, rows=self._settings.cancel_rows)
        first = self._writer.submit(step)
        # Behind a shield: half a cancellation would leave deliveries of which the engine believes that they ended.
        return await asyncio.shield(asyncio.ensure_future(self._cancel(first, step, ended)))

    async def _cancel(
        self, share: asyncio.Future[tuple[list[str], bool]], step: changes.Cancellation, ended: Ended | None
    ) -> int:
        """One transaction after the other: other work goes in between."""
        total = 0
        while True:
            deliveries, done = await share
            total += len(deliveries)
            _tell(ended, {step.endpoint: deliveries})
            if done:
                return total
            share = self._writer.submit(step)

    async def request_redelivery(self, delivery_id: str, *, now_ms: int) -> EndpointKey | RedeliveryRefusal:
        return await self._writer.submit(lambda group: changes.request_redelivery(group, delivery_id, now_ms))

    async def begin_replay(self, uid: str, name: str, *, now_ms: int) -> ReplayRow:
        return await self._writer.submit(lambda group: replays.begin(group, uid, name, now_ms=now_ms))

    async def advance_replay(
        self, window: ReplayWindow, page: ReplayPage, deliveries: Sequence[ReplayDelivery], *, now_ms: int
    ) -> int:
        return await self._writer.submit(
            lambda group: replays.advance(group, window, page, deliveries, now_ms=now_ms), rows=1 + len(deliveries)
        )

    async def finish_replay(self, uid: str, phase: ReplayPhase, *, now_ms: int) -> ReplayRow:
        return await self._writer.submit(lambda group: replays.finish(group, uid, phase, now_ms=now_ms))

    async def replay(self, uid: str) -> ReplayRow | None:
        return await self._read(lambda connection: replays.find(connection, uid))

    async def replay_candidates(self, window: ReplayWindow, *, limit: int, with_data: bool) -> ReplayPage:
        endpoint_id = self._context.endpoints.ids.get(window.endpoint)
        skew_ms = self._context.numbering.skew_ms
        return await self._read(
            lambda connection: replays.candidates(
                connection, window, endpoint_id, limit=limit, with_data=with_data, skew_ms=skew_ms
            )
        )

    async def forget_replays(self, present: Collection[str], policy: RetentionPolicy, *, now_ms: int) -> None:
        longest = max(policy.payload_days, policy.attempt_days, policy.dead_letter_days)
        before_ms = now_ms - longest * retention.DAY_MS
        await self._writer.submit(lambda group: replays.forget(group, present, before_ms=before_ms, now_ms=now_ms))

    async def erase_payload(
        self, event_id: str, *, now_ms: int, ended: Ended | None = None
    ) -> Sequence[EndpointKey] | None:
        withdrawn = await self._writer.submit(lambda group: changes.erase_payload(group, event_id, now_ms))
        if withdrawn is None:
            return None
        self._checkpointer.empty_soon()
        _tell(ended, withdrawn.ended)
        return sorted(withdrawn.touched)

    async def expire(self, policy: RetentionPolicy, *, now_ms: int, limit: int, ended: Ended | None = None) -> bool:
        withdrawn, more = await self._writer.submit(
            lambda group: retention.expire(group, policy, now_ms=now_ms, limit=limit)
        )
        _tell(ended, withdrawn.ended)
        return more

    async def bring_forward(self, *, step_ms: int, now_ms: int) -> None:
        step = BringForward(step_ms=step_ms, now_ms=now_ms, rows=self._settings.cancel_rows)
        await self._write_until_done(lambda group: step(group) or None)

    async def put_blob(self, name: str, value: bytes) -> None:
        await self._writer.submit(lambda group: changes.put_blob(group, name, value), size=len(value))

    async def replace_blob(self, name: str, old: bytes | None, new: bytes) -> bool:
        return await self._writer.submit(lambda group: changes.replace_blob(group, name, old, new), size=len(new))

    async def _write_until_done(self, step: Callable[[Group], Result | None]) -> Result:
        """`step` runs in one transaction after the other until it returns something."""

        def again(group: Group) -> Result:
            result = step(group)
            return result if result is not None else AGAIN  # type: ignore[return-value]  # the writer runs it again

        return await self._writer.submit(again)

    # ----------------------------------------------------------------------------------------------------- claims

    async def claim(self, endpoint: EndpointKey, *, now_ms: int, limit: int, max_bytes: int, ordered: bool) -> Claim:
        endpoint_id = self._context.endpoints.ids.get(endpoint)
        if endpoint_id is None:
            self._claimer.require()
            return Claim()
        return await self._claimer.submit(
            lambda connection: claiming.claim(
                connection,
                self._claims,
                endpoint,
                endpoint_id,
                now_ms=now_ms,
                limit=limit,
                max_bytes=max_bytes,
                ordered=ordered,
            ),
            orphaned=lambda found: self._drop_claims([job.delivery_id for job in found.jobs]),
        )

    async def release(self, delivery_ids: Sequence[str]) -> None:
        await self._claimer.submit(lambda _: self._drop_claims(delivery_ids))

    def _drop_claims(self, delivery_ids: Sequence[str]) -> None:
        with self._claims.lock:
            self._claims.drop(delivery_ids)

    # ------------------------------------------------------------------------------------------------------ reads

    async def boot(self, *, recent_limit: int) -> Boot:
        await self._claimer.submit(lambda _: self._void_claims())
        names = self._context.endpoints.keys
        now_ms = self._clock.now_ms()
        return await self._read(
            lambda connection: booting.boot(connection, names, recent_limit=recent_limit, now_ms=now_ms)
        )

    def _void_claims(self) -> None:
        with self._claims.lock:
            self._claims.clear()

    async def counts(self) -> Mapping[EndpointKey, EndpointCounts]:
        # In line with what is written: read beside it, they would be older than what callers were told meanwhile.
        return await self._writer.submit(_counts)

    async def delivery(self, delivery_id: str) -> tuple[DeliveryRow, Sequence[AttemptRow]] | None:
        return await self._read(lambda connection: queries.delivery(connection, delivery_id))

    async def deliveries(self, query: DeliveryQuery, *, cursor: str | None, limit: int) -> Page[DeliveryRow]:
        return await self._read(
            lambda connection: queries.deliveries(
                connection,
                query,
                cursor=cursor,
                limit=limit,
                scan_rows=self._settings.scan_rows,
                skew_ms=self._context.numbering.skew_ms,
            )
        )

    async def event(self, event_id: str) -> EventRow | None:
        return await self._read(lambda connection: queries.event(connection, event_id))

    async def events(self, query: EventQuery, *, cursor: str | None, limit: int) -> Page[EventRow]:
        return await self._read(
            lambda connection: queries.events(
                connection,
                query,
                cursor=cursor,
                limit=limit,
                scan_rows=self._settings.scan_rows,
                skew_ms=self._context.numbering.skew_ms,
            )
        )

    async def activity(self, *, since_ms: int, until_ms: int, bucket_seconds: int) -> Sequence[ActivityBucket]:
        return await self._read(
            lambda connection: rollups.activity(
                connection, since_ms=since_ms, until_ms=until_ms, bucket_seconds=bucket_seconds
            )
        )

    async def get_blob(self, name: str) -> bytes | None:
        def read(connection: apsw.Connection) -> bytes | None:
            row = fetch_one(connection, "SELECT value FROM blobs WHERE name = ?", (name,))
            return None if row is None else row[0]

        return await self._read(read)

    async def check(self) -> Sequence[str]:
        return await self._read(lambda connection: audit.check(connection, self._context.endpoints.keys))

    async def _read(self, run: Callable[[apsw.Connection], Result]) -> Result:
        return await self._reader.submit(in_one_snapshot(run))

    # ------------------------------------------------------------------------------------------------------ close

    async def close(self) -> None:
        if self._closing is None:
            self._writer.close()
            self._reader.close()
            self._claimer.close()
            self._closing = asyncio.ensure_future(self._workers.finish(self._finish))
        await asyncio.shield(self._closing)

    def _finish(self) -> None:
        self._writer.join()
        self._reader.join()
        self._claimer.join()
        self._checkpointer.stop()
        if self._health.failure is not None:
            # Closing copies the WAL and syncs; after a failed sync that would only hide what is on the disk.
            self._connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
        self._connection.close()
        self._lock.release()


def _context(connection: apsw.Connection, claims: Claims) -> Context:
    last = fetch_one(
        connection,
        "SELECT max(coalesce((SELECT max(seq) FROM events), 0), coalesce((SELECT max(seq) FROM deliveries), 0),"
        " coalesce((SELECT max(seq) FROM attempts), 0), coalesce((SELECT max(event_seq) FROM callers), 0))",
    )[0]
    known = fetch(connection, "SELECT name, uid, id FROM endpoints")
    return Context(
        connection=connection,
        numbering=Numbering(int(last), get_meta(connection, "skew_ms")),
        endpoints=Endpoints({EndpointKey(name, uid): number for name, uid, number in known}),
        ring=Ring({}),
        claims=claims,
    )


def _tell(ended: Ended | None, deliveries: Mapping[EndpointKey, Sequence[str]]) -> None:
    if ended is not None:
        for endpoint, ids in deliveries.items():
            if ids:
                ended(endpoint, ids)


def _counts(group: Group) -> Mapping[EndpointKey, EndpointCounts]:
    group.flush()
    return booting.counts(group.connection, group.context.endpoints.keys)
