"""Which configuration runs: the newest of saved copy, mounted copy and push."""

from __future__ import annotations

import gzip
from pathlib import Path

import msgspec
import pytest

from builders import config, endpoint
from hookstead.config import serial
from hookstead.config.model import DeliveryConfig, Epoch
from hookstead.config.report import Running
from hookstead.delivery.ports import StoreUnavailable
from hookstead.gateway.configuration import BLOB, Configuration, HashMismatch, Stale, read_mounted
from hookstead.gateway.internal import parse_epoch


class Memory:
    """The engine's and the store's part, in memory."""

    def __init__(self) -> None:
        self.applied: list[tuple[DeliveryConfig, Running]] = []
        self.blobs: dict[str, bytes] = {}
        self.broken = False

    async def apply(self, config: DeliveryConfig, *, running: Running) -> None:
        self.applied.append((config, running))

    async def get_blob(self, name: str) -> bytes | None:
        if self.broken:
            raise StoreUnavailable("no disk")
        return self.blobs.get(name)

    async def replace_blob(self, name: str, old: bytes | None, new: bytes) -> bool:
        if self.broken:
            raise StoreUnavailable("no disk")
        if self.blobs.get(name) != old:
            return False
        self.blobs[name] = new
        return True


def configuration(memory: Memory) -> Configuration:
    return Configuration(engine=memory, blobs=memory, instance="i", version="1")


def document(*names: str) -> bytes:
    return serial.encode(config(*(endpoint(name) for name in names)))


def names(memory: Memory) -> list[str]:
    return [one.identity.name for one in memory.applied[-1][0].endpoints]


async def push(target: Configuration, content: bytes, term: int, sequence: int) -> Running:
    packed = serial.compress(content)
    return await target.push(packed, epoch=Epoch(term=term, sequence=sequence), hash_=serial.digest(content))


