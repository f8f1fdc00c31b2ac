"""`kubectl hooks test ENDPOINT`: send a sample to one endpoint and say what it answered."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

from hookstead.cli.flags import Argument, Command, Flag
from hookstead.cli.hooks.connection import CONNECTION, OUTPUT, connect
from hookstead.cli.hooks.tokens import Account
from hookstead.cli.outcome import FINDINGS, OK
from hookstead.cli.table import Column, show

if TYPE_CHECKING:
    import argparse

COMMAND: Final = Command(
    prog="kubectl hooks test",
    summary="Send a sample event to one endpoint, now. It makes no delivery and is counted nowhere.",
    epilog="Exits 1 when the endpoint did not answer with success.",
    arguments=(Argument(name="ENDPOINT", help="name of the endpoint"),),
    flags=(
        Flag(
            name="event-type",
            metavar="TYPE",
            help="the type whose sample is sent",
            default_text="the first declared type that the endpoint selects",
        ),
        *CONNECTION,
        OUTPUT,
    ),
)


def run(given: argparse.Namespace) -> int:
    """Send it; 0 when the endpoint answered with success."""
    body = b"" if given.event_type is None else json.dumps({"eventType": given.event_type}).encode()
    name = given.endpoint.rpartition("/")[2]
    with connect(given, Account.OPERATOR) as gateway:
        result = {"endpoint": name, **gateway.post("endpoints", name, "test", body=body)}
    show([result], RESULT, output=given.output, name=lambda item: f"endpoint/{item['endpoint']}", single=True)
    return OK if result.get("outcome") == "Succeeded" else FINDINGS


RESULT: Final = (
    Column("ENDPOINT", lambda item: item["endpoint"]),
    Column("OUTCOME", lambda item: item.get("outcome")),
    Column("CODE", lambda item: item.get("statusCode") or None),
    Column("ERROR", lambda item: item.get("errorCode")),
    Column("DURATION", lambda item: f"{item.get('durationMilliseconds')}ms"),
    Column("TYPE", lambda item: item.get("eventType"), wide=True),
    Column("MESSAGE", lambda item: item.get("message"), wide=True),
)
