from __future__ import annotations

from pathlib import Path

import pytest

from hookstead.delivery.ports import Store
from hookstead.store.sqlite.settings import Settings
from hookstead.store.sqlite.store import SQLiteStore
from store.samples import DEAD, NOW, A, B, StoppedClock, attempt, claim, delivery_id, event, ids, retry

HOUR = 3_600_000


async def test_what_is_left_of_each_wait_stays_the_same(store: Store) -> None:
    """The clock went back by three hours: NOW is what it shows now, and all of this was written before."""
    backlog, soon, far = event(A, at=NOW + 2 * HOUR), event(A, claimed=True), event(B, claimed=True)
    await store.accept([backlog, soon, far])
    old = NOW + 3 * HOUR
    await store.record(
        [
            attempt(delivery_id(soon), retry(old + 5000)),
            attempt(delivery_id(far), retry(old + 9 * HOUR), endpoint=B),
        ],
        {},
    )
    await store.bring_forward(step_ms=3 * HOUR, now_ms=NOW)
    found = await claim(store, now=NOW)
    assert ids(found) == [delivery_id(backlog)]
    assert found.next_due_ms == NOW + 5000
    assert ids(await claim(store, now=NOW + 5000)) == [delivery_id(soon)]
    assert (await claim(store, B, now=NOW)).next_due_ms == NOW + 9 * HOUR


async def test_what_is_due_already_and_what_has_ended_stays_as_it_is(store: Store) -> None:
    due, ended = event(A, at=NOW - 5), event(A, claimed=True)
    await store.accept([due, ended])
    await store.record([attempt(delivery_id(ended), DEAD)], {})
    await store.bring_forward(step_ms=HOUR, now_ms=NOW)
    (job,) = (await claim(store)).jobs
    assert (job.delivery_id, job.due_ms) == (delivery_id(due), NOW - 5)
    row = await store.delivery(delivery_id(ended))
    assert row is not None
    assert row[0].next_attempt_ms is None


async def test_a_manual_request_does_not_wait_for_the_old_clock(store: Store) -> None:
    given = event(A, claimed=True)
    await store.accept([given])
    await store.record([attempt(delivery_id(given), DEAD)], {})
    await store.request_redelivery(delivery_id(given), now_ms=NOW + HOUR)
    assert ids(await claim(store)) == []
    await store.bring_forward(step_ms=HOUR, now_ms=NOW)
    assert ids(await claim(store)) == [delivery_id(given)]


@pytest.mark.parametrize("rows", [1, 2, 3, 1000])
async def test_each_row_moves_once_however_many_transactions_it_takes(tmp_path: Path, rows: int) -> None:
    store = SQLiteStore(
        tmp_path / "store.db", clock=StoppedClock(), min_free_bytes=0, settings=Settings(cancel_rows=rows)
    )
    endpoints = (A, B)
    for endpoint in endpoints:
        await store.accept([event(endpoint, at=NOW + 5 * HOUR + number) for number in range(4)])
    await store.bring_forward(step_ms=HOUR, now_ms=NOW)
    for endpoint in endpoints:
        jobs = (await claim(store, endpoint, now=NOW + 9 * HOUR)).jobs
        assert [job.due_ms for job in jobs] == [NOW + 4 * HOUR + number for number in range(4)]
    assert await store.check() == []
    await store.close()
