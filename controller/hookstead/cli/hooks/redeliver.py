"""`kubectl hooks redeliver DELIVERY…`: one more attempt each, now, whatever their status."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from hookstead.cli.client import RefusedError
from hookstead.cli.flags import Argument, Command
from hookstead.cli.hooks.connection import CONNECTION, connect
from hookstead.cli.hooks.tokens import Account
from hookstead.cli.outcome import FINDINGS, OK, say

if TYPE_CHECKING:
    import argparse

COMMAND: Final = Command(
    prog="kubectl hooks redeliver",
    summary=(
        "Attempt deliveries once more, now.\nThe automatic schedule of a pending one stays as it is; a success ends it."
    ),
    arguments=(Argument(name="DELIVERY", nargs="+", help="a delivery's id, dlv_…"),),
    flags=CONNECTION,
)


def run(given: argparse.Namespace) -> int:
    """Ask for each; the ones that were refused are told on stderr and make it exit 1."""
    worst = OK
    with connect(given, Account.OPERATOR) as gateway:
        for delivery in given.delivery:
            identifier = delivery.removeprefix("delivery/")
            try:
                gateway.post("deliveries", identifier, "redeliver")
            except RefusedError as refused:
                say(f"error: delivery/{identifier}: {refused}")
                worst = FINDINGS
            else:
                print(f"delivery/{identifier} redelivery requested")
    return worst
