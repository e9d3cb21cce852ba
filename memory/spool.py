"""Turns that were answered while PostgreSQL was down, brought home."""

from __future__ import annotations

from core.contracts import LongTermMemory, ShortTermMemory
from core.errors import InvalidRequest
from core.logs import get_logger


async def drain_spool(short_term: ShortTermMemory, long_term: LongTermMemory, batch: int = 100) -> int:
    """Commit every spooled turn, oldest first; returns how many. Any number of processes may drain at once.

    A turn leaves the spool only after its commit, and a commit done twice is done once.

    Raises:
        StoreUnavailable: a store is down; what was not committed stays in the spool.
    """
    drained = 0
    while entries := await short_term.spooled(batch):
        for stream_id, turn in entries:
            try:
                await long_term.commit_turn(turn)
                drained += 1
            except InvalidRequest as error:  # it can never be stored, and must not hold up those behind it
                get_logger("spool").error("turn_dropped", turn=turn.turn_id, reason=str(error))
            await short_term.unspool([stream_id])
    return drained
