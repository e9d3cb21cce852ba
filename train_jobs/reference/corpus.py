"""What the base model reads: conversations of every voice, plain text, and sequences to learn copying from."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_pipelines.grammar.composer import Composer, row_rng
from data_pipelines.grammar.made_up import common_syllables
from data_pipelines.grammar.voices import Voice, card_folder, character_voice, characters, knowledge_files
from train_jobs.reference.config import Stage
from train_jobs.reference.general import GENERAL_DATA, SPEECH_PROMPTS, general_voices, small_talk_voice
from train_jobs.reference.packing import Document, chat_document, text_document

TEXT_WEIGHT = 0.5
LINES_A_PIECE = 8
ROLES = "system user assistant " * 8


def all_voices(small_talk: Path | None) -> list[Voice]:
    """Characters, general voices and, if given, the public small talk."""
    voices = [*(character_voice(name) for name in characters()), *general_voices()]
    return [*voices, small_talk_voice(small_talk)] if small_talk else voices


def plain_texts() -> list[str]:
    """Knowledge, worlds and narratives of all characters and of the general data, one section each."""
    folders = [card_folder(name) for name in characters()]
    knowledge = ["\n".join((file.title, *file.paragraphs)) for folder in folders for file in knowledge_files(folder)]
    files = [*(folder / "world.yaml" for folder in folders), *GENERAL_DATA.glob("*.txt")]
    texts = [path.read_text(encoding="utf-8") for path in sorted(files) if path.is_file()]
    parts = [part.strip() for text in texts for part in re.split(r"\n\n+", text)]
    return [*knowledge, *(piece for part in parts if part for piece in _pieces(part))]


def _pieces(text: str) -> list[str]:
    """``text`` in pieces of a few lines, short enough for one row."""
    lines = text.splitlines()
    return ["\n".join(lines[start : start + LINES_A_PIECE]) for start in range(0, len(lines), LINES_A_PIECE)]


def vocabulary_texts() -> list[str]:
    """Every text whose characters and Latin words the tokenizer should know."""
    voices = all_voices(None)
    lines = [line for prompts in SPEECH_PROMPTS.values() for line in prompts]
    for voice in voices:
        lines += [*voice.systems, *(turn for seed in voice.seeds for turn in seed.turns), *voice.unknown]
        lines += [line for item in voice.facts for line in (*item.fact.ask, *item.fact.say)]
        for intent in voice.intents:
            lines += [*intent.user, *intent.reply, *intent.context]
            lines += [line for part in (intent.tell, intent.follow) if part for line in (*part.user, *part.reply)]
            lines += [value for values in intent.slots.values() for value in values]
    return [*lines, *plain_texts(), ROLES]


def copy_document(tokenizer: Any, rng: random.Random) -> Document:
    """Random words, then some of them again: only the second telling counts in the loss."""
    syllables = common_syllables()
    words = ["".join(rng.choices(syllables, k=rng.randint(1, 4))) for _ in range(rng.randint(3, 14))]
    ids: list[int] = []
    weights: list[float] = []
    for telling in range(rng.randint(2, 4)):
        start = 0 if telling == 0 else rng.randrange(len(words) - 1)
        piece = tokenizer(" ".join(words[start:]) + "\n")["input_ids"]
        # Where the second telling starts cannot be known, so its first syllable does not count.
        ids += piece
        weights += [0.0 if telling == 0 or index == 0 else 1.0 for index in range(len(piece))]
    return Document(tuple(ids), tuple(weights))


@dataclass(frozen=True, slots=True)
class Corpus:
    """An endless, seeded stream of documents; document ``i`` is the same in every run."""

    tokenizer: Any
    voices: tuple[Voice, ...]
    texts: tuple[str, ...]
    mix: Mapping[str, float]
    context_weight: float
    slot_weight: float
    seed: int

    def stream(self, first: int, copy_share: Callable[[], float], stage: Stage) -> Iterator[Document]:
        """Documents from number ``first`` on; ``copy_share`` is asked anew for each.

        A conversation that does not fit into a row is left out: cut off, it would lose the question it leads to.
        """
        composers = {voice.name: Composer(voice, stage.recipe) for voice in self.voices}
        names = [name for name in self.mix if name in composers or (name == "text" and self.texts)]
        shares = [self.mix[name] for name in names]
        index = first
        while True:
            rng = row_rng(self.seed, "corpus", index)
            index += 1
            if rng.random() < copy_share():
                yield copy_document(self.tokenizer, rng)
                continue
            name = rng.choices(names, shares)[0]
            if name == "text":
                yield text_document(self.tokenizer, rng.choice(self.texts), TEXT_WEIGHT)
            else:
                dialogue = composers[name].dialogue(rng)
                document = chat_document(self.tokenizer, dialogue.row()["messages"], self.context_weight)
                document = document.stressing(self._tokens(dialogue.copied), self.slot_weight)
                if len(document.ids) <= stage.length:
                    yield document

    def _tokens(self, values: tuple[str, ...]) -> list[tuple[int, ...]]:
        return [tuple(self.tokenizer(value)["input_ids"]) for value in values]
