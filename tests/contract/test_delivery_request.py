"""Contract, section 3, "Delivery": the request that a receiver gets."""

from __future__ import annotations

import base64
import dataclasses
import json
import re
import time
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from standardwebhooks.webhooks import Webhook, WebhookVerificationError
from svix.webhooks import Webhook as SvixWebhook

from contract.processes import Answer, Received, secret, until

if TYPE_CHECKING:
    from contract.site import Site

ONE = "whsec_" + base64.b64encode(b"1" * 32).decode()
TWO = "whsec_" + base64.b64encode(b"2" * 24).decode()
THREE = "whsec_" + base64.b64encode(b"3" * 64).decode()
SEED = bytes(range(32))
PUBLIC = Ed25519PrivateKey.from_private_bytes(SEED).public_key()
WHSK_32 = "whsk_" + base64.b64encode(SEED).decode()
WHSK_64 = "whsk_" + base64.b64encode(SEED + PUBLIC.public_bytes_raw()).decode()


BAD_NAMES = [
    "content-length",
    "content-type",
    "content-encoding",
    "transfer-encoding",
    "connection",
    "keep-alive",
    "te",
    "trailer",
    "upgrade",
    "expect",
    "host",
    "user-agent",
    "cookie",
    "traceparent",
    "tracestate",
    "proxy-authorization",
    "webhook-id",
    "webhook-x",
    "ce-id",
    "x-forwarded-for",
    "X-Upper",
    "a b",
    "a:",
    "",
    "x" * 129,
    "é",
]
BAD_URLS = [
    "ftp://127.0.0.1/x",
    "http://",
    "http:///x",
    "http://user:pass@127.0.0.1/x",
    "http://127.0.0.1/x#frag",
    "http://127.0.0.1/a b",
    "http://127.0.0.1/é",
    "//127.0.0.1/x",
    "http://127.0.0.1:99999/",
    "http://127.0.0.1:port/",
    "http://[::1/",
    "http://10.1.2.3/x",
    "http://169.254.169.254/",
    "http://0.0.0.0/",
    "http://[fe80::1]/",
    "x" * 2049,
    "",
]
BAD_KEYS = [
    "",
    "secret",
    "whsec_",
    "whsec_!!!",
    "whsec_" + base64.b64encode(b"x" * 23).decode(),
    "whsec_" + base64.b64encode(b"x" * 65).decode(),
    "whsk_" + base64.b64encode(b"x" * 33).decode(),
    "whpk_" + base64.b64encode(b"x" * 32).decode(),
    "WHSEC_" + base64.b64encode(b"x" * 32).decode(),
    "whsec_" + base64.urlsafe_b64encode(b"\xff" * 32).decode(),
    "whsec_" + base64.b64encode(b"x" * 32).decode().rstrip("="),
    f"{ONE} {TWO}",
    f"{ONE}\n{TWO}",
]


@pytest.fixture(scope="module")
def wrong(module_site: Site) -> Site:
    """Everything that is refused, in one look at the folder."""
    site = module_site
    secrets: dict[str, Any] = {f"k{index}": text for index, text in enumerate(BAD_KEYS)}
    site.apply(
        secret(site.name("keys"), **secrets),
        *(site.endpoint(f"key{index}", signing={"keys": [key(site, f"k{index}")]}) for index in range(len(BAD_KEYS))),
        *(
            site.endpoint(f"name{index}", headers=[{"name": name, "value": "x"}])
            for index, name in enumerate(BAD_NAMES)
        ),
        *(site.endpoint(f"url{index}", url=url) for index, url in enumerate(BAD_URLS)),
    )
    return site


def key(site: Site, id_: str, data_key: str = "", **more: Any) -> dict[str, Any]:
    return {"id": id_, "secretKeyRef": {"name": site.name("keys"), "key": data_key or id_}, **more}


def verify(request: Received, text: str) -> Any:
    """With both public packages."""
    found = Webhook(text).verify(request.body, request.headers)
    SvixWebhook(text).verify(request.body, request.headers)
    return found


