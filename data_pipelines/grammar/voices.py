"""Voices: who speaks (system prompt) and what they have to say (intents, seeds, facts, passages)."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from core.errors import ConfigurationError
from core.settings import get_settings
from data_pipelines.grammar.facts import GroundedFact, Passage, grounded, load_facts, load_passages
from data_pipelines.grammar.intents import Intent, Seed, load_intents, load_seeds
from data_pipelines.grammar.quoting import Quoting, is_special
from personas.loader import load_card
from personas.prompt import system_prompt


@dataclass(frozen=True, slots=True)
class Voice:
    """One way of speaking, with everything it is trained on."""

    name: str
    systems: tuple[str, ...]
    intents: tuple[Intent, ...]
    language: str = "ko"
    """Of the labels in the context; lines may be in others too."""

    favourites: tuple[str, ...] = ()
    """Whom a fan may name as the favourite in the profile."""

    seeds: tuple[Seed, ...] = ()
    facts: tuple[GroundedFact, ...] = ()
    passages: tuple[Passage, ...] = ()
    """The knowledge base, for distractors in the context."""

    unknown: tuple[str, ...] = ()
    """What the voice says when the context does not hold the answer."""

    pairs: tuple[tuple[str, str], ...] = ()
    """Public small talk: question and answer."""

    quoting: Quoting = field(default_factory=Quoting)
    """How it gives back lines word for word."""

    noisy: bool = True
    """Whether its users type ㅋㅋ and ㅠㅠ."""

    @property
    def is_character(self) -> bool:
        return bool(self.seeds or self.passages)


def card_folder(character: str) -> Path:
    return get_settings().resolved(get_settings().cards_dir) / character


def characters() -> list[str]:
    """Every character that has something to train on, by name."""
    root = get_settings().resolved(get_settings().cards_dir)
    return sorted(path.parent.name for path in root.glob("*/seeds.jsonl"))


def character_voice(character: str) -> Voice:
    """A character as its card and folder define it."""
    folder = card_folder(character)
    intents = load_intents(folder / "intents")
    seeds = load_seeds(folder / "seeds.jsonl")
    if not intents and not seeds:
        raise ConfigurationError(f"{folder}: no intents/*.yaml and no seeds.jsonl to train on")
    card = load_card(folder / "card.yaml")
    passages = load_passages(folder / "knowledge")
    return Voice(
        name=character,
        systems=(system_prompt(card),),
        intents=tuple(intent for intent in intents if intent.id != UNKNOWN and not is_special(intent)),
        language=card.language,
        favourites=members(folder / "world.yaml"),
        seeds=tuple(seeds),
        facts=tuple(grounded(load_facts(folder / "facts.yaml"), passages)),
        passages=tuple(passages),
        unknown=tuple(line for intent in intents if intent.id == UNKNOWN for line in intent.reply),
        quoting=Quoting.of(intents, card.language),
        noisy=bool(card.speech.emoji.allowed) and card.language == "ko",
    )


UNKNOWN = "unknown_fact"
"""Id of the intent whose replies say that the documents hold no answer."""


def members(world: Path) -> tuple[str, ...]:
    """The group's members and its name, from the character's world."""
    if not world.is_file():
        return ()
    found = yaml.safe_load(world.read_text(encoding="utf-8")) or {}
    names = [str(member["name"]) for member in found.get("members", ())]
    group = str((found.get("group") or {}).get("name", "")).split(" (")[0]
    return tuple([*names, group] if names and group else names)


@dataclass(frozen=True, slots=True)
class KnowledgeFile:
    """One Markdown file of the knowledge base without its front matter."""

    title: str
    paragraphs: tuple[str, ...]


def knowledge_files(folder: Path) -> list[KnowledgeFile]:
    """The knowledge of one character, in the order of the file names."""
    return [_knowledge_file(path) for path in sorted((folder / "knowledge").glob("**/*.md"))]


def _knowledge_file(path: Path) -> KnowledgeFile:
    text = path.read_text(encoding="utf-8")
    head, body = "", text
    if text.startswith("---\n"):
        head, _, body = text[4:].partition("\n---")
    title = str((yaml.safe_load(head) or {}).get("title", path.stem))
    paragraphs = [" ".join(part.split()) for part in re.split(r"\n\n+", body)]
    return KnowledgeFile(title, tuple(part for part in paragraphs if part and not part.startswith(("#", "|"))))
