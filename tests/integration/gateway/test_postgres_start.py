"""A gateway and the database that it keeps its events in: away at the start, away for a while, or not for it."""

from __future__ import annotations

import asyncio
import logging
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from hookstead.gateway.process import GatewayProcess, StartError
from integration.cli.dev_process import environment
from integration.gateway.gateway_bench import Place, options, running
from store.postgres_fixtures import Databases
from store.postgres_proxy import Proxy
from store.test_postgres_pooler import Pooler, pooler

__all__ = ["pooler"]

PASSWORD = "open-sesame"
NOWHERE = f"postgresql://hookstead:{PASSWORD}@127.0.0.1:1/hookstead"


@pytest.fixture
async def proxied(database: str, databases: Databases) -> AsyncIterator[tuple[Proxy, Place]]:
    """A database behind a proxy that can be closed, and the store's address there."""
    async with Proxy(databases.server.port) as proxy:
        name = database.rpartition("/")[2]
        yield proxy, Place(f"postgresql://hookstead:{PASSWORD}@127.0.0.1:{proxy.port}/{name}")


def shut(proxy: Proxy) -> None:
    """Refuse new connections, break those that are."""
    proxy.closed_door = True
    for task in list(proxy._tasks):
        task.cancel()


async def test_a_database_that_comes_late_is_waited_for_and_that_is_told(
    proxied: tuple[Proxy, Place], caplog: pytest.LogCaptureFixture
) -> None:
    proxy, place = proxied
    proxy.closed_door = True
    process = GatewayProcess(options(place))
    with caplog.at_level(logging.WARNING):
        start = asyncio.create_task(process.start())
        async with asyncio.timeout(30):
            while not caplog.records:
                await asyncio.sleep(0.02)
        assert not start.done()
        proxy.closed_door = False
        await start
    [line] = [record.getMessage() for record in caplog.records if "does not answer" in record.getMessage()]
    assert line.startswith(f"the database postgresql://127.0.0.1:{proxy.port}/")
    assert "trying for another 60 s" in line
    await process.drain_and_stop()


async def test_a_database_that_does_not_come_is_an_error_after_a_while() -> None:
    place = Place(NOWHERE)
    given = options(place, store_patience_seconds=0.3)
    says = (
        r"store postgresql://127.0.0.1:1/hookstead: the database has not answered for 0.3 s \(.*\); see that it is up"
    )
    with pytest.raises(StartError, match=says) as refused:
        await GatewayProcess(given).start()
    assert PASSWORD not in f"{refused.value}{refused.value.__cause__!r}{given}"


async def test_a_database_that_is_away_for_a_while_costs_readiness_and_nothing_that_was_accepted(
    proxied: tuple[Proxy, Place],
) -> None:
    proxy, place = proxied
    async with running(place) as bench:
        assert (await bench.publish()).status == 202
        await bench.finished(1)
        shut(proxy)

        async def unready() -> bool:
            return (await bench.get(f"{bench.admin}/readyz")).status == 503

        await bench.until(unready)
        told = await bench.get(f"{bench.admin}/readyz")
        assert "The store" in told.json["detail"]
        assert PASSWORD not in told.body.decode()
        assert (await bench.get(f"{bench.admin}/healthz")).status == 200
        proxy.closed_door = False

        async def accepted() -> bool:
            answer = await bench.publish()
            assert answer.status in (202, 503), answer
            return answer.status == 202

        await bench.until(accepted)
        await bench.finished(2)
        assert (await bench.get(f"{bench.admin}/readyz")).status == 200


async def test_a_stop_ends_although_the_database_is_away(proxied: tuple[Proxy, Place]) -> None:
    proxy, place = proxied
    async with running(place, drain_seconds=1.0) as bench:
        await bench.publish()
        await bench.finished(1)
        shut(proxy)
    assert bench.process.failure is None