def verifies(request: Received, text: str) -> bool:
    try:
        verify(request, text)
    except WebhookVerificationError:
        return False
    return True


def verify_ed25519(request: Received, signature: str, public: Ed25519PublicKey = PUBLIC) -> None:
    headers = request.headers
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + request.body
    public.verify(base64.b64decode(signature.removeprefix("v1a,")), signed)


def generated(site: Site, name: str = "a") -> str:
    """The key that was generated for an endpoint, from wherever the state folder keeps it."""
    found = [
        path.read_text().strip()
        for path in site.dev.state.rglob("*")
        if path.is_file() and f"{site.name(name)}-signing" in str(path)
    ]
    assert len(found) == 1
    return found[0]


def test_the_request_is_an_http_1_1_post_with_the_standard_webhooks_headers_and_nothing_else(site: Site) -> None:
    site.apply(site.endpoint("a"))
    accepted = site.publish({"a": 1}, timestamp="2026-01-31T12:00:00Z")
    (request,) = site.wait("a")
    assert (request.method, request.version) == ("POST", "HTTP/1.1")
    headers = request.headers
    assert len(headers) == len(request.fields), "no header twice"
    assert headers["content-type"] == "application/json"
    assert re.fullmatch(r"Hookstead/\d+\.\d+\.\d+\S*", headers["user-agent"])
    assert headers["webhook-id"] == accepted["id"]
    assert abs(int(headers["webhook-timestamp"]) - time.time()) < 5
    assert headers["webhook-signature"].startswith("v1,")
    assert headers["content-length"] == str(len(request.body))
    assert headers["host"] == site.receiver.url.removeprefix("http://")
    usual = {"host", "content-type", "user-agent", "content-length", "accept", "accept-encoding", "connection"}
    assert headers.keys() - usual == {"webhook-id", "webhook-timestamp", "webhook-signature"}
    assert headers.get("accept-encoding", "identity") == "identity"
    assert request.body == (
        f'{{"type":"{site.type("order.created")}","timestamp":"2026-01-31T12:00:00Z","data":{{"a": 1}}}}'.encode()
    )


def test_without_keys_one_is_generated_which_verifies(site: Site) -> None:
    site.apply(site.endpoint("a"))
    site.publish({"a": 1})
    (request,) = site.wait("a")
    text = generated(site)
    assert re.fullmatch(r"whsec_[A-Za-z0-9+/]{43}=", text)
    assert verify(request, text)["data"] == {"a": 1}
    assert " " not in request.headers["webhook-signature"]


def test_all_keys_sign_the_first_one_first(site: Site) -> None:
    site.apply(
        secret(site.name("keys"), one=ONE, two=f"  {TWO}\r\n", three=THREE + "\n", ed=WHSK_32),
        site.endpoint("a", signing={"keys": [key(site, "two"), key(site, "one"), key(site, "ed"), key(site, "three")]}),
    )
    site.publish({})
    (request,) = site.wait("a")
    signatures = request.headers["webhook-signature"].split(" ")
    assert [one.partition(",")[0] for one in signatures] == ["v1", "v1", "v1a", "v1"]
    for text in (ONE, TWO, THREE):
        verify(request, text)
    fields = {**request.headers, "webhook-signature": signatures[0]}
    alone = dataclasses.replace(request, fields=tuple(fields.items()))
    assert verifies(alone, TWO)
    assert not verifies(alone, ONE)
    verify_ed25519(request, signatures[2])
    assert site.status("a")["signing"]["activeKeyIDs"] == ["two", "one", "ed", "three"]


@pytest.mark.parametrize("text", [WHSK_32, WHSK_64, f"\n{WHSK_64}\t"])
def test_an_ed25519_key_signs_v1a(site: Site, text: str) -> None:
    site.apply(secret(site.name("keys"), ed=text), site.endpoint("a", signing={"keys": [key(site, "ed")]}))
    site.publish({})
    (request,) = site.wait("a")
    signature = request.headers["webhook-signature"]
    assert signature.startswith("v1a,")
    verify_ed25519(request, signature)


