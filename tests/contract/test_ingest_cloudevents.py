"""Contract, section 3: CloudEvents 1.0, structured and binary, on the same path."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from contract.processes import Reply
    from contract.site import Site

STRUCTURED = "application/cloudevents+json"


@pytest.fixture(scope="module")
def catcher(module_site: Site) -> Site:
    module_site.apply(
        module_site.channel("one"),
        module_site.channel("two"),
        module_site.endpoint("all"),
        module_site.endpoint("one", channelRefs=[{"name": module_site.name("one")}]),
        module_site.endpoint("two", channelRefs=[{"name": module_site.name("two")}]),
        module_site.endpoint("ce", payloadFormat="CloudEvents"),
        module_site.endpoint("raw", payloadFormat="DataOnly"),
    )
    return module_site


def event(site: Site, id_: str, **more: Any) -> dict[str, Any]:
    base = {"specversion": "1.0", "id": site.name(id_), "source": "/tests", "type": site.type("x"), "data": {"a": 1}}
    return {key: value for key, value in {**base, **more}.items() if value is not ...}


def structured(site: Site, document: Any, media: str = STRUCTURED) -> Reply:
    return site.dev.post(
        "/v1/events", document if isinstance(document, bytes) else json.dumps(document).encode(), media
    )


def binary(
    site: Site, id_: str, body: bytes = b'{"a":1}', media: str | None = "application/json", **more: Any
) -> Reply:
    attributes = {"specversion": "1.0", "id": site.name(id_), "source": "/tests", "type": site.type("x"), **more}
    headers = {f"ce-{name}": value for name, value in attributes.items() if value is not ...}
    return site.dev.ask(
        "POST", "/v1/events", body=body, headers={**headers, **({} if media is None else {"content-type": media})}
    )


def body_of(site: Site, name: str, message: str) -> bytes:
    from contract.processes import until

    def look() -> list[bytes]:
        return [one.body for one in site.received(name) if one.id == message]

    found: list[bytes] = until(look, what=f"{message} at {name}")
    return found[0]


def test_a_structured_event_is_accepted_and_delivered(catcher: Site) -> None:
    reply = structured(catcher, event(catcher, "s1", time="2026-01-31T12:00:00Z", subject="s", extra="e", number=7))
    assert reply.status == 202
    assert reply.json["endpoints"] == 3
    body = body_of(catcher, "all", reply.json["id"])
    assert body == f'{{"type":"{catcher.type("x")}","timestamp":"2026-01-31T12:00:00Z","data":{{"a": 1}}}}'.encode()


def test_a_binary_event_is_accepted_and_delivered_byte_for_byte(catcher: Site) -> None:
    data = b'{ "b":1.0,\n"a":18446744073709551616, "c":"\\u00e9" }'
    reply = binary(catcher, "b1", data, time="2026-01-31T12:00:00Z")
    assert reply.status == 202
    assert reply.json["endpoints"] == 3
    body = body_of(catcher, "all", reply.json["id"])
    assert body == (
        b'{"type":"' + catcher.type("x").encode() + b'","timestamp":"2026-01-31T12:00:00Z","data":' + data + b"}"
    )
    assert body_of(catcher, "raw", reply.json["id"]) == data


def test_the_data_of_a_structured_event_stays_byte_for_byte(catcher: Site) -> None:
    data = '{ "b":1.0, "a":1e400, "c":"\\u00e9" }'
    head = json.dumps(event(catcher, "s2", data=...))[:-1]
    reply = structured(catcher, f'{head}, "data": {data} }}'.encode())
    assert body_of(catcher, "raw", reply.json["id"]) == data.encode()


def test_channels_are_a_comma_separated_extension_attribute(catcher: Site) -> None:
    one, two = catcher.channel_name("one"), catcher.channel_name("two")
    for channels, count in ((one, 4), (f"{one},{two}", 5), (f"{one}, {two}", 5), ("nobody", 3)):
        assert structured(catcher, event(catcher, f"sc{channels}", channels=channels)).json["endpoints"] == count
        assert binary(catcher, f"bc{channels}", channels=channels).json["endpoints"] == count
    found = catcher.dev.get(f"/v1/events/{binary(catcher, 'bcx', channels=f'{one},{two}').json['id']}")
    assert found["channels"] == [one, two]


@pytest.mark.parametrize("channels", ["a b", "_a", ",", "a,,b", "", ",".join(f"c{n}" for n in range(65)), "é"])
def test_broken_channels_are_400(catcher: Site, channels: str) -> None:
    structured(catcher, event(catcher, "bad", channels=channels)).problem(400)


def test_channels_as_a_json_array_are_400(catcher: Site) -> None:
    structured(catcher, event(catcher, "bad", channels=["a"])).problem(400)


@pytest.mark.parametrize("name", ["id", "source", "type", "specversion"])
@pytest.mark.parametrize("value", [..., "", None, 7])
def test_a_missing_id_source_type_or_specversion_is_an_error_never_invented(
    catcher: Site, name: str, value: Any
) -> None:
    structured(catcher, event(catcher, "missing", **{name: value})).problem(400)


@pytest.mark.parametrize("name", ["id", "source", "type", "specversion"])
def test_a_missing_header_of_those_is_an_error_too(catcher: Site, name: str) -> None:
    left_out: dict[str, Any] = {name: ...}
    binary(catcher, "missing", **left_out).problem(400)


@pytest.mark.parametrize("version", ["0.3", "1.1", "2.0", "1"])
def test_another_specversion_is_400(catcher: Site, version: str) -> None:
    structured(catcher, event(catcher, "v", specversion=version)).problem(400)
    binary(catcher, "v", specversion=version).problem(400)


def test_missing_data_is_null(catcher: Site) -> None:
    for reply in (
        structured(catcher, event(catcher, "n1", data=...)),
        structured(catcher, event(catcher, "n2", data=None)),
        binary(catcher, "n3", b"", None),
        binary(catcher, "n4", b""),
    ):
        assert reply.status == 202, reply.body
        assert body_of(catcher, "raw", reply.json["id"]) == b"null"
        assert catcher.dev.get(f"/v1/events/{reply.json['id']}")["data"] is None


def test_data_base64_is_415(catcher: Site) -> None:
    structured(catcher, event(catcher, "b64", data=..., data_base64="AAEC")).problem(415)


@pytest.mark.parametrize("media", ["text/plain", "application/xml", "application/octet-stream", "image/png"])
def test_content_that_is_not_json_is_415(catcher: Site, media: str) -> None:
    structured(catcher, event(catcher, "nj", data="<a/>", datacontenttype=media)).problem(415)
    binary(catcher, "nj", b"<a/>", media).problem(415)


@pytest.mark.parametrize(
    "media", ["application/json", "application/vnd.acme+json", "application/json; charset=utf-8", "text/json"]
)
def test_json_content_is_taken_under_any_of_its_names(catcher: Site, media: str) -> None:
    assert structured(catcher, event(catcher, f"j{media}", datacontenttype=media)).status == 202
    assert binary(catcher, f"k{media}", media=media).status == 202


@pytest.mark.parametrize("value", ["%", "%4", "%zz", "%ff", "a%", "%E2%82"])
def test_broken_percent_encoding_is_400(catcher: Site, value: str) -> None:
    binary(catcher, "pc", subject=value).problem(400)


def test_header_values_are_percent_decoded(catcher: Site) -> None:
    reply = binary(catcher, "pd", type=catcher.type("x").replace(".", "%2E"), source="/a%2520b")
    assert reply.status == 202, reply.body
    found = json.loads(body_of(catcher, "ce", reply.json["id"]))
    assert found["source"] == "/a%20b"
    assert found["type"] == catcher.type("x")


def test_broken_json_in_a_binary_event_is_400(catcher: Site) -> None:
    for body in (b"{", b"NaN", b'"\\ud800"', b"\xef\xbb\xbf{}", b"\xff", b"[" * 257 + b"]" * 257):
        binary(catcher, "broken", body).problem(400)


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"7", b'{"specversion":"1.0","specversion":"1.0"}'])
def test_broken_structured_documents_are_400(catcher: Site, body: bytes) -> None:
    structured(catcher, body).problem(400)


@pytest.mark.parametrize("attribute", ["Upper", "under_score", "with-dash", ""])
def test_an_attribute_whose_name_cloudevents_forbids_is_400(catcher: Site, attribute: str) -> None:
    structured(catcher, event(catcher, "an", **{attribute: "x"})).problem(400)


def test_a_batch_on_the_path_of_single_events_is_415(catcher: Site) -> None:
    structured(catcher, [event(catcher, "b")], "application/cloudevents-batch+json").problem(415)


def test_time_is_held_to_rfc_3339(catcher: Site) -> None:
    structured(catcher, event(catcher, "t", time="yesterday")).problem(400)
    binary(catcher, "t", time="2026-01-31 12:00:00").problem(400)


def test_the_same_source_and_id_again_is_a_duplicate_in_any_mode(catcher: Site) -> None:
    first = structured(catcher, json.dumps(event(catcher, "dup"), separators=(",", ":")).encode()).json
    again = binary(catcher, "dup", b'{"a":1}').json
    assert again == {"id": first["id"], "endpoints": 3, "duplicate": True}
    binary(catcher, "dup", b'{"a":2}').problem(409)


def test_an_id_may_hold_any_characters_that_cloudevents_allows(catcher: Site) -> None:
    assert structured(catcher, event(catcher, "ü😀")).status == 202
    assert binary(catcher, "%C3%BC2").status == 202


def test_a_cloudevents_endpoint_gets_a_structured_event_with_the_callers_source(catcher: Site) -> None:
    reply = structured(catcher, event(catcher, "out", source="https://acme.example/orders"))
    body_of(catcher, "ce", reply.json["id"])
    (request,) = [one for one in catcher.received("ce") if one.id == reply.json["id"]]
    assert request.headers["content-type"].partition(";")[0] == "application/cloudevents+json"
    found = request.json
    assert found["specversion"] == "1.0"
    assert found["id"] == reply.json["id"]
    assert found["source"] == "https://acme.example/orders"
    assert found["type"] == catcher.type("x")
    assert found["data"] == {"a": 1}
    assert "time" in found


def test_a_native_event_leaves_with_the_namespace_as_its_source(catcher: Site) -> None:
    accepted = catcher.publish([1], event="x")
    found = json.loads(body_of(catcher, "ce", accepted["id"]))
    assert found["source"] == "/namespaces/default"
    assert found["data"] == [1]
