"""The `Peers` port on PostgreSQL: which slots are this process's, and what the others did since it last looked."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from hookstead.delivery.ports import Boot, Clock, EndpointKey, Look, slot_of
from hookstead.store.codec import EVENT
from hookstead.store.postgres import booting, ids
from hookstead.store.postgres.faults import Health
from hookstead.store.postgres.link import Link, Row
from hookstead.store.postgres.membership import Membership, steady
from hookstead.store.postgres.news import News
from hookstead.store.postgres.reader import Reader
from hookstead.store.postgres.settings import Settings
from hookstead.store.postgres.sharing import ALL_SLOTS, Member, Watch, takers, wanted

Result = TypeVar("Result")

_LOOK: Final = (
    "SELECT kind, id, lease_until, alive, ready, slots, terms, names, uids, place, n, event_id"
    " FROM hookstead.look_1($1, $2, $3)"
)
_ENDPOINTS_THERE: Final = """
SELECT count(*), coalesce(max(id), 0), coalesce(sum(id), 0)::bigint, pg_postmaster_start_time() FROM hookstead.endpoints
"""
"""Tells whether they are the same as before, and the server, without reading their names."""
_REMOVE: Final = "SELECT hookstead.remove_1($1, $2, $3)"
_TAKE: Final = "SELECT slot, term FROM hookstead.take_1($1, $2)"
_READY: Final = "SELECT hookstead.ready_1($1)"
_LET_GO: Final = "SELECT hookstead.let_go_1($1, $2, $3, $4)"

InLine = Callable[[Callable[[], Awaitable[list[Row]]]], Awaitable[list[Row]]]
"""Runs a read in the writer's turn: what was answered before is in it, what comes later is not."""


@dataclass(slots=True)
class _State:
    """What a look found, read into shape."""

    last: int = 0
    members: dict[int, Member] = field(default_factory=dict)
    owners: dict[int, int | None] = field(default_factory=dict)
    terms: dict[int, int] = field(default_factory=dict)
    arrivals: list[tuple[EndpointKey, int, int]] = field(default_factory=list)
    erased: dict[str, Sequence[EndpointKey]] = field(default_factory=dict)

    def take(self, slot: int, owner: int, term: int) -> None:
        self.owners[slot] = owner
        self.terms[slot] = term

    def removed(self, gone: Collection[int]) -> None:
        self.members = {owner: member for owner, member in self.members.items() if owner not in gone}
        self.owners = {slot: None if owner in gone else owner for slot, owner in self.owners.items()}


def _read(rows: Iterable[Row]) -> _State:
    state = _State()
    for row in rows:
        kind = row["kind"]
        if kind == 0:
            state.last = row["n"]
        elif kind == 1:
            state.members[row["id"]] = Member(
                owner=row["id"], lease_until=row["lease_until"], alive=row["alive"], ready=row["ready"]
            )
        elif kind == 2:
            state.owners.update(dict.fromkeys(row["slots"], row["id"]))
            state.terms.update(zip(row["slots"], row["terms"], strict=True))
        else:
            keys = [EndpointKey(*names) for names in zip(row["names"], row["uids"], strict=True)]
            if row["event_id"] is not None:
                state.erased[ids.unpack(EVENT, row["event_id"])] = keys
            else:
                state.arrivals += [(key, row["place"], row["n"]) for key in keys]
    return state