def test_an_expired_key_signs_no_more_and_one_that_expires_does_so_by_itself(site: Site) -> None:
    soon = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 4))
    site.apply(
        secret(site.name("keys"), one=ONE, two=TWO, three=THREE),
        site.endpoint(
            "a",
            signing={
                "keys": [
                    key(site, "three", notAfterTime="2020-01-01T00:00:00Z"),
                    key(site, "two", notAfterTime=soon),
                    key(site, "one"),
                ]
            },
        ),
    )
    signing = site.status("a")["signing"]
    assert signing["activeKeyIDs"] == ["two", "one"]
    assert signing["nextExpiryTime"].replace(".000Z", "Z") == soon
    site.publish({})
    first = site.wait("a")[0]
    assert (verifies(first, ONE), verifies(first, TWO), verifies(first, THREE)) == (True, True, False)
    time.sleep(max(0.0, 4.2 - (time.time() - first.at)))
    site.publish({})
    second = site.wait("a", 2)[1]
    assert (verifies(second, ONE), verifies(second, TWO), verifies(second, THREE)) == (True, False, False)
    assert site.status("a")["signing"]["activeKeyIDs"] == ["one"]


@pytest.mark.parametrize("text", BAD_KEYS)
def test_any_other_key_material_is_secret_invalid(wrong: Site, text: str) -> None:
    name = f"key{BAD_KEYS.index(text)}"
    assert wrong.condition("ResolvedRefs", name) == ("False", "SecretInvalid")
    assert wrong.condition("Ready", name) == ("False", "SecretInvalid")
    assert wrong.condition("Reconciling", name)[0] == "True"


def test_secrets_that_are_missing_unlabelled_or_lack_the_key_are_told_apart(site: Site) -> None:
    site.apply(
        secret(site.name("keys"), one=ONE),
        secret(site.name("bare"), labelled=False, one=ONE),
        site.endpoint("a", signing={"keys": [{"id": "x", "secretKeyRef": {"name": site.name("none"), "key": "k"}}]}),
        site.endpoint("b", signing={"keys": [{"id": "x", "secretKeyRef": {"name": site.name("bare"), "key": "one"}}]}),
        site.endpoint("c", signing={"keys": [key(site, "one", "other")]}),
    )
    assert site.condition("ResolvedRefs", "a") == ("False", "SecretNotFound")
    assert site.condition("ResolvedRefs", "b") == ("False", "SecretNotPermitted")
    assert site.condition("ResolvedRefs", "c") == ("False", "SecretKeyMissing")


def test_deliveries_of_an_unreadable_key_wait_and_go_on_by_themselves(site: Site) -> None:
    endpoint = site.endpoint("a", signing={"keys": [key(site, "one")]})
    site.apply(endpoint)
    site.publish({"held": True})
    time.sleep(0.5)
    assert site.received("a") == []
    assert site.only()["status"] == "Pending"
    site.apply(secret(site.name("keys"), one=ONE), endpoint)
    (request,) = site.wait("a")
    verify(request, ONE)
    assert site.settled("Delivered")["attemptCount"] == 1


def test_custom_headers_are_sent_literal_ones_and_those_from_secrets(site: Site) -> None:
    site.apply(
        secret(site.name("keys"), token="Bearer s3cr3t"),
        site.endpoint(
            "a",
            headers=[
                {"name": "x-plain", "value": "a\tb ~"},
                {
                    "name": "authorization",
                    "valueFrom": {"secretKeyRef": {"name": site.name("keys"), "key": "token"}},
                },
                {"name": "accept", "value": "x/y"},
            ],
        ),
    )
    site.publish({})
    (request,) = site.wait("a")
    assert request.headers["x-plain"] == "a\tb ~"
    assert request.headers["authorization"] == "Bearer s3cr3t"
    assert request.headers["accept"] == "x/y"
    assert [name.lower() for name, _ in request.fields].count("accept") == 1
    shown = json.dumps(site.status("a")) + site.dev.log
    assert "s3cr3t" not in shown


