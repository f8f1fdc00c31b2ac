"""`hookstead store`: what a person does with a store while its gateway is stopped."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

from hookstead.cli.flags import Argument, Command, Flag, UsageError
from hookstead.cli.outcome import FINDINGS, OK, CommandError, say
from hookstead.cli.table import aligned
from hookstead.delivery.ports import EndpointCounts, EndpointKey, StoreError
from hookstead.gateway.system import SystemClock
from hookstead.store.opening import open_store

if TYPE_CHECKING:
    import argparse

_SQLITE: Final = "sqlite:"
_ACTIONS: Final = ("check", "migrate")

COMMAND: Final = Command(
    prog="hookstead store",
    summary=(
        "Look after a store while its gateway is stopped.\n\n"
        "  check    the database's integrity, and for each endpoint that accepted = delivered + dead-lettered +\n"
        "           pending + cancelled, recounted from the rows; exit 1 where something is wrong\n"
        "  migrate  bring the schema to this version's, as a gateway does when it starts"
    ),
    epilog="A store that a gateway has open is refused: stop the gateway first.",
    arguments=(Argument(name="ACTION", help="check or migrate"),),
    flags=(
        Flag(
            name="store",
            metavar="URL",
            required=True,
            help="the store, as the gateway's --store names it, such as sqlite:/var/lib/hookstead/store.db",
        ),
    ),
)


def run(given: argparse.Namespace) -> int:
    """Do it; 1 where the store is not as it must be."""
    if given.action not in _ACTIONS:
        raise UsageError(
            f"hookstead store: unknown action {given.action!r}: one of {', '.join(_ACTIONS)}\n"
            "See 'hookstead store --help'."
        )
    _require_existing(given.store)
    try:
        return asyncio.run(_check(given.store) if given.action == "check" else _migrate(given.store))
    except StoreError as problem:
        raise CommandError(str(problem)) from problem


def _require_existing(url: str) -> None:
    """A slip in the path must not make a new and empty store that is then found to be in order."""
    path = Path(url.removeprefix(_SQLITE).removeprefix("//"))
    if url.startswith(_SQLITE) and not path.is_file():
        raise CommandError(f"--store {url}: no such file")


async def _check(url: str) -> int:
    store = open_store(url, min_free_bytes=0, clock=SystemClock())
    try:
        wrong = await store.check()
        counts = await store.counts()
    finally:
        await store.close()
    print("\n".join(aligned([_HEAD, *_rows(counts)])))
    for sentence in wrong:
        say(sentence)
    if wrong:
        return FINDINGS
    print(f"\n{url}: the database is whole, and every delivery is accounted for")
    return OK


_HEAD: Final = ("ENDPOINT", "ACCEPTED", "PENDING", "DELIVERED", "DEAD-LETTERED", "CANCELLED")


def _rows(counts: Mapping[EndpointKey, EndpointCounts]) -> list[tuple[str, ...]]:
    return [(key.name, *map(str, (sum(count), *count))) for key, count in sorted(counts.items())]


async def _migrate(url: str) -> int:
    store = open_store(url, min_free_bytes=0, clock=SystemClock())
    await store.close()
    print(f"{url}: its schema is this version's")
    return OK
