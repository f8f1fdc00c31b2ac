"""The Secret of the internal port, followed through renewal, replacement and loss without shutting a gateway out."""

from __future__ import annotations

import asyncio
import base64
import copy
import itertools
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

import virtual_time
from hookstead.operator.gateways import Credentials
from hookstead.operator.internal_secret import (
    ASKED_CEILING_SECONDS,
    ASKED_SECONDS,
    FORMER_SECONDS,
    GENERATED,
    InternalSecret,
)
from hookstead.operator.kube import Conflict, NotFound
from virtual_time import VirtualClock

NOW = datetime(2026, 1, 31, tzinfo=UTC)


class Server:
    """An API server with this one Secret."""

    def __init__(self) -> None:
        self.body: dict[str, Any] | None = None

    async def get(self, _path: str) -> Any:
        if self.body is None:
            raise NotFound("none", status=404)
        return copy.deepcopy(self.body)

    async def create(self, _path: str, body: Any) -> Any:
        if self.body is not None:
            raise Conflict("exists", status=409)
        self.body = copy.deepcopy(body)
        return await self.get("")

    async def merge_patch(self, _path: str, patch: Any) -> Any:
        assert self.body is not None
        self.body["data"] |= patch["data"]
        return await self.get("")

    def text(self, key: str) -> str:
        assert self.body is not None
        return base64.b64decode(self.body["data"][key]).decode()

    def give(self, **texts: str) -> None:
        """As somebody else does."""
        data = {key.replace("_", "."): base64.b64encode(text.encode()).decode() for key, text in texts.items()}
        self.body = {"metadata": {"name": "s"}, "data": {**(self.body or {"data": {}})["data"], **data}}


class Time:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def following(server: Server, clock: Time | None = None) -> InternalSecret:
    return InternalSecret(server, namespace="n", name="s", monotonic=clock or Time())  # type: ignore[arg-type]  # a fake


def authorities(credentials: Any) -> int:
    return len(credentials.tls.get_ca_certs())


async def test_it_is_made_once_and_gives_the_same_object_while_nothing_changes() -> None:
    server = Server()
    one = following(server)
    first = await one.look(now=NOW)
    assert first.token == server.text("token")
    assert first.tokens == (first.token,)
    assert await one.look(now=NOW) is first


async def test_a_renewal_is_believed_beside_the_certificate_that_gateways_still_show() -> None:
    server = Server()
    one = following(server)
    first = await one.look(now=NOW)
    certificate = server.text("tls.crt")
    second = await one.look(now=NOW + timedelta(days=250))
    assert server.text("tls.crt") != certificate
    assert (authorities(first), authorities(second)) == (1, 2)
    assert second.token == first.token


async def test_the_former_token_and_authority_are_good_for_a_while_after_somebody_replaced_them() -> None:
    server, other, clock = Server(), Server(), Time()
    await following(other).look(now=NOW)
    one = following(server, clock)
    first = await one.look(now=NOW)
    keys = ("token", "ca.crt", "tls.crt", "tls.key")
    server.give(**{key.replace(".", "_"): other.text(key) for key in keys})
    second = await one.look(now=NOW)
    assert second.tokens == (other.text("token"), first.token)
    assert authorities(second) == 2
    clock.now = FORMER_SECONDS + 1
    third = await one.look(now=NOW)
    assert third.tokens == (other.text("token"),)
    assert authorities(third) == 1
    assert await one.look(now=NOW) is third


async def test_one_that_was_deleted_comes_back_with_its_token_and_the_former_authority() -> None:
    server = Server()
    one = following(server)
    first = await one.look(now=NOW)
    server.body = None
    second = await one.look(now=NOW)
    assert server.text("token") == first.token
    assert second.tokens == (first.token,)
    assert authorities(second) == 2
    assert GENERATED in server.body["metadata"]["annotations"]  # type: ignore[index]  # it was created


async def test_one_that_somebody_gave_is_not_made_anew_and_stays_in_use_while_it_is_gone() -> None:
    server = Server()
    server.give(token="given")
    one = following(server)
    first = await one.look(now=NOW)
    assert first.tls is None
    server.body = None
    assert await one.look(now=NOW) is first
    assert server.body is None
    server.give(token="another")
    assert (await one.look(now=NOW)).tokens == ("another", "given")


async def looks_of(one: InternalSecret, server: Server, *, changed_after: float) -> list[float]:
    """When it looked, in seconds, where a gateway refuses us all the time and somebody replaces the Secret."""
    loop, asked, looks = asyncio.get_running_loop(), asyncio.Event(), []

    def found(_: Credentials) -> None:
        looks.append(loop.time())
        asked.set()

    await one.look(now=NOW)
    asked.set()
    loop.call_later(changed_after, lambda: server.give(token="another"))
    following = loop.create_task(one.follow(asked, now=lambda: NOW, may_look=lambda: None, found=found))
    await asyncio.sleep(changed_after + 10)
    following.cancel()
    return looks


def test_a_refusal_is_looked_into_at_once_and_more_seldom_the_longer_it_lasts_until_something_is_new() -> None:
    server, clock = Server(), VirtualClock()
    server.give(token="given")

    async def main() -> list[float]:
        return await looks_of(following(server), server, changed_after=60)

    looks = virtual_time.run(main, clock=clock, outstanding=lambda: False)
    pauses = [after - before for before, after in itertools.pairwise(looks)]
    assert looks[0] == 0
    assert pauses[:4] == pytest.approx([0.6, 1.2, 2.4, 4.8])
    new = next(place for place, at in enumerate(looks) if at >= 60)
    assert looks[new] <= 60 + ASKED_CEILING_SECONDS
    assert pauses[4:new] == pytest.approx([ASKED_CEILING_SECONDS] * (new - 4))
    assert pauses[new] == pytest.approx(ASKED_SECONDS), "what is new may be followed by more"
