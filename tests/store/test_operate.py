from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from hookstead.config.model import RetentionPolicy
from hookstead.delivery.ports import (
    CancelReason,
    DeliveryStatus,
    EndpointCounts,
    EndpointKey,
    RedeliveryRefusal,
    Store,
    StoreUnavailable,
)
from store.samples import (
    DAY,
    DEAD,
    NOW,
    A,
    B,
    Host,
    attempt,
    claim,
    delivery_id,
    event,
    ids,
    retry,
    status_of,
)


async def test_cancelling_ends_every_pending_delivery_of_one_endpoint(store: Store) -> None:
    given = [event(A, B, claimed=True) for _ in range(3)]
    await store.accept(given)
    await store.record([attempt(delivery_id(given[0]))], {})
    assert await store.cancel(A, reason=CancelReason.ENDPOINT_DISABLED, now_ms=NOW + 7) == 2
    assert await store.cancel(A, reason=CancelReason.ENDPOINT_DELETED, now_ms=NOW + 9) == 0
    found = await store.delivery(delivery_id(given[1]))
    assert found is not None
    assert found[0].cancel_reason is CancelReason.ENDPOINT_DISABLED
    assert (found[0].completed_ms, found[0].next_attempt_ms) == (NOW + 7, None)
    counts = await store.counts()
    assert counts == {A: EndpointCounts(delivered=1, cancelled=2), B: EndpointCounts(pending=3)}


async def test_cancelling_an_unknown_endpoint_cancels_nothing(store: Store) -> None:
    assert await store.cancel(EndpointKey("x", "y"), reason=CancelReason.ENDPOINT_DELETED, now_ms=NOW) == 0


async def test_a_long_cancellation_lets_others_work_and_counts_all(store: Store) -> None:
    await store.accept([event(A) for _ in range(9000)])
    cancelling = asyncio.ensure_future(store.cancel(A, reason=CancelReason.ENDPOINT_DELETED, now_ms=NOW))
    await store.accept([event(B)])
    assert await cancelling == 9000
    assert await store.counts() == {A: EndpointCounts(cancelled=9000), B: EndpointCounts(pending=1)}


async def test_who_was_cancelled_is_told_a_transaction_at_a_time(store: Store) -> None:
    given = [event(A) for _ in range(9000)]
    await store.accept(given)
    told: list[tuple[EndpointKey, Sequence[str]]] = []
    await store.cancel(
        A, reason=CancelReason.ENDPOINT_DELETED, now_ms=NOW, ended=lambda key, ids_: told.append((key, ids_))
    )
    assert len(told) > 1, "no list of everything is held"
    assert {key for key, _ in told} == {A}
    assert sorted(one for _, some in told for one in some) == sorted(delivery_id(one) for one in given)


async def test_a_cancellation_goes_on_to_its_end_although_nobody_waits_any_longer(store: Store) -> None:
    await store.accept([event(A) for _ in range(9000)])
    cancelling = asyncio.ensure_future(store.cancel(A, reason=CancelReason.ENDPOINT_DELETED, now_ms=NOW))
    await asyncio.sleep(0)
    cancelling.cancel()
    for _ in range(10):
        await store.accept([event(B)])
    assert (await store.counts())[A] == EndpointCounts(cancelled=9000)


async def test_who_was_cancelled_by_an_erasure_or_by_age_is_told(store: Store) -> None:
    given = [event(A, B, claimed=True), event(A)]
    await store.accept(given)
    await store.record([attempt(delivery_id(given[0]))], {})
    told: list[tuple[EndpointKey, str]] = []

    def ended(key: EndpointKey, deliveries: Sequence[str]) -> None:
        told.extend((key, one) for one in deliveries)

    await store.erase_payload(given[0].id, now_ms=NOW, ended=ended)
    assert told == [(B, delivery_id(given[0], 1))]
    await store.expire(RetentionPolicy(), now_ms=NOW + 31 * DAY, limit=100, ended=ended)
    assert told[1:] == [(A, delivery_id(given[1]))]


async def test_cancelling_withdraws_manual_requests(store: Store) -> None:
    given = event(A, claimed=True)
    await store.accept([given])
    await store.record([attempt(delivery_id(given))], {})
    await store.request_redelivery(delivery_id(given), now_ms=NOW)
    assert await store.cancel(A, reason=CancelReason.ENDPOINT_DISABLED, now_ms=NOW) == 0
    assert ids(await claim(store)) == []
    assert await status_of(store, delivery_id(given)) is DeliveryStatus.DELIVERED


