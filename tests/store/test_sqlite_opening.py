"""What is particular to the embedded store: who may open which file, and what it makes sure of."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import apsw
import pytest

from hookstead.delivery.ports import EndpointCounts, Store, StoreError, StoreFull
from hookstead.store.errors import SchemaTooNew, StoreInUse, StoreRefused
from hookstead.store.opening import open_store
from hookstead.store.sqlite import files
from hookstead.store.sqlite.schema import APPLICATION_ID, MIGRATIONS, migrate
from store.samples import NOW, A, StoppedClock, event


def opened(path: Path, min_free: int | None = 0) -> Store:
    return open_store(f"sqlite:{path}", min_free_bytes=min_free, clock=StoppedClock())


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "folder" / "store.db"


async def test_a_missing_folder_is_made(path: Path) -> None:
    await opened(path).close()
    assert path.exists()


async def test_a_second_store_on_one_file_is_refused_with_what_to_do(path: Path) -> None:
    first = opened(path)
    with pytest.raises(StoreInUse, match=rf"in use by process {os.getpid()}; .*another --store"):
        opened(path)
    await first.close()
    await opened(path).close()


async def test_a_second_process_on_one_file_is_refused(path: Path) -> None:
    first = opened(path)
    script = (
        "import sys; from store.samples import StoppedClock; from hookstead.store.opening import open_store\n"
        "from hookstead.store.errors import StoreInUse\n"
        "try: open_store(sys.argv[1], min_free_bytes=0, clock=StoppedClock())\n"
        "except StoreInUse as error: print(error); sys.exit(1)"
    )
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", script, f"sqlite:{path}"),
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    output, _ = await child.communicate()
    assert child.returncode == 1
    assert f"in use by process {os.getpid()}" in output.decode()
    await first.close()


async def test_a_newer_schema_is_refused_and_left_alone(path: Path) -> None:
    store = opened(path)
    await store.accept([event(A)])
    await store.close()
    with apsw.Connection(str(path)) as connection:
        connection.pragma("user_version", len(MIGRATIONS) + 1)
    connection.close()
    before = path.read_bytes()
    with pytest.raises(SchemaTooNew, match=rf"version {len(MIGRATIONS) + 1}.*up to {len(MIGRATIONS)}.*newer Hookstead"):
        opened(path)
    assert path.read_bytes() == before


async def test_a_database_of_another_program_is_refused_and_left_alone(path: Path) -> None:
    path.parent.mkdir()
    connection = apsw.Connection(str(path))
    connection.execute("CREATE TABLE theirs (x)")
    connection.close()
    before = path.read_bytes()
    with pytest.raises(StoreRefused, match="not written by Hookstead"):
        opened(path)
    assert path.read_bytes() == before


async def test_a_file_that_is_no_database_is_refused(path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(b"once upon a time" * 1000)
    with pytest.raises(StoreRefused, match="not an SQLite database"):
        opened(path)
    assert path.read_bytes() == b"once upon a time" * 1000


@pytest.mark.parametrize("url", ["sqlite:", "sqlite::memory:", "mysql://user:secret@host/db", "store.db", ""])
def test_a_url_that_names_no_store_is_refused_without_its_secrets(url: str) -> None:
    with pytest.raises(StoreRefused, match="--store") as refused:
        open_store(url, min_free_bytes=0, clock=StoppedClock())
    assert "secret" not in str(refused.value)


def test_a_step_of_a_migration_that_fails_changes_nothing(tmp_path: Path) -> None:
    connection = apsw.Connection(str(tmp_path / "x.db"))
    migrate(connection, "x")

    def second(into: apsw.Connection) -> None:
        into.execute("CREATE TABLE added (x)")

    def third(into: apsw.Connection) -> None:
        into.execute("CREATE TABLE never (x)")
        raise RuntimeError("half way")

    with pytest.raises(RuntimeError):
        migrate(connection, "x", migrations=(*MIGRATIONS, second, third))
    assert connection.pragma("user_version") == len(MIGRATIONS) + 1
    assert connection.table_exists("main", "added")
    assert not connection.table_exists("main", "never")
    connection.close()


def test_a_file_of_every_earlier_version_becomes_the_present_one(tmp_path: Path) -> None:
    present = apsw.Connection(str(tmp_path / "present.db"))
    migrate(present, "x")
    tables = "SELECT name, sql FROM sqlite_schema ORDER BY name"
    for version in range(1, len(MIGRATIONS) + 1):
        old = apsw.Connection(str(tmp_path / f"{version}.db"))
        migrate(old, "x", migrations=MIGRATIONS[:version])
        assert migrate(old, "x") == version
        assert old.execute(tables).fetchall() == present.execute(tables).fetchall()
        old.close()
    present.close()


async def test_a_file_written_by_version_one_opens_with_what_it_holds(path: Path) -> None:
    """The snapshot was written once by version 1 and is never written again."""
    path.parent.mkdir()
    connection = apsw.Connection(str(path))
    connection.execute((Path(__file__).parent / "version-1.sql").read_text())
    connection.close()
    store = opened(path)
    assert await store.check() == []
    counts = {key.name: value for key, value in (await store.counts()).items()}
    assert counts == {
        "a": EndpointCounts(pending=1, delivered=1, dead_lettered=1, cancelled=0),
        "b": EndpointCounts(pending=0, delivered=0, dead_lettered=0, cancelled=1),
    }
    await store.close()


def test_the_snapshot_of_version_one_has_its_tables(tmp_path: Path) -> None:
    """Version 1 may change until it is released; then this holds the migration to what was released."""
    tables = "SELECT name, sql FROM sqlite_schema WHERE name NOT LIKE 'sqlite_stat%' ORDER BY name"
    snapshot, made = apsw.Connection(str(tmp_path / "a.db")), apsw.Connection(str(tmp_path / "b.db"))
    snapshot.execute((Path(__file__).parent / "version-1.sql").read_text())
    migrate(made, "x", migrations=MIGRATIONS[:1])
    assert snapshot.execute(tables).fetchall() == made.execute(tables).fetchall()
    snapshot.close()
    made.close()


def test_network_file_systems_are_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(StoreRefused, match=r"network file system \(NFS\).*local disk"):
        files.require_local_disk(tmp_path, type_of=lambda _: 0x6969)
    files.require_local_disk(tmp_path, type_of=lambda _: 0xEF53)
    files.require_local_disk(tmp_path, type_of=lambda _: None)


def test_the_type_of_a_file_system_is_read(tmp_path: Path) -> None:
    read = subprocess.run(["stat", "-f", "-c", "%t", tmp_path], capture_output=True, text=True, check=True)
    assert files.file_system_type(tmp_path) == int(read.stdout, 16)


def test_an_sqlite_that_can_lose_commits_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    files.require_sqlite()
    monkeypatch.setattr(apsw, "sqlite_lib_version", lambda: "3.51.2")
    with pytest.raises(StoreRefused, match=r"3\.51\.2 can lose commits.*3\.51\.3"):
        files.require_sqlite()


async def test_the_effective_pragmas_are_the_promised_ones(path: Path) -> None:
    store = opened(path)
    connection = store._connection  # type: ignore[attr-defined]  # the promise is about this very connection
    assert connection.pragma("synchronous") == 2
    assert connection.pragma("journal_mode") == "wal"
    assert connection.pragma("application_id") == APPLICATION_ID
    assert connection.pragma("wal_autocheckpoint") == 0
    await store.close()


async def test_below_the_watermark_only_new_work_is_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = StoppedClock()
    store = open_store(f"sqlite:{path}", min_free_bytes=0, clock=clock)
    given = event(A)
    await store.accept([given])
    free = os.statvfs(path.parent)

    class Low:
        f_bavail, f_frsize, f_blocks = 10, 4096, free.f_blocks

    monkeypatch.setattr(os, "statvfs", lambda _: Low)
    store._disk.min_free_bytes = 50_000  # type: ignore[attr-defined]
    clock.seconds += 2
    with pytest.raises(StoreFull, match=r"50000 bytes.*--min-free-bytes"):
        await store.accept([event(A)])
    [job] = (await store.claim(A, now_ms=NOW, limit=1, max_bytes=1, ordered=False)).jobs
    assert job.event_id == given.id
    Low.f_bavail = 1000
    await store.accept([event(A)])
    await store.close()


def test_the_default_watermark_is_the_larger_of_256_mib_and_a_tenth(monkeypatch: pytest.MonkeyPatch) -> None:
    class Disk:
        f_bavail, f_frsize, f_blocks = 0, 4096, 1 << 20

    monkeypatch.setattr(os, "statvfs", lambda _: Disk)
    assert files.default_min_free(Path("/")) == (4096 << 20) // 10
    Disk.f_blocks = 1 << 18
    assert files.default_min_free(Path("/")) == 256 << 20


async def test_an_ended_process_leaves_no_lock(path: Path) -> None:
    script = (
        "import sys, time; from store.samples import StoppedClock; from hookstead.store.opening import open_store\n"
        "open_store(sys.argv[1], min_free_bytes=0, clock=StoppedClock()); print('open', flush=True); time.sleep(60)"
    )
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", script, f"sqlite:{path}"),
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert child.stdout is not None
    await child.stdout.readline()
    with pytest.raises(StoreInUse):
        opened(path)
    child.send_signal(signal.SIGKILL)
    await child.wait()
    store = opened(path)
    await store.close()
    with pytest.raises(StoreError):
        await store.counts()
