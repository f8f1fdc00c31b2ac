"""From a POST to a verified webhook, and back through the query API."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from standardwebhooks.webhooks import Webhook

from builders import SIGNING_TEXT, channel, config, endpoint, environment, event_type, meta
from hookstead.resources.kinds import (
    DeliverySpec,
    EndpointState,
    EnvironmentState,
    EventValidation,
    NameRef,
    Replay,
    ReplaySelect,
    ReplaySpec,
    RetrySpec,
)
from integration.gateway.gateway_bench import Place, running


async def test_an_event_is_delivered_signed_and_byte_for_byte(place: Place) -> None:
    async with running(place) as bench:
        data = '{ "n" : 1.0, "big":18446744073709551616,"\\u00e9":"\u00e9\\/" }'
        body = f'{{"type":"order.created", "timestamp":"2026-01-31T12:00:00.1+01:00","data":{data} }}'
        answer = await bench.post("/v1/events", data=body.encode(), headers={"Content-Type": "application/json"})
        assert answer.status == 202
        assert answer.json == {"id": answer.json["id"], "endpoints": 1}
        got = await bench.receiver.first()
        expected = f'{{"type":"order.created","timestamp":"2026-01-31T12:00:00.1+01:00","data":{data}}}'
        assert got.body == expected.encode()
        Webhook(SIGNING_TEXT.decode()).verify(got.body.decode(), got.headers)
        assert got.headers["webhook-id"] == answer.json["id"]
        await bench.finished()
        event = await bench.get(f"/v1/events/{answer.json['id']}")
        assert f'"data":{data}'.encode() in event.body
        assert event.json["timestamp"] == "2026-01-31T12:00:00.1+01:00"
        assert [delivery["status"] for delivery in event.json["deliveries"]] == ["Delivered"]


async def test_the_same_id_again_is_the_same_event_and_another_content_is_a_clash(place: Place) -> None:
    async with running(place) as bench:
        first = await bench.publish(id="order-1", data={"n": 1})
        again = await bench.publish(id="order-1", data={"n": 1})
        clash = await bench.publish(id="order-1", data={"n": 2})
        batch = await bench.post(
            "/v1/events/batch", json=[{"type": "order.created", "data": {"n": 1}, "id": "order-1"}]
        )
        assert again.json == {**first.json, "duplicate": True}
        assert (clash.status, clash.problem) == (409, "id-reused")
        assert batch.json == {"items": [{**first.json, "status": 202, "duplicate": True}]}
        cloud = {
            "Content-Type": "application/json",
            "ce-specversion": "1.0",
            "ce-id": "order-1",
            "ce-source": "/s",
            "ce-type": "order.created",
        }
        apart = await bench.post("/v1/events", data=b'{"n":1}', headers=cloud)
        assert apart.json["id"] != first.json["id"]


async def test_channels_decide_who_gets_an_event(place: Place) -> None:
    async with running(place) as bench:
        await bench.process.apply(
            config(
                channel("c", "client_1"),
                endpoint("all", url=bench.receiver.url),
                endpoint("client", url=bench.receiver.url, channels=["c"]),
            )
        )
        ours = await bench.publish(channels=["client_1"])
        other = await bench.publish(channels=["client_2"])
        nobody = await bench.publish()
        assert [ours.json["endpoints"], other.json["endpoints"], nobody.json["endpoints"]] == [2, 1, 1]
        await bench.finished(4)
        listed = await bench.get("/v1/deliveries?endpoint=client&channel=client_1")
        assert [item["eventId"] for item in listed.json["items"]] == [ours.json["id"]]
        assert (await bench.get("/v1/deliveries?endpoint=client&channel=client_2")).json["items"] == []


async def test_a_failure_is_told_attempt_by_attempt(place: Place) -> None:
    async with running(place) as bench:
        bench.receiver.status, bench.receiver.text = 500, "out of \u20ac\x00"
        await bench.process.apply(
            config(
                environment(defaults=DeliverySpec(retry=RetrySpec(schedule_seconds=(3600,)))),
                endpoint("all", url=bench.receiver.url),
            )
        )
        await bench.publish()

        async def attempted() -> Any:
            items = (await bench.get("/v1/deliveries?status=Pending")).json["items"]
            return items and items[0]["attemptCount"] == 1 and items[0]

        item = await bench.until(attempted)
        assert item["completedTime"] is None
        assert item["nextAttemptTime"] > item["createdTime"]
        full = (await bench.get(f"/v1/deliveries/{item['id']}")).json
        (attempt,) = full.pop("attempts")
        assert full == item
        assert attempt == {
            "number": 1,
            "time": attempt["time"],
            "trigger": "Scheduled",
            "outcome": "Failed",
            "statusCode": 500,
            "errorCode": "http-status",
            "durationMilliseconds": attempt["durationMilliseconds"],
            "message": attempt["message"],
            "responseBody": "out of \u20ac\x00",
        }
        shown = (await bench.get("/v1/endpoints/all")).json
        assert shown["activity"]["pending"] == 1
        assert shown["recentDeliveries"][0]["id"] == item["id"]
        assert b"out of" not in (await bench.get("/v1/endpoints/all")).body
        conditions = {one["type"]: one["status"] for one in shown["conditions"]}
        assert (conditions["Ready"], conditions["Active"], conditions["Healthy"]) == ("True", "True", "False")

        bench.receiver.status = 200
        assert (await bench.post(f"/v1/deliveries/{item['id']}/redeliver")).status == 202
        (ended,) = await bench.finished()
        assert (ended["status"], ended["attemptCount"]) == ("Delivered", 2)
        attempts = (await bench.get(f"/v1/deliveries/{item['id']}")).json["attempts"]
        assert [one["trigger"] for one in attempts] == ["Scheduled", "Manual"]


async def test_lists_are_paged_newest_first_while_events_arrive(place: Place) -> None:
    async with running(place) as bench:
        ids = [(await bench.publish()).json["id"] for _ in range(5)]
        await bench.finished(5)
        first = (await bench.get("/v1/events?limit=2")).json
        await bench.publish()
        second = (await bench.get(f"/v1/events?limit=2&cursor={first['nextCursor']}")).json
        third = (await bench.get(f"/v1/events?limit=2&cursor={second['nextCursor']}")).json
        seen = [item["id"] for page in (first, second, third) for item in page["items"]]
        assert seen == list(reversed(ids))
        assert third["nextCursor"] is None
        assert "data" not in first["items"][0]
        created = first["items"][0]["createdTime"]
        assert ids[-1] in [item["id"] for item in (await bench.get(f"/v1/events?since={created}")).json["items"]]
        assert ids[-1] not in [item["id"] for item in (await bench.get(f"/v1/events?until={created}")).json["items"]]


@pytest.mark.parametrize(
    "target",
    [
        "/v1/deliveries?limit=0",
        "/v1/deliveries?limit=251",
        "/v1/deliveries?limit=x",
        "/v1/deliveries?status=pending",
        "/v1/deliveries?cursor=nonsense",
        "/v1/deliveries?since=yesterday",
        "/v1/deliveries?stauts=Pending",
        "/v1/events?cursor=nonsense",
        "/v1/events?status=Pending",
        "/v1/endpoints?cursor=nonsense",
        "/v1/endpoints?limit=0",
        "/v1/activity?bucketSeconds=0",
        "/v1/activity?since=2026-01-01T00:00:00Z&until=2025-01-01T00:00:00Z",
        "/v1/activity?since=2020-01-01T00:00:00Z&bucketSeconds=60",
        "/v1/catalog?format=xml",
        "/v1/catalog?cursor=nonsense",
        "/v1/deliveries/dlv_1?attempts=1",
        "/openapi.json?x=1",
    ],
)
async def test_a_bad_question_is_a_400(tmp_path: Path, target: str) -> None:
    async with running(tmp_path) as bench:
        answer = await bench.get(target)
        assert (answer.status, answer.problem) == (400, "invalid-parameter")


@pytest.mark.parametrize(
    ("method", "target"),
    [
        ("GET", "/v1/deliveries/dlv_unknown"),
        ("GET", "/v1/events/msg_unknown"),
        ("GET", "/v1/events/%00"),
        ("GET", "/v1/endpoints/unknown"),
        ("GET", "/v1/channels/unknown"),
        ("GET", "/v1/event-types/unknown"),
        ("GET", "/v1/replays/unknown"),
        ("POST", "/v1/deliveries/dlv_unknown/redeliver"),
        ("POST", "/v1/endpoints/unknown/test"),
        ("DELETE", "/v1/events/msg_unknown/payload"),
        ("GET", "/v1/unknown"),
        ("GET", "/"),
    ],
)
async def test_what_is_unknown_is_a_404(tmp_path: Path, method: str, target: str) -> None:
    async with running(tmp_path) as bench:
        answer = await bench.call(method, target)
        assert (answer.status, answer.problem) == (404, "not-found")


async def test_objects_are_shown_with_every_field_of_their_status(place: Place) -> None:
    async with running(place) as bench:
        await bench.process.apply(
            config(
                channel("c", "client_1"),
                event_type("order-created", "order.created", schema={"type": "object"}, sample={"n": 1}),
                endpoint("all", url=bench.receiver.url),
                endpoint("dangling", url=bench.receiver.url, channels=["nowhere"]),
            )
        )
        await bench.publish(channels=["client_1"])
        await bench.finished()
        environment = (await bench.get("/v1/environment")).json
        assert (environment["name"], environment["channels"], environment["eventTypes"]) == ("default", 1, 1)
        assert environment["endpoints"]["total"] == 2
        assert environment["activity"]["accepted"] == 1
        endpoints = (await bench.get("/v1/endpoints")).json["items"]
        assert [item["name"] for item in endpoints] == ["all", "dangling"]
        for item in endpoints:
            assert {"observedGeneration", "conditions", "scope", "activity", "recentDeliveries"} <= item.keys()
            assert item == (await bench.get(f"/v1/endpoints/{item['name']}")).json
        assert endpoints[1]["scope"] == "Nothing"
        (found,) = (await bench.get("/v1/channels")).json["items"]
        assert (found["channelName"], found["activity"]["accepted"]) == ("client_1", 1)
        (found,) = (await bench.get("/v1/event-types")).json["items"]
        assert (found["type"], found["activity"]["accepted"]) == ("order.created", 1)
        assert (await bench.get("/v1/replays")).json == {"items": [], "nextCursor": None}


async def test_a_condition_keeps_its_time_while_its_status_stays(tmp_path: Path) -> None:
    async with running(tmp_path) as bench:
        first = (await bench.get("/v1/endpoints/all")).json["conditions"]
        await asyncio.sleep(1.1)
        assert (await bench.get("/v1/endpoints/all")).json["conditions"] == first


async def test_endpoints_are_paged(tmp_path: Path) -> None:
    async with running(tmp_path) as bench:
        await bench.process.apply(config(*(endpoint(f"e{n:02}", url=bench.receiver.url) for n in range(7))))
        seen: list[str] = []
        cursor = ""
        while True:
            page = (await bench.get(f"/v1/endpoints?limit=3{cursor}")).json
            seen += [item["name"] for item in page["items"]]
            if page["nextCursor"] is None:
                break
            cursor = f"&cursor={page['nextCursor']}"
        assert seen == [f"e{n:02}" for n in range(7)]


async def test_the_catalog_comes_in_three_forms(tmp_path: Path) -> None:
    async with running(
        tmp_path,
        event_type("a", "order.created", schema={"type": "object"}, sample={"n": 1}),
        event_type("b", "order.gone"),
    ) as bench:
        listed = (await bench.get("/v1/catalog")).json
        assert [item["type"] for item in listed["items"]] == ["order.created", "order.gone"]
        assert listed["items"][0]["sample"] == {"n": 1}
        assert listed["items"][1]["schema"] is None
        openapi = (await bench.get("/v1/catalog?format=openapi")).json
        assert list(openapi["webhooks"]) == ["order.created", "order.gone"]
        asyncapi = (await bench.get("/v1/catalog?format=asyncapi")).json
        assert asyncapi["asyncapi"].startswith("3.")
        page = (await bench.get("/v1/catalog?limit=1")).json
        rest = (await bench.get(f"/v1/catalog?limit=1&cursor={page['nextCursor']}")).json
        assert [item["type"] for item in rest["items"]] == ["order.gone"]


async def test_under_enforce_the_catalog_decides(tmp_path: Path) -> None:
    async with running(
        tmp_path,
        environment(validation=EventValidation.ENFORCE),
        event_type("a", "order.created", schema={"type": "object", "required": ["n"]}),
    ) as bench:
        assert (await bench.publish(data={"n": 1})).status == 202
        mismatch = await bench.publish(data={})
        assert (mismatch.status, mismatch.problem) == (422, "schema-mismatch")
        unknown = await bench.publish(type="order.creatd")
        assert (unknown.status, unknown.problem) == (422, "unknown-event-type")


async def test_a_disabled_environment_takes_nothing(tmp_path: Path) -> None:
    async with running(tmp_path, environment(state=EnvironmentState.DISABLED)) as bench:
        answer = await bench.publish()
        assert (answer.status, answer.problem) == (403, "environment-disabled")
        batch = await bench.post("/v1/events/batch", json=[{"type": "a", "data": 1}])
        assert (batch.status, batch.problem) == (403, "environment-disabled")
        assert (await bench.get("/v1/environment")).status == 200


async def test_a_test_is_sent_at_once_and_counted_nowhere(place: Place) -> None:
    async with running(place) as bench:
        objects = [
            event_type("a", "order.created", sample={"n": 1}),
            endpoint("all", url=bench.receiver.url),
            endpoint("off", url=bench.receiver.url, state=EndpointState.DISABLED),
        ]
        await bench.process.apply(config(*objects))
        answer = await bench.post("/v1/endpoints/all/test")
        assert answer.json["outcome"] == "Succeeded"
        assert (answer.json["statusCode"], answer.json["errorCode"]) == (200, None)
        assert json.loads((await bench.receiver.first()).body)["data"] == {"n": 1}
        named = await bench.post("/v1/endpoints/all/test", json={"eventType": "order.created"})
        assert named.json["eventType"] == "order.created"
        assert (await bench.post("/v1/endpoints/off/test")).status == 409
        assert (await bench.post("/v1/endpoints/all/test", json={"eventTyp": "x"})).status == 400
        assert (await bench.post("/v1/endpoints/all/test", data=b"{")).status == 400
        assert (await bench.get("/v1/deliveries")).json["items"] == []


async def test_an_erased_payload_is_gone_and_the_log_stays(place: Place) -> None:
    async with running(place) as bench:
        event = (await bench.publish(data={"secret": 1})).json["id"]
        (delivery,) = await bench.finished()
        assert (await bench.call("DELETE", f"/v1/events/{event}/payload")).status == 204
        shown = (await bench.get(f"/v1/events/{event}")).json
        assert (shown["data"], shown["payloadErased"]) == (None, True)
        assert [one["status"] for one in shown["deliveries"]] == ["Delivered"]
        again = await bench.post(f"/v1/deliveries/{delivery['id']}/redeliver")
        assert (again.status, again.problem) == (410, "payload-erased")


async def test_a_response_body_needs_no_utf8(place: Place) -> None:
    async with running(place) as bench:
        await bench.publish()
        (delivery,) = await bench.finished()
        (attempt,) = (await bench.get(f"/v1/deliveries/{delivery['id']}")).json["attempts"]
        assert attempt["responseBody"] == "thanks"


async def test_the_stream_tells_what_happens_and_never_a_body(place: Place) -> None:
    async with running(place) as bench, bench.session.get(f"{bench.base}/v1/activity/stream") as stream:
        assert stream.headers["Content-Type"] == "text/event-stream"
        event = (await bench.publish(data={"hush": "payload"})).json["id"]
        seen = await asyncio.wait_for(read_events(stream, 3), timeout=10)
        assert [name for name, _ in seen] == ["event.accepted", "attempt", "delivery.finished"]
        assert seen[0][1] == {"id": event, "type": "order.created", "channels": [], "endpoints": 1}
        assert seen[1][1]["outcome"] == "Succeeded"
        assert seen[2][1]["status"] == "Delivered"
        assert "hush" not in json.dumps(seen)
        assert "thanks" not in json.dumps(seen)


async def read_events(stream: Any, count: int) -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    name = ""
    async for line in stream.content:
        if line.startswith(b"event: "):
            name = line[7:].strip().decode()
        elif line.startswith(b"data: "):
            found.append((name, json.loads(line[6:])))
            if len(found) == count:
                return found
    return found


async def test_activity_adds_up(place: Place) -> None:
    async with running(place) as bench:
        for _ in range(3):
            await bench.publish()
        await bench.finished(3)

        async def counted() -> Any:
            items = (await bench.get("/v1/activity?bucketSeconds=60")).json["items"]
            return sum(item["delivered"] for item in items) == 3 and items

        items = await bench.until(counted)
        assert sum(item["accepted"] for item in items) == 3
        assert [item["start"] for item in items] == sorted(item["start"] for item in items)
        assert all(
            item.keys() == {"start", "accepted", "delivered", "failed", "deadLettered", "latencyMilliseconds"}
            for item in items
        )


async def test_metrics_count_what_happened_under_names_from_manifests_only(place: Place) -> None:
    async with running(place) as bench:
        await bench.publish(type="caller.chose_this", channels=["caller_chose_that"])
        await bench.finished()
        text = (await bench.get(f"{bench.admin}/metrics")).body.decode()
        assert "hookstead_events_accepted_total 1.0" in text
        assert 'hookstead_attempts_total{endpoint="all",outcome="Succeeded"} 1.0' in text
        assert 'hookstead_deliveries{endpoint="all",status="Delivered"} 1.0' in text
        assert "hookstead_filter_errors_total" in text
        assert "chose" not in text


async def test_a_gateway_without_a_configuration_is_alive_and_not_ready(place: Place) -> None:
    async with running(place, internal_listen=("127.0.0.1", 0)) as bench:
        assert (await bench.get(f"{bench.admin}/healthz")).status == 200
        ready = await bench.get(f"{bench.admin}/readyz")
        assert (ready.status, ready.problem) == (503, "not-ready")
        assert (await bench.get("/v1/endpoints")).status == 503
        refused = await bench.publish()
        assert (refused.status, refused.problem) == (503, "not-ready")


async def test_head_is_get_without_a_body(tmp_path: Path) -> None:
    async with running(tmp_path) as bench:
        head = await bench.call("HEAD", "/v1/environment")
        assert (head.status, head.body) == (200, b"")
        assert (await bench.call("HEAD", "/v1/nothing")).status == 404


async def test_openapi_describes_the_gateway(tmp_path: Path) -> None:
    async with running(tmp_path) as bench:
        document = (await bench.get("/openapi.json")).json
        assert document["openapi"].startswith("3.1")
        assert "/v1/events" in document["paths"]


async def test_a_replay_is_shown_with_its_progress(place: Place) -> None:
    async with running(place) as bench:
        await bench.publish()
        await bench.finished()
        again = Replay(
            meta=meta("again"),
            spec=ReplaySpec(
                endpoint_ref=NameRef(name="all"),
                select=ReplaySelect.ALL,
                since="2020-01-01T00:00:00Z",
                until="2100-01-01T00:00:00Z",
            ),
        )
        await bench.process.apply(config(endpoint("all", url=bench.receiver.url), again))

        async def complete() -> Any:
            shown = (await bench.get("/v1/replays/again")).json
            return any(one["type"] == "Complete" and one["status"] == "True" for one in shown["conditions"]) and shown

        shown = await bench.until(complete)
        assert (shown["name"], shown["endpoint"], shown["selected"], shown["delivered"]) == ("again", "all", 1, 1)
        assert (await bench.get("/v1/replays")).json["items"] == [shown]
        assert len(bench.receiver.got) == 2
