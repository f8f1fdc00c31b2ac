"""Contract, sections 3 and 6: names, denied addresses, loopback."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest

from contract.nameserver import Nameserver
from contract.processes import environment
from contract.site import Site

if TYPE_CHECKING:
    from collections.abc import Iterator

    from contract.processes import Receiver, Serve

DENIED = {
    "private.example.com": ("10.1.2.3",),
    "metadata.example.com": ("169.254.169.254",),
    "zero.example.com": ("0.0.0.0",),
    "multicast.example.com": ("224.0.0.1",),
    "six.example.com": ("fe80::1",),
    "mapped.example.com": ("::ffff:10.0.0.1",),
    "nat64.example.com": ("64:ff9b::a00:1",),
    "mixed.example.com": ("127.0.0.1", "10.0.0.1"),
    "mixed-six.example.com": ("127.0.0.1", "fd00::1"),
}


@pytest.fixture(scope="module")
def named(serve: Serve, tmp_path_factory: pytest.TempPathFactory, receiver: Receiver) -> Iterator[Site]:
    names = {"good.example.com": ("127.0.0.1",), "empty.example.com": (), **DENIED}
    server = Nameserver(names, silent=("silent.example.com",))
    home = tmp_path_factory.mktemp("named")
    with serve(home, "--resolver", server.address, objects=[environment()]) as dev:
        site = Site(dev, receiver, "named")
        site.apply(
            *(
                site.endpoint(
                    name.split(".")[0],
                    url=f"http://{name}:{receiver.port}{site.path(name)}",
                    eventTypes=[site.type(name.split(".")[0])],
                    delivery={"retry": {"scheduleSeconds": [600]}, "timeoutSeconds": 2},
                )
                for name in (*names, "nowhere.example.com", "silent.example.com", "localhost")
            )
        )
        yield site
    server.close()


def test_a_name_is_looked_up_at_the_resolver_that_was_given(named: Site) -> None:
    named.publish({}, event="good")
    named.receiver.wait(named.path("good.example.com"))
    assert named.settled("Delivered", "good")["attemptCount"] == 1
    host = f"good.example.com:{named.receiver.port}"
    assert named.receiver.received(named.path("good.example.com"))[0].headers["host"] == host


@pytest.mark.parametrize("name", DENIED)
def test_a_name_that_resolves_to_a_denied_address_is_dead_lettered_at_once_with_one_row(named: Site, name: str) -> None:
    short = name.split(".")[0]
    named.publish({}, event=short)
    found = named.settled("DeadLettered", short)
    (row,) = found["attempts"]
    assert (row["errorCode"], row["statusCode"], row["outcome"]) == ("address-denied", 0, "Failed")
    assert found["attemptCount"] == 1
    assert named.receiver.received(named.path(name)) == []


@pytest.mark.parametrize("short", ["nowhere", "empty"])
def test_a_name_without_an_address_is_dns_and_retried(named: Site, short: str) -> None:
    named.publish({}, event=short)
    found = named.attempted(1, short)
    assert (found["status"], found["attempts"][0]["errorCode"]) == ("Pending", "dns")
    assert found["nextAttemptTime"]


def test_a_name_server_that_says_nothing_delays_no_other_endpoint(named: Site) -> None:
    for _ in range(30):
        named.publish({}, event="silent")
    before = len(named.receiver.received(named.path("good.example.com")))
    began = time.monotonic()
    named.publish({}, event="good")
    named.receiver.wait(named.path("good.example.com"), before + 1)
    assert time.monotonic() - began < 1.5
    row = named.attempted(1, "silent")["attempts"][0]
    assert row["errorCode"] in ("timeout", "dns")
    assert row["durationMilliseconds"] < 3000


def test_a_name_that_only_this_machine_could_mean_is_never_looked_up(named: Site) -> None:
    named.publish({}, event="localhost")
    found = named.settled("DeadLettered", "localhost")
    assert [one["errorCode"] for one in found["attempts"]] == ["address-denied"]


def conditions_of(site: Site, **egress: Any) -> tuple[str, str]:
    """What an environment with these ranges says of itself."""
    found = environment()
    found["spec"]["egress"] = {"plaintextHTTP": "Allow", **egress}
    site.dev.apply("00-environment", found)
    told = {one["type"]: (one["status"], one["reason"]) for one in site.dev.get("/v1/environment")["conditions"]}
    return told["Accepted"]


def test_only_private_ranges_may_be_opened_and_only_with_private_networks_allow(own_dev: Any) -> None:
    site = own_dev()
    allow = {"privateNetworks": "Allow"}
    for cidr in (
        "10.0.0.0/8",
        "172.16.0.0/12",
        "192.168.1.0/24",
        "100.64.0.0/10",
        "fc00::/7",
        "127.0.0.0/8",
        "::1/128",
    ):
        assert conditions_of(site, **allow, allowedCIDRs=[cidr]) == ("True", "Accepted"), cidr
    for cidr in ("8.8.8.0/24", "0.0.0.0/0", "169.254.0.0/16", "10.0.0.0/7", "::/0", "fe80::/10", "10.0.0.1/8/9", "x"):
        assert conditions_of(site, **allow, allowedCIDRs=[cidr]) == ("False", "InvalidSpec"), cidr
    assert conditions_of(site, allowedCIDRs=["10.0.0.0/8"]) == ("False", "InvalidSpec")
    assert conditions_of(site, privateNetworks="Deny") == ("True", "Accepted")


def test_loopback_is_denied_where_no_range_opens_it(own_dev: Any) -> None:
    site = own_dev(egress={"plaintextHTTP": "Allow", "privateNetworks": "Allow", "allowedCIDRs": ["10.0.0.0/8"]})
    site.apply(site.endpoint("a"))
    assert site.condition("Accepted") == ("False", "InvalidSpec")


def test_plain_http_is_denied_where_nothing_is_said(own_dev: Any) -> None:
    site = own_dev(egress={})
    site.apply(
        site.endpoint("a", url="http://receiver.example.com/"), site.endpoint("b", url="https://receiver.example.com/")
    )
    assert site.condition("Accepted", "a") == ("False", "InvalidSpec")
    assert site.condition("Accepted", "b") == ("True", "Accepted")
