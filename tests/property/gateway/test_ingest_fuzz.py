"""Whatever arrives, a parser answers with an event or a problem, and never lets a malformed event through."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from multidict import CIMultiDict, CIMultiDictProxy

from hookstead.config.times import parse_time
from hookstead.delivery.intake import IncomingEvent
from hookstead.gateway.envelope import CHANNEL, TYPE
from hookstead.gateway.exchange import Request
from hookstead.gateway.ingest import parse_one, split_batch
from hookstead.gateway.problems import Problem, ProblemError

SCRAPS = st.sampled_from(
    [
        *[
            '"type"',
            '"order.created"',
            '"channels"',
            '["client_1"]',
            '"id"',
            '"abc"',
            '"timestamp"',
            '"2026-01-31T12:00:00Z"',
            '"data"',
        ],
        *[
            '{"a":1}',
            "null",
            "[",
            "]",
            "{",
            "}",
            ",",
            ":",
            "1",
            '"\\ud800"',
            '"specversion"',
            '"1.0"',
            '"source"',
            '"/shop"',
            '"time"',
            '"data_base64"',
            "NaN",
        ],
        *(" ", "\x00", "\ufeff"),
    ]
)
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
HEADER_VALUES = st.text(alphabet=st.characters(min_codepoint=32, max_codepoint=255), max_size=24) | st.sampled_from(
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
CLOUD = "application/cloudevents"
CONTENT_TYPES = st.sampled_from(
    ["application/json", f"{CLOUD}+json", f"{CLOUD}-batch+json", "application/x-ndjson", "", "text/plain"]
)


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


def outcome(parse: Callable[[], Any]) -> Any:
    """What parsing gave, or its problem, whose document can be sent."""
    try:
        return parse()
    except ProblemError as error:
        error.problem.body().decode("utf-8")
        return error.problem


@settings(max_examples=1500)
@given(BODIES, CONTENT_TYPES, HEADERS)
def test_one_request_is_an_event_or_a_problem(body: bytes, content_type: str, headers: dict[str, str]) -> None:
    found = outcome(lambda: parse_one(request(body, content_type, headers)))
    if isinstance(found, Problem):
        assert found.status in (400, 415)
    else:
        assert_well_formed(found)


@settings(max_examples=800)
@given(BODIES, CONTENT_TYPES)
def test_one_batch_is_items_or_a_problem(body: bytes, content_type: str) -> None:
    split = outcome(lambda: split_batch(request(body, content_type, {})))
    if isinstance(split, Problem):
        assert split.status in (400, 415)
        return
    parse, documents, depth = split
    for document in documents:
        found = outcome(functools.partial(parse, document, traceparent=None, depth=depth))
        if isinstance(found, Problem):
            assert found.status in (400, 415)
        else:
            assert_well_formed(found)
