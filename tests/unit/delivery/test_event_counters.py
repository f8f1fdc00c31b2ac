"""Event counters of several processes in one blob: nothing is counted twice, and nothing is overwritten."""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from builders import channel, config, event_type
from hookstead.config.report import NamedActivity
from hookstead.delivery.event_counters import Addition, EventCounters
from hookstead.delivery.intake import RefusalKind

CONFIG = config(channel("c", "client_1"), event_type("t", "order.paid"))


@dataclass
class Blob:
    value: bytes | None = None
    writes: int = 0

    def replace(self, old: bytes | None, new: bytes) -> bool:
        if old != self.value:
            return False
        self.value, self.writes = new, self.writes + 1
        return True


@dataclass
class Process:
    """One that reads and writes the blob in two steps, so that another may come in between."""

    name: str
    counters: EventCounters = field(default_factory=EventCounters)
    read: bytes | None = None
    addition: Addition | None = None
    turn: int = 0

    def __post_init__(self) -> None:
        self.counters.declare(CONFIG, alone=False)

    def begin(self, blob: Blob) -> None:
        self.turn += 1
        self.read = blob.value
        self.addition = self.counters.added_to(blob.value, by=f"{self.name} {self.turn}")

    def end(self, blob: Blob) -> None:
        addition, self.addition = self.addition, None
        if addition is not None and (addition.blob is None or blob.replace(self.read, addition.blob)):
            self.counters.merged(addition)


STEPS = st.lists(st.tuples(st.integers(0, 2), st.sampled_from(["accept", "refuse", "begin", "end"])), max_size=60)


@given(STEPS)
def test_the_sum_is_what_all_counted_however_their_merging_interleaves(steps: list[tuple[int, str]]) -> None:
    blob, processes = Blob(), [Process(name) for name in "abc"]
    accepted = refused = 0
    for now, (number, step) in enumerate(steps):
        process = processes[number]
        if step == "accept":
            process.counters.accepted("order.paid", ("client_1", "unknown"), now_ms=now)
            accepted += 1
        elif step == "refuse":
            process.counters.refused("order.paid", RefusalKind.SCHEMA_MISMATCH)
            refused += 1
        elif step == "begin":
            process.begin(blob)
        else:
            process.end(blob)
    for process in [*processes, *processes]:
        process.begin(blob)
        process.end(blob)
    for process in processes:
        counters = process.counters
        assert counters.total_accepted == accepted
        assert [one.accepted for one in counters.channels()] == ([accepted] if accepted else [])
        assert [(one.accepted, one.rejected) for one in counters.event_types()] == (
            [(accepted, refused)] if accepted or refused else []
        )


def test_what_others_counted_is_news_and_what_was_counted_here_is_not_told_twice() -> None:
    blob, one, other = Blob(), Process("a"), Process("b")
    one.counters.accepted("order.paid", (), now_ms=5)
    one.begin(blob)
    one.end(blob)
    told = one.counters.version
    assert one.counters.event_types(after=told) == ()
    other.counters.accepted("order.paid", ("client_1",), now_ms=7)
    other.begin(blob)
    other.end(blob)
    one.begin(blob)
    one.end(blob)
    [seen] = one.counters.event_types(after=told)
    assert (seen.accepted, seen.last_event_time) == (2, "1970-01-01T00:00:00.007Z")
    assert one.counters.channels(after=told) == (
        NamedActivity(name="client_1", accepted=1, last_event_time="1970-01-01T00:00:00.007Z"),
    )


def test_an_idle_process_writes_nothing() -> None:
    blob, one = Blob(), Process("a")
    one.counters.accepted("order.paid", (), now_ms=5)
    for _ in range(3):
        one.begin(blob)
        one.end(blob)
    assert blob.writes == 1


def test_what_is_declared_no_more_is_forgotten_and_another_process_names_are_not() -> None:
    blob, one, other = Blob(), Process("a"), Process("b")
    other.counters.declare(config(channel("x", "client_2")), alone=False)
    one.counters.accepted("order.paid", ("client_1",), now_ms=5)
    other.counters.accepted("other", ("client_2",), now_ms=5)
    for process in (one, other, one):
        process.begin(blob)
        process.end(blob)
    one.counters.declare(config(event_type("t", "order.paid")), alone=False)
    one.begin(blob)
    one.end(blob)
    other.begin(blob)
    other.end(blob)
    assert [item.name for item in other.counters.channels()] == ["client_2"]
    one.counters.declare(CONFIG, alone=False)
    assert one.counters.channels() == ()


def test_one_that_is_alone_forgets_what_a_former_life_declared() -> None:
    blob, one = Blob(), Process("a")
    one.counters.accepted("order.paid", ("client_1",), now_ms=5)
    one.begin(blob)
    one.end(blob)
    later = EventCounters()
    later.merged(later.added_to(blob.value, by=""))
    later.declare(config(), alone=True)
    later.declare(CONFIG, alone=True)
    assert (later.channels(), later.event_types(), later.total_accepted) == ((), (), 1)
