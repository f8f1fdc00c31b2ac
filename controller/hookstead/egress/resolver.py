"""Names to addresses: absolute, with a deadline, each name on its own so that a stalled zone delays no other.

c-ares asks the DNS servers only (`query`, neither `search` nor `getaddrinfo`): no search domain, no hosts
file, no thread pool. Names that policy refuses never get here (`addresses.host_denial`).
"""

from __future__ import annotations

import asyncio
import re
import time
from collections import OrderedDict
from dataclasses import dataclass
from ipaddress import ip_address
from typing import TYPE_CHECKING, Final, Protocol

import aiodns
import pycares

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

LOOK_UP_SECONDS: Final = 5.0
"""No answer after that long is a failure of the look-up; c-ares asks again after 1 and after 3 s."""
SECOND_FAMILY_SECONDS: Final = 0.3
"""How long an answer of one family waits for the other's, so that a mixed answer is seen whole."""
TTL_FLOOR: Final = 1.0
"""Failures and answers that say 0 are kept that long: a name is asked for once a second at most."""
TTL_CEILING: Final = 60.0
"""Ours; c-ares beneath keeps what it was told (1 h at most), so a long TTL is honoured without a packet."""
CACHE_SIZE: Final = 10_000
PACE_SECONDS: Final = 0.000_2
PACE_BURST_SECONDS: Final = 0.004
"""Look-ups start 0.2 ms apart once 20 went at once: a cold start with 1,000 names must not overrun the UDP buffers,
where a lost question costs its name a whole second."""
ADDRESS_LIMIT: Final = 32
"""Addresses that are kept of one answer; an answer with more is refused, so that none goes unchecked."""


@dataclass(frozen=True, slots=True)
class Resolution:
    """What a look-up gave: addresses in canonical text, IPv4 first, or the reason why there are none."""

    addresses: tuple[str, ...] = ()
    failure: str = ""


class Resolver(Protocol):
    async def resolve(self, host: str) -> Resolution:
        """Look up an absolute name (given without its final dot). Never raises but for cancellation."""

    async def close(self) -> None:
        """Give up every look-up under way."""


@dataclass(frozen=True, slots=True)
class _Cached:
    resolution: Resolution
    expires: float


@dataclass(frozen=True, slots=True)
class _Family:
    """One record type's answer: addresses and the seconds they may be kept, a failure, or neither (no such record)."""

    addresses: tuple[str, ...] = ()
    ttl: float = TTL_FLOOR
    failure: str = ""


