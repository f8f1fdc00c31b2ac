"""A report of many endpoints comes in pages, so that events flow between them; nothing is left out."""

from __future__ import annotations

from pathlib import Path

import pytest

from builders import config, endpoint
from engine_bench import Bench, event, on_bench
from hookstead.delivery import reporting

NAMES = "abcdefg"


def test_pages_bring_everything_once_and_what_changed_between_them_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reporting, "PAGE", 3)

    async def scenario(b: Bench) -> None:
        await b.start(config(*(endpoint(name, types=[name]) for name in NAMES)))
        pages = [b.engine.report(after=None)]
        await b.publish(event("a"))
        await b.pass_time(1)
        while pages[-1].more:
            pages.append(b.engine.report(after=pages[-1].cursor))
        told = [item for page in pages for item in page.endpoints]
        assert [len(page.endpoints) for page in pages] == [3, 3, 2]
        assert {item.name for item in told} == set(NAMES)
        assert [item.activity.succeeded for item in told if item.name == "a"] == [0, 1]
        last = b.engine.report(after=pages[-1].cursor)
        assert (last.endpoints, last.more) == ((), False)
        await b.stop()

    on_bench(tmp_path / "store.db", scenario)
