"""`POST /v1/events` and `/v1/events/batch`: bytes to events, the engine's results to answers."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from hookstead.delivery.intake import IncomingEvent, PublishResult, RefusalKind, Refused
from hookstead.delivery.ports import Accepted, Clash, Duplicate
from hookstead.gateway import cloudevents, envelope
from hookstead.gateway.authorize import Caller, Permission
from hookstead.gateway.exchange import Request, Response, json_response, problem_response
from hookstead.gateway.json_bytes import MalformedJson, elements
from hookstead.gateway.problems import Problem, ProblemError, ProblemKind, problem, refuse
from hookstead.gateway.quota import IngestQuota

MAX_ITEMS: Final = 1000
NATIVE: Final = "application/json"
NDJSON: Final = "application/x-ndjson"
_BREATH_BYTES: Final = 256 * 1024
"""After so many bytes of a batch the parser lets others run."""

KINDS: Final = {
    RefusalKind.NOT_CONFIGURED: ProblemKind.NOT_READY,
    RefusalKind.ENVIRONMENT_DISABLED: ProblemKind.ENVIRONMENT_DISABLED,
    RefusalKind.UNKNOWN_TYPE: ProblemKind.UNKNOWN_EVENT_TYPE,
    RefusalKind.ARCHIVED_TYPE: ProblemKind.ARCHIVED_EVENT_TYPE,
    RefusalKind.SCHEMA_MISMATCH: ProblemKind.SCHEMA_MISMATCH,
    RefusalKind.OVER_QUOTA: ProblemKind.OVER_QUOTA,
    RefusalKind.DRAINING: ProblemKind.DRAINING,
    RefusalKind.SATURATED: ProblemKind.SATURATED,
    RefusalKind.STORE_UNAVAILABLE: ProblemKind.STORE_UNAVAILABLE,
    RefusalKind.STORE_FULL: ProblemKind.STORE_FULL,
}
_OF_THE_WHOLE: Final = frozenset(
    {
        ProblemKind.NOT_READY,
        ProblemKind.ENVIRONMENT_DISABLED,
        ProblemKind.OVER_QUOTA,
        ProblemKind.DRAINING,
        ProblemKind.SATURATED,
        ProblemKind.STORE_UNAVAILABLE,
        ProblemKind.AUTHORIZATION_UNAVAILABLE,
        ProblemKind.STORE_FULL,
    }
)
"""Refusals that say nothing about the event: a batch of which every event got the same one is refused as a whole."""


class Publisher(Protocol):
    """What ingest needs of the engine."""

    async def publish(self, events: Sequence[IncomingEvent]) -> Sequence[PublishResult]: ...


@dataclass(slots=True, kw_only=True)
class Ingest:
    """The two ingest handlers. `now` is monotonic, in seconds; `event_bytes` the largest event."""

    publisher: Publisher
    now: Callable[[], float]
    event_bytes: int = 1024 * 1024
    quota: IngestQuota | None = None
    closed: Callable[[], Problem | None] = lambda: None
    """Why no event is taken at all; None when they are."""
    object_name: Callable[[str], str] = lambda event_type: ""
    """The name of the WebhookEventType that declares a type, "" for a type that none declares."""

    async def one(self, request: Request) -> Response:
        """`POST /v1/events`: native, or CloudEvents structured or binary."""
        refuse_parameters(request)
        self._admit()
        event = parse_one(request)
        refusal = await request.caller.permit(Permission.PUBLISH, self.object_name(event.type))
        if refusal is not None:
            raise ProblemError(refusal)
        self._charge(1)
        (result,) = await self.publisher.publish((event,))
        return respond(result)

    async def batch(self, request: Request) -> Response:
        """`POST /v1/events/batch`: one result per item, in order."""
        refuse_parameters(request)
        # A large one off the loop: others must not wait for its brackets.
        large = len(request.body) > _BREATH_BYTES
        parse, documents, depth = await asyncio.to_thread(split_batch, request) if large else split_batch(request)
        if len(documents) > MAX_ITEMS:
            raise refuse(
                ProblemKind.TOO_LARGE,
                f"A batch may have {MAX_ITEMS} events, this one has {len(documents)}: send several.",
                limitItems=MAX_ITEMS,
            )
        self._admit()
        parsed = await self._parse_all(parse, documents, depth, envelope.valid_traceparent(_traceparent(request)))
        parsed = await self._permit_all(request.caller, parsed)
        events = [one for one in parsed if isinstance(one, IncomingEvent)]
        self._charge(len(events))
        results = iter(await self.publisher.publish(events) if events else ())
        items = [one if isinstance(one, Problem) else item(next(results)) for one in parsed]
        common = _common_refusal(items)
        if common is not None:
            return problem_response(common)
        return json_response({"items": [one.document() if isinstance(one, Problem) else one for one in items]}, 202)

    async def _parse_all(
        self, parse: Callable[..., IncomingEvent], documents: list[bytes], depth: int, traceparent: str | None
    ) -> list[IncomingEvent | Problem]:
        parsed: list[IncomingEvent | Problem] = []
        since_breath = 0
        for document in documents:
            since_breath += len(document)
            if since_breath > _BREATH_BYTES:
                since_breath = 0
                await asyncio.sleep(0)
            if len(document) > self.event_bytes:
                parsed.append(
                    problem(
                        ProblemKind.TOO_LARGE,
                        f"An event may have {self.event_bytes} bytes, this one has {len(document)}.",
                    )
                )
                continue
            try:
                parsed.append(parse(document, traceparent=traceparent, depth=depth))
            except ProblemError as error:
                parsed.append(error.problem)
        return parsed

    async def _permit_all(
        self, caller: Caller, parsed: Sequence[IncomingEvent | Problem]
    ) -> list[IncomingEvent | Problem]:
        """The items, with a refusal for each event whose type the caller may not publish."""
        names = {one.type: self.object_name(one.type) for one in parsed if isinstance(one, IncomingEvent)}
        wanted = list(dict.fromkeys(names.values()))
        answers = await asyncio.gather(*(caller.permit(Permission.PUBLISH, name) for name in wanted))
        refusals = {name: answer for name, answer in zip(wanted, answers, strict=True) if answer is not None}
        if not refusals:
            return list(parsed)
        return [one if isinstance(one, Problem) else refusals.get(names[one.type], one) for one in parsed]

    def _admit(self) -> None:
        """Refuse, before anything is read, what would be refused in the end."""
        refusal = self.closed()
        if refusal is not None:
            raise ProblemError(refusal)
        self._charge(0)

    def _charge(self, events: int) -> None:
        """Take events from the quota. Only those that their caller may publish: nobody else uses it up."""
        wait = 0.0 if self.quota is None else self.quota.take(events, now=self.now())
        if wait > 0:
            raise ProblemError(
                Problem(
                    kind=ProblemKind.OVER_QUOTA,
                    detail="More events arrive than this gateway takes (--ingest-per-second): send them later.",
                    retry_after_seconds=math.ceil(wait),
                )
            )


def parse_one(request: Request) -> IncomingEvent:
    """The event of a single request, in whichever of the three forms. Raises ProblemError."""
    headers = request.headers
    content_type = headers.get("Content-Type", "")
    traceparent = envelope.valid_traceparent(_traceparent(request))
    media = content_type.partition(";")[0].strip().lower()
    if media.startswith("application/cloudevents"):
        if media != cloudevents.STRUCTURED:
            hint = (
                "POST batches to /v1/events/batch" if media == cloudevents.BATCH else "use application/cloudevents+json"
            )
            raise _unsupported(content_type, hint)
        _check_charset(content_type)
        return cloudevents.parse_structured(request.body, traceparent=traceparent)
    if cloudevents.is_binary(headers):
        return cloudevents.parse_binary(
            headers.items(), request.body, content_type=content_type, traceparent=traceparent
        )
    if media not in (NATIVE, ""):
        raise _unsupported(content_type, "send application/json, or a CloudEvent as application/cloudevents+json")
    if content_type != NATIVE:
        _check_charset(content_type)
    return envelope.parse(request.body, traceparent=traceparent)


def split_batch(request: Request) -> tuple[Callable[..., IncomingEvent], list[bytes], int]:
    """The parser of a batch's items, their bytes, and how deep they stand in the body's document."""
    content_type = request.headers.get("Content-Type", "")
    media = content_type.partition(";")[0].strip().lower()
    _check_charset(content_type)
    if media == NDJSON:
        return envelope.parse, [line for line in request.body.split(b"\n") if line.strip()], 0
    if media not in (NATIVE, cloudevents.BATCH, ""):
        raise _unsupported(content_type, f"send {NATIVE} (an array), {NDJSON} or {cloudevents.BATCH}")
    try:
        documents = elements(request.body)
    except MalformedJson as error:
        raise refuse(ProblemKind.MALFORMED_JSON, f"The batch is not an acceptable JSON array: {error}.") from None
    return cloudevents.parse_structured if media == cloudevents.BATCH else envelope.parse, documents, 1


def respond(result: PublishResult) -> Response:
    """The answer to a single event."""
    outcome = item(result)
    if isinstance(outcome, Problem):
        return problem_response(outcome)
    del outcome["status"]
    return json_response(outcome, 202)


def item(result: PublishResult) -> dict[str, Any] | Problem:
    """One result as an item of a batch's answer."""
    match result:
        case Accepted(id=id_, endpoints=endpoints):
            return {"status": 202, "id": id_, "endpoints": endpoints}
        case Duplicate(id=id_, endpoints=endpoints):
            return {"status": 202, "id": id_, "endpoints": endpoints, "duplicate": True}
        case Clash(id=id_):
            return problem(
                ProblemKind.ID_REUSED,
                f"This id was used for another event ({id_}), with other type, channels, timestamp or data: give every "
                "event an id of its own.",
                id=id_,
            )
        case Refused(kind=kind, message=message, retry_after_seconds=wait):
            return Problem(kind=KINDS[kind], detail=message, retry_after_seconds=wait)


