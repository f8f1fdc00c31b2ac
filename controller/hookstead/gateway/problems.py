"""Problems: every error answer of the gateway, as RFC 9457 has it, from one table.

The `type` URIs are stable and for programs; titles are for people; `detail` says what was expected and what to do.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Final

import msgspec

BASE: Final = "https://hookstead.dev/problems/"
CONTENT_TYPE: Final = "application/problem+json"


class ProblemKind(Enum):
    """Slug of the type URI, HTTP status, title."""

    MALFORMED_HTTP = ("malformed-http", 400, "The request is not valid HTTP")
    MALFORMED_JSON = ("malformed-json", 400, "The body is not valid JSON")
    INVALID_EVENT = ("invalid-event", 400, "The event is malformed")
    INVALID_BODY = ("invalid-body", 400, "The body is malformed")
    INVALID_PARAMETER = ("invalid-parameter", 400, "A query parameter is malformed")
    UNAUTHENTICATED = ("unauthenticated", 401, "Credentials are required")
    FORBIDDEN = ("forbidden", 403, "The caller may not do this")
    ENVIRONMENT_DISABLED = ("environment-disabled", 403, "The environment is disabled")
    NOT_FOUND = ("not-found", 404, "There is no such thing here")
    METHOD_NOT_ALLOWED = ("method-not-allowed", 405, "The method is not allowed here")
    REQUEST_TIMEOUT = ("request-timeout", 408, "The request did not arrive in time")
    ID_REUSED = ("id-reused", 409, "The id was used for another event")
    ENDPOINT_DISABLED = ("endpoint-disabled", 409, "The endpoint is disabled")
    ENDPOINT_NOT_READY = ("endpoint-not-ready", 409, "The endpoint cannot be delivered to as it is configured")
    STALE_CONFIGURATION = ("stale-configuration", 409, "A newer configuration is in force")
    PAYLOAD_ERASED = ("payload-erased", 410, "The payload is gone")
    TOO_LARGE = ("too-large", 413, "The request is too large")
    UNSUPPORTED_MEDIA_TYPE = ("unsupported-media-type", 415, "The body's format is not supported")
    EXPECTATION_FAILED = ("expectation-failed", 417, "The expectation cannot be met")
    UNKNOWN_EVENT_TYPE = ("unknown-event-type", 422, "The event type is not in the catalog")
    ARCHIVED_EVENT_TYPE = ("archived-event-type", 422, "The event type is archived")
    SCHEMA_MISMATCH = ("schema-mismatch", 422, "The data does not match the event type's schema")
    OVER_QUOTA = ("over-quota", 429, "Too many events")
    HEADERS_TOO_LARGE = ("headers-too-large", 431, "The request line or a header is too large")
    INTERNAL = ("internal-error", 500, "The gateway made a mistake")
    DRAINING = ("draining", 503, "The gateway is shutting down")
    NOT_READY = ("not-ready", 503, "The gateway takes no work now")
    SATURATED = ("saturated", 503, "The gateway is busy")
    STORE_UNAVAILABLE = ("store-unavailable", 503, "The store is unavailable")
    AUTHORIZATION_UNAVAILABLE = ("authorization-unavailable", 503, "It cannot be decided who may do this")
    STORE_FULL = ("store-full", 507, "The disk is nearly full")

    @property
    def slug(self) -> str:
        return str(self.value[0])

    @property
    def status(self) -> int:
        return int(self.value[1])

    @property
    def title(self) -> str:
        return str(self.value[2])

    @property
    def uri(self) -> str:
        return BASE + self.slug


RETRY_AFTER_SECONDS: Final[Mapping[ProblemKind, int]] = {
    ProblemKind.OVER_QUOTA: 1,
    ProblemKind.DRAINING: 5,
    ProblemKind.NOT_READY: 1,
    ProblemKind.SATURATED: 1,
    ProblemKind.STORE_UNAVAILABLE: 5,
    ProblemKind.AUTHORIZATION_UNAVAILABLE: 1,
    ProblemKind.STORE_FULL: 60,
}
"""What waiting means where the refusal itself does not say: 429, 503 and 507 always carry Retry-After."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One error answer. `extra` are further members of the document, `headers` of the answer."""

    kind: ProblemKind
    detail: str
    extra: Mapping[str, Any] = field(default_factory=dict)
    headers: tuple[tuple[str, str], ...] = ()
    retry_after_seconds: int | None = None

    @property
    def status(self) -> int:
        return self.kind.status

    @property
    def retry_after(self) -> int | None:
        """Seconds; None where waiting does not help."""
        if self.retry_after_seconds is not None:
            return self.retry_after_seconds
        return RETRY_AFTER_SECONDS.get(self.kind)

    def document(self) -> dict[str, Any]:
        """The members of the problem document."""
        document: dict[str, Any] = {
            "type": self.kind.uri,
            "title": self.kind.title,
            "status": self.kind.status,
            # Bytes of a request that are no UTF-8 may be quoted in it.
            "detail": self.detail.encode("utf-8", "replace").decode("utf-8"),
        }
        if self.retry_after is not None:
            document["retryAfterSeconds"] = self.retry_after
        return {**self.extra, **document}

    def body(self) -> bytes:
        return msgspec.json.encode(self.document())

    def all_headers(self) -> tuple[tuple[str, str], ...]:
        """`headers`, with Retry-After where waiting helps."""
        wait = self.retry_after
        return self.headers if wait is None else (*self.headers, ("Retry-After", str(wait)))


class ProblemError(Exception):
    """A problem on its way to the answer, for code that is several calls deep in parsing or reading."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(f"{problem.kind.slug}: {problem.detail}")
        self.problem = problem


def problem(kind: ProblemKind, detail: str, **extra: Any) -> Problem:
    """A problem with further members by keyword, in the document's camelCase."""
    return Problem(kind=kind, detail=detail, extra=extra)


def refuse(kind: ProblemKind, detail: str, **extra: Any) -> ProblemError:
    """The same, ready to be raised."""
    return ProblemError(problem(kind, detail, **extra))
