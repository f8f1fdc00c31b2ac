"""The public CloudEvents SDK as a peer: we take what it sends, and it reads what we send.

A peer, not a judge: it is laxer than the specification, which `test_ingest_cloudevents.py` holds us to.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest
from cloudevents.core.bindings.http import HTTPMessage, from_http_event, to_binary_event, to_structured_event
from cloudevents.core.v1.event import CloudEvent

from contract.processes import until

if TYPE_CHECKING:
    from collections.abc import Callable

    from contract.processes import Reply
    from contract.site import Site

WHEN = datetime(2026, 1, 31, 12, 0, 0, tzinfo=UTC)
SUBJECT = 'Motör "50%" €'


@pytest.fixture(scope="module")
def site(module_site: Site) -> Site:
    module_site.apply(module_site.endpoint("ce", payloadFormat="CloudEvents"))
    return module_site


def event(site: Site, id_: str) -> CloudEvent:
    attributes = {
        "specversion": "1.0",
        "id": site.name(id_),
        "source": "/sdk",
        "type": site.type("x"),
        "time": WHEN,
        "subject": SUBJECT,
        "datacontenttype": "application/json",
    }
    return CloudEvent(attributes=attributes, data={"amount": 12.5, "name": "é"})


def sent(site: Site, message: HTTPMessage) -> Reply:
    return site.dev.ask("POST", "/v1/events", body=message.body, headers=dict(message.headers))


@pytest.mark.parametrize("write", [to_structured_event, to_binary_event])
def test_what_the_sdk_writes_reaches_a_receiver_who_reads_it_with_the_sdk(
    site: Site, write: Callable[[CloudEvent], HTTPMessage]
) -> None:
    original = event(site, write.__name__)
    accepted = sent(site, write(original))
    assert accepted.status == 202, accepted.body
    arrived = until(
        lambda: [one for one in site.received("ce") if one.id == accepted.json["id"]], what="the event at the receiver"
    )
    delivered = arrived[0]
    read = from_http_event(HTTPMessage(headers=dict(delivered.headers), body=delivered.body))
    assert read.get_id() == accepted.json["id"]
    assert (read.get_source(), read.get_type(), read.get_time()) == ("/sdk", site.type("x"), WHEN)
    assert read.get_data() == original.get_data()


def test_the_same_event_in_both_modes_is_one_event(site: Site) -> None:
    one = event(site, "both")
    first, second = sent(site, to_structured_event(one)), sent(site, to_binary_event(one))
    assert (first.status, second.status) == (202, 202)
    assert second.json["id"] == first.json["id"]
    assert json.loads(second.body)["duplicate"] is True
