"""The choke point: every outgoing connection of the data plane begins in `dial`."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Final

from hookstead.egress.gate import DialDeniedError

if TYPE_CHECKING:
    from hookstead.egress.gate import Gate

Connect = Callable[[str, int], Awaitable[socket.socket]]
"""Opens a TCP connection to (address, port) and returns its non-blocking socket; raises OSError."""

STAGGER_SECONDS: Final = 0.25
"""Head start of an address over the next one (RFC 8305, section 5)."""
ADDRESSES_TRIED: Final = 8


async def connect_tcp(address: str, port: int) -> socket.socket:
    """The real Connect. `address` is an IP literal, so nothing is looked up."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, (address, port))
    except BaseException:
        sock.close()
        raise
    return sock


async def dial(address: str, port: int, *, gate: Gate, connect: Connect) -> socket.socket:
    """Connect to an address that was checked before, after checking it once more, right here.

    Raises DialDeniedError without touching the network, or what `connect` raises.
    """
    reason = gate.denial(address, port)
    if reason is not None:
        raise DialDeniedError(reason)
    return await connect(address, port)


async def dial_any(addresses: Sequence[str], port: int, *, gate: Gate, connect: Connect) -> socket.socket:
    """The first of these addresses that accepts, tried in order, each with a head start over the next.

    Raises the last error when none does. The losers' sockets are closed.
    """
    if len(addresses) == 1:
        return await dial(addresses[0], port, gate=gate, connect=connect)
    waiting = list(addresses[:ADDRESSES_TRIED])
    trying: set[asyncio.Task[socket.socket]] = set()
    last: BaseException = OSError("no address to dial")
    try:
        while waiting or trying:
            if waiting:
                trying.add(asyncio.create_task(dial(waiting.pop(0), port, gate=gate, connect=connect)))
            head_start = STAGGER_SECONDS if waiting else None
            done, trying = await asyncio.wait(trying, timeout=head_start, return_when=asyncio.FIRST_COMPLETED)
            winner: socket.socket | None = None
            for task in done:
                error = task.exception()
                if error is not None:
                    last = error
                elif winner is None:
                    winner = task.result()
                else:
                    task.result().close()
            if winner is not None:
                return winner
        raise last
    finally:
        for task in trying:
            task.cancel()
            task.add_done_callback(_close_late)


def _close_late(task: asyncio.Task[socket.socket]) -> None:
    if not task.cancelled() and task.exception() is None:
        task.result().close()
