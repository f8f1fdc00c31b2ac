"""`kubectl hooks status [ENDPOINT…]`: the environment and its endpoints, as `kubectl get` shows them."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, NoReturn

from hookstead.cli.client import Gateway, RefusedError
from hookstead.cli.flags import Argument, Arity, Command, Flag, UsageError
from hookstead.cli.hooks.connection import CONNECTION, OUTPUT, connect
from hookstead.cli.hooks.selectors import SELECTOR, endpoints_with
from hookstead.cli.outcome import OK
from hookstead.cli.table import Column, Item, Rows, age, document, show

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

WATCH: Final = Flag(
    name="watch", short="w", arity=Arity.SWITCH, default=False, help="go on and show endpoints that change"
)
WATCH_SECONDS: Final = 2.0
WATCH_SHARE: Final = 9
"""Ten thousand endpoints take many pages: for so many times as long as they took, the gateway is left alone."""

COMMAND: Final = Command(
    prog="kubectl hooks status",
    summary="Show the environment and its endpoints, or only the endpoints named.",
    epilog="'kubectl get webhookendpoints' shows what the operator wrote last; this asks the gateway.",
    arguments=(Argument(name="ENDPOINT", nargs="*", help="name of an endpoint; all of them if left out"),),
    flags=(SELECTOR, WATCH, *CONNECTION, OUTPUT),
)


def run(given: argparse.Namespace) -> int:
    """Print what the gateway knows."""
    if given.endpoint and given.selector is not None:
        raise UsageError("kubectl hooks status: names and --selector: give one of them")
    names = tuple(name.rpartition("/")[2] for name in given.endpoint) or endpoints_with(given)
    with connect(given) as gateway:
        endpoints = _endpoints(gateway, names)
        if given.watch:
            _watch(gateway, names, endpoints, output=given.output)
        elif names is not None:
            single = bool(given.endpoint) and len(endpoints) == 1
            show(endpoints, ENDPOINTS, output=given.output, name=endpoint_name, single=single)
        else:
            _show_all(_environment(gateway), endpoints, output=given.output)
    return OK


def _endpoints(gateway: Gateway, names: Sequence[str] | None) -> list[Item]:
    if names is None:
        return list(gateway.items("endpoints", limit=None))
    return [gateway.get("endpoints", name) for name in names]


def _show_all(environment: Item | None, endpoints: list[Item], *, output: str | None) -> None:
    if output in ("json", "yaml"):
        document({"environment": environment, "endpoints": endpoints}, output)
        return
    if environment is not None:
        show([environment], ENVIRONMENT, output=output, name=_environment_name)
        if endpoints and output != "name":
            print()
    show(endpoints, ENDPOINTS, output=output, name=endpoint_name)


def _watch(gateway: Gateway, names: Sequence[str] | None, endpoints: list[Item], *, output: str | None) -> NoReturn:
    """Print endpoints, and again those that changed, until interrupted."""
    rows = Rows(ENDPOINTS, output=output, name=endpoint_name)
    seen: dict[str, object] = {}
    pause = WATCH_SECONDS
    while True:
        changed = [item for item in endpoints if seen.get(item["name"]) != _state(item)]
        seen.update((item["name"], _state(item)) for item in changed)
        rows.add(changed)
        time.sleep(pause)
        began = time.monotonic()
        endpoints = _endpoints(gateway, names)
        pause = max(WATCH_SECONDS, WATCH_SHARE * (time.monotonic() - began))


def _state(item: Item) -> object:
    """What is shown of it; times only where they are the item's own."""
    conditions = [(one.get("type"), one.get("status"), one.get("reason")) for one in item.get("conditions", [])]
    return conditions, item.get("observedGeneration"), item.get("activity")


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


def _reason_of(kind: str) -> Any:
    return lambda item: condition(item, kind).get("reason")


def _held(item: Item) -> object:
    """Why deliveries do not flow; nothing while they do."""
    entry = condition(item, "Active")
    return entry.get("reason") if entry.get("status") == "False" else None


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
    Column("REASON", _reason_of("Ready"), wide=True),
    Column("HELD", _held, wide=True),
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
    Column("REASON", _reason_of("Ready"), wide=True),
    Column("HELD", _held, wide=True),
)
