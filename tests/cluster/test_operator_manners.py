"""What the operator leaves alone, what it writes and how often, and what `kubectl` shows."""

from __future__ import annotations

import json
import time
import uuid
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest

from cluster.operator_fixtures import (
    ACCOUNT,
    World,
    channel,
    endpoint,
    environment,
    event_type,
    eventually,
    keyed,
    secret,
    world,
)
from hookstead.config.report import EndpointActivity, EndpointReport
from hookstead.resources.conditions import Reason

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from cluster.apiserver import ApiServer

ENDPOINT, ENVIRONMENT = "WebhookEndpoint", "WebhookEnvironment"


@pytest.fixture(scope="module")
def shared(api_server: ApiServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    namespace = api_server.create_namespace(f"test-{uuid.uuid4().hex[:12]}")
    with world(api_server, namespace, tmp_path_factory.mktemp("operator")) as made:
        made.apply(environment())
        made.start_operator()
        made.expect(ENVIRONMENT, "default", Ready=("True", "Ready"))
        yield made


@pytest.fixture
def here(api_server: ApiServer, namespace: str, tmp_path: Path) -> Iterator[World]:
    with world(api_server, namespace, tmp_path) as made:
        yield made


def kstatus(body: dict[str, Any]) -> str:
    """The published rules of kstatus for a custom resource (sigs.k8s.io/cli-utils, pkg/kstatus/status/generic.go)."""
    if body["metadata"].get("deletionTimestamp"):
        return "Terminating"
    status = body.get("status") or {}
    observed = status.get("observedGeneration")
    if observed is not None and observed != body["metadata"]["generation"]:
        return "InProgress"
    said = {item["type"]: item["status"] for item in status.get("conditions") or ()}
    if said.get("Reconciling") == "True":
        return "InProgress"
    if said.get("Stalled") == "True":
        return "Failed"
    if "Ready" in said:
        return {"True": "Current"}.get(said["Ready"], "InProgress")
    return "Current"


def test_kstatus_reads_progress_failure_and_success(shared: World) -> None:
    shared.apply(
        endpoint("k-good"),
        endpoint("k-bad", "https://10.0.0.1/"),
        endpoint("k-waits", signing=keyed("k-none")),
    )
    for name, wanted in (("k-good", "Current"), ("k-bad", "Failed"), ("k-waits", "InProgress")):
        eventually(f"{name} {wanted}", lambda: kstatus(shared.get(ENDPOINT, name)) == wanted)  # noqa: B023


def test_an_object_that_nobody_has_seen_is_in_progress(here: World) -> None:
    here.apply(endpoint("unseen"))
    assert here.status(ENDPOINT, "unseen") == {"observedGeneration": -1}
    assert kstatus(here.get(ENDPOINT, "unseen")) == "InProgress"


def test_kubectl_wait_and_columns(shared: World) -> None:
    shared.apply(endpoint("waited"), channel("waited", "client_waited"), event_type("waited.type"))
    for resource in ("whep/waited", "whch/waited", "whet/waited.type", "whenv/default"):
        said = shared.server.kubectl(
            "wait", resource, "--for=condition=Ready", "--timeout=10s", namespace=shared.namespace
        )
        assert "condition met" in said
    wide = shared.server.kubectl("get", "whep", "waited", "-o", "wide", namespace=shared.namespace)
    row = dict(zip(wide.splitlines()[0].split(), wide.splitlines()[1].split(), strict=False))
    assert (row["READY"], row["ACTIVE"], row["HEALTHY"]) == ("True", "True", "Unknown")
    assert "receiver.example.com" in wide
    assert "AllChannels" in wide
    header, row_text, *_ = shared.server.kubectl("get", "whenv", "-o", "wide", namespace=shared.namespace).splitlines()
    assert header.split() == [
        "NAME", "STATE", "READY", "ENDPOINTS", "FAILING", "AGE", "CHANNELS", "EVENTTYPES", "GATEWAY", "REASON",
    ]  # fmt: skip
    assert row_text.split()[:3] == ["default", "Enabled", "True"]


def test_spec_labels_and_annotations_are_never_written(shared: World) -> None:
    body = endpoint("untouched", eventTypes=["a.b"])
    body["metadata"] |= {"labels": {"team": "a"}, "annotations": {"note": "mine"}}
    shared.server.kubectl("apply", "--server-side", "-f", "-", input=json.dumps(body), namespace=shared.namespace)
    shared.expect(ENDPOINT, "untouched", Programmed=("True", "Programmed"))
    now = shared.get(ENDPOINT, "untouched")
    assert now["spec"]["eventTypes"] == ["a.b"]
    assert now["metadata"]["generation"] == 1
    assert now["metadata"]["labels"] == {"team": "a"}
    assert now["metadata"]["annotations"] == {"note": "mine"}
    assert "finalizers" not in now["metadata"]
    owners = {(item["manager"], item.get("subresource")) for item in now["metadata"]["managedFields"]}
    assert all(subresource == "status" for manager, subresource in owners if manager != "kubectl")
    for entry in shared.writes(0):
        if entry.group == "hookstead.dev":
            assert (entry.verb, entry.subresource) == ("patch", "status")


def test_status_fits_its_schema_without_a_warning_field_dropped(shared: World) -> None:
    shared.apply(endpoint("schema"))
    shared.expect(ENDPOINT, "schema", Ready=("True", "Ready"))
    assert "unknown field" not in shared.words()


def test_an_idle_environment_costs_no_write(shared: World) -> None:
    shared.apply(endpoint("idle"))
    shared.expect(ENDPOINT, "idle", Ready=("True", "Ready"))
    deadline = time.monotonic() + 25
    mark = shared.server.audit_mark()
    while time.monotonic() < deadline:  # the environment's own counts may still be written, at most once in 10 s
        time.sleep(5)
        before, mark = mark, shared.server.audit_mark()
        if shared.writes(before) == []:
            break
    time.sleep(2)
    assert shared.writes(mark) == []


def test_an_apply_costs_one_status_write_and_the_own_write_makes_no_other(shared: World) -> None:
    mark = shared.server.audit_mark()
    shared.apply(endpoint("once"))
    shared.expect(ENDPOINT, "once", Ready=("True", "Ready"))
    time.sleep(3)
    written = [entry for entry in shared.writes(mark, resource="webhookendpoints") if entry.name == "once"]
    assert len(written) == 1


def test_a_status_that_somebody_else_wrote_is_put_right(shared: World) -> None:
    shared.apply(endpoint("tampered"))
    shared.expect(ENDPOINT, "tampered", Ready=("True", "Ready"))
    shared.server.kubectl(
        "patch", "whep", "tampered", "--subresource=status", "--type=merge",
        "-p", json.dumps({"status": {"host": "evil.example.com", "conditions": []}}),
        namespace=shared.namespace,
    )  # fmt: skip
    status = shared.expect(ENDPOINT, "tampered", Ready=("True", "Ready"), Active=("True", "Active"))
    assert status["host"] == "receiver.example.com"


def test_transitions_of_one_object_are_at_least_ten_seconds_apart(shared: World) -> None:
    shared.apply(endpoint("flapping"))
    shared.expect(ENDPOINT, "flapping", Ready=("True", "Ready"))
    uid = shared.get(ENDPOINT, "flapping")["metadata"]["uid"]
    mark = shared.server.audit_mark()
    deadline = time.monotonic() + 11.5
    count = 0
    while time.monotonic() < deadline:
        count += 1
        shared.gateway.report_endpoint(
            EndpointReport(name="flapping", uid=uid, held=Reason.CIRCUIT_OPEN if count % 2 else None)
        )
        time.sleep(0.2)
    times = [entry.time for entry in shared.writes(mark, resource="webhookendpoints") if entry.name == "flapping"]
    gaps = [(later - earlier).total_seconds() for earlier, later in pairwise(times)]
    assert len(times) == 2
    assert all(gap >= 9.8 for gap in gaps), gaps


def test_a_reconcile_request_is_echoed_on_every_kind(shared: World) -> None:
    shared.apply(endpoint("asked"), channel("asked", "client_asked"), event_type("asked.type"))
    shared.expect(ENDPOINT, "asked", Ready=("True", "Ready"))
    names = (
        (ENDPOINT, "asked"),
        ("WebhookChannel", "asked"),
        ("WebhookEventType", "asked.type"),
        (ENVIRONMENT, "default"),
    )
    for kind, name in names:
        shared.annotate(kind, name, "hookstead.dev/reconcile-requested-at", "now-1")
    for kind, name in names:
        eventually(
            f"{kind} echoes",
            lambda: shared.status(kind, name).get("lastHandledReconcileAt") == "now-1",  # noqa: B023
            seconds=4,
        )


def test_a_resume_request_reaches_the_gateway_and_its_answer_is_echoed(shared: World) -> None:
    shared.apply(endpoint("resumed"))
    shared.expect(ENDPOINT, "resumed", Ready=("True", "Ready"))
    uid = shared.get(ENDPOINT, "resumed")["metadata"]["uid"]
    shared.gateway.report_endpoint(EndpointReport(name="resumed", uid=uid, held=Reason.GONE))
    shared.expect(ENDPOINT, "resumed", seconds=3, Active=("False", "Gone"))
    shared.annotate(ENDPOINT, "resumed", "hookstead.dev/resume-requested-at", "today")
    eventually("pushed", lambda: shared.gateway.endpoint("resumed").resume_requested_at == "today", seconds=2)
    assert "lastHandledResumeAt" not in shared.status(ENDPOINT, "resumed")
    shared.gateway.report_endpoint(EndpointReport(name="resumed", uid=uid, handled_resume_at="today"))
    status = shared.expect(ENDPOINT, "resumed", seconds=3, Active=("True", "Active"))
    assert status["lastHandledResumeAt"] == "today"


def test_what_a_person_must_act_on_is_an_event_and_a_repetition_is_counted(shared: World) -> None:
    shared.apply(endpoint("evented", signing=keyed("evented-key")))
    shared.expect(ENDPOINT, "evented", ResolvedRefs=("False", "SecretNotFound"))

    def events() -> list[Any]:
        path = f"/api/v1/namespaces/{shared.namespace}/events?fieldSelector=involvedObject.name=evented"
        found: list[Any] = shared.server.request("GET", path)["items"]
        return found

    (event,) = eventually("an Event", events)
    assert (event["reason"], event["type"], event["count"]) == ("SecretNotFound", "Warning", 1)
    assert event["involvedObject"]["kind"] == ENDPOINT
    said = shared.server.kubectl("events", "--for", "webhookendpoint/evented", namespace=shared.namespace)
    assert "SecretNotFound" in said
    shared.apply(secret("evented-key"))
    shared.expect(ENDPOINT, "evented", Ready=("True", "Ready"))
    shared.apply(endpoint("evented", signing=keyed("evented-other")))
    shared.expect(ENDPOINT, "evented", ResolvedRefs=("False", "SecretNotFound"))
    eventually("counted", lambda: [item["count"] for item in events()] == [2])


def test_a_generated_secret_is_owned_labelled_and_goes_with_its_endpoint(shared: World) -> None:
    shared.apply(endpoint("generated"))
    shared.expect(ENDPOINT, "generated", Ready=("True", "Ready"))
    body = shared.secret("generated-signing")
    assert body is not None
    (owner,) = body["metadata"]["ownerReferences"]
    uid = shared.get(ENDPOINT, "generated")["metadata"]["uid"]
    assert owner == {
        "apiVersion": "hookstead.dev/v1alpha1",
        "kind": ENDPOINT,
        "name": "generated",
        "uid": uid,
        "controller": True,
        "blockOwnerDeletion": False,
    }
    assert body["metadata"]["labels"]["hookstead.dev/endpoint-secret"] == "true"
    assert list(body["data"]) == ["key"]
    shared.delete(ENDPOINT, "generated")
    eventually("collected", lambda: shared.secret("generated-signing") is None)
    shared.apply(endpoint("generated"))
    shared.expect(ENDPOINT, "generated", Ready=("True", "Ready"))
    again = shared.secret("generated-signing")
    assert again is not None
    assert again["data"] != body["data"]


def test_a_generated_secret_that_was_deleted_is_made_anew(shared: World) -> None:
    shared.apply(endpoint("lost-key"))
    shared.expect(ENDPOINT, "lost-key", Ready=("True", "Ready"))
    shared.server.kubectl("delete", "secret", "lost-key-signing", namespace=shared.namespace)
    eventually("made anew", lambda: shared.secret("lost-key-signing"))
    shared.expect(ENDPOINT, "lost-key", Ready=("True", "Ready"))


@pytest.mark.parametrize("labelled", [True, False])
def test_a_foreign_secret_of_the_generated_name_is_left_alone(shared: World, labelled: bool) -> None:
    name = f"foreign-{str(labelled).lower()}"
    foreign = secret(f"{name}-signing", labels=None if labelled else {})
    shared.apply(foreign, endpoint(name))
    shared.expect(
        ENDPOINT, name, ResolvedRefs=("False", "SecretNotPermitted"), Reconciling=("True", "SecretNotPermitted")
    )
    body = shared.secret(f"{name}-signing")
    assert body is not None
    assert "ownerReferences" not in body["metadata"]
    assert shared.gateway.endpoint(name).keys == ()
    shared.server.kubectl("delete", "secret", f"{name}-signing", namespace=shared.namespace)
    shared.expect(ENDPOINT, name, Ready=("True", "Ready"))


def test_deletion_waits_for_nobody_while_the_operator_is_away(here: World) -> None:
    here.start_operator()
    here.apply(environment(), endpoint("left"), channel("left", "client_left"))
    here.expect(ENDPOINT, "left", Ready=("True", "Ready"))
    assert here.stop_operator() == 0
    here.server.kubectl("delete", "whep", "left", "--timeout=10s", namespace=here.namespace)
    here.server.kubectl("delete", "namespace", here.namespace, "--timeout=30s")


def test_the_account_may_nothing_beyond_its_namespace(here: World) -> None:
    here.start_operator()
    here.apply(environment())
    here.expect(ENVIRONMENT, "default", Ready=("True", "Ready"))
    user = f"system:serviceaccount:{here.namespace}:{ACCOUNT}"
    mine = [entry for entry in here.server.audit_entries() if entry.user == user]
    assert [entry for entry in mine if entry.code == 403] == []
    assert {entry.namespace for entry in mine if entry.resource} <= {here.namespace}


def test_the_token_and_the_certificate_of_the_internal_port_are_made_once(here: World) -> None:
    here.start_operator()
    body = eventually("hookstead-internal", lambda: here.secret("hookstead-internal"))
    assert set(body["data"]) == {"token", "ca.crt", "tls.crt", "tls.key"}
    pushes = here.gateway.pushes
    eventually("the first has claimed its term", lambda: pushes, seconds=45)
    assert here.stop_operator() == 0
    here.start_operator()
    eventually("pushed", lambda: pushes and pushes[-1][0].startswith("2."), seconds=45)
    again = here.secret("hookstead-internal")
    assert again is not None
    assert again["data"] == body["data"]


def test_activity_is_written_at_once_and_then_once_a_period(here: World) -> None:
    here.start_operator()
    here.apply(environment(statusReporting={"periodSeconds": 30}), endpoint("busy"))
    here.expect(ENDPOINT, "busy", Ready=("True", "Ready"))
    uid = here.get(ENDPOINT, "busy")["metadata"]["uid"]
    mark = here.server.audit_mark()
    deadline = time.monotonic() + 5
    count = 0
    while time.monotonic() < deadline:
        count += 1
        when = f"2026-01-31T12:00:{count % 60:02d}.000Z"
        activity = EndpointActivity(succeeded=count, last_attempt_time=when, last_success_time=when)
        here.gateway.report_endpoint(EndpointReport(name="busy", uid=uid, activity=activity))
        time.sleep(0.1)
    written = [entry for entry in here.writes(mark, resource="webhookendpoints") if entry.name == "busy"]
    assert len(written) == 1, "the transition to Healthy carries the activity; the rest waits for the period"
