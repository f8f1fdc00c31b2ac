"""`kubectl hooks resume ENDPOINT…`: let deliveries go on to endpoints that were given up on."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from hookstead.cli.flags import Argument, Arity, Command, Flag, whole
from hookstead.cli.hooks.connection import CONNECTION, cluster
from hookstead.cli.hooks.kubectl import Kubectl, KubectlError
from hookstead.cli.hooks.names import ENDPOINTS, GROUP, RESUME_ANNOTATION
from hookstead.cli.outcome import FINDINGS, OK, say

if TYPE_CHECKING:
    import argparse

POLL_SECONDS: Final = 0.5
WAIT: Final = Flag(
    name="wait", arity=Arity.SWITCH, default=False, help="wait until the operator and the gateways have done it"
)
TIMEOUT: Final = Flag(
    name="timeout",
    metavar="SECONDS",
    parse=whole(minimum=1, maximum=30 * 86_400, unit="seconds"),
    help="how long --wait waits, in seconds; it fails then",
    default_text="forever",
)

COMMAND: Final = Command(
    prog="kubectl hooks resume",
    summary=(
        "Let deliveries go on to endpoints that are Suspended, Gone or whose circuit is open.\n"
        f"Sets the annotation {RESUME_ANNOTATION}; needs the right to patch webhookendpoints."
    ),
    arguments=(Argument(name="ENDPOINT", nargs="+", help="name of an endpoint"),),
    flags=(WAIT, TIMEOUT, *CONNECTION),
)


def run(given: argparse.Namespace) -> int:
    """Ask for each; the ones that were refused are told on stderr and make it exit 1."""
    kubectl = cluster(
        given, instead=f"under `hookstead dev`, set the annotation {RESUME_ANNOTATION} in the endpoint's manifest."
    )
    until = None if given.timeout is None else time.monotonic() + given.timeout
    worst = OK
    for name in (one.rpartition("/")[2] for one in given.endpoint):
        stamp = datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
        try:
            kubectl.run("annotate", ENDPOINTS, name, f"{RESUME_ANNOTATION}={stamp}", "--overwrite")
        except KubectlError as refused:
            say(f"error: {refused}")
            worst = FINDINGS
            continue
        if not given.wait:
            print(f"webhookendpoint.{GROUP}/{name} resume requested")
        elif _handled(kubectl, name, stamp, until=until):
            print(f"webhookendpoint.{GROUP}/{name} resumed")
        else:
            say(f"error: webhookendpoint.{GROUP}/{name}: not resumed within {given.timeout} s")
            worst = FINDINGS
    return worst


def _handled(kubectl: Kubectl, name: str, stamp: str, *, until: float | None) -> bool:
    """Whether status came to echo it in time."""
    while True:
        status = kubectl.json("get", ENDPOINTS, name).get("status") or {}
        if status.get("lastHandledResumeAt") == stamp:
            return True
        if until is not None and time.monotonic() >= until:
            return False
        time.sleep(POLL_SECONDS)
