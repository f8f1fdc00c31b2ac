"""`/openapi.json`: the gateway's own API, OpenAPI 3.1. Tests hold that every route is in it and nothing else.

The internal port is between gateway and operator and is no part of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from hookstead import __version__
from hookstead.delivery.diagnosis import Rule
from hookstead.delivery.ports import CancelReason, DeliveryStatus, ErrorCode, Trigger
from hookstead.gateway import cloudevents
from hookstead.gateway.authorize import Permission
from hookstead.gateway.exchange import Request, Response
from hookstead.gateway.ingest import MAX_ITEMS, NATIVE, NDJSON
from hookstead.gateway.parameters import DEFAULT_LIMIT, MAX_LIMIT, Parameters
from hookstead.gateway.problems import CONTENT_TYPE
from hookstead.resources.kinds import Lifecycle

Schema = dict[str, Any]

PLAIN: Final = "text/plain"


def _ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


def _text(description: str, **more: Any) -> Schema:
    return {"type": "string", "description": description, **more}


def _time(description: str, *, nullable: bool = False) -> Schema:
    return {"type": ["string", "null"] if nullable else "string", "format": "date-time", "description": description}


def _whole(description: str, **more: Any) -> Schema:
    return {"type": "integer", "description": description, **more}


def _object(
    description: str, properties: Mapping[str, Schema], *, optional: tuple[str, ...] = (), **more: Any
) -> Schema:
    required = [name for name in properties if name not in optional]
    return {"type": "object", "description": description, "required": required, "properties": dict(properties), **more}


def _list_of(name: str) -> Schema:
    return _object(
        "One page, newest first.",
        {
            "items": {"type": "array", "items": _ref(name)},
            "nextCursor": {"type": ["string", "null"], "description": "The next page's `cursor`; null at the end."},
        },
    )


_CHANNELS: Final[Schema] = {
    "type": "array",
    "maxItems": 64,
    "items": {"type": "string", "maxLength": 128, "pattern": "^[A-Za-z0-9][A-Za-z0-9._-]*$"},
}
_TYPE: Final = _text(
    "The event's type.", maxLength=128, pattern=r"^[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*$", examples=["order.created"]
)

SCHEMAS: Final[dict[str, Schema]] = {
    "NewEvent": _object(
        "An event in the native form.",
        {
            "type": _TYPE,
            "channels": {
                **_CHANNELS,
                "description": "Whose event it is; without any, only endpoints without channels get it.",
            },
            "id": _text(
                "The caller's own id: the same id with the same content again is the same event.",
                minLength=1,
                maxLength=256,
                pattern="^[ -~]+$",
            ),
            "timestamp": _time("When it happened; the time of acceptance when absent. Kept byte for byte."),
            "data": {"description": "Any JSON value. Kept and delivered byte for byte."},
        },
        optional=("channels", "id", "timestamp"),
        additionalProperties=False,
    ),
    "CloudEvent": _object(
        "A CloudEvent 1.0 in the JSON format. `source` and `id` together are the caller's id.",
        {
            "specversion": {"const": "1.0"},
            "id": _text("Required; never invented.", minLength=1, maxLength=256),
            "source": _text("A URI reference.", minLength=1, maxLength=2048),
            "type": _TYPE,
            "time": _time("When it happened."),
            "datacontenttype": _text("JSON only."),
            "channels": _text("Extension: names separated by commas."),
            "data": {"description": "Any JSON value; null when absent."},
        },
        optional=("time", "datacontenttype", "channels", "data"),
    ),
    "Accepted": _object(
        "The event is on stable storage.",
        {
            "id": _text("The message's id, `webhook-id` of its deliveries.", pattern="^msg_"),
            "endpoints": _whole("How many endpoints get it.", minimum=0),
            "duplicate": {"const": True, "description": "Present when the event had been accepted before."},
        },
        optional=("duplicate",),
    ),
    "BatchResult": _object(
        "One result per item, in order.",
        {
            "items": {
                "type": "array",
                "items": {
                    "anyOf": [
                        {"allOf": [_ref("Accepted"), {"type": "object", "properties": {"status": {"const": 202}}}]},
                        _ref("Problem"),
                    ]
                },
            }
        },
    ),
    "Problem": _object(
        "RFC 9457. `type` is stable and for programs; `detail` says what to do.",
        {
            "type": _text("A URI.", format="uri"),
            "title": _text("The kind of problem, for people."),
            "status": _whole("The HTTP status."),
            "detail": _text("What was expected, and what to do."),
            "retryAfterSeconds": _whole("When to try again; as Retry-After has it."),
        },
        optional=("retryAfterSeconds",),
    ),
    "Condition": _object(
        "One condition, as in the resource's status.",
        {
            "type": _text("Such as Ready."),
            "status": _text("True, False or Unknown.", enum=["True", "False", "Unknown"]),
            "reason": _text("Stable, for programs."),
            "message": _text("For people."),
            "observedGeneration": _whole("The generation that it speaks of."),
            "lastTransitionTime": _time("When status changed last."),
        },
    ),
    "Resource": _object(
        "A resource: its name, and every field of its status.",
        {
            "name": _text("metadata.name"),
            "observedGeneration": _whole("The generation that is in force."),
            "conditions": {"type": "array", "items": _ref("Condition")},
        },
        additionalProperties=True,
    ),
    "Delivery": _object(
        "One event on its way to one endpoint.",
        {
            "id": _text("The delivery's id.", pattern="^dlv_"),
            "eventId": _text("The event's id.", pattern="^msg_"),
            "eventType": _TYPE,
            "endpoint": _text("metadata.name of the WebhookEndpoint."),
            "channels": _CHANNELS,
            "status": _text("What became of it.", enum=[one.value for one in DeliveryStatus]),
            "cancelReason": {
                "type": ["string", "null"],
                "enum": [*(one.value for one in CancelReason), None],
                "description": "Why it was cancelled.",
            },
            "attemptCount": _whole("Attempts so far.", minimum=0),
            "createdTime": _time("When the event was accepted for this endpoint."),
            "nextAttemptTime": _time("When it is tried next.", nullable=True),
            "completedTime": _time("When it ended.", nullable=True),
        },
    ),
    "Attempt": _object(
        "One attempt that was sent, or refused at the dial.",
        {
            "number": _whole("1 is the first.", minimum=1),
            "time": _time("When it began."),
            "trigger": _text("Why it was made.", enum=[one.value for one in Trigger]),
            "outcome": _text("How it ended.", enum=["Succeeded", "Failed"]),
            "statusCode": _whole("The answer's status; 0 without an answer.", minimum=0),
            "errorCode": {
                "type": ["string", "null"],
                "enum": [*(one.value for one in ErrorCode), None],
                "description": "Null on success.",
            },
            "durationMilliseconds": _whole("From look-up to the end of the answer.", minimum=0),
            "message": _text("In words."),
            "responseBody": {
                "type": ["string", "null"],
                "description": "At most 16 KiB; null without an answer, and without the scope `events`.",
            },
        },
    ),
    "DeliveryWithAttempts": {
        "allOf": [
            _ref("Delivery"),
            _object("Its attempts.", {"attempts": {"type": "array", "items": _ref("Attempt")}}),
        ]
    },
    "Event": _object(
        "An accepted event, without its payload.",
        {
            "id": _text("The message's id.", pattern="^msg_"),
            "type": _TYPE,
            "channels": _CHANNELS,
            "timestamp": _text("As the caller wrote it, else the time of acceptance."),
            "source": {"type": ["string", "null"], "description": "The CloudEvents source."},
            "createdTime": _time("When it was accepted."),
        },
    ),
    "EventWithPayload": {
        "allOf": [
            _ref("Event"),
            _object(
                "Its payload and deliveries.",
                {
                    "data": {"description": "Byte for byte as it came; null once it is gone."},
                    "payloadErased": {"type": "boolean", "description": "Whether the payload is gone."},
                    "deliveries": {"type": "array", "items": _ref("Delivery")},
                },
            ),
        ]
    },
    "Bucket": _object(
        "What happened in one stretch of time.",
        {
            "start": _time("Its beginning."),
            "accepted": _whole("Events.", minimum=0),
            "delivered": _whole("Attempts that succeeded.", minimum=0),
            "failed": _whole("Attempts that failed.", minimum=0),
            "deadLettered": _whole("Deliveries that were given up.", minimum=0),
            "latencyMilliseconds": _object(
                "Durations of attempts; null where none was made.",
                {"p50": {"type": ["integer", "null"]}, "p99": {"type": ["integer", "null"]}},
            ),
        },
    ),
    "CatalogEntry": _object(
        "One event type.",
        {
            "type": _TYPE,
            "description": _text("What it means."),
            "group": {"type": ["string", "null"]},
            "lifecycle": _text("Whether to rely on it.", enum=[one.value for one in Lifecycle]),
            "replacedBy": {"type": ["string", "null"]},
            "schema": {"type": ["object", "null"], "description": "JSON Schema 2020-12 of `data`."},
            "sample": {"type": ["object", "null"], "description": "An example of `data`."},
        },
    ),
    "TestRequest": _object(
        "Which sample to send.", {"eventType": _TYPE}, optional=("eventType",), additionalProperties=False
    ),
    "TestResult": _object(
        "How a test ended. It makes no delivery and is counted nowhere.",
        {
            "eventType": _TYPE,
            "outcome": _text("How it ended.", enum=["Succeeded", "Failed"]),
            "statusCode": _whole("The answer's status; 0 without an answer.", minimum=0),
            "errorCode": {"type": ["string", "null"], "enum": [*(one.value for one in ErrorCode), None]},
            "durationMilliseconds": _whole("The whole attempt.", minimum=0),
            "message": _text("In words."),
        },
    ),
    "DiagnoseRequest": _object(
        "An event that was accepted (`eventId`; needs the scope `events` too), or one that might be (`type`).",
        {
            "eventId": _text("Of an accepted event.", pattern="^msg_"),
            "type": _TYPE,
            "channels": {**_CHANNELS, "description": "Whose event it would be."},
            "data": {"description": "Its data; without it a filter cannot be judged."},
        },
        optional=("eventId", "type", "channels", "data"),
        additionalProperties=False,
    ),
    "Diagnosis": _object(
        "What each sentence of the selection rule says, by the running configuration.",
        {
            "endpoint": _text("metadata.name of the WebhookEndpoint."),
            "event": _object(
                "The event.",
                {
                    "id": {"type": ["string", "null"], "description": "Null for one that was never sent."},
                    "type": _TYPE,
                    "channels": _CHANNELS,
                    "acceptedTime": _time("When it was accepted.", nullable=True),
                },
            ),
            "selected": {
                "type": ["boolean", "null"],
                "description": "Whether the endpoint gets it; null: its data would have to be known.",
            },
            "excludedBy": {
                "type": ["string", "null"],
                "enum": [*Rule, None],
                "description": "The first sentence that excludes it.",
            },
            "checks": {
                "type": "array",
                "items": _object(
                    "One sentence.",
                    {
                        "rule": _text("Which.", enum=list(Rule)),
                        "passed": {"type": ["boolean", "null"], "description": "Null: not known."},
                        "sentence": _text("As the rule has it."),
                        "detail": _text("What it says here."),
                    },
                ),
            },
            "deliveries": {"type": "array", "items": _ref("Delivery"), "description": "Those of the event to it."},
        },
    ),
    "Redelivery": _object("What will be delivered again.", {"id": _text("The delivery's id.")}),
    **{f"{name}List": _list_of(name) for name in ("Resource", "Delivery", "Event", "Bucket", "CatalogEntry")},
}


def _query(name: str, description: str, schema: Schema) -> Schema:
    return {"name": name, "in": "query", "description": description, "schema": schema}


_PAGING: Final = (
    _query("cursor", "`nextCursor` of the page before.", {"type": "string"}),
    _query(
        "limit", "Items per page.", {"type": "integer", "minimum": 1, "maximum": MAX_LIMIT, "default": DEFAULT_LIMIT}
    ),
)
_SINCE_UNTIL: Final = (
    _query("since", "Created at or after.", {"type": "string", "format": "date-time"}),
    _query("until", "Created before.", {"type": "string", "format": "date-time"}),
)
_BY_TYPE_AND_CHANNEL: Final = (
    _query("eventType", "Of this type only.", {"type": "string"}),
    _query("channel", "Of this channel only.", {"type": "string"}),
)
_BY_DELIVERY: Final = (
    _query("endpoint", "Of this endpoint only.", {"type": "string"}),
    _query("status", "In this status only.", {"type": "string", "enum": [one.value for one in DeliveryStatus]}),
)


def _operation(
    summary: str,
    *,
    needs: Permission | None = Permission.READ,
    answer: Schema | None = None,
    status: int = 200,
    media: str = "application/json",
    problems: tuple[int, ...] = (),
    parameters: tuple[Schema, ...] = (),
    body: Schema | None = None,
) -> Schema:
    operation: Schema = {"summary": summary}
    if needs is not None:
        operation["description"] = (
            f"Needs the scope `{needs.scope}` of a key, or `{needs.verb}` on `{needs.rbac_resource}` in RBAC."
        )
        operation["security"] = [{"key": []}, {}]
        problems = (401, 403, 503, *problems)
    if parameters:
        operation["parameters"] = list(parameters)
    if body is not None:
        operation["requestBody"] = body
    content = {} if answer is None else {"content": {media: {"schema": answer}}}
    operation["responses"] = {
        str(status): {"description": "Done." if answer is None else "The answer.", **content},
        **{str(code): _PROBLEM for code in sorted({400, *problems})},
    }
    return operation


_PROBLEM: Final[Schema] = {
    "description": "A problem.",
    "content": {CONTENT_TYPE: {"schema": _ref("Problem")}},
}
_INGEST_PROBLEMS: Final = (408, 409, 413, 415, 422, 429, 503, 507)
_BODY_OF_ONE: Final[Schema] = {
    "required": True,
    "description": "Native, or a CloudEvent; in binary mode the attributes are `ce-` headers and the body is the data.",
    "content": {NATIVE: {"schema": _ref("NewEvent")}, cloudevents.STRUCTURED: {"schema": _ref("CloudEvent")}},
}
_BODY_OF_MANY: Final[Schema] = {
    "required": True,
    "description": f"At most {MAX_ITEMS} events. In NDJSON every line is one.",
    "content": {
        NATIVE: {"schema": {"type": "array", "maxItems": MAX_ITEMS, "items": _ref("NewEvent")}},
        NDJSON: {"schema": {"type": "string"}},
        cloudevents.BATCH: {"schema": {"type": "array", "maxItems": MAX_ITEMS, "items": _ref("CloudEvent")}},
    },
}


def _list(summary: str, item: str, *filters: Schema, needs: Permission = Permission.READ) -> Schema:
    return _operation(
        summary, needs=needs, answer=_ref(f"{item}List"), parameters=(*filters, *_PAGING), problems=(503,)
    )


def _one(summary: str, item: str, *, needs: Permission = Permission.READ) -> Schema:
    return _operation(summary, needs=needs, answer=_ref(item), problems=(404, 503))


OPERATIONS: Final[dict[str, dict[str, Schema]]] = {
    "/v1/events": {
        "post": _operation(
            "Accept an event; 202 once it is on stable storage.",
            needs=Permission.PUBLISH,
            answer=_ref("Accepted"),
            status=202,
            problems=_INGEST_PROBLEMS,
            body=_BODY_OF_ONE,
        ),
        "get": _list("List events.", "Event", *_BY_TYPE_AND_CHANNEL, *_SINCE_UNTIL, needs=Permission.READ_PAYLOADS),
    },
    "/v1/events/batch": {
        "post": _operation(
            "Accept events; one result per item.",
            needs=Permission.PUBLISH,
            answer=_ref("BatchResult"),
            status=202,
            problems=_INGEST_PROBLEMS,
            body=_BODY_OF_MANY,
        )
    },
    "/v1/events/{id}": {
        "get": _one("An event with payload and deliveries.", "EventWithPayload", needs=Permission.READ_PAYLOADS)
    },
    "/v1/events/{id}/payload": {
        "delete": _operation(
            "Erase a payload; the log stays, what is pending is cancelled.",
            needs=Permission.ERASE_PAYLOADS,
            status=204,
            problems=(404, 503, 507),
        )
    },
    "/v1/environment": {"get": _one("The environment.", "Resource")},
    "/v1/endpoints": {"get": _list("List endpoints.", "Resource")},
    "/v1/endpoints/{name}": {"get": _one("An endpoint with its activity and recent deliveries.", "Resource")},
    "/v1/endpoints/{name}/test": {
        "post": _operation(
            "Send a sample at once, whatever the endpoint selects.",
            needs=Permission.TEST,
            answer=_ref("TestResult"),
            problems=(404, 409, 422),
            body={"required": False, "content": {NATIVE: {"schema": _ref("TestRequest")}}},
        )
    },
    "/v1/endpoints/{name}/diagnose": {
        "post": _operation(
            "Why the endpoint gets an event, or does not.",
            answer=_ref("Diagnosis"),
            problems=(400, 404, 503),
            body={"required": True, "content": {NATIVE: {"schema": _ref("DiagnoseRequest")}}},
        )
    },
    "/v1/channels": {"get": _list("List channels.", "Resource")},
    "/v1/channels/{name}": {"get": _one("A channel.", "Resource")},
    "/v1/event-types": {"get": _list("List event types.", "Resource")},
    "/v1/event-types/{name}": {"get": _one("An event type.", "Resource")},
    "/v1/replays": {"get": _list("List replays.", "Resource")},
    "/v1/replays/{name}": {"get": _one("A replay.", "Resource")},
    "/v1/deliveries": {
        "get": _list(
            "List deliveries.",
            "Delivery",
            *_BY_DELIVERY,
            *_BY_TYPE_AND_CHANNEL,
            *_SINCE_UNTIL,
            needs=Permission.READ_DELIVERIES,
        )
    },
    "/v1/deliveries/{id}": {
        "get": _one("A delivery with its attempts.", "DeliveryWithAttempts", needs=Permission.READ_DELIVERIES)
    },
    "/v1/deliveries/{id}/redeliver": {
        "post": _operation(
            "Deliver again, now; the automatic schedule stays as it is.",
            needs=Permission.REDELIVER,
            answer=_ref("Redelivery"),
            status=202,
            problems=(404, 409, 410, 503, 507),
        )
    },
    "/v1/activity": {
        "get": _operation(
            "What happened, in buckets, oldest first; the last hour when nothing is said.",
            answer=_ref("BucketList"),
            problems=(503,),
            parameters=(
                _query(
                    "bucketSeconds",
                    "Width; rounded up to a multiple of 10.",
                    {"type": "integer", "minimum": 1, "maximum": 86400, "default": 60},
                ),
                *_SINCE_UNTIL,
            ),
        )
    },
    "/v1/activity/stream": {
        "get": _operation(
            "What happens now, at any gateway: server-sent events `event.accepted`, `attempt`, `delivery.finished`, and"
            " `missed` where something could not be shown.",
            answer={"type": "string"},
            media="text/event-stream",
            problems=(503,),
        )
    },
    "/v1/catalog": {
        "get": _list(
            "The event catalog; also as OpenAPI 3.1 `webhooks` or AsyncAPI 3.",
            "CatalogEntry",
            _query(
                "format", "The form.", {"type": "string", "enum": ["json", "openapi", "asyncapi"], "default": "json"}
            ),
        )
    },
    "/openapi.json": {"get": _operation("This document.", needs=None, answer={"type": "object"})},
    "/healthz": {"get": _operation("The process answers.", needs=None, answer={"type": "string"}, media=PLAIN)},
    "/readyz": {
        "get": _operation(
            "The process takes events.", needs=None, answer={"type": "string"}, media=PLAIN, problems=(503,)
        )
    },
    "/metrics": {"get": _operation("Prometheus metrics.", needs=None, answer={"type": "string"}, media=PLAIN)},
}

ADMIN_PATHS: Final = ("/healthz", "/readyz", "/metrics")


def document() -> dict[str, Any]:
    """The whole OpenAPI document."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Hookstead gateway",
            "version": __version__,
            "summary": "Accepts events, tells what became of them, and takes orders.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "http://127.0.0.1:8080", "description": "`hookstead dev`"}],
        "paths": {path: _path_item(path, operations) for path, operations in OPERATIONS.items()},
        "components": {
            "schemas": SCHEMAS,
            "securitySchemes": {
                "key": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "A key of `--auth static`, or a ServiceAccount token; none under `--auth none`.",
                }
            },
        },
    }


def _path_item(path: str, operations: Mapping[str, Schema]) -> Schema:
    item: Schema = {
        method: {"operationId": _operation_id(method, path), **operation} for method, operation in operations.items()
    }
    names = [segment[1:-1] for segment in path.split("/") if segment.startswith("{")]
    if names:
        item["parameters"] = [
            {"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in names
        ]
    if path in ADMIN_PATHS:
        item["servers"] = [{"url": "http://127.0.0.1:9090", "description": "The admin port."}]
    return item


def _operation_id(method: str, path: str) -> str:
    words = path.replace("{", "by ").replace("}", "").replace("/", " ").replace("-", " ").split()
    return method + "".join(word.removesuffix(".json").capitalize() for word in words if word != "v1")


_DOCUMENT: Final = msgspec.json.encode(document())


async def describe(request: Request) -> Response:
    """`GET /openapi.json`"""
    Parameters(request, ())
    return Response(200, _DOCUMENT)
