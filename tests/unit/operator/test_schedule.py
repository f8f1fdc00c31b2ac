"""The status scheduler, one rule at a time, in virtual time."""

from __future__ import annotations

import math
import random
from typing import Any

import pytest

from hookstead.operator.compact import canonical
from hookstead.operator.schedule import WINDOW_SECONDS, Key, Pace, Scheduler, Urgency, Write, classify
from hookstead.resources.kinds import Kind

KEY = Key(Kind.ENDPOINT, "a")


def status(generation: int = 1, active: str = "True", **fields: Any) -> dict[str, Any]:
    return {
        "observedGeneration": generation,
        "conditions": [{"type": "Active", "status": active, "reason": "R", "message": fields.pop("message", "")}],
        **fields,
    }


@pytest.mark.parametrize(
    ("before", "after", "urgency"),
    [
        (status(), status(), None),
        ({}, status(), Urgency.ANSWER),
        ({"observedGeneration": -1}, status(), Urgency.ANSWER),
        (status(1), status(2), Urgency.ANSWER),
        (status(), status(lastHandledReconcileAt="x"), Urgency.ANSWER),
        (status(), status(lastHandledResumeAt="x"), Urgency.ANSWER),
        (status(), status(active="False"), Urgency.TRANSITION),
        (status(), status(active="False", activity={"failed": 1}), Urgency.TRANSITION),
        (status(), status(message="other"), Urgency.FACTS),
        (status(), status(endpoints=2), Urgency.FACTS),
        (status(), status(activity={"failed": 1}), Urgency.ROUTINE),
        (status(recentDeliveries=[1]), status(), Urgency.ROUTINE),
    ],
)
def test_a_difference_is_as_urgent_as_what_differs(
    before: dict[str, Any], after: dict[str, Any], urgency: Urgency | None
) -> None:
    assert classify(before, after) is urgency


class Desk:
    """A scheduler with an API server that takes everything at once."""

    def __init__(self) -> None:
        self.scheduler = Scheduler(jitter=lambda: 0.0)
        self.written: dict[Key, bytes] = {}

    def want(self, desired: dict[str, Any], *, now: float, settled: bool = True, key: Key = KEY) -> None:
        self.scheduler.want(
            key, uid="u", desired=desired, written=self.written.get(key, b"{}"), settled=settled, now=now
        )

    def done(self, write: Write, *, now: float) -> None:
        self.written[write.key] = canonical(write.after)
        self.scheduler.succeeded(write, status=self.written[write.key], now=now, seconds=0.01)

    def write(self, now: float) -> Write | None:
        write = self.scheduler.take(now)
        if write is not None:
            self.done(write, now=now)
        return write


def test_the_answer_to_a_change_goes_out_as_soon_as_it_is_settled() -> None:
    desk = Desk()
    desk.want(status(), now=0.0, settled=False)
    assert desk.write(0.5) is None
    desk.want(status(message="settled"), now=0.6, settled=True)
    write = desk.write(0.6)
    assert write is not None
    assert write.after == status(message="settled")


def test_the_answer_to_a_change_waits_a_little_less_than_two_seconds_at_most() -> None:
    desk = Desk()
    desk.want(status(), now=0.0, settled=False)
    at = desk.scheduler.next_at(0.0)
    assert at is not None
    assert at == pytest.approx(1.75)
    assert desk.write(at - 0.01) is None
    assert desk.write(at) is not None


def test_an_unsettled_difference_that_goes_away_is_never_written() -> None:
    desk = Desk()
    desk.want(status(), now=0.0)
    assert desk.write(0.0) is not None
    desk.want(status(active="False"), now=1.0, settled=False)
    desk.want(status(), now=1.5)
    assert desk.write(100.0) is None


def test_the_first_transition_follows_the_answer_at_once_and_the_next_ten_seconds_later() -> None:
    desk = Desk()
    desk.want(status(), now=0.0)
    assert desk.write(0.0) is not None
    desk.want(status(active="False"), now=1.0)
    assert desk.write(1.0) is not None
    desk.want(status(), now=2.0)
    assert desk.write(2.0) is None
    desk.want(status(active="Unknown"), now=3.0)
    write = desk.write(11.0)
    assert write is not None
    assert write.after == status(active="Unknown"), "the latest state wins"


