"""What is measured must not be learned: rows that hold an evaluation question are dropped."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import regex
import yaml

from core.errors import ConfigurationError
from data_pipelines.rows import Row
from data_pipelines.stages.base import Outcome, RowStage

ASKED = frozenset(
    {"question", "questions", "prompt", "prompts", "user", "turns", "keyword", "context", "abstract", "unanswerable"}
)
"""Fields of evaluation files that hold what a model is asked."""

CONTAINED_CHARS = 8
"""Shorter questions (안녕) drop a row only when a message says just that."""

_NO_WORD = regex.compile(r"[\W_]+")


def normalised(text: str) -> str:
    """Letters and digits only, in lower case."""
    return _NO_WORD.sub("", text.casefold())


@dataclass(frozen=True)
class Questions:
    """Evaluation questions, indexed for a quick look."""

    whole: frozenset[str]
    """Every question."""

    contained: dict[str, tuple[str, ...]]
    """Longer questions by their first characters."""

    runs: frozenset[str]
    """All runs of ``run_chars`` characters."""

    run_chars: int

    def held_by(self, text: str) -> str | None:
        """How ``text`` overlaps with a question, if it does."""
        said = normalised(text)
        if said in self.whole:
            return "is an evaluation question"
        for start in range(len(said) - CONTAINED_CHARS + 1):
            head = said[start : start + CONTAINED_CHARS]
            if any(said.startswith(question, start) for question in self.contained.get(head, ())):
                return "contains an evaluation question"
        if any(said[start : start + self.run_chars] in self.runs for start in range(len(said) - self.run_chars + 1)):
            return "shares a passage with an evaluation question"
        return None


def index_questions(questions: Iterable[str], run_chars: int) -> Questions:
    """Questions ready for comparison; blank ones are left out."""
    whole = frozenset(found for question in questions if (found := normalised(question)))
    contained: dict[str, tuple[str, ...]] = {}
    for question in sorted(whole):
        if len(question) >= CONTAINED_CHARS:
            head = question[:CONTAINED_CHARS]
            contained[head] = (*contained.get(head, ()), question)
    runs = frozenset(q[start : start + run_chars] for q in whole for start in range(len(q) - run_chars + 1))
    return Questions(whole, contained, runs, run_chars)


def evaluation_questions(folder: Path) -> list[str]:
    """All questions under an evaluation folder; empty when there is none."""
    found: list[str] = []
    for path in evaluation_files(folder):
        found.extend(_asked(document for document in _documents(path)))
    return found


def evaluation_files(folder: Path) -> list[Path]:
    """Files that hold questions."""
    return sorted([*(folder / "sets").rglob("*.jsonl"), *(folder / "facts").glob("*.yaml")])


def refuse_evaluation_source(path: Path, folder: Path) -> None:
    """No file of an evaluation is a source of training rows, whatever it is called."""
    if path.resolve().is_relative_to(folder.resolve()):
        raise ConfigurationError(f"{path}: belongs to the evaluation ({folder}); it must never be trained on")


def decontaminate(questions: Questions) -> RowStage:
    """Drops rows in which the fan asks what an evaluation asks."""

    def stage(row: Row) -> Outcome:
        found = next((reason for text in row.texts("user") if (reason := questions.held_by(text))), None)
        return Outcome.drop(found) if found else Outcome.keep(row)

    return stage


def _documents(path: Path) -> Iterator[Any]:
    try:
        text = path.read_text(encoding="utf-8")
        if path.suffix == ".yaml":
            yield yaml.safe_load(text)
        else:
            yield from (json.loads(line) for line in text.splitlines() if line.strip())
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise ConfigurationError(f"{path}: cannot be read, so rows cannot be compared with it ({error})") from error


def _asked(value: Any, inside: bool = False) -> Iterator[str]:
    """Strings under the fields that hold questions, and what users say in ``messages``."""
    if isinstance(value, str):
        if inside:
            yield value
    elif isinstance(value, dict):
        if value.get("role") == "user" and isinstance(value.get("content"), str):
            yield value["content"]
        for key, below in value.items():
            yield from _asked(below, inside=key in ASKED)
    elif isinstance(value, Iterable):
        for below in value:
            yield from _asked(below, inside)
