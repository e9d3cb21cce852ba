"""Loops, echoes and spam."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

from data_pipelines.rows import Row
from data_pipelines.stages.base import Outcome, RowStage
from safety.repetition import LoopDetector

_MAX_REPEATED_SHARE = 0.5
_WORDS_TO_JUDGE = 8


def repetition() -> RowStage:
    """Drops rows in which somebody repeats themselves or the other."""

    def stage(row: Row) -> Outcome:
        spoken = [turn.content.strip() for turn in row.messages if turn.role != "system"]
        replies = [text.strip() for text in row.texts("assistant")]
        if len(set(replies)) < len(replies):
            return Outcome.drop("the same reply twice")
        if any(len(reply) > 4 and reply == before for before, reply in pairwise(spoken)):
            return Outcome.drop("echo")
        if any(_loops(text) for text in spoken):
            return Outcome.drop("loop")
        if any(_repeats_words(text) for text in spoken):
            return Outcome.drop("repeated words")
        return Outcome.keep(row)

    return stage


def _loops(text: str) -> bool:
    detector = LoopDetector()
    return any(detector.push(char) for char in text)


def _repeats_words(text: str) -> bool:
    words = text.split()
    if len(words) < _WORDS_TO_JUDGE:
        return False
    return Counter(words).most_common(1)[0][1] > len(words) * _MAX_REPEATED_SHARE
