"""`POST /v1/endpoints/{name}/diagnose`: which sentence of the selection rule keeps an event from an endpoint."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from hookstead.config.model import DeliveryConfig
from hookstead.config.times import format_time
from hookstead.delivery.diagnosis import DiagnosedEvent, Diagnosis, diagnose
from hookstead.delivery.ports import DeliveryRow, EventRow, Store
from hookstead.gateway import json_bytes
from hookstead.gateway.authorize import Permission
from hookstead.gateway.envelope import channel_names, event_type, string
from hookstead.gateway.exchange import Request, Response, json_response
from hookstead.gateway.history import delivery_document
from hookstead.gateway.json_bytes import MalformedJson
from hookstead.gateway.objects import unconfigured
from hookstead.gateway.parameters import Parameters
from hookstead.gateway.problems import ProblemError, ProblemKind, refuse
from hookstead.resources.suggestion import did_you_mean

MEMBERS: Final = ("eventId", "type", "channels", "data")
_STRINGS: Final = msgspec.json.Decoder(list[str])


@dataclass(frozen=True, slots=True)
class Diagnose:
    """The handler. `config` gives the running configuration, `now_ms` the wall clock."""

    config: Callable[[], DeliveryConfig | None]
    store: Store
    now_ms: Callable[[], int]

    async def handle(self, request: Request) -> Response:
        """The answer shows nothing of a payload but whether the endpoint's own filter lets it through."""
        Parameters(request, ())
        config = self.config()
        if config is None:
            raise unconfigured()
        name = request.names["name"]
        endpoint = next((one for one in config.endpoints if one.identity.name == name), None)
        if endpoint is None:
            raise refuse(ProblemKind.NOT_FOUND, f"No WebhookEndpoint {name[:100]!r} here.")
        members = wanted(request.body)
        deliveries: list[DeliveryRow] = []
        if "eventId" in members:
            row = await self._event(request, string_of(members, "eventId"))
            event = accepted_event(row)
            deliveries = [one for one in row.deliveries if one.endpoint == name]
        else:
            event = possible_event(members, now_ms=self.now_ms())
        return json_response(
            {
                "endpoint": name,
                **diagnosis_document(event, diagnose(config, endpoint, event)),
                "deliveries": [delivery_document(one) for one in deliveries],
            }
        )

    async def _event(self, request: Request, identifier: str) -> EventRow:
        refusal = await request.caller.permit(Permission.READ_PAYLOADS, request.names["name"])
        if refusal is not None:
            raise ProblemError(refusal)
        row = await self.store.event(identifier)
        if row is None:
            raise refuse(ProblemKind.NOT_FOUND, f"No event {identifier[:100]!r} here.")
        return row


def wanted(body: bytes) -> dict[str, bytes]:
    """The body's members, which are an `eventId`, or a `type` with what else is known. Raises ProblemError."""
    try:
        found = json_bytes.members(body)
    except MalformedJson as error:
        raise refuse(ProblemKind.MALFORMED_JSON, f"The body is not acceptable JSON: {error}.") from None
    for name in found:
        if name not in MEMBERS:
            hint = did_you_mean(name[:60], MEMBERS)
            raise _invalid(name[:60], f"is unknown{hint}: the body has {', '.join(MEMBERS)}")
    if ("eventId" in found) == ("type" in found) or ("eventId" in found and len(found) > 1):
        raise _invalid("eventId", "stands alone; without it a type is needed, and channels and data may be given")
    return found


def string_of(members: dict[str, bytes], name: str) -> str:
    return string(name, members[name])


def accepted_event(row: EventRow) -> DiagnosedEvent:
    """One that is in the store; `data` None once its payload is gone."""
    return DiagnosedEvent(
        id=row.id,
        type=row.type,
        channels=row.channels,
        timestamp=row.timestamp,
        data=row.data,
        accepted_ms=row.accepted_ms,
    )


def possible_event(members: dict[str, bytes], *, now_ms: int) -> DiagnosedEvent:
    """One that was never sent. Raises ProblemError."""
    try:
        channels = _STRINGS.decode(members.get("channels", b"[]"))
    except msgspec.ValidationError:
        raise _invalid("channels", "must be an array of strings") from None
    return DiagnosedEvent(
        type=event_type(string_of(members, "type")),
        channels=channel_names(channels),
        timestamp=b'"%s"' % format_time(now_ms).encode(),
        data=members.get("data"),
    )


def diagnosis_document(event: DiagnosedEvent, found: Diagnosis) -> dict[str, Any]:
    excluded = found.excluded_by
    return {
        "event": {
            "id": event.id or None,
            "type": event.type,
            "channels": event.channels,
            "acceptedTime": None if event.accepted_ms is None else format_time(event.accepted_ms),
        },
        "selected": found.selected,
        "excludedBy": None if excluded is None else excluded.rule,
        "checks": [
            {"rule": check.rule, "passed": check.passed, "sentence": check.sentence, "detail": check.detail}
            for check in found.checks
        ],
    }


def _invalid(member: str, expectation: str) -> ProblemError:
    return refuse(ProblemKind.INVALID_BODY, f"{member} {expectation}.", member=member)
