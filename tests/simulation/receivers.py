"""The endpoints' owners: servers that answer well, badly, late or never, and the transport that reaches them."""

from __future__ import annotations

import asyncio
import contextvars
import email.utils
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from hookstead.delivery.ports import EndpointKey, ErrorCode, OutboundRequest, SendResult
from simulation.world import CrashPoint, World, pick

if TYPE_CHECKING:
    from simulation.ledger import Ledger

TESTING: Final[contextvars.ContextVar[bool]] = contextvars.ContextVar("TESTING", default=False)
"""Set while an operator's test is under way, so that its request is told from a delivery's."""

DELIVERY: Final[contextvars.ContextVar[str]] = contextvars.ContextVar("DELIVERY", default="")
"""The id of the delivery that is being attempted: a request itself names only the event."""

MOODS: Final[dict[str, float]] = {
    "well": 6,
    "flaky": 4,
    "failing": 3,
    "refusing": 2,
    "slow": 2,
    "stalled": 1,
    "throttling": 2,
    "gone": 1,
    "denied": 0.5,
}


@dataclass(slots=True)
class Receivers:
    """`hookstead.delivery.ports.Transport`."""

    world: World
    ledger: Ledger
    moods: dict[str, str] = field(default_factory=dict)
    longest_wish: int = 300

    def change(self) -> str:
        """Another mood for one receiver."""
        name = self.world.people.choice(("e0", "e1", "e2", "e3"))
        self.moods[name] = pick(self.world.people, MOODS)
        return f"{name} is {self.moods[name]}"

    def heal(self) -> None:
        self.moods.clear()

    async def send(self, request: OutboundRequest) -> SendResult:
        world = self.world
        if not world.alive:
            await _for_ever()
        send = self.ledger.sending(request, DELIVERY.get(), test=TESTING.get())
        if world.reached(CrashPoint.SENDING):
            await _for_ever()
        seconds, result = self._answer(request.endpoint.name)
        if seconds >= request.timeout_seconds:
            seconds, result = request.timeout_seconds, _broken(ErrorCode.TIMEOUT)
        try:
            await asyncio.sleep(seconds)
        except asyncio.CancelledError:
            self.ledger.hung_up(send)
            raise
        if not world.alive:
            await _for_ever()
        self.ledger.answered(send, result)
        if world.reached(CrashPoint.ANSWERED):
            await _for_ever()
        return result

    def forget(self, endpoint: EndpointKey) -> None:
        return

    async def close(self) -> None:
        return

    def _answer(self, name: str) -> tuple[float, SendResult]:
        """After how many seconds, and what."""
        chance, mood = self.world.receivers, self.moods.get(name, "well")
        seconds = chance.choice((0.001, 0.01, 0.01, 0.05, 0.3))
        if mood == "slow":
            return chance.uniform(0.5, 3), SendResult(status_code=200)
        if mood == "stalled":
            return 1e9, SendResult()
        if mood == "refusing":
            return 0.001, _broken(chance.choice((ErrorCode.CONNECT, ErrorCode.DNS, ErrorCode.TLS, ErrorCode.PROTOCOL)))
        if mood == "denied":
            return 0.0, _broken(ErrorCode.ADDRESS_DENIED)
        if mood == "throttling" and chance.random() < 0.6:
            return seconds, SendResult(status_code=chance.choice((429, 503)), retry_after=self._wish())
        if mood == "gone" and chance.random() < 0.5:
            return seconds, SendResult(status_code=410)
        if mood == "failing" or (mood == "flaky" and chance.random() < 0.5):
            return seconds, SendResult(status_code=chance.choice((500, 502, 404, 302)), body=b"no")
        return seconds, SendResult(status_code=chance.choice((200, 200, 204)))

    def _wish(self) -> str:
        chance = self.world.receivers
        seconds = chance.choice((1, 3, 20, self.longest_wish))
        if chance.random() < 0.05 and self.longest_wish > 100:
            seconds = 10**9
        if chance.random() < 0.3:
            return email.utils.formatdate(self.world.clock.now_ms() // 1000 + min(seconds, 10**7), usegmt=True)
        return str(seconds)


def _broken(error: ErrorCode) -> SendResult:
    return SendResult(error=error, message=f"{error.value} on purpose")


async def _for_ever() -> None:
    """The process is dead; nothing comes back to it."""
    await asyncio.Event().wait()
