"""`kubectl hooks send TYPE`: publish one event. Its data reach the gateway byte for byte."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final, NoReturn

from hookstead.cli.flags import Argument, Arity, Command, Flag
from hookstead.cli.hooks.connection import CONNECTION, OUTPUT, connect
from hookstead.cli.outcome import OK, CommandError
from hookstead.cli.table import document

if TYPE_CHECKING:
    import argparse

COMMAND: Final = Command(
    prog="kubectl hooks send",
    summary="Publish an event. It is on stable storage once this prints its id.",
    epilog=(
        "examples:\n"
        '  kubectl hooks send order.created --channel client_7 --data \'{"orderId": "A-1"}\'\n'
        "  kubectl hooks send order.created --data @order.json --id order-A-1\n"
        "  jq . order.json | kubectl hooks send order.created --data -"
    ),
    arguments=(Argument(name="TYPE", help="the event type, such as order.created"),),
    flags=(
        Flag(
            name="data",
            metavar="JSON|@FILE|-",
            default="{}",
            help="the payload: JSON, a file, or - for stdin",
        ),
        Flag(
            name="channel",
            arity=Arity.MANY,
            default=(),
            metavar="NAME",
            help="a channel that the event is for; without one it reaches only endpoints of every channel",
        ),
        Flag(name="id", help="your own id: sending the same event again under it is harmless"),
        *CONNECTION,
        OUTPUT,
    ),
)


def run(given: argparse.Namespace) -> int:
    """Publish; print the event's id and how many endpoints get it."""
    gateway = connect(given)
    body = envelope(_payload(given.data), event_type=given.type, channels=given.channel, caller_id=given.id)
    answer = gateway.post("events", body=body)
    match given.output:
        case "json" | "yaml":
            document(answer, given.output)
        case "name":
            print(f"event/{answer['id']}")
        case _:
            count = answer.get("endpoints", 0)
            again = ", a duplicate of an earlier one" if answer.get("duplicate") else ""
            print(f"event/{answer['id']} accepted for {count} endpoint{'' if count == 1 else 's'}{again}")
    return OK


def envelope(payload: bytes, *, event_type: str, channels: tuple[str, ...], caller_id: str | None) -> bytes:
    """The request's body. `payload` is valid JSON and goes in as it is: 1.0 stays 1.0."""
    members = {"type": event_type, "channels": list(channels) or None, "id": caller_id}
    head = json.dumps({key: value for key, value in members.items() if value is not None}, ensure_ascii=False)
    return head[:-1].encode() + b', "data": ' + payload + b"}"


def _payload(given: str) -> bytes:
    raw = _read(given)
    try:
        json.loads(raw.decode("utf-8"), parse_constant=_no_constant)
    except (ValueError, RecursionError) as problem:
        raise CommandError(f"--data: not valid JSON: {problem}") from problem
    return raw.strip()


def _read(given: str) -> bytes:
    try:
        if given == "-":
            return sys.stdin.buffer.read()
        if given.startswith("@"):
            return Path(given[1:]).read_bytes()
    except OSError as problem:
        raise CommandError(f"--data {given}: cannot be read: {problem.strerror}") from problem
    return given.encode(errors="surrogateescape")


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")
