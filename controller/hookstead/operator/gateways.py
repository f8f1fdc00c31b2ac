"""The operator's side of the internal port: push the configuration to every live gateway, poll what they report.

One link per gateway, each with a pusher and a poller, so that a gateway that hangs delays no other. A gateway
counts as unavailable once it has failed to answer for UNAVAILABLE_SECONDS; a restart shorter than that is no event.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote, urlsplit

import aiohttp
import msgspec

from hookstead import __version__
from hookstead.config.model import Epoch
from hookstead.config.report import Report, Running
from hookstead.operator.lease import LeaseLost
from hookstead.operator.programming import Member

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterable

INTERNAL_NAME: Final = "hookstead-internal"
"""The name that a gateway's certificate is for, whatever address was dialled."""
UNAVAILABLE_SECONDS: Final = 1.0
POLL_SECONDS: Final = 5
POLL_GRACE_SECONDS: Final = 3.0
BREATHER_SECONDS: Final = 0.3
BREATHER_CEILING_SECONDS: Final = 5.0
PAGE_BREATHER_SECONDS: Final = 0.2
"""Between two pages of one report, for the events that both sides have to see to."""
PUSH_SECONDS: Final = 30.0
RETRY_FLOOR_SECONDS: Final = 0.2
RETRY_CEILING_SECONDS: Final = 1.0
UNAUTHORISED: Final = (401, 403)
ANSWER_LIMIT: Final = 128 * 1024 * 1024

log: Final = logging.getLogger(__name__)
_REPORT: Final = msgspec.json.Decoder(Report)
_RUNNING: Final = msgspec.json.Decoder(Running)


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


class GatewayProblem(Exception):
    """A gateway did not do it; the message is for people, without the address."""


class Superseded(GatewayProblem):
    """The gateway runs a newer epoch."""

    def __init__(self, running: Running) -> None:
        epoch = running.epoch
        super().__init__(f"it runs a newer epoch ({epoch.term}.{epoch.sequence}).")
        self.running: Final = running


class Refused(GatewayProblem):
    """The gateway answered, and did not do it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Listeners:
    """Whom a link tells. All are called on the event loop and must be quick.

    `changed`: what a gateway runs, or whether it answers, is different now. `reported`: a report came in.
    `superseded`: a gateway refused our epoch for this newer one. `refused`: it did not take our token.
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
        self._links: dict[str, _Link] = {}
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
            link = self._links[address] = _Link(address, self)
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
            raise GatewayProblem(f"{_reason(error)}.") from error
        return status, answer

    async def _ask(self, method: str, url: str, **more: Any) -> tuple[int, bytes]:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                trust_env=False, headers={"user-agent": f"hookstead-operator/{__version__}"}
            )
        async with self._session.request(method, url, allow_redirects=False, **more) as response:
            return response.status, await _bounded(response)


