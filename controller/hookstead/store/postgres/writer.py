"""What changes the store, one batch after the other: events and attempts of several callers share a statement."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import asyncpg

from hookstead.delivery.ports import AttemptRecord, EndpointKey, LaneState, NewEvent, StoreFull, StoreUnavailable
from hookstead.store.codec import DELIVERY
from hookstead.store.postgres import accepting, faults, ids, recording
from hookstead.store.postgres.accepting import Packed
from hookstead.store.postgres.claims import Claims, Held
from hookstead.store.postgres.faults import Health
from hookstead.store.postgres.lane import Lane, Request
from hookstead.store.postgres.link import Link
from hookstead.store.postgres.membership import Commits, Membership
from hookstead.store.postgres.settings import Settings

Result = TypeVar("Result")
_LOOKS: Final = 5
"""How often a batch of attempts is computed anew because a delivery changed in between."""
_FOLD_SECONDS: Final = 5.0
"""From the first batch to when what it and those behind it counted is added up."""
_FOLD: Final = "SELECT set_config('synchronous_commit', 'off', true), hookstead.fold_1(ARRAY[$1::bigint])"


@dataclass(slots=True, kw_only=True)
class Accepting(Request):
    events: list[Packed]


@dataclass(slots=True, kw_only=True)
class Recording(Request):
    attempts: Sequence[AttemptRecord]
    lanes: Mapping[EndpointKey, LaneState]


@dataclass(slots=True, kw_only=True)
class Working(Request):
    """Anything else; it takes its turn alone, behind what came before it."""

    run: Callable[[], Awaitable[Any]]


Writing = Accepting | Recording | Working


class Writer:
    def __init__(
        self, membership: Membership, link: Link, *, claims: Claims, health: Health, settings: Settings
    ) -> None:
        self.link: Final = link
        self.commits: Final = Commits(membership, link, settings=settings)
        self._owner = membership.owner
        self._claims = claims
        self._owed: list[int] = []
        self._numbers = accepting.EndpointNumbers()
        self._health = health
        self._group_rows = settings.group_rows
        self._folding: asyncio.TimerHandle | None = None
        self.lane: Final[Lane[Any]] = Lane(
            self._serve,
            name="writer",
            health=health,
            queue_rows=settings.queue_rows,
            queue_bytes=settings.queue_bytes,
        )

    # ------------------------------------------------------------------------------------------------------ callers

    def accept(self, events: Sequence[NewEvent]) -> asyncio.Future[Any]:
        """Raises ValueError for an event whose names can not be kept, at once and for its caller alone."""
        claimed = [delivery.id for event in events for delivery in event.deliveries if delivery.claimed]

        async def give_back(_: object) -> None:
            await self.release(claimed)

        return self.lane.submit(
            Accepting(
                future=asyncio.get_running_loop().create_future(),
                events=[accepting.pack(event) for event in events],
                rows=sum(1 + len(event.deliveries) for event in events),
                size=sum(len(event.data) for event in events),
                grows=True,
                orphaned=give_back if claimed else None,
            )
        )

    def record(self, attempts: Sequence[AttemptRecord], lanes: Mapping[EndpointKey, LaneState]) -> asyncio.Future[Any]:
        return self.lane.submit(
            Recording(
                future=asyncio.get_running_loop().create_future(),
                attempts=attempts,
                lanes=lanes,
                rows=len(attempts) + len(lanes),
            )
        )

    async def work(self, run: Callable[[], Awaitable[Result]], *, size: int = 0) -> Result:
        """`run` in its turn."""
        request = Working(future=asyncio.get_running_loop().create_future(), run=run, size=size)
        result: Result = await self.lane.submit(request)
        return result

    async def release(self, delivery_ids: Sequence[str]) -> None:
        """Give claims of this process back that nobody took; where the database is away, later."""
        self._owed += [self._claims.pop(name).seq for name in delivery_ids if name in self._claims]
        with contextlib.suppress(Exception):  # what is owed stays owed
            await self._settle_debts()

    # --------------------------------------------------------------------------------------------------- the lane's

    async def _serve(self, batch: list[Writing]) -> None:
        """Answer what stands before the first piece of other work, or that piece."""
        first = batch[0]
        if isinstance(first, Working):
            del batch[0]
            await self._work(first)
            return
        group, rows = 0, 0
        for request in batch:
            if isinstance(request, Working) or rows >= self._group_rows:
                break
            group += 1
            rows += request.rows
        taken = batch[:group]
        del batch[:group]
        await self._write([one for one in taken if isinstance(one, Accepting)], self._accept)
        await self._write([one for one in taken if isinstance(one, Recording)], self._record)
        if self._folding is None:
            self._folding = asyncio.get_running_loop().call_later(_FOLD_SECONDS, self._fold)
        with contextlib.suppress(Exception):  # what is owed stays owed
            await self._settle_debts()

    def _fold(self) -> None:
        """Have counters and roll-ups brought up to the journal. Where that fails, the next batch asks for it again."""
        self._folding = None
        with contextlib.suppress(StoreUnavailable):  # whoever leaves is added up by the database
            future = self.lane.submit(
                Working(
                    future=asyncio.get_running_loop().create_future(), run=lambda: self.link.fetch(_FOLD, self._owner)
                )
            )
            future.add_done_callback(lambda done: done.cancelled() or done.exception())

    async def _work(self, request: Working) -> None:
        try:
            result = await request.run()
        except Exception as error:  # noqa: BLE001 - whatever it raises belongs to its caller, not to the lane
            request.fail(self._health.meaning(error))
        else:
            await request.answer(result)

    async def _write(self, batch: list[Any], write: Callable[[list[Any]], Awaitable[Sequence[Any]]]) -> None:
        """One statement; where a request breaks it, the halves are tried, down to the one that did."""
        if not batch:
            return
        try:
            results = await write(batch)
        except Exception as error:  # noqa: BLE001 - it belongs to those who asked, not to the lane
            meaning = self._health.meaning(error, grows=batch[0].grows)
            if len(batch) == 1 or isinstance(meaning, (StoreUnavailable, StoreFull)):
                for request in batch:
                    request.fail(meaning)
                return
        else:
            for request, result in zip(batch, results, strict=True):
                await request.answer(result)
            return
        middle = len(batch) // 2
        await self._write(batch[:middle], write)
        await self._write(batch[middle:], write)

    async def _accept(self, requests: list[Accepting]) -> list[list[accepting.Outcome]]:
        batch = accepting.Batch(self._numbers)
        for request in requests:
            batch.add(request.events)
        rows = await self.commits.fetch(accepting.STATEMENT, *batch.arguments())
        if not rows:  # it had happened, and the answer was lost
            rows = await self._recall(batch)
        batch.answered(rows)
        self._claims.update(batch.held)
        outcomes = iter(batch.outcomes)
        return [[next(outcomes) for _ in request.events] for request in requests]

    async def _recall(self, batch: accepting.Batch) -> list[Any]:
        try:
            return await self.commits.read(accepting.RECALL, *batch.recall())
        except Exception:
            self.commits.doubtful.append(self.commits.committed)  # nobody holds what it claimed
            raise

    async def _record(self, requests: list[Recording]) -> list[list[int]]:
        attempts = [attempt for request in requests for attempt in request.attempts]
        held: dict[str, Held] = {
            attempt.delivery_id: self._claims[attempt.delivery_id]
            for attempt in attempts
            if attempt.delivery_id in self._claims
        }
        states = dict(held)
        for look in range(_LOOKS):
            await self._look_up(recording.unknown(attempts, states), states)
            batch = recording.Batch(states)
            for request in requests:
                batch.add(request.attempts, request.lanes)
            try:
                if not batch.is_empty():
                    await self.commits.fetch(recording.STATEMENT, *batch.arguments())
                break
            except asyncpg.PostgresError as error:
                if error.sqlstate != faults.CHANGED or look == _LOOKS - 1:
                    raise
                states = {}
        self._owed += [one.seq for name, one in held.items() if name not in states]
        for name, one in held.items():
            if self._claims.get(name) is one:  # else it was claimed anew since the commit
                del self._claims[name]
        numbers = iter(batch.numbers)
        return [[next(numbers) for _ in request.attempts] for request in requests]

    async def _look_up(self, delivery_ids: list[str], states: dict[str, Held]) -> None:
        names = {packed: name for name in delivery_ids if (packed := ids.find(DELIVERY, name)) is not None}
        if names:
            rows = await self.commits.read(recording.LOOK_UP, list(names))
            states.update(recording.looked_up(rows, names))

    async def _settle_debts(self) -> None:
        """Delete claims that nobody holds: of results that nobody took, and of batches whose answer never came.

        Of those nothing more comes once a later batch was committed.
        """
        if self._owed:
            owed, self._owed = self._owed, []
            try:
                await self.link.fetch("SELECT hookstead.release_1($1, $2)", self._owner, owed)
            except BaseException:
                self._owed += owed
                raise
        committed = self.commits.committed
        doubtful = [batch for batch in self.commits.doubtful if batch < committed]
        if doubtful:
            await self.link.fetch("SELECT hookstead.void_1($1, $2)", self._owner, [-batch for batch in doubtful])
            self.commits.doubtful = [batch for batch in self.commits.doubtful if batch >= committed]
