"""Producers over several connections, each with callers' ids of its own, that remember what was promised to them."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import aiohttp

from faults.gateway_process import WAIT_SECONDS, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from faults.gateway_process import Life


NOT_SENT: Final = -1
"""Nobody listened."""


@dataclass
class Ledger:
    """What producers know. `promised`: event id by caller's id, for each 202. `unanswered`: sent without an answer."""

    promised: dict[str, str] = field(default_factory=dict)
    unanswered: set[str] = field(default_factory=set)
    statuses: Counter[int] = field(default_factory=Counter)
    next: int = 0

    def take(self) -> str:
        """A caller's id that was never used."""
        self.next += 1
        return f"order-{self.next}"


def body(caller_id: str) -> bytes:
    """The event of a caller's id: always the same bytes, so that a repetition is a duplicate."""
    return json.dumps({"type": "order.created", "id": caller_id, "data": {"order": caller_id}}).encode()


async def publish(session: aiohttp.ClientSession, life: Life, ledger: Ledger, caller_id: str) -> int:
    """Send one event; the answer's status, 0 when the connection broke, NOT_SENT when there was none."""
    try:
        async with session.post(
            f"{life.url}/v1/events", data=body(caller_id), headers={"content-type": "application/json"}
        ) as answer:
            document = await answer.json(content_type=None)
    except aiohttp.ClientConnectorError:
        return NOT_SENT
    except (aiohttp.ClientError, ConnectionError, json.JSONDecodeError):
        ledger.unanswered.add(caller_id)
        return 0
    ledger.statuses[answer.status] += 1
    if answer.status == 202:
        first = ledger.promised.setdefault(caller_id, document["id"])
        assert document["id"] == first, "a repeated id was answered with another event"
        ledger.unanswered.discard(caller_id)
    return answer.status


@contextlib.asynccontextmanager
async def load(life: Life, ledger: Ledger, *, producers: int, pause: float = 0.0) -> AsyncIterator[None]:
    """Each producer sends its next event as soon as the last was answered, until the block ends or its call fails.

    The last answers are waited for: what was accepted is in the ledger when the block is left.
    """

    leaving = asyncio.Event()

    async def produce() -> None:
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=1)) as session:
            while not leaving.is_set() and await publish(session, life, ledger, ledger.take()) == 202:
                await asyncio.sleep(pause)

    tasks = [asyncio.create_task(produce()) for _ in range(producers)]
    try:
        yield
        leaving.set()
        async with asyncio.timeout(WAIT_SECONDS):
            await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def under_way(ledger: Ledger, promised: int) -> None:
    """Wait until the producers have had so many promises in all."""

    async def enough() -> bool:
        return len(ledger.promised) >= promised

    await until(enough, what=f"{promised} accepted events")