async def test_a_watermark_for_the_disk_is_said_to_mean_nothing_here(
    database: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        async with running(Place(database)):
            pass
    assert "--min-free-bytes does not apply to a PostgreSQL store" in caplog.text


async def test_a_pooler_that_the_address_does_not_tell_of_is_recognised(database: str, pooler: Pooler) -> None:
    behind = pooler.url(database.rpartition("/")[2])
    with pytest.raises(StartError, match=r"a pooler stands in between; add \?pooler=transaction to the address"):
        await GatewayProcess(options(Place(behind.partition("?")[0]))).start()
    async with running(Place(behind)) as bench:
        assert (await bench.publish()).status == 202
        [ended] = await bench.finished(1)
        assert ended["status"] == "Delivered"


# ---------------------------------------------------------------------------------------------- as a program


class Gateways:
    """`hookstead gateway` as subprocesses; the store's address is in the variable."""

    def __init__(self) -> None:
        self._started: list[subprocess.Popen[str]] = []

    def start(self, store: str, *flags: str) -> subprocess.Popen[str]:
        given = ["--auth", "none", "--listen", ":0", "--admin-listen", ":0", "--internal-listen", "none", *flags]
        process = subprocess.Popen(
            [sys.executable, "-m", "hookstead.cli.main", "gateway", *given],
            env=environment(HOOKSTEAD_STORE=store),
            stderr=subprocess.PIPE,
            text=True,
        )
        self._started.append(process)
        return process

    def close(self) -> None:
        for process in self._started:
            process.kill()
            process.communicate()


@pytest.fixture
def gateways() -> Iterator[Gateways]:
    running = Gateways()
    yield running
    running.close()


def told(process: subprocess.Popen[str], words: str) -> str:
    """What it said so far, once `words` are among it."""
    assert process.stderr is not None
    said = ""
    for line in process.stderr:
        said += line
        if words in line:
            return said
    raise AssertionError(said)


def ended(process: subprocess.Popen[str]) -> tuple[int, str]:
    _, errors = process.communicate(timeout=60)
    return process.returncode, errors


def test_the_password_is_seen_neither_in_the_process_list_nor_in_the_log(gateways: Gateways, database: str) -> None:
    process = gateways.start(database.replace("hookstead@", f"hookstead:{PASSWORD}@"))
    said = told(process, "the public port listens")
    assert PASSWORD not in Path(f"/proc/{process.pid}/cmdline").read_text()
    process.send_signal(signal.SIGTERM)
    code, rest = ended(process)
    assert (code, PASSWORD in said + rest) == (0, False)


def test_a_signal_ends_the_wait_for_a_database(gateways: Gateways) -> None:
    process = gateways.start(NOWHERE)
    told(process, "trying for another 60 s")
    process.send_signal(signal.SIGTERM)
    code, rest = ended(process)
    assert (code, "stopped before it was started" in rest) == (0, True)


@pytest.mark.parametrize(
    ("store", "flags", "code", "words"),
    [
        ("{url}_of_nobody", (), 1, 'database "{name}_of_nobody" does not exist'),
        ("{url}?sslmode=perhaps", (), 1, "`sslmode` parameter must be one of"),
        ("{url}?pooler=session", (), 1, "?pooler=…: expected transaction, or none"),
        ("postgresql://hookstead:open-sesame/x@127.0.0.1:1/x", (), 1, "can not be told from its password"),
        ("", ("--store", f"postgresql://u:{PASSWORD}@127.0.0.1:1/x"), 2, "give the whole URL in HOOKSTEAD_STORE"),
    ],
)
def test_what_no_waiting_mends_is_told_at_once(
    gateways: Gateways, database: str, store: str, flags: tuple[str, ...], code: int, words: str
) -> None:
    name = database.rpartition("/")[2]
    returned, said = ended(gateways.start(store.format(url=database), *flags))
    assert returned == code, said
    assert words.format(name=name) in said
    assert "Traceback" not in said
    assert PASSWORD not in said


def test_the_help_does_not_repeat_the_variable() -> None:
    shown: Any = subprocess.run(
        [sys.executable, "-m", "hookstead.cli.main", "gateway", "--help"],
        env=environment(HOOKSTEAD_STORE=NOWHERE),
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert "HOOKSTEAD_STORE" in shown.stdout
    assert PASSWORD not in shown.stdout
