"""A transport to try receivers with: loopback only, names answered by a table, every dial recorded."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from hookstead.config.model import EgressPolicy, TlsMaterial
from hookstead.delivery.ports import EndpointKey, OutboundRequest
from hookstead.egress.dial import connect_tcp
from hookstead.egress.pool import Pool
from hookstead.egress.resolver import Resolution
from hookstead.egress.transport import HttpTransport

if TYPE_CHECKING:
    from collections.abc import Collection

LOOPBACK: Final = EgressPolicy(plaintext_http=True, allowed_cidrs=("127.0.0.0/8", "::1/128"))
ENDPOINT: Final = EndpointKey("acme-orders", "uid-1")
HEADERS: Final = (("content-type", "application/json"), ("webhook-id", "msg_1"))
BODY: Final = b'{"type":"order.paid"}'


@dataclass
class TableResolver:
    """Answers from a table; a name outside it does not exist. `asked` keeps every question."""

    table: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    closed: bool = False

    async def resolve(self, host: str) -> Resolution:
        self.asked.append(host)
        addresses = self.table.get(host, ())
        return Resolution(addresses) if addresses else Resolution(failure=f"look-up of {host}: no such name")

    async def close(self) -> None:
        self.closed = True


@dataclass
class RecordingDialler:
    """Notes where a dial would go and goes to a loopback port instead; refuses where it has none."""

    to_port: int | None = None
    dialled: list[tuple[str, int]] = field(default_factory=list)

    async def __call__(self, address: str, port: int) -> socket.socket:
        self.dialled.append((address, port))
        if self.to_port is None:
            raise ConnectionRefusedError(111, "Connection refused")
        return await connect_tcp("127.0.0.1", self.to_port)


async def loopback_only(address: str, port: int) -> socket.socket:
    """The real dial, with a last net under every test: nothing beyond loopback."""
    assert address == "::1" or address.startswith("127."), f"a test tried to dial {address}"
    return await connect_tcp(address, port)


@contextlib.asynccontextmanager
async def sending(
    *,
    names: Mapping[str, tuple[str, ...]] | None = None,
    dialler: RecordingDialler | None = None,
    listeners: Collection[tuple[str, int]] = (),
    allow_loopback: bool = True,
    pool: Pool | None = None,
) -> AsyncIterator[HttpTransport]:
    """A transport, closed behind the block."""
    transport = HttpTransport(
        resolver=TableResolver(names or {}),
        allow_loopback=allow_loopback,
        own_listeners=lambda: listeners,
        dialler=dialler or loopback_only,
        pool=pool,
    )
    try:
        yield transport
    finally:
        await transport.close()
        await asyncio.sleep(0)


def outbound(
    url: str,
    *,
    policy: EgressPolicy = LOOPBACK,
    endpoint: EndpointKey = ENDPOINT,
    headers: tuple[tuple[str, str], ...] = HEADERS,
    body: bytes = BODY,
    timeout_seconds: float = 5.0,
    tls: TlsMaterial | None = None,
) -> OutboundRequest:
    return OutboundRequest(
        endpoint=endpoint,
        url=url,
        headers=headers,
        body=body,
        timeout_seconds=timeout_seconds,
        policy=policy,
        tls=tls,
    )
