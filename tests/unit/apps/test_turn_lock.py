"""A living turn renews its lock; a dead one loses it."""

from __future__ import annotations

import asyncio

from apps.chat.turn_lock import renewed
from core.errors import StoreUnavailable
from memory.fakes import FakeShortTermMemory
from memory.short_term import ShortTermConfig


async def test_the_lock_is_renewed_during_the_block_only() -> None:
    now = 0.0
    store = FakeShortTermMemory(ShortTermConfig(lock_ttl_s=15), clock=lambda: now)
    assert await store.acquire("s", "a")
    async with renewed(store, "s", "a", every_s=0.001):
        for _ in range(4):
            now += 10
            await asyncio.sleep(0.02)
            assert not await store.acquire("s", "b")
    now += 16
    await asyncio.sleep(0.02)
    assert await store.acquire("s", "b")


async def test_an_outage_does_not_end_the_turn() -> None:
    calls = 0

    class Down(FakeShortTermMemory):
        async def renew(self, session_id: str, holder: str) -> bool:
            nonlocal calls
            calls += 1
            raise StoreUnavailable("Redis does not answer", "redis")

    async with renewed(Down(), "s", "a", every_s=0.001):
        await asyncio.sleep(0.05)
    assert calls > 2
