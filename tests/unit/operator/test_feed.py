"""What Kopf is given to log in with."""

from __future__ import annotations

import asyncio

import pytest

from hookstead.operator import feed
from hookstead.operator.access import Access


async def test_each_login_is_another_one_and_those_that_follow_at_once_take_their_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Kopf would not take the same credentials again after a 401, which an API server may say in passing."""
    waited: list[float] = []

    async def sleep(seconds: float) -> None:
        waited.append(seconds)

    monkeypatch.setattr(asyncio, "sleep", sleep)
    logins = feed.Logins(Access(server="https://127.0.0.1:1", token="t"))
    made = [await logins.next() for _ in range(5)]
    assert len({one.priority for one in made}) == 5
    assert {one.aiohttp_session.headers["authorization"] for one in made} == {"Bearer t"}
    assert len(waited) == 4
    assert waited[-1] > waited[0]
    monkeypatch.setattr(feed, "QUIET_LOGIN_SECONDS", -1.0)
    await logins.next()
    assert len(waited) == 4, "a token that expired after a while is replaced at once"
    await logins.close()


async def test_the_connections_outlive_a_login(monkeypatch: pytest.MonkeyPatch) -> None:
    """Closed with it, they would end a watch that reads at that moment, and so all watching."""
    monkeypatch.setattr(feed, "QUIET_LOGIN_SECONDS", -1.0)
    logins = feed.Logins(Access(server="https://127.0.0.1:1", token="t"))
    session = (await logins.next()).aiohttp_session
    connector = session.connector
    assert connector is not None
    await session.close()
    closed = [session.closed]
    for _ in range(feed.KEPT_SESSIONS):
        await logins.next()
    assert [*closed, session.closed] == [False, True], "kept for a while, without piling up"
    assert not connector.closed
    await logins.close()
    assert connector.closed
