"""What the gateway answers is what `/openapi.json` says that it answers."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import jsonschema_rs

from builders import channel, config, endpoint, event_type
from hookstead.gateway.openapi import document
from integration.gateway.gateway_bench import Answer, running

DESCRIPTION = document()


def check(method: str, path: str, answer: Answer) -> None:
    """The answer's status, content type and shape are described."""
    template = next(one for one in DESCRIPTION["paths"] if re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", one), path))
    responses = DESCRIPTION["paths"][template][method]["responses"]
    assert str(answer.status) in responses, (method, path, answer)
    content = responses[str(answer.status)].get("content")
    if content is None:
        assert answer.body == b""
        return
    media = answer.headers["Content-Type"].partition(";")[0]
    schema: dict[str, Any] = {**content[media]["schema"], "components": DESCRIPTION["components"]}
    jsonschema_rs.validator_for(schema).validate(answer.json)


async def test_answers_have_the_described_shapes(tmp_path: Path) -> None:
    objects = [channel("c", "client_1"), event_type("order-created", "order.created", sample={"n": 1})]
    async with running(tmp_path, *objects, endpoint("down")) as bench:
        await bench.process.apply(config(*objects, endpoint("all", url=bench.receiver.url)))
        published = await bench.publish(channels=["client_1"], id="a")
        event = published.json["id"]
        (delivery,) = await bench.finished()
        calls: list[tuple[str, str, dict[str, Any]]] = [
            (
                "post",
                "/v1/events",
                {"json": {"type": "order.created", "data": {}, "channels": ["client_1"], "id": "a"}},
            ),
            ("post", "/v1/events", {"json": {"type": "order.created", "data": {}, "id": "a"}}),
            ("post", "/v1/events", {"json": {"typ": 1}}),
            ("post", "/v1/events", {"data": b"x", "headers": {"Content-Type": "text/plain"}}),
            ("post", "/v1/events/batch", {"json": [{"type": "order.created", "data": {}}, {}]}),
            ("get", "/v1/events", {}),
            ("get", f"/v1/events/{event}", {}),
            ("get", "/v1/events/msg_x", {}),
            ("get", "/v1/deliveries", {}),
            ("get", f"/v1/deliveries/{delivery['id']}", {}),
            ("get", "/v1/deliveries/dlv_x", {}),
            ("get", "/v1/environment", {}),
            ("get", "/v1/endpoints", {}),
            ("get", "/v1/endpoints/all", {}),
            ("get", "/v1/channels", {}),
            ("get", "/v1/channels/c", {}),
            ("get", "/v1/event-types", {}),
            ("get", "/v1/event-types/order-created", {}),
            ("get", "/v1/replays", {}),
            ("get", "/v1/replays/x", {}),
            ("get", "/v1/activity", {}),
            ("get", "/v1/catalog", {}),
            ("get", "/openapi.json", {}),
            ("post", f"/v1/deliveries/{delivery['id']}/redeliver", {}),
            ("post", "/v1/endpoints/all/test", {}),
            ("post", "/v1/endpoints/x/test", {}),
            ("post", "/v1/endpoints/all/diagnose", {"json": {"eventId": event}}),
            ("post", "/v1/endpoints/all/diagnose", {"json": {"type": "order.created", "channels": ["client_1"]}}),
            ("post", "/v1/endpoints/all/diagnose", {"json": {}}),
            ("post", "/v1/endpoints/x/diagnose", {"json": {"type": "order.created"}}),
            ("delete", f"/v1/events/{event}/payload", {}),
            ("get", f"/v1/events/{event}", {}),
            ("post", f"/v1/deliveries/{delivery['id']}/redeliver", {}),
        ]
        for method, path, more in calls:
            check(method, path, await bench.call(method.upper(), path, **more))
