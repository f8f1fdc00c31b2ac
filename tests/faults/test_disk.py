"""Full disks, disks that cannot be written, disks that fail: refused clearly, and nothing that was accepted is lost."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from builders import endpoint
from faults.disks import MIB, Disk, disk
from faults.gateway_process import Answer, Home, Life, home, until
from faults.load import Ledger, publish
from faults.prefaces import FAILING_SYNC, TMPFS_IS_NFS
from faults.sink import Sink, sink

BIG = "x" * 60_000
WITHOUT_ROOT = ("setpriv", "--bounding-set=-dac_override,-dac_read_search", "--")
"""Permissions count for root too then."""


async def publish_until_refused(life: Life, accepted: list[str], *, pause: float) -> Answer:
    for _ in range(3000):
        answer = await life.publish(data={"text": BIG})
        if answer.status != 202:
            return answer
        accepted.append(answer.body["id"])
        await asyncio.sleep(pause)
    raise AssertionError("a full disk was never noticed")


async def taken_again(life: Life, accepted: list[str]) -> None:
    """Wait until events are accepted; what is refused before says when to come back."""

    async def look() -> bool:
        answer = await life.publish()
        if answer.status == 202:
            accepted.append(answer.body["id"])
        else:
            assert (answer.status, answer.body["type"].rpartition("/")[2]) in {
                (507, "store-full"),
                (503, "store-unavailable"),
            }
        return answer.status == 202

    await until(look, what="events accepted again")


async def recorded(life: Life, receiver: Sink, accepted: list[str]) -> None:
    """Wait until the store, not the engine's memory, has every delivery as Delivered."""

    async def all_of_them() -> bool:
        return len(await life.deliveries(status="Delivered")) == len(accepted)

    await until(all_of_them, what="every delivery recorded")
    assert receiver.ids("/all") == set(accepted)


async def test_below_the_watermark_ingest_is_refused_before_the_disk_is_full_and_delivery_goes_on(
    tmp_path: Path,
) -> None:
    with disk(tmp_path / "disk", mebibytes=64) as small:
        async with (
            sink() as receiver,
            home(tmp_path, endpoint("all", url=f"{receiver.url}/all"), store=small.path / "store.db") as place,
        ):
            small.fill(leaving=32 * MIB)
            receiver.gate = asyncio.Event()
            life = await place.start("--min-free-bytes", str(16 * MIB))
            accepted: list[str] = []
            refused = await publish_until_refused(life, accepted, pause=0.005)
            assert (refused.status, refused.body["type"].rpartition("/")[2]) == (507, "store-full")
            assert int(refused.headers["Retry-After"]) > 0
            assert "--min-free-bytes" in refused.body["detail"]
            assert small.free > 4 * MIB, "refused too late"
            assert accepted
            receiver.gate.set()
            await recorded(life, receiver, accepted)
            assert (await life.get(f"{life.admin}/readyz")).status == 200
            assert (await life.publish()).status == 507
            small.empty()
            await taken_again(life, accepted)
            await recorded(life, receiver, accepted)
            assert set(receiver.seen.values()) == {1}
            assert await life.stop() == 0
            assert await place.check() == []


async def filled(place: Home, small: Disk, receiver: Sink, accepted: list[str]) -> Life:
    """A gateway without a watermark on a disk without a byte; attempts are under way and cannot be recorded."""
    receiver.gate = asyncio.Event()
    life = await place.start("--min-free-bytes", "0", "--drain-seconds", "1")
    accepted += [(await life.publish(data={"text": BIG})).body["id"] for _ in range(30)]

    async def under_way() -> bool:
        return receiver.open == 20

    await until(under_way, what="attempts under way")
    small.fill()
    refused = await publish_until_refused(life, accepted, pause=0.0)
    assert refused.status in (503, 507)
    assert int(refused.headers["Retry-After"]) > 0
    receiver.gate.set()
    return life


