"""`kubectl hooks replay ENDPOINT --since TIME`: deliver again what failed or was missed."""

from __future__ import annotations

import contextlib
import json
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import yaml

from hookstead.cli.client import RefusedError
from hookstead.cli.flags import Argument, Arity, Command, Flag, UsageError, whole
from hookstead.cli.hooks.connection import CONNECTION, OUTPUT, SINCE, UNTIL, cluster, connect
from hookstead.cli.hooks.names import API_VERSION, GROUP, REPLAY, REPLAY_SELECTS, REPLAYS
from hookstead.cli.hooks.resume import TIMEOUT
from hookstead.cli.outcome import FINDINGS, OK, CommandError, say
from hookstead.cli.table import Item, document, show

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

    from hookstead.cli.hooks.kubectl import Kubectl

POLL_SECONDS: Final = 1.0
_NAME_LIMIT: Final = 44
"""Of the endpoint's in the replay's: with the time it stays below the 63 characters of a name."""

COMMAND: Final = Command(
    prog="kubectl hooks replay",
    summary=(
        "Deliver to one endpoint again what failed or was missed.\n"
        "Creates a WebhookReplay, which the gateway works off even when you go away; needs the right to create it."
    ),
    epilog=(
        "examples:\n"
        "  kubectl hooks replay acme --since 2h --wait\n"
        "  kubectl hooks replay acme --since 7d --select Missed --event-type 'order.*'\n"
        "  kubectl hooks replay acme --since 1d --dry-run >> replays.yaml\n"
        "  kubectl hooks replay acme --since 1h --server http://127.0.0.1:8080 --into DIR --wait\n"
        "With --wait, exits 1 when it failed, or when a delivery did."
    ),
    arguments=(Argument(name="ENDPOINT", help="name of the endpoint"),),
    flags=(
        SINCE,
        UNTIL,
        Flag(
            name="select",
            choices=REPLAY_SELECTS,
            default=REPLAY_SELECTS[0],
            help="Failed: dead letters; Missed: matching events that never became a delivery; All: every matching one",
        ),
        Flag(name="event-type", metavar="TYPE", arity=Arity.MANY, default=(), help="only events of this type"),
        Flag(
            name="requests-per-second",
            metavar="N",
            parse=whole(minimum=1, maximum=10_000),
            help="attempts a second at most",
            default_text="the endpoint's",
        ),
        Flag(name="name", metavar="NAME", help="the WebhookReplay's name", default_text="the endpoint's with the time"),
        Flag(
            name="dry-run", arity=Arity.SWITCH, default=False, help="print the manifest as YAML and do nothing with it"
        ),
        Flag(
            name="into",
            metavar="DIR",
            parse=Path,
            help="with --server: write the manifest into this folder, which `hookstead dev` watches",
        ),
        Flag(name="wait", arity=Arity.SWITCH, default=False, help="show the progress until every delivery has ended"),
        TIMEOUT,
        *CONNECTION,
        OUTPUT,
    ),
)


def run(given: argparse.Namespace) -> int:
    """Create it; with --wait 1 when it, or a delivery of it, failed."""
    if given.since is None:
        raise UsageError("kubectl hooks replay: --since is required: from when on, such as 2h or an RFC 3339 time")
    manifest = replay_manifest(given, now=datetime.now(UTC))
    if given.dry_run:
        document(manifest, "yaml")
        return OK
    name = str(manifest["metadata"]["name"])
    if given.server is not None:
        return _into_folder(given, manifest, name)
    kubectl = cluster(given, instead="")
    made = kubectl.json("create", "--filename=-", stdin=json.dumps(manifest))
    tell = print if given.output in (None, "wide") else say
    tell(f"webhookreplay.{GROUP}/{name} created")
    code = _wait(name, lambda: _status(kubectl, name), tell, timeout=given.timeout) if given.wait else OK
    if given.output not in (None, "wide"):
        shown = kubectl.json("get", REPLAYS, name) if given.wait else made
        show([shown], (), output=given.output, name=_name, single=True)
    return code


