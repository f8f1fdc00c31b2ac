"""Relays on a database that is a few lines: notifications reach whoever listens, and time moves when a test says so."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

from hookstead.store.postgres.audience import SURE_SECONDS
from hookstead.store.postgres.relay import TOLD, Relay


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
