"""Reads characters from their folders; errors name file, field and remedy."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml
from pydantic import ValidationError

from core.errors import ConfigurationError, NotFound
from personas.schema import Card

# The C parser: a card that came with a lorebook may hold megabytes.
_YAML = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_REMEDIES = {"missing": "add it", "extra_forbidden": "remove it or fix its name"}


@dataclass(frozen=True)
class Persona:
    """A loaded character and the folder it came from."""

    card: Card
    folder: Path

    @property
    def id(self) -> str:
        return self.card.id

    @property
    def knowledge_dir(self) -> Path:
        return self.folder / "knowledge"


def load_card(path: Path) -> Card:
    """Read and validate one ``card.yaml``.

    Raises:
        ConfigurationError: Names the file, the field and what to do.
    """
    try:
        raw = yaml.load(path.read_text(encoding="utf-8"), Loader=_YAML)
    except (OSError, UnicodeDecodeError) as error:
        remedy = "check that the file is there and saved as UTF-8"
        raise ConfigurationError(f"{path}: cannot be read ({error}); {remedy}") from error
    except yaml.YAMLError as error:
        place = " ".join(str(error).split())
        raise ConfigurationError(f"{path}: is not valid YAML ({place}); correct the syntax there") from error
    try:
        card = Card.model_validate(raw)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"]) or "the whole file"
        remedy = _REMEDIES.get(first["type"], "correct it")
        raise ConfigurationError(f"{path}: field '{field}': {first['msg']}; {remedy}, see docs/cards.md") from error
    if card.id != path.parent.name:
        raise ConfigurationError(
            f"{path}: field 'id' is '{card.id}'; make it the folder's name, '{path.parent.name}'"
        )
    return card


class PersonaLibrary:
    """All characters under one folder, loaded once."""

    def __init__(self, cards_dir: Path) -> None:
        cards = [load_card(path) for path in sorted(cards_dir.glob("*/card.yaml"))]
        if not cards:
            raise ConfigurationError(f"{cards_dir}: holds no <name>/card.yaml; set ARTISTMIND_CARDS_DIR")
        self._personas = {card.id: Persona(card, cards_dir / card.id) for card in cards}

    def get(self, persona_id: str) -> Persona:
        """The character of that id; ``NotFound`` when there is none."""
        try:
            return self._personas[persona_id]
        except KeyError:
            known = ", ".join(self._personas)
            raise NotFound(f"unknown persona '{persona_id}'; there are: {known}", "persona") from None

    def __iter__(self) -> Iterator[Persona]:
        return iter(self._personas.values())
