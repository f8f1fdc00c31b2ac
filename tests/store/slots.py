"""Stores on one database that share the slots out, as engines make them do."""

from __future__ import annotations

import asyncio

from hookstead.delivery.ports import SLOTS, Look
from hookstead.store.postgres.store import PostgresStore

ALL = frozenset(range(SLOTS))


async def shared_out(*stores: PostgresStore) -> list[Look]:
    """Let each look, and let go what it should not have, until every slot is its owner's; the last looks."""
    for store in stores:
        await store.peers.look()  # from here on it takes part
    async with asyncio.timeout(60):
        while True:
            looks = []
            for store in stores:
                look = await store.peers.look()
                await store.peers.let_go(look.unwanted)
                looks.append(look)
            owned = [slot for look in looks for slot in look.owned]
            if len(owned) == SLOTS and not any(look.unwanted for look in looks):
                assert frozenset(owned) == ALL, "a slot has one owner"
                return looks
            await asyncio.sleep(0.02)
