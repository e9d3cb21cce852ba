"""What the scorers know of a character: its card, and ``characters.yaml``."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import yaml
from pydantic import Field, ValidationError

from core.errors import ConfigurationError
from evaluation.items import Strict
from personas.loader import PersonaLibrary
from personas.schema import Card

CHARACTERS_FILE = Path(__file__).with_name("characters.yaml")


class Traits(Strict):
    own: tuple[str, ...] = ()
    languages: tuple[str, ...] = ()
    abstains: tuple[str, ...] = ()
    may_say_assistant: bool = False


class Everybody(Strict):
    names: dict[str, tuple[str, ...]]
    abstains: dict[str, tuple[str, ...]]


class CharactersFile(Strict):
    """The comments at the head of ``characters.yaml`` say what each field means."""

    everybody: Everybody
    characters: dict[str, Traits] = Field(default_factory=dict)


@dataclass(frozen=True)
class Character:
    """One character as the scorers see it; patterns match NFKC, lower-case text."""

    card: Card
    languages: tuple[str, ...]
    foreign_habits: tuple[tuple[str, re.Pattern[str]], ...]
    """Whose, and what: turns of phrase of the other characters."""

    abstains: tuple[re.Pattern[str], ...]
    may_say_assistant: bool
    names: tuple[str, ...]
    """What fans are called; item after item takes the next."""

    @property
    def id(self) -> str:
        return self.card.id

    def fan_name(self, position: int) -> str:
        return self.names[position % len(self.names)]


def load_character(character: str, library: PersonaLibrary, path: Path = CHARACTERS_FILE) -> Character:
    """Put card and file together; a character the file does not name is judged by its card alone."""
    file = _read(path)
    card = library.get(character).card
    traits = file.characters.get(character, Traits())
    languages = traits.languages or (card.language,)
    abstains = [*traits.abstains, *(p for language in languages for p in file.everybody.abstains.get(language, ()))]
    return Character(
        card=card,
        languages=languages,
        foreign_habits=_foreign_habits(card, library, file),
        abstains=tuple(map(re.compile, abstains)),
        may_say_assistant=traits.may_say_assistant,
        names=file.everybody.names.get(card.language) or file.everybody.names["en"],
    )


def _foreign_habits(
    card: Card, library: PersonaLibrary, file: CharactersFile
) -> tuple[tuple[str, re.Pattern[str]], ...]:
    """Habits of all others; a card's own list counts, word by word, where the file has no patterns."""
    habits = {
        other.card.id: file.characters[other.card.id].own
        if other.card.id in file.characters
        else tuple(re.escape(habit.strip("~〜").lower()) for habit in other.card.speech.habits)
        for other in library
    }
    habits |= {name: traits.own for name, traits in file.characters.items()}
    return tuple(
        (name, re.compile(pattern)) for name, own in habits.items() if name != card.id for pattern in own if pattern
    )


def _read(path: Path) -> CharactersFile:
    try:
        return CharactersFile.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except (OSError, yaml.YAMLError) as error:
        raise ConfigurationError(f"{path}: cannot be read as YAML ({error})") from error
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or "the whole file"
        raise ConfigurationError(f"{path}: {place}: {first['msg']}") from error
