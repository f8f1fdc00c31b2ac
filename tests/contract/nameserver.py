"""A name server on loopback in a thread of its own: answers by a table, NXDOMAIN otherwise."""

from __future__ import annotations

import socket
import struct
import threading
from ipaddress import ip_address
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

_TYPES = {1: 4, 28: 6}


class Nameserver:
    """`addresses` by absolute name, lower case, without the final dot; names in `silent` get no answer."""

    def __init__(self, addresses: Mapping[str, tuple[str, ...]], *, silent: tuple[str, ...] = ()) -> None:
        self.addresses = dict(addresses)
        self.silent = silent
        self.asked: list[str] = []
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._socket.getsockname()[1]}"
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        self._socket.close()

    def _serve(self) -> None:
        while True:
            try:
                data, peer = self._socket.recvfrom(4096)
                answer = self._answer(data)
                if answer:
                    self._socket.sendto(answer, peer)
            except OSError:
                return

    def _answer(self, data: bytes) -> bytes:
        labels, at = [], 12
        while data[at]:
            labels.append(data[at + 1 : at + 1 + data[at]].decode("ascii"))
            at += 1 + data[at]
        name, (kind,) = ".".join(labels).lower(), struct.unpack_from("!H", data, at + 1)
        self.asked.append(name)
        if name in self.silent:
            return b""
        known = [ip_address(text) for text in self.addresses.get(name, ())]
        found = [address.packed for address in known if address.version == _TYPES.get(kind)]
        records = b"".join(b"\xc0\x0c" + struct.pack("!HHIH", kind, 1, 1, len(one)) + one for one in found)
        code = 0 if name in self.addresses else 3
        return data[:2] + struct.pack("!HHHHH", 0x8580 | code, 1, len(found), 0, 0) + data[12 : at + 5] + records
