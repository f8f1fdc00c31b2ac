"""`kubectl hooks status [ENDPOINT…]`: the environment and its endpoints, as `kubectl get` shows them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from hookstead.cli.client import Gateway, RefusedError
from hookstead.cli.flags import Argument, Command
from hookstead.cli.hooks.connection import CONNECTION, OUTPUT, connect
from hookstead.cli.outcome import OK
from hookstead.cli.table import Column, Item, age, document, show

if TYPE_CHECKING:
    import argparse

COMMAND: Final = Command(
    prog="kubectl hooks status",
    summary="Show the environment and its endpoints, or only the endpoints named.",
    arguments=(Argument(name="ENDPOINT", nargs="*", help="name of an endpoint; all of them if left out"),),
    flags=(*CONNECTION, OUTPUT),
)


def run(given: argparse.Namespace) -> int:
    """Print what the gateway knows."""
    gateway = connect(given)
    if given.endpoint:
        endpoints = [gateway.get("endpoints", name) for name in given.endpoint]
        show(endpoints, ENDPOINTS, output=given.output, name=endpoint_name, single=len(endpoints) == 1)
        return OK
    environment = _environment(gateway)
    endpoints = list(gateway.items("endpoints", limit=None))
    if given.output in ("json", "yaml"):
        document({"environment": environment, "endpoints": endpoints}, given.output)
        return OK
    if environment is not None:
        show([environment], ENVIRONMENT, output=given.output, name=_environment_name)
        if endpoints and given.output != "name":
            print()
    show(endpoints, ENDPOINTS, output=given.output, name=endpoint_name)
    return OK


def _environment(gateway: Gateway) -> Item | None:
    try:
        return gateway.get("environment")
    except RefusedError as refused:
        if refused.status == 404:
            return None
        raise


def condition(item: Item, kind: str) -> dict[str, Any]:
    """The condition of that type; empty where the item has none."""
    return next((entry for entry in item.get("conditions", []) if entry.get("type") == kind), {})


def _status_of(kind: str) -> Any:
    return lambda item: condition(item, kind).get("status")


def _activity(key: str) -> Any:
    return lambda item: item.get("activity", {}).get(key)


def _reason(item: Item) -> object:
    """The reason of the first condition that is not as one wishes it, else Ready's."""
    for kind in ("Ready", "Active", "Healthy"):
        entry = condition(item, kind)
        if entry.get("status") == "False":
            return entry.get("reason")
    return condition(item, "Ready").get("reason")


def _last_delivery(item: Item) -> object:
    stamp = item.get("activity", {}).get("lastAttemptTime")
    return age(stamp, now=datetime.now(UTC)) if stamp else None


def endpoint_name(item: Item) -> str:
    """As `kubectl get -o name` writes it."""
    return f"webhookendpoint.hookstead.dev/{item['name']}"


def _environment_name(item: Item) -> str:
    return f"webhookenvironment.hookstead.dev/{item.get('name', 'default')}"


ENDPOINTS: Final = (
    Column("NAME", lambda item: item["name"]),
    Column("READY", _status_of("Ready")),
    Column("ACTIVE", _status_of("Active")),
    Column("HEALTHY", _status_of("Healthy")),
    Column("LAST-DELIVERY", _last_delivery),
    Column("FAILURES", _activity("consecutiveFailures")),
    Column("HOST", lambda item: item.get("host"), wide=True),
    Column("SCOPE", lambda item: item.get("scope"), wide=True),
    Column("PENDING", _activity("pending"), wide=True),
    Column("REASON", _reason, wide=True),
)

ENVIRONMENT: Final = (
    Column("ENVIRONMENT", lambda item: item.get("name", "default")),
    Column("ACTIVE", _status_of("Active")),
    Column("READY", _status_of("Ready")),
    Column("ENDPOINTS", lambda item: item.get("endpoints", {}).get("total")),
    Column("FAILING", lambda item: item.get("endpoints", {}).get("failing")),
    Column("CHANNELS", lambda item: item.get("channels"), wide=True),
    Column("EVENTTYPES", lambda item: item.get("eventTypes"), wide=True),
    Column("GATEWAY", lambda item: item.get("gateway", {}).get("programmedReplicas"), wide=True),
    Column("REASON", _reason, wide=True),
)
