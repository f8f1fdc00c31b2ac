"""Laws of the address policy, for every address and every text."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address

from hypothesis import given
from hypothesis import strategies as st

from hookstead.config.addresses import (
    SPECIAL_RANGES,
    Target,
    UrlProblem,
    allowed_networks,
    check_url,
    deny_reason,
    host_denial,
    parse_allowed,
    parse_url,
)
from hookstead.config.model import EgressPolicy

CIDRS = ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7", "127.0.0.0/8", "::1/128")
EVERYTHING = allowed_networks(CIDRS, True)
NETWORKS_NEAR = st.sampled_from([row.cidr for row in SPECIAL_RANGES]).map(lambda cidr: cidr.partition("/")[0])
ADDRESSES = st.one_of(
    st.ip_addresses(v=4),
    st.ip_addresses(v=6),
    # Around the edges of the table's rows, where a mask that is off by one would show.
    st.tuples(NETWORKS_NEAR, st.integers(-3, 3)).map(lambda pair: _offset(*pair)),
)
URLISH = st.text(alphabet="https:/@?#[]%.-_\\ \t\n01279abxyzé①。", max_size=40).map(lambda rest: "http://" + rest)


def _offset(text: str, by: int) -> IPv4Address | IPv6Address:
    address = ip_address(text)
    number = (int(address) + by) % (1 << address.max_prefixlen)
    return IPv4Address(number) if address.version == 4 else IPv6Address(number)


@given(ADDRESSES)
def test_what_the_standard_library_calls_private_or_special_is_never_open_to_the_public(
    address: IPv4Address | IPv6Address,
) -> None:
    """Ours is stricter than `ipaddress` in places and never laxer."""
    if deny_reason(address) is None:
        assert address.is_global
        assert not address.is_multicast
        assert not address.is_private


@given(ADDRESSES)
def test_opening_everything_that_can_be_opened_opens_only_private_space(address: IPv4Address | IPv6Address) -> None:
    opened = deny_reason(address, allowed=EVERYTHING, allow_loopback=True) is None
    if opened and deny_reason(address) is not None:
        assert any(address in network for network in EVERYTHING if network.version == address.version)


@given(ADDRESSES)
def test_a_text_and_its_address_are_judged_alike(address: IPv4Address | IPv6Address) -> None:
    assert deny_reason(str(address)) == deny_reason(address)


@given(st.text(max_size=60))
def test_no_text_breaks_a_judgement(text: str) -> None:
    deny_reason(text)
    host_denial(text)
    parse_allowed((text,), True)
    parse_url(text)


@given(st.one_of(URLISH, st.text(max_size=60), st.from_regex(r"https?://[^/?#\s][!-~]*", fullmatch=True)))
def test_a_url_is_refused_or_has_exactly_one_meaning(text: str) -> None:
    target = parse_url(text)
    if isinstance(target, UrlProblem):
        assert check_url(text, EgressPolicy(plaintext_http=True), True) is not None
        return
    assert isinstance(target, Target)
    assert text.startswith(f"{target.scheme}://")
    assert "@" not in target.authority
    assert 1 <= target.port <= 65535
    assert target.path_and_query.startswith("/")
    assert text.endswith((target.path_and_query, target.path_and_query[1:]))
    assert all("!" <= character <= "~" for character in target.path_and_query)
    again = parse_url(f"{target.scheme}://{target.authority}{target.path_and_query}")
    assert again == target


@given(st.integers(0, 2**32 - 1), st.integers(0, 32), st.booleans())
def test_a_range_is_accepted_iff_all_of_it_may_be_opened(number: int, prefix: int, loopback: bool) -> None:
    mask = ((1 << prefix) - 1) << (32 - prefix)
    network, last = IPv4Address(number & mask), IPv4Address((number & mask) | (2**32 - 1) ^ mask)
    parsed = parse_allowed((f"{network}/{prefix}",), loopback)
    if not isinstance(parsed, str):
        for address in (network, last):
            reason = deny_reason(address, allowed=parsed, allow_loopback=loopback)
            assert reason is None or "metadata" in reason
            assert deny_reason(address, allow_loopback=loopback) is not None
