from __future__ import annotations

import json
from typing import Any

import pytest

from hookstead.resources.event_filter import EventView, FilterError, compile_filter

Json = Any
DATA = {"amount": 5, "rate": 1.5, "flag": True, "none": None, "items": [{"sku": "a"}, {"sku": "b"}], "name": "ann"}


def view(data: Json = DATA, **fields: Json) -> EventView:
    defaults = {"type": "order.created", "channels": ("client_1",), "id": "msg_1"}
    return EventView(
        **{**defaults, **fields}, timestamp=b'"2026-01-01T00:00:00Z"', data=json.dumps(data, allow_nan=False).encode()
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('event.type == "order.created"', True),
        ('event.type == "order.shipped"', False),
        ('event["type"].startsWith("order.")', True),
        ('"client_1" in event.channels', True),
        ('event.channels.exists(c, c.startsWith("agent_"))', False),
        ('event.id == "msg_1"', True),
        ('timestamp(event.timestamp) < timestamp("2026-01-02T00:00:00Z")', True),
        ("event.data.amount > 4.5", True),
        ("event.data.rate == 1.5", True),
        ("event.data.flag == true", True),
        ("event.data.none == null", True),
        ("has(event.data.missing)", False),
        ("has(event.data.amount) && event.data.amount >= 5", True),
        ('event.data.items.exists(i, i.sku == "b")', True),
        ('event.data.name.matches("^a.n$")', True),
        ("event.data.missing > 1 || true", True),
        ('event.data.event.foo == 1 || event.type != ""', True),
        ('"event.foo" != event.type // event.bar', True),
        ("true", True),
    ],
)
def test_an_expression_sees_the_event_and_nothing_else(text: str, expected: bool) -> None:
    assert compile_filter(text).matches(view()) is expected


@pytest.mark.parametrize(
    "text",
    [
        "event.data.missing > 1",
        "event.data.name > 1",
        "event.data.amount.x == 1",
        "event.data.amount / 0 == 1",
        'timestamp(event.data.name) < timestamp("2026-01-02T00:00:00Z")',
    ],
)
def test_a_filter_that_fails_on_an_event_says_so_and_does_not_match(text: str) -> None:
    assert compile_filter(text).matches(view()) is None


def test_a_filter_that_iterates_too_often_does_not_match() -> None:
    nested = compile_filter("event.data.all(a, event.data.all(b, event.data.all(c, a + b + c >= 0)))")
    assert nested.matches(view(list(range(100)))) is None


@pytest.mark.parametrize(
    ("text", "within_budget"),
    [
        ('event.data.items.exists(i, event.data.text + event.data.text == "")', False),
        ("event.data.items.exists(i, event.data.text.contains(string(i)))", False),
        ('event.data.items.exists(i, event["data"].text == "")', False),
        ("event.data.items.exists(i, [1].exists(j, i == j))", False),
        ("event.data.items.exists(i, i == 7)", True),
        ('event.data.items.exists(i, event.type == "" || "a" in event.channels)', True),
        ('event.data.text.contains("y")', True),
        ('event.data.text + event.data.text == ""', True),
    ],
)
def test_costly_loops_over_many_elements_of_a_large_event_are_over_the_budget(text: str, within_budget: bool) -> None:
    large = view({"items": list(range(1000)), "text": "x" * 20_000})
    assert (compile_filter(text).matches(large) is not None) is within_budget


@pytest.mark.parametrize(("elements", "length"), [(20, 100_000), (900, 1)])
def test_few_elements_or_a_small_event_are_within_the_budget(elements: int, length: int) -> None:
    data = {"items": list(range(elements)), "text": "x" * length}
    assert compile_filter("event.data.items.exists(i, event.data.text == string(i))").matches(view(data)) is False


def test_an_integer_beyond_64_bits_does_not_fail_a_filter_on_another_field() -> None:
    assert compile_filter("event.data.amount == 5").matches(view({"amount": 5, "big": [10**400, -(2**70)]})) is True
    assert compile_filter("event.data.big > 1").matches(view({"big": 2**64})) is True


def test_a_number_beyond_doubles_is_infinite_and_fails_no_filter_on_another_field() -> None:
    huge = EventView(type="t", channels=(), id="msg_1", timestamp=b'"2026-01-31T12:00:00Z"', data=b'{"a":1e400,"b":5}')
    assert compile_filter("event.data.b == 5").matches(huge) is True
    assert compile_filter("event.data.a > 1e300").matches(huge) is True


def test_a_number_of_more_digits_than_can_be_read_is_no_match() -> None:
    data = b'{"a":' + b"9" * 5000 + b"}"
    long = EventView(type="t", channels=(), id="msg_1", timestamp=b'"2026-01-31T12:00:00Z"', data=data)
    assert compile_filter("event.data.a > 1").matches(long) is None


def test_data_that_is_no_object_is_an_ordinary_value() -> None:
    assert compile_filter("event.data == 3").matches(view(3)) is True
    assert compile_filter("event.data.amount == 3").matches(view("text")) is None


def test_data_is_decoded_once_for_all_filters_and_only_when_one_asks() -> None:
    broken = EventView(type="a", channels=(), id="1", timestamp=b'""', data=b"{")
    assert broken.size_bytes == 1
    shared = view()
    assert shared.activation is shared.activation


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "must be an expression such as"),
        (" \n", "must be an expression such as"),
        ("x" * 1025, "must be at most 1024 characters long, not 1025: shorten it"),
        ("1", "must be of type bool, not int: compare it"),
        ("event", "must be of type bool, not map<string, dyn>: compare it"),
        ("event.data.flag", "must be of type bool, and only an event tells what event.data.flag is: compare it"),
        ("event.type ==", "must be a CEL expression: at column 14: "),
        ("event.data.a == 1 &&\n  == 2", "must be a CEL expression: at line 2, column 3: "),
        ("event.type ==", "it ends too early"),
        ('event.type == "a', "a string that begins with a quote must end with the same one"),
        ('data.state == "a"', "undeclared reference to 'data.state'; did you mean event.data.state?"),
        ("amount > 5", "undeclared reference to 'amount'; the only variable is event"),
        ('channels == ["a"]', "undeclared reference to 'channels'; did you mean event.channels?"),
        ('type == "order.created"', "did you mean event.type?"),
        ('event.typ == "a"', 'not event.typ (did you mean "type"?): what the sender put into the event is under'),
        ("event.amount > 5", "must use what an event has (event.type, event.channels, event.id"),
        ('"a" + 1 == "a"', "found no matching overload for '_+_'"),
        ("(" * 40 + "true" + ")" * 40, "must be a CEL expression: Expression recursion limit exceeded"),
    ],
)
def test_what_is_no_filter_is_refused_in_words(text: str, message: str) -> None:
    with pytest.raises(FilterError) as error:
        compile_filter(text)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_a_loop_variable_may_be_called_event() -> None:
    assert compile_filter("event.data.items.exists(event, event.sku == 'a')").matches(view()) is True


def test_a_deeply_nested_filter_compiles_or_is_refused_at_once() -> None:
    nested = "true"
    for number in range(60):
        nested = f"[1].all(a{number}, {nested})"
    with pytest.raises(FilterError):
        compile_filter(nested)
    assert compile_filter("[1].all(a, [2].all(b, [3].all(c, true)))").matches(view()) is True
