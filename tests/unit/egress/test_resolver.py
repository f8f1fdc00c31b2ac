"""The real resolver, against a name server of our own on loopback."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

import pytest

from faults.receivers.nameserver import AAAA, A, Zone, nameserver
from hookstead.egress.resolver import ADDRESS_LIMIT, CaresResolver, parse_server

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


class Now:
    """A clock that stands until it is moved."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


@contextlib.asynccontextmanager
async def resolving(
    zone: Zone, *, look_up_seconds: float = 5.0, cache_size: int = 100, now: Now | None = None
) -> AsyncIterator[CaresResolver]:
    async with nameserver(zone) as server:
        resolver = CaresResolver(
            servers=[parse_server(server)],
            look_up_seconds=look_up_seconds,
            cache_size=cache_size,
            monotonic=now or Now(),
        )
        try:
            yield resolver
        finally:
            await resolver.close()


async def test_both_families_are_asked_and_both_answers_given() -> None:
    zone = Zone({"hooks.example.com": ("2001:4860:4860::8888", "8.8.8.8", "8.8.4.4")})
    async with resolving(zone) as resolver:
        resolution = await resolver.resolve("hooks.example.com")
    assert resolution.addresses == ("8.8.8.8", "8.8.4.4", "2001:4860:4860::8888")
    assert sorted(zone.asked) == [("hooks.example.com", A), ("hooks.example.com", AAAA)]


async def test_only_the_absolute_name_is_asked_never_one_with_a_search_domain(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("LOCALDOMAIN", "svc.cluster.local")
    zone = Zone()
    async with resolving(zone) as resolver:
        resolution = await resolver.resolve("a.b")
    assert "NXDOMAIN" in resolution.failure
    assert {name for name, _ in zone.asked} == {"a.b"}


async def test_the_hosts_file_is_not_read() -> None:
    zone = Zone()
    async with resolving(zone) as resolver:
        resolution = await resolver.resolve("localhost")
    assert resolution.addresses == ()


async def test_an_alias_is_followed() -> None:
    zone = Zone({"real.example.net": ("8.8.8.8",)}, aliases={"hooks.example.com": "real.example.net"})
    async with resolving(zone) as resolver:
        assert (await resolver.resolve("hooks.example.com")).addresses == ("8.8.8.8",)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("absent.example.com", "NXDOMAIN"),
        ("empty.example.com", "no address"),
        ("broken.example.com", "SERVFAIL"),
        ("silent.example.com", "no answer within 0.5 s"),
    ],
)
async def test_a_failed_look_up_says_why(name: str, says: str) -> None:
    zone = Zone({"empty.example.com": (), "broken.example.com": ()}, silent=("silent.example.com",))
    zone.broken = ("broken.example.com",)
    async with resolving(zone, look_up_seconds=0.5) as resolver:
        resolution = await resolver.resolve(name)
    assert resolution.addresses == ()
    assert says in resolution.failure
    assert name in resolution.failure


async def test_an_answer_with_more_addresses_than_are_checked_is_refused() -> None:
    many = tuple(f"8.8.8.{n}" for n in range(ADDRESS_LIMIT + 1))
    async with resolving(Zone({"many.example.com": many})) as resolver:
        assert "more than" in (await resolver.resolve("many.example.com")).failure


async def test_a_stalled_zone_delays_no_other() -> None:
    zone = Zone({"healthy.example.com": ("8.8.8.8",)}, silent=("stalled.example",))
    async with resolving(zone) as resolver:
        stalled = [asyncio.create_task(resolver.resolve(f"h{n}.stalled.example")) for n in range(100)]
        await asyncio.sleep(0)
        assert (await resolver.resolve("healthy.example.com")).addresses == ("8.8.8.8",)
        assert not any(task.done() for task in stalled)
        assert zone.asked.count(("healthy.example.com", A)) == 1
        for task in stalled:
            task.cancel()
        await asyncio.gather(*stalled, return_exceptions=True)


async def test_a_hundred_callers_share_one_look_up_and_one_that_gives_up_ends_nobody_elses() -> None:
    zone = Zone({"hooks.example.com": ("8.8.8.8",)})
    async with resolving(zone) as resolver:
        callers = [asyncio.create_task(resolver.resolve("hooks.example.com")) for _ in range(100)]
        await asyncio.sleep(0)
        callers[0].cancel()
        rest = await asyncio.gather(*callers[1:])
    assert {resolution.addresses for resolution in rest} == {("8.8.8.8",)}
    assert len(zone.asked) == 2


async def test_an_answer_is_kept_for_its_ttl() -> None:
    now = Now()
    zone = Zone({"a.example.com": ("8.8.8.8",)}, ttl=30)
    async with resolving(zone, now=now) as resolver:
        await resolver.resolve("a.example.com")
        now.seconds += 29
        assert (await resolver.resolve("a.example.com")).addresses == ("8.8.8.8",)
    assert len(zone.asked) == 2


async def test_an_answer_that_must_not_be_kept_is_kept_for_a_second() -> None:
    now = Now()
    zone = Zone({"a.example.com": ("8.8.8.8",)}, ttl=0)
    async with resolving(zone, now=now) as resolver:
        await resolver.resolve("a.example.com")
        await resolver.resolve("a.example.com")
        assert len(zone.asked) == 2
        now.seconds += 1.5
        zone.addresses = {"a.example.com": ("8.8.4.4",)}
        assert (await resolver.resolve("a.example.com")).addresses == ("8.8.4.4",)


async def test_the_cache_is_bounded() -> None:
    zone = Zone({f"n{n}.example.com": ("8.8.8.8",) for n in range(5)}, ttl=0)
    async with resolving(zone, cache_size=2) as resolver:
        for n in range(5):
            await resolver.resolve(f"n{n}.example.com")
        before = len(zone.asked)
        await resolver.resolve("n4.example.com")
        assert len(zone.asked) == before
        await resolver.resolve("n0.example.com")
        assert len(zone.asked) > before


async def test_a_resolver_closed_with_look_ups_under_way_ends_them() -> None:
    zone = Zone(silent=("stalled.example",))
    async with resolving(zone) as resolver:
        caller = asyncio.create_task(resolver.resolve("a.stalled.example"))
        await asyncio.sleep(0)
    assert "closed" in (await caller).failure


@pytest.mark.parametrize(
    ("text", "server"),
    [
        ("10.0.0.53", "10.0.0.53:53"),
        ("127.0.0.1:5353", "127.0.0.1:5353"),
        ("::1", "[::1]:53"),
        ("[::1]:5353", "[::1]:5353"),
    ],
)
def test_a_name_server_is_an_address_with_an_optional_port(text: str, server: str) -> None:
    assert parse_server(text) == server


@pytest.mark.parametrize("text", ["", "dns.example.com", "10.0.0.53:0", "10.0.0.53:65536", "127.1", "1.1.1.1,8.8.8.8"])
def test_anything_else_is_no_name_server(text: str) -> None:
    with pytest.raises(ValueError, match="not a name server"):
        parse_server(text)
