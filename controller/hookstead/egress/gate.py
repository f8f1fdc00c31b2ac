"""The last question before a dial: may this process connect to this address and port?"""

from __future__ import annotations

import socket
from collections.abc import Callable, Collection
from dataclasses import dataclass
from ipaddress import IPv6Address

from hookstead.config.addresses import Network, deny_reason, parse_address

Listeners = Callable[[], Collection[tuple[str, int]]]
"""The (address, port) pairs on which this process listens; a wildcard address stands for every local one."""


class DialDeniedError(Exception):
    """The address policy, or the process's own listeners, forbid this dial. Its text is for people."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """One policy, ready to be asked. `is_local` tells whether an address belongs to this host."""

    allowed: tuple[Network, ...]
    allow_loopback: bool
    listeners: Listeners
    is_local: Callable[[str], bool]

    def denial(self, address: str, port: int) -> str | None:
        """Why (address, port) is never dialled, or None when it may be."""
        reason = deny_reason(address, allowed=self.allowed, allow_loopback=self.allow_loopback)
        if reason is not None:
            return reason
        for host, listening in self.listeners():
            if listening == port and self._reaches(address, host):
                return f"{address} port {port} is a listener of this process"
        return None

    def _reaches(self, address: str, host: str) -> bool:
        """Whether a dial of `address` arrives at a listener on `host`; a name counts as a wildcard."""
        listener = parse_address(host)
        if listener is None or listener.is_unspecified:
            return self.is_local(address)
        mapped = listener.ipv4_mapped if isinstance(listener, IPv6Address) else None
        return (mapped or listener) == parse_address(address)


def belongs_to_this_host(address: str) -> bool:
    """Whether the kernel lets us bind to it: true for own addresses and loopback. Sends nothing."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((address, 0))
    except OSError:
        return False
    return True
