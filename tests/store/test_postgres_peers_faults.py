"""Databases that go away, clocks that disagree, poolers in between: the processes on a database stay what they are."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

import pytest

from hookstead.delivery.ports import EndpointKey, StoreError
from hookstead.gateway.system import SystemClock
from hookstead.store.postgres.opening import open_postgres
from hookstead.store.postgres.settings import Settings
from store.postgres_fixtures import Databases
from store.postgres_proxy import Proxy
from store.samples import A, event
from store.slots import shared_out

SHORT = Settings(readers=1, lease_seconds=2.0)
HOUR_MS = 3_600_000


@dataclass
class WrongClock:
    """A process's own clock that is wrong."""

    wrong_by_ms: int

    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000 + self.wrong_by_ms

    def monotonic(self) -> float:
        return asyncio.get_running_loop().time()


async def test_clocks_that_are_hours_apart_agree(databases: Databases, name: str) -> None:
    clocks = [WrongClock(-HOUR_MS), WrongClock(0), WrongClock(HOUR_MS)]
    stores = [await open_postgres(databases.url(name), clock=clock, settings=SHORT) for clock in clocks]
    for _ in range(3):
        told = [store.peers.clock.now_ms() for store in stores]
        assert max(told) - min(told) < 100
        assert abs(told[0] - clocks[1].now_ms()) < 100, "the server's clock is this machine's"
        await asyncio.sleep(0.6)
    assert stores[0].peers.clock.monotonic() == pytest.approx(clocks[0].monotonic(), abs=0.1)
    for store in stores:
        await store.close()


async def test_after_an_outage_longer_than_a_lease_everybody_lives_on(
    databases: Databases, proxy: Proxy, name: str
) -> None:
    url = f"postgresql://hookstead@127.0.0.1:{proxy.port}/{name}"
    stores = [await open_postgres(url, clock=SystemClock(), settings=SHORT) for _ in range(3)]
    before = [look.owned for look in await shared_out(*stores)]
    proxy.closed_door = True
    await databases.server.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        f" WHERE datname = '{name}' AND application_name LIKE 'hookstead %'"
    )
    await asyncio.sleep(SHORT.lease_seconds * 2)
    assert not any(store.peers.lease_holds for store in stores)
    for store in stores:
        with pytest.raises(StoreError, match="try again"):
            await store.peers.look()
    proxy.closed_door = False
    ends = time.monotonic() + SHORT.lease_seconds * 2
    while time.monotonic() < ends:
        after = [(await store.peers.look()).owned for store in stores]
        assert after == before
        await asyncio.sleep(0.05)
    assert all(store.peers.lease_holds for store in stores)
    for store in stores:
        assert store.failure is None
        await store.accept([event(A)])
        await store.close()


async def test_a_look_whose_connection_breaks_is_simply_made_again(
    databases: Databases, proxy: Proxy, name: str
) -> None:
    url = f"postgresql://hookstead@127.0.0.1:{proxy.port}/{name}"
    first, second = [await open_postgres(url, clock=SystemClock(), settings=SHORT) for _ in range(2)]
    await shared_out(first, second)
    await first.accept([event(A)])
    await databases.server.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        f" WHERE datname = '{name}' AND application_name = 'hookstead looks'"
    )
    arrivals: dict[EndpointKey, int] = {}
    async with asyncio.timeout(30):
        while not arrivals:
            try:
                arrivals = dict((await second.peers.look()).arrivals)
            except StoreError:
                await asyncio.sleep(0.01)
    assert arrivals == {A: 1}, "what was not told is told by the next"
    for store in (first, second):
        await store.close()
