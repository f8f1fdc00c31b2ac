"""From our first lists to Kopf's watches: watches of our own, or ten seconds of changes would be seen late.

Kopf begins after the first configuration, and takes 0.4 ms or more for each object that it lists. What these watches
miss it brings all the same, or a sweep does.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any, Final

from hookstead.operator.feed import PODS, SECRETS
from hookstead.operator.kube import KubeError, core_path, kind_path
from hookstead.resources.kinds import SECRET_LABEL

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from hookstead.operator.kube import KubeClient
    from hookstead.operator.sweep import Listings

QUIET_SECONDS: Final = 10.0
"""Kopf has listed everything when it has listed nothing for so long."""

log: Final = logging.getLogger(__name__)


class Bridge:
    """Watches from the first lists on, until Kopf is through its own. Kopf tells through `observe` as well."""

    def __init__(
        self,
        kube: KubeClient,
        *,
        namespace: str,
        pod_selector: str | None,
        take_in: Callable[[str, str | None, dict[str, Any]], None],
        monotonic: Callable[[], float],
    ) -> None:
        self._kube: Final = kube
        self._namespace: Final = namespace
        self._pod_selector: Final = pod_selector
        self._take_in: Final = take_in
        self._monotonic: Final = monotonic
        self._deleted: set[str] = set()
        """By uid: Kopf's list may be older, and would bring them back to life until its watch begins."""
        self._listed_at = 0.0

    def observe(self, plural: str, event: str | None, body: dict[str, Any]) -> None:
        """One event of Kopf's."""
        if event is None:
            self._listed_at = self._monotonic()
            if body["metadata"]["uid"] in self._deleted:
                return
        self._take_in(plural, event, body)

    async def run(self, listings: Listings, *, fed: asyncio.Event) -> None:
        """Watch what happens after these lists; return once Kopf, at work when `fed` is set, has listed everything."""
        tasks = [
            asyncio.create_task(self._watch(plural, path, version, selector), name=f"bridge {plural}")
            for plural, path, version, selector in self._collections(listings)
        ]
        try:
            await fed.wait()
            await self._quiet()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        self._deleted.clear()

    async def _quiet(self) -> None:
        """Return once Kopf has listed nothing for QUIET_SECONDS."""
        self._listed_at = self._monotonic()
        left = QUIET_SECONDS
        while left > 0:
            await asyncio.sleep(left)
            left = self._listed_at + QUIET_SECONDS - self._monotonic()

    def _collections(self, listings: Listings) -> Iterator[tuple[str, str, int, str]]:
        """Plural, path, version of the list, label selector."""
        space = self._namespace
        for kind, listing in listings.kinds.items():
            yield kind.plural, kind_path(kind, space), listing.resource_version, ""
        secrets = listings.secrets.resource_version
        yield SECRETS, core_path(SECRETS, space), secrets, f"{SECRET_LABEL}=true"
        if self._pod_selector is not None and listings.pods is not None:
            yield PODS, core_path(PODS, space), listings.pods.resource_version, self._pod_selector

    async def _watch(self, plural: str, path: str, version: int, selector: str) -> None:
        """One collection; where the watch breaks, Kopf is waited for."""
        try:
            async for event, body in self._kube.watch(path, version=version, label_selector=selector):
                if event == "DELETED":
                    self._deleted.add(body["metadata"]["uid"])
                self._take_in(plural, event, body)
        except KubeError as error:
            log.info("changes are seen a little later", extra={"action": "bridge", "error": str(error)})
