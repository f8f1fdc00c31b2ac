"""What happened: deliveries, events and activity, read from the store.

Payload bytes are spliced into the answers as they are stored. Whoever may not read payloads (scope `events`) sees
attempts without response bodies.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from hookstead.config.times import format_optional, format_time
from hookstead.delivery.ports import (
    ActivityBucket,
    AttemptRow,
    DeliveryQuery,
    DeliveryRow,
    DeliveryStatus,
    EventQuery,
    EventRow,
    InvalidCursor,
    Page,
    Store,
)
from hookstead.gateway.authorize import Permission
from hookstead.gateway.exchange import Request, Response, json_response
from hookstead.gateway.parameters import Parameters, bad_cursor, invalid
from hookstead.gateway.problems import ProblemError, ProblemKind, refuse

DELIVERY_FILTERS: Final = ("endpoint", "status", "eventType", "channel", "since", "until")
EVENT_FILTERS: Final = ("eventType", "channel", "since", "until")
PAGING: Final = ("cursor", "limit")
ACTIVITY_PARAMETERS: Final = ("bucketSeconds", "since", "until")
MAX_BUCKETS: Final = 1500
DEFAULT_BUCKET_SECONDS: Final = 60
DEFAULT_WINDOW_MS: Final = 3_600_000
DAY_SECONDS: Final = 86_400


@dataclass(frozen=True, slots=True)
class History:
    """Handlers over the store. `now_ms` is the wall clock."""

    store: Store
    now_ms: Callable[[], int]

    async def deliveries(self, request: Request) -> Response:
        """`GET /v1/deliveries`"""
        given = Parameters(request, (*DELIVERY_FILTERS, *PAGING))
        query = DeliveryQuery(
            endpoint=given.text("endpoint"),
            status=given.choice("status", DeliveryStatus),
            event_type=given.text("eventType"),
            channel=given.text("channel"),
            since_ms=given.time_ms("since"),
            until_ms=given.time_ms("until"),
        )
        try:
            page = await self.store.deliveries(query, cursor=given.cursor(), limit=given.limit())
        except InvalidCursor:
            raise bad_cursor() from None
        return _page(page, [delivery_document(row) for row in page.items])

    async def delivery(self, request: Request) -> Response:
        """`GET /v1/deliveries/{id}`, with attempts."""
        Parameters(request, ())
        found = await self.store.delivery(request.names["id"])
        if found is None:
            raise refuse(ProblemKind.NOT_FOUND, f"No delivery {request.names['id'][:100]!r} here.")
        row, attempts = found
        refusal = await request.caller.permit(Permission.READ_PAYLOADS, row.endpoint)
        if refusal is not None and refusal.kind is not ProblemKind.FORBIDDEN:
            raise ProblemError(refusal)
        bodies = refusal is None
        documents = [attempt_document(attempt, with_body=bodies) for attempt in attempts]
        return json_response({**delivery_document(row), "attempts": documents})

    async def endpoint_of(self, request: Request) -> str:
        """The endpoint of the delivery in the path, "" where there is no such delivery (see `router.Subject`)."""
        found = await self.store.delivery(request.names["id"])
        return "" if found is None else found[0].endpoint

    async def events(self, request: Request) -> Response:
        """`GET /v1/events`, without payloads."""
        given = Parameters(request, (*EVENT_FILTERS, *PAGING))
        query = EventQuery(
            event_type=given.text("eventType"),
            channel=given.text("channel"),
            since_ms=given.time_ms("since"),
            until_ms=given.time_ms("until"),
        )
        try:
            page = await self.store.events(query, cursor=given.cursor(), limit=given.limit())
        except InvalidCursor:
            raise bad_cursor() from None
        return _page(page, [event_document(row) for row in page.items])

    async def event(self, request: Request) -> Response:
        """`GET /v1/events/{id}`, with payload and deliveries."""
        Parameters(request, ())
        row = await self.store.event(request.names["id"])
        if row is None:
            raise refuse(ProblemKind.NOT_FOUND, f"No event {request.names['id'][:100]!r} here.")
        return json_response(
            {
                **event_document(row),
                "data": msgspec.Raw(b"null" if row.data is None else row.data),
                "payloadErased": row.data is None,
                "deliveries": [delivery_document(delivery) for delivery in row.deliveries],
            }
        )

    async def activity(self, request: Request) -> Response:
        """`GET /v1/activity`: consecutive buckets, oldest first; the last hour by the minute when nothing is said."""
        given = Parameters(request, ACTIVITY_PARAMETERS)
        width = given.whole("bucketSeconds", default=DEFAULT_BUCKET_SECONDS, minimum=1, maximum=DAY_SECONDS)
        until = given.time_ms("until")
        until = self.now_ms() if until is None else until
        since = given.time_ms("since")
        since = until - max(DEFAULT_WINDOW_MS, width * 1000) if since is None else since
        if since > until:
            raise invalid("since", "must not be after until")
        if (until - since) // (width * 1000) > MAX_BUCKETS:
            raise invalid("bucketSeconds", f"makes more than {MAX_BUCKETS} buckets of this time: take wider ones")
        buckets = await self.store.activity(since_ms=since, until_ms=until, bucket_seconds=width)
        return json_response({"items": [bucket_document(bucket) for bucket in buckets], "nextCursor": None})


async def endpoint_asked_for(request: Request) -> str:
    """The endpoint that the deliveries are filtered by, "" without that filter (see `router.Subject`)."""
    return Parameters(request, (*DELIVERY_FILTERS, *PAGING)).text("endpoint") or ""


def delivery_document(row: DeliveryRow) -> dict[str, Any]:
    return {
        "id": row.id,
        "eventId": row.event_id,
        "eventType": row.event_type,
        "endpoint": row.endpoint,
        "channels": row.channels,
        "status": row.status,
        "cancelReason": row.cancel_reason,
        "attemptCount": row.attempt_count,
        "createdTime": format_time(row.created_ms),
        "nextAttemptTime": format_optional(row.next_attempt_ms),
        "completedTime": format_optional(row.completed_ms),
    }


def attempt_document(row: AttemptRow, *, with_body: bool) -> dict[str, Any]:
    """One attempt. `responseBody` is null without an answer, and for callers who may not read payloads."""
    answered = row.status_code != 0
    return {
        "number": row.number,
        "time": format_time(row.started_ms),
        "trigger": row.trigger,
        "outcome": "Succeeded" if row.succeeded else "Failed",
        "statusCode": row.status_code,
        "errorCode": row.error,
        "durationMilliseconds": row.duration_ms,
        "message": row.message,
        "responseBody": row.response_body.decode("utf-8", "replace") if answered and with_body else None,
    }


def event_document(row: EventRow) -> dict[str, Any]:
    """An event without its payload."""
    return {
        "id": row.id,
        "type": row.type,
        "channels": row.channels,
        "timestamp": msgspec.Raw(row.timestamp),
        "source": row.source,
        "createdTime": format_time(row.accepted_ms),
    }


def bucket_document(bucket: ActivityBucket) -> dict[str, Any]:
    return {
        "start": format_time(bucket.start_ms),
        "accepted": bucket.accepted,
        "delivered": bucket.delivered,
        "failed": bucket.failed,
        "deadLettered": bucket.dead_lettered,
        "latencyMilliseconds": {"p50": bucket.p50_ms, "p99": bucket.p99_ms},
    }


def _page(page: Page[Any], items: Sequence[dict[str, Any]]) -> Response:
    return json_response({"items": items, "nextCursor": page.next_cursor})
