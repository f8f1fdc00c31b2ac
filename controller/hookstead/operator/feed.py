"""Kopf as a feed: it lists and watches, we keep. No state, no patch, no return value in a handler.

What is switched off here and why stands in docs/decisions/0002-kopf.md.
"""

from __future__ import annotations

import asyncio
import logging
import random
from typing import TYPE_CHECKING, Any, Final, cast

import aiohttp
import kopf

from hookstead.resources.kinds import GROUP, SECRET_LABEL, VERSION, Kind

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from hookstead.operator.access import Access

QUIET_LOGIN_SECONDS: Final = 60.0
"""After so long a login that was good is over for another reason: a token has expired."""
KEPT_SESSIONS: Final = 8
"""Of former logins; requests of the oldest have long ended."""
FAILED_WATCH_SECONDS: Final = 1.0
SECRETS: Final = "secrets"
PODS: Final = "pods"

BACKOFF_CEILING_SECONDS: Final = 10.0
"""An API server that is back is heard within so long."""
INACTIVITY_SECONDS: Final = 70.0
"""A watch that shows neither an event nor one of the bookmarks, which come each minute, is dead and begun anew."""

log: Final = logging.getLogger(__name__)


class Backoffs:
    """Endless waits between tries: doubling from 0.2 s to 10 s, each ±20 %. A fresh sequence per iteration.

    Kopf ends the process when a finite sequence is used up; an API server may be away for longer than that.
    """

    def __iter__(self) -> Iterator[float]:
        wait = 0.2
        while True:
            yield wait * random.uniform(0.8, 1.2)  # noqa: S311  (jitter, no secret)
            wait = min(wait * 2, BACKOFF_CEILING_SECONDS)


class _NoDiffBase(kopf.DiffBaseStorage):
    """Stores nothing: only change handlers need the last seen form, and there are none."""

    def fetch(self, *, body: kopf.Body) -> None:
        return None

    def store(self, *, body: kopf.Body, patch: kopf.Patch, essence: Any) -> None:
        return None

    def build(self, *, body: kopf.Body, extra_fields: Any = None) -> Any:
        return {}


class _NoProgress(kopf.ProgressStorage):
    """Stores nothing: event handlers are not retried."""

    def fetch(self, *, key: Any, body: kopf.Body) -> None:
        return None

    def store(self, *, key: Any, record: Any, body: kopf.Body, patch: kopf.Patch) -> None:
        return None

    def purge(self, *, key: Any, body: kopf.Body, patch: kopf.Patch) -> None:
        return None

    def touch(self, *, body: kopf.Body, patch: kopf.Patch, value: str | None) -> None:
        return None

    def clear(self, *, essence: Any) -> Any:
        return essence

    def flush(self) -> None:
        return None


def feed_settings(*, pod_selector: str | None = None) -> kopf.OperatorSettings:
    """Kopf's settings for a feed."""
    settings = kopf.OperatorSettings()
    settings.posting.enabled = False
    settings.peering.standalone = True
    settings.persistence.diffbase_storage = _NoDiffBase()
    settings.persistence.progress_storage = _NoProgress()
    settings.queueing.idle_timeout = 0.5
    settings.watching.chunk_size = 500
    settings.watching.inactivity_timeout = INACTIVITY_SECONDS
    settings.watching.label_selectors["", "v1", SECRETS] = f"{SECRET_LABEL}=true"
    if pod_selector is not None:
        settings.watching.label_selectors["", "v1", PODS] = pod_selector
    settings.scanning.disabled = True
    settings.networking.error_backoffs = Backoffs()
    settings.networking.request_timeout = 60.0
    settings.networking.connect_timeout = 10.0
    return settings


class _Session:
    """A session that stays open when Kopf closes it, after a 401: what is under way ends by itself.

    A request or a watch that is caught at the wrong moment would fail in ways that Kopf does not know (aiohttp's
    RuntimeError or AttributeError), and all watching would end for good.
    """

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._session: Final = session

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session, name)

    async def close(self) -> None:
        """Nothing: `Logins` closes it when it is long out of use."""


