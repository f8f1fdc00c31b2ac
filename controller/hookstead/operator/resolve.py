"""Secrets that a compiled environment waits for: generated ones are created, unknown ones are looked up by name.

The watch shows labelled Secrets only. A metadata GET tells a Secret that may not be used from one that is missing;
such answers go stale, so they are asked again for as long as an endpoint waits.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final

from hookstead.config.compile import signing_secret_name
from hookstead.operator.kube import METADATA, KubeClient, KubeError, NotFound, core_path
from hookstead.operator.objects import secret_object
from hookstead.operator.signing_secrets import create_signing_secret

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable

    from hookstead.config.compile import Compiled
    from hookstead.config.model import Identity
    from hookstead.operator.objects import SecretStore

BUDGET_SECONDS: Final = 1.0
"""What one pass spends here at most before it publishes what it has."""
PARALLEL: Final = 8
RETRY_SECONDS: Final = 5.0
"""Before a Secret that could not be created is tried again."""
RECHECK_SECONDS: Final = 2.0
RECHECKED_AT_ONCE: Final = 20

log: Final = logging.getLogger(__name__)


class Resolver:
    """Creates and looks up; what it learns goes into the SecretStore."""

    def __init__(
        self,
        kube: KubeClient,
        *,
        namespace: str,
        secrets: SecretStore,
        may_write: Callable[[], None],
        monotonic: Callable[[], float],
        changed: Callable[[], None],
    ) -> None:
        self._kube: Final = kube
        self._namespace: Final = namespace
        self._secrets: Final = secrets
        self._may_write: Final = may_write
        self._monotonic: Final = monotonic
        self._changed: Final = changed
        self._retry_at: dict[str, float] = {}
        self._referenced: frozenset[str] = frozenset()

    async def resolve(self, compiled: Compiled) -> bool:
        """Within BUDGET_SECONDS, do what the configuration waits for; True when something was learnt.

        What did not fit makes for another pass.
        """
        self._referenced = compiled.secrets_referenced
        self._secrets.forget_unmentioned(self._referenced)
        self._retry_at = {name: at for name, at in self._retry_at.items() if name in self._referenced}
        now = self._monotonic()
        wanted = [
            item for item in compiled.secrets_wanted if self._retry_at.get(signing_secret_name(item.name), now) <= now
        ]
        created = {signing_secret_name(item.name) for item in wanted}
        unknown = [name for name in self._secrets.unknown(self._referenced) if name not in created]
        news: list[bool] = []
        jobs = [*(self._create(item, news) for item in wanted), *(self._look_up(name, news) for name in unknown)]
        try:
            async with asyncio.timeout(BUDGET_SECONDS):
                await _in_parallel(jobs)
        except TimeoutError:
            self._changed()
        return any(news)

    async def run(self) -> None:
        """Look up again what endpoints wait for, a few names at a time, for ever."""
        position = 0
        while True:
            await asyncio.sleep(RECHECK_SECONDS)
            names = self._secrets.unresolved(self._referenced)
            if not names:
                continue
            position %= len(names)
            some = names[position : position + RECHECKED_AT_ONCE]
            position += len(some)
            news: list[bool] = []
            await _in_parallel([self._look_up(name, news) for name in some])
            if any(news) or any(at <= self._monotonic() for at in self._retry_at.values()):
                self._changed()

    def forget(self) -> None:
        """Somebody asked for a reconcile: believe no earlier answer."""
        self._secrets.absent.clear()
        self._secrets.unlabelled.clear()
        self._retry_at.clear()

    async def _create(self, endpoint: Identity, news: list[bool]) -> None:
        name = signing_secret_name(endpoint.name)
        self._may_write()
        try:
            body = await create_signing_secret(self._kube, endpoint, namespace=self._namespace)
        except KubeError:
            self._retry_at[name] = self._monotonic() + RETRY_SECONDS
            return
        self._retry_at.pop(name, None)
        if body is not None:
            self._secrets.observe("ADDED", body)
            news.append(True)
        else:
            await self._look_up(name, news)

    async def _look_up(self, name: str, news: list[bool]) -> None:
        try:
            body = await self._kube.get(core_path("secrets", self._namespace, name), accept=METADATA)
        except NotFound:
            news.append(self._secrets.learn(name, None))
        except KubeError as error:
            log.warning(
                "a Secret could not be looked up",
                extra={"action": "look-up", "secret": name, "error": str(error)},
            )
        else:
            found = secret_object(body)
            # A labelled one is the watch's to bring, with its data.
            news.append(not found.permitted and self._secrets.learn(name, found))


async def _in_parallel(jobs: Iterable[Coroutine[None, None, None]]) -> None:
    """Run all, PARALLEL at a time. What is not begun when this is cancelled is closed."""
    waiting = list(reversed(list(jobs)))

    async def worker() -> None:
        while waiting:
            await waiting.pop()

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(min(PARALLEL, len(waiting))):
                group.create_task(worker())
    finally:
        for job in waiting:
            job.close()
