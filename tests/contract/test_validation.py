"""Contract, section 3, "Errors", and `spec.eventValidation`: what is refused at ingest, and how."""

from __future__ import annotations

import json
import signal
import threading
from typing import TYPE_CHECKING, Any

import pytest

from contract.mounted import mount
from contract.processes import Answer, Gateway, ask, environment, until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from contract.processes import NewStore, Serve
    from contract.site import Site

SCHEMA = {
    "type": "object",
    "required": ["n"],
    "properties": {"n": {"type": "number", "minimum": 0}, "inner": {"$ref": "#/$defs/inner"}},
    "$defs": {"inner": {"type": "object", "additionalProperties": False}},
}


def types(site: Site) -> list[dict[str, Any]]:
    return [
        site.event_type("strict", schema=SCHEMA),
        site.event_type("free"),
        site.event_type("old", lifecycle="Deprecated", replacedBy=site.type("free")),
        site.event_type("gone", lifecycle="Archived"),
        site.event_type("counted", schema=SCHEMA),
    ]


NO_OBJECTS: tuple[Any, ...] = ([], None, 1, "x", True)
CASES: list[tuple[str, Any, str | None]] = [
    ("strict", {"n": 1}, None),
    ("strict", {"n": 1, "more": [1, {"a": None}]}, None),
    ("strict", {"n": 1, "inner": {}}, None),
    ("strict", {"n": -1}, "schema-mismatch"),
    ("strict", {}, "schema-mismatch"),
    ("strict", {"n": "1"}, "schema-mismatch"),
    ("strict", {"n": 1, "inner": {"x": 1}}, "schema-mismatch"),
    ("free", {"any": "thing"}, None),
    ("old", {}, None),
    ("gone", {}, "archived-event-type"),
    ("nobody.declared.this", {}, "unknown-event-type"),
    *((kind, data, "schema-mismatch") for kind in ("strict", "free") for data in NO_OBJECTS),
]


@pytest.fixture(scope="module")
def enforcing(serve: Serve, tmp_path_factory: pytest.TempPathFactory, receiver: Any) -> Iterator[Site]:
    from contract.site import Site

    with serve(tmp_path_factory.mktemp("enforce"), objects=[environment(eventValidation="Enforce")]) as dev:
        site = Site(dev, receiver, "enforce")
        site.apply(*types(site), site.endpoint("a"))
        yield site


@pytest.fixture(scope="module")
def warning(module_site: Site) -> Site:
    module_site.apply(*types(module_site), module_site.endpoint("a"))
    return module_site


@pytest.mark.parametrize(("kind", "data", "slug"), CASES)
def test_under_enforce_an_unknown_or_archived_type_and_data_against_its_schema_are_422(
    enforcing: Site, kind: str, data: Any, slug: str | None
) -> None:
    reply = enforcing.dev.post("/v1/events", json.dumps({"type": enforcing.type(kind), "data": data}).encode())
    if slug is None:
        assert reply.status == 202, reply.body
    else:
        reply.problem(422, slug)


@pytest.mark.parametrize(("kind", "data", "slug"), CASES)
def test_under_warn_the_same_events_are_delivered(warning: Site, kind: str, data: Any, slug: str | None) -> None:
    accepted = warning.publish(data, event=kind)
    assert accepted["endpoints"] == 1
    until(lambda: [one for one in warning.received("a") if one.id == accepted["id"]], what=f"{kind} delivered ({slug})")


def activity(site: Site) -> Any:
    """Of a type that only the test that counts it uses. Several gateways exchange such counts every few seconds."""
    return site.dev.get(f"/v1/event-types/{site.name('counted')}")["activity"]


def test_under_warn_they_are_counted_at_their_type(warning: Site) -> None:
    warning.publish({}, event="counted")
    until(lambda: (activity(warning)["rejected"], activity(warning)["accepted"]) == (1, 1), what="counted")
    assert activity(warning)["lastEventTime"]


def test_what_enforce_refused_is_counted_as_rejected_at_its_type(enforcing: Site) -> None:
    enforcing.dev.post("/v1/events", json.dumps({"type": enforcing.type("counted"), "data": {}}).encode()).problem(422)
    enforcing.publish({"n": 1}, event="counted")
    until(lambda: (activity(enforcing)["rejected"], activity(enforcing)["accepted"]) == (1, 1), what="counted")


@pytest.mark.parametrize("number", ["1e400", "9" * 400, "9" * 5000, "1" + "0" * 400 + ".5", "18446744073709551616"])
def test_numbers_of_any_size_pass_a_schema_and_a_filter_under_warn(warning: Site, number: str) -> None:
    document = f'{{"type":"{warning.type("strict")}","data":{{"n":{number}}}}}'
    assert warning.dev.post("/v1/events", document.encode()).status == 202


@pytest.mark.parametrize("number", ["1e400", "9" * 400, "18446744073709551616", "1E-400", "0.1"])
def test_numbers_of_any_size_are_numbers_under_enforce(enforcing: Site, number: str) -> None:
    document = f'{{"type":"{enforcing.type("strict")}","data":{{"n":{number}}}}}'
    reply = enforcing.dev.post("/v1/events", document.encode())
    assert reply.status == 202, reply.body


def test_in_a_batch_each_item_is_judged_by_itself(enforcing: Site) -> None:
    items = [
        {"type": enforcing.type(kind), "data": data} for kind, data in (("strict", {"n": 1}), ("strict", {}), ("x", {}))
    ]
    answers = enforcing.dev.post("/v1/events/batch", json.dumps(items).encode()).json["items"]
    assert [one["status"] for one in answers] == [202, 422, 422]


