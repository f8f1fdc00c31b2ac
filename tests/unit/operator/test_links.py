"""The operator's link to a gateway, where it must outlive a fault."""

from __future__ import annotations

import asyncio

import pytest

from hookstead.config.model import Epoch
from hookstead.operator import gateways
from hookstead.operator.gateways import Credentials, Gateways, Listeners, Package
from hookstead.operator.lease import LeaseLost


async def test_a_link_goes_on_pushing_when_the_lease_is_renewed_after_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gateways, "RETRY_FLOOR_SECONDS", 0.0)
    asked, again = 0, asyncio.Event()

    def may_write() -> None:
        nonlocal asked
        asked += 1
        if asked == 1:
            raise LeaseLost("stopped for longer than the Lease")
        again.set()

    fleet = Gateways(
        credentials=Credentials,
        listeners=Listeners(
            changed=lambda: None, reported=lambda *_: None, superseded=lambda _: None, refused=lambda: None
        ),
        monotonic=lambda: 0.0,
        may_write=may_write,
    )
    fleet.set_live(["http://127.0.0.1:1"])
    fleet.publish(Package(body=b"", digest="sha256:0", epoch=Epoch(term=1, sequence=1)))
    try:
        await asyncio.wait_for(again.wait(), 5)
    finally:
        await fleet.close()
