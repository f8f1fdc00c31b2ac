"""`kubectl-hooks`, which kubectl runs as `kubectl hooks`: look at deliveries, and act on them."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Final

from hookstead.cli import outcome
from hookstead.cli.main import dispatch

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

MODULES: Final[Mapping[str, tuple[str, str]]] = {
    "status": ("hookstead.cli.hooks.status", "the environment and its endpoints"),
    "deliveries": ("hookstead.cli.hooks.deliveries", "deliveries, newest first; with an id, its attempts"),
    "events": ("hookstead.cli.hooks.events", "events, newest first; with an id, its payload and deliveries"),
    "send": ("hookstead.cli.hooks.send", "publish an event"),
    "test": ("hookstead.cli.hooks.trial", "send a sample to one endpoint, now; it is counted nowhere"),
    "redeliver": ("hookstead.cli.hooks.redeliver", "attempt deliveries once more, now"),
}

_HELP: Final = """\
usage: kubectl hooks COMMAND [...]

Look at webhook deliveries and act on them, through a Hookstead gateway.

commands:
{commands}

options:
  --version   print the version and exit
  -h, --help  print this help; 'kubectl hooks COMMAND --help' tells a command's flags

Name the gateway with --server URL or HOOKSTEAD_SERVER; its token comes from HOOKSTEAD_TOKEN or --token-file.
Every flag has an environment variable HOOKSTEAD_<FLAG>; the command line wins.
Exit codes: 0 done, 1 findings or failure, 2 usage.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; the exit code is returned, so that the console script can hand it on."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    return outcome.run(lambda: dispatch("kubectl hooks", MODULES, _HELP, arguments, os.environ))


if __name__ == "__main__":
    sys.exit(main())
