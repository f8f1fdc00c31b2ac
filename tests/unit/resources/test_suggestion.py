"""Did-you-mean: what is found among few and among many."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from hookstead.resources.suggestion import closest, did_you_mean

MANY = [f"client-{number:05d}" for number in range(10_000)] + ["client-acme", "order.created", "Order.Paid"]


@pytest.mark.parametrize(
    ("word", "known", "expected"),
    [
        ("chanelRefs", ("channelRefs", "channelName"), "channelRefs"),
        ("ORDER.CREATED", ("order.created",), "order.created"),
        ("lient-acme", ("client-acme", "client-b"), "client-acme"),
        ("nothing", ("order.created",), None),
        ("", ("a",), None),
        ("a", (), None),
        ("client-acmee", MANY, "client-acme"),
        ("client-amce", MANY, "client-acme"),
        ("order.creatd", MANY, "order.created"),
        ("order.pay", MANY, "Order.Paid"),
        ("nothing-like-it", MANY, None),
    ],
)
def test_the_closest_name_is_found_whatever_its_case(word: str, known: Sequence[str], expected: str | None) -> None:
    assert closest(word, known) == expected


def test_nothing_close_is_no_question() -> None:
    assert did_you_mean("x", ("order.created",)) == ""
    assert did_you_mean("order.creatd", MANY) == ' (did you mean "order.created"?)'
