"""The writer of statuses: what is written is true of the gateways at the moment of writing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, cast

import pytest

from hookstead.config.compile import Rejected
from hookstead.config.model import DeliveryConfig, EndpointConfig, Identity
from hookstead.config.status import ConfigSize
from hookstead.config.verdicts import GOOD
from hookstead.operator.events import Recorder
from hookstead.operator.kube import KubeClient
from hookstead.operator.objects import Entry, ObjectStore
from hookstead.operator.programming import Fleet, History, Member, index
from hookstead.operator.reporter import Reporter
from hookstead.operator.reports import ReportBook
from hookstead.operator.schedule import Scheduler
from hookstead.operator.statuses import Statuses, view
from hookstead.resources.kinds import Kind, Meta

NAMES = ("a", "b", "c")
CONFIG = DeliveryConfig(
    namespace="n",
    endpoints=tuple(
        EndpointConfig(identity=Identity(name=name, uid=name, generation=1), verdict=GOOD) for name in NAMES
    ),
)
RUNS = Member(address="http://g", hash="new")
JOINS = Member(address="http://h")


@dataclass
class Site:
    """A reporter, whose API server takes everything; `at` is its clock."""

    members: tuple[Member, ...] = (RUNS,)
    objects: ObjectStore = field(default_factory=lambda: ObjectStore("n"))
    written: list[tuple[str, str]] = field(default_factory=list)
    """Object and what its Programmed said, in order."""
    at: float = 0.0
    turn: int = 0
    looks: list[int] = field(default_factory=list)
    """In which turns of the loop somebody looked at the gateways."""
    answers: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.answers.set()
        history = History()
        history.remember("new", index(CONFIG))
        for name in NAMES:
            item = Rejected(kind=Kind.ENDPOINT, meta=Meta(namespace="n", name=name, uid=name), problems=())
            self.objects.kinds[Kind.ENDPOINT][name] = Entry(item=item, resource_version=1, status=b"{}")
        self.reporter = Reporter(
            cast(KubeClient, self),
            namespace="n",
            objects=self.objects,
            statuses=Statuses(self.objects, ReportBook()),
            scheduler=Scheduler(jitter=lambda: 0.0),
            recorder=cast(Recorder, self),
            fleet=lambda: self.fleet(history),
            may_write=lambda: None,
            monotonic=lambda: self.at,
            now=lambda: datetime(2026, 1, 31, tzinfo=UTC),
        )

    def fleet(self, history: History) -> Fleet:
        self.looks.append(self.turn)
        return Fleet(members=self.members, digest="new", history=history.by_hash)

    async def others(self) -> None:
        """Everything else on the loop."""
        while True:
            self.turn += 1
            await asyncio.sleep(0)

    async def merge_patch(self, path: str, body: Any) -> Any:
        name = path.split("/")[-2]
        said = {item["type"]: item["status"] for item in body["status"]["conditions"]}
        self.written.append((name, said["Programmed"]))
        await self.answers.wait()
        return {"metadata": {"resourceVersion": "2"}, "status": body["status"]}

    def record(self, _occurrence: object) -> None:
        raise AssertionError("nobody has to act")


@asynccontextmanager
async def running(*jobs: Any) -> AsyncIterator[None]:
    tasks = [asyncio.create_task(job) for job in jobs]
    try:
        await passes()
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def passes() -> None:
    """Let everything run that can."""
    for _ in range(50):
        await asyncio.sleep(0)


def shown(site: Site) -> None:
    site.reporter.show(view(CONFIG, size=ConfigSize(hash="new", bytes=1), index=index(CONFIG)))


async def test_what_every_gateway_runs_is_said_at_once() -> None:
    site = Site()
    shown(site)
    async with running(site.reporter.assess(), site.reporter.write()):
        assert sorted(site.written) == [(name, "True") for name in NAMES]


async def test_a_gateway_that_came_between_computing_and_writing_is_known_to_what_is_written() -> None:
    site = Site()
    shown(site)
    async with running(site.reporter.assess()):
        site.members = (RUNS, JOINS)  # and nothing was computed again yet
        async with running(site.reporter.write()):
            assert site.written == [], "it gets its two seconds to answer"
            site.members = (RUNS, replace(JOINS, hash="new"))
            site.reporter.gateways_changed()
            await passes()
            assert sorted(site.written) == [(name, "True") for name in NAMES]


async def test_statuses_that_are_computed_again_leave_the_loop_to_others_in_between(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("hookstead.operator.reporter.BATCH", 1)
    site = Site()
    shown(site)
    async with running(site.reporter.assess(), site.others()):
        site.members = (RUNS, JOINS)
        site.looks.clear()
        async with running(site.reporter.write()):
            assert len(site.looks) == len(NAMES)
            assert len(set(site.looks)) == len(NAMES), "each in a turn of its own"


async def test_what_came_while_a_status_was_under_way_is_written_behind_it() -> None:
    site = Site()
    site.answers.clear()
    shown(site)
    async with running(site.reporter.assess(), site.reporter.write()):
        assert len(site.written) == len(NAMES)
        gone = replace(RUNS, problem="connection refused")
        site.at = 10.0
        site.members = (gone,)
        site.reporter.gateways_changed()
        await passes()
        assert len(site.written) == len(NAMES), "one write of an object at a time"
        site.answers.set()
        await passes()
        assert sorted(site.written[len(NAMES) :]) == [(name, "False") for name in NAMES]
