"""What got its answer survives a power cut; without the sync it would not (the control)."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pytest

from faults.power_cut_vfs import PowerCutVFS
from hookstead.delivery.ports import CancelReason, DeliveryStatus, StoreUnavailable
from hookstead.store.sqlite.settings import Settings
from hookstead.store.sqlite.store import SQLiteStore
from store.samples import NOW, A, StoppedClock, attempt, delivery_id, event

CUTS = 12
REASON = CancelReason.ENDPOINT_DELETED


@pytest.fixture
def disk() -> Iterator[PowerCutVFS]:
    vfs = PowerCutVFS()
    yield vfs
    vfs.close()


def on(disk: PowerCutVFS, path: Path, synchronous: Literal["FULL", "NORMAL"] = "FULL") -> SQLiteStore:
    settings = Settings(vfs=disk.name, synchronous=synchronous, checkpoint_at=200_000, restart_at=600_000)
    return SQLiteStore(path, clock=StoppedClock(), min_free_bytes=0, settings=settings)


async def lost_over_cuts(disk: PowerCutVFS, folder: Path, synchronous: Literal["FULL", "NORMAL"]) -> int:
    """Cut the power again and again under load; returns how many acknowledged events and attempts were missing."""
    store = on(disk, folder / "store.db", synchronous)
    accepted: list[str] = []
    delivered: list[str] = []
    stop = False
    power = asyncio.Event()

    async def producer() -> None:
        while not stop:
            await power.wait()
            one = event(A, claimed=True, data=b'"' + b"x" * 700 + b'"')
            await store.accept([one])
            accepted.append(one.id)
            await store.record([attempt(delivery_id(one))], {})
            delivered.append(delivery_id(one))

    producers = [asyncio.ensure_future(producer()) for _ in range(8)]
    lost = 0
    try:
        for number in range(CUTS):
            power.set()
            target = len(accepted) + 60
            while len(accepted) < target:
                await asyncio.sleep(0.001)
                assert not any(task.done() for task in producers), store.failure
            promised = list(accepted), list(delivered)
            remains = folder / f"cut-{number}"
            disk.cut(remains, seed=number)
            power.clear()  # what was under way goes on; nothing more begins while the remains are read
            lost += await missing(remains / "store.db", *promised)
    finally:
        stop = True
        power.set()
        await asyncio.gather(*producers)
        await store.close()
    return lost


async def missing(path: Path, accepted: list[str], delivered: list[str]) -> int:
    """What a process that starts after the cut does not find. What it finds must be consistent."""
    after = SQLiteStore(path, clock=StoppedClock(), min_free_bytes=0)
    try:
        assert await after.check() == []
        found = [await after.event(name) for name in accepted]
        ended = [await after.delivery(name) for name in delivered]
        lost = sum(one is None for one in found)
        return lost + sum(one is None or one[0].status is not DeliveryStatus.DELIVERED for one in ended)
    finally:
        await after.close()


async def test_nothing_that_was_acknowledged_is_lost_when_the_power_fails(disk: PowerCutVFS, tmp_path: Path) -> None:
    assert await lost_over_cuts(disk, tmp_path, "FULL") == 0


async def test_without_the_sync_acknowledged_events_are_lost(disk: PowerCutVFS, tmp_path: Path) -> None:
    """The control: if this finds nothing missing, the test above proves nothing."""
    assert await lost_over_cuts(disk, tmp_path, "NORMAL") > 0


async def test_a_new_store_survives_a_cut_right_after_its_first_answer(disk: PowerCutVFS, tmp_path: Path) -> None:
    store = on(disk, tmp_path / "store.db")
    one = event(A)
    await store.accept([one])
    disk.cut(tmp_path / "cut", seed=1)
    assert await missing(tmp_path / "cut" / "store.db", [one.id], []) == 0
    await store.close()


async def test_after_a_failed_sync_the_store_takes_no_more_work_and_syncs_no_more(
    disk: PowerCutVFS, tmp_path: Path
) -> None:
    store = on(disk, tmp_path / "store.db")
    one, two = event(A, claimed=True), event(A)
    await store.accept([one])
    disk.fail_sync = True
    answers = await asyncio.gather(
        store.accept([two]), store.record([attempt(delivery_id(one))], {}), return_exceptions=True
    )
    assert [type(answer) for answer in answers] == [StoreUnavailable, StoreUnavailable]
    disk.fail_sync = False
    synced = disk.syncs
    assert "disk" in (store.failure or "")
    for call in (store.accept([event(A)]), store.counts(), store.cancel(A, reason=REASON, now_ms=NOW)):
        with pytest.raises(StoreUnavailable, match="restart"):
            await call
    await store.close()
    assert disk.syncs == synced, "a sync after a failed one hides what is on the disk"
    again = on(disk, tmp_path / "store.db")
    assert await again.check() == []
    assert await again.event(one.id) is not None
    await again.close()
