"""One dead endpoint, or its name server, delays no other: judged by what arrived while it hung, not by speed."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from builders import channel, endpoint
from faults.gateway_process import Life, home, until
from faults.receivers.nameserver import Zone, nameserver
from faults.sink import Sink, sink
from hookstead.resources.kinds import CircuitBreaker, DeliverySpec

HEALTHY: Final = tuple(f"healthy-{number}" for number in range(20))
SECONDS: Final = 4
PATIENT: Final = 60
"""How long an attempt at the black hole takes: longer than the test."""


def turns(*, dead: tuple[str, ...]) -> Iterator[str]:
    """Channels, two events for healthy ones between any two for dead ones."""
    healthy, hopeless = itertools.cycle(HEALTHY), itertools.cycle(dead)
    while True:
        yield next(healthy)
        yield next(hopeless)
        yield next(healthy)


async def traffic(life: Life, *, dead: tuple[str, ...], text: str = "", events: int = 150 * SECONDS) -> dict[str, str]:
    """100 events/s for the healthy and 50 for the dead; the event ids of the healthy, with their channel."""
    healthy: dict[str, str] = {}
    loop = asyncio.get_running_loop()
    began = loop.time()
    for number, name in enumerate(itertools.islice(turns(dead=dead), events)):
        answer = await life.publish(channels=[name], data={"text": text if name in dead else ""})
        assert answer.status == 202
        if name not in dead:
            healthy[answer.body["id"]] = name
        await asyncio.sleep(max(0.0, began + number / 150 - loop.time()))
    return healthy


def objects(receiver: Sink, host: str, *, dead: dict[str, str], in_flight: int) -> list[Any]:
    """Healthy endpoints and dead ones (URL by name), each with a channel of its own name. `host` has a `{}`."""
    patient = DeliverySpec(timeout_seconds=PATIENT, max_in_flight=in_flight, circuit_breaker=CircuitBreaker.NONE)
    port = receiver.url.rpartition(":")[2]
    return [
        *(channel(name) for name in (*HEALTHY, *dead)),
        *(endpoint(name, url=f"http://{host.format(name)}:{port}/{name}", channels=[name]) for name in HEALTHY),
        *(endpoint(name, url=url, channels=[name], delivery=patient) for name, url in dead.items()),
    ]


async def all_arrived(receiver: Sink, healthy: dict[str, str]) -> None:
    wanted = {(f"/{name}", event) for event, name in healthy.items()}

    async def there() -> bool:
        return receiver.seen.keys() >= wanted

    await until(there, what="every delivery of the healthy endpoints", seconds=20)
    assert receiver.seen.keys() == wanted
    assert set(receiver.seen.values()) == {1}


@pytest.mark.parametrize(
    ("in_flight", "size"),
    [
        pytest.param(20, 1000, id="as-configured-by-default"),
        pytest.param(1000, 1000, id="with-many-attempts-in-flight"),
        pytest.param(1000, 100_000, id="with-large-payloads-in-flight"),
    ],
)
async def test_a_receiver_that_never_answers_delays_no_other_endpoint(
    tmp_path: Path, in_flight: int, size: int
) -> None:
    async with sink() as receiver, sink() as hole:
        hole.gate = asyncio.Event()
        dead = {"hole": f"{hole.url}/hole"}

        async def swallowing() -> bool:
            return hole.open == min(in_flight, 50 * SECONDS)

        async with home(tmp_path, *objects(receiver, "127.0.0.1", dead=dead, in_flight=in_flight)) as place:
            life = await place.start("--drain-seconds", "0")
            healthy = await traffic(life, dead=("hole",), text="x" * size)
            await all_arrived(receiver, healthy)
            # All this while the hole swallowed what it was given and no attempt at it ended.
            await until(swallowing, what="the hole's connections")
            assert await life.metric("hookstead_attempts_total", endpoint="hole") == 0
            assert await life.metric("hookstead_deliveries", endpoint="hole", status="Pending") == 50 * SECONDS
            await life.stop()


async def test_names_that_nobody_answers_for_delay_no_other_name(tmp_path: Path) -> None:
    zone = Zone(addresses={f"{name}.test.example": ("127.0.0.1",) for name in HEALTHY}, silent=("dead.example",), ttl=1)
    dead = {f"dead-{number}": f"http://host-{number}.dead.example/hook" for number in range(10)}
    async with sink() as receiver, nameserver(zone) as server:
        listed = objects(receiver, "{}.test.example", dead=dead, in_flight=1000)
        async with home(tmp_path, *listed) as place:
            life = await place.start("--resolver", server, "--drain-seconds", "0")
            healthy = await traffic(life, dead=tuple(dead), events=30)
            await all_arrived(receiver, healthy)
            # Every healthy name was looked up and served before the first look-up of a dead one came to its end.
            assert await life.metric("hookstead_attempts_total", outcome="Failed") == 0
            healthy |= await traffic(life, dead=tuple(dead))
            await all_arrived(receiver, healthy)
            asked = {name for name, _ in zone.asked}
            assert {f"host-{number}.dead.example" for number in range(10)} <= asked
            await life.settled(len(healthy))

            async def failed() -> float:
                return await life.metric("hookstead_attempts_total", outcome="Failed")

            await until(failed, what="the end of a look-up that nobody answers")
            items = await life.deliveries(endpoint="dead-0", status="Pending")
            shown = (await life.get(f"/v1/deliveries/{items[-1]['id']}")).body
            assert {attempt["errorCode"] for attempt in shown["attempts"]} == {"dns"}
            await life.stop()
