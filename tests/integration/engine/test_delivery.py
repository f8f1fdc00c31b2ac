"""The engine over the real store, in virtual time: what is sent, when, and what remains."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import pytest

from builders import channel, config, endpoint, environment, event_type
from engine_bench import OK, Bench, broken, event, on_bench, status
from hookstead.delivery import publisher
from hookstead.delivery.intake import OperateRefusal, RefusalKind, Refused, TestResult
from hookstead.delivery.ports import (
    Accepted,
    CallerId,
    CancelReason,
    Clash,
    DeliveryStatus,
    Duplicate,
    ErrorCode,
    Trigger,
)
from hookstead.resources.conditions import Reason
from hookstead.resources.kinds import (
    DeliverySpec,
    EndpointState,
    EnvironmentState,
    EventValidation,
    Lifecycle,
    Ordering,
    RetrySpec,
)

Scenario = Callable[[Bench], Awaitable[None]]


@pytest.fixture
def bench(tmp_path: Path) -> Callable[[Scenario], Bench]:
    def run(scenario: Scenario, **options: Any) -> Bench:
        return on_bench(tmp_path / "store.db", scenario, **options)

    return run


def test_an_event_is_delivered_once_to_every_endpoint_that_it_selects(bench: Any) -> None:
    async def scenario(b: Bench) -> None:
        await b.start(config(endpoint("all"), endpoint("one", channels=["c"]), channel("c", "client_1")))
        (first,) = await b.publish(event(data=b'{"n": 1.0}', timestamp=b'"2026-01-01T00:00:00Z"'))
        (second,) = await b.publish(event(channels=("client_1", "client_1", "client_2")))
        assert isinstance(first, Accepted)
        assert isinstance(second, Accepted)
        assert (first.endpoints, second.endpoints) == (1, 2)
        await b.pass_time(1)
        rows = await b.deliveries()
        assert [(row.endpoint, row.status, row.attempt_count) for row in rows] == [
            (name, DeliveryStatus.DELIVERED, 1) for name in ("all", "all", "one")
        ]
        assert rows[1].channels == ("client_1", "client_2")
        await b.lawful()
        await b.stop()

    sent = bench(scenario).transport.sent
    assert sent[0].request.body == b'{"type":"t","timestamp":"2026-01-01T00:00:00Z","data":{"n": 1.0}}'
    headers = dict(sent[0].request.headers)
    assert (headers["content-type"], headers["user-agent"]) == ("application/json", "Hookstead/test")
    assert headers["webhook-timestamp"] == "1800000000"


def test_a_failing_delivery_follows_the_schedule_and_ends_in_the_dead_letters(bench: Any) -> None:
    async def scenario(b: Bench) -> None:
        b.transport.scripts["e"] = [broken(ErrorCode.CONNECT)]
        await b.start(config(environment(suspend_after_seconds=0), endpoint("e", delivery=_circuitless())))
        await b.publish()
        await b.pass_time(300_000)
        (row,) = await b.deliveries()
        assert (row.status, row.attempt_count, row.next_attempt_ms) == (DeliveryStatus.DEAD_LETTERED, 10, None)
        attempts = await b.attempts(row.id)
        assert {(a.error, a.trigger, a.succeeded) for a in attempts} == {(ErrorCode.CONNECT, Trigger.SCHEDULED, False)}
        await b.lawful()
        await b.stop()

    times = bench(scenario).transport.times("e")
    waits = [round(later - earlier) for earlier, later in pairwise(times)]
    assert waits == [5, 300, 1800, 7200, 18000, 36000, 50400, 72000, 86400]


def _circuitless(**fields: Any) -> DeliverySpec:
    return msgspec.convert({"circuitBreaker": "None", **fields}, DeliverySpec)


def test_a_retry_succeeds_and_the_message_id_stays(bench: Any) -> None:
    async def scenario(b: Bench) -> None:
        b.transport.scripts["e"] = [status(500, body=b"no"), status(302), OK]
        await b.start(config(endpoint("e")))
        await b.publish()
        await b.pass_time(400)
        (row,) = await b.deliveries()
        assert (row.status, row.attempt_count) == (DeliveryStatus.DELIVERED, 3)
        first, second, _ = await b.attempts(row.id)
        assert (first.status_code, first.error, first.response_body) == (500, ErrorCode.HTTP_STATUS, b"no")
        assert "redirects are not followed" in second.message
        await b.stop()

    sent = bench(scenario).transport.sent
    assert len({one.message_id for one in sent}) == 1
    assert len({dict(one.request.headers)["webhook-timestamp"] for one in sent}) == 3


def test_no_more_are_in_flight_than_allowed_and_another_endpoint_is_not_delayed(bench: Any) -> None:
    async def scenario(b: Bench) -> None:
        b.transport.seconds = 2.0
        slow = endpoint("slow", delivery=DeliverySpec(max_in_flight=3), types=["s"])
        await b.start(config(slow, endpoint("other", types=["o"])))
        await b.publish(*[event("s")] * 100, event("o"))
        await b.pass_time(1)
        assert next(one.at for one in b.transport.sent if one.endpoint == "other") < 0.1
        await b.pass_time(100)
        assert len(await b.deliveries(endpoint="slow", status=DeliveryStatus.DELIVERED)) == 100
        await b.lawful()
        await b.stop()

    assert bench(scenario).transport.most_under_way["slow"] == 3


def test_a_rate_is_kept_over_deliveries_and_redeliveries(bench: Any) -> None:
    async def scenario(b: Bench) -> None:
        await b.start(config(endpoint("e", delivery=DeliverySpec(requests_per_second=10))))
        await b.publish(*[event()] * 50)
        await b.pass_time(2)
        done = await b.deliveries(status=DeliveryStatus.DELIVERED)
        assert await b.engine.redeliver(done[0].id) is None
        await b.pass_time(10)
        assert len(b.transport.sent) == 51
        await b.stop()

    times = [one.at for one in bench(scenario).transport.sent]
    assert all(later - earlier >= 0.099 for earlier, later in pairwise(times))


def test_ordered_deliveries_wait_for_the_one_before(bench: Any) -> None:
    async def scenario(b: Bench) -> None:
        b.transport.scripts["e"] = [status(500), OK, status(500), OK]
        await b.start(config(endpoint("e", delivery=DeliverySpec(ordering=Ordering.ORDERED))))
        for number in range(4):
            await b.publish(event(data=b"%d" % number))
        await b.pass_time(60)
        assert {row.status for row in await b.deliveries()} == {DeliveryStatus.DELIVERED}
        await b.stop()

    bodies = [json.loads(one.request.body)["data"] for one in bench(scenario).transport.sent]
    assert bodies == [0, 0, 1, 1, 2, 3]


def test_a_retry_after_pauses_the_endpoint(bench: Any) -> None:
    async def scenario(b: Bench) -> None:
        b.transport.scripts["e"] = [status(429, retry_after="120"), OK]
        await b.start(config(endpoint("e")))
        await b.publish()
        await b.pass_time(1)
        await b.publish()
        await b.pass_time(60)
        report = b.engine.endpoint_report("e")
        assert report is not None
        assert report.held is Reason.THROTTLED
        await b.pass_time(120)
        assert {row.status for row in await b.deliveries()} == {DeliveryStatus.DELIVERED}
        await b.stop()

    times = bench(scenario).transport.times("e")
    assert times[0] == 0.0
    assert all(120 <= at < 121 for at in times[1:])
    assert len(times) == 3


def test_a_410_stops_the_endpoint_until_somebody_resumes_it(bench: Any) -> None:
    async def scenario(b: Bench) -> None:
        b.transport.scripts["e"] = [status(410), OK]
        await b.start(config(endpoint("e")))
        await b.publish()
        await b.pass_time(1)
        await b.publish()
        await b.pass_time(1000)
        assert len(b.transport.sent) == 1
        assert [row.status for row in await b.deliveries()] == [DeliveryStatus.PENDING] * 2
        await b.apply(config(endpoint("e", annotations={"resume_requested_at": "now"})))
        await b.pass_time(10)
        assert [row.status for row in await b.deliveries()] == [DeliveryStatus.DELIVERED] * 2
        report = b.engine.endpoint_report("e")
        assert report is not None
        assert (report.held, report.handled_resume_at) == (None, "now")
        await b.stop()

    bench(scenario)


def test_gone_survives_a_restart(bench: Any) -> None:
    async def scenario(b: Bench) -> None:
        b.transport.scripts["e"] = [status(410)]
        await b.start(config(endpoint("e")))
        await b.publish()
        await b.pass_time(1)
        await b.crash()
        await b.start(config(endpoint("e")))
        await b.pass_time(1000)
        assert len(b.transport.sent) == 1
        await b.stop()

    bench(scenario)


def test_the_circuit_opens_probes_and_closes(bench: Any) -> None:
    async def scenario(b: Bench) -> None:
        b.transport.scripts["e"] = [broken(ErrorCode.TIMEOUT)]
        schedule = RetrySpec(schedule_seconds=tuple([4] * 24))
        await b.start(config(endpoint("e", delivery=DeliverySpec(retry=schedule))))
        await b.publish()
        await b.pass_time(100)
        before = len(b.transport.sent)
        report = b.engine.endpoint_report("e")
        assert report is not None
        assert report.held is Reason.CIRCUIT_OPEN
        b.transport.scripts["e"] = [OK]
        await b.publish(*[event()] * 30)
        await b.pass_time(25)
        assert len(b.transport.sent) == before
        await b.pass_time(60)
        assert {row.status for row in await b.deliveries()} == {DeliveryStatus.DELIVERED}
        await b.lawful()
        await b.stop()

    times = bench(scenario).transport.times("e")
    probe = times[10]
    assert 30 <= round(probe - times[9]) <= 31
    assert 60 <= round(times[11] - probe) <= 61


def test_paused_deliveries_wait_and_go_on(bench: Any) -> None:
    async def scenario(b: Bench) -> None:
        await b.start(config(endpoint("e", state=EndpointState.PAUSED)))
        await b.publish(*[event()] * 100)
        await b.pass_time(1000)
        assert b.transport.sent == []
        await b.apply(config(endpoint("e")))
        await b.pass_time(10)
        assert len(await b.deliveries(status=DeliveryStatus.DELIVERED)) == 100
        await b.stop()

    bench(scenario)


@pytest.mark.parametrize(
    ("following", "reason"),
    [((), CancelReason.ENDPOINT_DELETED), ((EndpointState.DISABLED,), CancelReason.ENDPOINT_DISABLED)],
)
def test_what_was_pending_for_a_deleted_or_disabled_endpoint_is_cancelled_visibly(
    bench: Any, following: tuple[EndpointState, ...], reason: CancelReason
) -> None:
    async def scenario(b: Bench) -> None:
        b.transport.scripts["e"] = [status(500)]
        await b.start(config(endpoint("e")))
        await b.publish(*[event()] * 30)
        await b.pass_time(1)
        await b.apply(config(*[endpoint("e", state=state) for state in following]))
        await b.pass_time(1)
        rows = await b.deliveries()
        assert {(row.status, row.cancel_reason) for row in rows} == {(DeliveryStatus.CANCELLED, reason)}
        await b.pass_time(10_000)
        assert len(b.transport.sent) == 30
        await b.lawful()
        await b.stop()

    bench(scenario)


def test_a_new_object_of_the_same_name_inherits_nothing(bench: Any) -> None:
    async def scenario(b: Bench) -> None:
        b.transport.scripts["e"] = [status(500)]
        await b.start(config(endpoint("e", uid="first")))
        await b.publish()
        await b.pass_time(1)
        await b.crash()
        await b.start(config(endpoint("e", uid="second")))
        await b.pass_time(10_000)
        (row,) = await b.deliveries()
        assert (row.status, row.cancel_reason) == (DeliveryStatus.CANCELLED, CancelReason.ENDPOINT_DELETED)
        report = b.engine.endpoint_report("e")
        assert report is not None
        assert report.activity.consecutive_failures == 0
        await b.stop()

    bench(scenario)


def test_an_unreadable_key_holds_deliveries_and_never_sends_unsigned(bench: Any) -> None:
    async def scenario(b: Bench) -> None:
        await b.start(config(endpoint("e"), generate=False))
        (answer,) = await b.publish()
        assert isinstance(answer, Accepted)
        assert answer.endpoints == 1
        await b.pass_time(1000)
        assert b.transport.sent == []
        await b.apply(config(endpoint("e")))
        await b.pass_time(1)
        assert [row.status for row in await b.deliveries()] == [DeliveryStatus.DELIVERED]
        await b.stop()

    assert "webhook-signature" in dict(bench(scenario).transport.sent[0].request.headers)


def test_a_disabled_environment_refuses_events_and_holds_deliveries(bench: Any) -> None:
    async def scenario(b: Bench) -> None:
        b.transport.scripts["e"] = [status(500), OK]
        await b.start(config(endpoint("e")))
        await b.publish()
        await b.pass_time(1)
        await b.apply(config(environment(state=EnvironmentState.DISABLED), endpoint("e")))
        (answer,) = await b.publish()
        assert isinstance(answer, Refused)
        assert answer.kind is RefusalKind.ENVIRONMENT_DISABLED
        await b.pass_time(1000)
        assert len(b.transport.sent) == 1
        await b.apply(config(endpoint("e")))
        await b.pass_time(1)
        assert [row.status for row in await b.deliveries()] == [DeliveryStatus.DELIVERED]
        await b.stop()

    bench(scenario)


def test_a_manual_redelivery_never_touches_the_schedule(bench: Any) -> None:
    async def scenario(b: Bench) -> None:
        b.transport.scripts["e"] = [status(500), status(500), OK]
        await b.start(config(endpoint("e")))
        await b.publish()
        await b.pass_time(1)
        (before,) = await b.deliveries()
        assert await b.engine.redeliver(before.id) is None
        await b.pass_time(1)
        (after,) = await b.deliveries()
        assert after == replace(before, attempt_count=2)
        await b.pass_time(10)
        (done,) = await b.deliveries()
        assert (done.status, done.attempt_count) == (DeliveryStatus.DELIVERED, 3)
        assert [a.trigger for a in await b.attempts(done.id)] == [
            Trigger.SCHEDULED,
            Trigger.MANUAL,
            Trigger.SCHEDULED,
        ]
        assert await b.engine.redeliver("dlv_" + "0" * 32) is OperateRefusal.NOT_FOUND
        await b.apply(config(endpoint("e", state=EndpointState.DISABLED)))
        assert await b.engine.redeliver(done.id) is OperateRefusal.ENDPOINT_DISABLED
        await b.lawful()
        await b.stop()

    bench(scenario)


def test_a_dead_letter_can_be_redelivered(bench: Any) -> None:
    async def scenario(b: Bench) -> None:
        b.transport.scripts["e"] = [broken(ErrorCode.ADDRESS_DENIED), OK]
        await b.start(config(endpoint("e")))
        await b.publish()
        await b.pass_time(1)
        (dead,) = await b.deliveries()
        assert (dead.status, dead.attempt_count) == (DeliveryStatus.DEAD_LETTERED, 1)
        assert await b.engine.redeliver(dead.id) is None
        await b.pass_time(1)
        (done,) = await b.deliveries()
        assert (done.status, done.attempt_count) == (DeliveryStatus.DELIVERED, 2)
        await b.lawful()
        await b.stop()

    bench(scenario)


def test_what_was_accepted_is_delivered_after_a_crash(bench: Any) -> None:
    async def scenario(b: Bench) -> None:
        b.transport.seconds = 50
        await b.start(config(endpoint("e")))
        await b.publish(*[event()] * 70)
        await b.pass_time(1)
        await b.crash()
        b.transport.seconds = 0.01
        await b.start(config(endpoint("e")))
        await b.pass_time(5)
        rows = await b.deliveries()
        assert {row.status for row in rows} == {DeliveryStatus.DELIVERED}
        assert len(rows) == 70
        await b.lawful()
        await b.stop()

    assert len(bench(scenario).transport.sent) == 90  # 20 were in flight


def test_a_drain_finishes_what_is_in_flight_and_refuses_the_rest(bench: Any) -> None:
    async def scenario(b: Bench) -> None:
        b.transport.seconds = 3
        await b.start(config(endpoint("e")))
        await b.publish(*[event()] * 50)
        await b.pass_time(1)
        await b.engine.drain(deadline_seconds=10)
        (answer,) = await b.publish()
        assert isinstance(answer, Refused)
        assert answer.kind is RefusalKind.DRAINING
        counts = [row.status for row in await b.deliveries()]
        assert (counts.count(DeliveryStatus.DELIVERED), counts.count(DeliveryStatus.PENDING)) == (20, 30)
        await b.crash()

    assert len(bench(scenario).transport.sent) == 20


def test_a_callers_id_is_judged_by_its_content(bench: Any) -> None:
    async def scenario(b: Bench) -> None:
        await b.start(config(endpoint("e")))
        mine = event(caller_id=CallerId("", "order-1"))
        first, again = await b.publish(mine, mine)
        assert isinstance(first, Accepted)
        assert again == Duplicate(first.id, 1)
        (other,) = await b.publish(event(data=b"[]", caller_id=CallerId("", "order-1")))
        (elsewhere,) = await b.publish(event(data=b"[]", caller_id=CallerId("ce:x", "order-1")))
        assert other == Clash(first.id)
        assert isinstance(elsewhere, Accepted)
        await b.pass_time(1)
        assert len(await b.deliveries()) == 2
        await b.stop()

    bench(scenario)


@pytest.mark.parametrize(("validation", "refused"), [(EventValidation.ENFORCE, True), (EventValidation.WARN, False)])
@pytest.mark.parametrize(
    ("event_name", "data", "kind"),
    [
        ("order.new", b'{"n":"x"}', RefusalKind.SCHEMA_MISMATCH),
        ("order.new", b"[1]", RefusalKind.SCHEMA_MISMATCH),
        ("order.old", b"{}", RefusalKind.ARCHIVED_TYPE),
        ("order.nwe", b"{}", RefusalKind.UNKNOWN_TYPE),
        ("order.new", b'{"n":1}', None),
    ],
)
def test_the_catalog_is_enforced_or_only_counted(
    bench: Any, validation: EventValidation, refused: bool, event_name: str, data: bytes, kind: RefusalKind | None
) -> None:
    async def scenario(b: Bench) -> None:
        schema = {"type": "object", "properties": {"n": {"type": "integer"}}}
        await b.start(
            config(
                environment(validation=validation),
                event_type("new", "order.new", schema=schema),
                event_type("old", "order.old", lifecycle=Lifecycle.ARCHIVED),
                endpoint("e"),
            )
        )
        (answer,) = await b.publish(event(event_name, data=data))
        if refused and kind is not None:
            assert isinstance(answer, Refused)
            assert answer.kind is kind
        else:
            assert isinstance(answer, Accepted)
            assert b.engine.metrics().mismatches == (kind is not None)
        await b.stop()

    bench(scenario)


def test_a_test_delivery_sends_the_sample_and_is_stored_nowhere(bench: Any) -> None:
    async def scenario(b: Bench) -> None:
        sample = event_type("new", "order.new", sample={"n": 1})
        await b.start(config(sample, endpoint("e", types=["order.*"], state=EndpointState.PAUSED)))
        result = await b.engine.test("e", event_type=None)
        assert isinstance(result, TestResult)
        assert (result.event_type, result.succeeded, result.status_code) == ("order.new", True, 200)
        assert await b.engine.test("e", event_type="nope") is OperateRefusal.UNKNOWN_EVENT_TYPE
        assert await b.engine.test("nobody", event_type=None) is OperateRefusal.NOT_FOUND
        assert await b.deliveries() == []
        await b.apply(config(endpoint("e", state=EndpointState.DISABLED)))
        assert await b.engine.test("e", event_type=None) is OperateRefusal.ENDPOINT_DISABLED
        await b.stop()

    assert json.loads(bench(scenario).transport.sent[0].request.body)["data"] == {"n": 1}


def test_a_report_tells_only_what_changed(bench: Any) -> None:
    async def scenario(b: Bench) -> None:
        await b.start(config(endpoint("a", types=["a"]), endpoint("b", types=["b"])))
        everything = b.engine.report(after=None)
        assert [item.name for item in everything.endpoints] == ["a", "b"]
        assert b.engine.report(after=everything.cursor).endpoints == ()
        await b.publish(event("a"))
        await b.pass_time(1)
        (changed,) = b.engine.report(after=everything.cursor).endpoints
        assert (changed.name, changed.activity.succeeded, changed.activity.pending) == ("a", 1, 0)
        (recent,) = changed.recent_deliveries
        assert (recent.event_type, recent.outcome, recent.status_code, recent.attempt) == ("a", "Succeeded", 200, 1)
        assert len(b.engine.report(after="other:1:1").endpoints) == 2
        await b.stop()

    bench(scenario)


def test_a_step_of_the_wall_clock_delays_no_retry_for_long(bench: Any) -> None:
    async def scenario(b: Bench) -> None:
        b.settings = replace(b.settings, housekeeping_seconds=10.0)
        b.transport.scripts["e"] = [status(500), OK]
        await b.start(config(endpoint("e")))
        await b.publish()
        await b.pass_time(1)
        b.clock.step_ms = 3_600_000
        await b.pass_time(20)
        assert [row.status for row in await b.deliveries()] == [DeliveryStatus.DELIVERED]
        await b.stop()

    bench(scenario)


def test_without_a_configuration_events_are_refused_for_now(bench: Any) -> None:
    async def scenario(b: Bench) -> None:
        await b.boot()
        (answer,) = await b.publish()
        assert isinstance(answer, Refused)
        assert (answer.kind, answer.retry_after_seconds) == (RefusalKind.NOT_CONFIGURED, 5)
        await b.crash()

    bench(scenario)


def test_an_unchanged_endpoint_is_left_alone_by_a_new_configuration(bench: Any) -> None:
    async def scenario(b: Bench) -> None:
        await b.start(config(endpoint("a"), endpoint("b")))
        before = b.engine.report(after=None).cursor
        await b.apply(config(endpoint("a"), endpoint("b", description="new")))
        assert [item.name for item in b.engine.report(after=before).endpoints] == ["b"]
        await b.stop()

    bench(scenario)


def test_a_thousand_endpoints_that_never_answer_fill_no_memory(bench: Any) -> None:
    async def scenario(b: Bench) -> None:
        b.transport.seconds = 10.0
        await b.start(config(*[endpoint(f"e{n}", types=[f"t{n}"]) for n in range(50)]))
        for n in range(50):
            await b.publish(*[event(f"t{n}")] * 60)
        await b.pass_time(2)
        metrics = b.engine.metrics()
        assert metrics.in_flight == 50 * 20
        assert metrics.memory_jobs == 0
        await b.pass_time(100)
        assert {row.status for row in await b.deliveries()} == {DeliveryStatus.DELIVERED}
        await b.stop()

    bench(scenario)


def test_a_replay_does_not_wait_for_the_head_of_an_ordered_endpoint(bench: Any) -> None:
    async def scenario(b: Bench) -> None:
        await b.start(config(endpoint("e", delivery=DeliverySpec(ordering=Ordering.ORDERED))))
        await b.publish(event(data=b"1"))
        await b.pass_time(1)
        (first,) = await b.deliveries()
        b.transport.seconds = 10.0
        await b.publish(event(data=b"2"), event(data=b"3"))
        await b.pass_time(1)
        assert await b.engine.redeliver(first.id) is None
        await b.pass_time(1)
        assert b.transport.under_way["e"] == 2
        await b.pass_time(30)
        await b.stop()

    bodies = [json.loads(one.request.body)["data"] for one in bench(scenario).transport.sent]
    assert bodies == [1, 2, 1, 3]


def test_a_large_batch_for_many_endpoints_is_stored_in_several_transactions(
    bench: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publisher, "TRANSACTION_DELIVERIES", 25)

    async def scenario(b: Bench) -> None:
        await b.start(config(*[endpoint(f"e{n}") for n in range(10)]))
        answers = await b.publish(*[event(data=b"%d" % n) for n in range(7)])
        assert [answer.endpoints for answer in answers if isinstance(answer, Accepted)] == [10] * 7
        await b.pass_time(2)
        assert len(await b.deliveries(status=DeliveryStatus.DELIVERED)) == 70
        await b.lawful()
        await b.stop()

    bench(scenario)


def test_large_payloads_under_way_share_a_bound_and_every_endpoint_has_one_attempt(bench: Any) -> None:
    async def scenario(b: Bench) -> None:
        b.settings = replace(b.settings, attempt_bytes=100_000)
        b.transport.seconds = 5.0
        await b.start(config(*[endpoint(f"e{n}") for n in range(4)]))
        await b.publish(*[event(data=b'"%s"' % (b"x" * 20_000))] * 10)
        await b.pass_time(1)
        under_way = dict(b.transport.under_way)
        assert all(count >= 1 for count in under_way.values())
        assert sum(under_way.values()) <= 4 + 4
        await b.pass_time(200)
        assert len(await b.deliveries(status=DeliveryStatus.DELIVERED)) == 40
        await b.lawful()
        await b.stop()

    bench(scenario)


def test_a_fault_of_ours_in_an_attempt_costs_no_delivery(bench: Any) -> None:
    async def scenario(b: Bench) -> None:
        await b.start(config(endpoint("e")))
        transport: Any = b.transport
        sound, transport.send = transport.send, _faulty
        await b.publish(*[event()] * 30)
        await b.pass_time(1)
        assert b.engine.metrics().in_flight == 0
        transport.send = sound
        await b.pass_time(60)
        assert len(await b.deliveries(status=DeliveryStatus.DELIVERED)) == 30
        await b.lawful()
        await b.stop()

    bench(scenario)


async def _faulty(_request: Any) -> Any:
    raise ZeroDivisionError("on purpose")


def test_recent_deliveries_are_newest_first_behind_a_restart_as_well(bench: Any) -> None:
    async def scenario(b: Bench) -> None:
        await b.start(config(endpoint("e")))
        for _ in range(3):
            await b.publish()
            await b.pass_time(2)
        await b.crash()
        await b.start(config(endpoint("e")))
        await b.publish()
        await b.pass_time(2)
        report = b.engine.endpoint_report("e")
        assert report is not None
        times = [item.time for item in report.recent_deliveries]
        assert times == sorted(times, reverse=True)
        assert len(times) == 4
        await b.stop()

    bench(scenario)
