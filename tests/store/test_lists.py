from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hookstead.delivery.ports import (
    CancelReason,
    DeliveryQuery,
    DeliveryStatus,
    EventQuery,
    InvalidCursor,
    NewEvent,
    Store,
)
from store.samples import DEAD, NOW, A, B, Host, attempt, delivery_id, event


async def all_deliveries(store: Store, query: DeliveryQuery, limit: int) -> list[str]:
    found: list[str] = []
    cursor = None
    while True:
        page = await store.deliveries(query, cursor=cursor, limit=limit)
        assert len(page.items) <= limit
        found += [row.id for row in page.items]
        cursor = page.next_cursor
        if cursor is None:
            return found


async def all_events(store: Store, query: EventQuery, limit: int) -> list[str]:
    found: list[str] = []
    cursor = None
    while True:
        page = await store.events(query, cursor=cursor, limit=limit)
        found += [row.id for row in page.items]
        cursor = page.next_cursor
        if cursor is None:
            return found


async def history(store: Store) -> list[NewEvent]:
    """48 events with one to two deliveries, spread over types, channels, endpoints, statuses and time."""
    made = []
    for place in range(48):
        one = event(
            *([A], [B], [A, B])[place % 3],
            at=NOW + place // 2,
            type_=("order.paid", "order.sent")[place % 2],
            channels=((), ("client_1",), ("client_11", "agent_2"))[place % 3],
            claimed=True,
        )
        made.append(one)
        await store.accept([one])
        if place % 4 == 1:
            await store.record([attempt(delivery_id(one), endpoint=one.deliveries[0].endpoint)], {})
        if place % 4 == 2:
            await store.record([attempt(delivery_id(one), DEAD, endpoint=one.deliveries[0].endpoint)], {})
        if place == 20:
            await store.cancel(A, reason=CancelReason.ENDPOINT_DISABLED, now_ms=NOW + 20)
    return made


async def expected(store: Store, made: list[NewEvent], query: DeliveryQuery) -> list[str]:
    rows = []
    for one in reversed(made):
        for delivery in reversed(one.deliveries):
            found = await store.delivery(delivery.id)
            assert found is not None
            row = found[0]
            if (
                query.endpoint in (None, row.endpoint)
                and query.status in (None, row.status)
                and query.event_type in (None, row.event_type)
                and (query.channel is None or query.channel in row.channels)
                and (query.since_ms is None or row.created_ms >= query.since_ms)
                and (query.until_ms is None or row.created_ms < query.until_ms)
            ):
                rows.append(row.id)
    return rows


async def test_every_combination_of_filters_lists_exactly_what_matches_newest_first(store: Store) -> None:
    made = await history(store)
    limit = 0
    for endpoint in (None, "a", "b", "none"):
        for status in (None, *DeliveryStatus):
            for event_type in (None, "order.sent", "order"):
                for channel in (None, "client_1", "agent_2"):
                    limit = limit % 7 + 1
                    query = DeliveryQuery(endpoint=endpoint, status=status, event_type=event_type, channel=channel)
                    assert await all_deliveries(store, query, limit) == await expected(store, made, query), query


@pytest.mark.parametrize(("since", "until"), [(None, 5), (5, None), (3, 9), (9, 3), (0, 0), (-5, 1000)])
async def test_since_is_inclusive_and_until_exclusive(store: Store, since: int | None, until: int | None) -> None:
    made = await history(store)
    since_ms = None if since is None else NOW + since
    until_ms = None if until is None else NOW + until
    query = DeliveryQuery(since_ms=since_ms, until_ms=until_ms)
    assert await all_deliveries(store, query, 5) == await expected(store, made, query)
    wanted = [
        one.id
        for one in reversed(made)
        if (since_ms is None or one.accepted_ms >= since_ms) and (until_ms is None or one.accepted_ms < until_ms)
    ]
    assert await all_events(store, EventQuery(since_ms=since_ms, until_ms=until_ms), 5) == wanted