def refuse_parameters(request: Request) -> None:
    """Ingest takes no query parameters; one that is there was meant to do something."""
    if request.query:
        raise refuse(ProblemKind.INVALID_PARAMETER, f"{request.path} takes no query parameters: remove them.")


def _common_refusal(items: Sequence[dict[str, Any] | Problem]) -> Problem | None:
    """The one refusal that all events share, when it is none of theirs; broken items do not count."""
    refusals = [one for one in items if not (isinstance(one, Problem) and one.status in (400, 413, 415))]
    if not refusals:
        return None
    first = refusals[0]
    if not isinstance(first, Problem) or first.kind not in _OF_THE_WHOLE:
        return None
    same = all(isinstance(one, Problem) and one.kind is first.kind for one in refusals)
    return first if same else None


def _traceparent(request: Request) -> str | None:
    return request.headers.get("traceparent")


def _check_charset(content_type: str) -> None:
    if "charset" in content_type.lower() and not cloudevents.is_utf8(content_type):
        raise _unsupported(content_type, "send UTF-8")


def _unsupported(content_type: str, remedy: str) -> ProblemError:
    return refuse(
        ProblemKind.UNSUPPORTED_MEDIA_TYPE, f"Content-Type {envelope.shown(content_type)} is not taken here: {remedy}."
    )