class _Link:
    """One gateway."""

    def __init__(self, address: str, fleet: Gateways) -> None:
        self.address: Final = address
        self.wake: Final = asyncio.Event()
        self._fleet: Final = fleet
        self._tasks: list[asyncio.Task[None]] = []
        self._running: Running | None = None
        self._problem = ""
        self._refusal = ""
        self._failing_since: float | None = None
        self._failure = ""
        self._verdict: asyncio.TimerHandle | None = None

    def start(self) -> None:
        self._tasks = [
            asyncio.create_task(self._push_forever(), name=f"push {self.address}"),
            asyncio.create_task(self._poll_forever(), name=f"poll {self.address}"),
        ]

    def close(self) -> None:
        if self._verdict is not None:
            self._verdict.cancel()
        for task in self._tasks:
            task.cancel()

    def member(self) -> Member:
        running = self._running
        return Member(
            address=self.address,
            hash=running.hash if running else "",
            version=running.version if running else "",
            problem=self._problem,
            refusal=self._refusal,
        )

    async def _push_forever(self) -> None:
        retry = RETRY_FLOOR_SECONDS
        while True:
            await self.wake.wait()
            self.wake.clear()
            package = self._fleet.package
            if package is None or self._runs(package):
                continue
            try:
                await self._push(package)
                retry = RETRY_FLOOR_SECONDS
            except Superseded as superseded:
                self._refusal = str(superseded)
                self._learn(superseded.running)
                self._fleet.listeners.superseded(superseded.running.epoch)
            except Refused as refused:
                # It is there, so the poller calls it available; but it stays behind.
                self._refusal = str(refused)
                retry = await self._pause(retry)
            except GatewayProblem as problem:
                self._failed(str(problem))
                retry = await self._pause(retry)
            except LeaseLost:
                # The elector ends the process if that is so. Where it renews after all (a process that was stopped
                # and had no rival), this link must still be there to push.
                retry = await self._pause(retry)

    async def _pause(self, retry: float) -> float:
        """Wait before the next try; the wait after that."""
        await asyncio.sleep(retry * random.uniform(0.8, 1.2))  # noqa: S311  (jitter, no secret)
        self.wake.set()
        return min(retry * 2, RETRY_CEILING_SECONDS)

    def _runs(self, package: Package) -> bool:
        running = self._running
        return running is not None and running.hash == package.digest and running.epoch >= package.epoch

    async def _push(self, package: Package) -> None:
        self._fleet.check_leadership()
        status, body = await self._fleet.exchange(
            "PUT",
            f"{self.address}/internal/v1/config",
            seconds=PUSH_SECONDS,
            headers={
                "content-type": "application/json",
                "content-encoding": "gzip",
                "hookstead-epoch": package.epoch_text,
                "hookstead-hash": package.digest,
            },
            body=package.body,
        )
        if status == 409:
            raise Superseded(_decoded(_RUNNING, body))
        self._expect_ok(status, body)
        self._refusal = ""
        self._answered()
        self._learn(_decoded(_RUNNING, body))

    async def _poll_forever(self) -> None:
        cursor, more = "", False
        retry = RETRY_FLOOR_SECONDS
        while True:
            try:
                cursor, more = await self._poll(cursor, more=more)
                retry = RETRY_FLOOR_SECONDS
            except GatewayProblem as problem:
                self._failed(str(problem))
                await asyncio.sleep(retry * random.uniform(0.8, 1.2))  # noqa: S311  (jitter, no secret)
                retry = min(retry * 2, RETRY_CEILING_SECONDS)

    async def _poll(self, cursor: str, *, more: bool) -> tuple[str, bool]:
        # The first question is answered at once, and so is one for the rest; later ones when something has happened.
        wait = POLL_SECONDS if cursor and not more else 0
        query = f"?after={quote(cursor, safe='')}&waitSeconds={wait}" if cursor else ""
        status, body = await self._fleet.exchange(
            "GET", f"{self.address}/internal/v1/report{query}", seconds=wait + POLL_GRACE_SECONDS
        )
        self._expect_ok(status, body)
        report: Report = _decoded(_REPORT, body)
        self._answered()
        self._learn(report.running)
        self._fleet.listeners.reported(self.address, report)
        await asyncio.sleep(_breather(report))
        return report.cursor, report.more

    def _expect_ok(self, status: int, body: bytes) -> None:
        if status in UNAUTHORISED:
            self._fleet.listeners.refused()
            raise GatewayProblem("it does not take the token of the internal Secret.")
        if status != 200:
            words = body[:200].decode("utf-8", errors="replace")
            raise Refused(f"it answered {status}: {words}")

    def _learn(self, running: Running) -> None:
        before, self._running = self._running, running
        package = self._fleet.package
        if package is not None and not self._runs(package):
            self.wake.set()
        if before is None or (before.hash, before.instance, before.version) != (
            running.hash,
            running.instance,
            running.version,
        ):
            self._fleet.listeners.changed()

    def _answered(self) -> None:
        self._failing_since = None
        if self._verdict is not None:
            self._verdict.cancel()
            self._verdict = None
        if self._problem:
            self._problem = ""
            log.info("gateway answers again", extra={"action": "gateway-up", "gateway": self.address})
            self._fleet.listeners.changed()

    def _failed(self, problem: str) -> None:
        self._failure = problem
        if self._problem:
            self._problem = problem
            return
        if self._failing_since is None:
            self._failing_since = self._fleet.now()
            loop = asyncio.get_running_loop()
            self._verdict = loop.call_later(UNAVAILABLE_SECONDS, self._declare_unavailable)

    def _declare_unavailable(self) -> None:
        self._verdict = None
        if self._failing_since is None:
            return
        self._problem = self._failure
        log.warning(
            "gateway does not answer",
            extra={"action": "gateway-down", "gateway": self.address, "error": self._failure},
        )
        self._fleet.listeners.changed()


def _breather(report: Report) -> float:
    """Seconds before the next poll: under load every poll is answered at once, and a large answer costs both sides."""
    if report.more:
        return PAGE_BREATHER_SECONDS
    return min(BREATHER_SECONDS + len(report.endpoints) / 1000, BREATHER_CEILING_SECONDS)


def _decoded(decoder: Any, body: bytes) -> Any:
    try:
        return decoder.decode(body)
    except (msgspec.DecodeError, msgspec.ValidationError) as error:
        raise GatewayProblem(f"its answer does not parse: {error}") from error


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
