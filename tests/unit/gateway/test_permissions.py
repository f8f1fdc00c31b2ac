"""No route answers somebody who may not have it, and of a batch only what is not permitted is refused."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import pytest
from multidict import CIMultiDict

from hookstead.delivery.engine import Engine
from hookstead.delivery.intake import IncomingEvent, PublishResult
from hookstead.delivery.ports import Accepted, Store
from hookstead.gateway.app import build_public_router
from hookstead.gateway.authorize import Permission
from hookstead.gateway.exchange import Request
from hookstead.gateway.ingest import Ingest
from hookstead.gateway.problems import Problem, ProblemError, ProblemKind, problem
from hookstead.gateway.quota import IngestQuota
from hookstead.gateway.router import everything, named
from hookstead.gateway.stream import ActivityStream
from hookstead.gateway.system import SystemClock

FORBIDDEN = problem(ProblemKind.FORBIDDEN, "no")
UNDECIDED = problem(ProblemKind.AUTHORIZATION_UNAVAILABLE, "later")


@dataclass
class Publisher:
    events: list[IncomingEvent] = field(default_factory=list)

    async def publish(self, events: Sequence[IncomingEvent]) -> Sequence[PublishResult]:
        self.events.extend(events)
        return [Accepted("msg_1", 1) for _ in events]


@dataclass
class Picky:
    """A caller who has the permission for the names that are not in `answers`."""

    answers: dict[str, Problem]
    asked: list[str] = field(default_factory=list)
    name: str = "picky"

    def refusal(self, permission: Permission) -> Problem | None:
        return None

    async def permit(self, permission: Permission, name: str = "") -> Problem | None:
        assert permission is Permission.PUBLISH
        self.asked.append(name)
        return self.answers.get(name)


def request(body: Any, caller: Picky) -> Request:
    headers = CIMultiDict({"Content-Type": "application/json"})
    return Request(method="POST", path="/v1/events", headers=headers, body=json.dumps(body).encode(), caller=caller)


def ingest(publisher: Publisher) -> Ingest:
    """Types are declared by objects of their own name, but for `stray`."""
    return Ingest(
        publisher=publisher,
        now=lambda: 0.0,
        object_name=lambda event_type: "" if event_type == "stray" else f"object-{event_type}",
    )


def events(*types: str) -> list[dict[str, Any]]:
    return [{"type": event_type, "data": 1} for event_type in types]


def test_every_route_that_needs_a_permission_is_asked_for_it_before_its_handler_or_asks_itself() -> None:
    nothing = cast("Any", None)
    router = build_public_router(
        engine=cast("Engine", nothing), store=cast("Store", nothing), clock=SystemClock(), stream=ActivityStream()
    )
    assert {route.path for route in router.routes if route.needs is None} == {"/openapi.json"}
    asking = {route.path for route in router.routes if route.needs is not None and route.subject is None}
    assert asking == {"/v1/events", "/v1/events/batch"}
    about_one = {route.path for route in router.routes if route.subject not in (None, everything)}
    assert about_one == {
        "/v1/endpoints/{name}",
        "/v1/endpoints/{name}/diagnose",
        "/v1/endpoints/{name}/test",
        "/v1/deliveries",
        "/v1/deliveries/{id}",
        "/v1/deliveries/{id}/redeliver",
    }
    assert all("{name}" in route.path for route in router.routes if route.subject is named)


@pytest.mark.parametrize(("event_type", "name"), [("a", "object-a"), ("stray", "")])
async def test_an_event_that_the_caller_may_not_publish_goes_nowhere(event_type: str, name: str) -> None:
    publisher = Publisher()
    caller = Picky({name: FORBIDDEN})
    with pytest.raises(ProblemError) as caught:
        await ingest(publisher).one(request(events(event_type)[0], caller))
    assert (caught.value.problem, publisher.events, caller.asked) == (FORBIDDEN, [], [name])
    assert (await ingest(publisher).one(request(events("b")[0], caller))).status == 202


async def test_of_a_batch_only_what_is_not_permitted_is_refused_and_each_type_is_asked_once() -> None:
    publisher = Publisher()
    caller = Picky({"object-b": FORBIDDEN, "": UNDECIDED})
    answer = await ingest(publisher).batch(request(events("a", "b", "stray", "a", "B", "b"), caller))
    statuses = [item["status"] for item in json.loads(answer.body)["items"]]
    assert (answer.status, statuses) == (202, [202, 403, 503, 202, 202, 403])
    assert [event.type for event in publisher.events] == ["a", "a", "B"]
    assert sorted(caller.asked) == ["", "object-B", "object-a", "object-b"]


async def test_a_batch_of_which_nothing_can_be_decided_is_refused_as_a_whole_with_a_time_to_come_again() -> None:
    publisher = Publisher()
    answer = await ingest(publisher).batch(
        request(events("a", "b"), Picky({"object-a": UNDECIDED, "object-b": UNDECIDED}))
    )
    assert (answer.status, dict(answer.headers)["Retry-After"], publisher.events) == (503, "1", [])


async def test_a_batch_of_which_nothing_is_permitted_says_so_item_by_item() -> None:
    answer = await ingest(Publisher()).batch(request(events("a", "a"), Picky({"object-a": FORBIDDEN})))
    assert (answer.status, [item["status"] for item in json.loads(answer.body)["items"]]) == (202, [403, 403])


async def test_who_may_not_publish_uses_up_nobody_s_quota() -> None:
    limited = ingest(Publisher())
    limited.quota = IngestQuota(1)
    for _ in range(3):
        with pytest.raises(ProblemError):
            await limited.one(request(events("a")[0], Picky({"object-a": FORBIDDEN})))
        await limited.batch(request(events("a", "a"), Picky({"object-a": FORBIDDEN})))
    assert (await limited.one(request(events("a")[0], Picky({})))).status == 202
    with pytest.raises(ProblemError) as caught:
        await limited.one(request(events("a")[0], Picky({})))
    assert caught.value.problem.kind is ProblemKind.OVER_QUOTA
