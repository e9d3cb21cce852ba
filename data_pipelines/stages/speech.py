"""Replies keep the character's speech level (반말, 해요체, 합쇼체, です・ます…)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import get_args

from data_pipelines.rows import Row
from data_pipelines.stages.base import Outcome, RowStage

CACHED_REPLIES = 50_000
"""Composed conversations say many replies again."""


@dataclass(frozen=True, slots=True)
class Levels:
    """Sentences of a text: in the character's level, and in any level of its language."""

    own: int = 0
    judged: int = 0


MeasureLevels = Callable[[str], Levels]


def level_measure(level: str) -> MeasureLevels:
    """The measure for one speech level; sentences of levels that nobody can tell are never judged."""
    from safety.speech_level import SpeechLevel, shared

    known: dict[str, SpeechLevel] = {name: name for name in get_args(SpeechLevel)}
    if level not in known:
        return lambda text: Levels()
    classifier = shared()

    @lru_cache(maxsize=CACHED_REPLIES)
    def measure(text: str) -> Levels:
        counts = classifier.count(text)
        return Levels(getattr(counts, level), counts.of_language(known[level]))

    return measure


def own_share(replies: Iterable[str], measure: MeasureLevels) -> float | None:
    """Share of the sentences that are in the character's level; ``None`` when none has a level."""
    found = [measure(reply) for reply in replies]
    judged = sum(one.judged for one in found)
    return sum(one.own for one in found) / judged if judged else None


def speech(measure: MeasureLevels, min_ratio: float) -> RowStage:
    """Drops rows whose replies are mostly in another level."""

    def stage(row: Row) -> Outcome:
        share = own_share(row.texts("assistant"), measure)
        return Outcome.drop("other speech level") if share is not None and share < min_ratio else Outcome.keep(row)

    return stage