async def test_events_are_filtered_by_type_and_channel(store: Store) -> None:
    made = await history(store)
    for event_type in (None, "order.paid", "order"):
        for channel in (None, "client_1", "client_11", "client"):
            wanted = [
                one.id
                for one in reversed(made)
                if event_type in (None, one.type) and (channel is None or channel in one.channels)
            ]
            assert await all_events(store, EventQuery(event_type=event_type, channel=channel), 4) == wanted


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(steps=st.lists(st.integers(-5000, 5000), min_size=1, max_size=20))
async def test_times_are_filtered_exactly_whatever_the_clock_did(host: Host, steps: list[int]) -> None:
    store = await host.open()
    earlier = await all_events(store, EventQuery(), 100)
    made = [event(A, at=NOW + step) for step in steps]
    for one in made:
        await store.accept([one])
    for edge in steps[:4]:
        since = EventQuery(since_ms=NOW + edge)
        newer = [one.id for one in reversed(made) if one.accepted_ms >= NOW + edge]
        assert [name for name in await all_events(store, since, 100) if name not in earlier] == newer
        older = [one.id for one in reversed(made) if one.accepted_ms < NOW + edge]
        until = EventQuery(until_ms=NOW + edge)
        assert [name for name in await all_events(store, until, 100) if name not in earlier] == older


async def test_a_cursor_stays_while_events_arrive_and_statuses_change(store: Store) -> None:
    made = await history(store)
    page = await store.deliveries(DeliveryQuery(), cursor=None, limit=10)
    await store.accept([event(A) for _ in range(20)])
    await store.cancel(B, reason=CancelReason.ENDPOINT_DELETED, now_ms=NOW + 100)
    rest: list[str] = []
    cursor = page.next_cursor
    while cursor is not None:
        following = await store.deliveries(DeliveryQuery(), cursor=cursor, limit=10)
        rest += [row.id for row in following.items]
        cursor = following.next_cursor
    before = [delivery.id for one in reversed(made) for delivery in reversed(one.deliveries)]
    assert [row.id for row in page.items] + rest == before


async def test_a_last_page_has_no_cursor(store: Store) -> None:
    await store.accept([event(A) for _ in range(4)])
    assert (await store.deliveries(DeliveryQuery(), cursor=None, limit=4)).next_cursor is None
    assert (await store.events(EventQuery(), cursor=None, limit=4)).next_cursor is None
    assert (await store.events(EventQuery(), cursor=None, limit=3)).next_cursor is not None


@pytest.mark.parametrize(
    "cursor", ["", "x", "AAAAAAAAAAAAAAAAAA", "é", "ZAAGiEvqKFQDkdRxPw==", "0", "'", "a" * 5000, "ZAAG iEvq"]
)
async def test_a_cursor_that_was_never_given_out_is_invalid(store: Store, cursor: str) -> None:
    with pytest.raises(InvalidCursor):
        await store.deliveries(DeliveryQuery(), cursor=cursor, limit=5)
    with pytest.raises(InvalidCursor):
        await store.events(EventQuery(), cursor=cursor, limit=5)


async def test_a_cursor_belongs_to_its_list(store: Store) -> None:
    await store.accept([event(A) for _ in range(4)])
    of_deliveries = (await store.deliveries(DeliveryQuery(), cursor=None, limit=1)).next_cursor
    of_events = (await store.events(EventQuery(), cursor=None, limit=1)).next_cursor
    assert of_deliveries is not None
    assert of_events is not None
    with pytest.raises(InvalidCursor):
        await store.events(EventQuery(), cursor=of_deliveries, limit=1)
    with pytest.raises(InvalidCursor):
        await store.deliveries(DeliveryQuery(), cursor=of_events, limit=1)
    flipped = of_events[:-2] + ("A" if of_events[-2] != "A" else "B") + of_events[-1]
    with pytest.raises(InvalidCursor):
        await store.events(EventQuery(), cursor=flipped, limit=1)


async def test_lists_of_events_carry_no_payload(store: Store) -> None:
    await store.accept([event(A)])
    [row] = (await store.events(EventQuery(), cursor=None, limit=5)).items
    assert (row.data, row.deliveries) == (None, ())
