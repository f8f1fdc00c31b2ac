"""The sweep: consistent metadata lists against what the feed has told.

Kopf never reports what was deleted while a watch was broken, and reports objects one by one at its start. So the
lists say when everything is there (the barrier before the first pass), what is not there any more (ghosts), and what
the feed has never brought or lost (it is asked for by name: a watch does not repeat itself).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from hookstead.operator.feed import PODS, SECRETS
from hookstead.operator.guard import served_in_full
from hookstead.operator.kube import DISCOVERY_PATH, KubeClient, KubeError, Listing, NotFound, core_path, kind_path
from hookstead.resources.kinds import SECRET_LABEL, Kind

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from hookstead.operator.objects import ObjectStore, SecretStore
    from hookstead.operator.pods import PodStore

PERIOD_SECONDS: Final = 600.0
AFTER_RELIST_SECONDS: Final = 1.0
PATIENCE_SECONDS: Final = 2.0
PATIENCE_PER_THOUSAND_SECONDS: Final = 1.5
"""How long the barrier waits for the feed to bring what a list has, before it lists again."""
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

    async def synchronise(self) -> None:
        """Return once the feed has brought everything that exists, and nothing is held that does not."""
        retry = RETRY_SECONDS
        loop = asyncio.get_running_loop()
        late = False
        while True:
            try:
                listings = await self._list()
                if late:
                    await self._fetch(self._missing(listings))
            except KubeError as error:
                log.warning("cannot list yet", extra={"action": "synchronise", "error": str(error)})
                await asyncio.sleep(retry)
                retry = min(retry * 2, RETRY_CEILING_SECONDS)
                continue
            count = sum(len(listing.items) for listing in listings.kinds.values())
            deadline = loop.time() + PATIENCE_SECONDS + PATIENCE_PER_THOUSAND_SECONDS * count / 1000
            while loop.time() < deadline:
                if not self._is_short(listings) and self._compare(listings) == 0:
                    log.info("synchronised", extra={"action": "synchronise", "objects": self._objects.count()})
                    return
                await asyncio.sleep(0.05)
            late = True  # the feed has had its time: what it still misses it was never told

    async def run(self) -> None:
        """Sweep after every re-list and every PERIOD_SECONDS, for ever."""
        while True:
            try:
                async with asyncio.timeout(PERIOD_SECONDS):
                    await self._asked.wait()
                await asyncio.sleep(AFTER_RELIST_SECONDS)
            except TimeoutError:
                pass
            self._asked.clear()
            try:
                await self._fetch_missing(await self.sweep())
            except KubeError as error:
                log.warning("a sweep failed", extra={"action": "sweep", "error": str(error)})
                await asyncio.sleep(RETRY_SECONDS)
                self._asked.set()

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
        for plural, path in missing[:FETCHED_AT_ONCE]:
            with contextlib.suppress(NotFound):
                self._bring(plural, await self._kube.get(path))

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
        kinds = {kind: await self._kube.list_metadata(kind_path(kind, self._namespace)) for kind in Kind}
        secrets = await self._kube.list_metadata(
            core_path(SECRETS, self._namespace), label_selector=f"{SECRET_LABEL}=true"
        )
        pods = None
        if self._pod_selector is not None:
            pods = await self._kube.list_metadata(core_path(PODS, self._namespace), label_selector=self._pod_selector)
        return Listings(kinds=kinds, secrets=secrets, pods=pods)

    def _is_short(self, listings: Listings) -> bool:
        """Whether something must be missing still, told by numbers alone: comparing ten thousand names costs."""
        return len(self._secrets.labelled) < len(listings.secrets.items) or any(
            len(self._objects.kinds[kind]) < len(listing.items) for kind, listing in listings.kinds.items()
        )

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
