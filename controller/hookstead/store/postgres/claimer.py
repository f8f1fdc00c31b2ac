"""Claims of many endpoints in one statement, beside the writer."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from hookstead.delivery.ports import Claim, EndpointKey, Job, Trigger
from hookstead.store.codec import DELIVERY, EVENT, FORMATS, STATUSES, TRIGGERS, unpack_channels
from hookstead.store.postgres import ids
from hookstead.store.postgres.claims import Claims, Held
from hookstead.store.postgres.faults import Health
from hookstead.store.postgres.lane import Lane, Request
from hookstead.store.postgres.link import Link, Row
from hookstead.store.postgres.membership import Membership
from hookstead.store.postgres.settings import Settings

Result = TypeVar("Result")

_CLAIM: Final = "SELECT * FROM hookstead.claim_1($1, $2, $3, $4, $5, $6, $7, $8)"
_RELEASE: Final = "SELECT hookstead.release_1($1, $2)"
_VOID: Final = "SELECT hookstead.void_1($1, $2)"
_QUEUE_ROWS: Final = 100_000


@dataclass(slots=True, kw_only=True)
class Claiming(Request):
    endpoint: EndpointKey
    now_ms: int
    limit: int
    max_bytes: int
    ordered: bool


@dataclass(slots=True, kw_only=True)
class Aside(Request):
    """Anything else that changes claims; it takes its turn alone."""

    run: Callable[[], Awaitable[Any]]


class Claimer:
    def __init__(
        self, membership: Membership, link: Link, *, claims: Claims, health: Health, settings: Settings
    ) -> None:
        self._owner = membership.owner
        self._link = link
        self._claims = claims
        self._health = health
        self._at_once = settings.claims_at_once
        self._ticket = 0
        self._doubtful: list[int] = []
        self.lane: Final[Lane[Any]] = Lane(
            self._serve, name="claims", health=health, queue_rows=_QUEUE_ROWS, queue_bytes=0
        )

    async def claim(self, endpoint: EndpointKey, *, now_ms: int, limit: int, max_bytes: int, ordered: bool) -> Claim:
        async def give_back(found: Claim) -> None:
            await self._release([job.delivery_id for job in found.jobs])

        claim: Claim = await self.lane.submit(
            Claiming(
                future=asyncio.get_running_loop().create_future(),
                endpoint=endpoint,
                now_ms=now_ms,
                limit=limit,
                max_bytes=max_bytes,
                ordered=ordered,
                orphaned=give_back,
            )
        )
        return claim

    async def release(self, delivery_ids: Sequence[str]) -> None:
        await self._aside(lambda: self._release(delivery_ids))

    async def void(self) -> None:
        """Nothing is claimed by this process any more: it starts anew."""

        async def run() -> None:
            if self._ticket or self._claims:  # else nothing was, and all that is pending need not be looked at
                await self._link.fetch(_VOID, self._owner, None)
            self._claims.clear()

        await self._aside(run)

    async def _aside(self, run: Callable[[], Awaitable[None]]) -> None:
        await self.lane.submit(Aside(future=asyncio.get_running_loop().create_future(), run=run))

    async def _release(self, delivery_ids: Sequence[str]) -> None:
        held = {name: self._claims[name] for name in delivery_ids if name in self._claims}
        if held:
            await self._link.fetch(_RELEASE, self._owner, [one.seq for one in held.values()])
            for name, one in held.items():
                if self._claims.get(name) is one:
                    del self._claims[name]

    # --------------------------------------------------------------------------------------------------- the lane's

    async def _serve(self, batch: list[Claiming | Aside]) -> None:
        first = batch[0]
        if isinstance(first, Aside):
            del batch[0]
            try:
                await first.answer(await first.run())
            except Exception as error:  # noqa: BLE001 - it belongs to who asked
                first.fail(self._health.meaning(error))
            return
        taken = self._take(batch)
        try:
            found = await self._fetch(taken)
        except Exception as error:  # noqa: BLE001 - it belongs to those who asked
            meaning = self._health.meaning(error)
            for request in taken:
                request.fail(meaning)
            return
        for request, claim in zip(taken, found, strict=True):
            await request.answer(claim)

    def _take(self, batch: list[Claiming | Aside]) -> list[Claiming]:
        """The requests before other work, one for each endpoint; the second for one waits for the next statement."""
        taken: list[Claiming] = []
        left: list[Claiming | Aside] = []
        endpoints: set[EndpointKey] = set()
        for place, request in enumerate(batch):
            if isinstance(request, Aside) or len(taken) >= self._at_once:
                left += batch[place:]
                break
            if request.endpoint in endpoints:
                left.append(request)
                continue
            endpoints.add(request.endpoint)
            taken.append(request)
        batch[:] = left
        return taken

    async def _fetch(self, requests: list[Claiming]) -> list[Claim]:
        await self._settle_doubts()
        self._ticket += 1
        try:
            rows = await self._link.fetch(
                _CLAIM,
                self._owner,
                self._ticket,
                [request.endpoint.name for request in requests],
                [request.endpoint.uid for request in requests],
                [request.now_ms for request in requests],
                [request.limit for request in requests],
                [request.max_bytes for request in requests],
                [request.ordered for request in requests],
            )
        except BaseException:
            self._doubtful.append(self._ticket)
            raise
        jobs: list[list[Job]] = [[] for _ in requests]
        due: list[int | None] = [None] * len(requests)
        for row in rows:
            place = row["n"] - 1
            if row["seq"] is None:
                due[place] = row["next_due_ms"]
            elif row["id"] is not None:
                jobs[place].append(self._job(row, requests[place].endpoint))
        return [Claim(jobs=tuple(of), next_due_ms=instant) for of, instant in zip(jobs, due, strict=True)]

    async def _settle_doubts(self) -> None:
        """A statement's answer never came: what it claimed, or still may claim, nobody holds.

        A higher ticket shuts out those that are still on their way; behind it their claims are given back.
        """
        if not self._doubtful:
            return
        self._ticket += 1
        await self._link.fetch(_CLAIM, self._owner, self._ticket, [], [], [], [], [], [])
        await self._link.fetch(_VOID, self._owner, self._doubtful)
        self._doubtful = []

    def _job(self, row: Row, endpoint: EndpointKey) -> Job:
        delivery_id = ids.unpack(DELIVERY, row["id"])
        status = row["status"]
        self._claims[delivery_id] = Held(
            seq=row["seq"],
            endpoint_id=row["endpoint_id"],
            status=status,
            attempt_count=row["attempt_count"],
            schedule_position=row["schedule_position"],
            next_attempt_ms=row["next_attempt_ms"],
            completed_ms=row["completed_ms"],
            cancel_reason=row["cancel_reason"],
        )
        return Job(
            delivery_id=delivery_id,
            endpoint=endpoint,
            event_id=ids.unpack(EVENT, row["event_id"]),
            event_type=row["type"],
            timestamp=row["stamp"],
            data=row["data"],
            payload_format=FORMATS[row["payload_format"]],
            trigger=Trigger.MANUAL if row["manual"] else TRIGGERS[row["origin"]],
            status=STATUSES[status],
            attempt_count=row["attempt_count"],
            schedule_position=row["schedule_position"],
            due_ms=row["next_attempt_ms"],
            channels=unpack_channels(row["channels"]),
            source=row["source"],
            traceparent=row["traceparent"],
            in_order=row["in_order"],
        )
