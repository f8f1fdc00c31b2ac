"""From `kubectl apply` to the receiver and back into status: keys, Secrets, replays, what is told and what never is."""

from __future__ import annotations

import base64
import json
import time
from datetime import datetime
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest
import standardwebhooks

from cluster.apiserver import KubectlError
from cluster.child import free_port
from cluster.contract_certificates import Authority, TlsReceiver
from cluster.contract_site import (
    CHANNEL,
    ENDPOINT,
    ENVIRONMENT,
    KINDS,
    REPLAY,
    Site,
    channel,
    conditions,
    environment,
    event_type,
    keyed,
    new_key,
    replay,
    running_site,
    secret,
)
from contract.processes import Answer, Received, until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from cluster.apiserver import ApiServer

CANARY = "canary7f3a"


@pytest.fixture(scope="module")
def site(api_server: ApiServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    yield from running_site(api_server, tmp_path_factory.mktemp("site"))


def verifies(key: str, request: Received) -> bool:
    try:
        standardwebhooks.Webhook(key).verify(request.body, request.headers)
    except standardwebhooks.WebhookVerificationError:
        return False
    return True


def generated_key(site: Site, endpoint: str) -> str:
    body = site.secret(f"{endpoint}-signing")
    assert body is not None
    return base64.b64decode(body["data"]["key"]).decode()


# -------------------------------------------------------------------------------------------- what is applied


def test_an_endpoint_applies_within_two_seconds(site: Site) -> None:
    name = site.name()
    for path in ("first", "second"):
        body = site.endpoint(name, url=f"{site.receiver.url}/{name}/{path}")
        site.kubectl("apply", "-f", "-", input=json.dumps(body))
        time.sleep(2)
        assert site.publish(name)["endpoints"] == 1
        site.receiver.wait(f"/{name}/{path}", 1)
    assert len(site.receiver.received(f"/{name}/first")) == 1


def test_a_commit_in_any_order_becomes_ready_and_delivers(site: Site) -> None:
    name = site.name()
    key = new_key()
    objects = [
        site.endpoint(
            name, channelRefs=[{"name": name}], eventTypes=[f"{name}.made"], signing=keyed(("main", f"{name}-key"))
        ),
        event_type(name),
        channel(name, f"client_{name}"),
        secret(f"{name}-key", key=key),
    ]
    site.kubectl("apply", "-f", "-", input=json.dumps({"apiVersion": "v1", "kind": "List", "items": objects}))
    site.kubectl("wait", "--for=condition=Ready", f"whep/{name}", f"whch/{name}", f"whet/{name}", "--timeout=20s")
    site.publish(name, {"a": 1}, channels=[f"client_{name}"])
    (request,) = site.receiver.wait(f"/{name}", 1)
    assert verifies(key, request)
    assert site.status(CHANNEL, name)["endpoints"] == 1


# ------------------------------------------------------------------------------------------------ signing keys


def test_a_generated_key_is_labelled_owned_and_goes_with_its_endpoint(site: Site) -> None:
    name = site.name()
    site.apply(site.endpoint(name))
    site.ready(name)
    body = site.secret(f"{name}-signing")
    assert body is not None
    assert body["metadata"]["labels"]["hookstead.dev/endpoint-secret"] == "true"
    (owner,) = body["metadata"]["ownerReferences"]
    uid = site.get(ENDPOINT, name)["metadata"]["uid"]
    assert owner == {
        "apiVersion": "hookstead.dev/v1alpha1",
        "kind": ENDPOINT,
        "name": name,
        "uid": uid,
        "controller": True,
        "blockOwnerDeletion": False,
    }
    key = generated_key(site, name)
    assert key.startswith("whsec_")
    assert len(base64.b64decode(key.removeprefix("whsec_"), validate=True)) == 32
    site.publish(name)
    assert verifies(key, site.receiver.wait(f"/{name}", 1)[0])
    assert not site.get(ENDPOINT, name)["metadata"].get("finalizers")
    site.delete(ENDPOINT, name)
    # The garbage collector learns of new kinds twice a minute.
    site.eventually(lambda: site.secret(f"{name}-signing") is None, "the Secret is collected", seconds=60)


@pytest.mark.parametrize("labelled", [True, False])
def test_a_foreign_secret_of_the_generated_name_is_left_alone(site: Site, labelled: bool) -> None:
    name, key = site.name(), new_key()
    site.apply(secret(f"{name}-signing", labels=None if labelled else {}, key=key))
    before = site.secret(f"{name}-signing")
    site.apply(site.endpoint(name))
    site.expect(
        ENDPOINT, name, ResolvedRefs=("False", "SecretNotPermitted"), Reconciling=("True", "SecretNotPermitted")
    )
    assert site.secret(f"{name}-signing") == before
    site.publish(name)
    time.sleep(0.5)
    assert site.receiver.received(f"/{name}") == []


def test_a_key_is_rotated_in_two_commits(site: Site) -> None:
    name, old, new = site.name(), new_key(), new_key()
    site.apply(secret(f"{name}-old", key=old), secret(f"{name}-new", key=new))

    def commit(*keys: tuple[str, str]) -> Received:
        site.apply(site.endpoint(name, signing=keyed(*keys)))
        wanted = [key for key, _ in keys]
        site.eventually(
            lambda: site.status(ENDPOINT, name).get("signing", {}).get("activeKeyIDs") == wanted, f"active: {wanted}"
        )
        seen = len(site.receiver.received(f"/{name}"))
        site.publish(name)
        return site.receiver.wait(f"/{name}", seen + 1)[-1]

    first = commit(("old", f"{name}-old"))
    assert (verifies(old, first), verifies(new, first)) == (True, False)
    both = commit(("new", f"{name}-new"), ("old", f"{name}-old"))
    assert (verifies(old, both), verifies(new, both)) == (True, True)
    assert len(both.headers["webhook-signature"].split()) == 2
    last = commit(("new", f"{name}-new"))
    assert (verifies(old, last), verifies(new, last)) == (False, True)


def test_a_key_whose_secret_changes_signs_with_the_new_one(site: Site) -> None:
    name, old, new = site.name(), new_key(), new_key()
    site.apply(secret(name, key=old), site.endpoint(name, signing=keyed(("main", name))))
    site.ready(name)
    site.apply(secret(name, key=new))

    def signs_with_new() -> bool:
        seen = len(site.receiver.received(f"/{name}"))
        site.publish(name)
        return verifies(new, site.receiver.wait(f"/{name}", seen + 1)[-1])

    site.eventually(signs_with_new, "the new key signs", seconds=5)


def test_a_key_that_has_expired_signs_no_more(site: Site) -> None:
    name, old, new = site.name(), new_key(), new_key()
    expiry = time.time() + 4
    spec = keyed(("new", f"{name}-new"), ("old", f"{name}-old"))
    spec["keys"][1]["notAfterTime"] = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(expiry))
    site.apply(secret(f"{name}-old", key=old), secret(f"{name}-new", key=new), site.endpoint(name, signing=spec))
    told = site.expect(ENDPOINT, name, Ready=("True", "Ready"))["signing"]
    assert told["activeKeyIDs"] == ["new", "old"]
    assert datetime.fromisoformat(told["nextExpiryTime"]).timestamp() == int(expiry)
    site.eventually(
        lambda: site.status(ENDPOINT, name)["signing"] == {"activeKeyIDs": ["new"]}, "the expiry in status", seconds=20
    )
    site.publish(name)
    request = site.receiver.wait(f"/{name}", 1)[0]
    assert (verifies(old, request), verifies(new, request)) == (False, True)


