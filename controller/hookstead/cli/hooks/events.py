"""`kubectl hooks events [ID]`: what was published, and what became of it."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from hookstead.cli.flags import Argument, Command, Flag
from hookstead.cli.hooks.connection import CONNECTION, OUTPUT, connect
from hookstead.cli.hooks.deliveries import DELIVERIES, delivery_name
from hookstead.cli.hooks.listing import PAGING, Listing, run_list
from hookstead.cli.outcome import OK
from hookstead.cli.table import Column, Item, age, printable, show

if TYPE_CHECKING:
    import argparse

COMMAND: Final = Command(
    prog="kubectl hooks events",
    summary="List events, newest first, or show one event with its payload and deliveries.",
    arguments=(Argument(name="ID", nargs="?", help="an event's id, msg_…; shows its payload and deliveries"),),
    flags=(
        Flag(name="event-type", metavar="TYPE", help="only events of this type"),
        Flag(name="channel", metavar="NAME", help="only events for this channel"),
        *PAGING,
        *CONNECTION,
        OUTPUT,
    ),
)


def run(given: argparse.Namespace) -> int:
    """Print a list, or one event."""
    if given.id is None:
        run_list(given, LISTING)
        return OK
    with connect(given) as gateway:
        _show_one(gateway.get("events", given.id.removeprefix("event/")), given.output)
    return OK


def _show_one(event: Item, output: str | None) -> None:
    show([event], EVENTS, output=output, name=_name, single=True)
    if output not in (None, "wide"):
        return
    payload = event.get("data")
    lines = "<erased>" if payload is None else json.dumps(payload, indent=2, ensure_ascii=False)
    print("\n" + "\n".join(printable(line) for line in lines.splitlines()) + "\n")
    show(event.get("deliveries", []), DELIVERIES, output=output, name=delivery_name, nothing="No deliveries")


def _name(item: Item) -> str:
    return f"event/{item['id']}"


def _age(item: Item) -> str:
    return age(item.get("createdTime") or item.get("timestamp"), now=datetime.now(UTC))


EVENTS: Final = (
    Column("ID", lambda item: item["id"]),
    Column("TYPE", lambda item: item.get("type")),
    Column("CHANNELS", lambda item: item.get("channels")),
    Column("AGE", _age),
    Column("TIMESTAMP", lambda item: item.get("timestamp"), wide=True),
)

LISTING: Final = Listing(
    path="events",
    columns=EVENTS,
    name=_name,
    filters={"event_type": "eventType", "channel": "channel"},
    state=lambda item: None,  # an event never changes
)