class Logins:
    """Kopf believes a 401 for good: handed the same credentials again it gives up without ending, and nothing is
    watched any more. But an API server may say 401 in passing. So each login is another one, by a number that means
    nothing, and those that follow each other take their time.

    What is under way is let be, see `_Session`.
    """

    def __init__(self, access: Access) -> None:
        self._access: Final = access
        self._number = 0
        self._at = float("-inf")
        self._waits = iter(Backoffs())
        self._connector: aiohttp.TCPConnector | None = None
        self._sessions: list[aiohttp.ClientSession] = []

    async def next(self) -> kopf.AiohttpSession:
        """A session with the present token, which Kopf closes when it has been refused."""
        now = asyncio.get_running_loop().time()
        if now - self._at > QUIET_LOGIN_SECONDS:
            self._waits = iter(Backoffs())
        else:
            await asyncio.sleep(next(self._waits))
        self._at = asyncio.get_running_loop().time()
        self._number += 1
        kept = cast("aiohttp.ClientSession", _Session(await self._session()))
        return kopf.AiohttpSession(server=self._access.server, aiohttp_session=kept, priority=self._number)

    async def _session(self) -> aiohttp.ClientSession:
        secure = self._access.server.startswith("https:")
        if self._connector is None:
            self._connector = aiohttp.TCPConnector(limit=0, ssl=self._access.tls() if secure else False)
        token = self._access.bearer()
        session = aiohttp.ClientSession(
            connector=self._connector,
            connector_owner=False,
            headers={"authorization": f"Bearer {token}"} if token else {},
            trust_env=False,
        )
        self._sessions.append(session)
        while len(self._sessions) > KEPT_SESSIONS:
            await self._sessions.pop(0).close()
        return session

    async def close(self) -> None:
        for session in self._sessions:
            await session.close()
        if self._connector is not None:
            await self._connector.close()


def feed_registry(
    observe: Callable[[str, str | None, dict[str, Any]], None], logins: Logins, *, pods: bool
) -> kopf.OperatorRegistry:
    """Handlers for the five kinds, the labelled Secrets and (for `pods`) the selected pods.

    `observe` is called with a plural, the event's type (None: initial list; ADDED, MODIFIED, DELETED) and the object.
    """
    registry = kopf.OperatorRegistry()

    @kopf.on.login(registry=registry, id="login")
    async def login(**_: object) -> kopf.AiohttpSession:
        return await logins.next()

    for group, version, plural in _resources(pods=pods):
        _subscribe(registry, group, version, plural, observe)
    return registry


def _resources(*, pods: bool) -> list[tuple[str, str, str]]:
    ours = [(GROUP, VERSION, kind.plural) for kind in Kind]
    core = [("", "v1", SECRETS), *([("", "v1", PODS)] if pods else [])]
    return [*ours, *core]


def _subscribe(
    registry: kopf.OperatorRegistry,
    group: str,
    version: str,
    plural: str,
    observe: Callable[[str, str | None, dict[str, Any]], None],
) -> None:
    @kopf.on.event(group, version, plural, id=f"feed-{plural}", registry=registry)
    async def feed(event: Any, **_: object) -> None:
        # Kopf logs what a handler raises and forgets the event; `observe` counts it and asks for a sweep instead.
        observe(plural, event["type"], event["object"])


async def run_feed(
    observe: Callable[[str, str | None, dict[str, Any]], None],
    access: Access,
    *,
    namespace: str,
    pod_selector: str | None,
    started: asyncio.Event,
    stop: asyncio.Event,
) -> None:
    """Feed until `stop` is set or a signal arrives. Raises what Kopf ends with; then the process should end.

    `started` is set once Kopf is at work, and so has taken the signals.
    """
    logging.getLogger("kopf.objects").setLevel(logging.WARNING)
    logins = Logins(access)
    try:
        await _run(
            feed_registry(observe, logins, pods=pod_selector is not None), namespace, pod_selector, started, stop
        )
    finally:
        await logins.close()


async def _run(
    registry: kopf.OperatorRegistry,
    namespace: str,
    pod_selector: str | None,
    started: asyncio.Event,
    stop: asyncio.Event,
) -> None:
    before = asyncio.all_tasks()
    tasks = await kopf.spawn_tasks(
        registry=registry,
        settings=feed_settings(pod_selector=pod_selector),
        namespaces=[namespace],
        standalone=True,
        ready_flag=started,
        stop_flag=stop,
    )
    watched = asyncio.create_task(_first_failed_watch(), name="watch of the watches")
    done, _ = await asyncio.wait({*tasks, watched}, return_when=asyncio.FIRST_COMPLETED)
    watched.cancel()
    if watched in done:
        raise watched.result()
    for task in done:
        if not task.cancelled() and (error := task.exception()) is not None:
            raise error
    await kopf.run_tasks(tasks, ignored=before)


async def _first_failed_watch() -> BaseException:
    """What a watch of Kopf's has failed with for good: 404 of a deleted definition, an error that Kopf does not know.

    Kopf then stops the others, waits for ever for some that do not end, and nothing is watched any more.
    """
    watches: set[asyncio.Task[object]] = set()
    while True:
        await asyncio.sleep(FAILED_WATCH_SECONDS)
        watches |= {task for task in asyncio.all_tasks() if task.get_name().startswith("watcher for ")}
        for task in watches:
            if task.done() and not task.cancelled() and (error := task.exception()) is not None:
                return error
