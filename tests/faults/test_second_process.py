"""Two processes on one store: the second is told so and ends; the first does not notice."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from builders import endpoint
from faults.gateway_process import home
from faults.load import Ledger, load, under_way
from faults.sink import sink


async def test_a_second_process_is_told_which_path_and_what_to_do_and_harms_nothing(tmp_path: Path) -> None:
    async with sink() as receiver, home(tmp_path, endpoint("all", url=f"{receiver.url}/all")) as place:
        first, ledger = await place.start(), Ledger()
        async with load(first, ledger, producers=4, pause=0.005):
            for _ in range(3):
                second = place.launch()
                assert await second.ended() == 1
                assert f"store {place.store}: it is in use by process {first.pid};" in second.log
                assert "stop the other one, or give this one another --store" in second.log
                assert "Traceback" not in second.log
            await under_way(ledger, len(ledger.promised) + 50)
        assert ledger.statuses.keys() == {202}
        await first.settled(len(ledger.promised))
        assert set(receiver.seen.values()) == {1}
        assert receiver.ids("/all") == set(ledger.promised.values())
        assert await first.stop() == 0
        assert await place.check() == []


async def test_a_killed_process_holds_no_store(tmp_path: Path) -> None:
    async with home(tmp_path) as place:
        (await place.start()).kill()
        assert (tmp_path / "store.db.lock").exists()
        assert await (await place.start()).stop() == 0


async def test_dev_and_gateway_on_one_file_are_two_processes_too(tmp_path: Path) -> None:
    """`dev` keeps its store in the state folder; the lock knows the file, not the program."""
    (tmp_path / "manifests").mkdir()
    async with home(tmp_path, store=tmp_path / "store.sqlite3") as place:
        first = await place.start()
        dev = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "hookstead.cli.main", "dev", tmp_path / "manifests", "--state-dir", tmp_path),
            *("--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"),
            env=place.environment,
            stderr=asyncio.subprocess.PIPE,
        )
        async with asyncio.timeout(30):
            _, errors = await dev.communicate()
        assert dev.returncode == 1
        assert f"store {place.store}: it is in use by process {first.pid}".encode() in errors
        assert await first.stop() == 0
