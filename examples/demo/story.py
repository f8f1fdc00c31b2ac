"""The story that both demos tell: three events, who gets them, a retry, a redelivery. Every step is checked."""

from __future__ import annotations

import asyncio
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import aiohttp
from receivers import Receivers

ROOT = Path(__file__).resolve().parents[2]
QUICKSTART = ROOT / "examples" / "quickstart"
CLIENT = "client_5b0c8f5e-2f3d-4c55-9a54-0d2f6a1e7c11"
AGENT = "agent_c2d7a9b4-71e6-4f0a-8b1d-93f4e5a60d22"
PATHS = {"acme": "acme-orders", "scout": "scout-tasks", "audit": "audit-log"}
PATIENCE_SECONDS = 30.0

EVENTS: dict[str, dict[str, Any]] = {
    "an order of the client Acme": {
        "type": "order.created",
        "channels": [CLIENT],
        "data": {"orderId": "ord_1", "amount": 12900, "currency": "EUR"},
    },
    "a failed task of the agent Scout": {
        "type": "agent.task.finished",
        "channels": [AGENT],
        "data": {"taskId": "task_1", "outcome": "failed"},
    },
    "an order of nobody in particular": {
        "type": "order.shipped",
        "data": {"orderId": "ord_2", "carrier": "Example Parcels"},
    },
}
EXPECTED = {
    "an order of the client Acme": {"acme-orders", "audit-log"},
    "a failed task of the agent Scout": {"scout-tasks", "audit-log"},
    "an order of nobody in particular": {"audit-log"},
}


def say(text: str) -> None:
    print(text, flush=True)


def require(holds: bool, sentence: str) -> None:
    """Print the sentence as a fact, or end the demo: it shows nothing that did not happen."""
    if not holds:
        raise SystemExit(f"  NOT SO: {sentence}")
    say(f"  ok  {sentence}")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def manifests(folder: Path, receivers_port: int) -> Path:
    """The quickstart, with the receivers' port of this run."""
    copy = folder / "manifests"
    copy.mkdir()
    for source in sorted(QUICKSTART.glob("*.yaml")):
        text = source.read_text(encoding="utf-8")
        (copy / source.name).write_text(re.sub(r"127\.0\.0\.1:9700", f"127.0.0.1:{receivers_port}", text))
    return copy


async def eventually(what: str, holds: Callable[[], Awaitable[bool]]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not await holds():
        if time.monotonic() > deadline:
            raise SystemExit(f"  NOT SO: {what} (within {PATIENCE_SECONDS:.0f} s)")
        await asyncio.sleep(0.1)


async def run_command(*command: str) -> str:
    """Show a command as a person would type it, and what it prints."""
    shown = " ".join("kubectl hooks" if part.endswith("kubectl_hooks") else part for part in command)
    say(f"\n$ {shown.replace(f'{sys.executable} -m ', '')}")
    done = await asyncio.to_thread(
        subprocess.run, command, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    say("\n".join(f"  {line}" for line in done.stdout.splitlines()))
    if done.returncode != 0:
        raise SystemExit(f"  the command ended with {done.returncode}")
    return done.stdout


def hooks(server: str, *arguments: str) -> Sequence[str]:
    """`kubectl hooks`, of this clone."""
    return (sys.executable, "-m", "hookstead.cli.kubectl_hooks", *arguments, "--server", server)


class Story:
    """The events and what became of them, through the public API alone."""

    def __init__(self, server: str, receivers: Receivers) -> None:
        self.server = server
        self.receivers = receivers
        self.ids: dict[str, str] = {}

    async def tell(self) -> None:
        async with aiohttp.ClientSession(self.server) as api:
            await self._publish(api)
            await self._deliveries(api)
            await self._redelivery(api)
            await self._table(api)

    async def _publish(self, api: aiohttp.ClientSession) -> None:
        self.receivers.failures["acme-orders"] = 1
        say("\nThree events (Acme's receiver will fail once):")
        for title, event in EVENTS.items():
            async with api.post("/v1/events", json=event) as answer:
                body = await answer.json()
                require(answer.status == 202, f"202 for {title}: {body}")
                require(body["endpoints"] == len(EXPECTED[title]), f"{len(EXPECTED[title])} endpoint(s) selected")
            self.ids[title] = body["id"]

    async def _deliveries(self, api: aiohttp.ClientSession) -> None:
        async def all_delivered() -> bool:
            async with api.get("/v1/deliveries", params={"status": "Pending"}) as answer:
                return not (await answer.json())["items"]

        say("\nWhat the receivers got, verified with the public standardwebhooks package:")
        await eventually("every delivery ends", all_delivered)
        for title, message_id in self.ids.items():
            got = {one.endpoint for one in self.receivers.of([message_id]) if one.answered == 204}
            require(got == EXPECTED[title], f"{title} reached {', '.join(sorted(got))} and nobody else")
        require(all(one.verified for one in self.receivers.received), "every signature verified")
        retried = [one.answered for one in self.receivers.received if one.endpoint == "acme-orders"]
        require(retried == [503, 204], "Acme's failing receiver was tried again, and then took it")

    async def _redelivery(self, api: aiohttp.ClientSession) -> None:
        async with api.get("/v1/deliveries", params={"endpoint": "audit-log", "limit": "1"}) as answer:
            delivery = (await answer.json())["items"][0]["id"]
        say("\nA redelivery of the newest delivery to audit-log:")
        before = len(self.receivers.received)
        await run_command(*hooks(self.server, "redeliver", delivery))

        async def arrived() -> bool:
            async with api.get(f"/v1/deliveries/{delivery}") as answer:
                return len((await answer.json())["attempts"]) == 2 and len(self.receivers.received) == before + 1

        await eventually("the redelivery arrives", arrived)
        again, first = self.receivers.received[-1], self.ids["an order of nobody in particular"]
        require(again.message_id == first and again.verified, "the same message arrived again, with the same id")

    async def _table(self, api: aiohttp.ClientSession) -> None:
        say("\nWhat went where:")
        say(f"  {'EVENT':<34} {'ENDPOINT':<13} {'STATUS':<10} {'ATTEMPTS':<8} VERIFIED")
        for title, message_id in self.ids.items():
            async with api.get(f"/v1/events/{message_id}") as answer:
                deliveries = (await answer.json())["deliveries"]
            for delivery in sorted(deliveries, key=lambda item: item["endpoint"]):
                got = [one for one in self.receivers.of([message_id]) if one.endpoint == delivery["endpoint"]]
                verified = "yes" if got and all(one.verified for one in got) else "NO"
                say(
                    f"  {title:<34} {delivery['endpoint']:<13} {delivery['status']:<10} "
                    f"{delivery['attemptCount']:<8} {verified}"
                )


async def ready(url: str, process: asyncio.subprocess.Process) -> None:
    """Wait until `/readyz` answers 200. Ends the demo when the process ends first."""
    async with aiohttp.ClientSession() as session:

        async def answers() -> bool:
            if process.returncode is not None:
                raise SystemExit(f"  the process ended with {process.returncode}")
            try:
                async with session.get(url) as answer:
                    return answer.status == 200
            except aiohttp.ClientConnectionError:
                return False

        await eventually(f"{url} answers 200", answers)


async def stop(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        process.terminate()
        await process.wait()


def kubectl() -> str:
    found = shutil.which("kubectl")
    if found is None:
        raise SystemExit("kubectl is not on PATH")
    return found
