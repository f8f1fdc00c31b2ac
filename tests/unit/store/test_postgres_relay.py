"""When a member tells others what happens at it: only while somebody listens, bounded, over connections that break."""

from __future__ import annotations

import asyncio

import pytest

from hookstead.store.postgres import relay
from hookstead.store.postgres.audience import SURE_SECONDS, WANTED_SECONDS
from hookstead.store.postgres.batches import MESSAGES
from hookstead.store.postgres.relay import DEBOUNCE_SECONDS, TOLD, WISHES
from store.relay_bus import Broken, Bus, Member, connected, listening, settle


@pytest.fixture
def bus() -> Bus:
    return Bus()


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


async def test_before_a_hint_what_waits_goes_out_at_once(bus: Bus) -> None:
    reader, other = members = await connected(bus)
    await listening(bus, *members)
    other.relay.tell("a")
    await other.relay.work(other.connection)
    assert reader.heard == []
    await other.relay.work(other.connection, at_once=True)
    assert reader.heard == ["a"]


async def test_listening_begins_when_all_others_know_of_it(bus: Bus) -> None:
    reader, other = await connected(bus)
    task = asyncio.ensure_future(reader.relay.listen(reader.hear))
    await asyncio.sleep(0)
    await settle(bus, reader)
    await asyncio.sleep(0)
    assert not task.done()
    await settle(bus, reader, other)
    for _ in range(5):
        await asyncio.sleep(0)
    assert task.done()


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
    first.relay.tell("first's")
    await settle(bus, *members, seconds=DEBOUNCE_SECONDS)
    first.relay.end()
    await settle(bus, *members)
    other.relay.tell("other's")
    await settle(bus, *members, seconds=DEBOUNCE_SECONDS)
    assert (first.heard, second.heard) == ([], ["first's", "other's"])


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
    await settle(bus, reader, seconds=10 * WANTED_SECONDS)
    other.relay.tell("meanwhile")
    await settle(bus, reader, seconds=WANTED_SECONDS)
    await other.connect()
    await settle(bus, *members, seconds=DEBOUNCE_SECONDS)
    assert (reader.heard, reader.lost) == (["meanwhile"], [])


async def test_what_was_told_long_before_a_connection_came_back_is_lost_and_that_is_told(bus: Bus) -> None:
    reader, other = members = await connected(bus)
    await listening(bus, *members)
    other.disconnect()
    other.relay.tell("long ago")
    await settle(bus, reader, seconds=3600)
    other.relay.tell("now")
    await other.connect()
    await settle(bus, *members, seconds=DEBOUNCE_SECONDS)
    assert (reader.heard, reader.lost) == (["now"], [1])


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


async def test_a_listener_that_was_late_to_say_so_again_hears_that_it_may_have_missed_something(bus: Bus) -> None:
    reader, other = members = await connected(bus)
    await listening(bus, *members)
    await settle(bus, *members, seconds=60)
    assert reader.lost == []
    await settle(bus, other, seconds=WANTED_SECONDS)  # the database answers the reader's connection late
    other.relay.tell("unheard")
    await settle(bus, *members)
    other.relay.tell("heard")
    await settle(bus, *members, seconds=60)
    assert (reader.heard, reader.lost) == (["heard"], [None])


async def test_a_listener_that_begins_without_a_connection_hears_that_when_there_is_one(
    bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relay, "LISTEN_SECONDS", 0.01)
    members = await connected(bus)
    reader = members[0]
    reader.disconnect()
    await reader.relay.listen(reader.hear)
    assert reader.lost == []
    await reader.connect()
    await settle(bus, *members)
    assert reader.lost == [None]


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