def test_a_transition_does_not_wait_for_counts_and_counts_wait_for_both() -> None:
    desk = Desk()
    desk.want(status(), now=0.0)
    desk.write(0.0)
    desk.want(status(selected=3), now=1.0)
    assert desk.write(1.0) is not None
    desk.want(status(selected=4), now=2.0)
    assert desk.write(2.0) is None
    desk.want(status(active="False", selected=4), now=3.0)
    assert desk.write(3.0) is not None
    desk.want(status(active="False", selected=5), now=4.0)
    assert desk.write(12.9) is None
    assert desk.write(13.0) is not None


def test_a_change_of_the_object_does_not_wait_for_an_earlier_transition() -> None:
    desk = Desk()
    desk.want(status(), now=0.0)
    desk.write(0.0)
    desk.want(status(active="False"), now=1.0)
    desk.write(1.0)
    desk.want(status(generation=2), now=2.0)
    assert desk.write(2.0) is not None


def test_routine_activity_is_gathered_and_then_waits_for_the_period() -> None:
    desk = Desk()
    desk.want(status(), now=0.0)
    desk.write(0.0)
    desk.want(status(activity={"n": 1}), now=1.0)
    assert desk.write(1.5) is None
    desk.want(status(activity={"n": 2}), now=1.6)
    write = desk.write(2.1)
    assert write is not None
    assert write.after["activity"] == {"n": 2}
    desk.want(status(activity={"n": 3}), now=3.0)
    assert desk.scheduler.next_at(3.0) == pytest.approx(62.1)


def test_transitions_go_before_activity_and_the_oldest_first() -> None:
    desk = Desk()
    keys = [Key(Kind.ENDPOINT, name) for name in "abcd"]
    for number, key in enumerate(keys):
        desk.want(status(), now=float(number), key=key)
        assert desk.write(float(number)) is not None
    desk.want(status(activity={"n": 1}), now=10.0, key=keys[0])
    desk.want(status(active="False"), now=10.2, key=keys[1])
    desk.want(status(active="False"), now=10.1, key=keys[2])
    desk.want(status(endpoints=1), now=9.0, key=keys[3])
    order: list[str] = []
    now = 20.0
    while len(order) < 4:
        write = desk.write(now)
        if write is not None:
            order.append(write.key.name)
        now += 0.05
    assert order == ["c", "b", "d", "a"]


def test_what_the_server_pruned_is_not_sent_for_ever() -> None:
    desk = Desk()
    desk.want(status(unknown=1), now=0.0)
    write = desk.scheduler.take(0.0)
    assert write is not None
    desk.written[KEY] = canonical(status())
    desk.scheduler.succeeded(write, status=desk.written[KEY], now=0.0, seconds=0.01)
    desk.want(status(unknown=1), now=60.0)
    assert desk.scheduler.next_at(60.0) is None


def test_a_failed_write_is_tried_again_later_and_later() -> None:
    desk = Desk()
    desk.want(status(), now=0.0)
    now, waits = 0.0, []
    for _ in range(4):
        write = desk.scheduler.take(now)
        assert write is not None
        desk.scheduler.failed(write, now=now)
        due = desk.scheduler.next_at(now)
        assert due is not None
        waits.append(due - now)
        now = due
    assert waits == pytest.approx([1.0, 2.0, 4.0, 8.0])


def test_a_429_pauses_everything_for_as_long_as_it_says() -> None:
    desk = Desk()
    other = Key(Kind.ENDPOINT, "b")
    desk.want(status(), now=0.0)
    desk.want(status(), now=0.0, key=other)
    write = desk.scheduler.take(0.0)
    assert write is not None
    desk.scheduler.failed(write, now=0.0, throttled=5.0)
    assert desk.scheduler.take(4.9) is None
    assert desk.scheduler.take(5.0) is not None


