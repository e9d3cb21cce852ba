"""Intents: many ways to say one thing, many replies in one voice, and the words that fill their blanks."""

from __future__ import annotations

import hashlib
import json
import random
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from core.logs import get_logger

SLOT = re.compile(r"(?<!\{)\{(\w+)\}(?!\})")
HELD_OUT_EVERY = 33
"""One user line in so many is kept for validation: about three per cent."""

FIRST_SYLLABLE, LAST_SYLLABLE, FINALS = 0xAC00, 0xD7A3, 28


class Exchange(BaseModel):
    """User lines and replies that all fit each other."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    user: tuple[str, ...] = Field(min_length=1)
    """Ways in which a person would type this."""

    reply: tuple[str, ...] = Field(min_length=1)
    """Replies in voice, each of which fits every user line."""


class Intent(Exchange):
    """One thing that fans say, with the facts that the reply may use."""

    id: str
    """Unique within its voice."""

    category: str
    """What kind of talk this is; ``memory`` decides where the context stands in the prompt."""

    context: tuple[str, ...] = ()
    """Facts that retrieval would put into the prompt."""

    follow: Exchange | None = None
    """What is said next, whichever reply was given."""

    slots: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    """Values of the blanks; the same value fills user line, context and reply."""


@dataclass(frozen=True, slots=True)
class Seed:
    """A hand-written conversation: user and assistant in turn, ending with the assistant."""

    category: str
    context: tuple[str, ...]
    turns: tuple[str, ...]


def load_intents(folder: Path) -> list[Intent]:
    """Every intent under ``folder``; a file that does not parse is skipped with a warning."""
    found: list[Intent] = []
    for path in sorted(folder.glob("*.yaml")):
        found += _load_file(path)
    return found


def _load_file(path: Path) -> list[Intent]:
    try:
        entries = yaml.safe_load(path.read_text(encoding="utf-8")) or []
        return [Intent.model_validate(_as_text(entry)) for entry in entries]
    except (yaml.YAMLError, ValidationError, TypeError) as error:
        get_logger("reference").warning("INTENTS FILE SKIPPED", path=str(path), error=str(error)[:400])
        return []


def _as_text(value: object) -> object:
    """Numbers that YAML read from unquoted lines, back as text."""
    if isinstance(value, Mapping):
        return {key: _as_text(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_as_text(item) for item in value]
    return str(value) if isinstance(value, int | float) else value


def load_seeds(path: Path) -> list[Seed]:
    """The hand-written conversations of one character; none when it has no such file."""
    if not path.is_file():
        return []
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    return [
        Seed(
            category=row["category"],
            context=tuple(row.get("context", ())),
            turns=tuple(message["content"] for message in row["messages"]),
        )
        for row in rows
    ]


def is_held_out(user_line: str) -> bool:
    """Whether this line is for validation only; decided by its text, so the same everywhere."""
    digest = hashlib.sha256(user_line.encode()).digest()
    return int.from_bytes(digest[:4], "big") % HELD_OUT_EVERY == 0


def training_lines(lines: Iterable[str]) -> list[str]:
    """The lines that may be trained on; all of them when every one would be held out."""
    every = list(lines)
    return [line for line in every if not is_held_out(line)] or every


def fill(template: str, values: Mapping[str, str]) -> str:
    """Put ``values`` into the ``{slots}``; ``{{user}}`` and unknown names stay as they are."""
    return SLOT.sub(lambda match: values.get(match[1], match[0]), template)


def sample_values(slots: Mapping[str, tuple[str, ...]], rng: random.Random, made_up: float) -> dict[str, str]:
    """One value per slot; with probability ``made_up`` a word that does not exist, so that copying is learnt."""
    values: dict[str, str] = {}
    for name, choices in slots.items():
        value = rng.choice(choices)
        values[name] = made_up_like(value, rng) if rng.random() < made_up else value
    return values


def made_up_like(value: str, rng: random.Random) -> str:
    """A random word of the same kind: digits for digits, and Hangul that takes the same particles."""
    if any(char.isdigit() for char in value):
        return re.sub(r"\d", lambda match: str(rng.randint(1, 9)), value)
    if not value or not is_hangul(value[-1]):
        return value
    length = rng.choice((2, 2, 3, 3, 4))
    closed = has_final(value[-1])
    syllables = common_syllables() if rng.random() < 0.4 else plain_syllables()
    body = "".join(rng.choice(syllables) for _ in range(length - 1))
    return body + rng.choice([char for char in syllables if has_final(char) == closed])


def is_hangul(char: str) -> bool:
    return FIRST_SYLLABLE <= ord(char) <= LAST_SYLLABLE


def has_final(syllable: str) -> bool:
    """Whether a Hangul syllable ends in a consonant, which decides its particles."""
    return (ord(syllable) - FIRST_SYLLABLE) % FINALS != 0


@lru_cache
def common_syllables() -> tuple[str, ...]:
    """Syllables that made-up words are built from: the everyday ones without rare endings."""
    plain_finals = {0, 1, 4, 8, 16, 17, 19, 21}
    chars = [bytes((row, cell)).decode("euc-kr") for row in range(0xB0, 0xC9) for cell in range(0xA1, 0xFF)]
    return tuple(char for char in chars if (ord(char) - FIRST_SYLLABLE) % FINALS in plain_finals)


@lru_cache
def plain_syllables() -> tuple[str, ...]:
    """The part of ``common_syllables`` that names are mostly made of: single consonants, simple vowels."""
    doubled, plain_vowels = {1, 4, 8, 10, 13}, {0, 1, 4, 6, 8, 12, 13, 17, 18, 20}
    return tuple(
        char
        for char in common_syllables()
        if (ord(char) - FIRST_SYLLABLE) // (21 * FINALS) not in doubled
        and (ord(char) - FIRST_SYLLABLE) // FINALS % 21 in plain_vowels
    )
