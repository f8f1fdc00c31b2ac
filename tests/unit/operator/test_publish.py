"""The configuration in Secrets: written in pieces, read back whole, its term never claimed twice."""

from __future__ import annotations

import asyncio
import copy
from typing import Any

import msgspec
import pytest

from hookstead.config.model import DeliveryConfig, Epoch, EventTypeConfig, Identity
from hookstead.config.serial import digest, encode, to_shards
from hookstead.config.verdicts import GOOD
from hookstead.operator.kube import Conflict, KubeError, NotFound, Unavailable
from hookstead.operator.lease import LeaseLost
from hookstead.operator.publish import (
    MAX_SHARDS,
    Publisher,
    Shards,
    claim_term,
    is_intact,
    read_published,
    shard_name,
    write_shards,
)

CONFIG = DeliveryConfig(
    namespace="n", event_types=(EventTypeConfig(identity=Identity(name="a"), verdict=GOOD, type="a"),)
)


class Secrets:
    """The Secrets of one namespace, with merge patch and optimistic locking."""

    def __init__(self) -> None:
        self.bodies: dict[str, dict[str, Any]] = {}
        self.version = 0
        self.writes: list[str] = []

    async def get(self, path: str, *, accept: str = "") -> Any:
        name = path.rpartition("/")[2]
        if name not in self.bodies:
            raise NotFound("none", status=404)
        return copy.deepcopy(self.bodies[name])

    async def create(self, _path: str, body: Any) -> Any:
        name = body["metadata"]["name"]
        if name in self.bodies:
            raise Conflict("exists", status=409)
        return self._store(name, copy.deepcopy(body))

    async def merge_patch(self, path: str, patch: Any) -> Any:
        name = path.rpartition("/")[2]
        body = await self.get(path)
        wanted = patch.get("metadata", {}).get("resourceVersion")
        if wanted is not None and wanted != body["metadata"]["resourceVersion"]:
            raise Conflict("changed", status=409)
        return self._store(name, _merged(body, patch))

    def _store(self, name: str, body: dict[str, Any]) -> Any:
        self.version += 1
        self.writes.append(name)
        body["metadata"]["resourceVersion"] = str(self.version)
        self.bodies[name] = body
        return copy.deepcopy(body)


def anybody() -> None:
    """Leads."""


def _merged(target: Any, patch: Any) -> Any:
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = _merged(result.get(key), value)
    return result