async def test_erasure_removes_the_payload_and_keeps_the_log(store: Store) -> None:
    given = event(A, B, claimed=True, data=b'"secret"')
    await store.accept([given])
    await store.record([attempt(delivery_id(given))], {})
    assert await store.erase_payload(given.id, now_ms=NOW + 5) == [B]
    found = await store.event(given.id)
    assert found is not None
    assert (found.data, found.type, found.timestamp) == (None, given.type, given.timestamp)
    assert [row.status for row in found.deliveries] == [DeliveryStatus.CANCELLED, DeliveryStatus.DELIVERED]
    assert found.deliveries[0].cancel_reason is CancelReason.PAYLOAD_ERASED
    assert found.deliveries[0].completed_ms == NOW + 5


async def test_erasure_of_what_does_not_exist_says_so(store: Store) -> None:
    assert await store.erase_payload("msg_" + "0" * 32, now_ms=NOW) is None
    assert await store.erase_payload("nonsense", now_ms=NOW) is None


async def test_erasure_twice_is_erasure_once(store: Store) -> None:
    given = event(A)
    await store.accept([given])
    assert await store.erase_payload(given.id, now_ms=NOW) == [A]
    assert await store.erase_payload(given.id, now_ms=NOW) == []


async def test_an_erased_payload_is_never_sent_again(store: Store) -> None:
    given = event(A, claimed=True)
    await store.accept([given])
    await store.record([attempt(delivery_id(given), DEAD)], {})
    await store.request_redelivery(delivery_id(given), now_ms=NOW)
    await store.erase_payload(given.id, now_ms=NOW)
    assert ids(await claim(store)) == []
    assert await store.request_redelivery(delivery_id(given), now_ms=NOW) is RedeliveryRefusal.PAYLOAD_ERASED
    assert await status_of(store, delivery_id(given)) is DeliveryStatus.DEAD_LETTERED


async def test_an_erased_payload_in_flight_is_settled_by_what_happened(store: Store) -> None:
    given = [event(A, claimed=True), event(A, claimed=True)]
    await store.accept(given)
    for one in given:
        await store.erase_payload(one.id, now_ms=NOW)
    await store.record([attempt(delivery_id(given[0])), attempt(delivery_id(given[1]), retry(NOW + 1))], {})
    assert await status_of(store, delivery_id(given[0])) is DeliveryStatus.DELIVERED
    assert await status_of(store, delivery_id(given[1])) is DeliveryStatus.CANCELLED


@pytest.mark.parametrize("name", ["dlv_" + "0" * 32, "dlv_", "", "msg_1", "dlv_\ud800", "dlv_'; --"])
async def test_an_unknown_delivery_is_not_found(store: Store, name: str) -> None:
    assert await store.delivery(name) is None
    assert await store.request_redelivery(name, now_ms=NOW) is RedeliveryRefusal.NOT_FOUND


@pytest.mark.parametrize("name", ["msg_" + "0" * 32, "msg_", "", "dlv_1", "msg_\ud800"])
async def test_an_unknown_event_is_not_found(store: Store, name: str) -> None:
    assert await store.event(name) is None


async def test_a_redelivery_names_the_endpoint_it_goes_to(store: Store) -> None:
    given = event(B)
    await store.accept([given])
    assert await store.request_redelivery(delivery_id(given), now_ms=NOW) == B


async def test_named_values_are_kept_over_a_restart(host: Host) -> None:
    store = await host.open()
    assert await store.get_blob("config") is None
    await store.put_blob("config", b"1")
    await store.put_blob("config", b"\x00" * 900_000)
    await store.put_blob("other", b"")
    store = await host.open()
    assert await store.get_blob("config") == b"\x00" * 900_000
    assert await store.get_blob("other") == b""


async def test_a_small_value_is_replaced_only_if_it_is_what_somebody_read(store: Store) -> None:
    assert not await store.replace_blob("counters", b"1", b"2")
    assert await store.replace_blob("counters", None, b"1")
    assert not await store.replace_blob("counters", None, b"2")
    assert not await store.replace_blob("counters", b"0", b"2")
    assert await store.get_blob("counters") == b"1"
    assert await store.replace_blob("counters", b"1", b"2")
    assert await store.get_blob("counters") == b"2"


async def test_closing_finishes_what_was_handed_in(host: Host) -> None:
    store = await host.open()
    given = [event(A) for _ in range(50)]
    accepting = [asyncio.ensure_future(store.accept([one])) for one in given]
    await asyncio.sleep(0)
    await store.close()
    await asyncio.gather(*accepting)
    store = await host.open()
    assert (await store.counts())[A] == EndpointCounts(pending=50)


async def test_a_closed_store_is_unavailable(host: Host) -> None:
    store = await host.open()
    await store.close()
    await store.close()
    for call in (
        store.accept([event(A)]),
        store.claim(A, now_ms=NOW, limit=1, max_bytes=1, ordered=False),
        store.counts(),
        store.record([], {}),
        store.boot(recent_limit=1),
    ):
        with pytest.raises(StoreUnavailable):
            await call
    await host.open()
