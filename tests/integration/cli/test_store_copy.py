"""`hookstead store copy`: the PostgreSQL database has everything that the SQLite file holds, or nothing."""

from __future__ import annotations

import asyncio
import hashlib
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import apsw
import asyncpg
import pytest

from hookstead.config.model import RetentionPolicy
from hookstead.delivery.ports import (
    Accepted,
    AttemptRecord,
    CancelReason,
    Clash,
    DeliveryQuery,
    Duplicate,
    EndpointKey,
    ErrorCode,
    EventQuery,
    LaneState,
    ReplayDelivery,
    ReplayPhase,
    ReplayWindow,
    Store,
    StoreError,
    Trigger,
)
from hookstead.resources.kinds import PayloadFormat, ReplaySelect
from hookstead.store import copying
from hookstead.store.copying import copy_store
from hookstead.store.errors import StoreInUse, StoreRefused
from hookstead.store.inspecting import audit_database, migrate_database
from hookstead.store.opening import open_store
from hookstead.store.postgres.migrate import MIGRATIONS
from hookstead.store.postgres.opening import open_postgres
from hookstead.store.postgres.settings import Settings
from integration.cli.dev_process import environment
from store.postgres_fixtures import Databases, databases, postgres_server
from store.samples import (
    DAY,
    DEAD,
    NOW,
    A,
    B,
    StoppedClock,
    attempt,
    claim,
    delivery_id,
    event,
    ids,
    retry,
)
from store.test_postgres_pooler import Pooler, pooler

__all__ = ["databases", "pooler", "postgres_server"]
pytestmark = pytest.mark.xdist_group("postgres")

GONE = EndpointKey("gone", "uid-gone")
OFF = EndpointKey("off", "uid-off")
RUNNING = ReplayWindow(uid="r-running", endpoint=A, select=ReplaySelect.ALL, since_ms=NOW - DAY, until_ms=NOW + DAY)
POLICY = RetentionPolicy(payload_days=2, attempt_days=3, dead_letter_days=5)


def quiet(_: str) -> None:
    """Progress that nobody reads."""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "store.db"


@pytest.fixture
async def url(databases: Databases) -> AsyncIterator[str]:
    """Of a database with a schema and nothing in it."""
    name = await databases.create()
    yield databases.url(name)
    await databases.recycle(name)


async def open_file(file: Path) -> Store:
    return open_store(f"sqlite:{file}", min_free_bytes=0, clock=StoppedClock())


async def open_copy(url: str) -> Store:
    return await open_postgres(url, clock=StoppedClock(), settings=Settings(readers=1, retention_slack_ms=0))


async def fill(store: Store) -> None:
    """Something of everything that a store can hold."""
    await store.accept([event(at=NOW - DAY * 2 - 5, data=b"expires"), event(A, at=NOW - DAY * 2 - 4, data=b"expires")])
    await store.expire(POLICY, now_ms=NOW, limit=100)
    events = [event(A, B, caller=f"order-{number}", content=str(number), claimed=number < 8) for number in range(20)]
    await store.accept(events)
    await store.accept(
        [
            event(A, type_="with.all", channels=["client_1", "agent_2"], source="/s\u00e9", traceparent="00-1-2-01"),
            event(A, caller="order-1", space="/other", data=b"\x00\xff{}", at=NOW + 5),
            event(),
            event(OFF),
            event(GONE),
        ]
    )
    await store.record(
        [
            *(attempt(delivery_id(one), at=NOW + 10 * place) for place, one in enumerate(events[:3])),
            attempt(delivery_id(events[3]), DEAD, body=b"\x00oops", message="a\x00b \u20ac"),
            attempt(delivery_id(events[4]), retry(NOW + 5000), duration=12_345),
            attempt(delivery_id(events[5]), DEAD),
            *(_failed(delivery_id(events[6]), error) for error in ErrorCode),
        ],
        {A: LaneState(consecutive_failures=3, failing_since_ms=NOW - 5, circuit_opened_ms=NOW, handled_resume_at="x")},
    )
    await store.record([attempt(delivery_id(events[0]), trigger=Trigger.MANUAL, at=NOW + 99)], {})
    for one in (events[1], events[3], events[9]):
        await store.request_redelivery(delivery_id(one), now_ms=NOW + 20)
    await store.cancel(OFF, reason=CancelReason.ENDPOINT_DISABLED, now_ms=NOW + 30)
    await store.cancel(GONE, reason=CancelReason.ENDPOINT_DELETED, now_ms=NOW + 31)
    await store.erase_payload(events[10].id, now_ms=NOW + 32)
    await _replays(store, events[11].id)
    await store.put_blob("configuration", b"\x00\x01")
    await store.put_blob("counters", b"{}")


