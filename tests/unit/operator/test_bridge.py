"""Between our first lists and Kopf's watches nothing is seen late, and nothing comes back to life."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any, cast

import pytest

from hookstead.operator import bridge
from hookstead.operator.bridge import Bridge
from hookstead.operator.feed import PODS, SECRETS
from hookstead.operator.kube import Expired, KubeClient, Listing
from hookstead.operator.sweep import Listings
from hookstead.resources.kinds import SECRET_LABEL, Kind

LISTINGS = Listings(
    kinds={kind: Listing(resource_version=number, items={}) for number, kind in enumerate(Kind, start=1)},
    secrets=Listing(resource_version=8, items={}),
    pods=Listing(resource_version=9, items={}),
)


def body(name: str, uid: str = "u") -> dict[str, Any]:
    return {"metadata": {"name": name, "uid": uid}}


@dataclass
class Site:
    """A bridge whose API server says what a test puts into `events`, by plural; None: the watch breaks."""

    selector: str | None = "app=gateway"
    events: dict[str, list[tuple[str, dict[str, Any]] | None]] = field(default_factory=dict)
    watched: list[tuple[str, int, str]] = field(default_factory=list)
    taken: list[tuple[str, str | None, str]] = field(default_factory=list)
    fed: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.bridge = Bridge(
            cast(KubeClient, self),
            namespace="n",
            pod_selector=self.selector,
            take_in=lambda plural, event, item: self.taken.append((plural, event, item["metadata"]["name"])),
            monotonic=lambda: asyncio.get_running_loop().time(),
        )

    async def watch(
        self, path: str, *, version: int, label_selector: str = ""
    ) -> AsyncIterator[tuple[str, dict[str, Any]]]:
        plural = path.rpartition("/")[2]
        self.watched.append((plural, version, label_selector))
        for event in self.events.get(plural, []):
            if event is None:
                raise Expired("too old", status=410)
            yield event
        await asyncio.Event().wait()

    def run(self) -> asyncio.Task[None]:
        return asyncio.create_task(self.bridge.run(LISTINGS, fed=self.fed))


async def passes() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


@pytest.fixture(autouse=True)
def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bridge, "QUIET_SECONDS", 0.01)


@pytest.mark.parametrize("selector", ["app=gateway", None])
async def test_everything_is_watched_from_its_list_on_until_kopf_is_through(selector: str | None) -> None:
    site = Site(selector=selector)
    running = site.run()
    await passes()
    kinds = [(kind.plural, number, "") for number, kind in enumerate(Kind, start=1)]
    pods = [(PODS, 9, selector)] if selector else []
    assert site.watched == [*kinds, (SECRETS, 8, f"{SECRET_LABEL}=true"), *pods]
    assert not running.done(), "Kopf has not begun"
    site.fed.set()
    await running


async def test_what_happens_is_told_and_a_watch_that_breaks_ends_no_other() -> None:
    site = Site(events={"webhookendpoints": [("MODIFIED", body("a")), None], "webhookchannels": [("ADDED", body("c"))]})
    running = site.run()
    await passes()
    assert site.taken == [("webhookendpoints", "MODIFIED", "a"), ("webhookchannels", "ADDED", "c")]
    site.fed.set()
    await running


async def test_what_was_deleted_is_not_brought_back_by_an_older_list_of_kopfs() -> None:
    site = Site(events={"webhookendpoints": [("DELETED", body("a", "u1"))]})
    running = site.run()
    await passes()
    site.taken.clear()
    site.bridge.observe("webhookendpoints", None, body("a", "u1"))
    assert site.taken == []
    site.bridge.observe("webhookendpoints", None, body("a", "u2"))
    site.bridge.observe("webhookendpoints", "ADDED", body("a", "u1"))
    assert len(site.taken) == 2, "another of that name; and one that lost its label for a moment"
    site.fed.set()
    await running
    site.bridge.observe("webhookendpoints", None, body("a", "u1"))
    assert len(site.taken) == 3, "nothing is remembered for ever"
