"""Laws of merging conditions."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from hookstead.resources.conditions import Condition, ConditionStatus, ConditionType, Reason, merge, ready_summary

NOW = datetime(2026, 1, 1, tzinfo=UTC)
conditions = st.builds(
    Condition,
    type=st.sampled_from(ConditionType),
    status=st.sampled_from(ConditionStatus),
    reason=st.sampled_from(Reason),
    message=st.text(max_size=20),
    observed_generation=st.integers(0, 5),
)
lists = st.lists(conditions, max_size=8, unique_by=lambda condition: condition.type)


@given(lists, lists)
def test_the_result_is_what_was_desired_in_one_order(previous: list[Condition], desired: list[Condition]) -> None:
    merged = merge(previous, desired, now=NOW)
    assert {(item.type, item.status, item.reason) for item in merged} == {
        (item.type, item.status, item.reason) for item in desired
    }
    assert [item.type for item in merged] == sorted((item.type for item in desired), key=list(ConditionType).index)
    assert merge(previous, desired[::-1], now=NOW) == merged


@given(lists, lists)
def test_merging_again_later_changes_nothing(previous: list[Condition], desired: list[Condition]) -> None:
    merged = merge(previous, desired, now=NOW)
    assert merge(merged, desired, now=NOW + timedelta(days=1)) == merged


@given(lists, lists)
def test_the_time_is_now_exactly_where_the_status_flipped(previous: list[Condition], desired: list[Condition]) -> None:
    before = merge([], previous, now=NOW - timedelta(days=1))
    statuses = {item.type: item.status for item in before}
    for item in merge(before, desired, now=NOW):
        flipped = statuses.get(item.type) is not item.status
        assert item.last_transition_time == ("2026-01-01T00:00:00Z" if flipped else "2025-12-31T00:00:00Z")


@given(lists)
def test_ready_has_exactly_one_companion_unless_it_is_true(verdicts: list[Condition]) -> None:
    ready, *others = ready_summary(verdicts, observed_generation=1)
    assert ready.type is ConditionType.READY
    assert (ready.status is ConditionStatus.TRUE) == (not others)
    assert all(other.status is ConditionStatus.TRUE and other.reason is ready.reason for other in others)
