"""Awaiting with a deadline, and cancelling without leftovers."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from typing import Any, TypeVar

from core.errors import Unavailable

T = TypeVar("T")


async def in_time(work: Awaitable[T], deadline: float) -> T:
    """Await one step of a turn; ``deadline`` is in the event loop's time.

    A limit must not span a ``yield``: the task that reads the stream on is another one than began it, and a
    timeout cancels the one that began.

    Raises:
        Unavailable: It took too long.
    """
    try:
        async with asyncio.timeout_at(deadline):
            return await work
    except TimeoutError:
        raise Unavailable("the turn took too long") from None


async def done(work: Awaitable[None]) -> bool:
    """Await ``work`` and say so: for stores whose failure reads as ``False``."""
    await work
    return True


async def cancel(tasks: Sequence[asyncio.Task[Any]]) -> None:
    """Cancel what still runs and wait for it, so that nothing outlives its turn."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
