"""The native envelope: what is taken, what is refused and what the refusal says."""

from __future__ import annotations

import pytest

from hookstead.delivery.intake import IncomingEvent
from hookstead.delivery.ports import CallerId
from hookstead.gateway.envelope import parse, valid_traceparent
from hookstead.gateway.problems import ProblemError, ProblemKind


def refusal(document: bytes) -> ProblemError:
    with pytest.raises(ProblemError) as caught:
        parse(document)
    return caught.value


def test_every_member_arrives() -> None:
    event = parse(
        b'{"type":"order.created","channels":["client_1","agent_2"],"id":"abc 1","timestamp":"2026-01-31T12:00:00Z",'
        b'"data":{"n":1}}',
        traceparent="00-x",
    )
    assert event == IncomingEvent(
        type="order.created",
        channels=("client_1", "agent_2"),
        caller_id=CallerId("", "abc 1"),
        timestamp=b'"2026-01-31T12:00:00Z"',
        data=b'{"n":1}',
        traceparent="00-x",
    )


def test_data_and_timestamp_are_kept_byte_for_byte() -> None:
    data = b'{ "b" : 1.0 ,\n"a":18446744073709551616, "\\u00e9":"\\/" }'
    event = parse(b'{"type":"a","timestamp": "2026-01-31t12:00:00.10\\u002b01:00" ,"data": ' + data + b" }")
    assert event.data == data
    assert event.timestamp == b'"2026-01-31t12:00:00.10\\u002b01:00"'


def test_only_type_and_data_are_required() -> None:
    assert parse(b'{"type":"a","data":null}') == IncomingEvent(type="a", data=b"null")


@pytest.mark.parametrize("data", [b"null", b"0", b"-1.5e3", b"true", b'""', b"[]", b"{}"])
def test_data_is_any_json_value(data: bytes) -> None:
    assert parse(b'{"type":"a","data":' + data + b"}").data == data


@pytest.mark.parametrize(
    ("document", "member", "says"),
    [
        (b'{"data":1}', "type", "required"),
        (b'{"type":"a"}', "data", "required"),
        (b'{"type":1,"data":1}', "type", "found a number"),
        (b'{"type":null,"data":1}', "type", "found null"),
        (b'{"type":"","data":1}', "type", "found ''"),
        (b'{"type":"a b","data":1}', "type", "'a b'"),
        (b'{"type":"a..b","data":1}', "type", "dots"),
        (b'{"type":"a.b\\n","data":1}', "type", "found"),
        (b'{"type":"' + b"a" * 129 + b'","data":1}', "type", "128"),
        (b'{"type":"caf\xc3\xa9","data":1}', "type", "letters"),
        (b'{"type":"a","channels":"client_1","data":1}', "channels", "array of strings, found a string"),
        (b'{"type":"a","channels":null,"data":1}', "channels", "found null"),
        (b'{"type":"a","channels":[1],"data":1}', "channels", "array of strings"),
        (b'{"type":"a","channels":["ok","_no"],"data":1}', "channels[1]", "starting with a letter"),
        (b'{"type":"a","channels":[""],"data":1}', "channels[0]", "found ''"),
        (b'{"type":"a","channels":[' + b",".join(b'"c%d"' % n for n in range(65)) + b'],"data":1}', "channels", "64"),
        (b'{"type":"a","id":1,"data":1}', "id", "string"),
        (b'{"type":"a","id":"","data":1}', "id", "256"),
        (b'{"type":"a","id":"\xc3\xa9","data":1}', "id", "ASCII"),
        (b'{"type":"a","id":"a\\n","data":1}', "id", "printable"),
        (b'{"type":"a","id":"' + b"x" * 257 + b'","data":1}', "id", "256"),
        (b'{"type":"a","timestamp":"yesterday","data":1}', "timestamp", "RFC 3339"),
        (b'{"type":"a","timestamp":"2026-01-31 12:00:00Z","data":1}', "timestamp", "RFC 3339"),
        (b'{"type":"a","timestamp":"2026-02-30T12:00:00Z","data":1}', "timestamp", "RFC 3339"),
        (b'{"type":"a","timestamp":"2026-01-31T12:00:00","data":1}', "timestamp", "RFC 3339"),
        (b'{"type":"a","timestamp":1769860800,"data":1}', "timestamp", "string"),
    ],
)
def test_a_refusal_names_the_member_and_what_was_expected(document: bytes, member: str, says: str) -> None:
    error = refusal(document)
    assert error.problem.kind is ProblemKind.INVALID_EVENT
    assert error.problem.extra["member"] == member
    assert says in error.problem.detail


def test_a_misspelt_member_is_an_error_with_a_suggestion() -> None:
    detail = refusal(b'{"type":"a","chanels":["client_1"],"data":1}').problem.detail
    assert "'chanels'" in detail
    assert 'did you mean "channels"?' in detail


@pytest.mark.parametrize(
    ("document", "says"),
    [
        (b"", "empty"),
        (b"[]", "expected an object, found an array"),
        (b'"a"', "found a string"),
        (b"{", "too early"),
        (b'{"type":"a","data":NaN}', "invalid"),
        (b'{"type":"a","type":"b","data":1}', "'type' occurs twice"),
        (b'{"type":"a","data":1,"\\u0064ata":2}', "'data' occurs twice"),
        (b'\xef\xbb\xbf{"type":"a","data":1}', "byte order mark"),
        ('{"type":"a","data":1}'.encode("utf-16"), "UTF-16"),
        (b'{"type":"a","data":"\xff"}', "not UTF-8"),
        (b'{"type":"a","data":"\\ud800"}', "surrogate"),
        (b'{"type":"a","data":' + b"[" * 256 + b"]" * 256 + b"}", "256 deep"),
        (b'{"type":"a","data":1} x', "trailing"),
    ],
)
def test_what_is_not_acceptable_json_is_refused_in_words(document: bytes, says: str) -> None:
    error = refusal(document)
    assert error.problem.kind is ProblemKind.MALFORMED_JSON
    assert says in error.problem.detail


def test_nesting_is_counted_from_the_root() -> None:
    inside = b"[" * 255 + b"]" * 255
    assert parse(b'{"type":"a","data":' + inside + b"}").data == inside
    with pytest.raises(ProblemError):
        parse(b'{"type":"a","data":' + inside + b"}", depth=1)


def test_a_channel_that_is_named_twice_counts_once() -> None:
    assert parse(b'{"type":"a","channels":["b","a","b"],"data":1}').channels == ("b", "a")


def test_repeated_names_within_data_are_the_caller_s_business() -> None:
    assert parse(b'{"type":"a","data":{"x":1,"x":2}}').data == b'{"x":1,"x":2}'


@pytest.mark.parametrize(
    ("header", "kept"),
    [
        ("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", True),
        ("cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", True),
        ("ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", False),
        ("00-00000000000000000000000000000000-00f067aa0ba902b7-01", False),
        ("00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01", False),
        ("00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01", False),
        ("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\n", False),
        ("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more", False),
        ("", False),
        (None, False),
    ],
)
def test_a_trace_context_is_kept_in_its_w3c_form_only(header: str | None, kept: bool) -> None:
    assert valid_traceparent(header) == (header if kept else None)
