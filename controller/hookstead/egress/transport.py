"""The engine's Transport: one POST per call, through the address policy, over kept connections.

Nothing else in the gateway opens a connection to a receiver. No redirects, cookies, proxies or environment
variables; the whole attempt runs under one deadline.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import resource
import ssl
from typing import TYPE_CHECKING, Final

from hookstead.config.addresses import UrlProblem, allowed_networks, parse_url
from hookstead.delivery.ports import ErrorCode, SendResult
from hookstead.egress.connection import Connection, reason_of
from hookstead.egress.dial import connect_tcp, dial_any
from hookstead.egress.gate import DialDeniedError, Gate, belongs_to_this_host
from hookstead.egress.pool import IDLE_IN_ALL, SWEEP_SECONDS, Lane, Pool
from hookstead.egress.request import UnsendableHeader, render, request_start
from hookstead.egress.tls import TlsContexts, TlsMaterialError

if TYPE_CHECKING:
    from collections.abc import Callable

    from hookstead.delivery.ports import EndpointKey, OutboundRequest
    from hookstead.egress.dial import Connect
    from hookstead.egress.gate import Listeners
    from hookstead.egress.resolver import Resolver

logger: Final = logging.getLogger(__name__)

_OUT_OF_DESCRIPTORS: Final = frozenset({errno.EMFILE, errno.ENFILE})


class HttpTransport:
    """Implements `delivery.ports.Transport` on the running loop."""

    def __init__(
        self,
        *,
        resolver: Resolver,
        allow_loopback: bool,
        own_listeners: Listeners,
        dialler: Connect = connect_tcp,
        is_local: Callable[[str], bool] = belongs_to_this_host,
        pool: Pool | None = None,
    ) -> None:
        """`own_listeners` is asked at every dial. `dialler` and `is_local` are what tests replace."""
        self._resolver = resolver
        self._allow_loopback = allow_loopback
        self._own_listeners = own_listeners
        self._dialler = dialler
        self._is_local = is_local
        self._pool = Pool(idle_in_all=_idle_bound()) if pool is None else pool
        self._contexts = TlsContexts()
        self._sweeper: asyncio.TimerHandle | None = None
        self._closed = False

    async def send(self, request: OutboundRequest) -> SendResult:
        try:
            return await self._send(request)
        except Exception as error:
            # The port's promise: an attempt ends in a result, whatever broke.
            logger.exception("an attempt broke", extra={"action": "egress-broke", "endpoint": request.endpoint.name})
            return SendResult(error=ErrorCode.PROTOCOL, message=f"internal error: {type(error).__name__}")

    @property
    def idle_count(self) -> int:
        """Connections kept open for the next attempt."""
        return self._pool.idle_count

    def forget(self, endpoint: EndpointKey) -> None:
        self._pool.forget(endpoint)

    async def close(self) -> None:
        self._closed = True
        if self._sweeper is not None:
            self._sweeper.cancel()
            self._sweeper = None
        self._pool.clear()
        await self._resolver.close()
        # Two turns of the loop: an aborted transport closes its socket in the next one.
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    # -------------------------------------------------------------------------------------------- one attempt

    async def _send(self, request: OutboundRequest) -> SendResult:
        loop = asyncio.get_running_loop()
        now = loop.time()
        deadline = now + request.timeout_seconds
        lane = self._pool.lane(request)
        if lane is None:
            made = self._make_lane(request)
            if isinstance(made, SendResult):
                return made
            lane = made
        data = render(lane.start, request.headers, request.body)
        if isinstance(data, UnsendableHeader):
            return SendResult(error=ErrorCode.PROTOCOL, message=data.message)
        lane.used = now
        lane.in_flight += 1
        try:
            connection = self._pool.checkout(lane, now)
            if connection is None:
                opened = await self._open(lane, deadline, request.timeout_seconds)
                if isinstance(opened, SendResult):
                    return opened
                connection = opened
            answer = connection.exchange(data, request.timeout_seconds)
            timer = loop.call_at(deadline, connection.expire)
            try:
                result = await answer
            except asyncio.CancelledError:
                connection.abort()
                raise
            finally:
                timer.cancel()
            self._pool.give_back(lane, connection, loop.time())
        finally:
            lane.in_flight -= 1
        if self._sweeper is None and not self._closed:
            self._sweeper = loop.call_later(SWEEP_SECONDS, self._sweep)
        return result

    def _make_lane(self, request: OutboundRequest) -> Lane | SendResult:
        target = parse_url(request.url)
        if isinstance(target, UrlProblem):
            return _denied(f"the URL {target.message}")
        if target.scheme == "http" and not request.policy.plaintext_http:
            return _denied("the URL uses http://, which the environment denies")
        if target.denial is not None:
            return _denied(target.denial)
        gate = Gate(
            allowed=allowed_networks(request.policy.allowed_cidrs, self._allow_loopback),
            allow_loopback=self._allow_loopback,
            listeners=self._own_listeners,
            is_local=self._is_local,
        )
        start = request_start(target.path_and_query, target.authority)
        lane = Lane(url=request.url, policy=request.policy, tls=request.tls, target=target, gate=gate, start=start)
        self._pool.add(request.endpoint, lane)
        return lane

    def _sweep(self) -> None:
        loop = asyncio.get_running_loop()
        self._pool.sweep(loop.time())
        busy = self._pool.lane_count and not self._closed
        self._sweeper = loop.call_later(SWEEP_SECONDS, self._sweep) if busy else None

    # --------------------------------------------------------------------------------------- a new connection

    async def _open(
        self, lane: Lane, deadline: float, timeout_seconds: float, *, again: bool = True
    ) -> Connection | SendResult:
        """Look up, judge every answer, dial, shake hands; all before the deadline."""
        opening = _Opening(lane)
        try:
            async with asyncio.timeout_at(deadline):
                return await self._connect(lane, opening)
        except TimeoutError:
            return SendResult(
                error=ErrorCode.TIMEOUT, message=f"{opening.stage} took longer than {timeout_seconds:g} s"
            )
        except DialDeniedError as error:
            return _denied(f"{lane.target.host}: {error}")
        except (TlsMaterialError, ssl.SSLError, ssl.CertificateError) as error:
            reason = str(error) if isinstance(error, TlsMaterialError) else reason_of(error)
            return SendResult(error=ErrorCode.TLS, message=f"TLS with {lane.target.host}: {reason}")
        except OSError as error:
            if again and error.errno in _OUT_OF_DESCRIPTORS and self._pool.idle_count:
                self._pool.drop_idle()
                await asyncio.sleep(0)
                return await self._open(lane, deadline, timeout_seconds, again=False)
            return SendResult(error=ErrorCode.CONNECT, message=f"{opening.stage}: {reason_of(error)}")

    async def _connect(self, lane: Lane, opening: _Opening) -> Connection | SendResult:
        target = lane.target
        if target.address is not None:
            addresses: tuple[str, ...] = (str(target.address),)
        else:
            opening.stage = f"look-up of {target.host}"
            resolution = await self._resolver.resolve(target.host)
            if resolution.failure or not resolution.addresses:
                return SendResult(error=ErrorCode.DNS, message=resolution.failure or "the name has no address")
            addresses = resolution.addresses
        for address in addresses:
            # One denied answer condemns the look-up: a mixed one is an attack or a mistake, never a receiver.
            reason = lane.gate.denial(address, target.port)
            if reason is not None:
                return _denied(reason if target.is_literal else f"{target.host} resolves to a denied address: {reason}")
        context = await self._contexts.get(lane.tls) if target.scheme == "https" else None
        opening.stage = f"connect to {target.authority}"
        sock = await dial_any(addresses, target.port, gate=lane.gate, connect=self._dialler)
        opening.stage = f"TLS handshake with {target.authority}" if context else opening.stage
        loop = asyncio.get_running_loop()
        try:
            _, connection = await loop.create_connection(
                lambda: Connection(sock, opened=loop.time()),
                sock=sock,
                ssl=context,
                server_hostname=target.host if context else None,
                # Ours ends first: it is the attempt's.
                ssl_handshake_timeout=120.0 if context else None,
                ssl_shutdown_timeout=1.0 if context else None,
            )
        except BaseException:
            sock.close()
            raise
        return connection


class _Opening:
    """How far a new connection has come, for the message of the one that does not arrive."""

    __slots__ = ("stage",)

    def __init__(self, lane: Lane) -> None:
        self.stage = f"connect to {lane.target.authority}"


def _idle_bound() -> int:
    """A quarter of the descriptors at most: the rest is for attempts under way, callers and the store."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return IDLE_IN_ALL if soft == resource.RLIM_INFINITY else min(IDLE_IN_ALL, soft // 4)


def _denied(message: str) -> SendResult:
    return SendResult(error=ErrorCode.ADDRESS_DENIED, message=message)
