"""`kubectl hooks send TYPE`: publish one event. Its data reach the gateway byte for byte."""

from __future__ import annotations

import itertools
import json
from typing import TYPE_CHECKING, Final

from hookstead.cli.flags import Argument, Arity, Command, Flag, UsageError
from hookstead.cli.hooks.catalog import entry
from hookstead.cli.hooks.connection import CONNECTION, OUTPUT, connect
from hookstead.cli.hooks.payload import read_payload
from hookstead.cli.hooks.tokens import Account
from hookstead.cli.outcome import OK, CommandError, say
from hookstead.cli.table import document
from hookstead.resources.suggestion import did_you_mean

if TYPE_CHECKING:
    import argparse

    from hookstead.cli.client import Gateway

COMMAND: Final = Command(
    prog="kubectl hooks send",
    summary="Publish an event. It is on stable storage once this prints its id.",
    epilog=(
        "examples:\n"
        '  kubectl hooks send order.created --channel client_7 --data \'{"orderId": "A-1"}\'\n'
        "  kubectl hooks send order.created --sample\n"
        "  kubectl hooks send order.created --data @order.json --id order-A-1\n"
        "  jq . order.json | kubectl hooks send order.created --data -"
    ),
    arguments=(Argument(name="TYPE", help="the event type, such as order.created"),),
    flags=(
        Flag(
            name="data",
            metavar="JSON|@FILE|-",
            help="the payload: JSON, a file, or - for stdin",
            default_text="{}",
        ),
        Flag(
            name="sample",
            arity=Arity.SWITCH,
            default=False,
            help="the payload is the sample of the event type, from the catalog",
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
CHECKED_CHANNELS: Final = 5000
"""An environment with more is not looked through for every event."""


def run(given: argparse.Namespace) -> int:
    """Publish; print the event's id and how many endpoints get it."""
    if given.sample and given.data is not None:
        raise UsageError("kubectl hooks send: --sample and --data: give one of them")
    payload = None if given.sample else read_payload("{}" if given.data is None else given.data)
    with connect(given, Account.OPERATOR) as gateway:
        body = envelope(
            _sample(gateway, given.type) if payload is None else payload,
            event_type=given.type,
            channels=given.channel,
            caller_id=given.id,
        )
        answer = gateway.post("events", body=body)
        undeclared = _undeclared(gateway, given.channel)
    for name, hint in undeclared.items():
        say(f"warning: no WebhookChannel declares the channel {name!r}{hint}: no endpoint got the event by it")
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


def _sample(gateway: Gateway, event_type: str) -> bytes:
    """The type's sample. Raises CommandError where it has none."""
    sample = entry(gateway, event_type).get("sample")
    if sample is None:
        raise CommandError(f"event type {event_type} has no spec.sample: give --data, or add one to its manifest")
    return json.dumps(sample, ensure_ascii=False).encode()


def _undeclared(gateway: Gateway, channels: tuple[str, ...]) -> dict[str, str]:
    """Those of the channels that nobody declares, each with what may have been meant; none where that is unknown."""
    if not channels:
        return {}
    try:
        items = list(itertools.islice(gateway.items("channels", limit=None), CHECKED_CHANNELS + 1))
    except CommandError:  # may publish, may not look: the event was accepted all the same
        return {}
    known = {str(item.get("channelName")) for item in items}
    if len(items) > CHECKED_CHANNELS:
        return {}
    return {name: did_you_mean(name, sorted(known)) for name in channels if name not in known}


def envelope(payload: bytes, *, event_type: str, channels: tuple[str, ...], caller_id: str | None) -> bytes:
    """The request's body. `payload` is valid JSON and goes in as it is: 1.0 stays 1.0."""
    members = {"type": event_type, "channels": list(channels) or None, "id": caller_id}
    head = json.dumps({key: value for key, value in members.items() if value is not None}, ensure_ascii=False)
    return head[:-1].encode() + b', "data": ' + payload + b"}"