# ---------------------------------------------------------------------------------------------- what holds back


def test_an_unreadable_key_holds_and_never_sends_unsigned(site: Site) -> None:
    name, key = site.name(), new_key()
    site.apply(secret(name, key=key), site.endpoint(name, signing=keyed(("main", name))))
    site.ready(name)
    site.server.request("DELETE", f"{site.path('Secret')}/{name}")
    site.expect(ENDPOINT, name, Active=("False", "SecretNotFound"), ResolvedRefs=("False", "SecretNotFound"))
    assert site.publish(name)["endpoints"] == 1, "it is held as Pending"
    time.sleep(0.5)
    assert site.receiver.received(f"/{name}") == []
    (delivery,) = site.deliveries(name)
    assert (delivery["status"], delivery["attemptCount"]) == ("Pending", 0)
    site.apply(secret(name, key=key))
    assert verifies(key, site.receiver.wait(f"/{name}", 1)[0])


def test_an_endpoint_edited_into_something_invalid_holds_what_waits(site: Site) -> None:
    name = site.name()
    site.receiver.on(f"/{name}", 500)
    site.apply(site.endpoint(name))
    site.ready(name)
    site.publish(name)
    site.receiver.wait(f"/{name}", 1)
    site.apply(site.endpoint(name, filter="event.nothing == 1"))
    site.expect(ENDPOINT, name, Accepted=("False", "FilterInvalid"), Active=("False", "FilterInvalid"))
    seen = len(site.receiver.received(f"/{name}"))
    assert site.publish(name)["endpoints"] == 0
    time.sleep(2.5)
    assert len(site.receiver.received(f"/{name}")) == seen, "its last valid form is not used"
    assert [item["status"] for item in site.deliveries(name)] == ["Pending"]
    site.receiver.on(f"/{name}", 204)
    site.apply(site.endpoint(name))
    site.eventually(lambda: [item["status"] for item in site.deliveries(name)] == ["Delivered"], "it goes on")


