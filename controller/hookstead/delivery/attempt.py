"""One attempt: the request that is sent, and what its result means. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from hookstead.config.model import EgressPolicy, EndpointConfig
from hookstead.delivery import payload, retry
from hookstead.delivery.ports import (
    DeliveryStatus,
    EndpointKey,
    ErrorCode,
    Job,
    OutboundRequest,
    SendResult,
    Settlement,
    Trigger,
)
from hookstead.delivery.signing import Signer
from hookstead.resources.kinds import PayloadFormat

GONE: Final = 410
_RETRY_AFTER_STATUSES: Final = frozenset({429, 503})


class Sealed:
    """What does not change between two attempts of one endpoint: URL, headers, keys, policy."""

    __slots__ = ("_headers", "_policy", "_signer", "_timeout", "_tls", "_url", "endpoint")

    def __init__(self, endpoint: EndpointConfig, *, policy: EgressPolicy, user_agent: str) -> None:
        identity = endpoint.identity
        self.endpoint = EndpointKey(identity.name, identity.uid)
        self._url = endpoint.url.reveal().decode() if endpoint.url is not None else ""
        self._policy = policy
        self._tls = endpoint.tls
        self._timeout = float(endpoint.delivery.timeout_seconds)
        self._signer = Signer(endpoint.keys)
        custom = tuple((header.name, header.value.reveal().decode("ascii")) for header in endpoint.headers)
        self._headers = {
            form: (("content-type", payload.content_type(form)), ("user-agent", user_agent), *custom)
            for form in PayloadFormat
        }

    def same_destination(self, other: Sealed) -> bool:
        """Whether a kept-alive connection of the one may serve the other."""
        return (self._url, self._tls, self._policy) == (other._url, other._tls, other._policy)

    def request(self, job: Job, *, namespace: str, now_ms: int) -> OutboundRequest | None:
        """The signed request, or None when no key may sign now: held, never sent unsigned."""
        body = payload.body(job, namespace=namespace)
        timestamp = now_ms // 1000
        signature = self._signer.signature(job.event_id, timestamp, body, now_ms=now_ms)
        if signature is None:
            return None
        headers = (
            *self._headers[job.payload_format],
            ("webhook-id", job.event_id),
            ("webhook-timestamp", str(timestamp)),
            ("webhook-signature", signature),
        )
        if job.traceparent is not None:
            headers = (*headers, ("traceparent", job.traceparent))
        return OutboundRequest(
            endpoint=self.endpoint,
            url=self._url,
            headers=headers,
            body=body,
            timeout_seconds=self._timeout,
            policy=self._policy,
            tls=self._tls,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a result means. `retry_after_ms` is a duration; `hopeless` failures are not tried again."""

    succeeded: bool
    status_code: int
    error: ErrorCode | None
    message: str
    gone: bool = False
    hopeless: bool = False
    retry_after_ms: int | None = None


def judge(result: SendResult, *, now_ms: int) -> Outcome:
    """Success is a complete 2xx answer; everything else is a failure of one kind."""
    if result.error is not None:
        return Outcome(
            succeeded=False,
            status_code=result.status_code,
            error=result.error,
            message=result.message,
            hopeless=result.error is ErrorCode.ADDRESS_DENIED,
        )
    status = result.status_code
    if 200 <= status < 300:
        return Outcome(succeeded=True, status_code=status, error=None, message="")
    wish = retry.parse_retry_after(result.retry_after, now_ms=now_ms) if status in _RETRY_AFTER_STATUSES else None
    return Outcome(
        succeeded=False,
        status_code=status,
        error=ErrorCode.HTTP_STATUS,
        message=_status_message(status),
        gone=status == GONE,
        retry_after_ms=wish,
    )


def _status_message(status: int) -> str:
    if 300 <= status < 400:
        return f"The receiver answered {status}; redirects are not followed. Set spec.url to the final address."
    if status == GONE:
        return "The receiver answered 410 Gone; nothing is sent until somebody resumes the endpoint."
    return f"The receiver answered {status}."


def settle(job: Job, outcome: Outcome, *, schedule_seconds: tuple[int, ...], now_ms: int, jitter: float) -> Settlement:
    """What becomes of the delivery. A manual attempt that failed leaves the schedule as it was.

    Gone holds what is pending, the delivery that was answered so included: on its last attempt it gets one more.
    """
    if outcome.succeeded:
        return Settlement(status=DeliveryStatus.DELIVERED, schedule_position=job.schedule_position)
    if job.trigger is Trigger.MANUAL:
        return Settlement(status=job.status, next_attempt_ms=job.due_ms, schedule_position=job.schedule_position)
    decision = retry.after_failure(
        schedule_seconds=schedule_seconds,
        position=job.schedule_position,
        now_ms=now_ms,
        jitter=jitter,
        retry_after_ms=outcome.retry_after_ms,
        hopeless=outcome.hopeless,
    )
    position = job.schedule_position + 1
    if isinstance(decision, retry.Dead) and outcome.gone:
        return Settlement(
            status=DeliveryStatus.PENDING, next_attempt_ms=now_ms, schedule_position=job.schedule_position
        )
    if isinstance(decision, retry.Dead):
        return Settlement(status=DeliveryStatus.DEAD_LETTERED, schedule_position=position)
    return Settlement(status=DeliveryStatus.PENDING, next_attempt_ms=decision.due_ms, schedule_position=position)
