"""Corners between operator and gateway that a change at an unlucky moment reaches."""

from __future__ import annotations

import base64
import os
import time
from typing import TYPE_CHECKING, Any

import pytest
import standardwebhooks

from cluster.contract_site import (
    CHANNEL,
    ENDPOINT,
    ENVIRONMENT,
    RECONCILE,
    REPLAY,
    RESUME,
    Site,
    channel,
    conditions,
    environment,
    event_type,
    replay,
    running_site,
    secret,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cluster.apiserver import ApiServer

FOREIGN: dict[str, Any] = {"plaintextHTTP": "Allow", "privateNetworks": "Allow", "allowedCIDRs": ["8.8.8.0/24"]}


@pytest.fixture(scope="module")
def site(api_server: ApiServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    yield from running_site(api_server, tmp_path_factory.mktemp("edges"))


@pytest.fixture(scope="module")
def suspending(site: Site) -> list[str]:
    """Endpoints that fail without a pause; they are suspended after a minute."""
    names = [site.name("suspend"), site.name("suspend-auto")]
    site.apply(environment(suspendAfterSeconds=60))
    for name, breaker in zip(names, ("None", "Auto"), strict=True):
        site.receiver.on(f"/{name}", 500)
        retries = {"retry": {"scheduleSeconds": [3] * 24}, "circuitBreaker": breaker}
        site.apply(site.endpoint(name, delivery=retries))
        site.ready(name)
        site.publish(name)
        site.publish(name)
    return names


@pytest.mark.usefixtures("suspending")
def test_requests_are_echoed_where_there_is_nothing_to_do(site: Site) -> None:
    name = site.name()
    site.apply(site.endpoint(name), replay(name, name))
    site.ready(name)
    site.annotate(ENDPOINT, name, RESUME, "nothing held")
    site.annotate(ENVIRONMENT, "default", RECONCILE, "again")
    site.kubectl("wait", "--for=condition=Complete", f"whrp/{name}", "--timeout=20s")
    site.annotate(REPLAY, name, RECONCILE, "again")
    site.eventually(lambda: site.status(ENDPOINT, name).get("lastHandledResumeAt") == "nothing held", "resume")

    def echoed() -> bool:
        told = (site.status(ENVIRONMENT, "default"), site.status(REPLAY, name))
        return all(status.get("lastHandledReconcileAt") == "again" for status in told)

    site.eventually(echoed, "the echo")


def test_the_environment_counts_what_there_is(site: Site) -> None:
    name = site.name()
    site.apply(
        channel(name, name), event_type(name), site.endpoint(name), site.endpoint(f"{name}-off", state="Disabled")
    )
    site.ready(name, f"{name}-off")

    def right() -> bool:
        items = site.server.request("GET", site.path(ENDPOINT))["items"]
        told = site.status(ENVIRONMENT, "default")
        said = [conditions(item) for item in items]
        return bool(
            told["endpoints"]
            == {
                "total": len(items),
                "ready": sum(one["Ready"][0] == "True" for one in said),
                "active": sum(one["Active"][0] == "True" for one in said),
                "failing": sum(one["Healthy"][0] == "False" for one in said),
            }
            and told["channels"] >= 1
            and told["eventTypes"] >= 1
            and told["gateway"]["replicas"] == told["gateway"]["programmedReplicas"] == 1
            and told["gateway"]["version"]
            and told["config"]["hash"]
            and told["config"]["sizeBytes"] > 0
        )

    site.eventually(right, "the counts of the environment", seconds=25)


def test_a_channel_that_goes_narrows_and_never_widens(site: Site) -> None:
    name = site.name()
    site.apply(channel(name, f"client_{name}"), site.endpoint(name, channelRefs=[{"name": name}]))
    site.ready(name)
    site.delete(CHANNEL, name)
    site.expect(ENDPOINT, name, ResolvedRefs=("False", "ChannelNotFound"))
    assert site.publish(name, channels=[f"client_{name}"])["endpoints"] == 0
    assert site.publish(name)["endpoints"] == 0


def test_a_secret_url_that_turns_to_a_denied_address_is_invalid(site: Site) -> None:
    name = site.name()
    refs = {"urlFrom": {"secretKeyRef": {"name": name, "key": "url"}}}
    site.apply(secret(name, url=f"{site.receiver.url}/{name}"), site.endpoint(name, **refs))
    site.ready(name)
    site.apply(secret(name, url="http://169.254.169.254/latest?secret=1"))
    told = site.expect(ENDPOINT, name, Accepted=("False", "InvalidSpec"), Stalled=("True", "InvalidSpec"))
    assert "secret=1" not in str(told)
    assert "latest" not in str(told)
    assert site.publish(name)["endpoints"] == 0


def test_types_need_not_be_declared_where_nothing_is_validated(site: Site) -> None:
    name = site.name()
    site.apply(site.endpoint(name, eventTypes=[f"{name}.made"]))
    site.expect(ENDPOINT, name, ResolvedRefs=("False", "EventTypeNotFound"))
    try:
        site.apply(environment(eventValidation="None", suspendAfterSeconds=60))
        site.expect(ENDPOINT, name, Ready=("True", "Ready"))
        site.apply(environment(eventValidation="Enforce", suspendAfterSeconds=60))
        site.eventually(lambda: publishes(site, name) == 422, "an unknown type is refused", seconds=5)
    finally:
        site.apply(environment(suspendAfterSeconds=60))


def publishes(site: Site, name: str) -> int:
    body = f'{{"type":"{name}.made","data":{{}}}}'.encode()
    return site.ask("POST", "/v1/events", body=body, headers={"content-type": "application/json"}).status


def test_an_invalid_environment_keeps_its_last_valid_form_over_restarts(site: Site) -> None:
    name = site.name()
    site.apply(site.endpoint(name))
    site.ready(name)
    assert site.operator is not None
    try:
        site.apply(environment(egress=FOREIGN, suspendAfterSeconds=60))
        site.expect(ENVIRONMENT, "default", Accepted=("False", "InvalidSpec"), Stalled=("True", "InvalidSpec"))
        site.operator.kill()
        site.start_operator()
        later = site.name()
        site.apply(site.endpoint(later))
        site.ready(later, seconds=30)
        assert site.publish(later)["endpoints"] == 1
        site.receiver.wait(f"/{later}", 1)
    finally:
        site.apply(environment(suspendAfterSeconds=60))
    site.ready("default", kind=ENVIRONMENT, seconds=25)


def test_a_configuration_of_several_shards_arrives(site: Site) -> None:
    name = site.name()
    for number in range(30):
        noise = base64.b64encode(os.urandom(45_000)).decode()
        site.apply(event_type(f"{name}-{number}", f"{name}.n{number}", sample={"noise": noise}))
    site.apply(site.endpoint(name))
    site.ready(name)
    site.ready(f"{name}-29", kind="WebhookEventType")
    assert site.publish(name)["endpoints"] == 1
    site.eventually(lambda: site.secret("hookstead-config-1"), "a second shard")
    for number in (0, 1):
        body = site.secret(f"hookstead-config-{number}")
        assert body is not None
        assert len(base64.b64decode(body["data"][f"config-{number}.json.gz"])) < 900 * 1024
    for number in range(30):
        site.delete("WebhookEventType", f"{name}-{number}")


def test_an_endpoint_made_anew_gets_a_key_of_its_own_once_the_old_one_is_collected(site: Site) -> None:
    name = site.name()
    site.apply(site.endpoint(name, state="Paused"))
    site.ready(name)
    site.publish(name)
    old = site.secret(f"{name}-signing")
    site.delete(ENDPOINT, name)
    site.apply(site.endpoint(name))
    site.ready(name, seconds=60)
    new = site.secret(f"{name}-signing")
    assert old is not None
    assert new is not None
    assert new["data"] != old["data"]
    event = site.publish(name)
    (request,) = site.receiver.wait(f"/{name}", 1)
    assert request.id == event["id"], "what waited for the old one is not for the new one"
    standardwebhooks.Webhook(base64.b64decode(new["data"]["key"]).decode()).verify(request.body, request.headers)
    cancelled = [item["cancelReason"] for item in site.deliveries(name) if item["status"] == "Cancelled"]
    assert cancelled == ["EndpointDeleted"]


def test_suspension_after_a_minute_and_resume(site: Site, suspending: list[str]) -> None:
    for name in suspending:
        site.expect(ENDPOINT, name, seconds=100, Active=("False", "Suspended"), Ready=("True", "Ready"))
    before = [len(site.receiver.received(f"/{name}")) for name in suspending]
    for name in suspending:
        assert site.publish(name)["endpoints"] == 1
        site.receiver.on(f"/{name}", 204)
    time.sleep(3)
    assert [len(site.receiver.received(f"/{name}")) for name in suspending] == before
    for name in suspending:
        assert {item["status"] for item in site.deliveries(name)} == {"Pending"}
        site.annotate(ENDPOINT, name, RESUME, "now")
    for name in suspending:
        site.expect(ENDPOINT, name, seconds=20, Active=("True", "Active"), Healthy=("True", "Succeeding"))
        assert {item["status"] for item in site.deliveries(name)} == {"Delivered"}


def test_an_environment_that_was_never_valid_counts_as_disabled(site: Site) -> None:
    """Also when one of that name was valid before: it was another object."""
    name = site.name()
    site.apply(site.endpoint(name))
    site.ready(name)
    site.delete(ENVIRONMENT, "default")
    site.expect(ENDPOINT, name, Accepted=("False", "EnvironmentMissing"))
    site.apply(environment(egress=FOREIGN))
    site.expect(ENVIRONMENT, "default", Accepted=("False", "InvalidSpec"), Active=("False", "EnvironmentDisabled"))
    site.publish(name, status=403)