@pytest.mark.parametrize("name", BAD_NAMES)
def test_reserved_and_malformed_header_names_are_invalid(wrong: Site, name: str) -> None:
    assert wrong.condition("Accepted", f"name{BAD_NAMES.index(name)}") == ("False", "InvalidSpec")


def test_the_three_payload_formats_have_the_same_headers_and_bodies_of_their_own(site: Site) -> None:
    keys = {"keys": [key(site, "one")]}
    site.apply(
        secret(site.name("keys"), one=ONE),
        *(
            site.endpoint(name, payloadFormat=form, signing=keys)
            for name, form in (("sw", "StandardWebhooks"), ("ce", "CloudEvents"), ("raw", "DataOnly"))
        ),
    )
    document = f'{{"type":"{site.type("x")}","timestamp":"2026-01-31T12:00:00Z","data": {{ "b":1.0, "a":[] }} }}'
    accepted = site.dev.post("/v1/events", document.encode()).json
    sw, ce, raw = (site.wait(name)[0] for name in ("sw", "ce", "raw"))
    for request in (sw, ce, raw):
        assert request.id == accepted["id"]
        verify(request, ONE)
    assert (
        sw.body
        == f'{{"type":"{site.type("x")}","timestamp":"2026-01-31T12:00:00Z","data":{{ "b":1.0, "a":[] }}}}'.encode()
    )
    assert raw.body == b'{ "b":1.0, "a":[] }'
    assert raw.headers["content-type"] == "application/json"
    assert ce.headers["content-type"] == "application/cloudevents+json"
    assert b'"data":{ "b":1.0, "a":[] }' in ce.body
    assert ce.json == {
        "specversion": "1.0",
        "id": accepted["id"],
        "source": "/namespaces/default",
        "type": site.type("x"),
        "time": "2026-01-31T12:00:00Z",
        "datacontenttype": "application/json",
        "data": {"b": 1.0, "a": []},
    }


def test_channels_travel_in_the_cloudevents_form_as_they_came(site: Site) -> None:
    site.apply(site.endpoint("ce", payloadFormat="CloudEvents"))
    site.publish({}, channels=["client_1", "client_2"])
    found = site.wait("ce")[0].json
    assert found.get("channels", "client_1,client_2") == "client_1,client_2"


def test_the_id_and_body_stay_the_same_on_every_retry_and_the_timestamp_is_the_attempts(site: Site) -> None:
    site.apply(site.endpoint("a", delivery={"retry": {"scheduleSeconds": [2]}}))
    site.answers("a", 500, 204)
    accepted = site.publish({"x": [1, 2.50]})
    first, second = site.wait("a", 2)
    assert first.id == second.id == accepted["id"]
    assert first.body == second.body
    text = generated(site)
    assert verify(first, text)
    assert verify(second, text)
    assert int(second.headers["webhook-timestamp"]) > int(first.headers["webhook-timestamp"])


def test_a_retry_uses_the_current_url_headers_and_keys_and_the_frozen_payload(site: Site) -> None:
    site.apply(
        secret(site.name("keys"), one=ONE, two=TWO),
        site.endpoint("a", signing={"keys": [key(site, "one")]}, delivery={"retry": {"scheduleSeconds": [3]}}),
    )
    site.answers("a", 500)
    accepted = site.publish({"n": 1})
    (first,) = site.wait("a")
    site.apply(
        secret(site.name("keys"), one=ONE, two=TWO),
        site.endpoint(
            "a",
            url=site.receiver.url + site.path("b"),
            signing={"keys": [key(site, "two")]},
            headers=[{"name": "x-new", "value": "1"}],
            payloadFormat="DataOnly",
            delivery={"retry": {"scheduleSeconds": [3]}},
        ),
    )
    (second,) = site.wait("b")
    assert len(site.received("a")) == 1
    assert second.id == accepted["id"]
    assert second.headers["x-new"] == "1"
    assert second.body == first.body, "payload bytes are frozen at acceptance"
    assert verifies(second, TWO)
    assert not verifies(second, ONE)