def cut(config: DeliveryConfig, *, pieces: int = 1, epoch: Epoch = Epoch(term=3, sequence=7)) -> Shards:  # noqa: B008
    document = encode(config)
    (packed,) = to_shards(document)
    size = -(-len(packed) // pieces)
    parts = [packed[start : start + size] for start in range(0, len(packed), size)]
    return Shards(pieces=parts, digest=digest(document), epoch=epoch)


@pytest.mark.parametrize("pieces", [1, 3])
async def test_what_is_written_is_read_back(pieces: int) -> None:
    kube: Any = Secrets()
    shards = cut(CONFIG, pieces=pieces)
    await write_shards(kube, shards, namespace="n", may_write=anybody)
    found = await read_published(kube, namespace="n")
    assert (found.config, found.digest, found.epoch, found.term) == (CONFIG, shards.digest, shards.epoch, 3)
    assert await is_intact(kube, shards, namespace="n")


async def test_the_first_shard_is_written_last() -> None:
    kube: Any = Secrets()
    await write_shards(kube, cut(CONFIG, pieces=3), namespace="n", may_write=anybody)
    assert kube.writes == [shard_name(2), shard_name(1), shard_name(0)]


async def test_a_smaller_configuration_empties_the_surplus() -> None:
    kube: Any = Secrets()
    await write_shards(kube, cut(CONFIG, pieces=3), namespace="n", may_write=anybody)
    await write_shards(kube, cut(CONFIG), namespace="n", may_write=anybody)
    assert (await read_published(kube, namespace="n")).config == CONFIG
    assert not kube.bodies[shard_name(1)].get("data")
    assert not kube.bodies[shard_name(2)].get("data")


async def test_a_mixture_of_two_configurations_is_not_believed() -> None:
    kube: Any = Secrets()
    await write_shards(kube, cut(CONFIG, pieces=2), namespace="n", may_write=anybody)
    other = msgspec.structs.replace(CONFIG, namespace="another-one")
    newer = cut(other, pieces=2)
    before = copy.deepcopy(kube.bodies[shard_name(0)])
    await write_shards(kube, newer, namespace="n", may_write=anybody)
    kube.bodies[shard_name(0)] = before
    found = await read_published(kube, namespace="n")
    assert found.config is None
    assert found.term == 3


async def test_who_is_deposed_half_way_writes_no_further_shard() -> None:
    kube: Any = Secrets()
    asked = 0

    def deposed_after_two() -> None:
        nonlocal asked
        asked += 1
        if asked == 3:
            raise LeaseLost("somebody else leads")

    with pytest.raises(LeaseLost):
        await write_shards(kube, cut(CONFIG, pieces=3), namespace="n", may_write=deposed_after_two)
    assert sorted(kube.bodies) == ["hookstead-config-1", "hookstead-config-2"]


async def test_nothing_stored_is_an_empty_beginning() -> None:
    found = await read_published(Secrets(), namespace="n")  # type: ignore[arg-type]  # a fake
    assert (found.config, found.term, found.resource_version) == (None, 0, "")


async def test_each_start_claims_a_higher_term() -> None:
    kube: Any = Secrets()
    for wanted in (1, 2):
        published = await read_published(kube, namespace="n")
        assert await claim_term(kube, namespace="n", published=published, at_least=0) == wanted
    await write_shards(kube, cut(CONFIG, epoch=Epoch(term=2, sequence=9)), namespace="n", may_write=anybody)
    published = await read_published(kube, namespace="n")
    assert await claim_term(kube, namespace="n", published=published, at_least=0) == 3
    published = await read_published(kube, namespace="n")
    assert published.config == CONFIG, "claiming a term leaves the configuration alone"
    assert await claim_term(kube, namespace="n", published=published, at_least=40) == 40


async def test_of_two_that_claim_at_once_one_has_to_look_again() -> None:
    kube: Any = Secrets()
    await write_shards(kube, cut(CONFIG), namespace="n", may_write=anybody)
    published = await read_published(kube, namespace="n")
    await claim_term(kube, namespace="n", published=published, at_least=0)
    with pytest.raises(Conflict):
        await claim_term(kube, namespace="n", published=published, at_least=0)


async def test_more_shards_than_are_mounted_are_refused() -> None:
    shards = Shards(pieces=[b"x"] * (MAX_SHARDS + 1), digest="d", epoch=Epoch())
    with pytest.raises(KubeError, match="a namespace of their own"):
        await write_shards(Secrets(), shards, namespace="n", may_write=anybody)  # type: ignore[arg-type]  # a fake


async def until(holds: Any) -> None:
    async with asyncio.timeout(5):
        while not holds():
            await asyncio.sleep(0)


async def test_what_cannot_be_stored_is_said_with_a_remedy_until_it_can_be() -> None:
    said: list[str] = []
    secrets = Secrets()
    publisher = Publisher(secrets, namespace="n", may_write=anybody, changed=lambda: said.append(publisher.problem))  # type: ignore[arg-type]  # a fake
    task = asyncio.create_task(publisher.run())
    publisher.hand_in(Shards(pieces=[b"x"] * (MAX_SHARDS + 1), digest="large", epoch=Epoch(term=1, sequence=1)))
    await until(lambda: said)
    assert "needs 17 Secrets" in publisher.problem
    assert "Shorten schemas" in publisher.problem
    assert secrets.writes == []
    publisher.hand_in(Shards(pieces=[b"x"], digest="small", epoch=Epoch(term=1, sequence=2)))
    await until(lambda: publisher.idle)
    task.cancel()
    assert [bool(problem) for problem in said] == [True, False]


async def test_what_heals_by_itself_is_no_problem() -> None:
    secrets = Secrets()

    async def away(path: str, patch: Any) -> Any:
        del path, patch
        secrets.writes.append("tried")
        raise Unavailable("away", status=503)

    secrets.merge_patch = away  # type: ignore[method-assign]
    publisher = Publisher(secrets, namespace="n", may_write=anybody, changed=lambda: None)  # type: ignore[arg-type]  # a fake
    task = asyncio.create_task(publisher.run())
    publisher.hand_in(Shards(pieces=[b"x"], digest="d", epoch=Epoch(term=1, sequence=1)))
    await until(lambda: secrets.writes)
    task.cancel()
    assert publisher.problem == ""


async def test_a_deleted_or_changed_shard_is_noticed() -> None:
    kube: Any = Secrets()
    shards = cut(CONFIG, pieces=2)
    await write_shards(kube, shards, namespace="n", may_write=anybody)
    del kube.bodies[shard_name(1)]
    assert not await is_intact(kube, shards, namespace="n")
    await write_shards(kube, shards, namespace="n", may_write=anybody)
    kube.bodies[shard_name(0)]["metadata"]["annotations"] = {}
    assert not await is_intact(kube, shards, namespace="n")
