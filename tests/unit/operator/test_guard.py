"""The mass-deletion guard."""

from __future__ import annotations

from typing import Any

import pytest

from hookstead.operator.guard import (
    FIRST_LOOK_SECONDS,
    SECOND_LOOK_SECONDS,
    Decision,
    Published,
    after_look,
    decide,
    lost_objects,
    served_in_full,
    still_lost,
    suspect,
)
from hookstead.resources.kinds import Kind


def endpoints(*numbers: int) -> list[Published]:
    return [Published(Kind.ENDPOINT, f"e{number}", f"u{number}") for number in numbers]


ENVIRONMENT = Published(Kind.ENVIRONMENT, "default", "x")
REPLAYS = [Published(Kind.REPLAY, "r", "y")]


@pytest.mark.parametrize(
    ("published", "present", "lost"),
    [
        ([], endpoints(1), 0),
        (endpoints(1, 2, 3, 4), endpoints(1, 2, 3, 4), 0),
        (endpoints(1, 2, 3, 4), endpoints(1, 2, 3), 0),
        (endpoints(1, 2, 3, 4), endpoints(1, 2), 0),
        (endpoints(1, 2, 3, 4), endpoints(1), 3),
        (endpoints(1, 2, 3, 4), [], 4),
        (endpoints(1), [], 1),
        ([ENVIRONMENT, *endpoints(1)], endpoints(1), 1),
        ([*endpoints(1), *REPLAYS], endpoints(1), 0),
        (endpoints(1), [Published(Kind.ENDPOINT, "e1", "another")], 1),
    ],
)
def test_more_than_half_of_a_kind_at_once_is_doubted(
    published: list[Published], present: list[Published], lost: int
) -> None:
    assert len(lost_objects(published, present)) == lost


def test_an_announced_deletion_is_believed_after_one_look() -> None:
    lost = frozenset(endpoints(1, 2))
    suspicion = suspect(None, lost, announced=lost, now=0.0)
    assert decide(suspicion) is Decision.LOOK_AGAIN
    assert suspicion.look_at == FIRST_LOOK_SECONDS
    assert decide(after_look(suspicion, confirmed=True, now=1.0)) is Decision.PUBLISH


def test_a_silent_loss_takes_two_looks_some_time_apart() -> None:
    lost = frozenset(endpoints(*range(30)))
    suspicion = suspect(None, lost, announced=endpoints(1), now=0.0)
    once = after_look(suspicion, confirmed=True, now=1.0)
    assert decide(once) is Decision.LOOK_AGAIN
    assert once.look_at == 1.0 + SECOND_LOOK_SECONDS
    assert decide(after_look(once, confirmed=True, now=20.0)) is Decision.PUBLISH


def test_a_silent_loss_of_a_few_takes_one_look() -> None:
    suspicion = suspect(None, frozenset(endpoints(1, 2)), announced=(), now=0.0)
    assert decide(after_look(suspicion, confirmed=True, now=1.0)) is Decision.PUBLISH


def test_a_look_that_does_not_confirm_starts_the_count_again() -> None:
    suspicion = suspect(None, frozenset(endpoints(*range(30))), announced=(), now=0.0)
    once = after_look(suspicion, confirmed=True, now=1.0)
    again = after_look(once, confirmed=False, now=20.0)
    assert again.confirmations == 0
    assert decide(again) is Decision.LOOK_AGAIN


@pytest.mark.parametrize("lost", [endpoints(1), endpoints(1, 2, 3)])
def test_a_loss_that_grows_or_shrinks_is_a_new_suspicion(lost: list[Published]) -> None:
    first = suspect(None, frozenset(endpoints(1, 2)), announced=(), now=0.0)
    assert suspect(first, frozenset(endpoints(1, 2)), announced=(), now=5.0) is first
    once = after_look(first, confirmed=True, now=1.0)
    again = suspect(once, frozenset(lost), announced=(), now=5.0)
    assert (again.confirmations, again.look_at) == (0, 5.0 + FIRST_LOOK_SECONDS)


def test_what_was_suspected_stays_lost_until_it_is_back_whatever_its_share() -> None:
    suspicion = suspect(None, frozenset(endpoints(1, 2, 3)), announced=(), now=0.0)
    assert still_lost(None, []) == frozenset()
    assert still_lost(suspicion, endpoints(1, 2, 4)) == frozenset(endpoints(3))
    assert still_lost(suspicion, endpoints(1, 2, 3, 4)) == frozenset()


def resources(*, verbs: list[str], leave_out: str = "") -> dict[str, Any]:
    return {"resources": [{"name": kind.plural, "verbs": verbs} for kind in Kind if kind.plural != leave_out]}


FULL = ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"]
TERMINATING = ["delete", "deletecollection", "get", "list", "watch"]
"""What the API server shows of a definition that is being deleted (apiextensions, discovery controller)."""


@pytest.mark.parametrize(
    ("discovery", "expected"),
    [
        (resources(verbs=FULL), True),
        (resources(verbs=TERMINATING), False),
        (resources(verbs=FULL, leave_out="webhookendpoints"), False),
        ({}, False),
    ],
)
def test_a_kind_under_deletion_is_not_served_in_full(discovery: dict[str, Any], expected: bool) -> None:
    assert served_in_full(discovery) is expected
