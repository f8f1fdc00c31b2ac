"""A tiny authoritative DNS server over UDP on loopback: answers by a table, stays silent where told to."""

from __future__ import annotations

import asyncio
import contextlib
import struct
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Final, cast

A: Final = 1
CNAME: Final = 5
AAAA: Final = 28


@dataclass
class Zone:
    """What the server knows. Names are absolute, lower case, without the final dot.

    A name in `silent` (or below one) gets no answer at all; one in `broken` gets SERVFAIL; an unknown one NXDOMAIN.
    """

    addresses: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    aliases: Mapping[str, str] = field(default_factory=dict)
    silent: tuple[str, ...] = ()
    broken: tuple[str, ...] = ()
    ttl: int = 30
    asked: list[tuple[str, int]] = field(default_factory=list)


class _Server(asyncio.DatagramProtocol):
    def __init__(self, zone: Zone) -> None:
        self._zone = zone
        self._transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        name, kind, question = _question(data)
        self._zone.asked.append((name, kind))
        if any(name == silent or name.endswith(f".{silent}") for silent in self._zone.silent):
            return
        assert self._transport is not None
        self._transport.sendto(_answer(self._zone, data[:2], question, name=name, kind=kind), addr)


def _question(data: bytes) -> tuple[str, int, bytes]:
    labels, at = [], 12
    while data[at]:
        labels.append(data[at + 1 : at + 1 + data[at]].decode("ascii"))
        at += 1 + data[at]
    (kind,) = struct.unpack_from("!H", data, at + 1)
    return ".".join(labels).lower(), kind, data[12 : at + 5]


def _answer(zone: Zone, ident: bytes, question: bytes, *, name: str, kind: int) -> bytes:
    records: list[bytes] = []
    owner = b"\xc0\x0c"
    if name in zone.aliases:
        target = _wire_name(zone.aliases[name])
        records.append(_record(owner, CNAME, zone.ttl, target))
        name = zone.aliases[name]
        owner = target
    version = {A: 4, AAAA: 6}.get(kind)
    known = map(ip_address, zone.addresses.get(name, ()))
    records += [_record(owner, kind, zone.ttl, ip.packed) for ip in known if ip.version == version]
    code = 2 if name in zone.broken else 0 if name in zone.addresses else 3
    header = ident + struct.pack("!HHHHH", 0x8580 | code, 1, len(records), 0, 0)
    return header + question + b"".join(records)


def _record(owner: bytes, kind: int, ttl: int, data: bytes) -> bytes:
    return owner + struct.pack("!HHIH", kind, 1, ttl, len(data)) + data


def _wire_name(name: str) -> bytes:
    return b"".join(bytes([len(label)]) + label.encode() for label in name.split(".")) + b"\0"


@contextlib.asynccontextmanager
async def nameserver(zone: Zone) -> AsyncIterator[str]:
    """Serve the zone; gives `ADDR:PORT`."""
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(lambda: _Server(zone), local_addr=("127.0.0.1", 0))
    host, port = transport.get_extra_info("sockname")
    try:
        yield f"{host}:{port}"
    finally:
        transport.close()
        await asyncio.sleep(0)
