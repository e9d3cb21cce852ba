"""Voices: who speaks (system prompt) and what they have to say (intents, seeds, knowledge)."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import yaml

from core.errors import ConfigurationError
from core.settings import PROJECT_ROOT, get_settings
from train_jobs.reference.intents import Intent, Seed, load_intents, load_seeds

GENERAL_DATA = PROJECT_ROOT / "train_jobs" / "reference" / "data"
CHARACTERS = ("haneul", "kelron")

Speech = Literal["casual", "polite", "formal"]

SPEECH_PROMPTS: dict[Speech, tuple[str, ...]] = {
    "casual": (
        "친한 친구처럼 반말로 이야기해.",
        "너는 다정한 친구야. 반말로 짧게 답해.",
        "편하게 반말로 대화해 줘.",
        "오래된 친구처럼 말을 놓고 답해.",
    ),
    "polite": (
        "부드러운 존댓말로 이야기해요.",
        "친절하게 해요체로 답해 주세요.",
        "다정한 존댓말로 짧게 답해요.",
    ),
    "formal": (
        "정중한 존댓말로 답합니다.",
        "당신은 친절한 안내원입니다. 합쇼체로 답하십시오.",
        "격식을 갖추어 간결하게 답변합니다.",
    ),
}


@dataclass(frozen=True, slots=True)
class Voice:
    """One way of speaking, with everything it is trained on."""

    name: str
    systems: tuple[str, ...]
    intents: tuple[Intent, ...]
    seeds: tuple[Seed, ...] = ()
    passages: tuple[str, ...] = ()
    """Lines of the knowledge base, as distractors in the context."""

    pairs: tuple[tuple[str, str], ...] = ()
    """Public small talk: question and answer."""

    noisy: bool = True
    """Whether its users type ㅋㅋ and ㅠㅠ."""


@dataclass(frozen=True, slots=True)
class KnowledgeFile:
    """One Markdown file of the knowledge base without its front matter."""

    title: str
    paragraphs: tuple[str, ...]


def character_voice(character: str) -> Voice:
    """A character as its card and folder define it."""
    folder = get_settings().resolved(get_settings().cards_dir) / character
    intents = load_intents(folder / "intents")
    seeds = load_seeds(folder / "seeds.jsonl")
    if not intents and not seeds:
        raise ConfigurationError(f"{folder}: no intents/*.yaml and no seeds.jsonl to train on")
    return Voice(
        name=character,
        systems=(system_prompt(folder / "card.yaml"),),
        intents=tuple(intents),
        seeds=tuple(seeds),
        passages=tuple(knowledge_lines(folder)),
        noisy=character != "kelron",
    )


def system_prompt(card: Path) -> str:
    """The first system message, exactly as serving builds it."""
    prompt = yaml.safe_load(card.read_text(encoding="utf-8"))["prompt"]
    return f"{prompt['persona'].strip()}\n{prompt['safety'].strip()}"


def knowledge_lines(folder: Path) -> list[str]:
    """The paragraphs of a character's knowledge files, one a line."""
    return [text for file in knowledge_files(folder) for text in file.paragraphs]


def knowledge_files(folder: Path) -> list[KnowledgeFile]:
    """The knowledge of one character, in the order of the file names."""
    return [_knowledge_file(path) for path in sorted((folder / "knowledge").glob("**/*.md"))]


def _knowledge_file(path: Path) -> KnowledgeFile:
    text = path.read_text(encoding="utf-8")
    head, body = "", text
    if text.startswith("---\n"):
        head, _, body = text[4:].partition("\n---")
    title = str((yaml.safe_load(head) or {}).get("title", path.stem))
    paragraphs = [" ".join(part.split()) for part in body.split("\n\n")]
    return KnowledgeFile(title, tuple(part for part in paragraphs if part and not part.startswith(("#", "|"))))


def general_voices() -> list[Voice]:
    """The voices that are no character, sorted by how politely their replies end."""
    by_speech: dict[Speech, list[Intent]] = {"casual": [], "polite": [], "formal": []}
    for intent in load_intents(GENERAL_DATA):
        by_speech[speech_of(intent.reply)].append(intent)
    return [
        Voice(name=speech, systems=SPEECH_PROMPTS[speech], intents=tuple(intents), noisy=speech == "casual")
        for speech, intents in by_speech.items()
        if intents
    ]


def speech_of(replies: Sequence[str]) -> Speech:
    """The speech level that most of ``replies`` end in."""
    endings = [reply.rstrip(" .!?~…✨🌙☁️💙🍓") for reply in replies]
    formal = sum(ending.endswith(("니다", "니까", "시오", "시다")) for ending in endings)
    polite = sum(ending.endswith(("요", "죠")) for ending in endings)
    if formal * 2 > len(endings):
        return "formal"
    return "polite" if (polite + formal) * 2 > len(endings) else "casual"


def small_talk_voice(path: Path) -> Voice:
    """Public question-and-answer pairs (CSV with columns Q and A) as one more polite voice."""
    with path.open(encoding="utf-8", newline="") as file:
        pairs = tuple((row["Q"].strip(), row["A"].strip()) for row in csv.DictReader(file))
    return Voice(name="small_talk", systems=SPEECH_PROMPTS["polite"], intents=(), pairs=pairs)
