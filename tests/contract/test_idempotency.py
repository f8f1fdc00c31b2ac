"""Contract, section 3: "The same caller's id again: …"."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from contract.site import Site

pytestmark = pytest.mark.two_gateways


def event(site: Site, **members: Any) -> dict[str, Any]:
    return {"type": site.type("x"), "id": site.name("id"), "data": {"a": 1}, **members}


def test_the_same_body_again_is_202_with_the_first_id_and_duplicate_true_and_is_not_delivered_again(site: Site) -> None:
    site.apply(site.endpoint("a"), site.endpoint("b"))
    document = json.dumps(event(site)).encode()
    first = site.dev.post("/v1/events", document)
    assert first.json.keys() == {"id", "endpoints"}
    again = site.dev.post("/v1/events", document)
    assert again.status == 202
    assert again.json == {"id": first.json["id"], "endpoints": 2, "duplicate": True}
    site.apply(site.endpoint("a"))
    assert site.dev.post("/v1/events", document).json == again.json, "`endpoints` is the first's"
    site.publish(event="last")
    site.wait("a", 2)
    assert len(site.received("a")) == 2
    assert len(site.deliveries("a")) == 2


DIFFERENCES: list[dict[str, Any]] = [
    {"data": {"a": 2}},
    {"data": {"a": 1.0}},
    {"channels": ["c"]},
    {"timestamp": "2026-01-31T12:00:00Z"},
    {"type": "other.x"},
]


@pytest.mark.parametrize("other", DIFFERENCES)
def test_the_same_id_with_another_type_channels_timestamp_or_data_is_409(site: Site, other: dict[str, Any]) -> None:
    assert site.dev.post("/v1/events", json.dumps(event(site)).encode()).status == 202
    site.dev.post("/v1/events", json.dumps(event(site, **other)).encode()).problem(409)


@pytest.mark.parametrize(
    ("first", "second", "status"),
    [
        ('{"a": 1}', '{"a":1}', 409),
        ('{"a":1}', '{"a":1.0}', 409),
        ('"\\u0061"', '"a"', 409),
        ('{"a":1}', ' {"a":1} ', 202),
    ],
)
def test_data_is_compared_by_its_bytes(site: Site, first: str, second: str, status: int) -> None:
    def send(data: str) -> Any:
        return site.dev.post("/v1/events", f'{{"type":"{site.type("x")}","id":"{site.tag}","data":{data}}}'.encode())

    assert send(first).status == 202
    assert send(second).status == status


def test_a_timestamp_is_part_of_the_equality_also_where_only_its_spelling_differs(site: Site) -> None:
    stamps = ("2026-01-31T12:00:00Z", "2026-01-31T12:00:00.0Z")
    one, two = (json.dumps(event(site, timestamp=stamp)).encode() for stamp in stamps)
    assert site.dev.post("/v1/events", one).status == 202
    assert site.dev.post("/v1/events", one).json["duplicate"] is True
    site.dev.post("/v1/events", two).problem(409)


def test_the_order_and_spelling_of_the_envelope_do_not_matter(site: Site) -> None:
    kind, id_ = site.type("x"), site.name("id")
    assert site.dev.post("/v1/events", f'{{"type":"{kind}","id":"{id_}","data":[1]}}'.encode()).status == 202
    again = site.dev.post("/v1/events", f'{{ "data" : [1] , "id":"{id_}", "channels":[], "type":"{kind}" }}'.encode())
    assert again.json["duplicate"] is True


def test_single_and_batch_share_the_ids(site: Site) -> None:
    one = event(site)
    first = site.dev.post("/v1/events", json.dumps(one).encode()).json
    batch = site.dev.post("/v1/events/batch", json.dumps([one, event(site, data=2)]).encode()).json["items"]
    assert batch[0] == {"status": 202, "id": first["id"], "endpoints": 0, "duplicate": True}
    assert batch[1]["status"] == 409
    other = event(site, id=site.name("other"))
    (made,) = site.dev.post("/v1/events/batch", json.dumps([other]).encode()).json["items"]
    again = site.dev.post("/v1/events", json.dumps(other).encode()).json
    assert again == {"id": made["id"], "endpoints": 0, "duplicate": True}


def test_one_id_twice_in_one_batch_is_a_duplicate_or_a_conflict(site: Site) -> None:
    items = [event(site), event(site), event(site, data=2)]
    first, second, third = site.dev.post("/v1/events/batch", json.dumps(items).encode()).json["items"]
    assert "duplicate" not in first
    assert second == {"status": 202, "id": first["id"], "endpoints": 0, "duplicate": True}
    assert third["status"] == 409


def test_an_id_is_spent_only_by_an_event_that_was_accepted(site: Site) -> None:
    site.dev.post("/v1/events", json.dumps(event(site, channels=["_"])).encode()).problem(400)
    assert "duplicate" not in site.dev.post("/v1/events", json.dumps(event(site)).encode()).json


def test_the_ids_of_cloudevents_are_apart_from_native_ones_and_from_other_sources(site: Site) -> None:
    def cloud(source: str) -> Any:
        attributes = {"specversion": "1.0", "id": site.name("id"), "source": source, "type": site.type("x")}
        document = json.dumps({**attributes, "data": {"a": 1}}).encode()
        return site.dev.post("/v1/events", document, content_type="application/cloudevents+json").json

    ids = [
        site.dev.post("/v1/events", json.dumps(event(site)).encode()).json["id"],
        cloud("/one")["id"],
        cloud("/two")["id"],
    ]
    assert len(set(ids)) == 3
    assert cloud("/one") == {"id": ids[1], "endpoints": 0, "duplicate": True}


@pytest.mark.two_gateways
def test_ids_survive_a_restart(own_dev: Any) -> None:
    import signal

    from contract.site import Site

    site = own_dev()
    document = json.dumps(event(site)).encode()
    first = site.dev.post("/v1/events", document).json
    assert site.dev.stop(signal.SIGTERM) == 0
    with site.dev.again() as second:
        again = Site(second, site.receiver, site.tag)
        assert again.dev.post("/v1/events", document).json == {**first, "duplicate": True}


def test_of_many_that_send_one_id_at_once_exactly_one_is_first(site: Site) -> None:
    from concurrent.futures import ThreadPoolExecutor

    site.apply(site.endpoint("a"))
    document = json.dumps(event(site)).encode()
    with ThreadPoolExecutor(16) as pool:
        answers = [reply.json for reply in pool.map(lambda _: site.dev.post("/v1/events", document), range(48))]
    assert len({one["id"] for one in answers}) == 1
    assert [one.get("duplicate") for one in answers].count(None) == 1
    site.publish(event="last")
    site.wait("a", 2)
    assert len(site.deliveries("a")) == 2


def test_an_event_of_a_mebibyte_arrives_whole(site: Site) -> None:
    site.apply(site.endpoint("a"))
    text = "x" * 1_000_000
    site.publish(text)
    assert site.wait("a")[0].json["data"] == text
