"""The one function that moves a delivery, over all its inputs."""

from __future__ import annotations

from itertools import product

import pytest

from hookstead.delivery.ports import DeliveryStatus, Settlement, Trigger
from hookstead.delivery.transitions import ALLOWED, is_allowed, reconcile

PENDING, DELIVERED, DEAD, CANCELLED = DeliveryStatus
ALL = list(product(DeliveryStatus, DeliveryStatus, DeliveryStatus, (True, False), Trigger))


def decide(
    current: DeliveryStatus, prior: DeliveryStatus, proposed: DeliveryStatus, succeeded: bool, trigger: Trigger
) -> Settlement | None:
    following = Settlement(status=proposed, next_attempt_ms=5, schedule_position=3)
    return reconcile(current, prior, following, succeeded=succeeded, trigger=trigger)


@pytest.mark.parametrize(("current", "prior", "proposed", "succeeded", "trigger"), ALL)
def test_whatever_happens_only_allowed_transitions_come_out(
    current: DeliveryStatus, prior: DeliveryStatus, proposed: DeliveryStatus, succeeded: bool, trigger: Trigger
) -> None:
    decided = decide(current, prior, proposed, succeeded, trigger)
    assert decided is None or is_allowed(current, decided.status)


@pytest.mark.parametrize(("current", "prior", "proposed", "trigger"), list(product(*[DeliveryStatus] * 3, Trigger)))
def test_a_success_ends_as_delivered_whatever_was_proposed(
    current: DeliveryStatus, prior: DeliveryStatus, proposed: DeliveryStatus, trigger: Trigger
) -> None:
    decided = decide(current, prior, proposed, True, trigger)
    assert (current if decided is None else decided.status) is DELIVERED


@pytest.mark.parametrize(("current", "prior", "proposed"), list(product(*[DeliveryStatus] * 3)))
def test_a_failed_manual_attempt_leaves_everything_as_it_was(
    current: DeliveryStatus, prior: DeliveryStatus, proposed: DeliveryStatus
) -> None:
    assert decide(current, prior, proposed, False, Trigger.MANUAL) is None


@pytest.mark.parametrize("trigger", [Trigger.SCHEDULED, Trigger.REPLAY])
@pytest.mark.parametrize(
    ("current", "prior", "proposed", "kept"),
    [
        (PENDING, PENDING, PENDING, True),
        (PENDING, PENDING, DEAD, True),
        (PENDING, PENDING, CANCELLED, True),
        (PENDING, PENDING, DELIVERED, False),  # a failure cannot have arrived
        (CANCELLED, PENDING, PENDING, False),  # cancelled meanwhile stays cancelled
        (CANCELLED, PENDING, DEAD, False),
        (DELIVERED, PENDING, PENDING, False),  # arrived meanwhile stays so
        (DELIVERED, PENDING, DEAD, False),
        (DEAD, PENDING, PENDING, False),
        (PENDING, DEAD, DEAD, False),  # re-armed meanwhile: this failure belongs to the life before
        (DELIVERED, DELIVERED, DEAD, False),
    ],
)
def test_a_failed_automatic_attempt_counts_only_for_the_state_it_was_made_in(
    trigger: Trigger, current: DeliveryStatus, prior: DeliveryStatus, proposed: DeliveryStatus, kept: bool
) -> None:
    decided = decide(current, prior, proposed, False, trigger)
    assert (decided is not None) is kept
    if decided is not None:
        assert decided == Settlement(status=proposed, next_attempt_ms=5, schedule_position=3)


def test_delivered_is_final() -> None:
    assert not [pair for pair in ALLOWED if pair[0] is DELIVERED]
