"""What every command of `kubectl hooks` shares: which gateway, whose token, which output, which times."""

from __future__ import annotations

import contextlib
import os
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final

from hookstead.cli.client import Gateway, is_loopback, server_url
from hookstead.cli.flags import Flag, namespace
from hookstead.cli.hooks.discovery import SELECTOR, Target, choose
from hookstead.cli.hooks.forward import forwarded
from hookstead.cli.hooks.kubectl import Kubectl, KubectlError, from_flags
from hookstead.cli.hooks.tokens import Account, RequestedToken
from hookstead.cli.outcome import CommandError
from hookstead.cli.table import FORMATS, moment

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterator

TOKEN_VARIABLE: Final = "HOOKSTEAD_TOKEN"  # noqa: S105  (the name of a variable, no password)

OUTPUT: Final = Flag(name="output", short="o", choices=FORMATS, help="output format", default_text="a table")
SERVER: Final = Flag(
    name="server",
    metavar="URL",
    parse=server_url,
    help="ask this gateway, such as http://127.0.0.1:8080, instead of finding the namespace's",
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
    default_text="the context's",
    help="the environment's namespace; not needed with --server, because a gateway serves one only",
)
KUBECONFIG: Final = Flag(
    name="kubeconfig", metavar="FILE", help="the kubeconfig file", default_text="as kubectl: KUBECONFIG, ~/.kube/config"
)
CONTEXT: Final = Flag(name="context", metavar="NAME", help="the kubeconfig's context", default_text="the current one")
AS: Final = Flag(name="as", metavar="USER", help="impersonate this user towards the API server")
RELEASE: Final = Flag(name="release", metavar="NAME", help="the Helm release, where a namespace has more than one")
AUDIENCE: Final = Flag(
    name="audience",
    metavar="NAME",
    default="hookstead.dev",
    help="the audience of the token that is asked for, as the gateway's --auth-audience has it",
)
ACCOUNT: Final = Flag(
    name="account",
    choices=tuple(account.value for account in Account),
    help="ask as this one of the release's ServiceAccounts",
    default_text=f"{Account.READER.value} to look, {Account.OPERATOR.value} to act",
)
CONNECTION: Final = (NAMESPACE, CONTEXT, KUBECONFIG, AS, RELEASE, ACCOUNT, AUDIENCE, SERVER, TOKEN_FILE)


@contextlib.contextmanager
def connect(given: argparse.Namespace, account: Account = Account.READER) -> Iterator[Gateway]:
    """The gateway that the flags name, or the one that is found in the namespace.

    `account`: as whom it is asked there, where no token is given. Raises CommandError: no gateway, no way to it, no
    token.
    """
    token = _token(given.token_file)
    if given.server is not None:
        if token is not None and given.server.startswith("http:") and not is_loopback(given.server):
            raise CommandError(
                f"--server {given.server}: a token is not sent over plain HTTP to another machine: use https://, or a "
                "port-forward to 127.0.0.1."
            )
        yield Gateway(given.server, token=token)
        return
    kubectl = from_flags(given)
    target = find(kubectl, given.release)
    chosen = account if given.account is None else Account(given.account)
    credentials = token or RequestedToken(kubectl, target, chosen, given.audience).bearer
    if callable(credentials):
        credentials()  # before the port-forward: whoever may not is told so first
    with forwarded(kubectl, target) as url:
        yield Gateway(url, token=credentials, pod=f"{target.namespace}/{target.pod}")


def find(kubectl: Kubectl, release: str | None) -> Target:
    """The pod of the namespace's gateway. Raises CommandError."""
    try:
        pods = kubectl.json("get", "pods", f"--selector={SELECTOR}")["items"]
    except KubectlError as refused:
        raise KubectlError(
            f"{refused.sentence} That was the look for the gateway's pods; --server URL names a gateway instead.",
            reason=refused.reason,
        ) from refused
    return choose(pods, release=release, place=kubectl.place)


def cluster(given: argparse.Namespace, *, instead: str) -> Kubectl:
    """The API server, for what only it can do. Raises CommandError with --server; `instead`: what to do then."""
    if given.server is not None:
        raise CommandError(f"this needs the API server, and --server names a gateway: {instead}")
    return from_flags(given)


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
