"""Intents: many ways to say one thing, many replies in one voice, and the words that fill their blanks."""

from __future__ import annotations

import hashlib
import json
import random
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from core.errors import ConfigurationError
from data_pipelines.grammar.made_up import ends_closed, ends_in_rieul, made_up_like

SLOT = re.compile(r"(?<!\{)\{(\w+)(?::([가-힣]*)/([가-힣]*))?\}(?!\})")
"""``{food}``, or ``{food:을/를}`` with the particle after a final consonant and the one after a vowel."""
HELD_OUT_EVERY = 33
"""One user line in so many is kept for validation: about three per cent."""


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

    tell: Exchange | None = None
    """How the fan tells the facts, some turns before they are asked for."""

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
    """Every intent under ``folder``; ``ConfigurationError`` names a file that does not parse."""
    found: list[Intent] = []
    for path in sorted(folder.glob("*.yaml")):
        found += _load_file(path)
    return found


def _load_file(path: Path) -> list[Intent]:
    try:
        entries = yaml.safe_load(path.read_text(encoding="utf-8")) or []
        return [Intent.model_validate(_as_text(entry)) for entry in entries]
    except (yaml.YAMLError, ValidationError, TypeError) as error:
        raise ConfigurationError(f"{path}: not a list of intents: {str(error)[:400]}") from error


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

    def value(match: re.Match[str]) -> str:
        name, closed, opened = match.groups()
        found = values.get(name)
        if found is None:
            return match[0]
        if closed is None:
            return found
        # 로 follows ㄹ as it follows a vowel: 서울로, 3일로.
        after_vowel = not ends_closed(found) or (opened.startswith("로") and ends_in_rieul(found))
        return found + (opened if after_vowel else closed)

    return SLOT.sub(value, template)


def has_slot(template: str, name: str) -> bool:
    """Whether ``name`` is one of the blanks of ``template``."""
    return any(match[1] == name for match in SLOT.finditer(template))


def sample_values(slots: Mapping[str, tuple[str, ...]], rng: random.Random, made_up: float) -> dict[str, str]:
    """One value per slot; with probability ``made_up`` a word that does not exist, so that copying is learnt."""
    values: dict[str, str] = {}
    for name, choices in slots.items():
        value = rng.choice(choices)
        values[name] = made_up_like(value, rng) if rng.random() < made_up else value
    return values
