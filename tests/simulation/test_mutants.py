"""A simulator that notices nothing proves nothing: known bugs, one by one, in the production code."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from simulation.mutants import MUTANTS, Mutant, judge


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name.replace(" ", "-"))
def test_a_known_bug_is_noticed(mutant: Mutant, record_property: Callable[[str, object], None]) -> None:
    verdict = judge(mutant)
    record_property("tally", ["mutants killed", int(verdict.seed is not None), 1])
    assert verdict.seed is not None, f"{mutant.name}: not noticed"


def test_there_are_enough_of_them_and_each_has_a_name_of_its_own() -> None:
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS) >= 20
