"""One gateway, as the operator deals with it: a pusher and a poller, so that one that hangs delays no other.

It counts as unavailable once it has failed to answer for UNAVAILABLE_SECONDS; a restart shorter than that is no event.
"""

from __future__ import annotations

import asyncio
import logging
import random
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

import msgspec

from hookstead.config.report import Report, Running
from hookstead.operator.lease import LeaseLost
from hookstead.operator.programming import Member

if TYPE_CHECKING:
    from hookstead.operator.gateways import Gateways, Package

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

log: Final = logging.getLogger(__name__)
_REPORT: Final = msgspec.json.Decoder(Report)
_RUNNING: Final = msgspec.json.Decoder(Running)


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


class Link:
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
