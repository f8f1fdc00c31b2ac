"""The operator's side of the internal port: push the configuration to every live gateway, poll what they report."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import aiohttp

from hookstead import __version__
from hookstead.operator.link import UNAUTHORISED, GatewayProblem, Link

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterable

    from hookstead.config.model import Epoch
    from hookstead.config.report import Report
    from hookstead.operator.programming import Member

INTERNAL_NAME: Final = "hookstead-internal"
"""The name that a gateway's certificate is for, whatever address was dialled."""
ANSWER_LIMIT: Final = 128 * 1024 * 1024

log: Final = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Package:
    """A configuration on its way: `body` is the gzip of the encoded configuration, `digest` that of the plain one."""

    body: bytes = field(repr=False)
    digest: str
    epoch: Epoch

    @property
    def epoch_text(self) -> str:
        return f"{self.epoch.term}.{self.epoch.sequence}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """What both sides share: the bearer token, and the CA for https (None: only loopback, in plain HTTP).

    `former_token`: a gateway whose mount has not followed yet still takes that one.
    """

    token: str = field(default="", repr=False)
    tls: ssl.SSLContext | None = None
    former_token: str = field(default="", repr=False)

    @property
    def tokens(self) -> tuple[str, ...]:
        """In the order in which they are tried."""
        return (self.token, self.former_token) if self.former_token else (self.token,)


@dataclass(frozen=True, slots=True, kw_only=True)
class Listeners:
    """Whom a link tells. All are called on the event loop and must be quick.

    `changed`: what a gateway runs, or whether it answers, is different now. `reported`: a report came in.
    `superseded`: a gateway refused our epoch for this newer one. `refused`: it did not take our token, or we did not
    take its certificate, so that the internal Secret may be another by now.
    """

    changed: Callable[[], None]
    reported: Callable[[str, Report], None]
    superseded: Callable[[Epoch], None]
    refused: Callable[[], None]


class Gateways:
    """All live gateways by address (base URL)."""

    def __init__(
        self,
        *,
        credentials: Callable[[], Credentials],
        listeners: Listeners,
        monotonic: Callable[[], float],
        may_write: Callable[[], None],
    ) -> None:
        self._credentials: Final = credentials
        self._listeners: Final = listeners
        self._monotonic: Final = monotonic
        self._may_write: Final = may_write
        self._links: dict[str, Link] = {}
        self._package: Package | None = None
        self._session: aiohttp.ClientSession | None = None

    def set_live(self, addresses: Iterable[str]) -> None:
        """Exactly these gateways are live now."""
        wanted = frozenset(addresses)
        gone = [address for address in self._links if address not in wanted]
        new = sorted(wanted - frozenset(self._links))
        for address in gone:
            self._links.pop(address).close()
        for address in new:
            link = self._links[address] = Link(address, self)
            link.start()
        if gone or new:
            log.info("live gateways changed", extra={"action": "gateways", "added": new, "removed": sorted(gone)})
            self._listeners.changed()

    def publish(self, package: Package) -> None:
        """Every link pushes this one from now on."""
        self._package = package
        for link in self._links.values():
            link.wake.set()

    def members(self) -> tuple[Member, ...]:
        """The live gateways as they are known now, by address."""
        return tuple(link.member() for _, link in sorted(self._links.items()))

    async def close(self) -> None:
        """Stop every link."""
        for link in self._links.values():
            link.close()
        self._links.clear()
        if self._session is not None:
            await self._session.close()

    # For the links.

    @property
    def package(self) -> Package | None:
        return self._package

    @property
    def listeners(self) -> Listeners:
        return self._listeners

    def now(self) -> float:
        return self._monotonic()

    def check_leadership(self) -> None:
        self._may_write()

    async def exchange(
        self,
        method: str,
        url: str,
        *,
        seconds: float,
        headers: dict[str, str] | None = None,
        body: bytes | None = None,
    ) -> tuple[int, bytes]:
        """One request to an internal port: status and body. Raises GatewayProblem."""
        credentials = self._credentials()
        parts = urlsplit(url)
        secure = parts.scheme == "https"
        if not secure and not _is_loopback(parts.hostname or ""):
            raise GatewayProblem("plain HTTP is for loopback only, the configuration carries keys: use https.")
        if secure and credentials.tls is None:
            raise GatewayProblem("the internal Secret has no ca.crt to verify it by.")
        if not credentials.token:
            raise GatewayProblem("the internal Secret has no token yet.")
        tls: dict[str, Any] = {"ssl": credentials.tls, "server_hostname": INTERNAL_NAME} if secure else {}
        status, answer = 0, b""
        try:
            async with asyncio.timeout(seconds):
                for token in credentials.tokens:
                    told = {"authorization": f"Bearer {token}", **(headers or {})}
                    status, answer = await self._ask(method, url, data=body, headers=told, **tls)
                    if status not in UNAUTHORISED:
                        break
        except TimeoutError as error:
            raise GatewayProblem(f"no answer within {seconds:.0f} s.") from error
        except (aiohttp.ClientError, OSError) as error:
            if isinstance(error, aiohttp.ClientSSLError):
                self._listeners.refused()
            raise GatewayProblem(f"{_reason(error)}.") from error
        if status in UNAUTHORISED:
            self._listeners.refused()
        return status, answer

    async def _ask(self, method: str, url: str, **more: Any) -> tuple[int, bytes]:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                trust_env=False, headers={"user-agent": f"hookstead-operator/{__version__}"}
            )
        async with self._session.request(method, url, allow_redirects=False, **more) as response:
            return response.status, await _bounded(response)


async def _bounded(response: aiohttp.ClientResponse) -> bytes:
    body = bytearray()
    async for chunk in response.content.iter_chunked(256 * 1024):
        body += chunk
        if len(body) > ANSWER_LIMIT:
            raise GatewayProblem(f"its answer is longer than {ANSWER_LIMIT} bytes.")
    return bytes(body)


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return False


def _reason(error: Exception) -> str:
    """One line, without the address that the message already has."""
    inner = getattr(error, "os_error", None) or error
    text = getattr(inner, "strerror", None) or str(inner) or type(error).__name__
    return " ".join(str(text).split())[:200]
