"""The PostgreSQL store behind Debian's pgbouncer in transaction mode: its connections are nobody's for long."""

from __future__ import annotations

import asyncio
import shutil
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from cluster.child import Child, free_port
from hookstead.delivery.ports import SLOTS, Accepted
from hookstead.store.postgres.opening import open_postgres
from hookstead.store.postgres.settings import Settings
from hookstead.store.postgres.store import PostgresStore
from property.store.store_machine import StoreMachine
from store.postgres_fixtures import Databases
from store.postgres_server import as_user, folder_for_user
from store.samples import A, StoppedClock, attempt, claim, event
from store.slots import shared_out
from store.test_postgres_peers import heard, owned_by
from toolchain.binaries import ProgramMissingError, locate


class Pooler:
    def __init__(self, folder: Path, server_port: int) -> None:
        self.port = free_port()
        configuration = folder / "pgbouncer.ini"
        users = folder / "users.txt"
        users.write_text('"hookstead" ""\n', encoding="utf-8")
        configuration.write_text(
            "[databases]\n"
            f"* = host=127.0.0.1 port={server_port}\n"
            "[pgbouncer]\n"
            f"listen_addr = 127.0.0.1\nlisten_port = {self.port}\nunix_socket_dir =\n"
            f"auth_type = trust\nauth_file = {users}\npool_mode = transaction\n"
            "default_pool_size = 3\nserver_reset_query_always = 0\n",
            encoding="utf-8",
        )
        for file in (configuration, users):
            file.chmod(0o644)
        self.child = Child(as_user([locate("pgbouncer"), configuration]), log=folder / "pgbouncer.log")
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
                return
            except OSError:
                assert self.child.running, self.child.last_words()
                time.sleep(0.05)
        raise AssertionError(f"pgbouncer does not listen:\n{self.child.last_words()}")

    def url(self, database: str) -> str:
        return f"postgresql://hookstead@127.0.0.1:{self.port}/{database}?pooler=transaction"


@pytest.fixture(scope="module")
def pooler(databases: Databases) -> Iterator[Pooler]:
    try:
        locate("pgbouncer")
    except ProgramMissingError as error:
        pytest.skip(str(error))
    folder = folder_for_user("hookstead-pgbouncer-")
    running = None
    try:
        running = Pooler(folder, databases.server.port)
        yield running
    finally:
        if running is not None:
            running.child.terminate(grace_seconds=5)
        shutil.rmtree(folder, ignore_errors=True)


class Pooled:
    def __init__(self, pooler: Pooler, databases: Databases) -> None:
        self._pooler = pooler
        self._databases = databases
        self._name: str | None = None

    async def open(self, clock: StoppedClock, *, around: bool = False) -> PostgresStore:
        """`around`: the connection that listens goes to the database itself."""
        if self._name is None:
            self._name = await self._databases.server.create(template="migrated")
        chosen = Settings(retention_slack_ms=0, readers=2, cancel_rows=3)
        way = f"&direct=127.0.0.1:{self._databases.server.port}" if around else ""
        return await open_postgres(self._pooler.url(self._name) + way, clock=clock, settings=chosen)

    async def leave(self) -> None:
        if self._name is not None:
            await self._databases.drop(self._name)


async def test_more_connections_than_the_pooler_has_do_not_confuse_one_another(
    pooler: Pooler, databases: Databases
) -> None:
    place = Pooled(pooler, databases)
    store = await place.open(StoppedClock())
    for _ in range(8):
        given = [event(A) for _ in range(5)]
        assert await store.accept(given) == [Accepted(one.id, 1) for one in given]
        jobs = (await claim(store)).jobs
        assert await store.record([attempt(job) for job in jobs], {}) == [1] * 5
    assert await store.check() == []
    await store.close()
    await place.leave()


async def test_several_processes_behind_it_share_the_slots_and_look_at_one_another_in_time(
    pooler: Pooler, databases: Databases
) -> None:
    place = Pooled(pooler, databases)
    first, second = await place.open(StoppedClock()), await place.open(StoppedClock())
    assert first.peers is not None
    assert second.peers is not None
    looks = {}
    for _ in range(4):
        for peers in (first.peers, second.peers):
            looks[peers] = await peers.look()
            await peers.let_go(looks[peers].unwanted)
    owned = [look.owned for look in looks.values()]
    assert [len(owned[0] | owned[1]), len(owned[0] & owned[1])] == [SLOTS, 0]
    assert all(owned)
    await first.accept([event(A)])
    await asyncio.wait_for(second.peers.news(timeout_seconds=0.05), timeout=30)
    assert dict((await second.peers.look()).arrivals) == {A: 1}
    memory = await second.peers.memory(range(SLOTS), recent_limit=5)
    assert memory.counts[A].pending == 1
    for store in (first, second):
        await store.close()
    await place.leave()


async def test_whoever_has_something_to_do_hears_of_it_around_the_pooler(pooler: Pooler, databases: Databases) -> None:
    place = Pooled(pooler, databases)
    first, second = [await place.open(StoppedClock(), around=True) for _ in range(2)]
    look, _ = await shared_out(first, second)
    for store in (first, second):
        await store.peers.news(timeout_seconds=0)
    assert await heard(second, lambda: first.accept([event(owned_by(look, other=True))]))
    for store in (first, second):
        await store.close()
    await place.leave()


@pytest.mark.timeout(300)
def test_any_sequence_of_work_leaves_the_store_behind_a_pooler_as_the_model_says(
    pooler: Pooler, databases: Databases
) -> None:
    run_state_machine_as_test(
        lambda: StoreMachine(Pooled(pooler, databases)),  # type: ignore[arg-type]  # it is only ever called
        settings=settings(
            max_examples=2, stateful_step_count=20, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )
