"""Seed dialogues: hand-written conversations of a character, one JSON object a line."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError, model_validator

from core.errors import ConfigurationError
from personas.base import CardModel


class SeedMessage(CardModel):
    role: Literal["user", "assistant"]
    """Who speaks."""

    content: str = Field(min_length=1)
    """What is said."""


class SeedDialogue(CardModel):
    """One line of ``seeds.jsonl``."""

    id: str = Field(min_length=1)
    """Unique within its character."""

    category: str = Field(min_length=1)
    """What kind of talk this is."""

    context: tuple[str, ...] = ()
    """Facts that the replies may use."""

    messages: tuple[SeedMessage, ...] = Field(min_length=2)
    """User and character in turn, the character last."""

    @model_validator(mode="after")
    def _in_turn(self) -> SeedDialogue:
        roles = [message.role for message in self.messages]
        if roles != ["user", "assistant"] * (len(roles) // 2):
            raise ValueError("messages must alternate, user first and assistant last")
        return self


def load_seeds(path: Path) -> list[SeedDialogue]:
    """All seeds of a file; none when there is no such file.

    Raises:
        ConfigurationError: Names file, line, field and remedy.
    """
    if not path.is_file():
        return []
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path}: cannot be read ({error}); save it as UTF-8") from error
    seeds = [_seed(path, number, line) for number, line in enumerate(lines, start=1) if line.strip()]
    ids = [seed.id for seed in seeds]
    if twice := sorted({seed_id for seed_id in ids if ids.count(seed_id) > 1}):
        raise ConfigurationError(f"{path}: field 'id': {twice[0]} stands twice; rename one of them")
    return seeds


def _seed(path: Path, number: int, line: str) -> SeedDialogue:
    try:
        return SeedDialogue.model_validate_json(line)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"])) or "the whole line"
        raise ConfigurationError(
            f"{path}, line {number}: field '{field}': {first['msg']}; write it as docs/cards.md shows"
        ) from error


def written(seeds: Iterable[SeedDialogue]) -> str:
    """The lines of a ``seeds.jsonl``."""
    return "".join(seed.model_dump_json(exclude_defaults=True) + "\n" for seed in seeds)
