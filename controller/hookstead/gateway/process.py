"""One gateway process: store, transport, engine, three listeners; how it starts, and how it stops without loss."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
from collections.abc import Coroutine, Iterator
from typing import Any, Final, TypeVar

import uvloop

from hookstead import __version__
from hookstead.config.model import DeliveryConfig, Epoch
from hookstead.config.report import Running
from hookstead.delivery.engine import Engine, EngineSettings
from hookstead.delivery.ports import Clock, Random, Store, StoreError
from hookstead.egress.resolver import CaresResolver
from hookstead.egress.transport import HttpTransport
from hookstead.gateway.admin import Admin, EngineCollector, admin_router, registry
from hookstead.gateway.app import IngestSettings, build_public_router
from hookstead.gateway.configuration import Configuration
from hookstead.gateway.internal import Internal, TokenAuthorizer, internal_router
from hookstead.gateway.internal_secret import InternalSecret
from hookstead.gateway.objects import unconfigured
from hookstead.gateway.options import GatewayOptions, make_authorizer, settle
from hookstead.gateway.problems import Problem, ProblemKind, problem
from hookstead.gateway.server import Address, HttpServer
from hookstead.gateway.stream import ActivityStream
from hookstead.gateway.system import SystemClock, SystemRandom, raise_file_limit, settle_memory
from hookstead.store.address import is_postgres
from hookstead.store.opening import open_database, open_store

log = logging.getLogger(__name__)

Result = TypeVar("Result")

READY_SECONDS: Final = 2.0
"""How long the store may take to answer a readiness probe."""
STORE_LOOK_SECONDS: Final = 0.5
"""How soon a store that was given up ends the process."""
DRAINING: Final = problem(
    ProblemKind.DRAINING, "The gateway is shutting down: send the event again, another process will take it."
)


class StartError(Exception):
    """The process cannot start; the message says which part and what to do."""


class GatewayProcess:
    """Start, apply configurations or let the operator push them, wait for a stop, drain."""

    def __init__(self, options: GatewayOptions, *, clock: Clock | None = None, random: Random | None = None) -> None:
        """Raises OptionsError."""
        self.options: Final = settle(options)
        self._clock: Final = clock or SystemClock()
        self._authorizer: Final = make_authorizer(self.options, self._clock)
        self._random: Final = random or SystemRandom()
        self.stream: Final = ActivityStream()
        self._secret: Final = InternalSecret(self.options.internal_dir, token=self.options.internal_token)
        self._stop: Final = asyncio.Event()
        self._hurry: Final = asyncio.Event()
        self._draining = False
        self._servers: list[HttpServer] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._resolver: CaresResolver | None = None
        self._transport: HttpTransport | None = None
        self._store: Store | None = None
        self._engine: Engine | None = None
        self._configuration: Configuration | None = None
        self.public: HttpServer | None = None
        self.admin: HttpServer | None = None
        self.internal: HttpServer | None = None

    # ------------------------------------------------------------------------------------------ start

    async def start(self) -> None:
        """Everything up and listening; deliveries begin with the first configuration.

        Raises StartError; nothing is left running then.
        """
        try:
            await self._start()
        except (StoreError, OSError) as error:
            await self._release()
            raise StartError(str(error)) from error
        except BaseException:
            await self._release()
            raise

    async def _start(self) -> None:
        options = self.options
        raise_file_limit()
        self._store = await self._open_store()
        self.stream.share(self._store.relay)
        self._resolver = CaresResolver(servers=options.resolver)
        self._transport = HttpTransport(
            resolver=self._resolver, allow_loopback=options.allow_loopback, own_listeners=self._own_listeners
        )
        engine = Engine(
            store=self._store,
            transport=self._transport,
            clock=self._clock,
            random=self._random,
            settings=EngineSettings(
                user_agent=f"Hookstead/{__version__}", forget_replays=not options.replays_come_back
            ),
            observer=self.stream,
        )
        await engine.start()
        self._engine = engine
        self._tasks.append(asyncio.create_task(self._watch_store(self._store), name="store watch"))
        instance = self._random.event_id().removeprefix("msg_")
        self._configuration = Configuration(engine=engine, blobs=self._store, instance=instance, version=__version__)
        # Addresses first: what is configured must never be dialled before we know our own. Answers last: who comes
        # early waits, rather than hearing that nothing is configured.
        await self._bind(engine, self._store, self._configuration)
        if options.internal_listen is not None:
            await self._configuration.boot(options.config_dir)
        for name, server in (("public", self.public), ("internal", self.internal)):
            if server is not None:
                await self._serve(name, server)
        settle_memory()

    async def _open_store(self) -> Store:
        options = self.options
        if not is_postgres(options.store):
            return open_store(options.store, min_free_bytes=options.min_free_bytes, clock=self._clock)
        if options.min_free_bytes is not None:
            log.warning(
                "--min-free-bytes does not apply to a PostgreSQL store: watch the disk of the database's server",
                extra={"action": "no_disk_watermark"},
            )
        return await open_database(options.store, clock=self._clock, patience_seconds=options.store_patience_seconds)

    async def _bind(self, engine: Engine, store: Store, configuration: Configuration) -> None:
        options = self.options
        admin = Admin(
            unready=self.unready,
            metrics=registry(EngineCollector(engine.metrics, streams=lambda: self.stream.readers)),
        )
        self.admin = HttpServer(admin_router(admin), local_only=options.local_only)
        router = build_public_router(
            engine=engine,
            store=store,
            clock=self._clock,
            stream=self.stream,
            ingest=IngestSettings(
                event_bytes=options.max_event_bytes,
                batch_bytes=options.max_batch_bytes,
                events_per_second=options.ingest_per_second,
            ),
            closed=self._closed,
        )
        self.public = HttpServer(router, authorizer=self._authorizer, local_only=options.local_only)
        await self._open("admin", self.admin, options.admin_listen)
        await self._serve("admin", self.admin)
        await self._open("public", self.public, options.listen)
        if options.internal_listen is not None:
            await self._bind_internally(options.internal_listen, Internal(configuration, engine))

    async def _bind_internally(self, address: Address, internal: Internal) -> None:
        if not self._secret.token:
            log.warning(
                "no token in --internal-dir or HOOKSTEAD_INTERNAL_TOKEN: the internal port stays closed",
                extra={"action": "internal_port_closed"},
            )
            return
        self.internal = HttpServer(internal_router(internal), authorizer=TokenAuthorizer(lambda: self._secret.token))
        await self._open("internal", self.internal, address)
        if self.options.internal_dir is not None:
            self._tasks.append(asyncio.create_task(self._secret.watch(), name="internal secret"))

    async def _open(self, name: str, server: HttpServer, address: Address) -> None:
        tls = self._secret.tls if server is self.internal else None
        self._servers.append(server)
        try:
            await server.bind(address, tls=tls, shared=server is self.public and self.options.share_port)
        except OSError as error:
            # asyncio repeats the address in `strerror`.
            reason = os.strerror(error.errno).lower() if error.errno else str(error)
            flag = "--listen" if name == "public" else f"--{name}-listen"
            raise StartError(
                f"the {name} port cannot listen on {address[0] or '*'}:{address[1]}: {reason}. Give another {flag}, or "
                "stop what listens there."
            ) from error

    async def _serve(self, name: str, server: HttpServer) -> None:
        """Take connections, and say so: only now does one that is made on the strength of the line succeed."""
        await server.serve()
        shown = ", ".join(f"{host}:{port}" for host, port in server.addresses)
        log.info("the %s port listens on %s", name, shown, extra={"action": "listening"})

    def _closed(self) -> Problem | None:
        if self._draining:
            return DRAINING
        return None if self.engine.config is not None else unconfigured().problem

    def _own_listeners(self) -> list[Address]:
        return [address for server in self._servers for address in server.addresses]

    # ------------------------------------------------------------------------------------------ run

    @property
    def engine(self) -> Engine:
        assert self._engine is not None, "start() comes first"
        return self._engine

    @property
    def running(self) -> Running:
        assert self._configuration is not None, "start() comes first"
        return self._configuration.running

    async def apply(self, config: DeliveryConfig, *, epoch: Epoch | None = None) -> Running:
        """Put a configuration in force that this process compiled itself (`dev`). None: one newer than the last."""
        assert self._configuration is not None, "start() comes first"
        last = self._configuration.running.epoch
        return await self._configuration.apply(config, epoch=epoch or Epoch(term=last.term, sequence=last.sequence + 1))

    async def unready(self) -> str | None:
        """Why this process takes no events, None when it does."""
        if self._draining:
            return "The gateway is shutting down."
        if self._engine is None or self._store is None or self._engine.config is None:
            return "There is no configuration yet: the operator brings it."
        try:
            async with asyncio.timeout(READY_SECONDS):
                await self._store.get_blob("readiness")
        except TimeoutError:
            return f"The store has not answered within {READY_SECONDS:g} s."
        except StoreError as error:
            return f"The store does not answer: {error}"
        return None

    @property
    def failure(self) -> str | None:
        """Why this process ends although nobody asked it to; None where it does not."""
        return self._store.failure if self._store is not None else None

    async def _watch_store(self, store: Store) -> None:
        """After a failed write or fsync only a new process knows what the disk has: end, and let it look."""
        while store.failure is None:  # noqa: ASYNC110  (it fails on a thread that knows no loop)
            await asyncio.sleep(STORE_LOOK_SECONDS)
        log.error("ending, because the store failed: %s", store.failure, extra={"action": "store_failed"})
        self.request_stop()

    def leave(self) -> None:
        """A stop will follow: take events as before, and let clients connect anew, which leads them to other processes.

        Once nobody is connected, the refusals of a stop reach nobody.
        """
        log.info("letting clients go", extra={"action": "leaving"})
        if self.public is not None:
            self.public.let_clients_go()

    def request_stop(self) -> None:
        """Refuse new events from now on; `wait` returns. Asked twice, the drain waits for nothing."""
        if self._stop.is_set():
            self._hurry.set()
        self._draining = True
        if self.public is not None:
            self.public.close_after_answers()
        self._stop.set()

    async def wait(self) -> None:
        """Until a stop is asked for."""
        await self._stop.wait()

    # ------------------------------------------------------------------------------------------ stop

    async def drain_and_stop(self) -> None:
        """Finish what is in flight within `drain_seconds`, then close everything. What is left stays in the store.

        With a store that failed there is nothing to wait for: no attempt could be recorded.
        """
        self._draining = True
        if self.public is not None:
            self.public.close_after_answers()
        self._stop.set()
        log.info("draining", extra={"action": "draining", "seconds": self.options.drain_seconds})
        if self._engine is not None and self.failure is None:
            drain = asyncio.create_task(self._engine.drain(deadline_seconds=self.options.drain_seconds))
            hurry = asyncio.create_task(self._hurry.wait())
            await asyncio.wait((drain, hurry), return_when=asyncio.FIRST_COMPLETED)
            hurry.cancel()
            if not drain.done():
                drain.cancel()
            for outcome in await asyncio.gather(drain, hurry, return_exceptions=True):
                if isinstance(outcome, Exception):
                    log.error("the drain failed", exc_info=outcome, extra={"action": "drain_failed"})
        await self._release()
        log.info("stopped", extra={"action": "stopped"})

    async def _release(self) -> None:
        self.stream.close()
        if self._engine is not None:
            self._engine.end_waits()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.gather(*(server.stop() for server in self._servers))
        await self._authorizer.close()
        if self._engine is not None:
            await self._engine.stop()
        if self._transport is not None:
            await self._transport.close()
        if self._resolver is not None:
            await self._resolver.close()
        if self._store is not None:
            await self._store.close()


async def serve(options: GatewayOptions, *, lifeline: int | None = None) -> int:
    """The whole life of `hookstead gateway`; the exit code: 1 where its store failed.

    `lifeline`: a file descriptor that becomes readable when the process that began this one is gone: this one stops.
    Raises OptionsError, StartError.
    """
    process = GatewayProcess(options)
    with stopping_signals(process), _tied(process, lifeline):
        if not await _started(process):
            return 0
        await process.wait()
        await process.drain_and_stop()
    return 0 if process.failure is None else 1


@contextlib.contextmanager
def _tied(process: GatewayProcess, lifeline: int | None) -> Iterator[None]:
    if lifeline is None:
        yield
        return
    loop = asyncio.get_running_loop()

    def cut() -> None:
        loop.remove_reader(lifeline)  # it stays readable, and to be asked twice is to hurry
        process.request_stop()

    loop.add_reader(lifeline, cut)
    try:
        yield
    finally:
        loop.remove_reader(lifeline)


async def _started(process: GatewayProcess) -> bool:
    """Start; False where a stop is asked for while it still waits for its store. Raises StartError."""
    start = asyncio.create_task(process.start(), name="start")
    stopped = asyncio.create_task(process.wait(), name="stop")
    await asyncio.wait((start, stopped), return_when=asyncio.FIRST_COMPLETED)
    stopped.cancel()
    if not start.done():
        start.cancel()
    await asyncio.wait((start, stopped))
    if start.cancelled():
        log.info("stopped before it was started", extra={"action": "stopped"})
        return False
    start.result()
    return True


@contextlib.contextmanager
def stopping_signals(process: GatewayProcess) -> Iterator[None]:
    """SIGTERM and SIGINT ask the process to stop; a second one makes it hurry. SIGUSR1 says that a stop will follow."""
    loop = asyncio.get_running_loop()
    asked = {
        signal.SIGTERM: process.request_stop,
        signal.SIGINT: process.request_stop,
        signal.SIGUSR1: process.leave,
    }
    for number, answer in asked.items():
        loop.add_signal_handler(number, answer)
    try:
        yield
    finally:
        for number in asked:
            loop.remove_signal_handler(number)


def run(main: Coroutine[Any, Any, Result]) -> Result:
    """Run a program's coroutine on the loop that the gateway is measured on."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(main)