def _failed(of: str, error: ErrorCode) -> AttemptRecord:
    record = attempt(of, retry(NOW + 7000), at=NOW + 40)
    return AttemptRecord(**{name: getattr(record, name) for name in record.__slots__} | {"error": error})


async def _replays(store: Store, of: str) -> None:
    for uid in ("r-done", "r-absent", RUNNING.uid):
        await store.begin_replay(uid, uid, now_ms=NOW)
    await store.finish_replay("r-done", ReplayPhase.NOTHING_SELECTED, now_ms=NOW + 1)
    await store.finish_replay("r-absent", ReplayPhase.ENDPOINT_NOT_FOUND, now_ms=NOW + 1)
    await store.forget_replays(["r-done", RUNNING.uid], POLICY, now_ms=NOW)
    page = await store.replay_candidates(RUNNING, limit=5, with_data=False)
    made = ReplayDelivery(
        event_id=of,
        delivery_id="dlv_by-replay",
        rearm=False,
        payload_format=PayloadFormat.CLOUD_EVENTS,
        due_ms=NOW + 50,
    )
    await store.advance_replay(RUNNING, page, [made], now_ms=NOW + 40)


async def everything(store: Store) -> dict[str, Any]:
    """What the port's reading methods show of it, to the last page."""
    events = await _all(lambda cursor: store.events(EventQuery(), cursor=cursor, limit=7))
    deliveries = await _all(lambda cursor: store.deliveries(DeliveryQuery(), cursor=cursor, limit=7))
    boot = await store.boot(recent_limit=20)
    return {
        "events": events,
        "deliveries": deliveries,
        "of client_1": await _all(
            lambda cursor: store.deliveries(DeliveryQuery(channel="client_1"), cursor=cursor, limit=7)
        ),
        "each event": [await store.event(one.id) for one in events],
        "each delivery": [await store.delivery(one.id) for one in deliveries],
        "counts": await store.counts(),
        "lanes": boot.lanes,
        "windows": boot.windows,
        "next due": boot.next_due_ms,
        "recent": boot.recent,
        "activity": await store.activity(since_ms=NOW - 3 * DAY, until_ms=NOW + DAY, bucket_seconds=3600),
        "finely": await store.activity(since_ms=NOW, until_ms=NOW + 60_000, bucket_seconds=10),
        "replays": [await store.replay(uid) for uid in ("r-done", "r-absent", RUNNING.uid, "r-unknown")],
        "candidates": await store.replay_candidates(RUNNING, limit=100, with_data=True),
        "blobs": [await store.get_blob(name) for name in ("configuration", "counters", "unknown")],
        "check": list(await store.check()),
    }


async def _all(page: Callable[[str | None], Awaitable[Any]]) -> list[Any]:
    found, cursor = [], None
    while True:
        one = await page(cursor)
        found += one.items
        cursor = one.next_cursor
        if cursor is None:
            return found


async def test_a_copy_shows_everything_as_the_file_does(file: Path, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(copying, "BATCH_ROWS", 3)
    source = await open_file(file)
    await fill(source)
    expected = await everything(source)
    await source.close()
    before = _digests(file)
    copied = await copy_store(f"sqlite:{file}", url, tell=quiet)
    assert _digests(file) == before
    assert copied.counts == expected["counts"]
    target = await open_copy(url)
    found = await everything(target)
    await target.close()
    # Text in PostgreSQL can not hold a NUL.
    expected["recent"], expected["each delivery"] = _no_nul(expected["recent"]), _no_nul(expected["each delivery"])
    for name, value in expected.items():
        assert found[name] == value, name
    assert len(found["events"]) == 27
    assert found["check"] == []


def _no_nul(value: Any) -> Any:
    """The same with every NUL of a `message` replaced."""
    if isinstance(value, dict):
        return {key: _no_nul(one) for key, one in value.items()}
    if isinstance(value, (tuple, list)):
        made = [_no_nul(one) for one in value]
        return made if isinstance(value, list) else tuple(made)
    message = getattr(value, "message", "")
    if "\x00" not in message:
        return value
    fields = {name: getattr(value, name) for name in value.__slots__}
    return type(value)(**fields | {"message": message.replace("\x00", "\ufffd")})


def _digests(file: Path) -> dict[str, str]:
    """The files of the store, but for the lock and for what maps the log in memory."""
    kept = [path for path in sorted(file.parent.glob(f"{file.name}*")) if path.suffix in (".db", ".db-wal")]
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in kept if path.stat().st_size}


