"""The embedded store and its disk: full, bounded, erased."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest

from faults.power_cut_vfs import PowerCutVFS
from hookstead.delivery.ports import (
    Accepted,
    DeliveryQuery,
    DeliveryStatus,
    EndpointCounts,
    EndpointKey,
    StoreFull,
    StoreUnavailable,
)
from hookstead.store.sqlite.settings import Settings
from hookstead.store.sqlite.store import SQLiteStore
from store.samples import NOW, A, B, StoppedClock, attempt, claim, delivery_id, event


@pytest.fixture
def disk() -> Iterator[PowerCutVFS]:
    vfs = PowerCutVFS()
    yield vfs
    vfs.close()


def opened(path: Path, settings: Settings | None = None) -> SQLiteStore:
    return SQLiteStore(path, clock=StoppedClock(), min_free_bytes=0, settings=settings)


async def test_a_full_disk_refuses_new_work_keeps_the_rest_and_recovers(disk: PowerCutVFS, tmp_path: Path) -> None:
    store = opened(tmp_path / "store.db", Settings(vfs=disk.name))
    first = event(A, claimed=True)
    await store.accept([first])
    disk.full = True
    with pytest.raises(StoreFull, match="disk is full"):
        await store.accept([event(A)])
    with pytest.raises(StoreUnavailable, match="disk is full"):
        await store.record([attempt(delivery_id(first))], {})
    assert await store.counts() == {A: EndpointCounts(pending=1)}
    assert (await claim(store)).jobs == ()
    disk.full = False
    second = event(B)
    assert await store.accept([second]) == [Accepted(second.id, 1)]
    assert await store.record([attempt(delivery_id(first))], {}) == [1]
    assert store.failure is None
    assert await store.check() == []
    await store.close()


async def test_the_wal_stays_bounded_under_steady_load(tmp_path: Path) -> None:
    settings = Settings(checkpoint_at=256 << 10, restart_at=1 << 20)
    store = opened(tmp_path / "store.db", settings)
    largest = 0

    async def produce() -> None:
        nonlocal largest
        for _ in range(60):
            await store.accept([event(A, data=b"1" * 4000) for _ in range(10)])
            largest = max(largest, (tmp_path / "store.db-wal").stat().st_size)

    await asyncio.gather(*(produce() for _ in range(8)))
    assert 1 << 19 < largest < 8 << 20, "20 MB went through it"
    assert await store.check() == []
    await store.close()


async def test_an_erased_payload_is_overwritten_in_the_file(tmp_path: Path) -> None:
    store = opened(tmp_path / "store.db")
    secret = b'"' + b"the-secret-of-this-test-" * 400 + b'"'
    small = b'"a-small-secret-of-this-test"'
    kept, erased, little = event(A, data=b'"kept-in-this-test"'), event(A, data=secret), event(A, data=small)
    await store.accept([kept, erased, little])
    await store.erase_payload(erased.id, now_ms=NOW)
    await store.erase_payload(little.id, now_ms=NOW)
    await store.close()
    content = (tmp_path / "store.db").read_bytes()
    assert b"kept-in-this-test" in content
    assert b"secret-of-this-test" not in content


def traces(folder: Path, text: bytes) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if text in path.read_bytes())


async def quiet(path: Path) -> SQLiteStore:
    """A new store that has done what it does at its start."""
    store = opened(path)
    wal = path.with_name(path.name + "-wal")
    for _ in range(400):
        if wal.stat().st_size == 0:
            return store
        await asyncio.sleep(0.05)
    raise AssertionError("the WAL was not emptied at the start")


async def gone(folder: Path, text: bytes) -> bool:
    """Whether the text leaves every file while the store stays open."""
    for _ in range(400):
        if not traces(folder, text):
            return True
        await asyncio.sleep(0.05)
    return False


@pytest.mark.parametrize("size", [1, 400])
@pytest.mark.parametrize("while_it_is_read", [False, True])
async def test_soon_after_an_erasure_no_byte_of_the_payload_is_in_any_file(
    tmp_path: Path, size: int, while_it_is_read: bool
) -> None:
    folder = tmp_path / "store"
    folder.mkdir()
    store = await quiet(folder / "store.db")
    given = event(A, data=b'"' + b"the-secret-of-this-test-" * size + b'"')
    await store.accept([event(B, data=b'"kept-in-this-test"'), given, event(B)])
    assert traces(folder, b"secret-of-this-test") == ["store.db-wal"]
    reader = apsw.Connection(str(folder / "store.db"), flags=apsw.SQLITE_OPEN_READWRITE)
    if while_it_is_read:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM events").fetchall()
    assert await store.erase_payload(given.id, now_ms=NOW) == [A]
    if while_it_is_read:
        await asyncio.sleep(0.2)
        assert await store.accept([event(B)]), "who reads holds up nobody"
        assert traces(folder, b"secret-of-this-test") != []
    reader.close()
    assert await gone(folder, b"secret-of-this-test")
    assert traces(folder, b"kept-in-this-test") == ["store.db"]
    assert await store.check() == []
    await store.close()


async def test_an_erasure_that_a_crash_followed_is_finished_by_the_next_life(tmp_path: Path) -> None:
    store = await quiet(tmp_path / "store.db")
    store._checkpointer.empty_soon = lambda: None  # type: ignore[method-assign]  # it dies before its turn
    given = event(A, data=b'"the-secret-of-this-test"')
    await store.accept([given])
    await store.erase_payload(given.id, now_ms=NOW)
    folder = tmp_path / "after"
    folder.mkdir()
    for path in tmp_path.glob("store.db*"):
        if not path.name.endswith("-shm"):
            (folder / path.name).write_bytes(path.read_bytes())
    await store.close()
    assert traces(folder, b"secret-of-this-test") == ["store.db-wal"]
    store = opened(folder / "store.db")
    assert await gone(folder, b"secret-of-this-test")
    await store.close()


async def test_a_page_of_a_rare_match_is_bounded_and_goes_on_by_its_cursor(tmp_path: Path) -> None:
    store = opened(tmp_path / "store.db", Settings(scan_rows=5_000))
    rare = event(A, type_="rare")
    await store.accept([rare])
    await store.accept([event(A) for _ in range(12_000)])
    pages, cursor, found = 0, None, []
    while True:
        page = await store.deliveries(DeliveryQuery(event_type="rare"), cursor=cursor, limit=5)
        pages += 1
        found += [row.id for row in page.items]
        cursor = page.next_cursor
        if cursor is None:
            break
    assert found == [delivery_id(rare)]
    assert pages == 3
    await store.close()


@pytest.mark.parametrize(
    "query",
    [
        DeliveryQuery(status=DeliveryStatus.PENDING),
        DeliveryQuery(status=DeliveryStatus.DEAD_LETTERED),
        DeliveryQuery(endpoint="a"),
        DeliveryQuery(endpoint="a", status=DeliveryStatus.CANCELLED),
    ],
)
async def test_lists_by_endpoint_and_status_never_scan(tmp_path: Path, query: DeliveryQuery) -> None:
    store = opened(tmp_path / "store.db")
    await store.accept([event(A)])
    connection = apsw.Connection(str(tmp_path / "store.db"))
    plans: list[str] = []
    original = store._reader._connection

    def explain(cursor: apsw.Cursor, sql: str, bindings: object) -> bool:
        if sql.startswith("SELECT"):
            plan = connection.execute(f"EXPLAIN QUERY PLAN {sql}", bindings).fetchall()  # type: ignore[arg-type]
            plans.extend(str(row[3]) for row in plan)
        return True

    original.exec_trace = explain
    await store.deliveries(query, cursor=None, limit=5)
    original.exec_trace = None
    assert [plan for plan in plans if plan.startswith("SCAN") and "carray" not in plan and "subquery" not in plan] == []
    assert plans
    connection.close()
    await store.close()


async def test_what_was_delivered_is_listed_whole_over_any_number_of_endpoints(tmp_path: Path) -> None:
    store = opened(tmp_path / "store.db")
    keys = [EndpointKey(f"e{number}", "u") for number in range(60)]
    made = [event(key, claimed=True) for key in keys for _ in range(2)]
    for upto in (20, 60):
        fresh = [one for one in made[: upto * 2] if await store.event(one.id) is None]
        await store.accept(fresh)
        await store.record([attempt(delivery_id(one), endpoint=one.deliveries[0].endpoint) for one in fresh[::2]], {})
        page = await store.deliveries(DeliveryQuery(status=DeliveryStatus.DELIVERED), cursor=None, limit=200)
        assert [row.id for row in page.items] == [delivery_id(one) for one in reversed(made[: upto * 2 : 2])]
    await store.close()


async def test_a_saturated_writer_refuses_new_events_and_takes_what_ends_work(tmp_path: Path) -> None:
    store = opened(tmp_path / "store.db", Settings(queue_rows=10))
    given = [event(A, claimed=True) for _ in range(20)]
    answers = await asyncio.gather(*(store.accept([one]) for one in given), return_exceptions=True)
    refused = [answer for answer in answers if isinstance(answer, StoreUnavailable)]
    assert len(refused) == 15
    assert "saturated" in str(refused[0])
    done = [store.record([attempt(delivery_id(one)) for _ in range(8)], {}) for one in given[:5]]
    assert [numbers[-1] for numbers in await asyncio.gather(*done)] == [8] * 5
    await store.accept([event(A)])
    await store.close()
