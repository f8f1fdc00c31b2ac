"""When a failed delivery is tried again."""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hookstead.delivery.retry import RETRY_AFTER_CAP_MS, Dead, RetryAt, after_failure, parse_retry_after
from hookstead.resources.kinds import DEFAULT_SCHEDULE_SECONDS

NOW = 1_800_000_000_000
SCHEDULE = DEFAULT_SCHEDULE_SECONDS


def _due(**overrides: object) -> int:
    arguments: dict[str, object] = {
        "schedule_seconds": SCHEDULE,
        "position": 0,
        "now_ms": NOW,
        "jitter": 0.0,
        **overrides,
    }
    decision = after_failure(**arguments)  # type: ignore[arg-type]  # a table of overrides
    assert isinstance(decision, RetryAt)
    return decision.due_ms - NOW


def test_the_waits_are_the_schedule_and_the_tenth_failure_is_the_last() -> None:
    waits = [_due(position=position) for position in range(9)]
    assert waits == [seconds * 1000 for seconds in SCHEDULE]
    assert sum(waits) == ((75 * 60 + 35) * 60 + 5) * 1000  # 75 h 35 m, and the first five seconds
    assert after_failure(schedule_seconds=SCHEDULE, position=9, now_ms=NOW, jitter=0.0) == Dead()


@given(st.integers(0, 8), st.floats(-1, 1, exclude_max=True))
def test_jitter_moves_a_wait_by_at_most_a_fifth(position: int, jitter: float) -> None:
    plain = SCHEDULE[position] * 1000
    assert 0.8 * plain - 1 <= _due(position=position, jitter=jitter) <= 1.2 * plain + 1


@given(st.integers(0, 8), st.integers(0, 10**12), st.floats(-1, 1, exclude_max=True))
def test_a_retry_after_never_shortens_the_wait_and_parks_no_queue(position: int, wish: int, jitter: float) -> None:
    without = _due(position=position, jitter=jitter)
    wished = _due(position=position, jitter=jitter, retry_after_ms=wish)
    assert wished == max(without, min(wish, RETRY_AFTER_CAP_MS))


def test_a_hopeless_failure_is_dead_at_once() -> None:
    assert after_failure(schedule_seconds=SCHEDULE, position=0, now_ms=NOW, jitter=0, hopeless=True) == Dead()


def _http_date(offset_seconds: int) -> str:
    return format_datetime(datetime.fromtimestamp(NOW // 1000 + offset_seconds, tz=UTC), usegmt=True)


@pytest.mark.parametrize(
    ("text", "milliseconds"),
    [
        (None, None),
        ("", None),
        ("120", 120_000),
        (" 120 ", 120_000),
        ("0", None),
        ("-5", None),
        ("1.5", None),
        ("soon", None),
        ("99999999999999999999", RETRY_AFTER_CAP_MS),
        ("٣", None),
        (_http_date(60), 60_000),
        (_http_date(-60), None),
        (_http_date(30 * 86_400), RETRY_AFTER_CAP_MS),
        ("Fri, 99 Foo 2027 00:00:00 GMT", None),
        (f"Wed, 21 Oct {'9' * 20} 07:28:00 GMT", None),
        (f"Wed, 21 Oct 2099 07:28:00 +{'9' * 20}", None),
    ],
)
def test_a_retry_after_is_seconds_or_a_date_and_anything_else_is_nothing(
    text: str | None, milliseconds: int | None
) -> None:
    assert parse_retry_after(text, now_ms=NOW) == milliseconds


@given(st.text(max_size=40))
def test_no_retry_after_raises(text: str) -> None:
    found = parse_retry_after(text, now_ms=NOW)
    assert found is None or 0 < found <= RETRY_AFTER_CAP_MS