def test_what_waits_is_held_when_the_policy_tightens(site: Site) -> None:
    name = site.name()
    site.receiver.on(f"/{name}", 500)
    site.apply(site.endpoint(name, delivery={"retry": {"scheduleSeconds": [1, 1, 1, 1]}}))
    site.ready(name)
    site.publish(name)
    site.receiver.wait(f"/{name}", 1)
    try:
        site.apply(environment(egress={"plaintextHTTP": "Deny"}))
        site.expect(ENDPOINT, name, seconds=20, Accepted=("False", "InvalidSpec"), Active=("False", "InvalidSpec"))
        assert [item["status"] for item in site.deliveries(name)] == ["Pending"]
    finally:
        site.receiver.on(f"/{name}", 204)
        site.apply(environment())
    site.eventually(lambda: [item["status"] for item in site.deliveries(name)] == ["Delivered"], "it goes on")
    site.ready("default", kind=ENVIRONMENT)


# --------------------------------------------------------------------------------------------- what Secrets give


def test_url_and_headers_come_from_secrets_and_follow_them(site: Site) -> None:
    name = site.name()
    url = f"{site.receiver.url}/{name}/one"
    refs = {name_: {"secretKeyRef": {"name": name, "key": name_}} for name_ in ("url", "token")}
    spec = {
        "urlFrom": refs["url"],
        "headers": [{"name": "x-token", "valueFrom": refs["token"]}, {"name": "x-plain", "value": "as it is"}],
    }
    site.apply(site.endpoint(name, **spec))
    site.expect(ENDPOINT, name, ResolvedRefs=("False", "SecretNotFound"))
    site.apply(secret(name, url=f"{url}\n", token="t0ken\n"))
    # The transition may wait for ten seconds, the gateway does not.
    site.eventually(lambda: site.publish(name) and site.receiver.received(f"/{name}/one"), "deliveries", seconds=5)
    request = site.receiver.received(f"/{name}/one")[0]
    assert (request.headers["x-token"], request.headers["x-plain"]) == ("t0ken", "as it is")
    site.apply(secret(name, url=f"{site.receiver.url}/{name}/two", token="other"))
    site.eventually(lambda: site.publish(name) and site.receiver.received(f"/{name}/two"), "the new URL", seconds=5)
    assert site.receiver.received(f"/{name}/two")[0].headers["x-token"] == "other"
    assert site.expect(ENDPOINT, name, Ready=("True", "Ready"))["host"] == "127.0.0.1"


