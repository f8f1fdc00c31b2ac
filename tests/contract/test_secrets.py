"""Contract, section 1: Secrets that endpoints refer to, and what status may show."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any

import pytest
from standardwebhooks.webhooks import Webhook

from contract.processes import environment, secret, until

if TYPE_CHECKING:
    from contract.site import Site

ONE = "whsec_" + base64.b64encode(b"1" * 32).decode()
TWO = "whsec_" + base64.b64encode(b"2" * 32).decode()


def key(site: Site, name: str = "keys") -> dict[str, Any]:
    return {"keys": [{"id": "k", "secretKeyRef": {"name": site.name(name), "key": "one"}}]}


def test_a_secret_that_is_edited_signs_the_next_attempt(site: Site) -> None:
    endpoint = site.endpoint("a", signing=key(site))
    for number, text in enumerate((ONE, TWO), start=1):
        site.apply(secret(site.name("keys"), one=text), endpoint)
        site.publish(number)
        request = site.wait("a", number)[-1]
        Webhook(text).verify(request.body, request.headers)
    assert site.status("a")["observedGeneration"] == 1, "a Secret is no edit of the endpoint"


def test_data_in_base64_and_string_data_are_the_same(site: Site) -> None:
    encoded = secret(site.name("keys"))
    encoded["data"] = {"one": base64.b64encode(ONE.encode()).decode()}
    del encoded["stringData"]
    site.apply(encoded, site.endpoint("a", signing=key(site)))
    site.publish({})
    (request,) = site.wait("a")
    Webhook(ONE).verify(request.body, request.headers)


def test_a_signing_secret_that_the_endpoint_does_not_own_is_left_alone(site: Site) -> None:
    site.apply(secret(site.name("a-signing"), key=ONE), site.endpoint("a"))
    assert site.condition("ResolvedRefs") == ("False", "SecretNotPermitted")
    site.publish({})
    assert site.received("a") == []


BAD_VALUES = ("a\nb", "é", "x" * 1025, "\x00", "a\rb")
BAD_URLS = ("nonsense", "http://10.0.0.1/x", "http://user@127.0.0.1/", "", "http://a b/")


@pytest.fixture(scope="module")
def wrong(module_site: Site) -> Site:
    """Endpoints whose Secrets hold what cannot be used."""
    site = module_site
    values: dict[str, Any] = {f"v{index}": value for index, value in enumerate(BAD_VALUES)}
    urls: dict[str, Any] = {f"u{index}": url for index, url in enumerate(BAD_URLS)}

    def ref(data_key: str) -> dict[str, Any]:
        return {"secretKeyRef": {"name": site.name("keys"), "key": data_key}}

    site.apply(
        secret(site.name("keys"), **values, **urls),
        *(site.endpoint(name, headers=[{"name": "x-a", "valueFrom": ref(name)}]) for name in values),
        *(site.endpoint(name, url=None, urlFrom=ref(name)) for name in urls),
    )
    return site


@pytest.mark.parametrize("value", BAD_VALUES)
def test_a_header_from_a_secret_that_no_header_can_be_is_secret_invalid(wrong: Site, value: str) -> None:
    assert wrong.condition("ResolvedRefs", f"v{BAD_VALUES.index(value)}") == ("False", "SecretInvalid")


@pytest.mark.parametrize("url", BAD_URLS)
def test_a_url_from_a_secret_that_cannot_be_dialled_makes_the_endpoint_not_ready_and_is_not_repeated(
    wrong: Site, url: str
) -> None:
    name = f"u{BAD_URLS.index(url)}"
    assert wrong.condition("Ready", name)[0] == "False"
    assert wrong.condition("Ready", name)[1] in ("SecretInvalid", "InvalidSpec")
    if url:
        assert url not in json.dumps(wrong.status(name))


def test_neither_url_nor_both_are_valid(site: Site) -> None:
    ref = {"secretKeyRef": {"name": site.name("keys"), "key": "url"}}
    site.apply(site.endpoint("a", url=None), site.endpoint("b", urlFrom=ref))
    for name in "ab":
        assert site.condition("Accepted", name) == ("False", "InvalidSpec")


def test_status_never_shows_a_path_a_query_a_header_value_or_a_key(site: Site) -> None:
    site.apply(
        secret(site.name("keys"), one=ONE),
        site.endpoint(
            "a",
            url=f"{site.receiver.url}/{site.tag}/a?token=qu3ry",
            headers=[{"name": "x-a", "value": "h3ader"}],
            signing=key(site),
        ),
    )
    site.receiver.on(f"/{site.tag}/a?token=qu3ry", 500)
    site.publish({"d": "p4yload"})
    found = site.attempted(1)
    shown = json.dumps([site.status("a"), site.deliveries("a"), found, site.dev.list("/v1/endpoints")]) + site.dev.log
    for word in ("qu3ry", f"/{site.tag}/a", "h3ader", "p4yload", ONE, ONE.removeprefix("whsec_")):
        assert word not in shown


@pytest.mark.parametrize(("log", "expected"), [("All", 4), ("FailuresOnly", 2), ("None", 0)])
def test_the_delivery_log_shows_what_status_reporting_says(own_dev: Any, log: str, expected: int) -> None:
    site = own_dev(statusReporting={"deliveryLog": log}, deliveryDefaults={"retry": {"scheduleSeconds": [1]}})
    site.answers("a", 500, 204, 500, 204)
    site.apply(site.endpoint("a", delivery={"ordering": "Ordered"}))
    for number in range(2):
        site.publish(number)
    until(lambda: len(site.deliveries("a", status="Delivered")) == 2, what="delivered")
    assert len(site.status("a")["recentDeliveries"]) == expected


def test_the_delivery_log_is_as_long_as_its_limit(own_dev: Any) -> None:
    site = own_dev(statusReporting={"deliveryLogLimit": 3})
    site.apply(site.endpoint("a"))
    for number in range(12):
        site.publish(number)
    until(lambda: len(site.deliveries("a", status="Delivered")) == 12, what="delivered")
    assert len(site.status("a")["recentDeliveries"]) == 3
    site.dev.apply("00-environment", environment())
    assert len(site.status("a")["recentDeliveries"]) == 10, "the default"
