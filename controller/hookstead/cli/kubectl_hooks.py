"""`kubectl-hooks`, which kubectl runs as `kubectl hooks`: look at deliveries, and act on them."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from typing import TYPE_CHECKING, Final, NoReturn

from hookstead.cli import outcome
from hookstead.cli.main import dispatch

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

MODULES: Final[Mapping[str, tuple[str, str]]] = {
    "status": ("hookstead.cli.hooks.status", "the environment and its endpoints"),
    "deliveries": ("hookstead.cli.hooks.deliveries", "deliveries, newest first; with an id, its attempts"),
    "events": ("hookstead.cli.hooks.events", "events, newest first; with an id, its payload and deliveries"),
    "diagnose": ("hookstead.cli.hooks.diagnose", "why an endpoint gets an event, or does not"),
    "catalog": ("hookstead.cli.hooks.catalog", "the event types that there are"),
    "send": ("hookstead.cli.hooks.send", "publish an event"),
    "test": ("hookstead.cli.hooks.trial", "send a sample to one endpoint, now; it is counted nowhere"),
    "redeliver": ("hookstead.cli.hooks.redeliver", "attempt deliveries once more, now"),
    "replay": ("hookstead.cli.hooks.replay", "deliver again what failed or was missed"),
    "resume": ("hookstead.cli.hooks.resume", "go on with an endpoint that was given up on"),
    "secret": ("hookstead.cli.hooks.secret", "an endpoint's signing keys: which, what they are, a new one"),
}

_HELP: Final = """\
usage: kubectl hooks COMMAND [...]

Look at webhook deliveries and act on them, through the gateway of a namespace.

commands:
{commands}

options:
  --version   print the version and exit
  -h, --help  print this help; 'kubectl hooks COMMAND --help' tells a command's flags

Finds the gateway in the namespace (-n) of the kubeconfig's context, forwards a port to it, and asks it as the
release's ServiceAccount RELEASE-reader, or RELEASE-operator-user for what acts. With --server URL or HOOKSTEAD_SERVER
it asks that gateway instead; the token is then HOOKSTEAD_TOKEN or the file --token-file.
Every flag has an environment variable HOOKSTEAD_<FLAG>; the command line wins.
Exit codes: 0 done, 1 findings or failure, 2 usage.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; the exit code is returned, so that the console script can hand it on."""
    arguments = command_first(list(sys.argv[1:] if argv is None else argv))
    with _ended_by_signals():
        return outcome.run(lambda: dispatch("kubectl hooks", MODULES, _HELP, arguments, os.environ))


def command_first(arguments: list[str]) -> list[str]:
    """`-n prod status` as `status -n prod`: kubectl takes its flags anywhere, so people write them anywhere."""
    if not arguments or not arguments[0].startswith("-"):
        return arguments
    from hookstead.cli.hooks.connection import CONNECTION  # a command loads it anyway; --version need not

    valued = {f"-{flag.short}" for flag in CONNECTION if flag.short} | {f"--{flag.name}" for flag in CONNECTION}
    at = 0
    while at < len(arguments) and arguments[at].partition("=")[0] in valued:
        at += 1 if "=" in arguments[at] else 2
    return [*arguments[at : at + 1], *arguments[:at], *arguments[at + 1 :]]


@contextlib.contextmanager
def _ended_by_signals() -> Iterator[None]:
    """SIGTERM and SIGHUP end it as an exit does, so that the port-forward ends with it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, _exit) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _exit(number: int, frame: object) -> NoReturn:
    sys.exit(128 + number)


if __name__ == "__main__":
    sys.exit(main())
