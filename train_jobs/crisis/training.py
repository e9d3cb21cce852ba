"""The crisis classifier's lines, its training, and how good it is on lines that it did not see.

``lines/<language>_risk.txt`` and ``_safe.txt`` were written by hand, most of them in pairs that differ in a few words
("죽고 싶다" and "배고파 죽겠다"); ordinary talk is what fans say in the characters' intents.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_pipelines.grammar.voices import character_voice
from data_pipelines.stages.decontaminate import Questions
from safety.crisis import CrisisClassifier, Shape, vectorizer

LINES = Path(__file__).with_name("lines")
LANGUAGES = ("ko", "ja", "en")
CHARACTERS = ("haneul", "mir", "hotaru", "kelron")
RISK, SAFE, TALK = "risk", "safe", "talk"

FOLDS = 5
BLOCK = 20
"""Neighbouring lines stay on one side of a split: they are variants of each other."""

RUN_CHARS = 13
"""Letters and digits in a row that a line may not share with an evaluation question, as in the data sets."""


@dataclass(frozen=True, slots=True)
class Line:
    """A line that a fan could write."""

    text: str
    kind: str
    """``risk``, ``safe`` (sounds like risk) or ``talk``."""

    language: str
    block: int


@dataclass(frozen=True, slots=True)
class Limits:
    """Most false alarms that the threshold may cause, as shares of lines that training did not see.

    An alarm costs a caring reply where none was needed; a miss may cost a life.
    """

    talk: float = 0.005
    safe: float = 0.1


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
                Line(text.strip(), kind, language, len(found) + at // BLOCK)
                for at, text in enumerate(texts)
                if text.strip()
            ]
    return found


def ordinary_talk(is_blocked: Callable[[str], bool]) -> list[Line]:
    """What fans say to the characters, but for refused matters and for what the rules block anyway."""
    found: list[Line] = []
    for block, character in enumerate(CHARACTERS):
        voice = character_voice(character)
        said = [
            line
            for intent in voice.intents
            if intent.category != "refusal"
            for part in (intent, intent.follow, intent.tell)
            if part is not None
            for line in part.user
        ]
        texts = dict.fromkeys(
            line for line in said if "{" not in line.replace("{{user}}", "") and not is_blocked(line)
        )
        found += [
            Line(text, TALK, voice.language, 100_000 + 1_000 * block + at // BLOCK) for at, text in enumerate(texts)
        ]
    return found


def unmeasured(lines: Sequence[Line], questions: Questions) -> list[Line]:
    """Without the lines that an evaluation set asks."""
    return [line for line in lines if questions.held_by(line.text) is None]


def train(lines: Sequence[Line], limits: Limits, shape: Shape, strength: float, seed: int) -> Trained:
    """Cross-validate for the threshold and the figures, then fit all lines. Deterministic."""
    held_out = _held_out_scores(lines, shape, strength, seed)
    threshold = _threshold(lines, held_out, limits)
    weights, bias = _fit(lines, shape, strength, seed)
    caught: dict[tuple[str, str], tuple[int, int]] = {}
    for line, score in zip(lines, held_out, strict=True):
        some, every = caught.get((line.language, line.kind), (0, 0))
        caught[line.language, line.kind] = (some + (score >= threshold), every + 1)
    return Trained(CrisisClassifier(weights, bias, threshold, shape), caught)


def _held_out_scores(lines: Sequence[Line], shape: Shape, strength: float, seed: int) -> list[float]:
    from sklearn.model_selection import GroupKFold

    scores = [0.0] * len(lines)
    splits = GroupKFold(FOLDS, shuffle=True, random_state=seed)
    for learned, judged in splits.split(lines, groups=[line.block for line in lines]):
        weights, bias = _fit([lines[at] for at in learned], shape, strength, seed)
        model = CrisisClassifier(weights, bias, 0.5, shape)
        found = model.probabilities([lines[at].text for at in judged])
        for at, score in zip(judged, found, strict=True):
            scores[at] = score
    return scores


def _threshold(lines: Sequence[Line], scores: Sequence[float], limits: Limits) -> float:
    """The lowest one within the limits of every language together; three digits, rounded up."""
    import math

    wanted = 0.5
    for kind, share in ((TALK, limits.talk), (SAFE, limits.safe)):
        found = sorted((score for line, score in zip(lines, scores, strict=True) if line.kind == kind), reverse=True)
        if found:
            wanted = max(wanted, found[min(int(share * len(found)), len(found) - 1)])
    return math.ceil(wanted * 1000) / 1000


def _fit(lines: Sequence[Line], shape: Shape, strength: float, seed: int) -> tuple[Any, float]:
    """Weights float32 [features] and bias."""
    import numpy as np
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(C=strength, class_weight="balanced", solver="liblinear", random_state=seed)
    model.fit(vectorizer(shape).transform([line.text for line in lines]), [line.kind == RISK for line in lines])
    return model.coef_[0].astype(np.float32), float(model.intercept_[0])
