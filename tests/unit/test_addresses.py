"""The address policy, against the shared vectors whole and against its own table row by row."""

from __future__ import annotations

import json
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest

from hookstead.config.addresses import (
    SPECIAL_RANGES,
    SpecialRange,
    Target,
    UrlProblem,
    allowed_networks,
    check_url,
    deny_reason,
    host_denial,
    parse_address,
    parse_allowed,
    parse_url,
)
from hookstead.config.model import EgressPolicy

VECTORS: dict[str, Any] = json.loads((Path(__file__).parent / "egress" / "ssrf.json").read_text("utf-8"))
EVERYTHING = allowed_networks(
    ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7", "127.0.0.0/8", "::1/128"),
    True,
)
OPEN = EgressPolicy(plaintext_http=True)


@pytest.mark.parametrize("address", VECTORS["block_addresses"])
def test_a_special_address_is_denied(address: str) -> None:
    assert deny_reason(address) is not None


@pytest.mark.parametrize("address", VECTORS["allow_addresses"])
def test_a_public_address_is_allowed(address: str) -> None:
    assert deny_reason(address) is None


@pytest.mark.parametrize("row", SPECIAL_RANGES, ids=lambda row: row.cidr)
def test_both_ends_of_every_row_are_denied(row: SpecialRange) -> None:
    network = ip_network(row.cidr)
    assert deny_reason(network[0]) is not None
    assert deny_reason(network[-1]) is not None


@pytest.mark.parametrize("row", [row for row in SPECIAL_RANGES if row.opens == "never"], ids=lambda row: row.cidr)
def test_no_allowed_range_opens_what_is_never_dialled(row: SpecialRange) -> None:
    network = ip_network(row.cidr)
    for address in (network[0], network[-1]):
        if deny_reason(address, allowed=EVERYTHING, allow_loopback=True) is None:
            # ::1 is the one openable address inside a wider row (::/96).
            assert str(address) == "::1"


@pytest.mark.parametrize("address", ["127.0.0.1", "127.255.255.254", "::1"])
def test_loopback_opens_only_with_both_the_flag_and_a_covering_range(address: str) -> None:
    assert deny_reason(address, allowed=EVERYTHING, allow_loopback=True) is None
    assert deny_reason(address, allowed=EVERYTHING, allow_loopback=False) is not None
    assert deny_reason(address, allowed=(), allow_loopback=True) is not None


@pytest.mark.parametrize("address", ["10.0.0.1", "172.31.255.255", "192.168.1.1", "100.64.0.1", "fd12::1"])
def test_a_private_address_opens_only_for_a_range_that_covers_it(address: str) -> None:
    assert deny_reason(address, allowed=EVERYTHING) is None
    assert deny_reason(address, allowed=(ip_network("10.200.0.0/16"), ip_network("fd99::/16"))) is not None


@pytest.mark.parametrize(
    "address", ["::ffff:10.0.0.1", "64:ff9b::a00:1", "2002:a00:1::1", "::10.0.0.1", "::ffff:0:10.0.0.1"]
)
def test_an_embedded_private_address_stays_closed_whatever_is_opened(address: str) -> None:
    assert deny_reason(address, allowed=EVERYTHING, allow_loopback=True) is not None


@pytest.mark.parametrize(
    "text",
    ["", "127.1", "0x7f.0.0.1", "0177.0.0.1", "1", "1.2.3.4.5", "fe80::1%eth0", "①.1.1.1", "1.1.1.1/32", "a"],
)
def test_what_does_not_parse_is_denied(text: str) -> None:
    assert parse_address(text) is None
    assert deny_reason(text, allowed=EVERYTHING, allow_loopback=True) is not None


@pytest.mark.parametrize("host", VECTORS["block_hosts_at_dial"])
def test_a_host_that_only_a_local_resolver_could_mean_is_never_looked_up(host: str) -> None:
    assert host_denial(host) is not None
    target = parse_url(f"http://{host}/")
    assert isinstance(target, UrlProblem) or target.denial is not None


@pytest.mark.parametrize(
    "host",
    [
        "example.com",
        "a.b.example.com",
        "svc.example.com",
        "localhost.example.com",
        "xn--bcher-kva.example",
        "0x.example.com",
    ],
)
def test_an_ordinary_name_may_be_looked_up(host: str) -> None:
    assert host_denial(host) is None


@pytest.mark.parametrize("url", VECTORS["reject_urls"])
def test_a_url_outside_the_contract_is_refused(url: str) -> None:
    assert isinstance(parse_url(url), UrlProblem)
    assert check_url(url, OPEN, True) is not None


@pytest.mark.parametrize(
    "url",
    [
        "",
        "https:/example.com",
        "HTTPS://example.com/",
        "https://example.com:0/",
        "https://example.com:/",
        "https://example.com:080/",
        "https://example.com:8٠/",
        "https://-a.example.com/",
        "https://a..example.com/",
        "https://[::1/",
        "https://[::1]x/",
        "https://[127.0.0.1]/",
        "https://[fe80::1%25eth0]/",
        "https://::1/",
        "https://example.com/a b",
        "https://example.com/\n",
        "https://example.com\n/",
        "https://bücher.example/",
        "https://" + "a" * 64 + ".example.com/",
        "https://example.com/" + "a" * 2048,
        "https://exam,ple.com/",
        "https://user@example.com/",
        "https://example.com?x=1#y",
    ],
)
def test_a_malformed_url_is_refused_and_not_repaired(url: str) -> None:
    assert isinstance(parse_url(url), UrlProblem)


