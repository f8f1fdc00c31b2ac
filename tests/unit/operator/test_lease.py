"""Who leads: the rules of the Lease, without a cluster."""

from __future__ import annotations

import time
from typing import Any

import pytest

from hookstead.operator.kube import Conflict, NotFound, Unavailable
from hookstead.operator.lease import (
    LEASE_SECONDS,
    RENEW_SECONDS,
    Elector,
    LeaseLost,
    Observation,
    Record,
    claim,
    observe,
    since_boot,
    still_leads,
)


def test_an_empty_lease_is_taken_and_counts_a_transition() -> None:
    assert claim(Observation(record=Record(), since=0.0), identity="a", now=0.0) == Record(holder="a", transitions=1)


def test_a_holder_renews_without_a_transition() -> None:
    seen = Observation(record=Record(holder="a", transitions=4), since=0.0)
    assert claim(seen, identity="a", now=99.0) == Record(holder="a", transitions=4)


@pytest.mark.parametrize(("silent", "taken"), [(0.0, False), (LEASE_SECONDS - 0.01, False), (LEASE_SECONDS, True)])
def test_another_ones_lease_is_taken_after_it_was_silent_for_its_whole_length(silent: float, taken: bool) -> None:
    seen = Observation(record=Record(holder="b", transitions=4), since=100.0)
    wanted = claim(seen, identity="a", now=100.0 + silent)
    assert wanted == (Record(holder="a", transitions=5) if taken else None)


def test_silence_is_measured_from_the_last_change_that_we_saw() -> None:
    first = observe(None, Record(holder="b", renew_time="1"), now=0.0)
    assert observe(first, Record(holder="b", renew_time="1"), now=10.0).since == 0.0
    assert observe(first, Record(holder="b", renew_time="2"), now=10.0).since == 10.0


def test_a_leader_deposes_itself_before_anybody_may_follow() -> None:
    assert still_leads(renewed=0.0, now=RENEW_SECONDS - 0.01)
    assert not still_leads(renewed=0.0, now=RENEW_SECONDS)
    assert RENEW_SECONDS < LEASE_SECONDS


class Leases:
    """One Lease, with the API server's optimistic locking."""

    def __init__(self) -> None:
        self.body: dict[str, Any] | None = None
        self.version = 0
        self.away = False

    async def get(self, _path: str) -> Any:
        self._check()
        if self.body is None:
            raise NotFound("no lease", status=404)
        return self.body

    async def create(self, _path: str, body: Any) -> Any:
        self._check()
        if self.body is not None:
            raise Conflict("exists", status=409)
        return self._store(body)

    async def replace(self, _path: str, body: Any) -> Any:
        self._check()
        if body["metadata"].get("resourceVersion") != str(self.version):
            raise Conflict("changed", status=409)
        return self._store(body)

    def _check(self) -> None:
        if self.away:
            raise Unavailable("away")

    def _store(self, body: Any) -> Any:
        self.version += 1
        self.body = {**body, "metadata": {**body["metadata"], "resourceVersion": str(self.version)}}
        return self.body


class Time:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def elector(leases: Leases, clock: Time, identity: str) -> Elector:
    return Elector(leases, namespace="n", identity=identity, monotonic=clock)  # type: ignore[arg-type]  # a fake


async def test_of_two_candidates_one_leads() -> None:
    leases, clock = Leases(), Time()
    first, second = elector(leases, clock, "a"), elector(leases, clock, "b")
    await first.acquire()
    assert first.leads
    assert not await second._attempt()
    with pytest.raises(LeaseLost):
        second.check()


async def test_a_released_lease_is_taken_at_once_under_a_higher_count() -> None:
    leases, clock = Leases(), Time()
    first, second = elector(leases, clock, "a"), elector(leases, clock, "b")
    await first.acquire()
    await first.release()
    assert not first.leads
    assert await second._attempt()
    assert second.transitions == first.transitions + 1


async def test_a_leader_that_cannot_renew_stops_writing() -> None:
    leases, clock = Leases(), Time()
    leader = elector(leases, clock, "a")
    await leader.acquire()
    leases.away = True
    clock.now = RENEW_SECONDS - 1
    assert not await leader._attempt()
    leader.check()
    clock.now = RENEW_SECONDS
    with pytest.raises(LeaseLost):
        leader.check()


async def test_a_renewal_counts_from_when_it_was_sent() -> None:
    leases, clock = Leases(), Time()
    leader = elector(leases, clock, "a")
    await leader.acquire()
    clock.now = 5.0
    assert await leader._attempt()
    clock.now = 5.0 + RENEW_SECONDS - 0.01
    assert leader.leads


async def test_two_who_see_the_same_silence_do_not_both_win() -> None:
    leases, clock = Leases(), Time()
    old = elector(leases, clock, "old")
    await old.acquire()
    first, second = elector(leases, clock, "a"), elector(leases, clock, "b")
    await first._attempt()
    await second._attempt()
    clock.now = LEASE_SECONDS + 1
    stale = dict(leases.body or {})
    assert await first._attempt()
    second._version = stale["metadata"]["resourceVersion"]
    with pytest.raises(Conflict):
        await second._write(Record(holder="b", transitions=9))


def test_the_clock_of_the_election_is_none_that_anybody_sets() -> None:
    """It counts from the machine's start, also while that sleeps; the laws show that wall clocks do not matter."""
    before = time.clock_gettime(time.CLOCK_BOOTTIME)
    assert before <= since_boot() <= time.clock_gettime(time.CLOCK_BOOTTIME)
