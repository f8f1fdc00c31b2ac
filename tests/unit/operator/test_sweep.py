"""The sweep brings in what the feed has lost: a watch does not repeat itself."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from hookstead.operator import sweep
from hookstead.operator.kube import Expired, Listed, Listing, NotFound
from hookstead.operator.objects import ObjectStore, SecretStore
from hookstead.operator.pods import PodStore
from hookstead.operator.sweep import Sweeper
from hookstead.resources.kinds import Channel, Kind

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


class Server:
    """Channels by name, as an API server has them."""

    def __init__(self, *names: str) -> None:
        self.names = list(names)
        self.asked: list[str] = []
        self.lists = 0
        self.fails = 0

    async def list_metadata(self, path: str, *, label_selector: str = "") -> Listing:
        del label_selector
        self.lists += 1
        names = self.names if path.endswith("/webhookchannels") else []
        return Listing(
            resource_version=100,
            items={name: Listed(name=name, uid=f"uid-{name}", resource_version=10) for name in names},
        )

    async def list_pages(self, path: str, *, label_selector: str = "") -> AsyncIterator[dict[str, Any]]:
        """A page for each object; as on the server, the objects of a list do not say what they are."""
        del label_selector
        self.lists += 1
        names = self.names if path.endswith("/webhookchannels") else []
        for name in names:
            body = channel(name)
            yield {"metadata": {"resourceVersion": "100"}, "items": [{key: body[key] for key in ("metadata", "spec")}]}
            if self.fails:
                self.fails -= 1
                raise Expired("too old", status=410)
        if not names:
            yield {"metadata": {"resourceVersion": "100"}, "items": []}

    async def get(self, path: str) -> dict[str, Any]:
        name = path.rpartition("/")[2]
        self.asked.append(name)
        if name not in self.names:
            raise NotFound("gone", status=404)
        return channel(name)


def channel(name: str) -> dict[str, Any]:
    return {
        "apiVersion": "hookstead.dev/v1alpha1",
        "kind": "WebhookChannel",
        "metadata": {"name": name, "namespace": "n", "uid": f"uid-{name}", "resourceVersion": "10", "generation": 1},
        "spec": {"channelName": name},
    }


def sweeper(server: Server, objects: ObjectStore) -> Sweeper:
    def bring(_: str, body: dict[str, Any]) -> None:
        objects.observe(Kind.CHANNEL, "MODIFIED", body)

    return Sweeper(
        server,  # type: ignore[arg-type]  # a fake
        namespace="n",
        objects=objects,
        secrets=SecretStore(),
        pods=PodStore(),
        pod_selector=None,
        changed=lambda: None,
        bring=bring,
    )


async def until(holds: Any) -> None:
    async with asyncio.timeout(5):
        while not holds():
            await asyncio.sleep(0)


@pytest.fixture(autouse=True)
def no_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LAG_SECONDS", "AFTER_RELIST_SECONDS", "RETRY_SECONDS"):
        monkeypatch.setattr(sweep, name, 0.0)


async def test_what_the_feed_has_lost_is_got_by_name_and_looked_at_once_more() -> None:
    server, objects = Server("a", "b"), ObjectStore("n")
    objects.observe(Kind.CHANNEL, None, channel("a"))
    one = sweeper(server, objects)
    task = asyncio.create_task(one.run())
    one.ask()
    await until(lambda: server.lists == 12)  # six lists each time: once more after something was brought
    task.cancel()
    assert server.asked == ["b"]
    assert set(objects.kinds[Kind.CHANNEL]) == {"a", "b"}


async def test_what_is_not_there_any_more_is_no_failure_and_is_not_asked_for_for_ever() -> None:
    server, objects = Server("a"), ObjectStore("n")
    one = sweeper(server, objects)
    task = asyncio.create_task(one.run())

    async def gone(path: str) -> dict[str, Any]:
        server.asked.append(path)
        raise NotFound("gone", status=404)

    server.get = gone  # type: ignore[method-assign]
    one.ask()
    await until(lambda: len(server.asked) == 2)
    for _ in range(100):
        await asyncio.sleep(0)
    task.cancel()
    assert len(server.asked) == 2


async def test_at_the_start_everything_is_brought_before_the_feed_says_a_word() -> None:
    server, objects = Server("a", "b"), ObjectStore("n")
    async with asyncio.timeout(5):
        await sweeper(server, objects).synchronise()
    assert set(objects.kinds[Kind.CHANNEL]) == {"a", "b"}
    assert all(isinstance(item, Channel) for item in objects.items(Kind.CHANNEL))


async def test_a_list_that_breaks_off_begins_anew_and_leaves_nothing_that_was_deleted_meanwhile() -> None:
    server, objects = Server("a", "b"), ObjectStore("n")
    server.fails = 1
    one = sweeper(server, objects)
    bring = one._bring

    def then_delete(plural: str, body: dict[str, Any]) -> None:
        bring(plural, body)
        server.names = ["b"]

    one._bring = then_delete  # type: ignore[misc]  # what is brought first is deleted right after
    async with asyncio.timeout(5):
        await one.synchronise()
    assert set(objects.kinds[Kind.CHANNEL]) == {"b"}
    assert one.ghosts == 1


async def test_a_sweep_waits_for_the_end_of_a_re_list() -> None:
    server, objects = Server("a"), ObjectStore("n")
    objects.observe(Kind.CHANNEL, None, channel("a"))
    one = sweeper(server, objects)
    task = asyncio.create_task(one.run())
    for _ in range(20):
        one.ask()
        await asyncio.sleep(0)
    assert server.lists == 0
    await until(lambda: server.lists == 6)
    task.cancel()


async def test_what_went_last_of_its_kind_is_found_though_nobody_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Kopf says nothing of a list in which nothing is left."""
    monkeypatch.setattr(sweep, "PERIOD_SECONDS", 0.01)
    server, objects = Server(), ObjectStore("n")
    objects.observe(Kind.CHANNEL, None, channel("a"))
    one = sweeper(server, objects)
    task = asyncio.create_task(one.run())
    await until(lambda: one.ghosts == 1)
    task.cancel()
    assert objects.kinds[Kind.CHANNEL] == {}


@pytest.mark.parametrize(("objects", "seconds"), [(1, 60.0), (1_000, 60.0), (5_000, 300.0), (100_000, 600.0)])
def test_the_more_there_is_the_more_seldom_it_is_swept(objects: int, seconds: float) -> None:
    store = ObjectStore("n")
    store.kinds[Kind.CHANNEL] = dict.fromkeys(map(str, range(objects)))  # type: ignore[assignment]  # only counted
    assert sweeper(Server(), store)._period() == seconds
