"""One rule in two forms: whether a list covers a type, and which of many types it covers."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from hookstead.config.event_patterns import covered, covers

# Characters on both sides of the dot in the order of code points, which is what bisection goes by.
NAMES = st.lists(st.text(alphabet="-_09AZaz", min_size=1, max_size=2), min_size=1, max_size=3).map(".".join)
PATTERNS = st.none() | st.lists(NAMES | NAMES.map(lambda name: f"{name}.*"), max_size=5)


@given(PATTERNS, st.sets(NAMES, max_size=20))
def test_the_types_that_a_list_covers_are_those_that_it_covers_one_by_one(
    patterns: list[str] | None, event_types: set[str]
) -> None:
    ordered = sorted(event_types)
    assert sorted(covered(patterns, ordered)) == [name for name in ordered if covers(patterns, name)]
