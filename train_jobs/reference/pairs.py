"""Pairs of texts that mean the same to a reader who searches: what the embedder is trained on."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from data_pipelines.grammar.facts import GroundedFact
from data_pipelines.grammar.intents import Intent, fill, sample_values, training_lines
from data_pipelines.grammar.voices import KnowledgeFile, Voice, card_folder, characters, knowledge_files
from train_jobs.reference.corpus import all_voices

SENTENCE = re.compile(r"(?<=[.!?。])\s+")
MADE_UP = 0.25
NOISE = 0.3


@dataclass(frozen=True, slots=True)
class Pair:
    """A query, the text it should find, and what the two belong to: no two of a kind share a batch."""

    query: str
    passage: str
    origin: str


@dataclass(frozen=True, slots=True)
class PairSource:
    """Draws pairs from intents, knowledge and public small talk."""

    intents: tuple[Intent, ...]
    files: tuple[KnowledgeFile, ...]
    talk: tuple[tuple[str, str], ...]
    facts: tuple[GroundedFact, ...] = ()

    @staticmethod
    def load(small_talk: Path | None) -> PairSource:
        voices: Sequence[Voice] = all_voices(small_talk)
        return PairSource(
            tuple(intent for voice in voices for intent in voice.intents),
            tuple(file for name in characters() for file in knowledge_files(card_folder(name))),
            tuple(pair for voice in voices for pair in voice.pairs),
            tuple(item for voice in voices for item in voice.facts),
        )

    def batches(self, size: int, seed: int) -> Iterator[list[Pair]]:
        """Endless batches in which every pair has an origin of its own."""
        rng = random.Random(seed)
        while True:
            batch: dict[str, Pair] = {}
            while len(batch) < size:
                pair = self._pair(rng)
                batch.setdefault(pair.origin, pair)
            yield list(batch.values())

    def _pair(self, rng: random.Random) -> Pair:
        draw = rng.random()
        if self.facts and rng.random() < 0.4:
            return self._fact_pair(rng.choice(self.facts), rng)
        if self.files and (draw < 0.35 or not self.intents):
            return self._knowledge_pair(rng.choice(self.files), rng)
        if self.talk and draw < 0.45:
            question, answer = rng.choice(self.talk)
            return Pair(question, answer, f"talk:{question}")
        return self._intent_pair(rng.choice(self.intents), rng)

    def _fact_pair(self, item: GroundedFact, rng: random.Random) -> Pair:
        query = noisy(rng.choice(training_lines(item.fact.ask)), rng)
        passage = item.fact.fact if rng.random() < 0.2 else item.passage.text
        return Pair(query, passage, f"passage:{item.passage.text[:80]}")

    def _intent_pair(self, intent: Intent, rng: random.Random) -> Pair:
        values = sample_values(intent.slots, rng, MADE_UP)
        lines = training_lines(intent.user)
        query = noisy(fill(rng.choice(lines), values), rng)
        others = intent.context if intent.context and rng.random() < 0.7 else (*lines, rng.choice(intent.reply))
        return Pair(query, fill(rng.choice(others), values), f"intent:{intent.id}")

    def _knowledge_pair(self, file: KnowledgeFile, rng: random.Random) -> Pair:
        """Title, sentence or a few of its words, against a paragraph that holds it or stands beside it."""
        number = rng.randrange(len(file.paragraphs))
        paragraph = file.paragraphs[number]
        sentences = SENTENCE.split(paragraph)
        chosen = rng.choice(sentences)
        rest = " ".join(sentence for sentence in sentences if sentence is not chosen)
        draw = rng.random()
        if draw < 0.2:
            query = file.title
        elif draw < 0.65:
            query = some_words(chosen, rng)
        else:
            query, paragraph = chosen, rest if rest and rng.random() < 0.6 else paragraph
        passage = f"{file.title}\n{paragraph}" if rng.random() < 0.5 else paragraph
        return Pair(noisy(query, rng), passage, f"knowledge:{file.title}:{number}")


def some_words(sentence: str, rng: random.Random) -> str:
    """Two to five words of ``sentence`` with their particles often cut, as in a hurried question."""
    words = sentence.rstrip(".!?。").split()
    count = min(len(words), rng.randint(2, 5))
    chosen = sorted(rng.sample(range(len(words)), count))
    return " ".join(
        word[:-1] if len(word) > 2 and rng.random() < 0.4 else word for word in (words[index] for index in chosen)
    )


def noisy(text: str, rng: random.Random) -> str:
    """``text`` with a character lost, a space closed or its end mark dropped, now and then."""
    if rng.random() >= NOISE or len(text) < 6:
        return text
    draw = rng.random()
    if draw < 0.4:
        position = rng.randrange(len(text))
        return text[:position] + text[position + 1 :]
    return text.replace(" ", "", 1) if draw < 0.7 else text.rstrip(".?!~ ")
