"""Whatever arrives, a parser answers with an event or a problem, and never lets a malformed event through."""

from __future__ import annotations

import json

from hypothesis import given, settings
from hypothesis import strategies as st
from multidict import CIMultiDict, CIMultiDictProxy

from hookstead.config.times import parse_time
from hookstead.delivery.intake import IncomingEvent
from hookstead.gateway.envelope import CHANNEL, TYPE
from hookstead.gateway.exchange import Request
from hookstead.gateway.ingest import parse_one, split_batch
from hookstead.gateway.problems import ProblemError

SCRAPS = st.sampled_from(
    [
        '"type"', '"order.created"', '"channels"', '["client_1"]', '"id"', '"abc"', '"timestamp"', '"2026-01-31T12:00:00Z"',
        '"data"', '{"a":1}', "null", "[", "]", "{", "}", ",", ":", "1", '"\\ud800"', '"specversion"', '"1.0"', '"source"',
        '"/shop"', '"time"', '"data_base64"', " ", "\x00", "NaN", "\ufeff",
    ]
)  # fmt: skip
NAMES = ["type", "channels", "id", "timestamp", "data", "specversion", "source", "time", "datacontenttype", "chanels"]
VALUES = (
    st.none() | st.booleans() | st.integers() | st.text(max_size=8) | st.lists(st.text(max_size=4), max_size=3)
    | st.sampled_from(["order.created", "client_1", "2026-01-31T12:00:00Z", "1.0", "/shop", "application/json"])
)  # fmt: skip
ENVELOPES = st.dictionaries(st.sampled_from(NAMES), VALUES).map(lambda value: json.dumps(value).encode())
BODIES = (
    st.binary(max_size=60)
    | st.lists(SCRAPS, max_size=24).map(lambda scraps: "".join(scraps).encode())
    | ENVELOPES
    | st.lists(ENVELOPES, max_size=4).map(lambda bodies: b"[" + b",".join(bodies) + b"]")
)
HEADER_VALUES = st.text(
    alphabet=st.characters(min_codepoint=32, max_codepoint=255), max_size=24
) | st.sampled_from(
    [
        "1.0",
        "a-1",
        "/shop",
        "order.created",
        "%zz",
        "%00",
        "%C3%A9",
        '"q\\"uoted"',
        "client_1,agent_2",
        "2026-01-31T12:00:00Z",
    ]
)
HEADERS = st.dictionaries(
    st.sampled_from(
        ["ce-specversion", "ce-id", "ce-source", "ce-type", "ce-channels", "ce-time", "ce-x-y", "traceparent"]
    ),
    HEADER_VALUES,
)
CONTENT_TYPES = st.sampled_from(
    ["application/json", "application/cloudevents+json", "application/cloudevents-batch+json", "application/x-ndjson", "", "text/plain"]
)  # fmt: skip


def request(body: bytes, content_type: str, headers: dict[str, str]) -> Request:
    fields = CIMultiDict(headers)
    fields["Content-Type"] = content_type
    return Request(method="POST", path="/v1/events", headers=CIMultiDictProxy(fields), body=body)


def assert_well_formed(event: IncomingEvent) -> None:
    assert TYPE.fullmatch(event.type)
    assert all(CHANNEL.fullmatch(channel) for channel in event.channels)
    assert len(event.channels) <= 64
    event.data.decode("utf-8")
    json.loads(event.data)
    if event.timestamp is not None:
        parse_time(json.loads(event.timestamp))
    if event.caller_id is not None:
        assert event.caller_id.id
        assert (event.caller_id.space == "") == (event.source is None)


@settings(max_examples=1500)
@given(BODIES, CONTENT_TYPES, HEADERS)
def test_one_request_is_an_event_or_a_problem(body: bytes, content_type: str, headers: dict[str, str]) -> None:
    try:
        event = parse_one(request(body, content_type, headers))
    except ProblemError as error:
        assert error.problem.status in (400, 415)
        assert error.problem.body().isascii() or error.problem.body().decode("utf-8")
    else:
        assert_well_formed(event)


@settings(max_examples=800)
@given(BODIES, CONTENT_TYPES)
def test_one_batch_is_items_or_a_problem(body: bytes, content_type: str) -> None:
    try:
        parse, documents, depth = split_batch(request(body, content_type, {}))
    except ProblemError as error:
        assert error.problem.status in (400, 415)
        return
    for document in documents:
        try:
            assert_well_formed(parse(document, traceparent=None, depth=depth))
        except ProblemError as error:
            assert error.problem.status in (400, 415)
