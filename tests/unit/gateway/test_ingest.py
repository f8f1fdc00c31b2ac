"""The ingest handlers over a publisher that answers from a list."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest
from multidict import CIMultiDict, CIMultiDictProxy

from hookstead.delivery.intake import IncomingEvent, PublishResult, RefusalKind, Refused
from hookstead.delivery.ports import Accepted, Clash, Duplicate
from hookstead.gateway.exchange import Request, Response
from hookstead.gateway.ingest import KINDS, Ingest
from hookstead.gateway.problems import ProblemError, ProblemKind, problem
from hookstead.gateway.quota import IngestQuota

EVENT = {"type": "order.created", "data": 1}


class Scripted:
    """Answers each event with the next result, the last one again and again."""

    def __init__(self, *results: PublishResult) -> None:
        self.results = list(results) or [Accepted("msg_1", 2)]
        self.events: list[IncomingEvent] = []

    async def publish(self, events: Sequence[IncomingEvent]) -> Sequence[PublishResult]:
        self.events.extend(events)
        return [self.results.pop(0) if len(self.results) > 1 else self.results[0] for _ in events]


def request(body: Any, content_type: str | None = "application/json", **headers: str) -> Request:
    fields = CIMultiDict({name.replace("_", "-"): value for name, value in headers.items()})
    if content_type is not None:
        fields["Content-Type"] = content_type
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Request(method="POST", path="/v1/events", headers=CIMultiDictProxy(fields), body=raw)


def ingest(publisher: Scripted, **changes: Any) -> Ingest:
    return Ingest(publisher=publisher, now=lambda: 0.0, **changes)


async def one(publisher: Scripted, *arguments: Any, **headers: str) -> Response:
    return await ingest(publisher).one(request(*arguments, **headers))


async def batch(publisher: Scripted, *arguments: Any, **headers: str) -> tuple[int, Any]:
    response = await ingest(publisher).batch(request(*arguments, **headers))
    return response.status, json.loads(response.body)


async def test_an_accepted_event_is_a_202_with_id_and_endpoints() -> None:
    response = await one(Scripted(Accepted("msg_7", 3)), EVENT)
    assert (response.status, json.loads(response.body)) == (202, {"id": "msg_7", "endpoints": 3})


async def test_a_duplicate_is_a_202_that_says_so() -> None:
    response = await one(Scripted(Duplicate("msg_7", 3)), EVENT)
    assert (response.status, json.loads(response.body)) == (202, {"id": "msg_7", "endpoints": 3, "duplicate": True})


async def test_an_id_of_another_event_is_a_409_that_names_the_first() -> None:
    response = await one(Scripted(Clash("msg_7")), EVENT)
    assert (response.status, json.loads(response.body)["id"]) == (409, "msg_7")
    assert response.content_type == "application/problem+json"


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        (RefusalKind.ENVIRONMENT_DISABLED, 403),
        (RefusalKind.UNKNOWN_TYPE, 422),
        (RefusalKind.ARCHIVED_TYPE, 422),
        (RefusalKind.SCHEMA_MISMATCH, 422),
        (RefusalKind.OVER_QUOTA, 429),
        (RefusalKind.DRAINING, 503),
        (RefusalKind.SATURATED, 503),
        (RefusalKind.STORE_UNAVAILABLE, 503),
        (RefusalKind.STORE_FULL, 507),
    ],
)
async def test_each_refusal_has_its_status_and_says_when_to_come_back(kind: RefusalKind, status: int) -> None:
    response = await one(Scripted(Refused(kind, "why and what to do", 7)), EVENT)
    assert response.status == status
    assert json.loads(response.body)["detail"] == "why and what to do"
    assert dict(response.headers)["Retry-After"] == "7"


def test_every_refusal_of_the_engine_is_known() -> None:
    assert set(KINDS) == set(RefusalKind)


@pytest.mark.parametrize(
    "content_type", ["application/json", "application/json; charset=utf-8", "Application/JSON", None]
)
async def test_native_json_is_taken(content_type: str | None) -> None:
    assert (await one(Scripted(), EVENT, content_type)).status == 202


@pytest.mark.parametrize(
    "content_type",
    [
        "text/plain",
        "application/x-www-form-urlencoded",
        "application/xml",
        "application/x-ndjson",
        "application/json; charset=latin-1",
        "application/cloudevents-batch+json",
        "application/cloudevents+avro",
        "application/cloudevents+json; charset=utf-16",
    ],
)
async def test_anything_else_is_a_415_that_says_what_to_send(content_type: str) -> None:
    with pytest.raises(ProblemError) as caught:
        await one(Scripted(), EVENT, content_type)
    assert caught.value.problem.status == 415
    assert any(word in caught.value.problem.detail for word in ("application/", "/v1/events/batch", "UTF-8"))


async def test_the_three_forms_reach_the_publisher() -> None:
    publisher = Scripted()
    cloud = {"specversion": "1.0", "id": "1", "source": "/s", "type": "order.created", "data": 1}
    await one(publisher, EVENT)
    await one(publisher, cloud, "application/cloudevents+json")
    await one(publisher, b"1", ce_specversion="1.0", ce_id="1", ce_source="/s", ce_type="order.created")
    assert [event.source for event in publisher.events] == [None, "/s", "/s"]
    assert {event.data for event in publisher.events} == {b"1"}


async def test_the_trace_context_of_the_request_is_kept() -> None:
    publisher = Scripted()
    trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    await one(publisher, EVENT, traceparent=trace)
    await batch(publisher, [EVENT], traceparent=trace)
    await one(publisher, EVENT, traceparent="nonsense")
    assert [event.traceparent for event in publisher.events] == [trace, trace, None]


async def test_a_batch_answers_each_item_in_order() -> None:
    publisher = Scripted(Accepted("msg_1", 1), Duplicate("msg_2", 2), Clash("msg_3"))
    status, answer = await batch(publisher, [EVENT, {"type": "x"}, EVENT, 7, EVENT])
    assert status == 202
    assert [item["status"] for item in answer["items"]] == [202, 400, 202, 400, 409]
    assert answer["items"][0] == {"status": 202, "id": "msg_1", "endpoints": 1}
    assert answer["items"][2]["duplicate"] is True
    assert answer["items"][1]["type"].endswith("/invalid-event")


async def test_a_broken_line_of_ndjson_rejects_only_itself() -> None:
    lines = b'{"type":"a","data":1}\n{broken\r\n\n  \n{"type":"a","data":"\\ud800"}\n\xff\n{"type":"a","data":2}\r\n'
    publisher = Scripted()
    status, answer = await batch(publisher, lines, "application/x-ndjson")
    assert status == 202
    assert [item["status"] for item in answer["items"]] == [202, 400, 400, 400, 202]
    assert [event.data for event in publisher.events] == [b"1", b"2"]


async def test_a_batch_of_cloudevents_is_taken() -> None:
    publisher = Scripted()
    cloud = {"specversion": "1.0", "id": "1", "source": "/s", "type": "order.created"}
    status, answer = await batch(publisher, [cloud, {**cloud, "id": None}], "application/cloudevents-batch+json")
    assert (status, [item["status"] for item in answer["items"]]) == (202, [202, 400])


@pytest.mark.parametrize(("count", "status"), [(0, 202), (1000, 202), (1001, 413)])
@pytest.mark.parametrize("content_type", ["application/json", "application/x-ndjson"])
async def test_a_batch_has_at_most_a_thousand_events(count: int, status: int, content_type: str) -> None:
    lines = [json.dumps(EVENT)] * count
    body = "\n".join(lines) if "nd" in content_type else f"[{','.join(lines)}]"
    try:
        found, answer = await batch(Scripted(), body.encode(), content_type)
        assert len(answer["items"]) == count
    except ProblemError as error:
        found = error.problem.status
    assert found == status


async def test_an_item_over_the_size_of_an_event_rejects_only_itself() -> None:
    handlers = ingest(Scripted(), event_bytes=100)
    response = await handlers.batch(request([EVENT, {**EVENT, "data": "x" * 100}]))
    assert [item["status"] for item in json.loads(response.body)["items"]] == [202, 413]


@pytest.mark.parametrize("body", [b"{}", b"", b"[1,", b"[1]x", b"null", b"\xef\xbb\xbf[]"])
async def test_a_body_that_is_no_array_is_refused_as_a_whole(body: bytes) -> None:
    with pytest.raises(ProblemError) as caught:
        await batch(Scripted(), body)
    assert caught.value.problem.status == 400


async def test_an_element_stands_one_level_deep() -> None:
    deep = b"[" * 254 + b"]" * 254
    body = b'[{"type":"a","data":' + deep + b'},{"type":"a","data":[' + deep + b"]}]"
    _, answer = await batch(Scripted(), body)
    assert [item["status"] for item in answer["items"]] == [202, 400]


async def test_a_refusal_that_is_about_no_event_refuses_the_batch() -> None:
    refused = Refused(RefusalKind.DRAINING, "shutting down", 5)
    response = await ingest(Scripted(refused)).batch(request([EVENT, {"type": "x"}, EVENT]))
    assert response.status == 503
    assert dict(response.headers)["Retry-After"] == "5"


async def test_a_batch_of_which_something_was_accepted_is_a_202() -> None:
    publisher = Scripted(Accepted("msg_1", 1), Refused(RefusalKind.STORE_FULL, "full"))
    status, answer = await batch(publisher, [EVENT, EVENT])
    assert (status, [item["status"] for item in answer["items"]]) == (202, [202, 507])


async def test_events_that_the_catalog_refuses_are_refused_one_by_one() -> None:
    status, answer = await batch(Scripted(Refused(RefusalKind.UNKNOWN_TYPE, "unknown")), [EVENT])
    assert (status, answer["items"][0]["status"]) == (202, 422)


async def test_over_the_quota_nothing_is_published() -> None:
    publisher = Scripted()
    handlers = ingest(publisher, quota=IngestQuota(2))
    await handlers.one(request(EVENT))
    with pytest.raises(ProblemError) as caught:
        await handlers.one(request(EVENT))
    assert caught.value.problem.status == 429
    assert caught.value.problem.retry_after == 1
    assert len(publisher.events) == 1


async def test_while_draining_nothing_is_published() -> None:
    publisher = Scripted()
    handlers = ingest(publisher, closed=lambda: problem(ProblemKind.DRAINING, "shutting down"))
    for call in (handlers.one, handlers.batch):
        with pytest.raises(ProblemError) as caught:
            await call(request([]))
        assert caught.value.problem.status == 503
    assert publisher.events == []


async def test_a_query_parameter_at_ingest_is_refused() -> None:
    asked = request(EVENT)
    asked.query = "channel=client_1"
    with pytest.raises(ProblemError) as caught:
        await ingest(Scripted()).one(asked)
    assert caught.value.problem.status == 400
