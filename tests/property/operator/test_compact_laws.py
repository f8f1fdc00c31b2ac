"""What is kept as bytes comes back as it was, and is equal exactly when the values are."""

from __future__ import annotations

from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from hookstead.operator.compact import PLAIN_BYTES, canonical, json_of, plain

TEXTS = st.text(max_size=20) | st.sampled_from(["x" * 600, "\u00e4" * 400])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


@given(VALUES)
def test_what_is_kept_comes_back(value: Any) -> None:
    kept = canonical(value)
    assert plain(kept) == value
    assert msgspec.json.decode(json_of(kept)) == value
    assert len(kept) <= max(PLAIN_BYTES, len(msgspec.json.encode(value)) + 16)


@given(st.dictionaries(TEXTS, VALUES, max_size=4))
def test_the_order_of_fields_makes_no_difference(value: dict[str, Any]) -> None:
    assert canonical(dict(reversed(value.items()))) == canonical(value)
