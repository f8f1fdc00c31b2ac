"""CloudEvents 1.0 over HTTP, held to the specification rather than to an SDK."""

from __future__ import annotations

import json
from typing import Any

import pytest

from hookstead.delivery.intake import IncomingEvent
from hookstead.delivery.ports import CallerId
from hookstead.gateway.cloudevents import decode_header, is_binary, is_json_media, parse_binary, parse_structured
from hookstead.gateway.problems import ProblemError

ATTRIBUTES: dict[str, Any] = {"specversion": "1.0", "id": "a-1", "source": "/shop", "type": "order.created"}
HEADERS = [("ce-specversion", "1.0"), ("ce-id", "a-1"), ("ce-source", "/shop"), ("ce-type", "order.created")]
TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def structured(**changes: Any) -> bytes:
    return json.dumps({name: value for name, value in {**ATTRIBUTES, **changes}.items() if value is not ...}).encode()


def binary(body: bytes = b"{}", *more: tuple[str, str], content_type: str = "application/json") -> IncomingEvent:
    changed = {name.lower() for name, _ in more}
    headers = [(name, value) for name, value in HEADERS if name not in changed]
    return parse_binary([*headers, *more], body, content_type=content_type)


def status_of(parse: Any) -> int:
    with pytest.raises(ProblemError) as caught:
        parse()
    return caught.value.problem.status


def test_source_and_id_together_are_the_caller_s_id_apart_from_native_ones() -> None:
    event = parse_structured(structured(data={"n": 1}, channels="client_1, agent_2", time="2026-01-31T12:00:00Z"))
    assert event == IncomingEvent(
        type="order.created",
        data=b'{"n": 1}',
        channels=("client_1", "agent_2"),
        timestamp=b'"2026-01-31T12:00:00Z"',
        caller_id=CallerId("/shop", "a-1"),
        source="/shop",
    )


def test_both_modes_give_the_same_event() -> None:
    assert parse_structured(structured(data={})) == binary(b"{}")


def test_missing_data_is_null() -> None:
    assert parse_structured(structured()).data == b"null"
    assert binary(b"", content_type="").data == b"null"


@pytest.mark.parametrize("missing", ["id", "source", "type", "specversion"])
def test_a_required_attribute_is_never_invented(missing: str) -> None:
    assert status_of(lambda: parse_structured(structured(**{missing: ...}))) == 400
    assert status_of(lambda: parse_structured(structured(**{missing: None}))) == 400
    assert status_of(lambda: parse_structured(structured(**{missing: ""}))) == 400
    headers = [(name, value) for name, value in HEADERS if name != f"ce-{missing}"]
    assert status_of(lambda: parse_binary(headers, b"{}", content_type="application/json")) == 400


@pytest.mark.parametrize(
    "changes",
    [
        {"specversion": "0.3"},
        {"id": 1},
        {"id": "x" * 257},
        {"id": "a\nb"},
        {"source": "not a uri"},
        {"source": "/%zz"},
        {"source": "caf\u00e9"},
        {"type": "has space"},
        {"time": "yesterday"},
        {"channels": ["client_1"]},
        {"channels": ""},
        {"channels": "a,,b"},
        {"channels": "_a"},
        {"Upper": "x"},
        {"with_underscore": "x"},
        {"ext": {"a": 1}},
    ],
)
def test_a_broken_attribute_is_a_400(changes: dict[str, Any]) -> None:
    assert status_of(lambda: parse_structured(structured(**changes))) == 400


def test_binary_data_and_other_content_are_415() -> None:
    assert status_of(lambda: parse_structured(structured(data_base64="AA=="))) == 415
    assert status_of(lambda: parse_structured(structured(data="<a/>", datacontenttype="application/xml"))) == 415
    assert status_of(lambda: binary(b"<a/>", content_type="application/xml")) == 415
    assert status_of(lambda: binary(b"null", content_type="text/plain")) == 415
    assert status_of(lambda: binary(b"{}", content_type="application/json; charset=iso-8859-1")) == 415


def test_every_json_media_type_is_json() -> None:
    assert is_json_media("application/json")
    assert is_json_media("Application/Vnd.Shop+JSON; charset=UTF-8")
    assert is_json_media("text/json")
    assert not is_json_media("application/jsonp")
    assert not is_json_media("application/json-seq")
    assert binary(b'{"a":1}', content_type="application/vnd.shop+json").data == b'{"a":1}'


def test_broken_json_in_binary_mode_is_a_400() -> None:
    assert status_of(lambda: binary(b"{")) == 400
    assert status_of(lambda: binary(b"[" * 257 + b"]" * 257)) == 400


def test_data_in_binary_mode_is_kept_without_the_white_space_around_it() -> None:
    assert binary(b' \r\n{ "a" : 1.0 }\n').data == b'{ "a" : 1.0 }'


def test_extensions_and_numbers_are_tolerated() -> None:
    assert parse_structured(structured(subject="o/1", sequence=7, sampled=True, traceparent="?")).caller_id is not None


@pytest.mark.parametrize(
    ("value", "decoded"),
    [
        ("plain", "plain"),
        ("Euro%20%E2%82%AC%20%F0%9F%98%80", "Euro \u20ac \U0001f600"),
        ("100%25", "100%"),
        ("%2541", "%41"),
        ('"quoted \\" %41"', 'quoted " A'),
        ("a+b", "a+b"),
    ],
)
def test_header_values_are_percent_decoded_once(value: str, decoded: str) -> None:
    assert decode_header("ce-subject", value) == decoded


@pytest.mark.parametrize("value", ["100%", "%4", "%zz", "%C3%28", "%ED%A0%80", "\udcff"])
def test_broken_percent_encoding_is_a_400(value: str) -> None:
    assert status_of(lambda: decode_header("ce-subject", value)) == 400
    assert status_of(lambda: binary(b"{}", ("ce-subject", value))) == 400


def test_control_characters_are_refused_even_when_encoded() -> None:
    assert status_of(lambda: binary(b"{}", ("ce-subject", "a%00b"))) == 400
    assert status_of(lambda: binary(b"{}", ("ce-subject", "a%0Ab"))) == 400


def test_an_attribute_that_comes_twice_is_refused() -> None:
    assert status_of(lambda: parse_binary([*HEADERS, ("CE-Id", "b")], b"{}", content_type="")) == 400
    assert status_of(lambda: parse_structured(structured()[:-1] + b',"id":"b"}')) == 400


def test_the_tracing_extension_wins_over_the_header() -> None:
    other = TRACE.replace("4bf9", "aaaa")
    assert parse_structured(structured(traceparent=TRACE), traceparent=other).traceparent == TRACE
    assert parse_structured(structured(traceparent="broken"), traceparent=other).traceparent == other


def test_any_one_required_header_means_binary_mode() -> None:
    assert is_binary({"ce-id": "1"})
    assert is_binary({"ce-specversion": "1.0"})
    assert not is_binary({"content-type": "application/json"})
