"""Several addresses of one name: in order, each with a head start, no socket left behind."""

from __future__ import annotations

import asyncio
import socket

import pytest

from hookstead.egress import dial as module
from hookstead.egress.dial import ADDRESSES_TRIED, dial_any
from hookstead.egress.gate import Gate

GATE = Gate(allowed=(), allow_loopback=False, listeners=lambda: (), is_local=lambda _: False)


class Addresses:
    """A Connect over sockets that go nowhere: what an address does is scripted."""

    def __init__(self, **script: str) -> None:
        self._script = {address.replace("_", "."): what for address, what in script.items()}
        self.dialled: list[str] = []
        self.opened: dict[str, socket.socket] = {}
        self.release = asyncio.Event()

    async def __call__(self, address: str, port: int) -> socket.socket:
        self.dialled.append(address)
        what = self._script.get(address, "refuses")
        if what == "refuses":
            raise ConnectionRefusedError(111, address)
        if what == "hangs":
            await asyncio.Event().wait()
        if what == "waits":
            await self.release.wait()
        self.opened[address] = socket.socket()
        return self.opened[address]


@pytest.fixture(autouse=True)
def _short_head_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "STAGGER_SECONDS", 0.01)


async def test_an_address_that_refuses_is_followed_by_the_next_at_once() -> None:
    addresses = Addresses(**{"8_8_4_4": "accepts"})
    with await dial_any(("8.8.8.8", "8.8.4.4", "1.1.1.1"), 443, gate=GATE, connect=addresses) as sock:
        assert sock is addresses.opened["8.8.4.4"]
    assert addresses.dialled == ["8.8.8.8", "8.8.4.4"]


async def test_an_address_that_hangs_is_overtaken_by_the_next() -> None:
    addresses = Addresses(**{"8_8_8_8": "hangs", "8_8_4_4": "accepts"})
    with await dial_any(("8.8.8.8", "8.8.4.4"), 443, gate=GATE, connect=addresses) as sock:
        assert sock is addresses.opened["8.8.4.4"]


async def test_of_two_that_accept_at_once_one_is_closed() -> None:
    addresses = Addresses(**{"8_8_8_8": "waits", "8_8_4_4": "waits"})
    dialling = asyncio.create_task(dial_any(("8.8.8.8", "8.8.4.4"), 443, gate=GATE, connect=addresses))
    while len(addresses.dialled) < 2:
        await asyncio.sleep(0.001)
    addresses.release.set()
    with await dialling as sock:
        await asyncio.sleep(0)
        others = [other for other in addresses.opened.values() if other is not sock]
        assert all(other.fileno() == -1 for other in others)


async def test_when_none_accepts_the_last_error_is_raised() -> None:
    addresses = Addresses()
    with pytest.raises(ConnectionRefusedError, match=r"8\.8\.4\.4"):
        await dial_any(("8.8.8.8", "8.8.4.4"), 443, gate=GATE, connect=addresses)


async def test_no_more_than_a_few_addresses_are_tried() -> None:
    addresses = Addresses()
    with pytest.raises(ConnectionRefusedError):
        await dial_any(tuple(f"8.8.8.{n}" for n in range(20)), 443, gate=GATE, connect=addresses)
    assert len(addresses.dialled) == ADDRESSES_TRIED


async def test_a_dial_that_is_given_up_closes_what_it_had_begun() -> None:
    addresses = Addresses(**{"8_8_8_8": "hangs", "8_8_4_4": "hangs"})
    dialling = asyncio.create_task(dial_any(("8.8.8.8", "8.8.4.4"), 443, gate=GATE, connect=addresses))
    while len(addresses.dialled) < 2:
        await asyncio.sleep(0.001)
    dialling.cancel()
    with pytest.raises(asyncio.CancelledError):
        await dialling
    assert addresses.opened == {}
