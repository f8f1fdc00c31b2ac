"""No 202 leaves the process before the disk has its event: what the kernel saw of a real gateway under load."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from builders import endpoint
from faults.gateway_process import home
from faults.load import Ledger, load, under_way
from faults.prefaces import UNSYNCED
from faults.sink import sink
from toolchain import binaries

EVENTS: Final = 150
CALLS: Final = "trace=pwrite64,fdatasync,fsync,write,writev,sendmsg,sendto"
_LINE: Final = re.compile(r"^(?P<thread>\d+) +(?:<\.\.\. )?(?P<name>\w+)(?P<resumed> resumed>)?(?P<rest>.*)$")
_MARK: Final = re.compile(r"order-\d+(?=\W)")
_ANSWER: Final = re.compile(r"HTTP/1\.1 202 .*?(msg_[0-9a-f]{32})")


@dataclass(frozen=True, slots=True)
class Call:
    """A system call, from the line of the trace at which it began to the one at which it returned."""

    name: str
    text: str
    began: int
    returned: int


def calls(trace: Iterable[str]) -> Iterator[Call]:
    """In the order in which they returned."""
    begun: dict[str, tuple[str, int]] = {}
    for number, line in enumerate(trace):
        found = _LINE.match(line)
        if found is None:
            continue
        if line.endswith("<unfinished ...>"):
            begun[found["thread"]] = found["rest"], number
        elif found["resumed"]:
            text, began = begun.pop(found["thread"], ("", number))
            yield Call(found["name"], text + found["rest"], began, number)
        else:
            yield Call(found["name"], found["rest"], number, number)


@dataclass(frozen=True, slots=True)
class Verdict:
    """How many 202 were written, and which of them while no sync had covered their event."""

    answers: int
    early: list[str]


def judge(trace: Iterable[str], caller_of: dict[str, str]) -> Verdict:
    """`caller_of`: the caller's id, which is in the event's data, by event id."""
    written: dict[str, int] = {}
    syncs: list[Call] = []
    answered: dict[str, int] = {}
    for call in calls(trace):
        if call.name == "pwrite64" and "-wal>" in call.text:
            for mark in _MARK.findall(call.text):
                written.setdefault(mark, call.returned)
        elif call.name in ("fdatasync", "fsync") and "-wal>" in call.text and call.text.endswith("= 0"):
            syncs.append(call)
        else:
            for event in _ANSWER.findall(call.text):
                answered.setdefault(event, call.began)
    early = [
        event
        for event, at in answered.items()
        if not any(written.get(caller_of[event], at) < sync.began and sync.returned < at for sync in syncs)
    ]
    return Verdict(len(answered), early)


async def verdict(folder: Path, *, preface: str = "") -> Verdict:
    """Publish over several connections to a gateway under strace, and read what it did."""
    try:
        strace = binaries.provide("strace")
    except binaries.ProgramMissingError as error:
        pytest.skip(str(error))
    trace, ledger = folder / "trace", Ledger()
    wrapper = (strace, "-f", "-y", "-s", "4400", "--seccomp-bpf", "-e", CALLS, "-o", trace, "--")
    async with sink() as receiver, home(folder, endpoint("all", url=f"{receiver.url}/all")) as place:
        life = await place.start(wrapper=wrapper, preface=preface)
        async with load(life, ledger, producers=6):
            await under_way(ledger, EVENTS)
        assert await life.stop() == 0
    assert ledger.statuses.keys() == {202}
    caller_of = {event: caller for caller, event in ledger.promised.items()}
    found = judge(trace.read_text(encoding="latin-1").splitlines(), caller_of)
    assert found.answers >= EVENTS, "the trace does not show the answers: nothing was judged"
    return found


async def test_every_202_comes_after_the_sync_of_its_event(tmp_path: Path) -> None:
    assert (await verdict(tmp_path)).early == []


async def test_without_the_sync_the_trace_shows_answers_that_came_too_early(tmp_path: Path) -> None:
    """The control: with synchronous=NORMAL the same judgement must find them."""
    found = await verdict(tmp_path, preface=UNSYNCED)
    assert len(found.early) > found.answers // 2


def test_a_sync_that_began_before_the_write_covers_nothing() -> None:
    wal = "3</s/store.db-wal>"
    trace = [
        f"1 fdatasync({wal} <unfinished ...>",
        f'2 pwrite64({wal}, "x order-7\\0", 4096, 0) = 4096',
        "1 <... fdatasync resumed>) = 0",
        '3 write(9<socket:[1]>, "HTTP/1.1 202 Accepted msg_' + "a" * 32 + '", 10) = 10',
    ]
    event = "msg_" + "a" * 32
    assert judge(trace, {event: "order-7"}) == Verdict(1, [event])
    late = [trace[1], trace[0], trace[2], trace[3]]
    assert judge(late, {event: "order-7"}) == Verdict(1, [])
