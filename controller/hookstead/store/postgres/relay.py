"""What happens at one process, passed on to those that listen, over the connection of the hints.

Who listens says so to all, and again every two seconds; only then do they tell, on a channel that only listeners have.
A process whose connection is new does not know who listens: it asks, and keeps what is told until it knows. Lines on
the channel of all are `MEMBER wants SECONDS TOKEN` (with a token other than 0, all shall answer),
`MEMBER heard MEMBER TOKEN`, and `MEMBER asks`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import re
from collections.abc import Callable, Sequence
from typing import Any, Final

from hookstead.delivery.ports import Hear
from hookstead.store.postgres.audience import RENEW_SECONDS, WANTED_SECONDS, Audience
from hookstead.store.postgres.batches import Assembly, Batch, Outbox, payloads

WISHES: Final = "hookstead_stream_wanted_1"
TOLD: Final = "hookstead_stream_1"
DEBOUNCE_SECONDS: Final = 0.05
"""What is told within this goes together."""
LISTEN_SECONDS: Final = 1.0
"""How long others may take to say that they heard of a listener."""
_LATE_SECONDS: Final = WANTED_SECONDS - 2 * RENEW_SECONDS
"""By so much a listener may be late to say so again before it has to think that it was forgotten."""
_KEPT_SECONDS: Final = 10.0
"""What was told longer ago than that while there was no connection goes to nobody any more."""
_SAY_SECONDS: Final = 10.0
"""Between two lines in the log about what was lost."""
_NOTIFY: Final = "SELECT pg_notify(c, p) FROM unnest($1::text[], $2::text[]) AS n (c, p)"
_WISH: Final = re.compile(r"([0-9]{1,19}) (?:wants ([0-9]{1,3}) ([0-9]{1,19})|heard ([0-9]{1,19}) ([0-9]{1,19})|asks)")
_OTHERS: Final = "SELECT owner FROM hookstead.members WHERE owner <> $1 AND lease_until >= clock_timestamp()"

log = logging.getLogger(__name__)


class Relay:
    """See `hookstead.delivery.ports.Relay`. `News` drives it: `connected`, then `work` when it is due, `disconnected`.

    `begin` brings a connection about, `wake` has `due` asked again; `now` is in seconds of a steady clock.
    """

    def __init__(
        self, *, me: int, begin: Callable[[], None], wake: Callable[[], None], now: Callable[[], float]
    ) -> None:
        self._owner: Final = me
        self._me: Final = str(me)
        self._begin: Final = begin
        self._wake: Final = wake
        self._now: Final = now
        self._connected = False
        self._audience: Final = Audience()
        self._outbox: Final = Outbox()
        self._flush_at = math.inf
        self._sending = False
        self._sent = asyncio.Event()
        self._lost = 0
        self._say_at = -math.inf
        self._to_say: list[str] = []
        # Of a listener:
        self._hear: Hear | None = None
        self._listening = False
        self._broken = False
        """Without a connection one may miss something."""
        self._assembly: Final = Assembly()
        self._renew_at = math.inf
        self._known_until = math.inf
        """When others may have forgotten of this listener."""
        self._token = 0
        self._unheard: set[str] = set()
        self._ready = asyncio.Event()

    # ------------------------------------------------------------------------------------------------------- the port

    @property
    def wanted(self) -> bool:
        return self._audience.possible(self._now())

    def tell(self, message: str) -> None:
        now = self._now()
        if not self._audience.possible(now):
            return
        if not self._outbox:
            self._flush_at = now + DEBOUNCE_SECONDS
            if self._connected:
                self._wake()
        self._outbox.put(message, now=now)

    async def listen(self, hear: Hear) -> None:
        if self._hear is None:
            self._hear = hear
            self._begin()
            self._wake()
        try:
            async with asyncio.timeout(LISTEN_SECONDS):
                await self._ready.wait()
        except TimeoutError:  # who has not answered is gone, or has no connection now and asks when it has
            self._broken = self._broken or not self._listening
            self._unheard.clear()
            self._settle()

    def end(self) -> None:
        self._hear = None
        self._broken = False
        self._wake()

    # ------------------------------------------------------------------------------------------------- the connection's

    async def connected(self, connection: Any) -> None:
        await connection.add_listener(WISHES, lambda _, __, ___, line: self._on_wish(str(line)))
        now = self._now()
        self._connected = True
        self._audience.connected(now)
        self._outbox.lose(before=now - _KEPT_SECONDS)
        self._to_say = [f"{self._me} asks"]

    def disconnected(self) -> None:
        self._audience.disconnected()
        self._broken = self._broken or self._listening
        self._connected = self._listening = False
        self._ready.clear()
        self._assembly.clear()
        self._to_say.clear()

    def due(self) -> float:
        """When `work` has something to do: perhaps now (a time that is past), perhaps never (infinity)."""
        if self._to_say or self._listening is not (self._hear is not None):
            return -math.inf
        renew = self._renew_at if self._listening else math.inf
        if not self._outbox:
            return renew
        present = self._audience.present(self._now())
        return min(renew, self._flush_at if present else self._audience.settles())

    async def work(self, connection: Any, *, at_once: bool = False) -> None:
        """Whatever is due, and `at_once` what waits as well, in one transaction where it can be.

        Raises what the connection raises.
        """
        if self._listening is not (self._hear is not None):
            await self._change(connection)
        now = self._now()
        if self._listening and now >= self._renew_at:
            self._want(token=0)
        notes = [(WISHES, line) for line in self._to_say]
        self._to_say.clear()
        batch = self._due_batch(now, at_once=at_once)
        if batch is not None:
            notes += [(TOLD, payload) for payload in payloads(self._me, batch)]
        if notes:
            await self._send(connection, notes, batch)
            self._renewed()
        self._sent.set()
        if batch is not None:
            self._say_lost(batch.lost, now)

    async def _send(self, connection: Any, notes: Sequence[tuple[str, str]], batch: Batch | None) -> None:
        self._sending = True
        try:
            await connection.execute(_NOTIFY, [channel for channel, _ in notes], [line for _, line in notes])
        except BaseException:
            if batch is not None:
                self._outbox.failed(batch)
            raise
        finally:
            self._sending = False

    async def flush(self, *, seconds: float) -> None:
        """Send what waits, now, where somebody listens; for so long at most, also until that is known."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while self._sending or (self._outbox and self._audience.possible(self._now())):
                    self._flush_at = -math.inf
                    self._sent.clear()
                    self._wake()
                    await self._sent.wait()

    # ---------------------------------------------------------------------------------------------------------- telling

    def _due_batch(self, now: float, *, at_once: bool) -> Batch | None:
        if not self._outbox:
            return None
        if self._audience.present(now):
            return self._outbox.take() if at_once or now >= self._flush_at else None
        if not self._audience.possible(now):
            self._outbox.clear()
        return None

    def _say_lost(self, lost: int, now: float) -> None:
        self._lost += lost
        if self._lost and now >= self._say_at:
            log.warning(
                "%d messages of the activity stream did not reach other gateways: too many at once, or no connection",
                self._lost,
                extra={"action": "stream_lost", "messages": self._lost},
            )
            self._lost, self._say_at = 0, now + _SAY_SECONDS

    def _on_wish(self, line: str) -> None:
        wish = _WISH.fullmatch(line)
        if wish is None or wish[1] == self._me:
            return
        member, seconds, token, whom, answered = wish.groups()
        if seconds is not None:
            self._audience.heard(member, seconds=min(float(seconds), WANTED_SECONDS), now=self._now())
            if int(token):
                self._to_say.append(f"{self._me} heard {member} {token}")
        elif whom is None:
            if self._listening:
                self._want(token=0)
        elif (whom, answered) == (self._me, str(self._token)):
            self._unheard.discard(member)
            self._settle()
        self._wake()

    # -------------------------------------------------------------------------------------------------------- listening

    async def _change(self, connection: Any) -> None:
        if self._hear is None:
            self._listening = False
            self._ready.clear()
            await connection.remove_listener(TOLD, self._on_told)
            self._to_say.append(f"{self._me} wants 0 0")
            return
        await connection.add_listener(TOLD, self._on_told)
        self._unheard = {str(row[0]) for row in await connection.fetch(_OTHERS, self._owner)}
        self._listening = True
        self._token += 1
        self._known_until = math.inf
        self._want(token=self._token)
        self._miss(self._broken)
        self._broken = False
        self._settle()

    def _want(self, *, token: int) -> None:
        self._to_say.append(f"{self._me} wants {WANTED_SECONDS:.0f} {token}")
        self._renew_at = self._now() + RENEW_SECONDS

    def _renewed(self) -> None:
        """All was said. Where that came late, others may have ceased to tell anything meanwhile."""
        now = self._now()
        if self._listening and now < self._renew_at:
            self._miss(now > self._known_until)
            self._known_until = self._renew_at + _LATE_SECONDS

    def _miss(self, something: bool) -> None:
        if something and self._hear is not None:
            self._hear((), None)

    def _settle(self) -> None:
        if self._listening and not self._unheard:
            self._ready.set()

    def _on_told(self, _: Any, __: int, ___: str, payload: str) -> None:
        found = self._assembly.add(payload)
        if found is not None and found[0] != self._me and self._hear is not None:
            self._hear(found[1].messages, found[1].lost)