def _name(item: Item) -> str:
    return f"webhookreplay.{GROUP}/{item['metadata']['name']}"


def replay_manifest(given: argparse.Namespace, *, now: datetime) -> dict[str, Any]:
    """The WebhookReplay that the flags ask for."""
    endpoint = given.endpoint.rpartition("/")[2]
    made_up = f"{endpoint[:_NAME_LIMIT].rstrip('-.')}-{now:%Y%m%d%H%M%S}{now.microsecond // 1000:03d}"
    spec = {
        "endpointRef": {"name": endpoint},
        "select": given.select,
        "since": given.since,
        "until": given.until,
        "eventTypes": list(given.event_type) or None,
        "requestsPerSecond": given.requests_per_second,
    }
    return {
        "apiVersion": API_VERSION,
        "kind": REPLAY,
        "metadata": {"name": given.name or made_up},
        "spec": {field: value for field, value in spec.items() if value is not None},
    }


def _into_folder(given: argparse.Namespace, manifest: dict[str, Any], name: str) -> int:
    if given.into is None:
        raise CommandError(
            "a replay is a WebhookReplay object, and a gateway creates none: under `hookstead dev` give --into DIR, "
            "the folder that it watches; in a cluster leave --server out."
        )
    path = given.into / f"replay-{name}.yaml"
    try:
        path.write_text(yaml.safe_dump(manifest, sort_keys=False), encoding="utf-8")
    except OSError as problem:
        raise CommandError(f"--into {given.into}: cannot be written: {problem.strerror}") from problem
    print(f"{path} written")
    if not given.wait:
        return OK
    with connect(given) as gateway:

        def look() -> Item | None:
            with contextlib.suppress(RefusedError):  # not read yet
                return gateway.get("replays", name)
            return None

        return _wait(name, look, print, timeout=given.timeout)


def _status(kubectl: Kubectl, name: str) -> Item | None:
    status: Item | None = kubectl.json("get", REPLAYS, name).get("status")
    return status


def _wait(name: str, look: Callable[[], Item | None], tell: Callable[[str], None], *, timeout: int | None) -> int:
    """Follow the progress on stderr; what came of it is told, and is the exit code."""
    until = None if timeout is None else time.monotonic() + timeout
    shown = ""
    while True:
        status = look() or {}
        if _condition(status, "Failed") is not None or _condition(status, "Complete") is not None:
            return _ended(name, status, tell)
        progress = _progress(status)
        if progress != shown:
            say(f"{name}: {progress}")
            shown = progress
        if until is not None and time.monotonic() >= until:
            raise CommandError(f"webhookreplay.{GROUP}/{name} has not ended within {timeout} s; it goes on by itself.")
        time.sleep(POLL_SECONDS)


def _ended(name: str, status: Item, tell: Callable[[str], None]) -> int:
    failed = _condition(status, "Failed")
    if failed is not None:
        say(f"error: webhookreplay.{GROUP}/{name} failed: {failed.get('reason')}: {failed.get('message')}")
        return FINDINGS
    tell(f"webhookreplay.{GROUP}/{name} complete: {_counts(status)}")
    return FINDINGS if status.get("failed") else OK


def _condition(status: Item, kind: str) -> dict[str, Any] | None:
    conditions: list[dict[str, Any]] = status.get("conditions") or []
    return next((one for one in conditions if one.get("type") == kind and one.get("status") == "True"), None)


def _progress(status: Item) -> str:
    if "selected" in status:
        return _counts(status)
    conditions: list[dict[str, Any]] = status.get("conditions") or []
    ready = next((one for one in conditions if one.get("type") == "Ready"), {})
    why = f" ({ready['reason']}: {ready.get('message', '')})" if ready.get("status") == "False" else ""
    return f"waiting to begin{why}"


def _counts(status: Item) -> str:
    selected, delivered, failed = (int(status.get(field) or 0) for field in ("selected", "delivered", "failed"))
    share = f", {100 * (delivered + failed) // selected} % done" if selected else ""
    made = "1 delivery" if selected == 1 else f"{selected} deliveries"
    return f"{made} selected, {delivered} delivered, {failed} failed{share}"
