"""The sweep: consistent metadata lists against what the feed has told.

Kopf never reports what was deleted while a watch was broken, and brings ten thousand objects one by one, each with a
task of its own. So lists of ours bring everything that exists before the first pass; later ones say what is not there
any more (ghosts), and what the feed has lost (it is asked for by name: a watch does not repeat itself).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from hookstead.operator.feed import PODS, SECRETS
from hookstead.operator.guard import served_in_full
from hookstead.operator.kube import (
    DISCOVERY_PATH,
    KubeClient,
    KubeError,
    Listed,
    Listing,
    NotFound,
    core_path,
    kind_path,
    listed_object,
)
from hookstead.resources.kinds import API_VERSION, SECRET_LABEL, Kind

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from hookstead.operator.objects import ObjectStore, SecretStore
    from hookstead.operator.pods import PodStore

PERIOD_SECONDS: Final = 60.0
"""Kopf does not say that it has listed anew a kind of which nothing is left: what went last is missed until then."""
PERIOD_OBJECTS: Final = 1_000
"""So many are looked at each PERIOD_SECONDS, more of them the more seldom,"""
LONGEST_PERIOD_SECONDS: Final = 600.0
"""but no more seldom than this."""
AFTER_RELIST_SECONDS: Final = 1.0
RELISTING_SECONDS: Final = 30.0
"""A sweep waits for the end of a re-list, objects of which ask for it one by one, but no longer than this."""
RETRY_SECONDS: Final = 1.0
RETRY_CEILING_SECONDS: Final = 30.0
LAG_SECONDS: Final = 2.0
"""What a list has and the feed has not may still be on its way for so long."""
FETCHED_AT_ONCE: Final = 500

log: Final = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Listings:
    """What exists, of everything that is watched."""

    kinds: Mapping[Kind, Listing]
    secrets: Listing
    pods: Listing | None


class Sweeper:
    """Lists, compares, removes ghosts, and calls `changed` when it removed any; what is missing it gets for `bring`.

    `bring` takes a plural and the object, as the feed would have told it.
    """

    def __init__(
        self,
        kube: KubeClient,
        *,
        namespace: str,
        objects: ObjectStore,
        secrets: SecretStore,
        pods: PodStore,
        pod_selector: str | None,
        changed: Callable[[], None],
        bring: Callable[[str, dict[str, Any]], None],
    ) -> None:
        self._kube: Final = kube
        self._namespace: Final = namespace
        self._objects: Final = objects
        self._secrets: Final = secrets
        self._pods: Final = pods
        self._pod_selector: Final = pod_selector
        self._changed: Final = changed
        self._bring: Final = bring
        self._asked: Final = asyncio.Event()
        self._fetched: list[tuple[str, str]] = []
        self.ghosts = 0

    def ask(self) -> None:
        """Sweep soon: a watch was started anew, or the feed failed to take something in."""
        self._asked.set()

    async def wait_until_served(self) -> None:
        """Return once the API server serves all five kinds; the CRDs may be installed after the operator."""
        told = ""
        while (missing := await self._unserved()) is not None:
            if missing != told:
                log.warning(missing, extra={"action": "wait-crds"})
                told = missing
            await asyncio.sleep(RETRY_SECONDS)

    async def served(self) -> bool:
        """Whether discovery shows all kinds in full; False where it cannot be asked."""
        return await self._unserved() is None

    async def _unserved(self) -> str | None:
        """What is waited for before all kinds are served in full; None when they are."""
        try:
            if served_in_full(await self._kube.get(DISCOVERY_PATH)):
                return None
        except NotFound:
            pass
        except KubeError as error:
            return f"the API server does not say which kinds it serves: {error}"
        return "waiting for the custom resource definitions: apply the folder crds"

    async def synchronise(self) -> Listings:
        """Bring everything that exists; return once all of it is held, and nothing that does not exist."""
        retry = RETRY_SECONDS
        while True:
            try:
                listings = await self._read()
                self._compare(listings)
            except KubeError as error:
                log.warning("cannot list yet", extra={"action": "synchronise", "error": str(error)})
                await asyncio.sleep(retry)
                retry = min(retry * 2, RETRY_CEILING_SECONDS)
            else:
                log.info("synchronised", extra={"action": "synchronise", "objects": self._objects.count()})
                return listings

    def _period(self) -> float:
        share = max(1.0, self._objects.count() / PERIOD_OBJECTS)
        return min(PERIOD_SECONDS * share, LONGEST_PERIOD_SECONDS)

    async def run(self) -> None:
        """Sweep after every re-list and every PERIOD_SECONDS or more, for ever."""
        while True:
            try:
                async with asyncio.timeout(self._period()):
                    await self._asked.wait()
                await self._quiet()
            except TimeoutError:
                pass
            self._asked.clear()
            try:
                await self._fetch_missing(await self.sweep())
            except KubeError as error:
                log.warning("a sweep failed", extra={"action": "sweep", "error": str(error)})
                await asyncio.sleep(RETRY_SECONDS)
                self._asked.set()

    async def _quiet(self) -> None:
        """Return once nobody has asked for AFTER_RELIST_SECONDS."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + RELISTING_SECONDS
        while self._asked.is_set() and loop.time() < deadline:
            self._asked.clear()
            await asyncio.sleep(AFTER_RELIST_SECONDS)

    async def sweep(self) -> Listings:
        """One sweep; what the lists said. Raises KubeError, and then nothing was removed."""
        listings = await self._list()
        self._compare(listings)
        return listings

    async def _fetch_missing(self, listings: Listings) -> None:
        """Get by name what the lists have and the feed does not bring. Raises KubeError."""
        if not self._missing(listings):
            return
        await asyncio.sleep(LAG_SECONDS)
        missing = self._missing(listings)
        if not missing:
            return
        log.warning("the feed has lost objects", extra={"action": "sweep", "missing": len(missing)})
        await self._fetch(missing)
        if missing != self._fetched:  # what even this does not help waits for its next turn
            self._fetched = missing
            self._asked.set()  # for the rest, and for what was deleted just now

    async def _fetch(self, missing: Sequence[tuple[str, str]]) -> None:
        found: list[tuple[str, dict[str, Any]]] = []
        for plural, path in missing[:FETCHED_AT_ONCE]:
            with contextlib.suppress(NotFound):
                found.append((plural, await self._kube.get(path)))
        for plural, body in found:  # at once: a pass in between would see half of them
            self._bring(plural, body)

    def _missing(self, listings: Listings) -> list[tuple[str, str]]:
        """Plural and path of each object that the lists have, in this form or a later one, and we do not."""
        space = self._namespace
        found = [
            (kind.plural, kind_path(kind, space, name))
            for kind, listing in listings.kinds.items()
            for name in self._objects.sweep(kind, listing).missing
        ]
        found += [(SECRETS, core_path(SECRETS, space, name)) for name in self._secrets.sweep(listings.secrets).missing]
        if listings.pods is not None:
            found += [(PODS, core_path(PODS, space, name)) for name in self._pods.missing(listings.pods)]
        return found

    async def _list(self) -> Listings:
        return await self._listings(self._kube.list_metadata)

    async def _read(self) -> Listings:
        """The lists, with every object brought. Raises KubeError."""
        return await self._listings(self._read_whole)

    async def _read_whole(self, path: str, *, label_selector: str = "") -> Listing:
        plural = path.rpartition("/")[2]
        items: dict[str, Listed] = {}
        version = 0
        async for page in self._kube.list_pages(path, label_selector=label_selector):
            for body in page.get("items") or ():
                listed = listed_object(body)
                items[listed.name] = listed
                self._bring(plural, _named(plural, body))
            version = int(page["metadata"]["resourceVersion"])
            await asyncio.sleep(0)  # a page of ours takes 0.1 s; the Lease must not wait for ten thousand objects
        return Listing(resource_version=version, items=items)

    async def _listings(self, read: Callable[..., Awaitable[Listing]]) -> Listings:
        space = self._namespace
        kinds = {kind: await read(kind_path(kind, space)) for kind in Kind}
        secrets = await read(core_path(SECRETS, space), label_selector=f"{SECRET_LABEL}=true")
        pods = None
        if self._pod_selector is not None:
            pods = await read(core_path(PODS, space), label_selector=self._pod_selector)
        return Listings(kinds=kinds, secrets=secrets, pods=pods)

    def _compare(self, listings: Listings) -> int:
        """Remove ghosts; how many names the feed has still to bring."""
        swept = [self._objects.sweep(kind, listing) for kind, listing in listings.kinds.items()]
        swept.append(self._secrets.sweep(listings.secrets))
        pods_gone = listings.pods is not None and self._pods.sweep(listings.pods)
        ghosts = sum(len(item.ghosts) for item in swept)
        if ghosts:
            self.ghosts += ghosts
            log.warning("removed ghosts", extra={"action": "sweep", "ghosts": ghosts})
        if ghosts or pods_gone:
            self._changed()
        pods_missing = len(self._pods.missing(listings.pods)) if listings.pods is not None else 0
        return pods_missing + sum(len(item.missing) for item in swept)


_KINDS: Final = {kind.plural: kind.value for kind in Kind}


def _named(plural: str, body: dict[str, Any]) -> dict[str, Any]:
    """A list does not repeat of each object which kind it is."""
    kind = _KINDS.get(plural)
    return body if kind is None else {"apiVersion": API_VERSION, "kind": kind, **body}
