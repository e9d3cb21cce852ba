"""Facts of a knowledge base as questions and answers, with the passages that serving would retrieve."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import yaml
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from core.errors import ConfigurationError
from data_pipelines.grammar.made_up import made_up_like
from documents.chunking import ChunkConfig, split
from documents.knowledge import load_knowledge
from personas.context_labels import one_line

PASSAGES = ChunkConfig(size=128, overlap=32)
"""Characters of a passage and of its overlap; ``serve_local.yaml`` serves passages of the same size."""


class Fact(BaseModel):
    """One thing that a document states, with ways to ask for it and to say it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    doc: str
    """Name of the document's file without its ending."""

    fact: str
    """A sentence that states it, as in the document or shorter."""

    gold: tuple[str, ...] = Field(min_length=1)
    """What an answer must contain; any one is enough. The first one stands verbatim in the document."""

    ask: tuple[str, ...] = Field(min_length=1)
    """Questions as people type them."""

    say: tuple[str, ...] = Field(min_length=1)
    """Answers in the character's voice, each with the gold text."""


_FACTS = TypeAdapter(list[Fact])


@dataclass(frozen=True, slots=True)
class Passage:
    """A passage of a document, as one line."""

    doc: str
    text: str
    title: str = ""
    """Of the document; retrieval reads it with the text."""


@dataclass(frozen=True, slots=True)
class GroundedFact:
    """A fact and the passage that holds it."""

    fact: Fact
    passage: Passage

    def made_up(self, rng: random.Random) -> GroundedFact:
        """The same fact with an invented answer, so that it can only be read, not known."""
        real = self.fact.gold[0]
        invented = made_up_like(real, rng)
        answers = tuple(line for line in self.fact.say if real in line)
        if invented == real or not answers:
            return self
        fact = self.fact.model_copy(
            update={"gold": (invented,), "say": tuple(line.replace(real, invented) for line in answers)}
        )
        return GroundedFact(fact, replace(self.passage, text=self.passage.text.replace(real, invented)))


def load_facts(path: Path) -> list[Fact]:
    """The facts of one character; none when it has no such file. ``ConfigurationError`` names a bad entry."""
    if not path.is_file():
        return []
    try:
        return _FACTS.validate_python(yaml.safe_load(path.read_text(encoding="utf-8")) or [])
    except (OSError, yaml.YAMLError) as error:
        raise ConfigurationError(f"{path}: cannot be read ({error})") from error
    except ValidationError as error:
        first = error.errors()[0]
        raise ConfigurationError(f"{path}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from error


def load_passages(folder: Path) -> list[Passage]:
    """Every passage of a knowledge folder, in the order of the documents."""
    if not folder.is_dir():
        return []
    found: list[Passage] = []
    for path, document in zip(sorted(folder.glob("*.md")), load_knowledge(folder), strict=True):
        for piece in split(document.text, PASSAGES):
            text = one_line(document.text[piece.lead : piece.end])
            if text:
                found.append(Passage(path.stem, text, document.title))
    return found


def grounded(facts: list[Fact], passages: list[Passage]) -> list[GroundedFact]:
    """Facts with the passage that fits best; those that no passage of their document holds are left out."""
    by_doc: dict[str, list[Passage]] = {}
    for passage in passages:
        by_doc.setdefault(passage.doc, []).append(passage)
    found = []
    for fact in facts:
        holding = [passage for passage in by_doc.get(fact.doc, []) if fact.gold[0] in passage.text]
        if holding:
            best = max(holding, key=lambda passage: shared_pairs(fact.fact, passage.text))
            found.append(GroundedFact(fact, best))
    return found


def shared_pairs(left: str, right: str) -> int:
    """How many pairs of neighbouring characters two texts have in common."""
    return len(_pairs(left) & _pairs(right))


@lru_cache(maxsize=4096)
def _pairs(text: str) -> frozenset[str]:
    return frozenset(text[index : index + 2] for index in range(len(text) - 1))