def test_trouble_halves_the_pace_and_quiet_brings_it_back() -> None:
    desk = Desk()
    keys = [Key(Kind.ENDPOINT, f"e{number}") for number in range(600)]
    for key in keys:
        desk.want(status(), now=0.0, key=key)

    def written_within(start: float, *, took: float) -> int:
        count, now = 0, start
        while now < start + 1.0:
            while (write := desk.scheduler.take(now)) is not None:
                count += 1
                desk.written[write.key] = canonical(write.after)
                desk.scheduler.succeeded(write, status=desk.written[write.key], now=now, seconds=took)
            now += 0.005
        return count

    assert written_within(0.0, took=0.01) > 90
    assert 40 <= written_within(1.01, took=2.0) <= 50, "one stall, however many it slowed"
    assert written_within(2.02, took=2.0) <= 25
    assert written_within(3.03, took=2.0) <= 13
    assert written_within(30.0, took=0.01) > 60


def test_an_object_of_another_uid_starts_anew() -> None:
    desk = Desk()
    desk.want(status(), now=0.0)
    desk.write(0.0)
    desk.want(status(active="False"), now=1.0)
    desk.write(1.0)
    desk.written[KEY] = b"{}"
    desk.scheduler.want(KEY, uid="other", desired=status(), written=b"{}", settled=True, now=1.5)
    write = desk.write(1.5)
    assert write is not None
    assert write.patch["metadata"] == {"uid": "other"}


def test_a_dropped_object_is_not_written() -> None:
    desk = Desk()
    desk.want(status(), now=0.0)
    desk.scheduler.drop(KEY)
    assert desk.write(10.0) is None


def test_what_is_wanted_while_a_write_is_under_way_follows_it() -> None:
    desk = Desk()
    desk.want(status(), now=0.0)
    write = desk.scheduler.take(0.0)
    assert write is not None
    desk.want(status(generation=2), now=0.01)
    assert desk.scheduler.take(0.02) is None
    desk.done(write, now=0.03)
    following = desk.write(0.05)
    assert following is not None
    assert following.after["observedGeneration"] == 2


def test_a_pace_lets_no_more_arrive_within_any_second_however_long_they_are_under_way() -> None:
    pace = Pace(10)
    chance = random.Random(1)
    now = 0.0
    arrived: list[float] = []
    ends: list[float] = []
    while now < 5.0:
        for end in [end for end in ends if end <= now]:
            ends.remove(end)
            pace.ended(end)
        if pace.wait(now) <= 0:
            pace.take()
            ends.append(now + chance.choice([0.001, 0.3]))
            arrived.append(chance.uniform(now, ends[-1]))
        now += 0.013
    arrived.sort()
    assert len(arrived) >= 35
    assert all(later - earlier >= 1.0 for earlier, later in zip(arrived, arrived[10:], strict=False))


def test_a_slowed_pace_lets_its_share_through_and_at_least_one() -> None:
    pace = Pace(10, share=0.25)
    for _ in range(2):
        assert pace.wait(0.0) == 0.0
        pace.take()
    assert pace.wait(0.0) == math.inf
    pace.ended(0.0)
    pace.ended(0.2)
    assert pace.wait(0.5) == pytest.approx(WINDOW_SECONDS - 0.5)
    pace.share = 0.01
    assert pace.wait(0.5) == pytest.approx(WINDOW_SECONDS - 0.3)
    assert pace.wait(0.2 + WINDOW_SECONDS) == 0.0


def test_writes_to_objects_that_are_gone_give_their_place_back() -> None:
    desk = Desk()
    keys = [Key(Kind.ENDPOINT, f"e{number}") for number in range(300)]
    for key in keys:
        desk.want(status(), now=0.0, key=key)
    taken = 0
    for now in (0.0, 1.1, 2.2, 3.3):
        while (write := desk.scheduler.take(now)) is not None:
            taken += 1
            desk.scheduler.abandoned(write, now=now)
    assert taken == 300


def test_a_write_is_overtaken_when_the_object_is_to_say_something_else_meanwhile() -> None:
    made = Scheduler(jitter=lambda: 0.0)
    key = Key(Kind.CHANNEL, "a")
    made.want(key, uid="u", desired={"observedGeneration": 1}, written=b"{}", settled=True, now=0.0)
    write = made.take(0.0)
    assert write is not None
    assert not made.overtaken(write)
    made.want(key, uid="u", desired={"observedGeneration": 1, "endpoints": 1}, written=b"{}", settled=True, now=0.1)
    assert made.overtaken(write)
    made.want(key, uid="another", desired={"observedGeneration": 1}, written=b"{}", settled=True, now=0.2)
    assert not made.overtaken(write)
