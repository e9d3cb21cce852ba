"""What a fan asks back for: read by a reranker, if there is one, else found by shared words."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from core.contracts import Message, Reranker
from core.errors import StoreUnavailable
from core.logs import get_logger
from memory.recall import recalled, told_lines

MOST_READ = 48
"""Lines that the reader is shown, the latest ones."""


@dataclass(frozen=True, slots=True)
class Recaller:
    """Picks the lines that answer: a reader sees that "조율사로 일해" answers "내 직업 뭐게?", words do not."""

    reader: Reranker | None = None
    relevance: float = 0.5
    """Probability below which the reader's lines are left out."""
    timeout_s: float = 1.0

    async def lines(
        self,
        question: str,
        profile: Sequence[str],
        memories: Sequence[str],
        history: Sequence[Message],
        most: int,
    ) -> list[str]:
        """At most ``most`` lines, best first: facts (of profile and memories) or the fan's own words, not both.

        ``memories`` and ``history`` stand in the order in which they were told.
        """
        told = await asyncio.to_thread(told_lines, question, profile, memories, history)
        found = await self._read(question, told.every, most)
        if not found:
            found = await asyncio.to_thread(recalled, question, told.every, most)
        return [line for line in found if (line in told.facts) == (found[0] in told.facts)]

    async def _read(self, question: str, lines: Sequence[str], most: int) -> list[str]:
        """Empty without a reader, and when it finds none of the lines relevant or does not answer."""
        shown = list(lines)[-MOST_READ:]
        if self.reader is None or not shown or not most:
            return []
        try:
            async with asyncio.timeout(self.timeout_s):
                scores = await self.reader.relevance(question, shown)
        except (StoreUnavailable, TimeoutError) as error:
            get_logger("recaller").warning("reranker_down", reason=type(error).__name__)
            return []
        relevant = [(score, at) for at, score in enumerate(scores) if score >= self.relevance]
        return [shown[at] for _, at in sorted(relevant, reverse=True)[:most]]
