"""The operator process: what is started in which order, what ends it, and how it goes.

Kopf owns its event loop: it cancels what began after it and takes the signals. So the helpers start before it, the
signals are taken back, and the end of either is the end of the process; a restart is normal and cheap.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import socket
import time
import uuid
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from hookstead.operator.access import AccessError, load_access
from hookstead.operator.admin import admin_port
from hookstead.operator.bridge import Bridge
from hookstead.operator.ending import see_to_the_end, take_signals, verdict
from hookstead.operator.events import Recorder
from hookstead.operator.feed import run_feed
from hookstead.operator.gateways import Credentials, Gateways, Listeners
from hookstead.operator.intake import Intake
from hookstead.operator.internal_secret import InternalSecret
from hookstead.operator.kube import Conflict, KubeClient, KubeError
from hookstead.operator.lease import Elector, since_boot
from hookstead.operator.objects import ObjectStore, SecretStore
from hookstead.operator.pods import PodStore
from hookstead.operator.publish import Published, Publisher, claim_term, read_published
from hookstead.operator.reconcile import Reconciler
from hookstead.operator.reporter import Reporter
from hookstead.operator.reports import ReportBook
from hookstead.operator.resolve import Resolver
from hookstead.operator.schedule import Scheduler
from hookstead.operator.statuses import Statuses
from hookstead.operator.sweep import Sweeper
from hookstead.resources.conditions import timestamp

if TYPE_CHECKING:
    from collections.abc import Coroutine, Mapping

    from hookstead.config.report import Report
    from hookstead.operator.access import Access
    from hookstead.operator.options import OperatorOptions

HEAD_START_SECONDS: Final = 5.0
HEAD_START_OBJECTS: Final = 1000.0
"""A second of head start for so many objects."""
CONFLICT_SECONDS: Final = 0.2
RETRY_SECONDS: Final = 1.0
RETRY_CEILING_SECONDS: Final = 30.0

log: Final = logging.getLogger(__name__)


async def run(options: OperatorOptions) -> int:
    """Run until SIGTERM or SIGINT; the exit code: 0 after a clean stop, 1 when something ended it."""
    stop = asyncio.Event()
    take_signals(stop)
    try:
        access = load_access(options.kubeconfig)
    except AccessError as error:
        log.error("no way to the API server: %s", error, extra={"action": "access"})
        return 1
    async with KubeClient(access) as kube:
        operator = Operator(options, access=access, kube=kube)
        try:
            async with admin_port(options.admin_listen, ready=lambda: operator.ready, numbers=operator.numbers) as port:
                if port:
                    log.info("admin port", extra={"action": "listen", "port": port})
                return await operator.live(stop)
        except OSError as error:
            log.error("cannot listen: %s", error, extra={"action": "listen"})
            return 1


class Operator:
    """The parts, wired; one per process."""

    def __init__(self, options: OperatorOptions, *, access: Access, kube: KubeClient) -> None:
        self._options: Final = options
        self._access: Final = access
        self._kube: Final = kube
        identity = f"{socket.gethostname()}_{uuid.uuid4().hex[:12]}"
        namespace = options.namespace
        self._elector: Final = (
            Elector(kube, namespace=namespace, identity=identity, monotonic=since_boot)
            if options.leader_elect
            else None
        )
        self._objects: Final = ObjectStore(namespace)
        self._secrets: Final = SecretStore()
        self._pods: Final = PodStore()
        self._reports: Final = ReportBook()
        self._credentials = Credentials()
        self._internal_secret: Final = InternalSecret(
            kube, namespace=namespace, name=options.internal_secret, monotonic=time.monotonic
        )
        self._refresh: Final = asyncio.Event()
        self._synchronised: Final = asyncio.Event()
        self._live: Final = asyncio.Event()
        """Set when every gateway runs what was compiled, for the first time."""
        self._feeding: Final = asyncio.Event()
        self._fed: Final = asyncio.Event()
        self._draining = False
        self._standby = options.leader_elect
        self._gateways: Final = Gateways(
            credentials=lambda: self._credentials,
            listeners=Listeners(
                changed=self._gateways_changed,
                reported=self._reported,
                superseded=lambda epoch: self._reconciler.superseded(epoch),  # noqa: PLW0108  (bound below)
                refused=self._refresh.set,
            ),
            monotonic=time.monotonic,
            may_write=self._may_write,
        )
        self._publisher: Final = Publisher(
            kube,
            namespace=namespace,
            may_write=self._may_write,
            changed=lambda: self._reporter.gateways_changed(),  # noqa: PLW0108  (bound below)
        )
        self._sweeper: Final = Sweeper(
            kube,
            namespace=namespace,
            objects=self._objects,
            secrets=self._secrets,
            pods=self._pods,
            pod_selector=options.gateway_selector,
            changed=lambda: self._intake.swept(),  # noqa: PLW0108  (bound below)
            bring=lambda plural, body: self._intake.bring(plural, body),  # noqa: PLW0108  (bound below)
        )
        self._resolver: Final = Resolver(
            kube,
            namespace=namespace,
            secrets=self._secrets,
            may_write=self._may_write,
            monotonic=time.monotonic,
            changed=lambda: self._reconciler.mark(),  # noqa: PLW0108  (bound below)
        )
        self._reconciler: Final = Reconciler(
            namespace=namespace,
            allow_loopback=options.allow_loopback,
            objects=self._objects,
            secrets=self._secrets,
            resolver=self._resolver,
            gateways=self._gateways,
            publisher=self._publisher,
            sweeper=self._sweeper,
            may_write=self._may_write,
            monotonic=time.monotonic,
            now_ms=lambda: time.time_ns() // 1_000_000,
        )
        self._recorder: Final = Recorder(
            kube,
            namespace=namespace,
            instance=identity,
            monotonic=time.monotonic,
            timestamp=lambda: timestamp(_now()),
        )
        self._reporter: Final = Reporter(
            kube,
            namespace=namespace,
            objects=self._objects,
            statuses=Statuses(self._objects, self._reports),
            scheduler=Scheduler(jitter=random.random),
            recorder=self._recorder,
            fleet=self._reconciler.fleet,
            may_write=self._may_write,
            monotonic=time.monotonic,
            now=_now,
        )
        self._reconciler.report_to(self._reporter)
        self._intake: Final = Intake(
            objects=self._objects,
            secrets=self._secrets,
            pods=self._pods,
            reports=self._reports,
            reconciler=self._reconciler,
            reporter=self._reporter,
            resolver=self._resolver,
            sweeper=self._sweeper,
            synchronised=self._synchronised,
            pods_changed=self._set_live,
        )
        self._bridge: Final = Bridge(
            kube,
            namespace=namespace,
            pod_selector=options.gateway_selector,
            take_in=self._intake.observe,
            monotonic=time.monotonic,
        )

    # For the admin port.

    @property
    def ready(self) -> bool:
        """A standby is ready to take over; a leader once its first pass is through."""
        return not self._draining and (self._standby or self._reconciler.passes > 0)

    def numbers(self) -> Mapping[str, float]:
        """The metrics, by name."""
        fleet = self._reconciler.fleet()
        return {
            "hookstead_operator_passes_total": self._reconciler.passes,
            "hookstead_operator_status_writes_total": self._reporter.writes,
            "hookstead_operator_status_write_failures_total": self._reporter.failures,
            "hookstead_operator_ghosts_total": self._sweeper.ghosts,
            "hookstead_operator_objects": self._objects.count(),
            "hookstead_operator_gateways": len(fleet.members),
            "hookstead_operator_gateways_programmed": fleet.programmed,
            "hookstead_operator_config_shards": self._reconciler.shards,
            "hookstead_operator_config_unstored": float(bool(fleet.unstored)),
            "hookstead_operator_leader": float(self._elector is None or self._elector.leads),
        }

    # Life.

    async def live(self, stop: asyncio.Event) -> int:
        """From the Lease to the last write; the exit code."""
        stopped = asyncio.create_task(stop.wait(), name="stop")
        tasks: list[asyncio.Task[Any]] = []
        feed_stop = asyncio.Event()
        try:
            starting = asyncio.create_task(self._prepare(), name="prepare")
            tasks.append(starting)
            await asyncio.wait({starting, stopped}, return_when=asyncio.FIRST_COMPLETED)
            if stopped.done():
                return 0
            starting.result()
            tasks += [asyncio.create_task(job, name=name) for name, job in self._helpers(stop).items()]
            tasks.remove(starting)
            tasks.append(asyncio.create_task(self._feed(feed_stop), name="feed"))
            done, _ = await asyncio.wait({stopped, *tasks}, return_when=asyncio.FIRST_COMPLETED)
            code = 0 if stopped in done else verdict(done)
            if code:
                see_to_the_end(code, seconds=self._options.drain_seconds)
            return code
        finally:
            self._draining = True
            stopped.cancel()
            feed_stop.set()
            await self._wind_down(tasks)

    async def _prepare(self) -> None:
        """What must be true before anything is watched or written."""
        if self._elector is not None:
            await self._elector.acquire()
            self._standby = False
        await self._sweeper.wait_until_served()
        self._credentials = await _persistently("internal Secret", self._ensure_credentials)
        published, term = await _persistently("term", self._claim)
        self._reconciler.start_from(published, term=term)
        log.info("starting", extra={"action": "start", "term": term, "stored": published.digest})

    async def _feed(self, stop: asyncio.Event) -> None:
        """Watch, after a head start of the first configuration: Kopf takes 0.4 ms for each object that it lists."""
        await self._synchronised.wait()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(min(HEAD_START_SECONDS, self._objects.count() / HEAD_START_OBJECTS)):
                await self._live.wait()
        self._feeding.set()
        await run_feed(
            self._bridge.observe,
            self._access,
            namespace=self._options.namespace,
            pod_selector=self._options.gateway_selector,
            started=self._fed,
            stop=stop,
        )

    async def _ensure_credentials(self) -> Credentials:
        return await self._internal_secret.look(now=_now())

    async def _claim(self) -> tuple[Published, int]:
        published = await read_published(self._kube, namespace=self._options.namespace)
        transitions = self._elector.transitions if self._elector is not None else 0
        term = await claim_term(
            self._kube, namespace=self._options.namespace, published=published, at_least=transitions
        )
        return published, term

    def _helpers(self, stop: asyncio.Event) -> dict[str, Coroutine[Any, Any, Any]]:
        """Everything that runs beside the feed, by name. None of them ends by itself."""
        jobs: dict[str, Coroutine[Any, Any, Any]] = {
            "reconcile": self._reconcile_when_synchronised(),
            "publisher": self._publisher.run(),
            "publication": self._publisher.verify(),
            "resolver": self._resolver.run(),
            "assess": self._reporter.assess(),
            "status writer": self._reporter.write(),
            "recorder": self._recorder.run(),
            "credentials": self._internal_secret.follow(
                self._refresh, now=_now, may_look=self._may_write, found=self._use_credentials
            ),
            "signals": self._take_signals_back(stop),
        }
        if self._elector is not None:
            jobs["lease"] = self._elector.hold()
        return jobs

    async def _reconcile_when_synchronised(self) -> None:
        listings = await self._sweeper.synchronise()
        self._synchronised.set()
        self._set_live()
        self._reconciler.mark()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._reconciler.run(), name="passes")
            group.create_task(self._sweeper.run(), name="sweeps")
            group.create_task(self._bridge.run(listings, fed=self._fed), name="bridge")

    def _use_credentials(self, credentials: Credentials) -> None:
        self._credentials = credentials
        if self._synchronised.is_set():
            self._set_live()

    async def _take_signals_back(self, stop: asyncio.Event) -> None:
        """Kopf installs its own handlers when it starts; ours stop the helpers first, then Kopf."""
        await self._fed.wait()
        take_signals(stop)
        await asyncio.Event().wait()

    async def _wind_down(self, tasks: list[asyncio.Task[Any]]) -> None:
        """Stop everything, the feed last, and give the Lease back."""
        feed = [task for task in tasks if task.get_name() == "feed" and self._feeding.is_set()]
        helpers = [task for task in tasks if task not in feed]
        for task in helpers:
            task.cancel()
        await asyncio.gather(*helpers, return_exceptions=True)
        await self._gateways.close()
        if self._elector is not None:
            await self._elector.release()
        if feed:
            _, hanging = await asyncio.wait(feed, timeout=self._options.drain_seconds)
            for task in hanging:
                task.cancel()
        log.info("stopped", extra={"action": "stop"})

    def _may_write(self) -> None:
        """Raises LeaseLost once this process does not lead any more."""
        if self._elector is not None:
            self._elector.check()

    # The gateways.

    def _set_live(self) -> None:
        if self._options.gateway_selector is None:
            self._gateways.set_live(address.rstrip("/") for address in self._options.gateways)
            return
        scheme = "https" if self._credentials.tls is not None else "http"
        self._gateways.set_live(f"{scheme}://{address}" for address in self._pods.addresses())

    def _gateways_changed(self) -> None:
        members = self._gateways.members()
        self._reports.retain(member.address for member in members)
        if self._reconciler.passes and members and self._reconciler.fleet().programmed == len(members):
            self._live.set()
        self._reporter.gateways_changed()

    def _reported(self, address: str, report: Report) -> None:
        self._reporter.heard(self._reports.take(address, report))


async def _persistently(what: str, attempt: Any) -> Any:
    """Until it works: the API server may be away, or somebody was faster."""
    retry = RETRY_SECONDS
    while True:
        try:
            return await attempt()
        except Conflict:
            await asyncio.sleep(CONFLICT_SECONDS)
        except KubeError as error:
            log.warning("cannot prepare yet", extra={"action": "prepare", "what": what, "error": str(error)})
            await asyncio.sleep(retry)
            retry = min(retry * 2, RETRY_CEILING_SECONDS)


def _now() -> datetime:
    return datetime.now(UTC)
