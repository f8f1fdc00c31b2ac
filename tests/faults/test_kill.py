"""kill -9 at random moments under load: what got its 202 is delivered, and only what was in flight is repeated, once.

    FAULT_CYCLES=50 python -m pytest tests/faults/test_kill.py -s

Five cycles by default. The figures are printed (`-s`).
"""

from __future__ import annotations

import asyncio
import os
import random
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Final

import apsw
import pytest

from faults.books import Books, Repeats
from faults.four_endpoints import ENDING, FINE, FLAKY, HELD, HOPELESS, IN_FLIGHT, UNRECORDED, endpoints
from faults.gateway_process import Home, Life, home, until
from faults.load import Ledger, body, load
from faults.sink import Sink, sink
from hookstead.store.codec import EVENT, unpack_id
from hookstead.store.sqlite.rows import fetch

CYCLES: Final = int(os.environ.get("FAULT_CYCLES", "5"))
SECONDS_PER_CYCLE: Final = 8
PRODUCERS: Final = 6


def books(place: Home) -> Books:
    copy = place.folder / "copy"
    shutil.rmtree(copy, ignore_errors=True)
    copy.mkdir()
    for file in place.folder.glob("store.db*"):
        shutil.copy(file, copy)
    connection = apsw.Connection(str(copy / "store.db"))
    try:
        assert connection.pragma("integrity_check") == "ok"
        events = {unpack_id(EVENT, key) for (key,) in fetch(connection, "SELECT id FROM events")}
        rows = fetch(
            connection,
            "SELECT p.name, e.id, d.attempt_count, d.status FROM deliveries d JOIN events e ON e.seq = d.event_seq"
            " JOIN endpoints p ON p.id = d.endpoint_id",
        )
    finally:
        connection.close()
    return Books(
        events,
        {(f"/{name}", unpack_id(EVENT, event)): count for name, event, count, _ in rows},
        Counter((f"/{name}", status) for name, _, _, status in rows),
    )


async def repeated_answers_are_the_first(life: Life, ledger: Ledger, callers: list[str]) -> None:
    """Publish callers' ids again, in one batch: each is answered as the first time, or accepted now."""
    if not callers:
        return
    items = b"[" + b",".join(body(caller) for caller in callers) + b"]"
    answer = await life.call("POST", "/v1/events/batch", data=items, headers={"content-type": "application/json"})
    assert answer.status == 202
    for caller, item in zip(callers, answer.body["items"], strict=True):
        assert item["status"] == 202
        if caller in ledger.promised:
            assert (item["id"], item["duplicate"]) == (ledger.promised[caller], True)
        ledger.promised[caller] = item["id"]
        ledger.unanswered.discard(caller)


async def one_life(place: Home, ledger: Ledger, chance: random.Random) -> None:
    """Start, publish, and be killed: while starting, or at a random moment under load."""
    if chance.random() < 0.2:
        life = place.launch()
        await asyncio.sleep(chance.uniform(0.3, 1.5))
        life.kill()
        return
    life = await place.start()
    again = chance.sample(sorted(ledger.promised), min(50, len(ledger.promised)))
    await repeated_answers_are_the_first(life, ledger, [*again, *sorted(ledger.unanswered)])
    async with load(life, ledger, producers=PRODUCERS, pause=0.002):
        await asyncio.sleep(chance.uniform(0.02, 1.0))
        life.kill()


async def silent(receiver: Sink) -> None:
    """Wait until everything that a killed process had sent is read."""

    async def nobody() -> bool:
        return receiver.connections == 0

    await until(nobody, what="all connections of the killed process closed")
    await asyncio.sleep(0.05)
    await until(nobody, what="no connection that came late")


@pytest.mark.timeout(60 + CYCLES * SECONDS_PER_CYCLE)
async def test_what_was_promised_before_kills_at_random_moments_is_delivered(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    seed = int.from_bytes(os.urandom(4))
    chance, ledger = random.Random(seed), Ledger()
    repeats = Repeats(ENDING, most=IN_FLIGHT + UNRECORDED)
    print(f"\nseed {seed}, {CYCLES} cycles")
    async with sink() as receiver, home(tmp_path, *endpoints(receiver)) as place:
        for _ in range(CYCLES):
            await one_life(place, ledger, chance)
            await silent(receiver)
            found = books(place) if place.store.exists() else Books(set(), {}, Counter())
            assert set(ledger.promised.values()) <= found.events, "a promised event is not on the disk"
            repeats.after_kill(receiver, found)
        await last_life(place, ledger)
        promised = set(ledger.promised.values())
        found = books(place)
        assert found.events == promised
        repeats.at_the_end(receiver, found)
        for path in (FINE, FLAKY, HOPELESS):
            assert receiver.ids(path) == promised
        assert not receiver.ids(HELD)
        pending, delivered, dead = range(3)
        assert found.statuses == {
            (FINE, delivered): len(promised),
            (FLAKY, delivered): len(promised),
            (HOPELESS, dead): len(promised),
            (HELD, pending): len(promised),
        }
        assert await place.check() == []
        record_property("tally", ["kill -9 cycles", CYCLES, CYCLES])
        print(
            f"{len(promised)} events promised, {receiver.seen.total()} requests, of which"
            f" {repeats.known.total()} repeat what was in flight; by kill {repeats.by_kill}"
        )


async def last_life(place: Home, ledger: Ledger) -> None:
    """A start alone delivers what was left; then every caller's id once more; then a clean stop."""
    life = await place.start()

    async def done() -> bool:
        pending = [
            await life.metric("hookstead_deliveries", status="Pending", endpoint=path[1:])
            for path in (FINE, FLAKY, HOPELESS)
        ]
        return not any(pending)

    await until(done, what="everything delivered or dead by a start alone", seconds=30 + CYCLES)
    callers = sorted({*ledger.promised, *ledger.unanswered})
    for start in range(0, len(callers), 1000):
        await repeated_answers_are_the_first(life, ledger, callers[start : start + 1000])
    await until(done, what="everything delivered or dead", seconds=30 + CYCLES)
    for path in (FINE, FLAKY, HOPELESS, HELD):
        # The law, as a scrape sees it.
        assert await life.metric("hookstead_deliveries", endpoint=path[1:]) == len(ledger.promised)
    assert await life.stop() == 0
