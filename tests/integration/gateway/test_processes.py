"""Several gateway processes of one host behind one port, on one database."""

from __future__ import annotations

import asyncio
import os
import re
import signal
from pathlib import Path

import aiohttp

from builders import endpoint
from cluster.child import free_port
from faults.gateway_process import Home, Life, home, until
from integration.gateway.gateway_bench import Receiver, receiving

EVENTS = 60
_READY = re.compile(r"the public port listens on ")
_ADMIN = re.compile(r"the admin port listens on (127\.0\.0\.1:\d+)")


async def both(place: Home, *, port: int) -> Life:
    """Two processes that take connections."""
    life = place.launch("--processes", "2", "--listen", f"127.0.0.1:{port}")

    async def listening() -> bool:
        assert life.child.running, life.log
        return len(_READY.findall(life.log)) == 2

    await until(listening, what="two processes that listen")
    return life


async def publish(port: int, number: int) -> str:
    """One event on a connection of its own: the system chooses the process."""
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"http://127.0.0.1:{port}/v1/events", json={"type": "a", "data": {"n": number}}) as answer,
    ):
        assert answer.status == 202, await answer.text()
        return str((await answer.json())["id"])


async def accepted_by(admin: str) -> float:
    async with aiohttp.ClientSession() as session, session.get(f"http://{admin}/metrics") as answer:
        [value] = re.findall(r'^hookstead_events_total\{.*result="accepted".*\} (\S+)$', await answer.text(), re.M)
    return float(value)


async def delivered(receiver: Receiver, count: int) -> None:
    async def arrived() -> bool:
        return len(receiver.got) >= count

    await until(arrived, what=f"{count} deliveries")


async def test_they_divide_the_connections_deliver_each_event_once_and_stop_together(
    tmp_path: Path, database: str
) -> None:
    async with receiving() as receiver, home(tmp_path, endpoint("hook", url=receiver.url), url=database) as place:
        port = free_port()
        life = await both(place, port=port)
        sent = [await publish(port, number) for number in range(EVENTS)]
        await delivered(receiver, EVENTS)
        assert sorted(got.headers["webhook-id"] for got in receiver.got) == sorted(sent)
        shares = [await accepted_by(admin) for admin in _ADMIN.findall(life.log)]
        assert sum(shares) == EVENTS
        assert min(shares) > 0, "SO_REUSEPORT divides them"
        os.kill(life.child.pid, signal.SIGTERM)
        assert await life.ended() == 0, life.log


async def test_where_one_is_killed_all_end_and_the_next_ones_deliver_what_was_accepted(
    tmp_path: Path, database: str
) -> None:
    async with receiving() as receiver, home(tmp_path, endpoint("hook", url=receiver.url), url=database) as place:
        receiver.release = asyncio.Event()
        port = free_port()
        life = await both(place, port=port)
        sent = {await publish(port, number) for number in range(EVENTS)}
        os.kill(life.children[0], signal.SIGKILL)
        receiver.release.set()
        assert await life.ended() == signal.SIGKILL, life.log
        await both(place, port=port)

        async def all_arrived() -> bool:
            return {got.headers["webhook-id"] for got in receiver.got} == sent

        await until(all_arrived, what="every event", seconds=60)
