"""Laws of the status scheduler, in virtual time, against an API server that is fast, slow, or says 429."""

from __future__ import annotations

import random
from collections import defaultdict
from itertools import pairwise
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from hookstead.operator.compact import canonical
from hookstead.operator.schedule import Key, Scheduler, Urgency, Write, merge_diff
from hookstead.resources.kinds import Kind

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(0, 3) | st.sampled_from("ab"),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from("xyz"), inner, max_size=3),
    max_leaves=6,
)
WITHOUT_NULL = VALUES.filter(lambda value: "null" not in msgspec.json.encode(value).decode())
OBJECTS = st.dictionaries(st.sampled_from("pqr"), WITHOUT_NULL, max_size=3)


def patched(target: Any, patch: Any) -> Any:
    """RFC 7386, section 2."""
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = patched(result.get(name), value)
    return result


@given(before=OBJECTS, after=OBJECTS)
def test_a_merge_diff_turns_one_into_the_other(before: dict[str, Any], after: dict[str, Any]) -> None:
    assert patched(before, merge_diff(before, after)) == after


@given(before=OBJECTS)
def test_a_merge_diff_of_equals_is_empty(before: dict[str, Any]) -> None:
    assert merge_diff(before, dict(before)) == {}


class Server:
    """The API server as the scheduler sees it: it takes writes, loses some, is slow at times."""

    def __init__(self, seed: int, *, trouble: float) -> None:
        self.chance = random.Random(seed)
        self.trouble = trouble
        self.statuses: dict[Key, dict[str, Any]] = defaultdict(dict)
        self.log: list[tuple[float, Write]] = []
        self.arrivals: list[tuple[float, bool]] = []
        """When the server received it, anywhere between the decision and the answer; whether it was an answer."""

    def take(self, write: Write, now: float) -> tuple[bytes | None, float, float | None]:
        """The new status (None: it failed), the seconds that it took, and what a 429 asked for."""
        self.log.append((now, write))
        self.arrivals.append((now, write.urgency is Urgency.ANSWER))
        if self.chance.random() < self.trouble:
            return None, 0.01, self.chance.choice([None, 0.5])
        self.statuses[write.key] = patched(self.statuses[write.key], write.patch["status"])
        return canonical(self.statuses[write.key]), self.chance.choice([0.002, 0.01, 1.5 * self.trouble]), None


def status(generation: int, *, active: bool, count: int) -> dict[str, Any]:
    return {
        "observedGeneration": generation,
        "conditions": [{"type": "Active", "status": str(active), "reason": "X" if active else "Y"}],
        "activity": {"succeeded": count},
    }


def simulate(
    seed: int, *, objects: int, seconds: float, trouble: float
) -> tuple[Server, Scheduler, dict[Key, Any], float]:
    """Random edits, transitions and activity for `seconds`, then quiet until everything is written."""
    chance = random.Random(seed)
    server = Server(seed, trouble=trouble)
    scheduler = Scheduler(jitter=chance.random, period_seconds=30.0)
    wanted: dict[Key, dict[str, Any]] = {}
    now = 0.0
    keys = [Key(Kind.ENDPOINT, f"e{number}") for number in range(objects)]
    pending: list[tuple[float, Write, tuple[bytes | None, float, float | None]]] = []
    state = {key: [1, True, 0] for key in keys}

    def want(key: Key) -> None:
        generation, active, count = state[key]
        wanted[key] = status(generation, active=bool(active), count=count)
        scheduler.want(
            key,
            uid="u",
            desired=wanted[key],
            written=canonical(server.statuses[key]),
            settled=chance.random() < 0.8,
            now=now,
        )

    for key in keys:
        want(key)
    limit = seconds + 400.0
    while now < limit:
        if now < seconds and chance.random() < 0.7:
            key = chance.choice(keys)
            match chance.randrange(4):
                case 0:
                    state[key][0] += 1
                case 1:
                    state[key][1] = not state[key][1]
                case _:
                    state[key][2] += 1
            want(key)
        while (write := scheduler.take(now)) is not None:
            answer = server.take(write, now)
            pending.append((now + answer[1], write, answer))
            server.arrivals[-1] = (now + answer[1] * chance.random(), server.arrivals[-1][1])
        for item in [item for item in pending if item[0] <= now]:
            pending.remove(item)
            _, write, (after, took, throttled) = item
            if after is None:
                scheduler.failed(write, now=now, throttled=throttled)
            else:
                scheduler.succeeded(write, status=after, now=now, seconds=took)
        if now >= seconds:
            server.trouble = 0.0
            if not pending and scheduler.next_at(now) is None:
                break
        now += 0.05
    return server, scheduler, wanted, now


SEEDS = st.integers(0, 2**32)


@settings(max_examples=40, deadline=None)
@given(seed=SEEDS, trouble=st.sampled_from([0.0, 0.1, 0.5]))
def test_everything_is_written_in_the_end_and_then_nothing_more(seed: int, trouble: float) -> None:
    server, scheduler, wanted, now = simulate(seed, objects=12, seconds=20.0, trouble=trouble)
    assert dict(server.statuses) == wanted
    assert scheduler.next_at(now) is None
    assert scheduler.take(now + 3600) is None


@settings(max_examples=40, deadline=None)
@given(seed=SEEDS)
def test_transitions_of_an_object_are_ten_seconds_apart(seed: int) -> None:
    server, *_ = simulate(seed, objects=3, seconds=60.0, trouble=0.0)
    times: dict[Key, list[float]] = defaultdict(list)
    for now, write in server.log:
        if write.urgency is Urgency.TRANSITION:
            times[write.key].append(now)
    for series in times.values():
        assert all(later - earlier >= 10.0 for earlier, later in pairwise(series))


@settings(max_examples=40, deadline=None)
@given(seed=SEEDS)
def test_routine_activity_is_written_at_most_once_a_period(seed: int) -> None:
    server, *_ = simulate(seed, objects=3, seconds=90.0, trouble=0.0)
    last: dict[Key, float] = {}
    for now, write in server.log:
        if write.urgency is Urgency.ROUTINE and write.key in last:
            assert now - last[write.key] >= 30.0
        if write.before.get("activity") != write.after.get("activity"):
            last[write.key] = now


@settings(max_examples=8, deadline=None)
@given(seed=SEEDS, trouble=st.sampled_from([0.0, 0.3]))
def test_no_second_sees_more_than_the_budgets(seed: int, trouble: float) -> None:
    server, *_ = simulate(seed, objects=150, seconds=15.0, trouble=trouble)
    answers = sorted(at for at, is_answer in server.arrivals if is_answer)
    others = sorted(at for at, is_answer in server.arrivals if not is_answer)
    for series, budget in ((answers, 100), (others, 10)):
        start = 0
        for position, now in enumerate(series):
            while now - series[start] > 1.0:
                start += 1
            assert position - start + 1 <= budget
