"""What every command of `kubectl hooks` shares: which gateway, whose token, which output, which times."""

from __future__ import annotations

import os
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final

from hookstead.cli.client import Gateway, server_url
from hookstead.cli.flags import Flag, namespace, whole
from hookstead.cli.outcome import CommandError
from hookstead.cli.table import FORMATS, moment

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

TOKEN_VARIABLE: Final = "HOOKSTEAD_TOKEN"  # noqa: S105  (the name of a variable, no password)

OUTPUT: Final = Flag(name="output", short="o", choices=FORMATS, help="output format", default_text="a table")
SERVER: Final = Flag(
    name="server", metavar="URL", parse=server_url, help="the gateway's URL, such as http://127.0.0.1:8080"
)
TOKEN_FILE: Final = Flag(
    name="token-file",
    metavar="FILE",
    parse=Path,
    help=f"file with the bearer token; the variable {TOKEN_VARIABLE} holds the token itself",
)
NAMESPACE: Final = Flag(
    name="namespace",
    short="n",
    parse=namespace,
    help="the environment's namespace; not needed with --server, because a gateway serves one only",
)
CONNECTION: Final = (SERVER, NAMESPACE, TOKEN_FILE)


def limit(default: int) -> Flag:
    """`--limit`, for lists."""
    return Flag(
        name="limit",
        default=default,
        parse=whole(minimum=0, maximum=1_000_000),
        help="how many to show at most, newest first; 0 shows all",
    )


def connect(given: argparse.Namespace) -> Gateway:
    """The gateway that the flags name. Raises CommandError: no gateway named, or no readable token."""
    if given.server is None:
        raise CommandError(
            "which gateway? Give --server URL or set HOOKSTEAD_SERVER; for `hookstead dev` it is "
            "http://127.0.0.1:8080. In a cluster, run `kubectl port-forward` to the gateway's service first: "
            "finding the gateway by itself comes in a later version."
        )
    return Gateway(given.server, token=_token(given.token_file))


def _token(path: Path | None) -> str | None:
    if path is None:
        token = os.environ.get(TOKEN_VARIABLE, "").strip()
        return _one_token(token, TOKEN_VARIABLE) if token else None
    try:
        token = path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as problem:
        raise CommandError(f"--token-file {path}: cannot be read: {getattr(problem, 'strerror', problem)}") from problem
    return _one_token(token, f"--token-file {path}")


def _one_token(token: str, where: str) -> str:
    """The token if it can stand in a header; the message never shows it."""
    if _TOKEN.fullmatch(token) is None:
        raise CommandError(f"{where}: expected one token and nothing else")
    return token


_TOKEN: Final = re.compile(r"[!-~]+")
_DURATION: Final = re.compile(r"(?:\d{1,6}[smhdw])+")
_UNIT_SECONDS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}


def point(now: datetime) -> Callable[[str], str]:
    """A parser of times, durations back from `now` or RFC 3339, into RFC 3339 in UTC; raises ValueError."""

    def parse_point(text: str) -> str:
        try:
            if not _DURATION.fullmatch(text):
                return _rfc3339(moment(text))
            parts = re.findall(r"(\d+)([smhdw])", text)
            return _rfc3339(now - timedelta(seconds=sum(int(count) * _UNIT_SECONDS[unit] for count, unit in parts)))
        except (ValueError, OverflowError) as problem:
            raise ValueError(f"{text!r} is neither a duration (90s, 15m, 1h, 7d) nor an RFC 3339 time") from problem

    return parse_point


def _rfc3339(when: datetime) -> str:
    return when.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _since_now(text: str) -> str:
    return point(datetime.now(UTC))(text)


SINCE: Final = Flag(
    name="since",
    metavar="TIME",
    parse=_since_now,
    help="only what was created at or after: a duration back from now (90s, 15m, 1h, 7d) or an RFC 3339 time",
)
UNTIL: Final = Flag(name="until", metavar="TIME", parse=_since_now, help="only what was created before: as --since")
