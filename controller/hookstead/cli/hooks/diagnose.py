"""`kubectl hooks diagnose ENDPOINT`: why did this endpoint not get that event?"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from hookstead.cli.flags import Argument, Arity, Command, Flag, UsageError
from hookstead.cli.hooks.connection import CONNECTION, OUTPUT, connect
from hookstead.cli.hooks.deliveries import DELIVERIES, delivery_name
from hookstead.cli.hooks.payload import read_payload
from hookstead.cli.hooks.status import condition, endpoint_name
from hookstead.cli.outcome import FINDINGS, OK
from hookstead.cli.table import Item, document, printable, show

if TYPE_CHECKING:
    import argparse

COMMAND: Final = Command(
    prog="kubectl hooks diagnose",
    summary=(
        "Say why an endpoint gets an event, or which sentence of the selection rule keeps it away.\n"
        "The running gateway judges, by the configuration that it has now."
    ),
    epilog=(
        "examples:\n"
        "  kubectl hooks diagnose acme msg_0197…\n"
        "  kubectl hooks diagnose acme --event-type order.created --channel client_7 --data @order.json\n"
        "Exits 1 when the endpoint does not get it."
    ),
    arguments=(
        Argument(name="ENDPOINT", help="name of the endpoint"),
        Argument(name="EVENT", nargs="?", help="an accepted event's id, msg_…; needs the right to read payloads"),
    ),
    flags=(
        Flag(name="event-type", metavar="TYPE", help="instead of an event: the type of one that might be sent"),
        Flag(name="channel", metavar="NAME", arity=Arity.MANY, default=(), help="a channel that it would be for"),
        Flag(name="data", metavar="JSON|@FILE|-", help="its data; without them a filter is not judged"),
        *CONNECTION,
        OUTPUT,
    ),
)


def run(given: argparse.Namespace) -> int:
    """Print each sentence; 1 when one of them excludes the event."""
    name = given.endpoint.rpartition("/")[2]
    body = _question(given)
    with connect(given) as gateway:
        found = gateway.post("endpoints", name, "diagnose", body=body)
        endpoint = gateway.get("endpoints", name) if given.output in (None, "wide") else {}
    match given.output:
        case "json" | "yaml":
            document(found, given.output)
        case "name":
            print(endpoint_name({"name": found["endpoint"]}))
        case _:
            _explain(found, endpoint, output=given.output)
    return FINDINGS if found["selected"] is False else OK


def _question(given: argparse.Namespace) -> bytes:
    if given.event is not None:
        if given.event_type or given.channel or given.data:
            raise UsageError("kubectl hooks diagnose: EVENT has its own type, channels and data: no flags")
        return json.dumps({"eventId": given.event.removeprefix("event/")}).encode()
    if given.event_type is None:
        raise UsageError("kubectl hooks diagnose: which event? Give its id, or --event-type")
    asked = json.dumps({"type": given.event_type, "channels": list(given.channel)}, ensure_ascii=False).encode()
    return asked if given.data is None else asked[:-1] + b', "data": ' + read_payload(given.data) + b"}"


def _explain(found: Item, endpoint: Item, *, output: str | None) -> None:
    print(printable(_verdict(found)))
    for check in found["checks"]:
        mark = {True: "yes", False: "NO", None: "?"}[check["passed"]]
        print(printable(f"  {mark:<3}  {check['sentence']}"))
        print(printable(f"       {check['detail']}"))
    active = condition(endpoint, "Active")
    if active.get("status") == "False" and found["selected"] is not False:
        print(printable(f"Its deliveries are held now: {active.get('reason')}: {active.get('message', '')}"))
    if found["deliveries"]:
        print()
        show(found["deliveries"], DELIVERIES, output=output, name=delivery_name)


def _verdict(found: dict[str, Any]) -> str:
    event = found["event"]
    for_whom = f" for {', '.join(event['channels'])}" if event["channels"] else " without channels"
    what = f"{event['id'] or 'an event'} ({event['type']}{for_whom})"
    excluded = next((one["sentence"] for one in found["checks"] if one["rule"] == found["excludedBy"]), "")
    match found["selected"], bool(found["deliveries"]), event["id"]:
        case True, False, str():
            return f"{found['endpoint']} would get {what} now; when it was accepted, it was not selected"
        case True, _, _:
            return f"{found['endpoint']} gets {what}"
        case None, _, _:
            return f"{found['endpoint']} gets {what} if its filter is true: give --data"
        case _, True, _:
            return f"{found['endpoint']} got {what}, and would not get it now: {excluded}"
        case _:
            return f"{found['endpoint']} does not get {what}: {excluded}"
