"""A fan who may be in danger, said in words that no list of phrases holds: "짐 다 정리했어, 이제 홀가분해".

Logistic regression over hashed runs of characters: small, the same on every machine, no model to serve. It comes
after the rules and knows three languages. ``python -m train_jobs.crisis`` trains it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from core.contracts import Verdict
from core.errors import ConfigurationError
from core.language import line_language

WEIGHTS, CONFIG = "model.safetensors", "config.json"
MOST_CHARS = 120
"""A longer message is read in pieces: one sentence of it must not drown among the others."""

_NO_WORDS = re.compile(r"[\W_ㅋㅎㅠㅜㅡ]+|(?<=[ぁ-んァ-ヶ一-鿿])w+(?![a-z])")
_END = re.compile(r"(?<=[.!?…。！？])\s*|\n+")


@dataclass(frozen=True, slots=True)
class Shape:
    """What a text is turned into."""

    features: int = 2**17
    shortest: int = 1
    longest: int = 5
    """Characters in a run."""


class CrisisClassifier:
    """``safety.input_filter.Classifier`` for the category ``self_harm``."""

    def __init__(
        self, weights: Any, bias: float, thresholds: Mapping[str, float], shape: Shape | None = None
    ) -> None:
        """``weights``: float32 [features]; ``thresholds``: by language, see ``line_language``."""
        self._weights = weights
        self._bias = bias
        self.thresholds = dict(thresholds)
        self._vectorizer = vectorizer(shape or Shape())

    @classmethod
    def load(cls, folder: Path) -> CrisisClassifier:
        """Raises ``ConfigurationError`` for a folder that holds no such model."""
        import numpy as np
        from safetensors.numpy import load_file

        try:
            config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
            weights = load_file(folder / WEIGHTS)["weights"].astype(np.float32)
            return cls(weights, float(config["bias"]), config["thresholds"], Shape(**config["shape"]))
        except (OSError, KeyError, TypeError, ValueError) as error:
            raise ConfigurationError(
                f"{folder}: no crisis classifier ({error}); python -m train_jobs.crisis"
            ) from None

    def save(self, folder: Path, shape: Shape) -> None:
        """As ``load`` reads it; weights in 16 bits."""
        import numpy as np
        from safetensors.numpy import save_file

        folder.mkdir(parents=True, exist_ok=True)
        save_file({"weights": self._weights.astype(np.float16)}, folder / WEIGHTS)
        config = {
            "bias": self._bias,
            "thresholds": self.thresholds,
            "shape": {"features": shape.features, "shortest": shape.shortest, "longest": shape.longest},
        }
        (folder / CONFIG).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")

    def probabilities(self, texts: Sequence[str]) -> list[float]:
        """For each text, how likely its writer or somebody they speak of is in danger, in [0, 1]."""
        import numpy as np

        if not texts:
            return []
        scores = self._vectorizer.transform(texts) @ self._weights + self._bias
        return [float(value) for value in 1 / (1 + np.exp(-scores))]

    def classify(self, text: str, persona: str) -> Verdict:
        """Blocked when one of its pieces is above its threshold."""
        read = list(pieces(text))
        if any(self.alarms(piece, found) for piece, found in zip(read, self.probabilities(read), strict=True)):
            return Verdict(allowed=False, category="self_harm", rule="crisis-classifier")
        return Verdict.ok()

    def alarms(self, piece: str, probability: float) -> bool:
        """Whether a piece's probability is above the threshold of its language."""
        return probability >= self.thresholds[line_language(piece)]


def pieces(text: str) -> Iterator[str]:
    """The whole text if it is short, its sentences, and neighbours of them: a hint may need two."""
    if not plain(text):
        return
    parts = [part for part in _END.split(text) if plain(part)]
    cut = [part[at : at + MOST_CHARS] for part in parts for at in range(0, len(part), MOST_CHARS)]
    if len(text) <= MOST_CHARS:
        yield text
    yield from cut
    yield from (f"{one} {two}" for one, two in pairwise(cut) if len(one + two) < MOST_CHARS)


def plain(text: str) -> str:
    """Words alone, in lower case: laughter, tears and exclamation marks are worn by both sides."""
    return _NO_WORDS.sub(" ", text.lower()).strip()


def vectorizer(shape: Shape) -> Any:
    """Texts to a sparse matrix [texts, features]; keeps no state."""
    from sklearn.feature_extraction.text import HashingVectorizer

    runs = (shape.shortest, shape.longest)
    return HashingVectorizer(analyzer="char", ngram_range=runs, n_features=shape.features, preprocessor=_framed)


def _framed(text: str) -> str:
    """With its borders marked, so that a whole line of few words is known as one."""
    return f"^{plain(text)}$"
