"""Which addresses, names and URLs may be dialled: pure judgements, shared by admission and by the socket.

The table is our own: `ipaddress` calls multicast, NAT64 and 6to4 global, 100.64.0.0/10 not private, and
has changed its mind in security releases. What does not parse is denied, never guessed.
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass
from ipaddress import (
    AddressValueError,
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    NetmaskValueError,
    ip_address,
    ip_network,
)
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from hookstead.config.model import EgressPolicy

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

_V4: Final = "IANA IPv4 special-purpose address registry"
_V6: Final = "IANA IPv6 special-purpose address registry"
_V4_SPACE: Final = "IANA IPv4 address space registry"
_V6_SPACE: Final = "IANA IPv6 address space registry"
_CLOUD: Final = "the cloud provider's documentation"


class SpecialRange(NamedTuple):
    """One row of the table. `opens` says whether an allowed CIDR can open it."""

    cidr: str
    what: str
    source: str
    opens: str = "never"


PRIVATE: Final = "allowed-cidrs"
LOOPBACK: Final = "allow-loopback"

SPECIAL_RANGES: Final[tuple[SpecialRange, ...]] = (
    # Metadata services first: they lie inside ranges that may be opened, and stay closed.
    SpecialRange("100.100.100.200/32", "a cloud metadata service", _CLOUD),
    SpecialRange("fd00:ec2::254/128", "a cloud metadata service", _CLOUD),
    SpecialRange("fd20:ce::254/128", "a cloud metadata service", _CLOUD),
    SpecialRange("168.63.129.16/32", "a cloud platform service", _CLOUD),
    SpecialRange("0.0.0.0/8", "this network", _V4),
    SpecialRange("10.0.0.0/8", "private", _V4, PRIVATE),
    SpecialRange("100.64.0.0/10", "shared (carrier-grade NAT)", _V4, PRIVATE),
    SpecialRange("127.0.0.0/8", "loopback", _V4, LOOPBACK),
    SpecialRange("169.254.0.0/16", "link-local", _V4),
    SpecialRange("172.16.0.0/12", "private", _V4, PRIVATE),
    SpecialRange("192.0.0.0/24", "IETF protocol assignments", _V4),
    SpecialRange("192.0.2.0/24", "documentation", _V4),
    SpecialRange("192.31.196.0/24", "AS112 sink", _V4),
    SpecialRange("192.52.193.0/24", "automatic multicast tunnelling", _V4),
    SpecialRange("192.88.99.0/24", "6to4 relay anycast", _V4),
    SpecialRange("192.168.0.0/16", "private", _V4, PRIVATE),
    SpecialRange("192.175.48.0/24", "AS112 sink", _V4),
    SpecialRange("198.18.0.0/15", "benchmarking", _V4),
    SpecialRange("198.51.100.0/24", "documentation", _V4),
    SpecialRange("203.0.113.0/24", "documentation", _V4),
    SpecialRange("224.0.0.0/4", "multicast", _V4_SPACE),
    SpecialRange("240.0.0.0/4", "reserved or broadcast", _V4),
    SpecialRange("::/128", "unspecified", _V6),
    SpecialRange("::1/128", "loopback", _V6, LOOPBACK),
    SpecialRange("::/96", "IPv4-compatible", _V6_SPACE),
    SpecialRange("::ffff:0:0/96", "IPv4-mapped", _V6),
    SpecialRange("::ffff:0:0:0/96", "IPv4-translated", "RFC 2765"),
    SpecialRange("64:ff9b::/96", "NAT64", _V6),
    SpecialRange("64:ff9b:1::/48", "NAT64 (local use)", _V6),
    SpecialRange("100::/64", "discard-only", _V6),
    SpecialRange("100:0:0:1::/64", "dummy prefix", _V6),
    SpecialRange("2001::/32", "Teredo", _V6),
    SpecialRange("2001::/23", "IETF protocol assignments", _V6),
    SpecialRange("2001:db8::/32", "documentation", _V6),
    SpecialRange("2002::/16", "6to4", _V6),
    SpecialRange("2620:4f:8000::/48", "AS112 sink", _V6),
    SpecialRange("3fff::/20", "documentation", _V6),
    SpecialRange("5f00::/16", "segment routing", _V6),
    SpecialRange("fc00::/7", "private (unique local)", _V6, PRIVATE),
    SpecialRange("fe80::/10", "link-local", _V6),
    SpecialRange("fec0::/10", "site-local (deprecated)", _V6_SPACE),
    SpecialRange("ff00::/8", "multicast", _V6_SPACE),
)

_ROWS: Final = tuple((ip_network(row.cidr), row) for row in SPECIAL_RANGES)
_ROWS_V4: Final = tuple((int(n.network_address), int(n.netmask), row) for n, row in _ROWS if n.version == 4)
_ROWS_V6: Final = tuple((int(n.network_address), int(n.netmask), row) for n, row in _ROWS if n.version == 6)
_GLOBAL_UNICAST_V6: Final = IPv6Network("2000::/3")

OPENABLE: Final = "10.0.0.0/8, 172.16.0.0/12, 192.168.0.0/16, 100.64.0.0/10 or fc00::/7"

# -------------------------------------------------------------------------------------------------- addresses


def parse_address(text: str) -> Address | None:
    """The address that `text` spells canonically enough to have one meaning; None for anything else.

    IPv4 in four plain decimal parts; IPv6 in any RFC 4291 spelling, without a zone.
    """
    if not text.isascii() or "%" in text or "/" in text:
        return None
    try:
        return ip_address(text)
    except ValueError:
        return None


def deny_reason(
    address: str | Address, *, allowed: tuple[Network, ...] = (), allow_loopback: bool = False
) -> str | None:
    """Why this address is never dialled, or None when it may be.

    `allowed` opens private ranges only, and loopback only together with `allow_loopback`.
    """
    ip = parse_address(address) if isinstance(address, str) else address
    if ip is None:
        return "not an IP address in canonical form"
    if isinstance(ip, IPv6Address) and ip.scope_id is not None:
        return f"{ip} has a zone"
    row = _special(ip)
    if row is None:
        if isinstance(ip, IPv6Address) and ip not in _GLOBAL_UNICAST_V6:
            return f"{ip} is not global unicast (2000::/3)"
        return None
    if row.opens == PRIVATE or (row.opens == LOOPBACK and allow_loopback):
        if any(ip in network for network in allowed if network.version == ip.version):
            return None
        return f"{ip} is {row.what} ({row.cidr}), and no allowed CIDR covers it"
    if row.opens == LOOPBACK:
        return f"{ip} is {row.what} ({row.cidr}), and this process runs without --allow-loopback"
    return f"{ip} is {row.what} ({row.cidr})"


def _special(ip: Address) -> SpecialRange | None:
    number = int(ip)
    for network, mask, row in _ROWS_V4 if isinstance(ip, IPv4Address) else _ROWS_V6:
        if number & mask == network:
            return row
    return None


# ---------------------------------------------------------------------------------------------- allowed CIDRs

_CIDR: Final = re.compile(r"([0-9A-Fa-f.:]+)/(0|[1-9][0-9]{0,2})")


def parse_allowed(cidrs: tuple[str, ...], allow_loopback: bool) -> tuple[Network, ...] | str:
    """The networks that `spec.egress.allowedCIDRs` opens, or what is wrong with the first bad one."""
    networks: list[Network] = []
    for index, text in enumerate(cidrs):
        network = _parse_cidr(text)
        if isinstance(network, Network):
            problem = _closed_range(network, allow_loopback)
            if problem is None:
                networks.append(network)
                continue
        else:
            problem = network
        return f"allowedCIDRs[{index}]: {text!r} {problem}"
    return tuple(networks)


@functools.lru_cache(maxsize=256)
def allowed_networks(cidrs: tuple[str, ...], allow_loopback: bool) -> tuple[Network, ...]:
    """The networks of a policy as the socket uses them: a CIDR that may not be opened opens nothing."""
    each = (parse_allowed((text,), allow_loopback) for text in cidrs)
    return tuple(network for parsed in each if not isinstance(parsed, str) for network in parsed)


def _parse_cidr(text: str) -> Network | str:
    match = _CIDR.fullmatch(text)
    if match is None:
        address = parse_address(text)
        if address is not None:
            return f'has no prefix length; for one address write "{address}/{address.max_prefixlen}"'
        return 'is not a CIDR; expected a form like "10.20.0.0/16"'
    try:
        loose = ip_network(text, strict=False)
    except (AddressValueError, NetmaskValueError, ValueError):
        return 'is not a CIDR; expected a form like "10.20.0.0/16"'
    if str(loose.network_address) != str(parse_address(match[1])):
        return f'has bits set behind its prefix; did you mean "{loose}"?'
    return loose


def _closed_range(network: Network, allow_loopback: bool) -> str | None:
    for outer, row in _ROWS:
        if outer.version != network.version or not _within(network, outer):
            continue
        if row.opens == PRIVATE or (row.opens == LOOPBACK and allow_loopback):
            return None
        if row.opens == LOOPBACK:
            return "is loopback, which opens only where the process runs with --allow-loopback"
        return f"is {row.what} ({row.cidr}), which is never dialled; allowed are ranges within {OPENABLE}"
    return f"is not within a private range; allowed are ranges within {OPENABLE}"


def _within(inner: Network, outer: Network) -> bool:
    return inner.prefixlen >= outer.prefixlen and inner.network_address in outer


# ------------------------------------------------------------------------------------------------------ hosts

_LABEL: Final = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")
_NUMBER: Final = re.compile(r"[0-9]+|0x[0-9a-f]*")
_INTERNAL_SUFFIXES: Final = ("localhost", "local", "internal", "svc")


def host_denial(host: str) -> str | None:
    """Why this host (not an IP literal) is never looked up, or None when it may be.

    Names that only a search domain, a cluster or a local network could answer, and numbers that some resolver
    would read as an address (`127.1`, `0x7f.1`, `2130706433`).
    """
    labels = host.lower().removesuffix(".").split(".")
    if not all(_LABEL.fullmatch(label) for label in labels):
        return f"{host!r} is not a host name"
    if _NUMBER.fullmatch(labels[-1]):
        return f"{host!r} is not an IPv4 address in canonical form (four decimal numbers without leading zeros)"
    if labels[-1] in _INTERNAL_SUFFIXES:
        return f"{host!r} is a local name (.{labels[-1]}), which is never looked up"
    if len(labels) == 1:
        return f"{host!r} is a single label; write the full name"
    return None


# ------------------------------------------------------------------------------------------------------- URLs


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Where a URL leads. `host` is lower case, without brackets and without a final dot.

    `address` is set for an IP literal; `denial` says why a host name is never dialled, whatever the policy.
    """

    scheme: str
    host: str
    port: int
    path_and_query: str
    address: Address | None = None
    denial: str | None = None

    @property
    def is_literal(self) -> bool:
        return self.address is not None

    @property
    def authority(self) -> str:
        """The Host header's value: brackets around IPv6, the port unless it is the scheme's own."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"


@dataclass(frozen=True, slots=True)
class UrlProblem:
    """Why a text is not a URL that an endpoint can have. `message` repeats no part of it."""

    message: str


DEFAULT_PORTS: Final = {"http": 80, "https": 443}
URL_MAX_LENGTH: Final = 2048
_URL: Final = re.compile(r"(https?)://([^/?#]*)([!-~]*)")
_AUTHORITY: Final = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^:\[\]]*)(?::([0-9]*))?")
_HOST: Final = re.compile(r"[A-Za-z0-9._-]+")


def parse_url(text: str) -> Target | UrlProblem:
    """Take a URL apart, strictly: nothing is decoded, repaired or guessed (contract, section 1)."""
    if not 1 <= len(text) <= URL_MAX_LENGTH:
        return UrlProblem(f"must have 1 to {URL_MAX_LENGTH} characters")
    if not re.fullmatch(r"[!-~]+", text):
        return UrlProblem("must be printable ASCII without spaces; write international names in punycode")
    match = _URL.fullmatch(text)
    if match is None:
        return UrlProblem('must begin with "https://" (or "http://" where the environment allows it)')
    scheme, authority, rest = match.groups()
    if "@" in authority:
        return UrlProblem("must not contain a user name or password; use spec.headers with a Secret")
    if "#" in rest:
        return UrlProblem("must not contain a fragment (#)")
    parts = _AUTHORITY.fullmatch(authority)
    if parts is None:
        return UrlProblem("has a host that is neither a name nor an IP address")
    port = _parse_port(parts[2], scheme)
    if isinstance(port, UrlProblem):
        return port
    path = rest if rest.startswith("/") else f"/{rest}"
    return _with_host(parts[1], scheme=scheme, port=port, path=path)


def _parse_port(text: str | None, scheme: str) -> int | UrlProblem:
    if text is None:
        return DEFAULT_PORTS[scheme]
    if re.fullmatch(r"[1-9][0-9]{0,4}", text) and int(text) <= 65535:
        return int(text)
    return UrlProblem("has a port that is not a number from 1 to 65535")


def _with_host(text: str, *, scheme: str, port: int, path: str) -> Target | UrlProblem:
    if text.startswith("["):
        address = parse_address(text[1:-1])
        if not isinstance(address, IPv6Address):
            return UrlProblem("has brackets around something that is not an IPv6 address")
        return Target(scheme=scheme, host=str(address), port=port, path_and_query=path, address=address)
    if not text:
        return UrlProblem("has no host")
    if not _HOST.fullmatch(text):
        return UrlProblem("has a host with characters that no host name has")
    literal = parse_address(text)
    if literal is not None:
        return Target(scheme=scheme, host=str(literal), port=port, path_and_query=path, address=literal)
    host = text.lower().removesuffix(".")
    if len(host) > 253 or not all(_LABEL.fullmatch(label) for label in host.split(".")):
        return UrlProblem("has a host that is not a valid name (labels of 1 to 63 letters, digits and inner hyphens)")
    return Target(scheme=scheme, host=host, port=port, path_and_query=path, denial=host_denial(host))


def check_url(text: str, policy: EgressPolicy, allow_loopback: bool) -> str | None:
    """What is wrong with an endpoint's URL as far as it can be known offline, or None.

    Judged here: the form, the scheme, a literal address. Names that are never dialled are left to the dial
    (`Target.denial`, error `address-denied`), as is what a name resolves to.
    """
    target = parse_url(text)
    if isinstance(target, UrlProblem):
        return target.message
    if target.scheme == "http" and not policy.plaintext_http:
        return "uses http://, which is denied here; use https://, or set spec.egress.plaintextHTTP: Allow"
    if target.address is not None:
        networks = allowed_networks(policy.allowed_cidrs, allow_loopback)
        reason = deny_reason(target.address, allowed=networks, allow_loopback=allow_loopback)
        if reason is not None:
            return f"leads to an address that is never dialled: {reason}"
    return None
