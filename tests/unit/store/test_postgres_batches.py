"""What is kept for others, how it is cut into payloads of NOTIFY, and how it comes together again."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hookstead.store.postgres.batches import PARTS, Assembly, Batch, Outbox, payloads

LINES = st.lists(st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1, max_size=30), max_size=40)
LONG = "x" * 30_000
PAYLOAD_LIMIT = 8000
"""PostgreSQL's own: a payload is shorter."""


@given(lines=LINES, long=st.integers(0, 3), lost=st.integers(0, 10**9), member=st.integers(1, 2**63 - 1))
def test_what_is_cut_comes_together_again(lines: list[str], long: int, lost: int, member: int) -> None:
    batch = Batch((*lines, *[LONG] * long), lost)
    assembly = Assembly()
    cut = payloads(str(member), batch)
    assert all(payload.isascii() and len(payload) < PAYLOAD_LIMIT for payload in cut)
    assert len(set(cut)) == len(cut), "of equal ones PostgreSQL passes on one"
    found = [assembly.add(payload) for payload in cut]
    assert found == [*[None] * (len(cut) - 1), (str(member), batch)]


def test_the_largest_batch_that_may_wait_can_be_sent() -> None:
    outbox = Outbox()
    for _ in range(500):
        outbox.put(LONG, now=0)
    batch = outbox.take()
    assert len(batch.messages) + batch.lost == 500
    cut = payloads("1", batch)
    assert len(cut) <= PARTS
    assembly = Assembly()
    assert [assembly.add(payload) for payload in cut][-1] == ("1", batch)


@given(st.lists(st.text(max_size=40), max_size=10))
def test_what_is_no_payload_of_ours_is_passed_over(rubbish: list[str]) -> None:
    assembly = Assembly()
    for one in rubbish:
        assembly.add(one)
    assert assembly.add("7 0 1 0 hello") == ("7", Batch(("hello",), 0))


@pytest.mark.parametrize(
    "given_",
    [
        ["7 1 2 0 b"],
        ["7 0 3 0 a", "7 2 3 0 c"],
        ["7 0 2 0 a", "8 1 2 0 b"],
        ["7 2 2 0 a"],
        [f"7 0 {PARTS + 1} 0 a"],
        ["7 -1 2 0 a"],
        ["7 0 1 x a"],
        ["7 0 1 0"],
        [f"7 0 1 {'9' * 5000} a"],
    ],
)
def test_parts_that_do_not_belong_together_make_no_batch(given_: list[str]) -> None:
    assembly = Assembly()
    assert [assembly.add(payload) for payload in given_] == [None] * len(given_)


def test_beyond_its_bounds_an_outbox_loses_the_oldest_and_says_how_many() -> None:
    outbox = Outbox(messages=3, size=100)
    for number in range(5):
        outbox.put(str(number), now=0)
    assert outbox.take() == Batch(("2", "3", "4"), 2)
    assert not outbox
    outbox.put("a" * 60, now=0)
    outbox.put("b" * 60, now=0)
    assert outbox.take() == Batch(("b" * 60,), 1)
    outbox.put("c" * 200, now=0)
    assert outbox, "that something was lost is to be told, too"
    assert outbox.take() == Batch((), 1)


def test_a_batch_that_may_not_have_arrived_counts_as_lost_and_is_not_sent_again() -> None:
    outbox = Outbox()
    outbox.put("a", now=0)
    outbox.put("b", now=0)
    outbox.failed(outbox.take())
    outbox.put("c", now=0)
    assert outbox.take() == Batch(("c",), 2)
