"""Does the reply keep the character's speech level?"""

from __future__ import annotations

from dataclasses import dataclass

from evaluation.scorers.finding import HOLDS, NOT_JUDGED, Finding, broken
from personas.schema import SpeechLevel
from safety.speech_level import SpeechClassifier

REPLY_SHARE = 2 / 3
"""Of a reply's judged sentences so many must be in the level: one odd sentence in three is a slip, two a shift."""


@dataclass(frozen=True, slots=True)
class SentenceCount:
    kept: int
    judged: int


def count_sentences(text: str, level: SpeechLevel, classifier: SpeechClassifier) -> SentenceCount:
    """Sentences of ``text`` in ``level``, and those that have a level at all."""
    if level == "none":
        return SentenceCount(0, 0)
    counts = classifier.count(text)
    return SentenceCount(getattr(counts, level), counts.of_language(level))


def speech_level(count: SentenceCount, level: SpeechLevel) -> Finding:
    """Whether a reply with these sentences keeps ``level``."""
    if not count.judged:
        return NOT_JUDGED
    if count.kept >= REPLY_SHARE * count.judged:
        return HOLDS
    return broken(f"{count.judged - count.kept} of {count.judged} sentences are not {level}")
