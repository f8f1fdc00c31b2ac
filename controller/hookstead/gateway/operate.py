"""What an operator may do: deliver again, send a test, erase a payload."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Protocol

from hookstead.delivery.intake import OperateRefusal, TestResult
from hookstead.gateway import json_bytes
from hookstead.gateway.envelope import event_type, string
from hookstead.gateway.exchange import Request, Response, json_response
from hookstead.gateway.json_bytes import MalformedJson
from hookstead.gateway.parameters import Parameters
from hookstead.gateway.problems import Problem, ProblemError, ProblemKind, refuse
from hookstead.resources.suggestion import did_you_mean


class Operations(Protocol):
    """What is needed of the engine."""

    async def redeliver(self, delivery_id: str) -> OperateRefusal | None: ...
    async def test(self, endpoint: str, *, event_type: str | None) -> TestResult | OperateRefusal: ...
    async def erase(self, event_id: str) -> bool: ...


REFUSALS: Final = {
    OperateRefusal.NOT_FOUND: (ProblemKind.NOT_FOUND, "{subject} does not exist here."),
    OperateRefusal.ENDPOINT_DISABLED: (
        ProblemKind.ENDPOINT_DISABLED,
        "{subject}: the endpoint is Disabled; set spec.state to Enabled first.",
    ),
    OperateRefusal.ENVIRONMENT_DISABLED: (
        ProblemKind.ENVIRONMENT_DISABLED,
        "{subject}: the environment is disabled; set spec.state of WebhookEnvironment default to Enabled first.",
    ),
    OperateRefusal.NOT_ACCEPTED: (
        ProblemKind.ENDPOINT_NOT_READY,
        "{subject}: the endpoint's spec is not accepted; its conditions say why.",
    ),
    OperateRefusal.UNKNOWN_EVENT_TYPE: (
        ProblemKind.UNKNOWN_EVENT_TYPE,
        "{subject}: no WebhookEventType of this environment has this type; /v1/catalog lists them.",
    ),
    OperateRefusal.PAYLOAD_ERASED: (
        ProblemKind.PAYLOAD_ERASED,
        "{subject}: its payload was erased, nothing can be sent.",
    ),
    OperateRefusal.UNREADABLE_KEY: (
        ProblemKind.ENDPOINT_NOT_READY,
        "{subject}: the endpoint's signing key cannot be read, and nothing is sent unsigned; its conditions say why.",
    ),
}


@dataclass(frozen=True, slots=True)
class Operate:
    """Handlers over the engine."""

    engine: Operations

    async def redeliver(self, request: Request) -> Response:
        """`POST /v1/deliveries/{id}/redeliver`"""
        Parameters(request, ())
        delivery = request.names["id"]
        refusal = await self.engine.redeliver(delivery)
        if refusal is not None:
            raise _refused(refusal, f"Delivery {delivery[:100]!r}")
        return json_response({"id": delivery}, 202)

    async def test(self, request: Request) -> Response:
        """`POST /v1/endpoints/{name}/test`"""
        Parameters(request, ())
        name = request.names["name"]
        result = await self.engine.test(name, event_type=wanted_type(request.body))
        if isinstance(result, OperateRefusal):
            raise _refused(result, f"Endpoint {name[:100]!r}")
        return json_response(
            {
                "eventType": result.event_type,
                "outcome": "Succeeded" if result.succeeded else "Failed",
                "statusCode": result.status_code,
                "errorCode": result.error_code,
                "durationMilliseconds": result.duration_ms,
                "message": result.message,
            }
        )

    async def erase(self, request: Request) -> Response:
        """`DELETE /v1/events/{id}/payload`"""
        Parameters(request, ())
        event = request.names["id"]
        if not await self.engine.erase(event):
            raise refuse(ProblemKind.NOT_FOUND, f"No event {event[:100]!r} here.")
        return Response(204)


def wanted_type(body: bytes) -> str | None:
    """The event type that a test's body asks for; None without one. Raises ProblemError."""
    if not body.strip():
        return None
    try:
        found = json_bytes.members(body)
    except MalformedJson as error:
        raise refuse(ProblemKind.MALFORMED_JSON, f"The body is not acceptable JSON: {error}.") from None
    for name in found:
        if name != "eventType":
            raise refuse(
                ProblemKind.INVALID_BODY,
                f"{name[:60]!r} is no member of a test's body{did_you_mean(name[:60], ('eventType',))}; "
                "eventType is its only one.",
                member=name[:60],
            )
    return event_type(string("eventType", found["eventType"]), "eventType") if found else None


def _refused(refusal: OperateRefusal, subject: str) -> ProblemError:
    kind, detail = REFUSALS[refusal]
    return ProblemError(Problem(kind=kind, detail=detail.format(subject=subject)))
