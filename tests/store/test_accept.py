from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from hookstead.config.model import RetentionPolicy
from hookstead.delivery.ports import Accepted, CallerId, Clash, Duplicate, EndpointCounts, Store
from store.samples import DAY, NOW, A, B, Host, attempt, claim, delivery_id, event, ids


async def test_an_accepted_event_comes_back_byte_for_byte(store: Store) -> None:
    data = b'{"a" : 1.0, "b":"\\u00e9\xc3\xa9", "c":\t[ ]}'
    given = event(A, data=data, channels=("client_1", "agent_2"), source="/src", traceparent="00-aa-bb-01")
    assert await store.accept([given]) == [Accepted(given.id, 1)]
    found = await store.event(given.id)
    assert found is not None
    assert (found.data, found.timestamp, found.channels) == (data, given.timestamp, given.channels)
    assert (found.source, found.type, found.accepted_ms) == ("/src", given.type, NOW)
    [job] = (await claim(store)).jobs
    assert (job.data, job.timestamp, job.channels) == (data, given.timestamp, given.channels)
    assert (job.source, job.traceparent, job.event_id, job.event_type) == ("/src", "00-aa-bb-01", given.id, given.type)
    assert (job.attempt_count, job.schedule_position, job.due_ms, job.in_order) == (0, 0, NOW, True)


async def test_an_event_for_nobody_is_kept(store: Store) -> None:
    given = event()
    assert await store.accept([given]) == [Accepted(given.id, 0)]
    found = await store.event(given.id)
    assert found is not None
    assert found.deliveries == ()


async def test_every_endpoint_of_an_event_gets_its_own_delivery(store: Store) -> None:
    given = event(A, B)
    await store.accept([given])
    assert ids(await claim(store, A)) == [delivery_id(given, 0)]
    assert ids(await claim(store, B)) == [delivery_id(given, 1)]
    counts = await store.counts()
    assert counts == {A: EndpointCounts(pending=1), B: EndpointCounts(pending=1)}


@pytest.mark.parametrize("form", ["msg_{:032x}", "msg_{:032X}", "msg_{:026d}x", "msg_{}", "msg_Ünï{}"])
async def test_ids_of_any_form_come_back_as_they_were(store: Store, form: str) -> None:
    given = replace(event(A), id=form.format(0xABCDEF))
    await store.accept([given])
    found = await store.event(given.id)
    assert found is not None
    assert found.id == given.id


async def test_the_same_id_with_the_same_content_is_a_duplicate_of_the_first(store: Store) -> None:
    first = event(A, B, caller="k")
    await store.accept([first])
    assert await store.accept([event(A, caller="k")]) == [Duplicate(first.id, 2)]
    assert (await store.counts())[A] == EndpointCounts(pending=1)


async def test_the_same_id_with_other_content_clashes(store: Store) -> None:
    first = event(A, caller="k")
    await store.accept([first])
    assert await store.accept([event(A, caller="k", content="other")]) == [Clash(first.id)]


async def test_events_of_one_call_with_one_id_are_judged_one_after_the_other(store: Store) -> None:
    first, second, third = event(A, caller="k"), event(A, caller="k"), event(A, caller="k", content="other")
    answers = await store.accept([first, second, third])
    assert answers == [Accepted(first.id, 1), Duplicate(first.id, 1), Clash(first.id)]


async def test_events_of_concurrent_calls_with_one_id_are_accepted_once(store: Store) -> None:
    calls = [store.accept([event(A, caller="k")]) for _ in range(50)]
    answers = [answer for [answer] in await asyncio.gather(*calls)]
    [first] = [answer for answer in answers if isinstance(answer, Accepted)]
    assert [answer for answer in answers if answer != first] == [Duplicate(first.id, 1)] * 49


async def test_spaces_keep_equal_ids_apart(store: Store) -> None:
    pairs = [("", "k"), ("/a", "k"), ("/ak", ""), ("/a", "k:"), ("1:", "k"), ("", "1:k")]
    answers = await store.accept([event(A, caller=name, space=space) for space, name in pairs])
    assert all(isinstance(answer, Accepted) for answer in answers)


