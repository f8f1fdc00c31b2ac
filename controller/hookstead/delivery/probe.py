"""Test deliveries: one signed request at once, which is stored and counted nowhere."""

from __future__ import annotations

import msgspec

from hookstead.config.event_patterns import covers
from hookstead.config.model import DeliveryConfig, EventTypeConfig
from hookstead.config.times import format_time
from hookstead.delivery import attempt
from hookstead.delivery.intake import OperateRefusal, TestResult
from hookstead.delivery.lane import Lane
from hookstead.delivery.ports import Clock, DeliveryStatus, Job, Random, Transport, Trigger
from hookstead.resources.kinds import EndpointState

FALLBACK_TYPE = "hookstead.test"


async def send_test(
    lane: Lane,
    *,
    config: DeliveryConfig,
    event_type: str | None,
    transport: Transport,
    clock: Clock,
    random: Random,
) -> TestResult | OperateRefusal:
    """Send the sample of a type, whatever the endpoint selects; waits for no rate. Paused and Gone are allowed."""
    refusal = _refusal(lane, config)
    if refusal is not None:
        return refusal
    entry = _entry(lane, config, event_type)
    if entry is None and event_type not in (None, FALLBACK_TYPE):
        return OperateRefusal.UNKNOWN_EVENT_TYPE
    now_ms = clock.now_ms()
    job = _job(lane, entry, event_id=random.event_id(), now_ms=now_ms)
    request = None if lane.sealed is None else lane.sealed.request(job, namespace=config.namespace, now_ms=now_ms)
    if request is None:
        return OperateRefusal.UNREADABLE_KEY
    began = clock.monotonic()
    result = await transport.send(request)
    outcome = attempt.judge(result, now_ms=clock.now_ms())
    return TestResult(
        event_type=job.event_type,
        succeeded=outcome.succeeded,
        status_code=outcome.status_code,
        error_code=None if outcome.error is None else outcome.error.value,
        duration_ms=round((clock.monotonic() - began) * 1000),
        message=outcome.message,
    )


def _refusal(lane: Lane, config: DeliveryConfig) -> OperateRefusal | None:
    if not config.enabled:
        return OperateRefusal.ENVIRONMENT_DISABLED
    if lane.config.state is EndpointState.DISABLED:
        return OperateRefusal.ENDPOINT_DISABLED
    if not lane.config.verdict.is_accepted:
        return OperateRefusal.NOT_ACCEPTED
    return OperateRefusal.UNREADABLE_KEY if lane.sealed is None else None


def _entry(lane: Lane, config: DeliveryConfig, event_type: str | None) -> EventTypeConfig | None:
    declared = [entry for entry in config.event_types if entry.verdict.is_accepted]
    if event_type is not None:
        return next((entry for entry in declared if entry.type == event_type), None)
    return next((entry for entry in declared if covers(lane.config.event_types, entry.type)), None)


def _job(lane: Lane, entry: EventTypeConfig | None, *, event_id: str, now_ms: int) -> Job:
    sample = {} if entry is None or entry.sample is None else entry.sample
    return Job(
        delivery_id="",
        endpoint=lane.key,
        event_id=event_id,
        event_type=FALLBACK_TYPE if entry is None else entry.type,
        timestamp=b'"%s"' % format_time(now_ms).encode(),
        data=msgspec.json.encode(sample),
        payload_format=lane.config.payload_format,
        trigger=Trigger.MANUAL,
        status=DeliveryStatus.PENDING,
        attempt_count=0,
        schedule_position=0,
        due_ms=None,
    )
