"""No answer before the disk has it: what the kernel saw of a store that acknowledges, and of one that is killed."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from hookstead.store.opening import open_store
from hookstead.store.sqlite.settings import Settings
from store.samples import StoppedClock
from toolchain import binaries

SCRIPT = """
import asyncio, os, sys
from pathlib import Path
from store.samples import A, StoppedClock, event
from hookstead.store.sqlite.settings import Settings
from hookstead.store.sqlite.store import SQLiteStore

async def main():
    settings = Settings(synchronous=sys.argv[2])
    store = SQLiteStore(Path(sys.argv[1]), clock=StoppedClock(), min_free_bytes=0, settings=settings)
    async def produce(count):
        for _ in range(count):
            one = event(A)
            await store.accept([one])
            os.write(1, f"ACK {one.id}\\n".encode())
    await asyncio.gather(*(produce(int(sys.argv[3])) for _ in range(int(sys.argv[4]))))

asyncio.run(main())
"""

_ENV = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path), "PYTHONDONTWRITEBYTECODE": "1"}
_CALL = re.compile(r"^\d+ +(?:<\.\.\. )?(?P<name>\w+)(?P<resumed> resumed>)?(?P<rest>.*)$")


def calls(trace: Iterable[str]) -> Iterator[tuple[str, str]]:
    """(call, its text) in the order in which the calls returned."""
    begun: dict[str, str] = {}
    for line in trace:
        found = _CALL.match(line)
        if found is None:
            continue
        thread = line.split(" ", 1)[0]
        if line.endswith("<unfinished ...>"):
            begun[thread] = found["rest"]
        elif found["resumed"]:
            yield found["name"], begun.pop(thread, "") + found["rest"]
        else:
            yield found["name"], found["rest"]


def acknowledged_before_sync(trace: Iterable[str]) -> int:
    """How many answers were written while pages of the WAL, theirs maybe among them, were not synced."""
    dirty = True
    early = 0
    for name, text in calls(trace):
        if name == "pwrite64" and "-wal>" in text:
            dirty = True
        elif name in ("fdatasync", "fsync") and "-wal>" in text and text.endswith("= 0"):
            dirty = False
        elif name == "write" and '"ACK msg_' in text:
            early += dirty
            dirty = True  # the next answer needs a commit of its own: callers here come one at a time
    return early


async def traced(folder: Path, synchronous: str) -> list[str]:
    try:
        strace = binaries.provide("strace")
    except binaries.ProgramMissingError as error:
        pytest.skip(str(error))
    trace = folder / "trace"
    child = await asyncio.create_subprocess_exec(
        *(strace, "-f", "-y", "-s", "64", "-e", "trace=pwrite64,fdatasync,fsync,write", "-o", trace),
        *(sys.executable, "-c", SCRIPT, folder / "store.db", synchronous, "25", "1"),
        stdout=asyncio.subprocess.PIPE,
        env=_ENV,
    )
    output, _ = await child.communicate()
    assert child.returncode == 0
    assert output.count(b"ACK") == 25
    return trace.read_text().splitlines()


async def test_every_answer_comes_after_the_sync_of_its_pages(tmp_path: Path) -> None:
    assert acknowledged_before_sync(await traced(tmp_path, "FULL")) == 0


async def test_without_the_sync_answers_come_before_it(tmp_path: Path) -> None:
    """The control: the trace is able to show an answer that came too early."""
    assert acknowledged_before_sync(await traced(tmp_path, "NORMAL")) > 20


@pytest.mark.parametrize("acknowledged", [1, 150, 900])
async def test_what_a_killed_process_had_acknowledged_is_there(tmp_path: Path, acknowledged: int) -> None:
    path = tmp_path / "store.db"
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", SCRIPT, path, "FULL", "100000", "16"), stdout=asyncio.subprocess.PIPE, env=_ENV
    )
    assert child.stdout is not None
    promised = [await child.stdout.readline() for _ in range(acknowledged)]
    child.send_signal(signal.SIGKILL)
    promised += (await child.stdout.read()).splitlines()
    await child.wait()
    store = open_store(f"sqlite:{path}", min_free_bytes=0, clock=StoppedClock())
    assert await store.check() == []
    for line in promised:
        if line.startswith(b"ACK") and len(line.strip()) == 40:  # the last one may be cut off
            assert await store.event(line.split()[1].decode()) is not None
    await store.close()


def test_the_control_setting_is_not_the_default() -> None:
    assert Settings().synchronous == "FULL"