def test_a_private_authority_and_a_client_certificate(site: Site, tmp_path: Path) -> None:
    authority = Authority()
    with TlsReceiver(authority, tmp_path) as tls:
        name = site.name()
        certificate, key = authority.issue("client")
        server_ca, client = f"{name}-ca", f"{name}-client"
        pair: dict[str, Any] = {"tls.crt": certificate, "tls.key": key}
        trusted: dict[str, Any] = {"ca.crt": authority.certificate}
        site.apply(secret(server_ca, **trusted), secret(client, **pair))
        both = {"caSecretRef": {"name": server_ca}, "clientCertSecretRef": {"name": client}}
        trusting, plain = f"{name}-trusting", f"{name}-plain"
        site.apply(
            site.endpoint(trusting, url=f"{tls.url}/{trusting}", eventTypes=[f"{name}.*"], tls=both),
            site.endpoint(plain, url=f"{tls.url}/{plain}", eventTypes=[f"{name}.*"]),
        )
        site.ready(trusting, plain)
        assert site.publish(name)["endpoints"] == 2
        site.expect(ENDPOINT, trusting, Healthy=("True", "Succeeding"))
        told = site.expect(ENDPOINT, plain, Healthy=("False", "Failing"))
        assert tls.paths == [f"/{trusting}"]
        assert told["recentDeliveries"][0]["statusCode"] == 0
        site.apply(secret(f"{name}-odd", **pair | {"tls.key": Authority().issue("client")[1]}))
        site.apply(site.endpoint(f"{name}-odd", tls={"clientCertSecretRef": {"name": f"{name}-odd"}}))
        site.expect(ENDPOINT, f"{name}-odd", ResolvedRefs=("False", "SecretInvalid"))


# ------------------------------------------------------------------------------------------------ what is told


def test_recent_deliveries_have_the_fields_of_the_contract(site: Site) -> None:
    name = site.name()
    site.receiver.on(f"/{name}", 500, 204)
    site.apply(site.endpoint(name))
    site.ready(name)
    event = site.publish(name)
    told = site.expect(ENDPOINT, name, Healthy=("False", "Failing"))
    (failed,) = told["recentDeliveries"]
    assert {"id", "eventType", "time", "attempt", "outcome", "statusCode", "durationMilliseconds"} <= failed.keys()
    assert failed.keys() <= {*RECENT, "nextAttemptTime", "message"}
    (delivery,) = site.deliveries(name)
    assert delivery["eventId"] == event["id"]
    assert failed["id"] == delivery["id"]
    assert (failed["eventType"], failed["attempt"], failed["outcome"]) == (f"{name}.made", 1, "Failed")
    assert failed["statusCode"] == 500
    assert failed["nextAttemptTime"] > failed["time"]
    # Health flips, with the newest first; at most one transition every ten seconds.
    told = site.expect(ENDPOINT, name, seconds=20, Healthy=("True", "Succeeding"))
    newest, oldest = told["recentDeliveries"]
    assert (newest["attempt"], newest["outcome"], newest["statusCode"]) == (2, "Succeeded", 204)
    assert "nextAttemptTime" not in newest
    assert oldest["attempt"] == 1
    activity = told["activity"]
    assert (activity["succeeded"], activity["failed"], activity["consecutiveFailures"]) == (1, 1, 0)
    assert activity["lastAttemptTime"] == activity["lastSuccessTime"]


RECENT = {"id", "eventType", "time", "attempt", "outcome", "statusCode", "durationMilliseconds"}


