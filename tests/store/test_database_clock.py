"""One clock for all processes on a database, by looks at it and the own steady clock in between."""

from __future__ import annotations

import random

from hookstead.store.postgres.clock import DatabaseClock
from store.samples import StoppedClock

THEIRS = 1_900_000_000_000


def test_before_the_first_look_it_is_the_own_clock() -> None:
    own = StoppedClock()
    assert DatabaseClock(own).now_ms() == own.wall_ms


def test_it_goes_on_with_the_steady_clock_whatever_the_own_wall_clock_does() -> None:
    own = StoppedClock(seconds=100.0)
    clock = DatabaseClock(own)
    clock.sample(sent=100.0, received=100.0, database_ms=THEIRS)
    own.seconds += 1.5
    own.wall_ms -= 3_600_000
    assert clock.now_ms() == THEIRS + 1500
    assert clock.monotonic() == 101.5


def test_it_is_wrong_by_less_than_half_of_the_shortest_round_trip() -> None:
    chance = random.Random(5)
    own = StoppedClock()
    clock = DatabaseClock(own)
    shortest = 1e9
    for _ in range(8):
        there, back = chance.random() / 2, chance.random() / 2
        sent, at, received = own.seconds, own.seconds + there, own.seconds + there + back
        clock.sample(sent=sent, received=received, database_ms=THEIRS + at * 1000)
        own.seconds = received + 2
        shortest = min(shortest, there + back)
        assert abs(clock.now_ms() - (THEIRS + own.seconds * 1000)) <= shortest * 500 + 1


def test_what_contradicts_older_looks_replaces_them() -> None:
    """The database moved to another machine, or this one slept: the long round trip is right, the short ones were."""
    own = StoppedClock()
    clock = DatabaseClock(own)
    for _ in range(8):
        clock.sample(sent=0.0, received=0.001, database_ms=THEIRS)
    clock.sample(sent=0.0, received=0.2, database_ms=THEIRS + 5000)
    assert abs(clock.now_ms() - THEIRS - 5000) <= 100


def test_old_looks_are_forgotten() -> None:
    own = StoppedClock()
    clock = DatabaseClock(own)
    clock.sample(sent=0.0, received=0.0, database_ms=THEIRS)
    for _ in range(8):
        clock.sample(sent=0.0, received=0.1, database_ms=THEIRS + 60)
    assert clock.now_ms() == THEIRS + 60 - 50
