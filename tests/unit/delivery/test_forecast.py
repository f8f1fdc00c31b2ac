"""What was seen, under another configuration: counted by the rule that routes live events."""

from __future__ import annotations

import json
from typing import Any

from builders import channel, compiled, endpoint, environment, event_type
from hookstead.delivery.forecast import EndpointForecast, Forecaster, SeenEvent
from hookstead.resources.kinds import EndpointState, EventValidation, Lifecycle


def seen(type_: str = "order.created", channels: tuple[str, ...] = (), data: Any = ...) -> SeenEvent:
    body = None if data is ... else json.dumps(data).encode()
    return SeenEvent(id="msg_1", type=type_, channels=channels, timestamp=b'"2026-01-01T00:00:00Z"', data=body)


def config(*items: Any, validation: EventValidation = EventValidation.WARN) -> Any:
    return compiled(environment(validation=validation), *items).config


def test_deliveries_that_come_and_go_are_counted_per_endpoint() -> None:
    channels = [channel("c1"), channel("c2")]
    old = config(*channels, endpoint("a", channels=("c1",)), endpoint("b"), endpoint("gone"))
    new = config(*channels, endpoint("a", channels=("c2",)), endpoint("b"), endpoint("fresh", types=("order.*",)))
    forecaster = Forecaster(old, new)
    for event in (seen(), seen(channels=("c1",)), seen(channels=("c1", "c2")), seen("bill.paid", ("c2",))):
        assert not forecaster.needs_payload(event)
        forecaster.add(event)
    result = forecaster.result()
    assert (result.events, result.undecided, result.refused) == (4, 0, {})
    assert result.endpoints == (
        EndpointForecast(name="a", before=2, after=2, added=1, lost=1),
        EndpointForecast(name="b", before=4, after=4, added=0, lost=0),
        EndpointForecast(name="fresh", before=0, after=3, added=3, lost=0),
        EndpointForecast(name="gone", before=4, after=0, added=0, lost=4),
    )


def test_a_filter_asks_for_the_payload_only_of_events_that_it_has_to_judge() -> None:
    old = config(endpoint("a", types=("order.*",)))
    new = config(endpoint("a", types=("order.*",), filter="event.data.total > 10"))
    forecaster = Forecaster(old, new)
    assert forecaster.needs_payload(seen())
    assert not forecaster.needs_payload(seen("bill.paid"))
    for event in (seen(data={"total": 5}), seen(data={"total": 50}), seen(data={}), seen()):
        forecaster.add(event)
    result = forecaster.result()
    assert (result.events, result.undecided) == (3, 1)
    assert result.endpoints == (EndpointForecast(name="a", before=3, after=1, added=0, lost=2),)


def test_disabled_endpoints_and_environments_get_nothing() -> None:
    old = config(endpoint("a"))
    forecaster = Forecaster(old, config(endpoint("a", state=EndpointState.DISABLED)))
    forecaster.add(seen())
    assert forecaster.result().endpoints == (EndpointForecast(name="a", before=1, after=0, added=0, lost=1),)
    forecaster = Forecaster(old, compiled(endpoint("a")).config)
    forecaster.add(seen())
    assert forecaster.result().endpoints[0].lost == 1


def test_what_the_new_catalog_would_refuse_is_counted_by_type_and_lost_by_everybody() -> None:
    schema = {"type": "object", "required": ["id"]}
    old = config(event_type("order.created"), event_type("bill.paid"), endpoint("a"))
    new = config(
        event_type("order.created", schema=schema),
        event_type("bill.paid", lifecycle=Lifecycle.ARCHIVED),
        endpoint("a"),
        validation=EventValidation.ENFORCE,
    )
    forecaster = Forecaster(old, new)
    assert forecaster.needs_payload(seen())
    for event in (seen(data={"id": 1}), seen(data={}), seen("bill.paid"), seen("unknown")):
        forecaster.add(event)
    result = forecaster.result()
    assert result.refused == {"bill.paid": 1, "order.created": 1, "unknown": 1}
    assert result.endpoints == (EndpointForecast(name="a", before=4, after=1, added=0, lost=3),)


def test_a_schema_that_stays_and_was_enforced_needs_no_payload() -> None:
    schema = {"type": "object", "required": ["id"]}
    same = config(event_type("order.created", schema=schema), endpoint("a"), validation=EventValidation.ENFORCE)
    assert not Forecaster(same, same).needs_payload(seen())
