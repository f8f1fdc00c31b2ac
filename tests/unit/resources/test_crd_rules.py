"""Offline validation gives every verdict that tests/cluster/test_crds.py gets from the API server."""

from __future__ import annotations

import pytest

from cluster import crd_cases
from hookstead.resources.kinds import Kind
from hookstead.resources.parse import parse, validate


@pytest.mark.parametrize("case", crd_cases.rule_cases(), ids=lambda case: f"{case.kind.value}-{case.field}-{case.says}")
def test_every_rule_refuses_with_its_field_and_message_and_accepts(case: crd_cases.RuleCase) -> None:
    old = case.base if case.is_update else None
    problems = validate(case.refused, old)
    assert any(problem.field == case.field and case.says_offline in str(problem) for problem in problems), problems
    assert validate(case.accepted, old) == []


@pytest.mark.parametrize("kind", list(Kind))
def test_what_is_within_the_bounds_of_every_field_is_accepted_and_nothing_beyond(kind: Kind) -> None:
    wrong = [case.label for case in crd_cases.boundaries(kind) if (not validate(case.obj)) != case.is_accepted]
    assert wrong == []


@pytest.mark.parametrize("kind", list(Kind))
def test_complete_objects_are_parsed(kind: Kind) -> None:
    for obj in crd_cases.complete_objects(kind):
        assert not isinstance(parse(obj), list)
