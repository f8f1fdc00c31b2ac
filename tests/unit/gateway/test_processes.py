"""Several processes on one host: what they share, and how they end together."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from hookstead.gateway.options import GatewayOptions, OptionsError
from hookstead.gateway.processes import numbered

WAIT_SECONDS = 30.0
PROGRAM = r"""
import os, select, signal, sys, time
from hookstead.gateway.processes import serve_many

def serve(number, lifeline):
    told, tell = os.pipe()
    os.set_blocking(tell, False)
    signal.set_wakeup_fd(tell)  # not a handler of ours, which would run after the wait that it is to end
    for one in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):
        signal.signal(one, lambda *_: None)
    os.write(1, b"%d %d\n" % (number, os.getpid()))
    if number == int(sys.argv[2]):
        return 3
    how = b""
    while not how:
        ready, _, _ = select.select([lifeline, told], [], [], 60)
        if lifeline in ready:
            how = b"cut"
        elif told not in ready:
            how = b"forgotten"
        elif os.read(told, 1)[0] == signal.SIGUSR1:
            os.write(1, b"%d left\n" % number)
        else:
            time.sleep(0.3)  # for a second signal, which would be one to hurry
            how = b"hurried" if select.select([told], [], [], 0)[0] else b"stopped"
    os.write(1, b"%d %s\n" % (number, how))
    return 0

sys.exit(serve_many(int(sys.argv[1]), serve))
"""


@pytest.fixture
def started() -> Iterator[list[subprocess.Popen[str]]]:
    programs: list[subprocess.Popen[str]] = []
    yield programs
    for program in programs:
        program.kill()
        program.communicate(timeout=WAIT_SECONDS)


def start(
    started: list[subprocess.Popen[str]], count: int, *, ends: int = -1, preface: str = ""
) -> subprocess.Popen[str]:
    program = subprocess.Popen(
        [sys.executable, "-c", preface + PROGRAM, str(count), str(ends)],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    started.append(program)
    return program


def lines(program: subprocess.Popen[str], count: int) -> dict[int, str]:
    """What so many processes say next, by their number."""
    assert program.stdout is not None
    return {int(number): text for number, text in (program.stdout.readline().split() for _ in range(count))}


def has_ended(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"


def test_a_signal_reaches_each_of_them_and_the_exit_code_is_0(started: list[subprocess.Popen[str]]) -> None:
    program = start(started, 3)
    assert set(lines(program, 3)) == {0, 1, 2}
    program.send_signal(signal.SIGTERM)
    assert lines(program, 3) == {0: "stopped", 1: "stopped", 2: "stopped"}
    assert program.wait(WAIT_SECONDS) == 0


def signals(pid: int, how: str) -> set[int]:
    """Those that a process has handlers for (SigCgt), or blocks (SigBlk)."""
    [mask] = [line.split()[1] for line in Path(f"/proc/{pid}/status").read_text().splitlines() if how in line]
    return {number for number in range(1, 65) if int(mask, 16) >> (number - 1) & 1}


def test_no_signal_can_come_too_early_for_the_one_that_passes_them_on(started: list[subprocess.Popen[str]]) -> None:
    """With a handler, one could come between the interpreter's last look for it and the call that waits."""
    program = start(started, 2)
    pids = lines(program, 2)
    assert signals(program.pid, "SigCgt").isdisjoint({signal.SIGTERM, signal.SIGUSR1, signal.SIGCHLD})
    assert [signals(int(pid), "SigBlk") for pid in pids.values()] == [set(), set()]


def test_that_a_stop_will_follow_is_told_to_each_of_them_and_ends_none(started: list[subprocess.Popen[str]]) -> None:
    program = start(started, 3)
    assert set(lines(program, 3)) == {0, 1, 2}
    program.send_signal(signal.SIGUSR1)
    assert lines(program, 3) == {0: "left", 1: "left", 2: "left"}
    program.send_signal(signal.SIGTERM)
    assert lines(program, 3) == {0: "stopped", 1: "stopped", 2: "stopped"}
    assert program.wait(WAIT_SECONDS) == 0


def test_a_terminals_interrupt_reaches_each_of_them_once(started: list[subprocess.Popen[str]]) -> None:
    program = start(started, 2)
    lines(program, 2)
    os.killpg(program.pid, signal.SIGINT)  # as Ctrl-C does to all in the foreground
    assert lines(program, 2) == {0: "stopped", 1: "stopped"}
    assert program.wait(WAIT_SECONDS) == 0


def test_where_one_ends_by_itself_the_others_are_stopped_and_its_exit_code_is_theirs(
    started: list[subprocess.Popen[str]],
) -> None:
    program = start(started, 3, ends=1)
    assert program.wait(WAIT_SECONDS) == 3


def test_where_one_is_killed_the_others_are_stopped(started: list[subprocess.Popen[str]]) -> None:
    program = start(started, 2)
    pids = lines(program, 2)
    os.kill(int(pids[1]), signal.SIGKILL)
    assert lines(program, 1) == {0: "stopped"}
    assert program.wait(WAIT_SECONDS) == signal.SIGKILL


def test_a_parent_that_ignored_the_end_of_its_children_makes_no_difference(
    started: list[subprocess.Popen[str]],
) -> None:
    """Some supervisors do, and whoever they start inherits it."""
    program = start(started, 3, ends=1, preface="import signal; signal.signal(signal.SIGCHLD, signal.SIG_IGN)")
    assert program.wait(WAIT_SECONDS) == 3


def test_none_outlives_the_process_that_began_it(started: list[subprocess.Popen[str]]) -> None:
    program = start(started, 2)
    pids = lines(program, 2)
    program.kill()
    assert lines(program, 2) == {0: "cut", 1: "cut"}
    deadline = time.monotonic() + WAIT_SECONDS
    while not all(has_ended(int(pid)) for pid in pids.values()):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_the_public_port_is_shared_and_the_others_count_up() -> None:
    options = GatewayOptions(store="postgresql://h@localhost/h", listen=("", 8080), admin_listen=("", 0))
    third = numbered(options, 2)
    assert (third.listen, third.share_port) == (("", 8080), True)
    assert third.admin_listen == ("", 0), "any free one"
    assert third.internal_listen == ("", 9445)


@pytest.mark.parametrize(
    ("store", "port", "why"),
    [("sqlite:/var/lib/x.db", 8080, "one process owns an SQLite store"), ("postgresql://h@localhost/h", 0, "found 0")],
)
def test_what_several_processes_cannot_share_is_refused(store: str, port: int, why: str) -> None:
    with pytest.raises(OptionsError, match=why):
        numbered(GatewayOptions(store=store, listen=("", port)), 0)
