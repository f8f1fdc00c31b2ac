"""Contract, section 3: `POST /v1/events/batch`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from contract.processes import check_problem

if TYPE_CHECKING:
    from contract.processes import Environment, Reply
    from contract.site import Site

NDJSON = "application/x-ndjson"
CLOUD = "application/cloudevents-batch+json"
GOOD: dict[str, Any] = {"type": "a.b", "data": {}}


def cloud(**more: Any) -> dict[str, Any]:
    return {"specversion": "1.0", "id": "1", "source": "/batch", "type": "a.b", "data": {}, **more}


def send(dev: Environment, body: bytes | list[Any], media: str = "application/json") -> Reply:
    return dev.post("/v1/events/batch", body if isinstance(body, bytes) else json.dumps(body).encode(), media)


def good(item: dict[str, Any]) -> bool:
    return item["status"] == 202 and item.keys() == {"status", "id", "endpoints"}


def test_a_json_array_gives_one_result_per_item_in_order(site: Site) -> None:
    site.apply(site.endpoint("a"))
    items = [{"type": site.type(str(number)), "data": number} for number in range(5)]
    reply = send(site.dev, items)
    assert reply.status == 202
    assert reply.json.keys() == {"items"}
    assert all(good(item) and item["endpoints"] == 1 for item in reply.json["items"])
    site.wait("a", 5)
    sent = {one.id: one.json["data"] for one in site.received("a")}
    assert [sent[item["id"]] for item in reply.json["items"]] == list(range(5))


BAD: list[Any] = [
    {"type": "a.b"},
    {"type": "a.b", "data": {}, "chanels": []},
    {"type": "a b", "data": {}},
    {"type": "a.b", "data": {}, "id": ""},
    7,
    None,
    "x",
    [],
    [{"type": "a.b", "data": {}}],
]


@pytest.mark.parametrize("bad", BAD)
def test_one_bad_item_rejects_only_itself(shared_dev: Environment, bad: Any) -> None:
    first, second, third = send(shared_dev, [GOOD, bad, GOOD]).json["items"]
    assert good(first)
    assert good(third)
    check_problem(second, 400)


@pytest.mark.parametrize(
    "bad",
    [
        b'{"type":"a.b","data":{},"data":{}}',
        b'{"type":"a.b","data":"\\ud800"}',
        b'{"type":"a.b","data":"\xff"}',
        b'{"type":"a.b","data":' + b"[" * 256 + b"]" * 256 + b"}",
        b'{"type":"a.b","data":' + b"[" * 3000 + b"]" * 3000 + b"}",
    ],
)
def test_an_item_that_is_json_but_not_ours_rejects_only_itself(shared_dev: Environment, bad: bytes) -> None:
    one = json.dumps(GOOD).encode()
    reply = send(shared_dev, b"[" + one + b"," + bad + b"," + one + b"]")
    assert reply.status == 202, reply.body
    first, second, third = reply.json["items"]
    assert good(first)
    assert good(third)
    check_problem(second, 400)


def test_nesting_counts_from_the_root_of_the_batch(shared_dev: Environment) -> None:
    def nested(levels: int) -> bytes:
        return b'[{"type":"a.b","data":' + b"[" * levels + b"]" * levels + b"}]"

    assert good(send(shared_dev, nested(254)).json["items"][0])
    check_problem(send(shared_dev, nested(255)).json["items"][0], 400)


def test_an_item_over_the_limit_of_an_event_rejects_only_itself(shared_dev: Environment) -> None:
    large = {"type": "a.b", "data": "x" * (1024 * 1024)}
    first, second = send(shared_dev, [large, GOOD]).json["items"]
    check_problem(first, 413)
    assert good(second)


@pytest.mark.parametrize(
    "body", [b"", b"{}", b"null", b'{"items":[]}', b"[", b"[{},]", b"[{}]x", b'"x"', b"\xef\xbb\xbf[]"]
)
def test_a_body_that_is_no_json_array_is_400(shared_dev: Environment, body: bytes) -> None:
    send(shared_dev, body).problem(400)


def test_an_empty_array_has_no_results(shared_dev: Environment) -> None:
    reply = send(shared_dev, [])
    assert (reply.status, reply.json) == (202, {"items": []})


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_ndjson_gives_one_result_per_line_and_a_broken_line_rejects_only_itself(
    shared_dev: Environment, newline: str
) -> None:
    lines = [json.dumps(GOOD), "{broken", json.dumps(GOOD), "", "[1]", json.dumps({**GOOD, "x": 1}), json.dumps(GOOD)]
    for end in ("", newline):
        items = send(shared_dev, (newline.join(lines) + end).encode(), NDJSON).json["items"]
        assert [item["status"] for item in items] == [202, 400, 202, 400, 400, 202]
        for item in items:
            if item["status"] != 202:
                check_problem(item, 400)


def test_an_ndjson_line_that_is_no_utf_8_rejects_only_itself(shared_dev: Environment) -> None:
    one = json.dumps(GOOD).encode()
    body = b"\n".join([one, b'{"type":"a.b","data":"\xff"}', one])
    assert [item["status"] for item in send(shared_dev, body, NDJSON).json["items"]] == [202, 400, 202]


def test_nesting_in_ndjson_counts_from_the_line(shared_dev: Environment) -> None:
    def nested(levels: int) -> bytes:
        return b'{"type":"a.b","data":' + b"[" * levels + b"]" * levels + b"}"

    body = nested(255) + b"\n" + nested(256)
    assert [item["status"] for item in send(shared_dev, body, NDJSON).json["items"]] == [202, 400]


def test_a_batch_of_cloudevents_gives_one_result_per_event(site: Site) -> None:
    events = [
        cloud(id=site.name("1")),
        cloud(id=None),
        {"type": "a.b", "data": {}},
        cloud(id=site.name("2"), data_base64="AA==", data=None),
        cloud(id=site.name("3")),
    ]
    items = send(site.dev, events, CLOUD).json["items"]
    assert [item["status"] for item in items] == [202, 400, 400, 415, 202]
    check_problem(items[3], 415)


def test_1000_items_are_taken_and_more_are_413(shared_dev: Environment) -> None:
    items = send(shared_dev, [GOOD] * 1000).json["items"]
    assert len(items) == 1000
    assert all(map(good, items))
    send(shared_dev, [GOOD] * 1001).problem(413)
    lines = "\n".join([json.dumps(GOOD)] * 1001).encode()
    send(shared_dev, lines, NDJSON).problem(413)
    send(shared_dev, [cloud()] * 1001, CLOUD).problem(413)


def test_a_batch_over_16_mib_is_413(shared_dev: Environment) -> None:
    item = json.dumps({"type": "a.b", "data": "x" * 1_000_000})
    fits = f"[{','.join([item] * 16)}]".encode()
    assert len(fits) < 16 * 1024 * 1024
    assert send(shared_dev, fits).status == 202
    send(shared_dev, f"[{','.join([item] * 17)}]".encode()).problem(413)
    pieces = [b"[", *([item.encode(), b","] * 16), item.encode(), b"]"]
    shared_dev.ask("POST", "/v1/events/batch", body=iter(pieces), headers={"content-type": "application/json"}).problem(
        413
    )


@pytest.mark.parametrize("media", ["text/plain", "application/cloudevents+json", "application/ndjson", "text/csv"])
def test_a_batch_in_any_other_form_is_415(shared_dev: Environment, media: str) -> None:
    send(shared_dev, [GOOD], media).problem(415)
