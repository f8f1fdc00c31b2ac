"""A list of what happened, newest first: one item, a list, or a list that goes on."""

from __future__ import annotations

import contextlib
import heapq
import itertools
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from hookstead.cli.client import RefusedError
from hookstead.cli.flags import Arity, Flag, whole
from hookstead.cli.hooks.connection import SINCE, UNTIL, connect
from hookstead.cli.hooks.following import Changes, follow
from hookstead.cli.outcome import CommandError, say
from hookstead.cli.table import Column, Item, Rows, show

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterator, Sequence

    from hookstead.cli.client import Gateway

FOLLOW: Final = Flag(
    name="follow",
    short="f",
    arity=Arity.SWITCH,
    default=False,
    help="go on and show what is new or has changed, until interrupted",
)
WATCH: Final = Flag(name="watch", short="w", arity=Arity.SWITCH, default=False, help="the same as --follow")
DEFAULT_LIMIT: Final = 50
PATIENCE_SECONDS: Final = 60.0
"""How long somebody who follows waits for a gateway after the one that answered is gone: a rollout, a restart."""
RETRY_SECONDS: Final = 1.0
_DRAINING: Final = 503
FOLLOWED_LIMIT: Final = 10
"""Of what was there before; whoever follows wants to see what comes."""
PAGING: Final = (
    SINCE,
    UNTIL,
    Flag(
        name="limit",
        parse=whole(minimum=0, maximum=1_000_000),
        help="how many to show at most, newest first; 0 shows all",
        default_text=f"{DEFAULT_LIMIT}, or {FOLLOWED_LIMIT} with --follow",
    ),
    FOLLOW,
    WATCH,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """What is listed. `filters`: the attribute of a flag to the name of a query parameter."""

    path: str
    columns: Sequence[Column]
    name: Callable[[Item], str]
    filters: dict[str, str]
    state: Callable[[Item], object]
    """What of an item, when it is different, makes it worth showing again."""
    admits: Callable[[Item, dict[str, Any]], bool] | None = None
    """Whether a delivery that was got by its id passes the filters; None for what is none."""

    def query(self, given: argparse.Namespace) -> dict[str, Any]:
        """The filters that were given, by the names of the query parameters."""
        named = {**self.filters, "since": "since", "until": "until"}
        return {name: getattr(given, flag) for flag, name in named.items() if getattr(given, flag) is not None}


def run_list(given: argparse.Namespace, listing: Listing, *, endpoints: Sequence[str] | None = None) -> None:
    """Print the list, and what comes after it where that was asked for. `endpoints`: of these only."""
    query = listing.query(given)
    goes_on = given.follow or given.watch
    most = given.limit if given.limit is not None else FOLLOWED_LIMIT if goes_on else DEFAULT_LIMIT
    with connect(given) as gateway:
        found = _items(gateway, listing.path, query, most=most, endpoints=endpoints)
        if not goes_on:
            show(list(found), listing.columns, output=given.output, name=listing.name)
            return
        changes = Changes(gateway, listing, query, endpoints)
        rows = Rows(listing.columns, output=given.output, name=listing.name)
        rows.add(changes.begin(found))
        lost = _follow(changes, rows)
    while True:
        say(f"{lost} Looking for a gateway for {PATIENCE_SECONDS:g} s.")
        lost = _again(given, changes, rows, lost)


def _follow(changes: Changes, rows: Rows) -> CommandError:
    """Follow until the gateway is gone; what it was that told so. Raises RefusedError."""
    try:
        follow(changes, rows)
    except RefusedError as refused:
        if refused.status != _DRAINING:
            raise
        return refused
    except CommandError as lost:
        return lost


def _again(given: argparse.Namespace, changes: Changes, rows: Rows, lost: CommandError) -> CommandError:
    """Connect to a gateway that took the lost one's place, and follow that. Raises CommandError when none comes."""
    before = changes.looked_at
    while changes.looked_at == before:
        if time.monotonic() - before > PATIENCE_SECONDS:
            raise lost
        time.sleep(RETRY_SECONDS)
        with contextlib.suppress(CommandError), connect(given) as gateway:
            changes.gateway = gateway
            lost = _follow(changes, rows)
    return lost


def _items(
    gateway: Gateway, path: str, query: dict[str, Any], *, most: int, endpoints: Sequence[str] | None
) -> Iterator[Item]:
    """Newest first; `most` 0 is all of them."""
    if endpoints is None:
        return gateway.items(path, limit=most or None, **query)
    lists = [gateway.items(path, limit=most or None, **{**query, "endpoint": name}) for name in endpoints]
    merged = heapq.merge(*lists, key=lambda item: str(item["createdTime"]), reverse=True)
    return itertools.islice(merged, most or None)
