"""Connections that break in the middle of statements: what was asked happens once, and nothing stays claimed."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator

import pytest

from hookstead.config.model import RetentionPolicy
from hookstead.delivery.ports import (
    Accepted,
    CancelReason,
    Claim,
    Duplicate,
    EndpointCounts,
    EndpointKey,
    NewEvent,
    ReplayDelivery,
    ReplayPhase,
    ReplayWindow,
    StoreUnavailable,
)
from hookstead.resources.kinds import PayloadFormat, ReplaySelect
from hookstead.store.postgres.opening import open_postgres
from hookstead.store.postgres.settings import Settings
from hookstead.store.postgres.store import PostgresStore
from store.postgres_fixtures import Databases
from store.postgres_proxy import Cut, Proxy
from store.samples import DEAD, NOW, A, B, StoppedClock, attempt, claim, delivery_id, event, ids, retry

CUTS = pytest.mark.parametrize("cut", Cut, ids=lambda cut: cut.name.lower())


@pytest.fixture
async def store(proxy: Proxy, name: str) -> AsyncIterator[PostgresStore]:
    """One whose every statement was prepared before, so that the next thing said is its execution."""
    settings = Settings(readers=1, retry_seconds=20)
    store = await open_postgres(
        f"postgresql://hookstead@127.0.0.1:{proxy.port}/{name}", clock=StoppedClock(), settings=settings
    )
    warm = event(B, claimed=True)
    await store.accept([warm])
    await store.record([attempt(delivery_id(warm), retry(NOW), endpoint=B)], {})
    [job] = (await claim(store, B)).jobs
    await store.release([job.delivery_id])
    await store.request_redelivery(job.delivery_id, now_ms=NOW)
    await store.bring_forward(step_ms=0, now_ms=NOW)
    await store.cancel(B, reason=CancelReason.ENDPOINT_DISABLED, now_ms=NOW)
    yield store
    assert await store.check() == []
    await store.close()


@CUTS
async def test_events_are_accepted_once_and_their_answers_are_right(
    store: PostgresStore, proxy: Proxy, cut: Cut
) -> None:
    first = event(A, caller="k")
    await store.accept([first])
    given = [event(A, claimed=True), event(A, caller="k"), event(A, B, caller="l"), event()]
    proxy.cuts["writer"] = cut
    answers = await store.accept(given)
    assert proxy.made == 1
    assert answers == [
        Accepted(given[0].id, 1),
        Duplicate(first.id, 1),
        Accepted(given[2].id, 2),
        Accepted(given[3].id, 0),
    ]
    counts = await store.counts()
    assert (counts[A], counts[B].pending) == (EndpointCounts(pending=3), 1)
    assert ids(await claim(store)) == [delivery_id(first), delivery_id(given[2])]
    assert await store.record([attempt(delivery_id(given[0]))], {}) == [1]


@CUTS
async def test_attempts_are_recorded_once(store: PostgresStore, proxy: Proxy, cut: Cut) -> None:
    given = [event(A, claimed=True) for _ in range(3)]
    await store.accept(given)
    proxy.cuts["writer"] = cut
    settlements = (retry(NOW + 5), DEAD)
    records = [attempt(delivery_id(one), settlement) for one, settlement in zip(given, settlements, strict=False)]
    assert await store.record([*records, attempt(delivery_id(given[2]))], {}) == [1, 1, 1]
    assert proxy.made == 1
    assert (await store.counts())[A] == EndpointCounts(pending=1, delivered=1, dead_lettered=1)
    for one in given:
        found = await store.delivery(delivery_id(one))
        assert found is not None
        assert [row.number for row in found[1]] == [1]
    assert ids(await claim(store, now=NOW + 5)) == [delivery_id(given[0])]


@CUTS
async def test_what_a_broken_claim_took_is_given_to_the_next(store: PostgresStore, proxy: Proxy, cut: Cut) -> None:
    given = [event(A) for _ in range(3)]
    await store.accept(given)
    proxy.cuts["claims"] = cut
    with pytest.raises(StoreUnavailable, match="try again"):
        await claim(store)
    assert ids(await claim(store)) == [delivery_id(one) for one in given]


@CUTS
async def test_a_cancellation_ends_all_and_a_redelivery_is_asked_for_once(
    store: PostgresStore, proxy: Proxy, cut: Cut
) -> None:
    given = [event(A) for _ in range(3)]
    await store.accept(given)
    proxy.cuts["writer"] = cut
    await store.cancel(A, reason=CancelReason.ENDPOINT_DISABLED, now_ms=NOW)
    assert (await store.counts())[A] == EndpointCounts(cancelled=3)
    proxy.cuts["writer"] = cut
    assert await store.request_redelivery(delivery_id(given[0]), now_ms=NOW) == A
    assert proxy.made == 2
    assert ids(await claim(store)) == [delivery_id(given[0])]


@CUTS
async def test_a_clock_that_went_back_moves_each_wait_once(store: PostgresStore, proxy: Proxy, cut: Cut) -> None:
    await store.accept([event(A, at=NOW + 1000)])
    proxy.cuts["writer"] = cut
    await store.bring_forward(step_ms=300, now_ms=NOW)
    assert proxy.made == 1
    assert (await claim(store)).next_due_ms == NOW + 700


@CUTS
async def test_a_replay_makes_its_deliveries_once(store: PostgresStore, proxy: Proxy, cut: Cut) -> None:
    given = [event() for _ in range(2)]
    await store.accept(given)
    window = ReplayWindow(uid="r", endpoint=A, select=ReplaySelect.ALL, since_ms=NOW, until_ms=NOW + 1)
    await store.begin_replay("r", "again", now_ms=NOW)
    for number, one in enumerate(given):
        made = ReplayDelivery(
            event_id=one.id,
            delivery_id=f"dlv_{number}",
            rearm=False,
            payload_format=PayloadFormat.STANDARD_WEBHOOKS,
            due_ms=NOW,
        )
        page = await store.replay_candidates(window, limit=100, with_data=False)
        if number:
            proxy.cuts["writer"] = cut
        assert await store.advance_replay(window, page, [made], now_ms=NOW) == 1
    assert proxy.made == 1
    row = await store.replay("r")
    assert row is not None
    assert (row.selected, row.pending) == (2, 2)


@CUTS
async def test_what_may_be_asked_for_twice_fails_and_is_asked_for_again(
    store: PostgresStore, proxy: Proxy, cut: Cut
) -> None:
    given = event(A)
    await store.accept([given])
    for call in (
        lambda: store.erase_payload(given.id, now_ms=NOW),
        lambda: store.put_blob("x", b"1"),
        lambda: store.begin_replay("r", "again", now_ms=NOW),
        lambda: store.finish_replay("r", ReplayPhase.COMPLETED, now_ms=NOW),
        lambda: store.expire(RetentionPolicy(), now_ms=NOW, limit=10),
        lambda: store.counts(),
    ):
        proxy.cuts["writer"] = cut
        with pytest.raises(StoreUnavailable, match="try again"):
            await call()
        await call()
    assert await store.get_blob("x") == b"1"
    assert (await store.counts())[A] == EndpointCounts(cancelled=1)


@CUTS
async def test_a_read_is_simply_tried_once_more(store: PostgresStore, proxy: Proxy, cut: Cut) -> None:
    given = event(A)
    await store.accept([given])
    await store.get_blob("x")
    proxy.cuts["reader"] = cut
    assert await store.event(given.id) is not None
    proxy.cuts["reader"] = cut
    assert await store.get_blob("x") is None
    assert proxy.made == 2


async def impatient(proxy: Proxy, name: str) -> PostgresStore:
    """A store that soon gives up on a database that is away."""
    url = f"postgresql://hookstead@127.0.0.1:{proxy.port}/{name}"
    return await open_postgres(url, clock=StoppedClock(), settings=Settings(readers=1, retry_seconds=0.3))


async def test_a_database_that_stays_away_is_said_to_be_and_what_was_claimed_comes_back(
    proxy: Proxy, databases: Databases, name: str
) -> None:
    store = await impatient(proxy, name)
    lost = event(A, claimed=True)
    await store.accept([event(B)])
    proxy.closed_door = True
    proxy.cuts["writer"] = Cut.AFTER
    with pytest.raises(StoreUnavailable, match="try again"):
        await store.accept([lost])
    proxy.closed_door = False
    again = event(A)
    assert await store.accept([again]) == [Accepted(again.id, 1)]
    assert ids(await claim(store)) == [delivery_id(lost), delivery_id(again)], "it was committed all the same"
    assert await store.check() == []
    await store.close()


async def test_while_nobody_answers_only_the_first_batch_waits_for_the_database(
    proxy: Proxy, databases: Databases, name: str
) -> None:
    store = await impatient(proxy, name)
    await store.accept([event(B)])
    tries: list[float] = []
    fetch = store._writer.link.fetch

    async def counted(sql: str, *arguments: object) -> object:
        tries.append(1)
        return await fetch(sql, *arguments)

    store._writer.link.fetch = counted  # type: ignore[method-assign, assignment]  # to count, and nothing else
    proxy.closed_door = True
    proxy.cuts["writer"] = Cut.BEFORE
    with pytest.raises(StoreUnavailable, match="try again"):
        await store.accept([event(A)])
    assert len(tries) > 1
    for _ in range(3):
        tries.clear()
        with pytest.raises(StoreUnavailable, match="try again"):
            await store.accept([event(A)])
        assert len(tries) == 1, "refused with the first try"
    proxy.closed_door = False
    given = event(A)
    assert await store.accept([given]) == [Accepted(given.id, 1)]
    proxy.cuts["writer"] = Cut.BEFORE
    given = event(A)
    assert await store.accept([given]) == [Accepted(given.id, 1)], "it waits again"
    await store.close()


CUTS_UNDER_LOAD = 8


class Load:
    """Producers and one deliverer, and what they were told."""

    def __init__(self, store: PostgresStore, proxy: Proxy, chance: random.Random) -> None:
        self.store = store
        self.proxy = proxy
        self.chance = chance
        self.keys = [EndpointKey(f"e{number}", "u") for number in range(5)]
        self.accepted: list[NewEvent] = []
        self.attempts: list[str] = []
        self.producing = True

    async def produce(self) -> None:
        while self.proxy.made < CUTS_UNDER_LOAD:
            given = [event(key, claimed=self.chance.random() < 0.3) for key in self.chance.sample(self.keys, 3)]
            assert await self.store.accept(given) == [Accepted(one.id, 1) for one in given]
            self.accepted += given
            at_once = [one for one in given if one.deliveries[0].claimed]
            self.attempts += [delivery_id(one) for one in at_once]
            await self.store.record(
                [attempt(delivery_id(one), endpoint=one.deliveries[0].endpoint) for one in at_once], {}
            )

    async def deliver(self) -> None:
        found = True
        while found or self.producing:
            found = False
            for key in self.keys:
                try:
                    jobs = (await claim(self.store, key, limit=4)).jobs
                except StoreUnavailable:
                    jobs, found = (), True
                found = found or bool(jobs)
                self.attempts += ids(Claim(jobs=jobs))
                await self.store.record([attempt(job) for job in jobs], {})
            await asyncio.sleep(0.005)

    async def break_connections(self) -> None:
        while self.producing:
            self.proxy.cuts[self.chance.choice(["writer", "claims", "lease"])] = self.chance.choice(list(Cut))
            await asyncio.sleep(0.15)
        self.proxy.cuts.clear()


async def test_connections_that_break_at_any_moment_under_load_lose_and_repeat_nothing(
    store: PostgresStore, proxy: Proxy
) -> None:
    load = Load(store, proxy, random.Random(7))
    others = [asyncio.create_task(load.break_connections()), asyncio.create_task(load.deliver())]
    await asyncio.gather(*(load.produce() for _ in range(4)))
    load.producing = False
    await asyncio.gather(*others)
    counts = await store.counts()
    assert sum(counts[key].delivered for key in load.keys) == len(load.accepted)
    assert sorted(load.attempts) == sorted(delivery_id(one) for one in load.accepted), "each once"
    for name in load.attempts:
        found = await store.delivery(name)
        assert found is not None
        assert (found[0].attempt_count, len(found[1])) == (1, 1)
