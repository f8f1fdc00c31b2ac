"""The body of a delivery: the caller's bytes in one of three envelopes. The same inputs give the same bytes."""

from __future__ import annotations

from typing import Final

import msgspec

from hookstead.delivery.ports import Job
from hookstead.resources.kinds import PayloadFormat

_CONTENT_TYPE: Final = {
    PayloadFormat.STANDARD_WEBHOOKS: "application/json",
    PayloadFormat.DATA_ONLY: "application/json",
    PayloadFormat.CLOUD_EVENTS: "application/cloudevents+json",
}


def content_type(payload_format: PayloadFormat) -> str:
    """The `content-type` of a delivery."""
    return _CONTENT_TYPE[payload_format]


def body(job: Job, *, namespace: str) -> bytes:
    """The request body. `timestamp` and `data` are spliced in byte for byte.

    Sources: Standard Webhooks 1.0.0, "Payload structure"; CloudEvents 1.0.2 JSON format, structured mode.
    """
    if job.payload_format is PayloadFormat.DATA_ONLY:
        return job.data
    if job.payload_format is PayloadFormat.CLOUD_EVENTS:
        return _cloud_event(job, namespace=namespace)
    return b'{"type":"%s","timestamp":%s,"data":%s}' % (job.event_type.encode(), job.timestamp, job.data)


def _cloud_event(job: Job, *, namespace: str) -> bytes:
    source = job.source if job.source is not None else f"/namespaces/{namespace}"
    channels = b""
    if job.channels:
        channels = b',"channels":%s' % msgspec.json.encode(",".join(job.channels))
    return (
        b'{"specversion":"1.0","id":"%s","source":%s,"type":"%s","time":%s%s,"datacontenttype":"application/json",'
        b'"data":%s}'
    ) % (
        job.event_id.encode(),
        msgspec.json.encode(source),
        job.event_type.encode(),
        job.timestamp,
        channels,
        job.data,
    )
