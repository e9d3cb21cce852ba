"""What a fan asks back for: found by shared words and, if there is one, by a reranker that reads the lines."""

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

RANK_OFFSET = 2
"""Of reciprocal rank fusion; small, because the lists are short."""


@dataclass(frozen=True, slots=True)
class Recaller:
    """Picks the lines that answer: words find rare names, a reader that "조율사로 일해" answers "내 직업 뭐게?"."""

    reader: Reranker | None = None
    relevance: float = 0.1
    """Probability from which on a line counts that shares no word with the question."""
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
        lines = told.every
        if not lines or not most:
            return []
        by_words = await asyncio.to_thread(recalled, question, lines, len(lines))
        found = fused(by_words, await self._read(question, lines))[:most]
        return [line for line in found if (line in told.facts) == (found[0] in told.facts)]

    async def _read(self, question: str, lines: Sequence[str]) -> list[str]:
        """The relevant lines, best first; none without a reader, or when it does not answer."""
        shown = list(lines)[-MOST_READ:]
        if self.reader is None:
            return []
        try:
            async with asyncio.timeout(self.timeout_s):
                scores = await self.reader.relevance(question, shown)
        except (StoreUnavailable, TimeoutError) as error:
            get_logger("recaller").warning("reranker_down", reason=type(error).__name__)
            return []
        relevant = [(score, at) for at, score in enumerate(scores) if score >= self.relevance]
        return [shown[at] for _, at in sorted(relevant, reverse=True)]


def fused(*rankings: Sequence[str]) -> list[str]:
    """Reciprocal rank fusion (Cormack, Clarke and Büttcher 2009); a ranking without a line adds nothing to it."""
    score: dict[str, float] = {}
    for ranking in rankings:
        for rank, line in enumerate(ranking):
            score[line] = score.get(line, 0.0) + 1 / (RANK_OFFSET + rank)
    return sorted(score, key=lambda line: -score[line])
