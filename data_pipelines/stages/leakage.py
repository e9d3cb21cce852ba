"""No character learns another one's speech: a small classifier over character n-grams, and names."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from data_pipelines.rows import Row
from data_pipelines.stages.base import Outcome, RowStage

MIN_CHARS = 24
"""Shorter talk fits anybody."""

_KOREAN_CLAIM = (
    r"(?<![가-힣])(?:나는|난|나|저는|전|제가|내가)\s?{}"
    r"(?:이야|야|이에요|예요|입니다|이라고|라고|이지|이잖아|이거든|인데)"
)
_OTHER_CLAIMS = r"|\b(?:i am|i'm|my name is)\s{}\b|(?:私|わたし)は{}(?:です|だよ|と申します)"


@dataclass(frozen=True)
class SpeechOwner:
    """Tells by its speech whose reply it is. Trained on the hand-written conversations of all characters."""

    characters: tuple[str, ...]
    vectorizer: Any
    model: Any

    def probabilities(self, text: str) -> dict[str, float]:
        """How likely each character is to have said it."""
        scores = self.model.predict_proba(self.vectorizer.transform([text]))[0]
        return {str(name): round(float(score), 4) for name, score in zip(self.model.classes_, scores, strict=True)}


def train_owner(replies: Mapping[str, Sequence[str]]) -> SpeechOwner | None:
    """A classifier, or none while fewer than two characters have written anything.

    Naive Bayes: counting gives the same model on every machine, which iterative solvers do not promise.
    """
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.naive_bayes import MultinomialNB

    known = {name: texts for name, texts in sorted(replies.items()) if texts}
    if len(known) < 2:
        return None
    vectorizer = CountVectorizer(analyzer="char_wb", ngram_range=(2, 4), binary=True)
    texts = [text for name in known for text in known[name]]
    owners = [name for name in known for _ in known[name]]
    model = MultinomialNB(alpha=0.1, fit_prior=False).fit(vectorizer.fit_transform(texts), owners)
    return SpeechOwner(tuple(known), vectorizer, model)


def leakage(character: str, others: Mapping[str, str], owner: SpeechOwner | None, certainty: float) -> RowStage:
    """Drops rows that another character seems to speak.

    Args:
        character: Whose data set it is.
        others: Display names of the other characters by id.
        owner: The classifier, if there is one.
        certainty: How sure it must be.
    """
    claims = {name: _claim_of(shown) for name, shown in others.items()}

    def stage(row: Row) -> Outcome:
        if row.character_id != character:
            return Outcome.drop(f"belongs to {row.character_id}")
        said = " ".join(row.texts("assistant"))
        if claimed := next((name for name, claim in claims.items() if claim.search(said)), None):
            return Outcome.drop(f"claims to be {claimed}")
        if owner is None or character not in owner.characters or len(said) < MIN_CHARS:
            return Outcome.keep(row)
        likely, score = max(owner.probabilities(said).items(), key=lambda item: item[1])
        return (
            Outcome.drop(f"sounds like {likely}") if likely != character and score >= certainty else Outcome.keep(row)
        )

    return stage


def _claim_of(shown: str) -> re.Pattern[str]:
    """Saying that one is the character of this name; the name alone can be a common word (하늘: sky)."""
    name = re.escape(shown)
    return re.compile(_KOREAN_CLAIM.replace("{}", name) + _OTHER_CLAIMS.replace("{}", name), re.IGNORECASE)