def test_the_delivery_log_follows_the_environment(site: Site) -> None:
    def log_of(reporting: dict[str, Any], answers: list[int]) -> list[str]:
        name = site.name()
        site.receiver.on(f"/{name}", *answers)
        site.apply(environment(statusReporting={"periodSeconds": 30, **reporting}), site.endpoint(name, state="Paused"))
        site.ready(name)
        for _ in answers:
            site.publish(name)
        one_try = {"delivery": {"retry": {"scheduleSeconds": [600]}, "maxInFlight": 1}}
        site.apply(site.endpoint(name, **one_try))
        site.receiver.wait(f"/{name}", len(answers))
        site.eventually(
            lambda: (
                (activity := site.status(ENDPOINT, name).get("activity"))
                and activity["succeeded"] + activity["failed"] == len(answers)
            ),
            "all attempts in status",
            seconds=45,
        )
        return [line["outcome"] for line in site.status(ENDPOINT, name).get("recentDeliveries", ())]

    try:
        assert log_of({"deliveryLog": "None"}, [204, 500]) == []
        assert log_of({"deliveryLog": "FailuresOnly"}, [204, 500, 204]) == ["Failed"]
        assert log_of({"deliveryLog": "All", "deliveryLogLimit": 2}, [204, 500, 204]) == ["Succeeded", "Failed"]
    finally:
        site.apply(environment())


def test_columns_are_filled(site: Site) -> None:
    name = site.name()
    site.apply(channel(name, f"client_{name}", description="A customer"), event_type(name, group="things"))
    site.apply(site.endpoint(name, channelRefs=[{"name": name}]))
    site.ready(name)
    site.publish(name, channels=[f"client_{name}"])
    site.expect(ENDPOINT, name, Healthy=("True", "Succeeding"))
    site.eventually(lambda: "activity" in site.status(CHANNEL, name), "the channel's activity", seconds=10)

    def row(kind: str, object_name: str) -> list[str]:
        header, line = site.kubectl("get", kind, object_name, "-o", "wide").splitlines()
        starts = [header.index(word) for word in header.split()] + [len(line) + 99]
        cells = [line[begin:end].strip() for begin, end in pairwise(starts)]
        return [cell for cell, word in zip(cells, header.split(), strict=True) if word not in ("AGE", "LAST-DELIVERY")]

    assert row("whep", name) == [name, "True", "True", "True", "0", "127.0.0.1", "SelectedChannels", "0", "Ready"]
    assert row("whch", name)[:4] == [name, f"client_{name}", "True", "1"]
    assert row("whch", name)[-1] == "A customer"
    assert row("whet", name)[:6] == [name, f"{name}.made", "True", "1", "things", "Active"]
    assert row("whenv", "default")[:3] == ["default", "Enabled", "True"]
    assert row("whenv", "default")[-1] == "Ready"