async def test_work_goes_on_where_it_was(file: Path, url: str) -> None:
    source = await open_file(file)
    await fill(source)
    first = event(A, caller="once", content="1")
    await source.accept([first])
    await source.boot(recent_limit=1)
    expected = [ids(await claim(source, A, now=NOW + DAY, ordered=ordered)) for ordered in (True, False)]
    await source.close()
    await copy_store(f"sqlite:{file}", url, tell=quiet)
    target = await open_copy(url)
    assert [ids(await claim(target, A, now=NOW + DAY, ordered=ordered)) for ordered in (True, False)] == expected
    again, other = event(A, caller="once", content="1"), event(A, caller="once", content="2")
    apart = event(A, B, caller="once", space="/s")
    assert await target.accept([again, other, apart]) == [
        Duplicate(first.id, 1),
        Clash(first.id),
        Accepted(apart.id, 2),
    ]
    listed = (await target.events(EventQuery(), cursor=None, limit=1)).items
    assert [one.id for one in listed] == [apart.id]
    await target.record([attempt(delivery_id(apart), at=NOW + DAY)], {})
    assert (await target.boot(recent_limit=1)).recent[A][0].delivery_id == delivery_id(apart)
    assert await target.begin_replay("r-new", "r-new", now_ms=NOW) is not None
    assert await target.accept([event(EndpointKey("new", "uid-new"))]) != []
    assert await target.check() == []
    await target.close()


async def test_an_empty_store_and_one_that_was_killed_are_copied_too(file: Path, databases: Databases) -> None:
    source = await open_file(file)
    await source.close()
    name = await databases.create()
    assert (await copy_store(f"sqlite:{file}", databases.url(name), tell=quiet)).rows["events"] == 0
    program = (
        "import asyncio, os, signal, sys\n"
        "from store.samples import A, StoppedClock, event\n"
        "from hookstead.store.opening import open_store\n"
        "async def main():\n"
        "    store = open_store(sys.argv[1], min_free_bytes=0, clock=StoppedClock())\n"
        "    await store.accept([event(A, claimed=True) for _ in range(3)])\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "asyncio.run(main())\n"
    )
    path = f"{Path(__file__).parents[2]}:{Path(__file__).parents[3] / 'controller'}"
    await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-c", program, f"sqlite:{file}"],
        env=environment(PYTHONPATH=path),
        check=False,
        timeout=60,
    )
    before = _digests(file)
    assert "store.db-wal" in before
    copied = await copy_store(f"sqlite:{file}", databases.url(name), tell=quiet)
    assert copied.counts[A].pending == 3
    assert _digests(file) == before
    target = await open_copy(databases.url(name))
    assert len(ids(await claim(target, A))) == 3
    await target.close()
    await databases.recycle(name)


async def test_what_is_in_use_or_not_empty_is_refused(file: Path, url: str) -> None:
    source = await open_file(file)
    await source.accept([event(A)])
    with pytest.raises(StoreInUse, match="it is in use by process"):
        await copy_store(f"sqlite:{file}", url, tell=quiet)
    await source.close()
    gateway = await open_copy(url)
    await gateway.put_blob("configuration", b"of the gateway")
    with pytest.raises(StoreInUse, match=r"a gateway \(.*process \d+\) works on this database; stop it first"):
        await copy_store(f"sqlite:{file}", url, tell=quiet)
    await gateway.close()
    await copy_store(f"sqlite:{file}", url, tell=quiet)
    with pytest.raises(StoreRefused, match="it is not empty"):
        await copy_store(f"sqlite:{file}", url, tell=quiet)


async def test_a_file_that_does_not_add_up_leaves_the_database_empty(file: Path, url: str) -> None:
    source = await open_file(file)
    await source.accept([event(A), event(A)])
    await source.close()
    connection = apsw.Connection(str(file))
    connection.execute("DELETE FROM deliveries WHERE seq = (SELECT max(seq) FROM deliveries)")
    connection.close()
    with pytest.raises(
        StoreError, match=r"nothing was kept(.|\n)*endpoint a: the counter of Pending says 2, there are 1"
    ):
        await copy_store(f"sqlite:{file}", url, tell=quiet)
    target = await open_copy(url)
    assert (await target.events(EventQuery(), cursor=None, limit=1)).items == ()
    await target.close()


