"""When a member tells others what happens at it: only while somebody listens, bounded, over connections that break."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

import pytest

from hookstead.store.postgres.audience import SURE_SECONDS, WANTED_SECONDS
from hookstead.store.postgres.batches import MESSAGES
from hookstead.store.postgres.relay import DEBOUNCE_SECONDS, TOLD, WISHES, Relay


class Broken(Exception):
    pass


@dataclass
class Bus:
    """A database that passes notifications on, and time that stands still until a test moves it."""

    time: float = 100.0
    connections: list[Connection] = field(default_factory=list)
    members: list[int] = field(default_factory=list)
    notes: list[tuple[str, str]] = field(default_factory=list)

    def told(self) -> list[str]:
        return [payload for channel, payload in self.notes if channel == TOLD]


@dataclass(eq=False)
class Connection:
    bus: Bus
    listeners: dict[str, Any] = field(default_factory=dict)
    breaks: bool = False

    async def add_listener(self, channel: str, listener: Any) -> None:
        self.listeners[channel] = listener

    async def remove_listener(self, channel: str, _: Any) -> None:
        del self.listeners[channel]

    async def fetch(self, _: str, owner: int) -> list[tuple[int]]:
        return [(member,) for member in self.bus.members if member != owner]

    async def execute(self, _: str, channels: list[str], payloads: list[str]) -> None:
        if self.breaks:
            raise Broken
        for note in dict.fromkeys(zip(channels, payloads, strict=True)):
            self.bus.notes.append(note)
            for connection in self.bus.connections:
                if note[0] in connection.listeners:
                    connection.listeners[note[0]](connection, 1, *note)


class Member:
    """A relay with what drives it, and what it heard."""

    def __init__(self, bus: Bus, me: int) -> None:
        self.bus = bus
        self.relay = Relay(me=me, begin=lambda: None, wake=lambda: None, now=lambda: bus.time)
        self.heard: list[str] = []
        self.lost: list[int | None] = []
        bus.members.append(me)

    def hear(self, messages: Any, lost: int | None) -> None:
        self.heard += messages
        if lost != 0:
            self.lost.append(lost)

    async def connect(self) -> None:
        self.connection = Connection(self.bus)
        self.bus.connections.append(self.connection)
        await self.relay.connected(self.connection)

    def disconnect(self) -> None:
        self.bus.connections.remove(self.connection)
        self.relay.disconnected()


@pytest.fixture
def bus() -> Bus:
    return Bus()


async def settle(bus: Bus, *members: Member, seconds: float = 0.0) -> None:
    """Let this time pass, in which each does what is due."""
    ends = bus.time + seconds
    while True:
        for _ in range(5):
            for member in members:
                if member.connection in bus.connections and member.relay.due() <= bus.time:
                    await member.relay.work(member.connection)
        if bus.time >= ends:
            return
        bus.time = min(ends, max(bus.time, min((member.relay.due() for member in members), default=ends)))


async def connected(bus: Bus, count: int = 2) -> list[Member]:
    """Members that know that nobody listens."""
    members = [Member(bus, number) for number in range(1, count + 1)]
    for member in members:
        await member.connect()
    await settle(bus, *members, seconds=SURE_SECONDS)
    bus.notes.clear()
    return members


async def listening(bus: Bus, member: Member, *others: Member) -> None:
    task = asyncio.ensure_future(member.relay.listen(member.hear))
    await asyncio.sleep(0)
    await settle(bus, member, *others)
    await task


async def test_while_nobody_listens_nothing_is_kept_and_nothing_sent(bus: Bus) -> None:
    members = await connected(bus)
    for member in members:
        assert not member.relay.wanted
        member.relay.tell("attempt {}")
    await settle(bus, *members, seconds=3600)
    assert bus.notes == []


async def test_a_listener_hears_each_message_of_the_others_once_in_order_and_none_of_its_own(bus: Bus) -> None:
    reader, first, second = members = await connected(bus, 3)
    await listening(bus, *members)
    assert first.relay.wanted
    assert not reader.relay.wanted, "it listens itself, and nobody else does"
    for number in range(100):
        first.relay.tell(f"first {number}")
        second.relay.tell(f"second {number}")
        reader.relay.tell(f"own {number}")
    await settle(bus, *members, seconds=DEBOUNCE_SECONDS)
    assert sorted(reader.heard) == sorted(f"{name} {number}" for name in ("first", "second") for number in range(100))
    assert [line for line in reader.heard if line.startswith("first")] == [f"first {n}" for n in range(100)]
    assert len(bus.told()) == 2, "what comes together goes together"
    assert (reader.lost, first.heard) == ([], [])


async def test_listening_begins_when_all_others_know_of_it(bus: Bus) -> None:
    reader, other = await connected(bus)
    task = asyncio.ensure_future(reader.relay.listen(reader.hear))
    await asyncio.sleep(0)
    await settle(bus, reader)
    await asyncio.sleep(0)
    assert not task.done()
    await settle(bus, reader, other)
    await task


async def test_listening_goes_on_for_as_long_as_it_is_meant_and_no_longer(bus: Bus) -> None:
    members = await connected(bus)
    reader, other = members
    await listening(bus, *members)
    await settle(bus, *members, seconds=10 * WANTED_SECONDS)
    other.relay.tell("late")
    await settle(bus, *members, seconds=DEBOUNCE_SECONDS)
    assert reader.heard == ["late"]
    reader.relay.end()
    await settle(bus, *members)
    assert not other.relay.wanted
    bus.notes.clear()
    await settle(bus, *members, seconds=60)
    assert bus.notes == []
    assert TOLD not in reader.connection.listeners


async def test_one_that_vanished_is_told_nothing_after_a_while(bus: Bus) -> None:
    reader, other = await connected(bus)
    await listening(bus, reader, other)
    reader.disconnect()
    await settle(bus, other, seconds=WANTED_SECONDS)
    assert not other.relay.wanted


async def test_with_several_listeners_the_end_of_one_is_not_the_end_of_all(bus: Bus) -> None:
    first, second, other = members = await connected(bus, 3)
    await listening(bus, first, second, other)
    await listening(bus, second, first, other)
    first.relay.end()
    await settle(bus, *members)
    other.relay.tell("a")
    await settle(bus, *members, seconds=DEBOUNCE_SECONDS)
    assert (first.heard, second.heard) == ([], ["a"])


async def test_one_that_joins_tells_what_happened_at_it_before_it_knew_of_listeners(bus: Bus) -> None:
    reader, other = await connected(bus)
    await listening(bus, reader, other)
    newcomer = Member(bus, 9)
    newcomer.relay.tell("before")
    await newcomer.connect()
    newcomer.relay.tell("at once")
    await settle(bus, reader, other, newcomer, seconds=DEBOUNCE_SECONDS)
    assert reader.heard == ["before", "at once"]


async def test_one_that_joins_where_nobody_listens_forgets_what_it_kept(bus: Bus) -> None:
    newcomer = Member(bus, 9)
    newcomer.relay.tell("before")
    await newcomer.connect()
    await settle(bus, newcomer, seconds=SURE_SECONDS)
    assert bus.told() == []
    assert not newcomer.relay.wanted
    assert newcomer.relay.due() == float("inf"), "it rests"


async def test_what_is_told_without_a_connection_goes_out_with_the_next_one(bus: Bus) -> None:
    reader, other = members = await connected(bus)
    await listening(bus, *members)
    other.disconnect()
    other.relay.tell("meanwhile")
    await settle(bus, reader, seconds=10 * WANTED_SECONDS)
    await other.connect()
    await settle(bus, *members, seconds=DEBOUNCE_SECONDS)
    assert (reader.heard, reader.lost) == (["meanwhile"], [])


async def test_what_was_on_its_way_when_a_connection_broke_is_told_as_lost_and_not_again(bus: Bus) -> None:
    reader, other = members = await connected(bus)
    await listening(bus, *members)
    other.relay.tell("a")
    other.relay.tell("b")
    other.connection.breaks = True
    bus.time += DEBOUNCE_SECONDS
    with pytest.raises(Broken):
        await other.relay.work(other.connection)
    other.disconnect()
    await other.connect()
    await settle(bus, *members, seconds=DEBOUNCE_SECONDS)
    assert (reader.heard, reader.lost) == ([], [2])


async def test_a_listener_whose_connection_broke_hears_that_it_may_have_missed_something(bus: Bus) -> None:
    reader, other = members = await connected(bus)
    await listening(bus, *members)
    assert reader.lost == []
    reader.disconnect()
    other.relay.tell("unheard")
    await settle(bus, other, seconds=DEBOUNCE_SECONDS)
    await reader.connect()
    await settle(bus, *members)
    other.relay.tell("heard")
    await settle(bus, *members, seconds=DEBOUNCE_SECONDS)
    assert (reader.heard, reader.lost) == (["heard"], [None])


async def test_more_than_can_be_passed_on_is_lost_and_the_listener_hears_how_much(
    bus: Bus, caplog: pytest.LogCaptureFixture
) -> None:
    reader, other = members = await connected(bus)
    await listening(bus, *members)
    for number in range(MESSAGES + 10):
        other.relay.tell(str(number))
    await settle(bus, *members, seconds=DEBOUNCE_SECONDS)
    assert (len(reader.heard), reader.heard[0], reader.lost) == (MESSAGES, "10", [10])
    assert [record.__dict__["messages"] for record in caplog.records] == [10]


async def test_a_listener_that_ends_and_begins_again_at_once_is_not_interrupted(bus: Bus) -> None:
    reader, other = members = await connected(bus)
    await listening(bus, *members)
    reader.relay.end()
    await listening(bus, *members)
    other.relay.tell("a")
    await settle(bus, *members, seconds=DEBOUNCE_SECONDS)
    assert reader.heard == ["a"]


async def test_lines_that_are_no_wishes_are_passed_over(bus: Bus) -> None:
    members = await connected(bus)
    for line in (
        "",
        "x asks",
        "9 wants",
        "9 wants x 1",
        "9 wants 7",
        "9 heard 1",
        "9 wants 7 0 0",
        "9 asks ",
        "9 wanted 7 0",
    ):
        await members[0].connection.execute("", [WISHES], [line])
    assert not members[0].relay.wanted
    await members[0].connection.execute("", [WISHES], ["9 wants 999 0"])
    bus.time += WANTED_SECONDS
    assert not members[0].relay.wanted, "nobody is believed for longer"