def test_nothing_secret_is_ever_told(site: Site) -> None:
    site.apply(
        secret(
            "canary-values",
            url=f"{site.receiver.url}/{CANARY}-path?{CANARY}-query=1",
            bad_url=f"ftp://{CANARY}-bad/{CANARY}",
            header=f"{CANARY}-header",
            bad_header=f"{CANARY}\x01header",
            key=f"whsec_{CANARY}",
        )
    )
    values = "canary-values"
    refs = {key: {"secretKeyRef": {"name": values, "key": key}} for key in ("url", "bad_url", "header", "bad_header")}
    types = {"eventTypes": ["canary.*"]}
    closed = free_port()
    specs: dict[str, dict[str, Any]] = {
        "canary-plain": {"url": f"{site.receiver.url}/{CANARY}-p?q={CANARY}"},
        "canary-from": {"urlFrom": refs["url"], "headers": [{"name": "x-a", "valueFrom": refs["header"]}]},
        "canary-literal": {"headers": [{"name": "x-a", "value": CANARY}]},
        "canary-bad-url": {"urlFrom": refs["bad_url"]},
        "canary-bad-header": {"headers": [{"name": "x-a", "valueFrom": refs["bad_header"]}]},
        "canary-bad-key": {"signing": keyed(("main", values))},
        "canary-refused": {"url": f"http://127.0.0.1:{closed}/{CANARY}?{CANARY}"},
        "canary-tls": {"url": f"https://127.0.0.1:{site.receiver.port}/{CANARY}?{CANARY}"},
        "canary-garbage": {},
        "canary-status": {},
        "canary-redirect": {},
        "canary-drip": {"delivery": {"timeoutSeconds": 1}},
        "canary-filter": {"filter": f"event.data.missing == '{CANARY[::-1]}'"},
        "canary-denied": {"url": f"http://10.9.9.9/{CANARY}?{CANARY}"},
    }
    body = CANARY.encode()
    site.receiver.on("/canary-garbage", Answer(raw=b"HTTP/9.9 " + body + b"\r\n" + body + b"\r\n\r\n"))
    site.receiver.on(
        "/canary-status",
        Answer(raw=b"HTTP/1.1 500 " + body + b"\r\nx-a: " + body + b"\r\ncontent-length: 10\r\n\r\n" + body),
    )
    site.receiver.on("/canary-redirect", Answer(302, headers={"location": f"http://127.0.0.1/{CANARY}"}, body=body))
    site.receiver.on("/canary-drip", Answer(200, body=body, headers={"content-length": "99"}, stall=3))
    site.apply(
        event_type(
            "canary",
            "canary.made",
            schema={"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["z"]},
        ),
        *(site.endpoint(name, **types | spec) for name, spec in specs.items()),
    )
    site.ready("canary-plain", "canary-from", "canary-garbage")
    for value in ("url", "header", "key"):
        site.expect(ENDPOINT, f"canary-bad-{value}", Ready=("False", "SecretInvalid"))
    site.publish("canary", {"a": CANARY}, id=f"caller-{CANARY}")
    body_text = json.dumps({"type": "canary.made", "data": {"a": CANARY}, CANARY: 1}).encode()
    assert site.ask("POST", "/v1/events", body=body_text, headers={"content-type": "application/json"}).status == 400
    assert site.ask("POST", "/v1/events", body=b"{" + body, headers={"authorization": CANARY}).status >= 400
    site.apply(replay("canary", "canary-status", select="All"))
    for name in ("garbage", "status", "redirect", "drip", "refused", "tls"):
        site.expect(ENDPOINT, f"canary-{name}", seconds=20, Healthy=("False", "Failing"))
    assert site.receiver.received(f"/{CANARY}-path?{CANARY}-query=1")[0].headers["x-a"] == f"{CANARY}-header"
    told = {kind: site.server.request("GET", site.path(kind))["items"] for kind in (*KINDS, "Event")}
    for kind, items in told.items():
        for item in items:
            shown = (
                item
                if kind == "Event"
                else {"status": item["status"], "annotations": item["metadata"].get("annotations")}
            )
            assert CANARY not in json.dumps(shown), (kind, item["metadata"]["name"], shown)
    for path in ("/v1/endpoints", "/v1/environment", "/v1/channels", "/v1/event-types", "/v1/replays", "/v1/activity"):
        assert CANARY not in site.ask("GET", path).text
    assert CANARY not in site.ask("GET", "/v1/deliveries").text
    leaks = [line for line in site.logs().splitlines() if CANARY in line]
    assert not leaks
    keys = [generated_key(site, name) for name in specs if site.secret(f"{name}-signing")]
    assert keys
    everything = json.dumps(told) + site.logs()
    assert not [key for key in keys if key in everything or key.removeprefix("whsec_") in everything]


# --------------------------------------------------------------------------------------------------- replays


def test_what_failed_is_delivered_again(site: Site) -> None:
    name = site.name()
    site.receiver.on(f"/{name}", 500)
    site.apply(site.endpoint(name, delivery={"retry": {"scheduleSeconds": [1]}}))
    site.ready(name)
    ids = {site.publish(name)["id"] for _ in range(3)}
    site.eventually(lambda: {d["status"] for d in site.deliveries(name)} == {"DeadLettered"}, "dead letters")
    site.receiver.on(f"/{name}", 204)
    seen = len(site.receiver.received(f"/{name}"))
    site.kubectl("create", "-f", "-", input=json.dumps(replay(name, name)))
    site.kubectl("wait", "--for=condition=Complete", f"whrp/{name}", "--timeout=30s")
    assert {one.id for one in site.receiver.wait(f"/{name}", seen + 3)[seen:]} == ids
    told = site.expect(
        REPLAY,
        name,
        Complete=("True", "Completed"),
        Ready=("True", "Completed"),
        Accepted=("True", "Accepted"),
        ResolvedRefs=("True", "ResolvedRefs"),
        Reconciling=None,
        Stalled=None,
        Failed=None,
        Active=None,
        Programmed=None,
        Healthy=None,
    )
    assert (told["selected"], told["delivered"], told["failed"]) == (3, 3, 0)
    assert told["completionTime"] >= told["startTime"]
    line = site.kubectl("get", "whrp", name).splitlines()[1].split()
    assert line[:7] == [name, name, "Failed", "True", "3", "3", "0"]
    assert {d["status"] for d in site.deliveries(name)} == {"Delivered"}, "the dead letters themselves"
    with pytest.raises(KubectlError, match="immutable"):
        site.kubectl("patch", "whrp", name, "--type=merge", "-p", '{"spec":{"select":"All"}}')


def test_what_was_missed_is_delivered_and_all_is_all(site: Site) -> None:
    name = site.name()
    missed = {site.publish(name)["id"] for _ in range(2)}
    site.apply(site.endpoint(name))
    site.ready(name)
    seen = site.publish(name)["id"]
    site.receiver.wait(f"/{name}", 1)
    site.apply(replay(f"{name}-missed", name, select="Missed"), replay(f"{name}-none", name, select="Failed"))
    site.kubectl("wait", "--for=condition=Complete", f"whrp/{name}-missed", f"whrp/{name}-none", "--timeout=20s")
    assert {one.id for one in site.receiver.wait(f"/{name}", 3)} == {seen, *missed}
    nothing = conditions(site.get(REPLAY, f"{name}-none"))
    assert nothing["Complete"] == ("True", "NothingSelected")
    assert nothing["Ready"] == ("True", "Completed")
    time.sleep(1.1)
    site.apply(replay(f"{name}-all", name, select="All"))
    site.kubectl("wait", "--for=condition=Complete", f"whrp/{name}-all", "--timeout=30s")
    told = site.status(REPLAY, f"{name}-all")
    assert (told["selected"], told["delivered"]) == (3, 3)
    assert sorted(one.id for one in site.receiver.wait(f"/{name}", 6)) == sorted([seen, *missed] * 2)


def test_a_replay_to_a_disabled_endpoint_fails(site: Site) -> None:
    name = site.name()
    site.apply(site.endpoint(name, state="Disabled"))
    site.ready(name)
    site.apply(replay(name, name))
    site.kubectl("wait", "--for=condition=Failed", f"whrp/{name}", "--timeout=20s")
    assert conditions(site.get(REPLAY, name))["Failed"] == ("True", "EndpointDisabled")


def test_a_replay_runs_while_its_deliveries_do(site: Site) -> None:
    name = site.name()
    site.publish(name)
    site.receiver.on(f"/{name}", 500)
    site.apply(site.endpoint(name, delivery={"retry": {"scheduleSeconds": [6]}}))
    site.ready(name)
    site.apply(replay(name, name, select="Missed"))
    site.expect(REPLAY, name, Ready=("False", "Running"), Reconciling=("True", "Running"), Stalled=None, Complete=None)
    site.receiver.on(f"/{name}", 500)
    told = site.expect(REPLAY, name, seconds=30, Complete=("True", "Completed"))
    assert (told["selected"], told["delivered"], told["failed"]) == (1, 0, 1)


@pytest.mark.timeout(240)
def test_an_idle_environment_costs_no_write(site: Site) -> None:
    """Routine activity is written a period (30 s here, jittered by a tenth) after the last event, and then nothing."""

    def quiet() -> bool:
        mark = site.server.audit_mark()
        time.sleep(36)
        return not site.writes(mark)

    until(quiet, what="no write in a period", seconds=180, pause=0)
    mark = site.server.audit_mark()
    time.sleep(6)
    assert site.writes(mark) == []
