"""`-l`: endpoints by their labels, which the API server knows and a gateway does not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from hookstead.cli.flags import Flag
from hookstead.cli.hooks.connection import cluster
from hookstead.cli.hooks.names import ENDPOINTS

if TYPE_CHECKING:
    import argparse

SELECTOR: Final = Flag(
    name="selector",
    short="l",
    metavar="SELECTOR",
    help="only endpoints with these labels, such as team=billing,tier!=free; not with --server",
)


def endpoints_with(given: argparse.Namespace) -> tuple[str, ...] | None:
    """The names of the endpoints that the selector picks, sorted; None without one. Raises CommandError."""
    if given.selector is None:
        return None
    kubectl = cluster(given, instead="name the endpoints instead of selecting them by label.")
    lines = kubectl.run("get", ENDPOINTS, f"--selector={given.selector}", "--output=name", "--ignore-not-found")
    return tuple(sorted(line.rpartition("/")[2] for line in lines.split()))