class PostgresPeers:
    """See `hookstead.delivery.ports.Peers`. One look, memory or letting go at a time."""

    def __init__(
        self,
        membership: Membership,
        link: Link,
        news: News,
        reader: Reader,
        *,
        clock: Clock,
        in_line: InLine,
        health: Health,
        settings: Settings,
    ) -> None:
        self._membership = membership
        self._link = link
        self._news = news
        self._reader = reader
        self._clock = clock
        self._in_line = in_line
        self._health = health
        self._settings = settings
        self._watch = Watch()
        self._turn = asyncio.Lock()
        self._among = frozenset({membership.owner})
        self._owners: Mapping[int, int | None] = {}
        self._terms: Mapping[int, int] = {}
        self._owned: frozenset[int] = frozenset()
        self._mark: int | None = None
        """The last number that was looked at; None before the first look, and before `boot`."""
        self._marks: dict[int, int] = {}
        """The same for slots whose memory was read since: what it counts is not told as having arrived."""
        self._by_slot: dict[int, list[int]] = {}
        """The numbers of endpoints by slot, as of when these were `_numbered`."""
        self._numbered: tuple[object, ...] | None = None

    @property
    def clock(self) -> Clock:
        return self._clock

    @property
    def lease_holds(self) -> bool:
        return self._membership.holds

    # ------------------------------------------------------------------------------------------------------- looking

    async def look(self, *, whole: bool = True) -> Look:
        return await self._use(lambda: self._look(whole))

    async def _look(self, whole: bool) -> Look:
        me = self._membership.owner
        marks = None if self._mark is None else sorted({self._mark, *self._marks.values()})
        rows = await self._link.fetch(_LOOK, me, None if marks is None else [mark + 1 for mark in marks], whole)
        state = _read(rows)
        among = await self._share_out(state) if whole else None
        arrivals = self._arrivals(state, marks or [])
        # Nothing is awaited from here on: a look is told whole or not at all.
        if among is not None:
            self._among, self._owners, self._terms = among, state.owners, state.terms
            self._owned = frozenset(slot for slot, owner in state.owners.items() if owner == me)
        self._mark, self._marks = state.last, {}
        targets = wanted(self._among)
        return Look(
            owned=self._owned,
            unwanted=frozenset(slot for slot in self._owned if targets[slot] != me),
            arrivals=arrivals,
            erased=state.erased,
        )

    async def _share_out(self, state: _State) -> frozenset[int]:
        """Remove who is dead and take what is free. Returns the members among whom slots are shared out."""
        me = self._membership.owner
        if me not in state.members:
            await self._link.fetch("SELECT hookstead.stay_1($1)", me)  # raises what a lost lease raises
        await self._remove(state)
        if not state.members[me].ready:
            await self._link.fetch(_READY, me)
        among = takers(state.members.values(), me)
        targets = wanted(among)
        mine = [slot for slot, owner in state.owners.items() if owner is None and targets[slot] == me]
        if mine:
            for slot, term in await self._link.fetch(_TAKE, me, mine):
                state.take(slot, me, term)
        return among

    async def _remove(self, state: _State) -> None:
        dead = self._watch.dead(
            state.members.values(),
            me=self._membership.owner,
            now=steady(),
            unbroken_since=self._membership.unbroken_since,
            lease_seconds=self._settings.lease_seconds,
        )
        if dead and self._membership.holds:
            [[gone]] = await self._link.fetch(
                _REMOVE,
                self._membership.owner,
                [member.owner for member in dead],
                [member.lease_until for member in dead],
            )
            state.removed(gone)

    def _arrivals(self, state: _State, marks: list[int]) -> dict[EndpointKey, int]:
        """By endpoint; what the memory of its slot counted already is left out."""
        first = {slot: marks.index(mark) + 1 for slot, mark in self._marks.items()}
        found: dict[EndpointKey, int] = {}
        for key, place, count in state.arrivals:
            if place >= first.get(slot_of(key), 0):
                found[key] = found.get(key, 0) + count
        return found

    # ---------------------------------------------------------------------------------------------------------- slots

    async def let_go(self, slots: Collection[int]) -> None:
        await self._use(lambda: self._let_go(self._owned & frozenset(slots)))

    async def _let_go(self, slots: frozenset[int]) -> None:
        """Whoever lets go what it should have is about to leave: until it looks again it gets nothing."""
        if not slots:
            return
        me = self._membership.owner
        leaving = any(wanted(self._among)[slot] == me for slot in slots)
        held = sorted(slots)
        await self._link.fetch(_LET_GO, me, held, [self._terms[slot] for slot in held], leaving)
        self._owned -= slots
        self._owners = {**self._owners, **dict.fromkeys(held)}

    async def memory(self, slots: Collection[int], *, recent_limit: int) -> Boot:
        return await self._use(lambda: self._memory(frozenset(slots), recent_limit))

    async def _memory(self, slots: frozenset[int], recent_limit: int) -> Boot:
        endpoints = await self._endpoints(slots)

        async def count(connection: Any) -> list[Row]:
            await connection.execute(booting.PLAN_ANEW)
            rows: list[Row] = await connection.fetch(booting.COUNTS_OF, endpoints)
            return rows

        counted = await self._in_line(lambda: self._link.transaction(count))
        boot = await self._reader.in_one_snapshot(
            lambda connection: booting.boot(
                connection, recent_limit=recent_limit, now_ms=self._clock.now_ms(), endpoints=endpoints
            )
        )
        if self._mark is not None:
            self._marks.update(dict.fromkeys(slots, counted[0]["last"]))
        counts = booting.counted([row for row in counted if row["name"] is not None])
        return Boot(
            lanes=boot.lanes, counts=counts, windows=boot.windows, next_due_ms=boot.next_due_ms, recent=boot.recent
        )

    async def _endpoints(self, slots: frozenset[int]) -> list[int] | None:
        """The numbers of the slots' endpoints; None for all."""
        if slots == ALL_SLOTS:
            return None
        [there] = await self._link.fetch(_ENDPOINTS_THERE)
        if tuple(there) != self._numbered:
            rows = await self._link.fetch("SELECT id, name, uid FROM hookstead.endpoints")
            self._by_slot = {}
            for number, name, uid in rows:
                self._by_slot.setdefault(slot_of(EndpointKey(name, uid)), []).append(number)
            self._numbered = tuple(there)
        return [number for slot in slots for number in self._by_slot.get(slot, ())]

    def booted(self, last: int) -> None:
        """All was read as of this number: what the others do is told from there."""
        if self._mark is None:
            self._mark = last

    # ---------------------------------------------------------------------------------------------------------- hints

    async def news(self, *, timeout_seconds: float) -> bool:
        return await self._news.wait(timeout_seconds=timeout_seconds)

    def made(self, endpoints: Iterable[EndpointKey]) -> None:
        """There is something to do for these: a hint to those whose it is."""
        if len(self._owned) == len(ALL_SLOTS):
            return
        owners = {self._owners.get(slot_of(key)) for key in endpoints}
        owners.discard(self._membership.owner)
        if None in owners:
            self._news.tell(None)
        elif owners:
            self._news.tell([owner for owner in owners if owner is not None])

    # ------------------------------------------------------------------------------------------------------------ use

    async def _use(self, run: Callable[[], Awaitable[Result]]) -> Result:
        self._health.require()
        async with self._turn:
            try:
                return await run()
            except Exception as error:
                meaning = self._health.meaning(error)
                if meaning is error:
                    raise
                raise meaning from error

    async def close(self) -> None:
        await self._news.close()
        await self._link.close()
