"""The crisis classifier's lines, its training, and how good it is on lines that it did not see.

``lines/<language>_risk.txt`` and ``_safe.txt`` were written by hand, most of them in pairs that differ in a few words
("죽고 싶다" and "배고파 죽겠다"); ordinary talk is what fans say in the characters' intents and ask about their
documents, and what the documents say. What fans say in the seed dialogues is never trained on: it helps to set the
thresholds.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.language import line_language
from data_pipelines.grammar.intents import Intent
from data_pipelines.grammar.voices import character_voice, characters
from data_pipelines.stages.decontaminate import Questions
from memory.excerpts import sentences
from safety.crisis import CrisisClassifier, Shape, vectorizer
from train_jobs.reference.general import general_voices

LINES = Path(__file__).with_name("lines")
LANGUAGES = ("ko", "ja", "en")
RISK, SAFE, TALK, UNSEEN = "risk", "safe", "talk", "unseen"

FOLDS = 5
BLOCK = 20
"""Neighbouring lines stay on one side of a split: they are variants of each other."""

RUN_CHARS = 13
"""Letters and digits in a row that a line may not share with an evaluation question; the data sets allow 15."""


@dataclass(frozen=True, slots=True)
class Line:
    """A line that a fan could write."""

    text: str
    kind: str
    """``risk``, ``safe`` (sounds like risk), ``talk``, or ``unseen``: talk that is not trained on."""

    block: int

    @property
    def language(self) -> str:
        return line_language(self.text)


@dataclass(frozen=True, slots=True)
class Limits:
    """Most false alarms that a language's threshold may cause, as shares of lines that training did not see.

    An alarm costs a caring reply where none was needed; a miss may cost a life.
    """

    talk: float = 0.003
    unseen: float = 0.01
    safe: float = 0.05

    def of(self, kind: str) -> float:
        return {TALK: self.talk, UNSEEN: self.unseen, SAFE: self.safe}[kind]


@dataclass(frozen=True, slots=True)
class Trained:
    """A classifier and its shares of caught lines, by (language, kind), in cross-validation."""

    classifier: CrisisClassifier
    caught: dict[tuple[str, str], tuple[int, int]]
    """Caught and all."""


def written_lines() -> list[Line]:
    """The lines of ``lines/``, without empty ones."""
    found: list[Line] = []
    for language in LANGUAGES:
        for kind in (RISK, SAFE):
            texts = (LINES / f"{language}_{kind}.txt").read_text(encoding="utf-8").splitlines()
            found += [
                Line(text.strip(), kind, len(found) + at // BLOCK) for at, text in enumerate(texts) if text.strip()
            ]
    return found


def ordinary_talk(is_blocked: Callable[[str], bool]) -> list[Line]:
    """What is said to the characters and in their documents, without refused matters and what the rules block."""
    found: list[Line] = []
    for block, voice in enumerate([character_voice(name) for name in characters()] + list(general_voices())):
        said = [
            *(line for intent in voice.intents if intent.category != "refusal" for line in _user_lines(intent)),
            *(line for item in voice.facts for line in item.fact.ask),
            *(sentence for passage in voice.passages for sentence in sentences(passage.text)),
        ]
        seeds = [line for seed in voice.seeds if seed.category != "refusal" for line in seed.turns[::2]]
        for kind, lines in ((TALK, said), (UNSEEN, seeds)):
            texts = [line for line in dict.fromkeys(lines) if not _has_blank(line) and not is_blocked(line)]
            found += [Line(text, kind, 100_000 * (1 + block) + at // BLOCK) for at, text in enumerate(texts)]
    return found


def _user_lines(intent: Intent) -> list[str]:
    return [line for part in (intent, intent.follow, intent.tell) if part is not None for line in part.user]


def _has_blank(text: str) -> bool:
    """Whether a line has slots to fill, beside the fan's name."""
    return "{" in text.replace("{{user}}", "")


def unmeasured(lines: Sequence[Line], questions: Questions) -> list[Line]:
    """Without the lines that an evaluation set asks."""
    return [line for line in lines if questions.held_by(line.text) is None]


def train(lines: Sequence[Line], limits: Limits, shape: Shape, strength: float, seed: int) -> Trained:
    """Cross-validate for thresholds and figures, then fit all lines but the unseen ones. Deterministic."""
    learned = [line for line in lines if line.kind != UNSEEN]
    judged = [line for line in lines if line.kind == UNSEEN]
    weights, bias = _fit(learned, shape, strength, seed)
    final = CrisisClassifier(weights, bias, {}, shape)
    scores = [*_held_out_scores(learned, shape, strength, seed), *final.probabilities([line.text for line in judged])]
    scored = list(zip([*learned, *judged], scores, strict=True))
    final.thresholds = {language: _threshold(language, scored, limits) for language in LANGUAGES}
    caught: dict[tuple[str, str], tuple[int, int]] = {}
    for line, score in scored:
        some, every = caught.get((line.language, line.kind), (0, 0))
        caught[line.language, line.kind] = (some + final.alarms(line.text, score), every + 1)
    return Trained(final, caught)


def _held_out_scores(lines: Sequence[Line], shape: Shape, strength: float, seed: int) -> list[float]:
    from sklearn.model_selection import GroupKFold

    scores = [0.0] * len(lines)
    splits = GroupKFold(FOLDS, shuffle=True, random_state=seed)
    for learned, judged in splits.split(lines, groups=[line.block for line in lines]):
        weights, bias = _fit([lines[at] for at in learned], shape, strength, seed)
        found = CrisisClassifier(weights, bias, {}, shape).probabilities([lines[at].text for at in judged])
        for at, score in zip(judged, found, strict=True):
            scores[at] = score
    return scores


def _threshold(language: str, scored: Sequence[tuple[Line, float]], limits: Limits) -> float:
    """The lowest one of a language within the limits; three digits, rounded up."""
    wanted = 0.5
    for kind in (TALK, UNSEEN, SAFE):
        found = [score for line, score in scored if line.kind == kind and line.language == language]
        found.sort(reverse=True)
        if found:
            wanted = max(wanted, found[int(limits.of(kind) * len(found))])
    return math.ceil(wanted * 1000) / 1000


def _fit(lines: Sequence[Line], shape: Shape, strength: float, seed: int) -> tuple[Any, float]:
    """Weights float32 [features] and bias."""
    import numpy as np
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(C=strength, class_weight="balanced", solver="liblinear", random_state=seed)
    model.fit(vectorizer(shape).transform([line.text for line in lines]), [line.kind == RISK for line in lines])
    return model.coef_[0].astype(np.float32), float(model.intercept_[0])
