"""A thousand courses of events through the production engine and store, each of them twice."""

from __future__ import annotations

import gc
from collections.abc import Callable

import pytest

from simulation.campaign import again, run_twice
from simulation.run import run_seed
from simulation.world import CrashPoint

SEEDS = 1000
AT_ONCE = 25


@pytest.mark.parametrize("first", range(0, SEEDS, AT_ONCE))
def test_every_promise_holds_and_every_seed_takes_the_same_course_twice(
    first: int, record_property: Callable[[str, object], None]
) -> None:
    outcomes = [run_twice(seed) for seed in range(first, first + AT_ONCE)]
    gc.collect()
    broken = [outcome for outcome in outcomes if outcome.violation is not None]
    record_property("tally", ["seeds held, each run twice", len(outcomes) - len(broken), len(outcomes)])
    assert not broken, "\n".join(map(again, broken))


@pytest.mark.parametrize("point", CrashPoint, ids=lambda point: point.name.lower())
def test_whatever_the_moment_at_which_the_power_fails(point: CrashPoint) -> None:
    outcomes = [run_seed(seed, crash=point) for seed in range(10_000, 10_012)]
    assert [outcome.violation for outcome in outcomes if outcome.violation is not None] == []
    assert sum(outcome.stats[f"crash {point.name}"] for outcome in outcomes) > 0, "this moment never came"
