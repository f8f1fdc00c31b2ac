"""`hookstead store`: what a person does with a store beside its gateway, or while that is stopped."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final

from hookstead.cli.flags import Argument, Command, Flag, UsageError
from hookstead.cli.outcome import FINDINGS, OK, CommandError, say
from hookstead.cli.serving import no_password
from hookstead.cli.table import aligned
from hookstead.delivery.ports import EndpointCounts, EndpointKey, StoreError
from hookstead.store.address import is_postgres, shown, sqlite_file

if TYPE_CHECKING:
    import argparse

_ACTIONS: Final = ("check", "migrate", "copy")

COMMAND: Final = Command(
    prog="hookstead store",
    summary=(
        "Look after a store.\n\n"
        "  check    the database's integrity, and for each endpoint that accepted = delivered + dead-lettered +\n"
        "           pending + cancelled, recounted from the rows; exit 1 where something is wrong\n"
        "  migrate  bring the schema to this version's, as a gateway does when it starts\n"
        "  copy     move a stopped environment's store, all of it, from the SQLite file FROM into the empty\n"
        "           PostgreSQL database TO (default: --store); the file is only read, and the database gets\n"
        "           everything or nothing"
    ),
    epilog=(
        "An SQLite store that a gateway has open is refused: stop the gateway first. A PostgreSQL store is looked at,\n"
        "and migrated, beside its gateways. Its password comes from the variable HOOKSTEAD_STORE, or from PGPASSWORD\n"
        "or PGPASSFILE, never from the command line."
    ),
    arguments=(
        Argument(name="ACTION", help="check, migrate or copy"),
        Argument(name="FROM", nargs="?", help="for copy: such as sqlite:/var/lib/hookstead/store.db"),
        Argument(name="TO", nargs="?", help="for copy: such as postgresql://hookstead@db.example:5432/hookstead"),
    ),
    flags=(
        Flag(
            name="store",
            metavar="URL",
            on_command_line=no_password,
            help="the store, as the gateway's --store names it, such as sqlite:/var/lib/hookstead/store.db or "
            "postgresql://hookstead@db.example:5432/hookstead",
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
    try:
        if given.action == "copy":
            return asyncio.run(_copy(*_ends(given)))
        url = _one_store(given)
        if not is_postgres(url):
            _require_existing(url)
        return asyncio.run(_check(url) if given.action == "check" else _migrate(url))
    except StoreError as problem:
        raise CommandError(str(problem)) from problem


def _one_store(given: argparse.Namespace) -> str:
    """Raises UsageError."""
    if getattr(given, "from") is not None:
        raise _usage(f"{given.action} takes no argument: name the store with --store")
    if given.store is None:
        raise _usage("--store is required (or HOOKSTEAD_STORE)")
    return str(given.store)


def _ends(given: argparse.Namespace) -> tuple[str, str]:
    """From where and to where. Raises UsageError."""
    source, to = getattr(given, "from"), given.to
    if source is None:
        raise _usage("copy needs FROM, such as sqlite:/var/lib/hookstead/store.db")
    if to is not None:
        try:
            no_password(to)
        except ValueError as problem:
            raise _usage(f"TO: {problem}") from problem
    to = to or given.store
    if to is None:
        raise _usage("copy needs TO (or HOOKSTEAD_STORE), such as postgresql://hookstead@db.example:5432/hookstead")
    if is_postgres(source) or not is_postgres(to):
        raise _usage("copy goes from an SQLite file (sqlite:PATH) to a PostgreSQL database (postgresql://…)")
    return source, to


def _usage(problem: str) -> UsageError:
    return UsageError(f"hookstead store: {problem}\nSee 'hookstead store --help'.")


def _require_existing(url: str) -> None:
    """A slip in the path must not make a new and empty store that is then found to be in order."""
    if not sqlite_file(url).is_file():
        raise CommandError(f"--store {url}: no such file")


async def _check(url: str) -> int:
    wrong, counts = await (_audit_database(url) if is_postgres(url) else _audit_file(url))
    print("\n".join(aligned([_HEAD, *_rows(counts)])))
    for sentence in wrong:
        say(sentence)
    if wrong:
        return FINDINGS
    print(f"\n{shown(url)}: the database is whole, and every delivery is accounted for")
    return OK


_HEAD: Final = ("ENDPOINT", "ACCEPTED", "PENDING", "DELIVERED", "DEAD-LETTERED", "CANCELLED")
_Counts = Mapping[EndpointKey, EndpointCounts]


def _rows(counts: _Counts) -> list[tuple[str, ...]]:
    return [(key.name, *map(str, (sum(count), *count))) for key, count in sorted(counts.items())]


async def _audit_file(url: str) -> tuple[Sequence[str], _Counts]:
    from hookstead.gateway.system import SystemClock
    from hookstead.store.opening import open_store

    store = open_store(url, min_free_bytes=0, clock=SystemClock())
    try:
        return await store.check(), await store.counts()
    finally:
        await store.close()


async def _audit_database(url: str) -> tuple[Sequence[str], _Counts]:
    from hookstead.store.inspecting import audit_database

    found = await audit_database(url)
    return found.wrong, found.counts


async def _migrate(url: str) -> int:
    if is_postgres(url):
        from hookstead.store.inspecting import migrate_database

        await migrate_database(url)
    else:
        await _migrate_file(url)
    print(f"{shown(url)}: its schema is this version's")
    return OK


async def _migrate_file(url: str) -> None:
    from hookstead.gateway.system import SystemClock
    from hookstead.store.opening import open_store

    store = open_store(url, min_free_bytes=0, clock=SystemClock())
    await store.close()


async def _copy(source: str, to: str) -> int:
    from hookstead.store.copying import copy_store

    copied = await copy_store(source, to, tell=say)
    print("\n".join(aligned([_HEAD, *_rows(copied.counts)])))
    rows = copied.rows
    print(
        f"\n{shown(to)}: it has all of {source}: {rows['events']} events, {rows['pending'] + rows['ended']} deliveries,"
        f" {rows['attempts']} attempts; every delivery is accounted for"
    )
    return OK