@pytest.mark.parametrize(
    ("url", "scheme", "host", "port", "path", "authority"),
    [
        ("https://example.com", "https", "example.com", 443, "/", "example.com"),
        ("https://EXAMPLE.com./x?y=@1", "https", "example.com", 443, "/x?y=@1", "example.com"),
        ("https://example.com?x=1", "https", "example.com", 443, "/?x=1", "example.com"),
        ("http://example.com:443/", "http", "example.com", 443, "/", "example.com:443"),
        ("https://example.com:443/", "https", "example.com", 443, "/", "example.com"),
        ("http://8.8.8.8:8080/a%00b", "http", "8.8.8.8", 8080, "/a%00b", "8.8.8.8:8080"),
        (
            "https://[2001:4860:4860:0::8888]:8443/",
            "https",
            "2001:4860:4860::8888",
            8443,
            "/",
            "[2001:4860:4860::8888]:8443",
        ),
        (
            "https://my_service.example.com/",
            "https",
            "my_service.example.com",
            443,
            "/",
            "my_service.example.com",
        ),
    ],
)
def test_a_url_is_taken_apart_without_decoding(
    url: str, scheme: str, host: str, port: int, path: str, authority: str
) -> None:
    target = parse_url(url)
    assert isinstance(target, Target)
    assert (target.scheme, target.host, target.port, target.path_and_query) == (scheme, host, port, path)
    assert target.authority == authority
    assert target.denial is None


@pytest.mark.parametrize("address", VECTORS["block_addresses"])
def test_a_literal_denied_address_is_known_offline(address: str) -> None:
    host = f"[{address}]" if ":" in address else address
    assert check_url(f"https://{host}/hook", EgressPolicy(), False) is not None


def test_offline_checks_know_scheme_literals_and_policy() -> None:
    loopback = EgressPolicy(plaintext_http=True, allowed_cidrs=("127.0.0.0/8",))
    assert check_url("https://example.com/x", EgressPolicy(), False) is None
    assert "plaintextHTTP" in (check_url("http://example.com/x", EgressPolicy(), False) or "")
    assert check_url("http://example.com/x", OPEN, False) is None
    assert check_url("http://127.0.0.1:9700/", loopback, True) is None
    assert "--allow-loopback" in (check_url("http://127.0.0.1:9700/", loopback, False) or "")
    assert check_url("http://127.0.0.1:9700/", OPEN, True) is not None


def test_a_name_that_is_never_dialled_is_left_to_the_dial() -> None:
    assert check_url("https://localhost/", EgressPolicy(), True) is None


@pytest.mark.parametrize(
    ("cidr", "allow_loopback", "says"),
    [
        ("10.0.0.1/8", False, 'did you mean "10.0.0.0/8"'),
        ("10.0.0.1", False, '"10.0.0.1/32"'),
        ("10.0.0.0/255.0.0.0", False, "not a CIDR"),
        ("10.0.0.0/08", False, "not a CIDR"),
        ("10.0.0.0/33", False, "not a CIDR"),
        ("10.0.0/8", False, "not a CIDR"),
        ("fe80::%eth0/64", False, "not a CIDR"),
        ("intranet", False, "not a CIDR"),
        ("", False, "not a CIDR"),
        ("0.0.0.0/0", False, "not within a private range"),
        ("8.8.8.0/24", False, "not within a private range"),
        ("10.0.0.0/7", False, "not within a private range"),
        ("::/0", False, "not within a private range"),
        ("169.254.0.0/16", True, "link-local"),
        ("169.254.169.254/32", True, "link-local"),
        ("fe80::/64", True, "link-local"),
        ("::ffff:10.0.0.0/104", True, "IPv4-mapped"),
        ("100.100.100.200/32", True, "metadata"),
        ("127.0.0.0/8", False, "--allow-loopback"),
        ("::1/128", False, "--allow-loopback"),
        ("126.0.0.0/7", True, "not within a private range"),
    ],
)
def test_a_range_that_may_not_be_opened_is_refused_by_name(cidr: str, allow_loopback: bool, says: str) -> None:
    problem = parse_allowed(("192.168.0.0/16", cidr), allow_loopback)
    assert isinstance(problem, str)
    assert says in problem
    assert "allowedCIDRs[1]" in problem


def test_ranges_within_private_space_and_loopback_under_the_flag_are_accepted() -> None:
    cidrs = (
        "10.20.0.0/16",
        "172.16.0.0/12",
        "192.168.7.0/24",
        "100.64.0.0/10",
        "fd00::/8",
        "127.0.0.0/8",
        "::1/128",
    )
    networks = parse_allowed(cidrs, True)
    assert not isinstance(networks, str)
    assert tuple(str(network) for network in networks) == cidrs


def test_at_the_socket_a_range_that_may_not_be_opened_opens_nothing() -> None:
    assert allowed_networks(("127.0.0.0/8", "10.0.0.0/8", "0.0.0.0/0"), False) == (ip_network("10.0.0.0/8"),)


@pytest.mark.parametrize(
    "secret",
    ["https://user:hunter2@example.com/", "https://exa mple.com/hunter2", "https://example.com/hunter2#x"],
)
def test_no_message_repeats_what_may_be_secret(secret: str) -> None:
    problem = check_url(secret, OPEN, False)
    assert problem is not None
    assert "hunter2" not in problem
