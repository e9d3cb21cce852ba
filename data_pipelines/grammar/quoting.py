"""Answers that give back a line word for word: what the fan said, or what a document says.

A model of a few million parameters copies a line far more reliably than it finds a fact in one and rephrases it.
Serving shows it the lines that answer (``memory.recall``, ``memory.excerpts``); these rows teach it to say them.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from core.language import line_language
from data_pipelines.grammar.intents import Exchange, Intent, fill, training_lines
from memory.lexical import is_japanese, japanese_nouns, nouns
from memory.recall import is_statement

ASKED_BACK = "asked_back"
"""Id of the intent whose user lines ask for a ``{noun}`` and whose replies quote what was ``{said}``."""

QUOTED = "quoted"
"""Id of the intent whose replies quote a document; ``quoted_ja`` answers questions in Japanese."""

BETWEEN = {"ko": '", "', "ja": "」「", "en": '" "'}
"""What stands between two quoted lines; the reply's own marks stand around them."""


@dataclass(frozen=True, slots=True)
class Quoting:
    """How one voice quotes; empty for a voice that does not."""

    asked_back: Exchange | None = None
    quoted: Mapping[str, tuple[str, ...]] | None = None
    """Replies by the language of the question."""

    @classmethod
    def of(cls, intents: Sequence[Intent], language: str) -> Quoting:
        """From the intents of a voice that are named for it."""
        by_id = {intent.id: intent for intent in intents}
        replies = {language: by_id[QUOTED].reply} if QUOTED in by_id else {}
        for name, intent in by_id.items():
            if name.startswith(f"{QUOTED}_"):
                replies[name.removeprefix(f"{QUOTED}_")] = intent.reply
        return cls(by_id.get(ASKED_BACK), replies or None)

    def answer(self, question: str, lines: Sequence[str], rng: random.Random) -> str | None:
        """A reply to ``question`` that quotes ``lines``; ``None`` where the voice has none in this language."""
        language = line_language(question)
        replies = (self.quoted or {}).get(language)
        return quote(rng.choice(replies), lines, language) if replies else None


def is_special(intent: Intent) -> bool:
    """Whether an intent only holds ways to quote."""
    return intent.id == ASKED_BACK or intent.id == QUOTED or intent.id.startswith(f"{QUOTED}_")


def quote(template: str, lines: Sequence[str], language: str) -> str:
    """``template`` with ``lines`` where ``{said}`` stands."""
    return fill(template, {"said": BETWEEN[language].join(lines)})


def quotable(line: str, language: str) -> bool:
    """Whether a fan's line tells something in this language that can be asked for."""
    return line_language(line) == language and "{" not in line and is_statement(line) and bool(_things(line))


def question_for(line: str, asked: Exchange, rng: random.Random) -> str:
    """A question that a fan could ask for ``line``."""
    return fill(rng.choice(training_lines(asked.user)), {"noun": rng.choice(_things(line))})


def _things(line: str) -> list[str]:
    return japanese_nouns(line) if is_japanese(line) else [noun for noun in nouns(line) if len(noun) > 1]
