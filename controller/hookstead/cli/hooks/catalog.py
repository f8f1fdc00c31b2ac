"""`kubectl hooks catalog [TYPE]`: which event types there are, as the running gateway knows them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from hookstead.cli.flags import Argument, Command, Flag, UsageError
from hookstead.cli.hooks.connection import CONNECTION, OUTPUT, connect
from hookstead.cli.outcome import OK, CommandError
from hookstead.cli.table import Column, Item, document, show
from hookstead.resources.suggestion import did_you_mean

if TYPE_CHECKING:
    import argparse

    from hookstead.cli.client import Gateway

COMMAND: Final = Command(
    prog="kubectl hooks catalog",
    summary="List the event types that can be published and received, or show one with its schema and sample.",
    epilog="`hookstead catalog PATH` makes a page of it from manifests.",
    arguments=(Argument(name="TYPE", nargs="?", help="an event type; shows all of it, as YAML unless -o says else"),),
    flags=(
        Flag(
            name="format",
            choices=("openapi", "asyncapi"),
            help="print a document for receivers instead, as JSON unless -o yaml: OpenAPI 3.1 webhooks, or AsyncAPI 3",
        ),
        *CONNECTION,
        OUTPUT,
    ),
)


def run(given: argparse.Namespace) -> int:
    """Print the list, one entry, or a document."""
    if given.format is not None and (given.type is not None or given.output not in (None, "json", "yaml")):
        raise UsageError("kubectl hooks catalog: --format is a whole document: without TYPE, as json or yaml")
    with connect(given) as gateway:
        if given.format is not None:
            document(gateway.get("catalog", format=given.format), given.output or "json")
        elif given.type is not None:
            show([entry(gateway, given.type)], TYPES, output=given.output or "yaml", name=_name, single=True)
        else:
            show(list(gateway.items("catalog", limit=None)), TYPES, output=given.output, name=_name)
    return OK


def entry(gateway: Gateway, event_type: str) -> Item:
    """One entry of the catalog. Raises CommandError."""
    known: list[str] = []
    for item in gateway.items("catalog", limit=None):
        if item.get("type") == event_type:
            return item
        known.append(str(item.get("type")))
    raise CommandError(f"no event type {event_type!r} in the catalog{did_you_mean(event_type, known)}")


def _name(item: Item) -> str:
    return f"eventtype/{item['type']}"


TYPES: Final = (
    Column("TYPE", lambda item: item.get("type")),
    Column("GROUP", lambda item: item.get("group")),
    Column("LIFECYCLE", lambda item: item.get("lifecycle")),
    Column("DESCRIPTION", lambda item: item.get("description")),
    Column("REPLACED-BY", lambda item: item.get("replacedBy"), wide=True),
    Column("SCHEMA", lambda item: "yes" if item.get("schema") is not None else "no", wide=True),
    Column("SAMPLE", lambda item: "yes" if item.get("sample") is not None else "no", wide=True),
)
