"""Forgetting: what is erased leaves every store.

All stores are asked first whether they answer, so that an erasure is refused as a whole rather than half done.
Should one fail in between, the same call again finishes the work.
"""

from __future__ import annotations

from core.contracts import LongTermMemory, ShortTermMemory
from memory.index import MemoryIndex

_MOST_SPOOLED = 1_000_000


async def erase_fan(fan_id: str, long_term: LongTermMemory, short_term: ShortTermMemory, index: MemoryIndex) -> int:
    """Erase a fan everywhere; returns how many sessions they had.

    Raises:
        StoreUnavailable: a store is down; call again.
    """
    await long_term.ping()
    await short_term.ping()
    await index.ping()
    await _erase_spooled(fan_id, short_term)  # first: a drained turn would bring the fan back
    session_ids = await long_term.delete_fan(fan_id)
    await short_term.forget(session_ids)
    await index.forget_fan(fan_id)
    return len(session_ids)


async def erase_memory(fan_id: str, memory_id: str, long_term: LongTermMemory, index: MemoryIndex) -> bool:
    """Erase one memory of a fan; false when there is none of that id.

    Raises:
        StoreUnavailable: a store is down; call again.
    """
    await index.ping()
    if not await long_term.delete_memory(fan_id, memory_id):
        return False
    await index.forget_memories([memory_id])
    return True


async def _erase_spooled(fan_id: str, short_term: ShortTermMemory) -> None:
    entries = await short_term.spooled(_MOST_SPOOLED)
    mine = [(stream_id, turn) for stream_id, turn in entries if turn.fan_id == fan_id]
    await short_term.unspool([stream_id for stream_id, _ in mine])
    await short_term.forget([turn.session_id for _, turn in mine])
