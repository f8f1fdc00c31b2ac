"""Mode `none` and `dev`: only this machine may ask, and no web page may ask in its user's name.

A browser can be made to send requests to loopback: by a page of another site (it says so in Origin), or by a name
that resolves to 127.0.0.1 (it shows in Host). Both are refused before anything else happens.
"""

from __future__ import annotations

import functools
import ipaddress

from hookstead.gateway.problems import Problem, ProblemKind, problem


@functools.lru_cache(maxsize=1024)
def is_loopback_host(host: str) -> bool:
    """Whether a name or address without a port means this machine: localhost, 127.0.0.0/8, ::1."""
    name = host.removeprefix("[").removesuffix("]").lower().rstrip(".")
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def foreign(host: str | None, origin: str | None) -> Problem | None:
    """A 403 when Host is not loopback or Origin is another site's, else None."""
    if host is None or not is_loopback_host(without_port(host)):
        return problem(
            ProblemKind.FORBIDDEN,
            "Without authentication this gateway answers only requests whose Host is loopback, such as localhost; "
            "to serve others, run `hookstead gateway` with --auth kubernetes or static.",
        )
    if origin is not None and origin.lower() not in (f"http://{host.lower()}", f"https://{host.lower()}"):
        return problem(
            ProblemKind.FORBIDDEN,
            "Without authentication this gateway answers no page of another origin; to serve others, run "
            "`hookstead gateway` with --auth kubernetes or static.",
        )
    return None


def without_port(authority: str) -> str:
    """The host of `host:port`, `[v6]:port` or either without the port."""
    if authority.startswith("["):
        return authority[: authority.find("]") + 1]
    return authority.rpartition(":")[0] or authority