async def test_a_caller_id_with_any_character_is_kept_apart_and_found_again(store: Store) -> None:
    given = [replace(event(A), caller_id=CallerId("s\x00", name)) for name in ("x", "x\x00", "\x00x", "é", "'")]
    assert all(isinstance(answer, Accepted) for answer in await store.accept(given))
    again = [replace(event(A), caller_id=one.caller_id) for one in given]
    assert await store.accept(again) == [Duplicate(one.id, 1) for one in given]


async def test_a_caller_id_is_known_after_a_restart(host: Host) -> None:
    store = await host.open()
    first = event(A, caller="k")
    await store.accept([first])
    store = await host.open()
    assert await store.accept([event(A, caller="k")]) == [Duplicate(first.id, 1)]


async def test_a_caller_id_is_kept_for_a_day_even_when_the_event_is_gone(store: Store) -> None:
    given = event(A, caller="k", claimed=True)
    await store.accept([given])
    await store.record([attempt(delivery_id(given))], {})
    shortest = RetentionPolicy(payload_days=1, attempt_days=1, dead_letter_days=1)
    await expire_all(store, shortest, NOW + DAY - 1)
    assert await store.accept([event(A, caller="k", at=NOW + DAY - 1)]) == [Duplicate(given.id, 1)]


async def test_a_caller_id_is_free_again_long_after(store: Store) -> None:
    await store.accept([event(caller="k")])
    await expire_all(store, RetentionPolicy(), NOW + 3 * DAY)
    again = event(caller="k", content="other", at=NOW + 3 * DAY)
    assert await store.accept([again]) == [Accepted(again.id, 0)]


async def test_caller_ids_are_forgotten_a_few_at_a_time_and_none_before_its_day(store: Store) -> None:
    days = {day: [f"{day}-{number}" for number in range(7)] for day in range(3)}
    for day, names in days.items():
        await store.accept([event(caller=name, at=NOW + day * DAY) for name in names[:4]])
        # Some of these are known already, in between.
        await store.accept([event(caller=name, at=NOW + day * DAY) for name in [*names[2:], names[0]]])
    now, more = NOW + 3 * DAY - 1, True
    for _ in range(50):
        more = await store.expire(RetentionPolicy(), now_ms=now, limit=3)
        if not more:
            break
    assert not more
    assert await store.check() == []
    for day, names in days.items():
        answers = await store.accept([event(caller=name, at=now) for name in names])
        assert {type(one) for one in answers} == {Duplicate if day == 2 else Accepted}


async def test_what_was_accepted_is_there_after_a_restart(host: Host) -> None:
    store = await host.open()
    given = [event(A, B, claimed=True) for _ in range(30)]
    await asyncio.gather(*(store.accept([one]) for one in given))
    store = await host.open()
    boot = await store.boot(recent_limit=5)
    assert boot.counts == {A: EndpointCounts(pending=30), B: EndpointCounts(pending=30)}
    assert boot.next_due_ms == {A: NOW, B: NOW}
    assert ids(await claim(store, A)) == [delivery_id(one) for one in given]


async def test_answers_come_in_the_order_of_the_events(store: Store) -> None:
    given = [event(*([A] if place % 2 else [A, B])) for place in range(300)]
    answers = await store.accept(given)
    assert answers == [Accepted(one.id, len(one.deliveries)) for one in given]


async def test_accepting_nothing_is_no_work(store: Store) -> None:
    assert await store.accept([]) == []


async def test_one_impossible_event_does_not_fail_the_others_of_its_group(store: Store) -> None:
    good = event(A)
    broken = replace(event(A), id="wrong")
    again = replace(event(A), id=good.id)
    answers = await asyncio.gather(
        store.accept([good]),
        store.accept([broken]),
        *(store.accept([event(B)]) for _ in range(20)),
        store.accept([again]),
        return_exceptions=True,
    )
    assert [isinstance(answer, Exception) for answer in answers] == [False, True, *[False] * 20, True]
    assert (await store.counts()) == {A: EndpointCounts(pending=1), B: EndpointCounts(pending=20)}


async def expire_all(store: Store, policy: RetentionPolicy, now: int) -> None:
    while await store.expire(policy, now_ms=now, limit=1000):
        pass
