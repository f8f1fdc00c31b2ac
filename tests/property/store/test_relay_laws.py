"""Whatever happens to connections: a message arrives once or not at all, in order, and what is missing is told."""

from __future__ import annotations

import asyncio
import contextlib
from collections import defaultdict
from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from hookstead.store.postgres.audience import SURE_SECONDS, WANTED_SECONDS
from hookstead.store.postgres.relay import DEBOUNCE_SECONDS, LISTEN_SECONDS
from store.relay_bus import Broken, Bus, Member, connected, listening, settle
from virtual_time import ClosedLoop, VirtualClock

MEMBERS = 3
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["tell", "tell", "listen", "end", "disconnect", "connect", "break", "wait", "wait long"]),
        st.integers(0, MEMBERS - 1),
    ),
    max_size=30,
)


@dataclass
class Session:
    """One member's listening, from its answer to its end: what the others told meanwhile, by who told it."""

    told: dict[int, list[str]] = field(default_factory=lambda: defaultdict(list))


@dataclass
class Walk:
    bus: Bus
    members: list[Member]
    sessions: dict[int, Session] = field(default_factory=dict)
    count: int = 0

    @property
    def up(self) -> list[Member]:
        return [member for member in self.members if member.connection in self.bus.connections]

    async def step(self, what: str, who: int) -> None:
        member = self.members[who]
        is_up = member in self.up
        match what:
            case "tell":
                self.tell(who)
            case "listen" if is_up and who not in self.sessions:
                member.heard.clear()
                member.lost.clear()
                await listening(self.bus, member, *[one for one in self.up if one is not member])
                self.sessions[who] = Session()
            case "end" if who in self.sessions:
                await self.settle(2 * DEBOUNCE_SECONDS)
                member.relay.end()
                self.check(who)
                del self.sessions[who]
            case "disconnect" if is_up:
                member.disconnect()
            case "connect" if not is_up:
                await member.connect()
            case "break" if is_up:
                await self.break_in_the_middle(member)
            case "wait":
                await self.settle(DEBOUNCE_SECONDS)
            case "wait long":
                await self.settle(WANTED_SECONDS)

    def tell(self, who: int) -> None:
        self.count += 1
        message = f"{who} {self.count}"
        self.members[who].relay.tell(message)
        for listener, session in self.sessions.items():
            if listener != who:
                session.told[who].append(message)

    async def break_in_the_middle(self, member: Member) -> None:
        member.connection.breaks = True
        self.bus.time += DEBOUNCE_SECONDS
        if member.relay.due() <= self.bus.time:
            with contextlib.suppress(Broken):
                await member.relay.work(member.connection)
        member.disconnect()

    async def settle(self, seconds: float) -> None:
        if self.up:
            await settle(self.bus, *self.up, seconds=seconds)
        else:
            self.bus.time += seconds

    def check(self, who: int) -> None:
        member, session = self.members[who], self.sessions[who]
        assert len(set(member.heard)) == len(member.heard), "once"
        assert not any(line.startswith(f"{who} ") for line in member.heard), "its own it knows"
        for sender, told in session.told.items():
            heard = [line for line in member.heard if line.startswith(f"{sender} ")]
            assert heard == sorted(heard, key=lambda line: int(line.split()[1])), "in order"
            missing = set(told) - set(heard)
            if missing and self.members[sender] in self.up and member in self.up:
                assert None in member.lost or sum(lost or 0 for lost in member.lost) >= len(missing), "told as missing"


def run(steps: list[tuple[str, int]]) -> None:
    async def walk() -> None:
        bus = Bus()
        going = Walk(bus, await connected(bus, MEMBERS))
        for what, who in [("listen", 0), *steps]:
            await going.step(what, who)
        for member in going.members:
            if member not in going.up:
                await member.connect()
        await going.settle(max(SURE_SECONDS, LISTEN_SECONDS))
        for who in list(going.sessions):
            await going.step("end", who)
        await going.settle(WANTED_SECONDS + SURE_SECONDS)
        bus.notes.clear()
        for who in range(MEMBERS):
            going.tell(who)
        await going.settle(60)
        assert bus.notes == [], "nobody listens any more"

    with asyncio.Runner(loop_factory=lambda: ClosedLoop(VirtualClock())) as runner:
        runner.run(walk())


@settings(max_examples=300, deadline=None)
@given(STEPS)
def test_each_message_arrives_once_or_not_at_all_and_what_is_missing_is_told(steps: list[tuple[str, int]]) -> None:
    run(steps)
