"""``evaluation/facts/<character>.yaml``: what the documents say, and how it may be asked."""

from __future__ import annotations

from pathlib import Path

import yaml
from pydantic import Field, TypeAdapter, ValidationError, model_validator

from core.errors import ConfigurationError
from evaluation.items import Line, Strict

FACTS_DIR = Path(__file__).parent / "facts"


class Fact(Strict):
    """One fact with its questions, or (``doc: null``) questions that no document answers."""

    doc: str | None
    fact: str | None = None
    gold: tuple[Line, ...] = ()
    """Any one of these in a reply is the answer; at least one stands in the document."""

    keyword: tuple[Line, ...] = ()
    context: tuple[Line, ...] = ()
    abstract: tuple[Line, ...] = ()
    unanswerable: tuple[Line, ...] = Field(default=())

    @model_validator(mode="after")
    def _one_or_the_other(self) -> Fact:
        asked = bool(self.keyword or self.context or self.abstract)
        if self.doc is None and (asked or self.gold or not self.unanswerable):
            raise ValueError("an entry with doc: null has unanswerable questions and nothing else")
        if self.doc is not None and (not asked or not self.gold or not self.fact or self.unanswerable):
            raise ValueError("an entry with a doc has fact, gold and questions, and no unanswerable ones")
        return self


_FACTS = TypeAdapter(tuple[Fact, ...])


def load_facts(path: Path) -> tuple[Fact, ...]:
    """Read a facts file; ``ConfigurationError`` names file, entry and field."""
    try:
        return _FACTS.validate_python(yaml.safe_load(path.read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigurationError(f"{path}: cannot be read as YAML ({error})") from error
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or "the whole file"
        raise ConfigurationError(f"{path}: entry {place}: {first['msg']}") from error