def test_under_none_nothing_is_judged(own_dev: Any) -> None:
    site = own_dev(eventValidation="None")
    site.apply(*types(site), site.endpoint("a"))
    for kind, data, _ in CASES:
        assert site.publish(data, event=kind)["endpoints"] == 1


@pytest.mark.parametrize("objects", [[], [environment(state="Disabled")], [environment(state=None)]])
def test_a_disabled_or_missing_environment_answers_403(own_dev: Any, objects: list[Any]) -> None:
    for one in objects:
        one["spec"] = {key: value for key, value in one["spec"].items() if value is not None}
    site = own_dev(objects=objects)
    document = json.dumps({"type": "a.b", "data": {}}).encode()
    site.dev.post("/v1/events", document).problem(403, "environment-disabled")
    reply = site.dev.post("/v1/events/batch", b"[" + document + b"]")
    assert reply.status == 403 or reply.json["items"][0]["status"] == 403
    site.dev.post("/v1/events", b"{").problem(400)


def test_a_gateway_over_its_quota_answers_429_with_retry_after(tmp_path: Path, new_store: NewStore) -> None:
    flags = (*mount(tmp_path, store=new_store(tmp_path)), "--ingest-per-second", "5", "--min-free-bytes", "0")
    with Gateway(tmp_path, "--auth", "none", *flags) as gateway:
        document = json.dumps({"type": "a.b", "data": {}}).encode()
        replies = [gateway.post("/v1/events", document) for _ in range(12)]
        assert replies[0].status == 202
        refused = [reply for reply in replies if reply.status != 202]
        assert refused
        for reply in refused:
            reply.problem(429)
        until(lambda: gateway.post("/v1/events", document).status == 202, what="room in the quota again", pause=0.2)


@pytest.mark.dev_alone  # the disk of a database is not ours
def test_a_gateway_whose_disk_is_below_the_watermark_answers_507_with_retry_after(
    tmp_path: Path, new_store: NewStore
) -> None:
    flags = (*mount(tmp_path, store=new_store(tmp_path)), "--min-free-bytes", str(1 << 50))
    with Gateway(tmp_path, "--auth", "none", *flags) as gateway:
        document = json.dumps({"type": "a.b", "data": {}}).encode()
        gateway.post("/v1/events", document).problem(507)
        gateway.post("/v1/events/batch", b"[" + document + b"]").problem(507)
        assert gateway.get("/v1/events")["items"] == []


def test_while_it_drains_ingest_and_readyz_are_503_and_what_is_in_flight_is_finished(own_dev: Any) -> None:
    site = own_dev()
    site.apply(site.endpoint("a"))
    gate = threading.Event()
    site.answers("a", Answer(gate=gate))
    site.publish({})
    site.wait("a")
    site.dev.ask_to_stop(signal.SIGTERM)

    def busy() -> list[int]:
        """Where the attempt is under way; a gateway that has nothing to finish ends at once."""
        return [number for number, child in enumerate(site.dev.children) if child.running]

    until(lambda: len(busy()) == 1, what="the end of whoever has nothing in flight")
    (number,) = busy()

    def drains() -> bool:
        return ask(site.dev.admin_addresses[number], "GET", "/readyz").status == 503

    until(drains, what="readyz 503")
    one = json.dumps({"type": "a.b", "data": {}}).encode()
    headers = {"content-type": "application/json"}
    for path, body in (("/v1/events", one), ("/v1/events/batch", b"[" + one + b"]")):
        ask(site.dev.addresses[number], "POST", path, body=body, headers=headers).problem(503)
    assert site.dev.running
    gate.set()
    assert site.dev.ended() == 0
    from contract.site import Site

    with site.dev.again() as second:
        again = Site(second, site.receiver, site.tag)
        assert again.settled("Delivered")["attemptCount"] == 1


def test_a_wrong_method_says_which_are_right(shared_dev: Any) -> None:
    assert set(shared_dev.ask("PUT", "/v1/events").headers["allow"].replace(" ", "").split(",")) == {
        "GET",
        "HEAD",
        "POST",
    }


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/", 404),
        ("GET", "/v1", 404),
        ("GET", "/v1/nothing", 404),
        ("GET", "/v1/events/", 404),
        ("PUT", "/v1/events", 405),
        ("DELETE", "/v1/events", 405),
        ("GET", "/v1/events/batch", 404),
        ("POST", "/v1/endpoints", 405),
        ("GET", "/v1/deliveries/dlv_x", 404),
        ("GET", "/v1/events/msg_x", 404),
        ("GET", "/v1/endpoints/nobody", 404),
        ("GET", "/v1/channels/nobody", 404),
        ("GET", "/v1/event-types/nobody", 404),
        ("GET", "/v1/replays/nobody", 404),
        ("POST", "/v1/deliveries/dlv_x/redeliver", 404),
        ("POST", "/v1/endpoints/nobody/test", 404),
        ("DELETE", "/v1/events/msg_x/payload", 404),
        ("GET", "/v1/deliveries/%00", 404),
        ("GET", "/v1/deliveries/..%2f..", 404),
        ("GET", "/healthz", 404),
        ("GET", "/metrics", 404),
    ],
)
def test_every_other_error_is_a_problem_document_too(shared_dev: Any, method: str, path: str, status: int) -> None:
    reply = shared_dev.ask(method, path, body=b"" if method in ("POST", "PUT") else None)
    if path == "/v1/events/batch":
        assert reply.status in (404, 405)
        status = reply.status
    reply.problem(status)