async def test_a_damaged_file_is_told_and_leaves_the_database_empty(file: Path, url: str) -> None:
    source = await open_file(file)
    await source.accept([event(A, data=b"x" * 50_000) for _ in range(40)])
    await source.close()
    content = bytearray(file.read_bytes())
    content[8192:-8192] = b"\xee" * (len(content) - 16384)
    file.write_bytes(content)
    with pytest.raises(StoreError, match=r"store /.*store\.db: it cannot be read"):
        await copy_store(f"sqlite:{file}", url, tell=quiet)
    target = await open_copy(url)
    assert (await target.events(EventQuery(), cursor=None, limit=1)).items == ()
    await target.close()


@pytest.mark.parametrize("content", [b"", b"no database of anybody" * 100])
async def test_what_is_no_store_is_refused(file: Path, url: str, content: bytes) -> None:
    file.write_bytes(content)
    with pytest.raises(StoreRefused, match=r"store /.*store\.db: "):
        await copy_store(f"sqlite:{file}", url, tell=quiet)
    assert file.read_bytes() == content


@pytest.mark.parametrize("version", [0, 1, 99])
async def test_a_file_of_another_schema_is_refused(file: Path, url: str, version: int) -> None:
    source = await open_file(file)
    await source.close()
    connection = apsw.Connection(str(file))
    connection.execute(f"PRAGMA user_version = {version}")
    connection.close()
    with pytest.raises(StoreRefused, match="99" if version == 99 else "store migrate --store"):
        await copy_store(f"sqlite:{file}", url, tell=quiet)


# ------------------------------------------------------------------------------------------------ as a program


def command(*argv: str, **variables: str) -> list[Any]:
    return [[sys.executable, "-m", "hookstead.cli.main", "store", *argv], environment(**variables)]


def run(*argv: str, **variables: str) -> subprocess.CompletedProcess[str]:
    words, env = command(*argv, **variables)
    return subprocess.run(words, env=env, capture_output=True, text=True, check=False, timeout=60)


async def test_a_copy_that_was_killed_leaves_nothing_and_is_made_again(file: Path, url: str) -> None:
    source = await open_file(file)
    await fill(source)
    await source.close()
    onlooker = await asyncpg.connect(url)
    try:
        await onlooker.execute("BEGIN; LOCK TABLE hookstead.hours IN ACCESS EXCLUSIVE MODE")
        await asyncio.to_thread(_kill_while_copying, file, url)
        await onlooker.execute("ROLLBACK")
        assert await onlooker.fetchval("SELECT count(*) FROM hookstead.events") == 0
    finally:
        await onlooker.close()
    again = await asyncio.to_thread(run, "copy", f"sqlite:{file}", HOOKSTEAD_STORE=url)
    assert again.returncode == 0, again.stderr
    checked = await asyncio.to_thread(run, "check", HOOKSTEAD_STORE=url)
    assert checked.returncode == 0, checked.stderr


