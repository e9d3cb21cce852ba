"""Which words a character's training data held: a recalled word that it never held is proof of memory."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

from core.settings import PROJECT_ROOT
from evaluation.knowledge import cards_dir
from evaluation.matching import REGEX_MARK, squeezed

_SUFFIXES = frozenset({".yaml", ".jsonl", ".txt", ".md"})


class Vocabulary:
    """Words of the files that training reads, searched as running text.

    Args:
        paths: Files, and folders with all their text files.
    """

    def __init__(self, paths: list[Path]) -> None:
        self._paths = paths

    def knows(self, phrase: str) -> bool:
        """Whether the phrase stands somewhere in the training data; patterns count as known."""
        return phrase.startswith(REGEX_MARK) or squeezed(phrase) in self._text

    @cached_property
    def _text(self) -> str:
        return "\n".join(squeezed(path.read_text(encoding="utf-8")) for path in self._files())

    def _files(self) -> list[Path]:
        found: set[Path] = set()
        for path in self._paths:
            found |= {path} if path.is_file() else set(path.rglob("*"))
        return sorted(path for path in found if path.is_file() and path.suffix in _SUFFIXES)


def training_vocabulary(character: str) -> Vocabulary:
    """What a character's adapter and the shipped base were trained on, as far as the repository holds it."""
    card = cards_dir() / character
    own = [card / name for name in ("intents", "seeds.jsonl", "facts.yaml", "world.yaml", "knowledge")]
    return Vocabulary([*own, PROJECT_ROOT / "train_jobs" / "reference" / "data", PROJECT_ROOT / "data_pipelines"])
