"""`kubectl hooks deliveries [ID]`: what went where, and how each attempt ended."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from hookstead.cli.flags import Argument, Command, Flag, UsageError
from hookstead.cli.hooks.connection import CONNECTION, OUTPUT, connect
from hookstead.cli.hooks.listing import PAGING, Listing, run_list
from hookstead.cli.hooks.selectors import SELECTOR, endpoints_with
from hookstead.cli.outcome import OK
from hookstead.cli.table import Column, Item, age, duration, moment, show

if TYPE_CHECKING:
    import argparse

STATUSES: Final = ("Pending", "Delivered", "DeadLettered", "Cancelled")

COMMAND: Final = Command(
    prog="kubectl hooks deliveries",
    summary="List deliveries, newest first, or show one delivery with its attempts.",
    epilog=(
        "examples:\n"
        "  kubectl hooks deliveries --endpoint acme --status DeadLettered --since 1d\n"
        "  kubectl hooks deliveries -f -l team=billing\n"
        "  kubectl hooks deliveries dlv_0197… -o yaml"
    ),
    arguments=(Argument(name="ID", nargs="?", help="a delivery's id, dlv_…; shows its attempts"),),
    flags=(
        Flag(name="endpoint", metavar="NAME", help="only deliveries to this endpoint"),
        SELECTOR,
        Flag(name="status", choices=STATUSES, help="only deliveries with this status"),
        Flag(name="event-type", metavar="TYPE", help="only deliveries of events of this type"),
        Flag(name="channel", metavar="NAME", help="only deliveries of events for this channel"),
        *PAGING,
        *CONNECTION,
        OUTPUT,
    ),
)


def run(given: argparse.Namespace) -> int:
    """Print a list, or one delivery."""
    if given.endpoint is not None and given.selector is not None:
        raise UsageError("kubectl hooks deliveries: --endpoint and --selector: give one of them")
    endpoints = endpoints_with(given)
    if given.id is None:
        run_list(given, LISTING, endpoints=endpoints)
        return OK
    with connect(given) as gateway:
        _show_one(gateway.get("deliveries", given.id.removeprefix("delivery/")), given.output)
    return OK


def _show_one(delivery: Item, output: str | None) -> None:
    show([delivery], DELIVERIES, output=output, name=delivery_name, single=True)
    if output in (None, "wide"):
        print()
        show(delivery.get("attempts", []), ATTEMPTS, output=output, name=str, nothing="No attempts yet")


def delivery_name(item: Item) -> str:
    """As `-o name` writes it."""
    return f"delivery/{item['id']}"


def _age(item: Item) -> str:
    return age(item.get("createdTime"), now=datetime.now(UTC))


def _next(item: Item) -> object:
    """How long until the next attempt; nothing for a delivery that has ended or is held back."""
    if item.get("status") != "Pending" or not item.get("nextAttemptTime"):
        return None
    left = (moment(item["nextAttemptTime"]) - datetime.now(UTC)).total_seconds()
    return duration(max(0, int(left)))


def _attempt_age(item: Item) -> str:
    return age(item.get("time"), now=datetime.now(UTC))


DELIVERIES: Final = (
    Column("ID", lambda item: item["id"]),
    Column("ENDPOINT", lambda item: item.get("endpoint")),
    Column("TYPE", lambda item: item.get("eventType")),
    Column("STATUS", lambda item: item.get("status")),
    Column("ATTEMPTS", lambda item: item.get("attemptCount")),
    Column("NEXT", _next),
    Column("AGE", _age),
    Column("EVENT", lambda item: item.get("eventId"), wide=True),
    Column("CHANNELS", lambda item: item.get("channels"), wide=True),
    Column("REASON", lambda item: item.get("cancelReason"), wide=True),
)

ATTEMPTS: Final = (
    Column("ATTEMPT", lambda item: item.get("number")),
    Column("TRIGGER", lambda item: item.get("trigger")),
    Column("OUTCOME", lambda item: item.get("outcome")),
    Column("CODE", lambda item: item.get("statusCode") or None),
    Column("ERROR", lambda item: item.get("errorCode")),
    Column("DURATION", lambda item: f"{item.get('durationMilliseconds')}ms"),
    Column("AGE", _attempt_age),
    Column("MESSAGE", lambda item: item.get("message")),
    Column("RESPONSE", lambda item: (item.get("responseBody") or "")[:200], wide=True),
)


def _admits(item: Item, query: dict[str, Any]) -> bool:
    return all(
        (
            query.get("endpoint") in (None, item.get("endpoint")),
            query.get("status") in (None, item.get("status")),
            query.get("eventType") in (None, item.get("eventType")),
            query.get("channel") is None or query["channel"] in item.get("channels", []),
            query.get("since") is None or moment(item["createdTime"]) >= moment(query["since"]),
        )
    )


LISTING: Final = Listing(
    path="deliveries",
    columns=DELIVERIES,
    name=delivery_name,
    filters={"endpoint": "endpoint", "status": "status", "event_type": "eventType", "channel": "channel"},
    state=lambda item: (item.get("status"), item.get("attemptCount"), item.get("nextAttemptTime")),
    admits=_admits,
)
