"""Contract, section 3, "Ingest": the native envelope, and JSON that is validated, never re-serialised."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from contract.processes import Environment, Reply
    from contract.site import Site


@pytest.fixture(scope="module")
def catcher(module_site: Site) -> Site:
    """A site with one endpoint in each payload format."""
    module_site.apply(
        module_site.endpoint("a"),
        module_site.endpoint("filtered", filter='event.type.startsWith("")'),
        module_site.endpoint("raw", payloadFormat="DataOnly"),
        module_site.endpoint("ce", payloadFormat="CloudEvents"),
    )
    return module_site


def send(dev: Environment, document: str | bytes | dict[str, Any]) -> Reply:
    if isinstance(document, dict):
        document = json.dumps(document)
    return dev.post("/v1/events", document.encode() if isinstance(document, str) else document)


GOOD: dict[str, Any] = {"type": "a.b", "data": {}}


def test_an_accepted_event_is_answered_202_with_a_msg_id_and_the_number_of_endpoints(catcher: Site) -> None:
    reply = send(catcher.dev, {"type": catcher.type("x"), "data": {}})
    assert (reply.status, reply.headers["content-type"].partition(";")[0]) == (202, "application/json")
    assert reply.json.keys() == {"id", "endpoints"}
    assert reply.json["id"].startswith("msg_")
    assert reply.json["endpoints"] == 4


@pytest.mark.parametrize("kind", ["a", "A_b-9", "-", "_", "a.b.c.d", "x" * 128, "0.0"])
def test_a_well_formed_type_is_taken(shared_dev: Environment, kind: str) -> None:
    assert send(shared_dev, {**GOOD, "type": kind}).status == 202


@pytest.mark.parametrize(
    "kind", ["", ".a", "a.", "a..b", "a b", "a.b\n", "é", "a.*", "*", "x" * 129, 7, None, ["a"], {"a": 1}, True, "a/b"]
)
def test_any_other_type_is_400(shared_dev: Environment, kind: Any) -> None:
    send(shared_dev, {**GOOD, "type": kind}).problem(400)


@pytest.mark.parametrize("left_out", ["type", "data"])
def test_type_and_data_are_required(shared_dev: Environment, left_out: str) -> None:
    send(shared_dev, {name: value for name, value in GOOD.items() if name != left_out}).problem(400)


@pytest.mark.parametrize("data", ["{}", "[]", "null", "0", '""', "true", "false", '"x"', "[1,[2]]", "-0", "1E5"])
def test_data_is_any_json_value(shared_dev: Environment, data: str) -> None:
    assert send(shared_dev, f'{{"type":"a.b","data":{data}}}').status == 202


@pytest.mark.parametrize("extra", ["channel", "Channels", "chanels", "source", "subject", "x", "", "data ", "Type"])
def test_an_unknown_member_is_an_error(shared_dev: Environment, extra: str) -> None:
    send(shared_dev, {**GOOD, extra: ["client_1"]}).problem(400)


@pytest.mark.parametrize(
    "channels", [[], ["a"], ["client_1", "agent.X-9"], ["9"], ["x" * 128], [f"c{n}" for n in range(64)], ["a", "a"]]
)
def test_up_to_64_well_formed_channels_are_taken(shared_dev: Environment, channels: list[str]) -> None:
    assert send(shared_dev, {**GOOD, "channels": channels}).status == 202


@pytest.mark.parametrize(
    "channels",
    [
        [f"c{n}" for n in range(65)],
        [""],
        ["_a"],
        ["-a"],
        [".a"],
        ["a b"],
        ["a\n"],
        ["é"],
        ["x" * 129],
        ["a,b"],
        [1],
        [None],
        [["a"]],
        "client_1",
        None,
        {},
        7,
    ],
)
def test_any_other_channels_are_400(shared_dev: Environment, channels: Any) -> None:
    send(shared_dev, {**GOOD, "channels": channels}).problem(400)


@pytest.mark.parametrize("tail", [" ", "~", "x" * 250, '"', "\\", "{}"])
def test_an_id_is_1_to_256_printable_ascii_characters(site: Site, tail: str) -> None:
    assert send(site.dev, {**GOOD, "id": site.tag + tail}).status == 202


@pytest.mark.parametrize("id_", ["", "x" * 257, "a\n", "\t", "é", "\x7f", "\x00", 7, None, ["a"], 1.0, True])
def test_any_other_id_is_400(shared_dev: Environment, id_: Any) -> None:
    send(shared_dev, {**GOOD, "id": id_}).problem(400)


@pytest.mark.parametrize(
    "timestamp",
    [
        "2026-01-31T12:00:00Z",
        "2026-01-31T12:00:00.123456789012Z",
        "2026-01-31t12:00:00z",
        "2026-01-31T12:00:00+05:30",
        "2026-01-31T23:59:59-23:59",
        "2024-02-29T00:00:00Z",
        "0001-01-01T00:00:00Z",
        "9999-12-31T23:59:59.999Z",
        "2026-01-31T12:00:00-00:00",
        "2016-12-31T23:59:60Z",
    ],
)
def test_a_timestamp_is_rfc_3339(shared_dev: Environment, timestamp: str) -> None:
    reply = send(shared_dev, {**GOOD, "timestamp": timestamp})
    assert reply.status == 202, reply.body


@pytest.mark.parametrize(
    "timestamp",
    [
        "",
        "2026-01-31",
        "2026-01-31T12:00:00",
        "2026-01-31 12:00:00",
        "2026-02-30T12:00:00Z",
        "2026-01-31T25:00:00Z",
        "2026-01-31T12:60:00Z",
        "2026-01-31T12:00:00.Z",
        "2026-01-31T12:00Z",
        "2026-1-31T12:00:00Z",
        "2026-01-31T12:00:00+0530",
        "2026-01-31T12:00:00+24:00",
        "20260131T120000Z",
        "2026-01-31T12:00:00Z\n",
        " 2026-01-31T12:00:00Z",
        "２026-01-31T12:00:00Z",
        "2026-W05-6T12:00:00Z",
        "2026-01-31T12:00:00,5Z",
        1769860800,
        None,
        {},
    ],
)
def test_any_other_timestamp_is_400(shared_dev: Environment, timestamp: Any) -> None:
    send(shared_dev, {**GOOD, "timestamp": timestamp}).problem(400)


@pytest.mark.parametrize("name", ["type", "data", "id", "channels", "timestamp"])
def test_a_repeated_envelope_key_is_refused(shared_dev: Environment, name: str) -> None:
    values = {"type": '"a.b"', "data": "{}", "id": '"q"', "channels": "[]", "timestamp": '"2026-01-31T12:00:00Z"'}
    twice = ",".join(f'"{key}":{value}' for key, value in [*values.items(), (name, values[name])])
    send(shared_dev, f"{{{twice}}}").problem(400)


def test_a_repeated_envelope_key_is_refused_however_it_is_spelt(shared_dev: Environment) -> None:
    send(shared_dev, r'{"type":"a.b","data":{},"d\u0061ta":{}}').problem(400)


@pytest.mark.parametrize(
    "document",
    [
        b"",
        b" ",
        b"{",
        b"[]",
        b"null",
        b'"x"',
        b"7",
        b'{"type":"a.b","data":{}}x',
        b'{"type":"a.b","data":{}}{}',
        b'{"type":"a.b","data":{},}',
        b'{"type":"a.b","data":NaN}',
        b'{"type":"a.b","data":[Infinity]}',
        b'{"type":"a.b","data":-Infinity}',
        b'{"type":"a.b","data":nan}',
        b'{"type":"a.b","data":01}',
        b'{"type":"a.b","data":1.}',
        b'{"type":"a.b","data":.5}',
        b'{"type":"a.b","data":+1}',
        b'{"type":"a.b","data":0x1}',
        b"{'type':'a.b','data':{}}",
        b'{"type":"a.b","data":"\t"}',
        b'{"type":"a.b","data":"\x00"}',
        b'{"type":"a.b","data":"\\x41"}',
        b'{"type":"a.b","data":"\\u12"}',
        b'{"type":"a.b","data":{"a":1 /* c */}}',
        b'{"type":"a.b","data":tru}',
        b'\xef\xbb\xbf{"type":"a.b","data":{}}',
        '{"type":"a.b","data":{}}'.encode("utf-16"),
        '{"type":"a.b","data":{}}'.encode("utf-16-le"),
        '{"type":"a.b","data":{}}'.encode("utf-16-be"),
        '{"type":"a.b","data":{}}'.encode("utf-32"),
        b'{"type":"a.b","data":"\\ud800"}',
        b'{"type":"a.b","data":"\\udc00"}',
        b'{"type":"a.b","data":"\\ud800x"}',
        b'{"type":"a.b","data":"\\ud800\\ud800"}',
        b'{"type":"a.b","data":{"\\ud800":1}}',
        b'{"type":"a.b","data":"\xed\xa0\x80"}',
        b'{"type":"a.b","data":"\xff"}',
        b'{"type":"a.b","data":"\xc0\x80"}',
        b'{"type":"a.b","data":"\xf4\x90\x80\x80"}',
        b'{"type":"a.b","data":"\xe2\x82"}',
        b'\x0b{"type":"a.b","data":{}}',
        b'\xc2\xa0{"type":"a.b","data":{}}',
    ],
)
def test_what_is_no_json_text_in_utf_8_is_refused(shared_dev: Environment, document: bytes) -> None:
    send(shared_dev, document).problem(400)


@pytest.mark.parametrize(("levels", "status"), [(255, 202), (256, 400), (400, 400), (5000, 400), (100_000, 400)])
@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"a":', "}")])
def test_nesting_over_256_from_the_documents_root_is_refused(
    shared_dev: Environment, levels: int, status: int, opening: str, closing: str
) -> None:
    inner = opening * levels + "1" + closing * levels
    reply = send(shared_dev, f'{{"type":"a.b","data":{inner}}}')
    assert reply.status == status, reply.body[:300]


def test_brackets_in_strings_are_no_nesting(shared_dev: Environment) -> None:
    text = json.dumps("[" * 300 + '\\"{' * 300)
    assert send(shared_dev, f'{{"type":"a.b","data":{text}}}').status == 202


BYTES = [
    '{"b":1,"a":2}',
    '{ "a" :\t1 ,\r\n "b": [ 1 , 2 ] }',
    "18446744073709551616",
    "9007199254740993",
    "1e400",
    "-1E-400",
    "1.0",
    "1.10",
    "-0",
    "-0.0",
    "123456789012345678901234567890.123456789012345678901234567890",
    '{"a":1,"a":2}',
    r'"\u00e9\/\b\f\n\r\t\\\""',
    r'"\ud83d\ude00"',
    r'"\u0000"',
    r'"\u2028"',
    '"é😀\u2028\uffff\x7f"',
    '{"é":"ü"}',
    "[]",
    "{}",
    "null",
    '""',
    "true",
]


@pytest.mark.parametrize("data", BYTES)
@pytest.mark.parametrize("space", ["", " ", "\n\t \r"])
def test_data_reaches_the_receiver_byte_for_byte(catcher: Site, data: str, space: str) -> None:
    kind = catcher.type("bytes")
    accepted = send(catcher.dev, f'{{"data":{space}{data}{space},"type":"{kind}"}}').json
    assert accepted["endpoints"] == 4
    stored = catcher.dev.ask("GET", f"/v1/events/{accepted['id']}").body
    assert b'"data":' + data.encode() + b"," in stored

    def body(name: str) -> bytes:
        found: list[bytes] = []
        while not found:
            found = [one.body for one in catcher.wait(name) if one.id == accepted["id"]]
        return found[0]

    for name in ("a", "filtered"):
        assert body(name).startswith(b'{"type":"' + kind.encode() + b'","timestamp":"')
        assert body(name).endswith(b',"data":' + data.encode() + b"}")
    assert body("raw") == data.encode()
    assert b'"data":' + data.encode() in body("ce")


@pytest.mark.parametrize(
    "timestamp",
    [
        '"2026-01-31T12:00:00.100Z"',
        '"2026-01-31t12:00:00z"',
        '"2026-01-31T12:00:00.000000000000+05:30"',
        r'"2026-01-31\u005412:00:00Z"',
    ],
)
def test_timestamp_reaches_the_receiver_byte_for_byte(site: Site, timestamp: str) -> None:
    site.apply(site.endpoint("a"))
    accepted = send(site.dev, f'{{"type":"{site.type("x")}","timestamp": {timestamp} ,"data":1}}').json
    body = site.wait("a")[0].body
    assert body == f'{{"type":"{site.type("x")}","timestamp":{timestamp},"data":1}}'.encode()
    stored = site.dev.ask("GET", f"/v1/events/{accepted['id']}").body
    assert b'"timestamp":' + timestamp.encode() in stored


def test_without_a_timestamp_the_time_of_acceptance_is_sent(catcher: Site) -> None:
    accepted = catcher.publish({}, event="now")
    event = catcher.dev.get(f"/v1/events/{accepted['id']}")
    assert event["timestamp"] == event["createdTime"]


def test_an_event_of_exactly_1_mib_is_taken_and_one_byte_more_is_413(shared_dev: Environment) -> None:
    frame = '{"type":"a.b","data":""}'
    exact = frame[:-2] + "x" * (1024 * 1024 - len(frame)) + frame[-2:]
    assert send(shared_dev, exact).status == 202
    send(shared_dev, exact[:-2] + "x" + exact[-2:]).problem(413)


def test_an_event_that_is_too_large_is_413_when_it_comes_chunked_too(shared_dev: Environment) -> None:
    pieces = [b'{"type":"a.b","data":"', *(b"x" * 65536 for _ in range(17)), b'"}']
    reply = shared_dev.ask("POST", "/v1/events", body=iter(pieces), headers={"content-type": "application/json"})
    reply.problem(413)
    small = iter([b'{"type":"a.b"', b',"data":{}}'])
    assert shared_dev.ask("POST", "/v1/events", body=small, headers={"content-type": "application/json"}).status == 202


@pytest.mark.parametrize("coding", ["gzip", "br", "deflate", "zstd", "identity, gzip", "x", "GZIP"])
def test_any_content_encoding_but_identity_is_415(shared_dev: Environment, coding: str) -> None:
    for path in ("/v1/events", "/v1/events/batch"):
        shared_dev.post(path, b'{"type":"a.b","data":{}}', content_encoding=coding).problem(415)


@pytest.mark.parametrize("coding", ["identity", "Identity"])
def test_the_content_encoding_identity_is_taken(shared_dev: Environment, coding: str) -> None:
    assert shared_dev.post("/v1/events", json.dumps(GOOD).encode(), content_encoding=coding).status == 202


@pytest.mark.parametrize(
    "media", ["text/plain", "application/xml", "application/x-www-form-urlencoded", "application/x-ndjson", "x"]
)
def test_any_other_media_type_is_415(shared_dev: Environment, media: str) -> None:
    shared_dev.post("/v1/events", json.dumps(GOOD).encode(), content_type=media).problem(415)


@pytest.mark.parametrize(
    "media", ["application/json; charset=utf-8", "Application/JSON", 'application/json;charset="UTF-8"']
)
def test_json_in_utf_8_is_taken_however_it_is_declared(shared_dev: Environment, media: str) -> None:
    assert shared_dev.post("/v1/events", json.dumps(GOOD).encode(), content_type=media).status == 202


def test_json_in_another_charset_is_415(shared_dev: Environment) -> None:
    for charset in ("utf-16", "iso-8859-1"):
        shared_dev.post(
            "/v1/events", json.dumps(GOOD).encode(), content_type=f"application/json; charset={charset}"
        ).problem(415)
