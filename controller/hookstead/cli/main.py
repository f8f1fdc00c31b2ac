"""`hookstead`: which command was asked for, and its exit code.

A command's module is imported only when it runs: `validate` starts without aiohttp, and nothing but
`operator` imports Kopf.
"""

from __future__ import annotations

import importlib
import os
import sys
from typing import TYPE_CHECKING, Final, Protocol, cast

from hookstead import __version__
from hookstead.cli import outcome
from hookstead.cli.flags import Command, UsageError, parse

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping, Sequence


class CommandModule(Protocol):
    """What a module of a command has."""

    COMMAND: Command

    def run(self, given: argparse.Namespace, /) -> int:
        """Do it; the exit code."""


MODULES: Final[Mapping[str, tuple[str, str]]] = {
    "dev": (
        "hookstead.cli.dev",
        "deliver webhooks from a folder of manifests, in one process, without a cluster",
    ),
    "validate": ("hookstead.cli.validate", "check manifests offline, as the operator would judge them"),
    "plan": ("hookstead.cli.plan", "say what a change of manifests does to deliveries"),
    "catalog": ("hookstead.cli.catalog", "print the event catalog: Markdown, HTML, OpenAPI, AsyncAPI"),
    "operator": ("hookstead.cli.operator", "run the controller of one namespace"),
    "store": ("hookstead.cli.store", "check a store, or migrate its schema, while its gateway is stopped"),
    "gateway": ("hookstead.cli.gateway", "run the data plane: accept events, deliver webhooks"),
}
"""Command: its module, and its line in `hookstead --help`."""

_HELP: Final = """\
usage: hookstead COMMAND [...]

Webhook delivery for platform teams who keep everything in Git.

commands:
{commands}

options:
  --version   print the version and exit
  -h, --help  print this help; 'hookstead COMMAND --help' tells a command's flags

Every flag has an environment variable HOOKSTEAD_<FLAG>; the command line wins.
Exit codes: 0 done, 1 findings or failure, 2 usage.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; the exit code is returned, so that the console script can hand it on."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    return outcome.run(lambda: dispatch("hookstead", MODULES, _HELP, arguments, os.environ))


def dispatch(
    prog: str,
    modules: Mapping[str, tuple[str, str]],
    help_text: str,
    arguments: Sequence[str],
    environ: Mapping[str, str],
) -> int:
    """Choose the module that `arguments` begin with, parse its flags, run it. Raises UsageError."""
    first, rest = (arguments[0], arguments[1:]) if arguments else ("", [])
    if first in ("-h", "--help", "help"):
        print(help_text.format(commands=_listed(modules)), end="")
        return outcome.OK
    if first == "--version":
        print(f"{prog} {__version__}")
        return outcome.OK
    if first not in modules:
        wrong = f"unknown command {first!r}" if first else "a command is required"
        raise UsageError(f"{prog}: {wrong}: one of {', '.join(modules)}\nSee '{prog} --help'.")
    module = cast("CommandModule", importlib.import_module(modules[first][0]))
    try:
        given = parse(module.COMMAND, rest, environ)
    except SystemExit as end:  # argparse ends the process after --help
        return int(end.code or 0)
    return module.run(given)


def _listed(modules: Mapping[str, tuple[str, str]]) -> str:
    width = max(len(name) for name in modules)
    return "\n".join(f"  {name:<{width}}  {summary}" for name, (_, summary) in modules.items())


if __name__ == "__main__":
    sys.exit(main())
