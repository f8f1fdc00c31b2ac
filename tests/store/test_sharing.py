"""Which process should have which slot, and who may be taken for dead: laws of the pure decisions."""

from __future__ import annotations

import datetime

from hypothesis import given
from hypothesis import strategies as st

from hookstead.delivery.ports import SLOTS
from hookstead.store.postgres.sharing import Member, Watch, takers, wanted

LEASE = 6.0
THEN = datetime.datetime(2027, 1, 15, tzinfo=datetime.UTC)
OWNERS = st.frozensets(st.integers(min_value=1, max_value=10_000), min_size=1, max_size=8)


def member(owner: int, *, renewed: int = 0, alive: bool = True, ready: bool = True) -> Member:
    """`renewed`: how often it has."""
    return Member(owner=owner, lease_until=THEN + datetime.timedelta(seconds=renewed), alive=alive, ready=ready)


@given(OWNERS)
def test_every_slot_has_one_of_the_members(owners: frozenset[int]) -> None:
    found = wanted(owners)
    assert len(found) == SLOTS
    assert set(found) <= owners


@given(OWNERS, st.integers(min_value=10_001))
def test_one_that_comes_takes_slots_and_moves_no_others(owners: frozenset[int], new: int) -> None:
    for before, after in zip(wanted(owners), wanted(owners | {new}), strict=True):
        assert after in (before, new)


def test_each_of_a_few_gets_its_share() -> None:
    for count in (2, 3, 4):
        for first in range(1, 60):
            found = wanted(frozenset(range(first, first + count)))
            shares = [found.count(owner) for owner in range(first, first + count)]
            assert min(shares) > SLOTS / count * 0.6
            assert max(shares) < SLOTS / count * 1.45


def test_slots_are_shared_among_those_that_are_alive_and_ready_and_oneself() -> None:
    members = [member(1), member(2, alive=False), member(3, ready=False), member(4, ready=False, alive=False)]
    assert takers(members, 4) == {1, 4}
    assert takers([], 4) == {4}


def dead(watch: Watch, members: list[Member], *, now: float, unbroken_since: float = 0.0) -> list[int]:
    found = watch.dead(members, me=1, now=now, unbroken_since=unbroken_since, lease_seconds=LEASE)
    return [one.owner for one in found]


def test_one_whose_lease_stood_still_for_a_whole_lease_is_dead() -> None:
    watch = Watch()
    for now in range(6):
        assert dead(watch, [member(1), member(2, alive=now < 5)], now=now) == []
    assert dead(watch, [member(1), member(2, alive=False)], now=6) == [2]


def test_one_that_is_seen_for_the_first_time_gets_a_whole_lease() -> None:
    watch = Watch()
    assert dead(watch, [member(2, alive=False)], now=100) == []
    assert dead(watch, [member(2, alive=False)], now=105) == []
    assert dead(watch, [member(2, alive=False)], now=106) == [2]


def test_a_lease_that_lapses_by_the_servers_clock_alone_is_not_enough() -> None:
    """The clock stepped ahead by an hour: everybody's lease is over, and everybody goes on renewing."""
    watch = Watch()
    for now in range(20):
        assert dead(watch, [member(2, renewed=now // 2, alive=False)], now=now) == []


def test_one_that_is_alive_by_the_servers_clock_is_not_dead() -> None:
    watch = Watch()
    for now in range(20):
        assert dead(watch, [member(2)], now=now) == []


def test_what_could_not_be_seen_does_not_count() -> None:
    """The database was away for long: the others could renew as little as this one."""
    watch = Watch()
    dead(watch, [member(2)], now=0)
    assert dead(watch, [member(2, alive=False)], now=100, unbroken_since=100) == []
    assert dead(watch, [member(2, renewed=1)], now=102, unbroken_since=100) == []
    assert dead(watch, [member(2, renewed=1, alive=False)], now=106.5, unbroken_since=100) == []
    assert dead(watch, [member(2, renewed=1, alive=False)], now=108, unbroken_since=100) == [2]


def test_nobody_takes_himself_for_dead() -> None:
    watch = Watch()
    dead(watch, [member(1, alive=False)], now=0)
    assert dead(watch, [member(1, alive=False)], now=100) == []