def test_a_url_from_a_secret_is_used_and_never_shown(site: Site) -> None:
    url = site.receiver.url + site.path("hidden") + "?token=t0ken"
    site.apply(
        secret(site.name("keys"), url=url + "\n"),
        site.endpoint("a", url=None, urlFrom={"secretKeyRef": {"name": site.name("keys"), "key": "url"}}),
    )
    site.publish({})
    (request,) = site.receiver.wait(site.path("hidden") + "?token=t0ken")
    assert request.path.endswith("?token=t0ken")
    status = site.status("a")
    assert status["host"].partition(":")[0] == "127.0.0.1"
    assert "hidden" not in json.dumps(status)
    assert "t0ken" not in json.dumps(status) + site.dev.log
    assert "t0ken" not in json.dumps(site.settled("Delivered"))


@pytest.mark.parametrize("url", BAD_URLS)
def test_a_url_that_cannot_be_dialled_is_invalid_at_once(wrong: Site, url: str) -> None:
    assert wrong.condition("Accepted", f"url{BAD_URLS.index(url)}") == ("False", "InvalidSpec")


@pytest.mark.one_process  # of two, either may have the endpoint
def test_the_processs_own_listeners_are_never_dialled(site: Site) -> None:
    for index, address in enumerate((site.dev.address, site.dev.admin_address)):
        site.apply(
            site.endpoint(
                f"own{index}", url=f"http://{address}/v1/events", delivery={"retry": {"scheduleSeconds": [1]}}
            )
        )
        site.publish({})
        found = site.settled("DeadLettered", f"own{index}")
        assert [one["errorCode"] for one in found["attempts"]] == ["address-denied"]


def test_what_a_receiver_answers_on_a_kept_connection_belongs_to_its_own_request(site: Site) -> None:
    site.apply(site.endpoint("a"))
    site.answers("a", Answer(200, body=b"first"), Answer(200, body=b"second"))
    site.publish({})
    until(lambda: len(site.deliveries("a", status="Delivered")) == 1, what="the first delivered")
    site.publish({})
    until(lambda: len(site.deliveries("a", status="Delivered")) == 2, what="the second delivered")
    bodies = [site.delivery(one["id"])["attempts"][0]["responseBody"] for one in site.deliveries("a")]
    assert bodies == ["second", "first"]


TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def test_the_callers_trace_goes_with_every_attempt_and_a_broken_one_with_none(site: Site) -> None:
    site.answers("a", 500, 204)
    site.apply(site.endpoint("a", delivery={"retry": {"scheduleSeconds": [1]}}))
    event = {"type": site.type("order.created"), "data": {}}
    site.dev.post("/v1/events", json.dumps(event).encode(), traceparent=TRACE)
    found = site.settled("Delivered")
    assert site.redeliver(found["id"]).status == 202
    assert [one.headers.get("traceparent") for one in site.wait("a", 3)] == [TRACE] * 3
    cloud = {**event, "specversion": "1.0", "id": "1", "source": "/trace", "traceparent": TRACE}
    for path, body, content_type, header in (
        ("/v1/events/batch", [event], "application/json", TRACE),
        ("/v1/events", cloud, "application/cloudevents+json", "00-broken"),
        ("/v1/events", event, "application/json", "00-broken"),
        ("/v1/events", event, "application/json", None),
    ):
        seen = len(site.received("a"))
        more = {} if header is None else {"traceparent": header}
        assert site.dev.post(path, json.dumps(body).encode(), content_type, **more).status == 202
        got = site.wait("a", seen + 1)[-1].headers.get("traceparent")
        assert got == (TRACE if header == TRACE or body is cloud else None)