def _kill_while_copying(file: Path, url: str) -> None:
    """When most of it is in the database already, and it waits for a table."""
    words, env = command("copy", f"sqlite:{file}", HOOKSTEAD_STORE=url)
    with subprocess.Popen(words, env=env, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        told = []
        for line in process.stderr:
            told.append(line)
            if line.startswith("tallies: "):
                break
        else:
            raise AssertionError(f"the copy ended by itself: {told}")
        process.kill()


async def test_the_command_says_what_it_copied_and_check_finds_it_sound(file: Path, url: str) -> None:
    source = await open_file(file)
    given = [event(A), event(A, B)]
    await source.accept(given)
    await source.record([attempt(delivery_id(given[0]))], {})
    await source.close()
    copied = await asyncio.to_thread(run, "copy", f"sqlite:{file}", url)
    assert copied.returncode == 0, copied.stderr
    name = url.replace("hookstead@", "")
    table = [
        "ENDPOINT   ACCEPTED   PENDING   DELIVERED   DEAD-LETTERED   CANCELLED",
        "a          2          1         1           0               0",
        "b          1          1         0           0               0",
        "",
    ]
    assert copied.stdout.splitlines() == [
        *table,
        f"{name}: it has all of sqlite:{file}: 2 events, 3 deliveries, 1 attempts; every delivery is accounted for",
    ]
    assert "events: 2" in copied.stderr.splitlines()
    checked = await asyncio.to_thread(run, "check", "--store", url)
    assert (checked.returncode, checked.stderr) == (0, "")
    assert checked.stdout.splitlines() == [
        *table,
        f"{name}: the database is whole, and every delivery is accounted for",
    ]
    migrated = await asyncio.to_thread(run, "migrate", "--store", url)
    assert (migrated.returncode, migrated.stdout) == (0, f"{name}: its schema is this version's\n")


async def test_a_check_goes_on_beside_a_gateway_and_tells_what_does_not_add_up(url: str, databases: Databases) -> None:
    gateway = await open_copy(url)
    given = event(A)
    await gateway.accept([given])
    assert (await asyncio.to_thread(run, "check", "--store", url)).returncode == 0
    assert await gateway.accept([event(A)]) != []
    await gateway.close()
    await databases.server.execute("DELETE FROM hookstead.pending", database=url.rpartition("/")[2])
    checked = await asyncio.to_thread(run, "check", "--store", url)
    assert checked.returncode == 1
    assert "endpoint a: the counter of Pending says 2, there are 0" in checked.stderr


async def test_a_pooler_in_transaction_mode_may_stand_in_between(file: Path, url: str, pooler: Pooler) -> None:
    source = await open_file(file)
    await fill(source)
    expected = await source.counts()
    await source.close()
    behind = pooler.url(url.rpartition("/")[2])
    assert (await copy_store(f"sqlite:{file}", behind, tell=quiet)).counts == expected
    found = await audit_database(behind)
    assert (list(found.wrong), found.counts) == ([], expected)
    assert await migrate_database(behind) == len(MIGRATIONS)


PASSWORD = "open-sesame"


@pytest.mark.parametrize(
    ("argv", "variable", "code", "words"),
    [
        (("copy",), "", 2, "copy needs FROM"),
        (("copy", "sqlite:a"), "", 2, "copy needs TO (or HOOKSTEAD_STORE)"),
        (("copy", "sqlite:a", "sqlite:b"), "", 2, "copy goes from an SQLite file"),
        (("copy", "postgresql://h/a", "postgresql://h/b"), "", 2, "copy goes from an SQLite file"),
        (("copy", "sqlite:no/such.db", "postgresql://127.0.0.1:1/b"), "", 1, "store no/such.db: no such file"),
        (("copy", "sqlite:a", f"postgresql://u:{PASSWORD}@h/b"), "", 2, "TO: a password must not stand on the command"),
        (("check", "sqlite:a"), "", 2, "check takes no argument"),
        (("check", "--store", f"postgresql://u:{PASSWORD}@h/b"), "", 2, "a password must not stand on the command"),
        (("check", "--store", f"postgresql://h/b?password={PASSWORD}"), "", 2, "a password must not stand"),
        (("check",), f"postgresql://u:{PASSWORD}@127.0.0.1:1/b", 1, "store postgresql://127.0.0.1:1/b: "),
        (("migrate",), f"postgresql://u:{PASSWORD}/x@127.0.0.1:1/b", 1, "can not be told from its password"),
        (("check",), f"mysql://u:{PASSWORD}@h/b", 1, "mysql:…: expected sqlite:PATH or postgresql://"),
        (("check",), f"host=h password={PASSWORD}", 1, "expected sqlite:PATH or postgresql://"),
    ],
)
def test_a_wrong_command_line_is_told_without_the_password(
    argv: tuple[str, ...], variable: str, code: int, words: str
) -> None:
    ended = run(*argv, HOOKSTEAD_STORE=variable)
    assert ended.returncode == code, ended.stderr
    assert words in ended.stderr
    assert PASSWORD not in ended.stderr + ended.stdout
    assert "Traceback" not in ended.stderr


async def test_a_database_without_a_store_is_refused_and_stays_without(databases: Databases) -> None:
    name = await databases.create(migrated=False)
    checked = await asyncio.to_thread(run, "check", "--store", databases.url(name))
    assert checked.returncode == 1
    assert "there is no store of Hookstead in this database" in checked.stderr
    rows = await databases.server.execute("SELECT to_regnamespace('hookstead') IS NULL", database=name)
    assert rows[0][0] is True
    await databases.drop(name)
