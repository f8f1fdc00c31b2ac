"""Flags that several serving programs share, and how such a program runs and ends."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from hookstead.cli.flags import Arity, Flag, address, bounded, namespace, whole

if TYPE_CHECKING:
    from collections.abc import Sequence

GIB_LIMIT: Final = 1 << 50
"""Bytes; no size on a command line is larger."""


def listen(name: str, default: str, what: str) -> Flag:
    """A flag for a listener's address."""
    return Flag(
        name=name,
        metavar="HOST:PORT",
        parse=address,
        default=address(default),
        default_text=default,
        help=f"{what}; an empty host is every interface, port 0 a free port",
    )


def resolver(text: str) -> str:
    """A name server's address. Raises ValueError."""
    from hookstead.egress.resolver import parse_server  # loads c-ares: only where the flag is given

    return parse_server(text)


def no_password(url: str) -> None:
    """Raises ValueError for a store's address that holds a password, without repeating it."""
    from hookstead.store.address import has_password

    if has_password(url):
        raise ValueError(
            "a password must not stand on the command line, where every user of the machine reads it: give the whole "
            "URL in HOOKSTEAD_STORE, or the password alone in PGPASSWORD, or in a file that PGPASSFILE names"
        )


NAMESPACE: Final = Flag(
    name="namespace", parse=namespace, default="default", help="the namespace, which is the environment"
)
KUBECONFIG: Final = Flag(
    name="kubeconfig",
    metavar="FILE",
    parse=Path,
    help="how to reach the API server",
    default_text="KUBECONFIG, else the pod's ServiceAccount, else ~/.kube/config",
)
DRAIN: Final = Flag(
    name="drain-seconds",
    metavar="SECONDS",
    parse=bounded(minimum=0, maximum=3600, unit="seconds"),
    default=25.0,
    default_text="25",
    help="how long a stop waits for what is in flight, in seconds",
)
RESOLVER: Final = Flag(
    name="resolver",
    metavar="ADDR",
    arity=Arity.MANY,
    parse=resolver,
    default=(),
    default_text="the system's",
    help="a name server for look-ups of receivers, as IP or IP:PORT",
)
ALLOW_LOOPBACK: Final = Flag(
    name="allow-loopback",
    arity=Arity.SWITCH,
    default=False,
    help="let spec.egress.allowedCIDRs open loopback addresses too; for tests and development only",
)
LOG_FORMAT: Final = Flag(
    name="log-format", choices=("text", "json"), default="text", help="log lines on stderr as text or JSON"
)


def size(name: str, *, minimum: int, help_text: str, default: int | None = None, shown: str = "") -> Flag:
    """A flag for a number of bytes."""
    return Flag(
        name=name,
        metavar="BYTES",
        parse=whole(minimum=minimum, maximum=GIB_LIMIT, unit="bytes"),
        default=default,
        default_text=shown or None,
        help=f"{help_text}, in bytes",
    )


def joined(addresses: Sequence[tuple[str, int]]) -> str:
    """Addresses as people write them."""
    return ", ".join(f"[{host}]:{port}" if ":" in host else f"{host or '*'}:{port}" for host, port in addresses)
