"""A turn keeps its session for as long as it lives, and not much longer than its process does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from core.contracts import ShortTermMemory
from core.errors import StoreUnavailable

RENEWED_EVERY_S = 4.0
"""Well below ``ShortTermConfig.lock_ttl_s``, so that two renewals may fail."""


@asynccontextmanager
async def renewed(
    short_term: ShortTermMemory, session_id: str, holder: str, every_s: float = RENEWED_EVERY_S
) -> AsyncIterator[None]:
    """Renew a lock during the block. An outage of Redis is waited out: the turn goes on without its lock."""

    async def renew() -> None:
        while True:
            await asyncio.sleep(every_s)
            try:
                await short_term.renew(session_id, holder)
            except StoreUnavailable:
                continue

    task = asyncio.create_task(renew())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