class CaresResolver:
    """The real one. One look-up per name at a time, shared by all who wait; answers live for their TTL."""

    def __init__(
        self,
        *,
        servers: Sequence[str] = (),
        look_up_seconds: float = LOOK_UP_SECONDS,
        ttl_floor: float = TTL_FLOOR,
        ttl_ceiling: float = TTL_CEILING,
        cache_size: int = CACHE_SIZE,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """`servers` as `parse_server` gives them; none means those of resolv.conf."""
        self._servers = tuple(servers)
        self._look_up_seconds = look_up_seconds
        self._ttl_floor = ttl_floor
        self._ttl_ceiling = ttl_ceiling
        self._cache_size = cache_size
        self._monotonic = monotonic
        self._cache: OrderedDict[str, _Cached] = OrderedDict()
        self._flights: dict[str, asyncio.Task[Resolution]] = {}
        self._next_start = 0.0
        self._channel: aiodns.DNSResolver | None = None

    async def resolve(self, host: str) -> Resolution:
        cached = self._cache.get(host)
        if cached is not None and cached.expires > self._monotonic():
            self._cache.move_to_end(host)
            return cached.resolution
        flight = self._flights.get(host)
        if flight is None:
            flight = asyncio.create_task(self._fly(host), name=f"look up {host}")
            self._flights[host] = flight
        try:
            # Shielded: a caller whose own deadline passes must not end the look-up of the others.
            return await asyncio.shield(flight)
        except asyncio.CancelledError:
            caller = asyncio.current_task()
            if flight.cancelled() and caller is not None and not caller.cancelling():
                return Resolution(failure=f"look-up of {host}: the resolver was closed")
            raise

    async def close(self) -> None:
        flights = tuple(self._flights.values())
        for flight in flights:
            flight.cancel()
        await asyncio.gather(*flights, return_exceptions=True)
        channel, self._channel = self._channel, None
        if channel is not None:
            await channel.close()

    async def _fly(self, host: str) -> Resolution:
        try:
            await self._pace()
            resolution, ttl = await self._look_up(host)
            self._remember(host, resolution, ttl)
            return resolution
        finally:
            del self._flights[host]

    async def _pace(self) -> None:
        now = asyncio.get_running_loop().time()
        start = max(self._next_start, now)
        self._next_start = start + PACE_SECONDS
        if start - now > PACE_BURST_SECONDS:
            await asyncio.sleep(start - now)

    def _remember(self, host: str, resolution: Resolution, ttl: float) -> None:
        kept = min(max(ttl, self._ttl_floor), self._ttl_ceiling)
        self._cache[host] = _Cached(resolution, self._monotonic() + kept)
        self._cache.move_to_end(host)
        while len(self._cache) > self._cache_size:
            self._cache.popitem(last=False)

    async def _look_up(self, host: str) -> tuple[Resolution, float]:
        """Both families at once. One that fails while the other answers is as good as absent."""
        tasks = [asyncio.create_task(self._ask(host, kind)) for kind in ("A", "AAAA")]
        try:
            done, pending = await asyncio.wait(
                tasks, timeout=self._look_up_seconds, return_when=asyncio.FIRST_COMPLETED
            )
            if pending and done:
                answered = any(task.result().addresses for task in done)
                await asyncio.wait(pending, timeout=SECOND_FAMILY_SECONDS if answered else self._look_up_seconds)
            return self._join(host, [task.result() for task in tasks if task.done()])
        finally:
            for task in tasks:
                task.cancel()

    def _join(self, host: str, families: Sequence[_Family]) -> tuple[Resolution, float]:
        good = [family for family in families if family.addresses]
        addresses = tuple(address for family in good for address in family.addresses)
        if len(addresses) > ADDRESS_LIMIT:
            return Resolution(failure=f"{host} has more than {ADDRESS_LIMIT} addresses"), TTL_FLOOR
        if addresses:
            return Resolution(addresses), min(family.ttl for family in good)
        failures = [family.failure for family in families if family.failure]
        if failures:
            return Resolution(failure=f"look-up of {host}: {failures[0]}"), TTL_FLOOR
        if len(families) == 2:
            return Resolution(failure=f"look-up of {host}: the name has no address"), TTL_FLOOR
        seconds = f"{self._look_up_seconds:g}"
        return Resolution(failure=f"look-up of {host}: no answer within {seconds} s"), TTL_FLOOR

    async def _ask(self, host: str, kind: str) -> _Family:
        try:
            result = await self._open().query_dns(f"{host}.", kind)
        except (aiodns.error.DNSError, pycares.AresError) as error:
            return _failed(error.args[0] if error.args else 0)
        records = result.answer
        wanted = [record.data.addr for record in records if hasattr(record.data, "addr")]
        if not wanted:
            return _Family()
        # Canonical text, so that a check and a dial of it cannot read it differently.
        addresses = tuple(str(ip_address(text)) for text in wanted)
        return _Family(addresses, ttl=float(min(record.ttl for record in records)))

    def _open(self) -> aiodns.DNSResolver:
        if self._channel is None:
            self._channel = aiodns.DNSResolver(
                nameservers=list(self._servers) or None,
                timeout=1.0,
                tries=3,
                # The final dot says so already: no search list, no aliases. EDNS spares large answers TCP.
                flags=pycares.ARES_FLAG_NOSEARCH | pycares.ARES_FLAG_NOALIASES | pycares.ARES_FLAG_EDNS,
            )
        return self._channel


_SAYINGS: Final = {
    aiodns.error.ARES_ENOTFOUND: "no such name (NXDOMAIN)",
    aiodns.error.ARES_ESERVFAIL: "the name server failed (SERVFAIL)",
    aiodns.error.ARES_EREFUSED: "the name server refused (REFUSED)",
    aiodns.error.ARES_ETIMEOUT: "no answer from the name server",
    aiodns.error.ARES_ECONNREFUSED: "the name server cannot be reached",
}


def _failed(code: int) -> _Family:
    if code == aiodns.error.ARES_ENODATA:
        return _Family()
    return _Family(failure=_SAYINGS.get(code) or f"it failed (c-ares error {code})")


_SERVER: Final = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([0-9.]+))(?::([1-9][0-9]{0,4}))?")


def parse_server(text: str) -> str:
    """`ADDR[:PORT]` of `--resolver`, IPv6 in brackets when a port follows; in the form that c-ares takes.

    Raises ValueError with a message for a person.
    """
    bare = f"[{text}]" if text.count(":") > 1 and not text.startswith("[") else text
    match = _SERVER.fullmatch(bare)
    try:
        if match is None:
            raise ValueError(text)
        address = ip_address(match[1] or match[2])
        port = int(match[3] or 53)
        if port > 65535:
            raise ValueError(text)
    except ValueError:
        raise ValueError(
            f'{text!r} is not a name server; expected an IP address and perhaps a port, like "10.0.0.53:53"'
        ) from None
    return f"[{address}]:{port}" if address.version == 6 else f"{address}:{port}"
