"""`hookstead dev DIR`: the whole product in one process, from a folder of manifests, without a cluster."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Iterable, Iterator
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

from hookstead import __version__
from hookstead.cli.flags import Argument, Command, Flag, UsageError
from hookstead.cli.outcome import OK, CommandError, say
from hookstead.cli.serving import DRAIN, NAMESPACE, RESOLVER, joined, listen
from hookstead.cli.table import aligned, counted
from hookstead.delivery.ports import StoreError

if TYPE_CHECKING:
    import argparse

    from hookstead.cli.dev_environment import DevEnvironment, Outcome
    from hookstead.cli.folder import ManifestFolder
    from hookstead.config.model import DeliveryConfig, EndpointConfig
    from hookstead.gateway.options import GatewayOptions
    from hookstead.gateway.process import GatewayProcess

POLL_SECONDS: Final = 0.25
"""Between two looks at the folder; a change counts after two that agree."""

RETRY_SECONDS: Final = 5.0
"""After a change that could not be put in force."""

COMMAND: Final = Command(
    prog="hookstead dev",
    summary=(
        "Deliver webhooks from a folder of manifests (custom resources and Secrets), in one process, without a\n"
        "cluster. The folder is watched for changes."
    ),
    epilog=(
        "There is no authentication, so it listens on loopback only. SIGTERM and SIGINT drain and exit 0; a second\n"
        "signal does not wait."
    ),
    arguments=(Argument(name="DIR", help="folder of .yaml and .yml files, subfolders included"),),
    flags=(
        listen("listen", "127.0.0.1:8080", "where events and queries are taken, on loopback"),
        listen("admin-listen", "127.0.0.1:9090", "where /healthz, /readyz and /metrics are, on loopback"),
        Flag(
            name="state-dir",
            metavar="DIR",
            parse=Path,
            default=Path(".hookstead"),
            help="folder for events, deliveries, generated signing keys and identities",
        ),
        NAMESPACE,
        DRAIN,
        RESOLVER,
    ),
)


def run(given: argparse.Namespace) -> int:
    """Serve until a signal; 0 after a drain."""
    from hookstead.gateway.logs import configure
    from hookstead.gateway.options import OptionsError
    from hookstead.gateway.process import StartError
    from hookstead.gateway.process import run as run_on_loop

    directory = Path(given.dir)
    if not directory.is_dir():
        raise UsageError(f"hookstead dev: {directory} is no folder: give the folder that holds the manifests")
    configure(level=logging.WARNING)
    os.umask(0o077)  # the store holds payloads, and SQLite makes its files with the process's own mask
    try:
        return run_on_loop(_serve(given, directory))
    except OptionsError as problem:
        raise UsageError(f"hookstead dev: {problem}\nSee 'hookstead dev --help'.") from problem
    except StartError as problem:
        raise CommandError(str(problem)) from problem


async def _serve(given: argparse.Namespace, directory: Path) -> int:
    from hookstead.cli.dev_environment import DevEnvironment
    from hookstead.cli.folder import ManifestFolder
    from hookstead.cli.manifests import read_objects
    from hookstead.cli.state_folder import StateFolder
    from hookstead.gateway.process import GatewayProcess, stopping_signals

    state = StateFolder(given.state_dir)
    state.create()
    process = GatewayProcess(_options(given, store=state.store))
    await process.start()
    with stopping_signals(process):
        try:
            # Only now: the store's lock says that no other process works on this state folder.
            folder = ManifestFolder(directory, namespace=given.namespace, state=state, read_text=read_objects)
            environment = DevEnvironment(namespace=given.namespace, state=state)
            await Session(folder, environment, process, namespace=given.namespace).run()
        finally:
            await process.drain_and_stop()
    if process.failure is not None:
        raise CommandError(process.failure)
    print("stopped", flush=True)
    return OK


def _options(given: argparse.Namespace, *, store: Path) -> GatewayOptions:
    from hookstead.gateway.options import AuthMode, GatewayOptions

    return GatewayOptions(
        store=f"sqlite:{store}",
        listen=given.listen,
        admin_listen=given.admin_listen,
        internal_listen=None,
        auth=AuthMode.NONE,
        namespace=given.namespace,
        drain_seconds=given.drain_seconds,
        resolver=given.resolver,
        allow_loopback=True,
        replays_come_back=True,
    )


class Once:
    """Lines that are told when they come up, not again while they last, and again when they come back."""

    def __init__(self) -> None:
        self._lasting: frozenset[str] = frozenset()

    def tell(self, lines: Iterable[str]) -> None:
        """On stderr."""
        now = tuple(dict.fromkeys(lines))
        for line in now:
            if line not in self._lasting:
                say(line)
        self._lasting = frozenset(now)


class Session:
    """One run: the folder's contents into the gateway, again and again, and the lines that tell of it."""

    def __init__(
        self, folder: ManifestFolder, environment: DevEnvironment, process: GatewayProcess, *, namespace: str
    ) -> None:
        self._folder: Final = folder
        self._environment: Final = environment
        self._process: Final = process
        self._namespace: Final = namespace
        self._troubles: Final = Once()
        self._complaints: Final = Once()
        self._failures: Final = Once()
        self._foreign: Final = Once()

    async def run(self) -> None:
        """Until a stop is asked for. Raises CommandError where the first look at the folder fails."""
        outcome = await self._refresh()
        for line in start_lines(outcome.config, self._folder.path, self._process):
            print(line, flush=True)
        self._complaints.tell(outcome.complaints)
        watcher = asyncio.create_task(self._watch(), name="folder of manifests")
        stopped = asyncio.create_task(self._process.wait(), name="stop")
        try:
            await asyncio.wait((watcher, stopped), return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (watcher, stopped):
                task.cancel()
        for ended in await asyncio.gather(watcher, stopped, return_exceptions=True):
            if isinstance(ended, Exception):
                raise ended
        print(f"stopping: finishing what is in flight (at most {self._process.options.drain_seconds:g} s)", flush=True)

    async def _watch(self) -> None:
        due = False
        while True:
            await asyncio.sleep(POLL_SECONDS if not due else RETRY_SECONDS)
            if not (due or await asyncio.to_thread(self._folder.settled_change)):
                continue
            try:
                before = self._process.running.hash
                outcome = await self._refresh()
            except (CommandError, StoreError) as problem:
                # A full disk, most likely. What is in force stays in force; tell it once and try again.
                self._failures.tell([f"error: the change is not in force: {problem}"])
                due = True
                continue
            due = False
            self._failures.tell([])
            self._tell_changes(outcome, differs=self._process.running.hash != before)

    async def _refresh(self) -> Outcome:
        """Read, judge, compile, apply. Reading and compiling happen off the loop: deliveries go on meanwhile."""
        contents = await asyncio.to_thread(self._folder.contents)
        now_ms = time.time_ns() // 1_000_000
        outcome = await asyncio.to_thread(self._environment.update, contents, now_ms=now_ms)
        await self._process.apply(outcome.config)
        if contents.foreign:
            names = ", ".join(sorted(contents.foreign))
            warning = f"warning: objects of other namespaces are ignored ({names}): this is {self._namespace}."
            self._foreign.tell([f"{warning} Choose another with --namespace."])
        self._troubles.tell(f"error: {trouble}" for trouble in contents.troubles)
        return outcome

    def _tell_changes(self, outcome: Outcome, *, differs: bool) -> None:
        changes = outcome.changes or (("Secrets, labels or annotations changed",) if differs else ())
        stamp = datetime.now().astimezone().strftime("%H:%M:%S")
        for change in changes:
            print(f"{stamp} {change}", flush=True)
        self._complaints.tell(outcome.complaints)


def start_lines(config: DeliveryConfig, folder: Path, process: GatewayProcess) -> Iterator[str]:
    """The summary at the start: what was found, where to send events, who receives what."""
    state = "no WebhookEnvironment" if config.environment is None else config.environment.state.value
    counts = (
        counted(len(config.endpoints), "endpoint"),
        counted(len(config.channels), "channel"),
        counted(len(config.event_types), "event type"),
    )
    yield f"hookstead {__version__}: {folder}, namespace {config.namespace}: {state}, {', '.join(counts)}"
    for name, server, path in (
        ("events", process.public, "/v1/events"),
        ("health", process.admin, "/healthz"),
    ):
        addresses = () if server is None else server.addresses
        yield f"{name}: {', '.join(f'http://{joined([address])}{path}' for address in addresses)}"
    yield f"state: {Path(process.options.store.removeprefix('sqlite:')).parent}"
    if config.endpoints:
        yield ""
        yield from aligned([ENDPOINT_HEADINGS, *(_endpoint_row(endpoint) for endpoint in config.endpoints)])
        yield ""


ENDPOINT_HEADINGS: Final = ("ENDPOINT", "HOST", "TYPES", "CHANNELS", "STATE")


def _endpoint_row(endpoint: EndpointConfig) -> tuple[str, ...]:
    state = endpoint.state.value if endpoint.hold is None else endpoint.hold.value
    types = "all" if endpoint.event_types is None else ",".join(endpoint.event_types)
    channels = "all" if endpoint.channels is None else ",".join(endpoint.channels) or "<none>"
    return (endpoint.identity.name, endpoint.host or "<none>", types, channels, state)
