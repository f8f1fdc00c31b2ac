"""`POST /v1/endpoints/{name}/diagnose`: what it takes, what it answers, and for whom."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any, cast

import pytest
from multidict import CIMultiDict

from builders import config, endpoint
from hookstead.delivery.ports import EventRow, Store
from hookstead.gateway.authorize import ANYONE, Caller, Permission
from hookstead.gateway.diagnose import Diagnose
from hookstead.gateway.exchange import Request
from hookstead.gateway.problems import Problem, ProblemError, ProblemKind, problem

CONFIG = config(endpoint("acme", types=["order.*"], filter="event.data.n > 1"))
ROW = EventRow(
    id="msg_1", type="order.paid", channels=(), timestamp=b'"2026-02-01T00:00:00Z"', accepted_ms=2**41, data=b'{"n":1}'
)


@dataclass
class Events:
    """A store of one event."""

    row: EventRow

    async def event(self, identifier: str) -> EventRow | None:
        return self.row if identifier == self.row.id else None


@dataclass
class Clerk:
    """May look at endpoints, not at payloads."""

    name: str = "clerk"
    asked: list[tuple[Permission, str]] = field(default_factory=list)

    def refusal(self, permission: Permission) -> Problem | None:
        return None

    async def permit(self, permission: Permission, name: str = "") -> Problem | None:
        self.asked.append((permission, name))
        return problem(ProblemKind.FORBIDDEN, "no") if permission is Permission.READ_PAYLOADS else None


async def ask(body: Any, *, name: str = "acme", caller: Caller = ANYONE, row: EventRow = ROW) -> Any:
    handler = Diagnose(lambda: CONFIG, cast("Store", Events(row)), lambda: 0)
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    request = Request(
        method="POST", path=f"/v1/endpoints/{name}/diagnose", headers=CIMultiDict(), body=raw, names={"name": name}
    )
    request.caller = caller
    return json.loads((await handler.handle(request)).body)


async def test_an_accepted_event_is_judged_with_its_payload_which_is_not_shown() -> None:
    found = await ask({"eventId": "msg_1"})
    assert (found["endpoint"], found["selected"], found["excludedBy"]) == ("acme", False, "filter")
    assert found["event"]["id"] == "msg_1"
    assert '"n"' not in json.dumps(found).replace("event.data.n", "")


async def test_one_that_might_be_is_judged_as_far_as_it_is_known() -> None:
    assert (await ask({"type": "order.paid"}))["selected"] is None
    assert (await ask({"type": "order.paid", "data": {"n": 2}}))["selected"] is True
    assert (await ask({"type": "user.born", "channels": ["c"]}))["excludedBy"] == "eventTypes"


async def test_an_erased_payload_leaves_the_filter_open() -> None:
    erased = EventRow(id="msg_1", type="order.paid", channels=(), timestamp=b'""', accepted_ms=2**41)
    assert (await ask({"eventId": "msg_1"}, row=erased))["selected"] is None


async def test_an_event_s_payload_is_judged_for_those_only_who_may_read_it() -> None:
    clerk = Clerk()
    with pytest.raises(ProblemError) as caught:
        await ask({"eventId": "msg_1"}, caller=clerk)
    assert caught.value.problem.status == 403
    assert clerk.asked == [(Permission.READ_PAYLOADS, "acme")]
    assert (await ask({"type": "order.paid"}, caller=clerk))["selected"] is None


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        (b"", 400, "not acceptable JSON"),
        (b"[]", 400, "expected an object"),
        ({}, 400, "stands alone"),
        ({"eventId": "msg_1", "type": "a"}, 400, "stands alone"),
        ({"eventId": "msg_1", "channels": []}, 400, "stands alone"),
        ({"eventID": "msg_1"}, 400, 'did you mean "eventId"'),
        ({"eventId": 1}, 400, "must be a string"),
        ({"eventId": "msg_2"}, 404, "No event"),
        ({"type": "a b"}, 400, "letters, digits"),
        ({"type": "a", "channels": "c"}, 400, "an array of strings"),
        ({"type": "a", "channels": ["-"]}, 400, "channels[0]"),
    ],
)
async def test_what_is_no_question_is_refused(body: Any, status: int, words: str) -> None:
    with pytest.raises(ProblemError) as caught:
        await ask(body)
    assert caught.value.problem.status == status
    assert words in caught.value.problem.detail


async def test_an_unknown_endpoint_is_not_found() -> None:
    with pytest.raises(ProblemError) as caught:
        await ask({"type": "a"}, name="nobody")
    assert caught.value.problem.status == 404