async def test_a_disk_without_a_byte_refuses_and_recovers_without_loss(tmp_path: Path) -> None:
    with disk(tmp_path / "disk", mebibytes=24) as small:
        async with (
            sink() as receiver,
            home(tmp_path, endpoint("all", url=f"{receiver.url}/all"), store=small.path / "store.db") as place,
        ):
            accepted: list[str] = []
            life = await filled(place, small, receiver, accepted)

            async def unrecorded() -> bool:
                return "not recorded yet" in life.log

            await until(unrecorded, what="attempts that cannot be recorded")
            small.empty()
            await taken_again(life, accepted)
            await recorded(life, receiver, accepted)
            assert set(receiver.seen.values()) == {1}, "an attempt that was not recorded at once was made again"
            assert await life.stop() == 0
            assert await place.check() == []


async def test_a_stop_on_a_full_disk_ends_in_time_and_the_next_life_delivers(tmp_path: Path) -> None:
    with disk(tmp_path / "disk", mebibytes=24) as small:
        async with (
            sink() as receiver,
            home(tmp_path, endpoint("all", url=f"{receiver.url}/all"), store=small.path / "store.db") as place,
        ):
            accepted: list[str] = []
            life = await filled(place, small, receiver, accepted)
            assert await life.stop(seconds=15) == 0
            small.empty()
            again = await place.start()
            await recorded(again, receiver, accepted)
            assert await again.stop() == 0
            assert await place.check() == []


async def says(place: Home, *words: str, preface: str = "", wrapper: tuple[str, ...] = ()) -> None:
    """The program exits 1, and its one message has these words, the store's path first."""
    life = place.launch(preface=preface, wrapper=wrapper)
    assert await life.ended() == 1, life.log
    for word in (str(place.store), *words):
        assert word in life.log, life.log
    assert "Traceback" not in life.log


@pytest.mark.parametrize("existing", [False, True])
async def test_a_read_only_disk_is_told_in_one_sentence(tmp_path: Path, existing: bool) -> None:
    with disk(tmp_path / "disk", mebibytes=16) as small:
        async with home(tmp_path, store=small.path / "store.db") as place:
            if existing:
                assert await (await place.start()).stop() == 0
            small.make_read_only()
            await says(place, "read-only", "writable")


@pytest.mark.parametrize("what", ["store.db", "."])
async def test_a_file_or_folder_without_permission_is_told_in_one_sentence(tmp_path: Path, what: str) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    async with home(tmp_path, store=folder / "store.db") as place:
        assert await (await place.start()).stop() == 0
        if what == ".":
            (folder / "store.db.lock").unlink()
        (folder / what).chmod(0o500)
        try:
            await says(place, "writable", wrapper=WITHOUT_ROOT)
        finally:
            (folder / what).chmod(0o700)


async def test_a_folder_that_is_a_file_is_told_in_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("")
    async with home(tmp_path, store=tmp_path / "data" / "store.db") as place:
        await says(place, "folder")


async def test_a_network_file_system_is_refused_and_left_alone(tmp_path: Path) -> None:
    with disk(tmp_path / "disk", mebibytes=16) as small:
        async with home(tmp_path, store=small.path / "store.db") as place:
            life = place.launch(preface=TMPFS_IS_NFS)
            assert await life.ended() == 1
            assert f"{small.path}: it is on a network file system (NFS)" in life.log
            assert "use a local disk" in life.log
            assert "Traceback" not in life.log
            assert list(small.path.iterdir()) == []


async def test_a_failed_fsync_ends_the_process_and_the_next_one_has_what_was_promised(tmp_path: Path) -> None:
    async with sink() as receiver, home(tmp_path, endpoint("all", url=f"{receiver.url}/all")) as place:
        life, ledger = await place.start(preface=FAILING_SYNC), Ledger()
        for _ in range(20):
            assert await publish(place.session, life, ledger, ledger.take()) == 202
        (tmp_path / "broken").write_text("")
        refused = ledger.take()
        assert await publish(place.session, life, ledger, refused) == 503
        assert await life.ended() == 1, "a process that cannot trust its disk must make room for one that looks again"
        assert "check the disk" in life.log
        (tmp_path / "broken").unlink()
        again = await place.start()
        # Its data may be on the disk all the same: the caller's id makes the repetition harmless.
        assert await publish(place.session, again, ledger, refused) == 202
        await again.settled(21)
        assert receiver.ids("/all") == set(ledger.promised.values())
        assert await again.stop() == 0
        assert await place.check() == []