def mount(folder: Path, content: bytes, epoch: Epoch, *, parts: int = 1) -> None:
    packed = serial.compress(content)
    size = -(-len(packed) // parts)
    for number in range(parts):
        place = folder / f"hookstead-config-{number}"
        place.mkdir(parents=True, exist_ok=True)
        (place / f"config-{number}.json.gz").write_bytes(packed[number * size : (number + 1) * size])
        meta = {"hash": serial.digest(content), "epoch": epoch, "shard": number, "shards": parts}
        (place / f"config-{number}.meta.json").write_bytes(msgspec.json.encode(meta))


async def test_a_push_is_applied_saved_and_answered() -> None:
    memory = Memory()
    content = document("a")
    running = await push(configuration(memory), content, 2, 5)
    assert running == Running(instance="i", version="1", hash=serial.digest(content), epoch=Epoch(term=2, sequence=5))
    assert names(memory) == ["a"]
    assert BLOB in memory.blobs


async def test_a_newer_copy_that_another_gateway_kept_in_their_store_stays_there() -> None:
    memory, later = Memory(), document("b")
    slow, quick = configuration(memory), configuration(memory)
    await push(quick, later, 2, 6)
    kept = memory.blobs[BLOB]
    await push(slow, document("a"), 2, 5)
    assert names(memory) == ["a"], "it runs what it was given"
    assert memory.blobs[BLOB] == kept
    await push(slow, document("c"), 2, 7)
    assert memory.blobs[BLOB] != kept


async def test_a_copy_that_is_damaged_is_replaced() -> None:
    memory = Memory()
    memory.blobs[BLOB] = b"\xc1"
    await push(configuration(memory), document("a"), 1, 1)
    assert memory.blobs[BLOB] != b"\xc1"


async def test_what_was_pushed_is_kept_as_it_came_and_starts_the_next_life() -> None:
    memory = Memory()
    content = document("a", "b")
    packed = gzip.compress(content, compresslevel=9)  # not as we would compress it
    await configuration(memory).push(packed, epoch=Epoch(term=1, sequence=1), hash_=serial.digest(content))
    assert packed in memory.blobs[BLOB]
    assert await configuration(memory).boot(None)
    assert names(memory) == ["a", "b"]


async def test_an_endpoint_that_was_not_changed_is_the_same_object_after_the_next_push() -> None:
    memory = Memory()
    target = configuration(memory)
    await push(target, document("a", "b"), 1, 1)
    await push(target, document("b", "c"), 1, 2)
    (before, _), (after, _) = memory.applied
    assert after.endpoints[0] is before.endpoints[1]
    assert serial.encode(after) == document("b", "c")


async def test_an_older_epoch_is_refused_whatever_it_brings() -> None:
    memory = Memory()
    target = configuration(memory)
    await push(target, document("a"), 2, 5)
    for term, sequence in ((2, 4), (1, 99), (0, 0)):
        with pytest.raises(Stale) as caught:
            await push(target, document("b"), term, sequence)
        assert caught.value.running == target.running
    assert names(memory) == ["a"]


async def test_the_same_push_again_changes_nothing_and_a_newer_term_wins() -> None:
    memory = Memory()
    target = configuration(memory)
    await push(target, document("a"), 2, 5)
    await push(target, document("a"), 2, 5)
    assert len(memory.applied) == 1
    await push(target, document("b"), 3, 0)
    assert names(memory) == ["b"]


async def test_bytes_that_do_not_fit_their_hash_or_do_not_parse_change_nothing() -> None:
    memory = Memory()
    target = configuration(memory)
    with pytest.raises(HashMismatch, match="sha256"):
        await target.push(serial.compress(document("a")), epoch=Epoch(term=1, sequence=1), hash_="sha256:0")
    for content in (b"{}", b"[]", b"{", b'{"namespace":"n","endpoints":[{"identity":1}]}'):
        with pytest.raises(serial.ConfigUnreadable):
            await push(target, content, 1, 1)
    with pytest.raises(serial.ConfigUnreadable, match="gzip"):
        await target.push(b"no gzip", epoch=Epoch(term=1, sequence=1), hash_=serial.digest(b"no gzip"))
    assert memory.applied == []
    assert memory.blobs == {}


async def test_what_cannot_be_saved_is_not_put_in_force() -> None:
    memory = Memory()
    memory.broken = True
    target = configuration(memory)
    with pytest.raises(StoreUnavailable):
        await push(target, document("a"), 1, 1)
    assert memory.applied == []
    assert target.running.hash == ""


@pytest.mark.parametrize(
    ("saved", "mounted", "expected"),
    [
        (None, None, None),
        ((1, 1), None, "saved"),
        (None, (1, 1), "mounted"),
        ((1, 2), (1, 1), "saved"),
        ((1, 9), (2, 0), "mounted"),
    ],
)
async def test_a_boot_takes_the_newest_copy(
    tmp_path: Path, saved: tuple[int, int] | None, mounted: tuple[int, int] | None, expected: str | None
) -> None:
    memory = Memory()
    if saved is not None:
        await push(configuration(memory), document("saved"), *saved)
    if mounted is not None:
        mount(tmp_path, document("mounted"), Epoch(term=mounted[0], sequence=mounted[1]))
    memory.applied.clear()
    assert await configuration(memory).boot(tmp_path) == (expected is not None)
    assert ([*names(memory)] if memory.applied else [None]) == [expected]


async def test_a_boot_passes_over_copies_that_cannot_be_read(tmp_path: Path) -> None:
    memory = Memory()
    await push(configuration(memory), document("saved"), 1, 1)
    mount(tmp_path, document("mounted"), Epoch(term=2, sequence=0))
    (tmp_path / "hookstead-config-0" / "config-0.json.gz").write_bytes(b"damaged")
    assert await configuration(memory).boot(tmp_path)
    assert names(memory) == ["saved"]
    memory.blobs[BLOB] = b"damaged"
    assert not await configuration(memory).boot(tmp_path / "nothing")


def test_shards_are_put_together_in_order(tmp_path: Path) -> None:
    content = document(*(f"endpoint-{n}" for n in range(50)))
    mount(tmp_path, content, Epoch(term=1, sequence=1), parts=7)
    copy = read_mounted(tmp_path)
    assert copy is not None
    assert serial.decompress(copy.document) == content


def test_shards_of_two_configurations_are_no_copy(tmp_path: Path) -> None:
    mount(tmp_path, document("old"), Epoch(term=1, sequence=1), parts=3)
    mount(tmp_path, document("new"), Epoch(term=1, sequence=2), parts=2)
    whole = read_mounted(tmp_path)
    assert whole is not None
    assert whole.epoch == Epoch(term=1, sequence=2)
    (tmp_path / "hookstead-config-1" / "config-1.meta.json").unlink()
    assert read_mounted(tmp_path) is None


async def test_shards_alone_are_a_copy_that_is_older_than_every_other(tmp_path: Path) -> None:
    mount(tmp_path, document(*(f"endpoint-{n}" for n in range(50))), Epoch(term=2, sequence=1), parts=3)
    for path in tmp_path.rglob("*.meta.json"):
        path.unlink()
    memory = Memory()
    assert await configuration(memory).boot(tmp_path)
    assert len(names(memory)) == 50
    await push(configuration(memory), document("saved"), 1, 1)
    assert await configuration(memory).boot(tmp_path)
    assert names(memory) == ["saved"]
    next(tmp_path.rglob("config-1.json.gz")).unlink()
    assert read_mounted(tmp_path) is None


@pytest.mark.parametrize(("text", "epoch"), [("0.0", (0, 0)), ("3.17", (3, 17))])
def test_an_epoch_is_term_and_sequence(text: str, epoch: tuple[int, int]) -> None:
    assert parse_epoch(text) == Epoch(term=epoch[0], sequence=epoch[1])


@pytest.mark.parametrize("text", ["", "1", "1.", ".1", "-1.2", "1.2.3", "a.b", "1.9999999999999999999", "١.٢"])
def test_anything_else_is_no_epoch(text: str) -> None:
    with pytest.raises(ValueError, match="TERM"):
        parse_epoch(text)
