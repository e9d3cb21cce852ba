"""A small reranker in FlagReranker's format: the base's first blocks, read over question and passage together.

The base has learnt to copy from its context, so it may find what the two have in common: not measured yet. The
embedder's blocks, which never saw two texts at once, did not learn it in eight minutes (docs/log.md).
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from core.errors import ConfigurationError
from core.logs import get_logger
from core.settings import get_settings
from data_pipelines.grammar.composer import Composer
from data_pipelines.grammar.facts import Passage
from data_pipelines.grammar.intents import training_lines
from data_pipelines.grammar.voices import Voice, character_voice, characters
from memory.excerpts import sentences
from train_jobs.reference.config import RerankerConfig
from train_jobs.reference.embedder import embedder_tokenizer
from train_jobs.reference.general import general_voices
from train_jobs.reference.optimiser import Optimiser
from train_jobs.reference.output import swap_in
from train_jobs.reference.pairs import noisy, some_words

WARMUP = 0.05
NEAREST = 24
"""Hard negatives are drawn from so many passages that share most characters with the question."""

SOME_WORDS = 0.2
"""Share of lists under a few words of a passage, as people type them into a search box."""

SMALL_TALK = 0.35
"""Share of lists under a line that no passage answers, because it asks for nothing of the kind."""

NOT_THERE = 0.15
"""Share of lists under a question whose answer was taken out."""

TALK = frozenset({"greeting", "empathy", "everyday", "memory", "refusal", "identity", "not_in_documents"})
"""Categories of intents that documents say nothing about."""


@dataclass(frozen=True, slots=True)
class Ranking:
    """A line and passages, of which the first one answers it, or none."""

    query: str
    passages: tuple[str, ...]
    answered: bool = True


@dataclass(frozen=True, slots=True)
class Asker:
    """One knowledge base, and those who talk to its character."""

    voice: Voice
    talkers: tuple[Composer, ...]

    def line(self, rng: random.Random) -> str:
        """Something that asks for nothing in the documents."""
        return rng.choice(rng.choice(self.talkers).dialogue(rng).turns[::2])


@dataclass(frozen=True, slots=True)
class RankingSource:
    """Draws lines with passages that do and do not answer them."""

    askers: tuple[Asker, ...]
    negatives: int

    @staticmethod
    def load(negatives: int) -> RankingSource:
        """Every character that has facts; Korean ones also hear the general voices."""
        voices = [voice for name in characters() if (voice := character_voice(name)).facts]
        if not voices:
            raise ConfigurationError("no character has a facts.yaml: there is nothing to learn ranking from")
        general = tuple(Composer(voice) for voice in general_voices())
        askers = [
            Asker(voice, tuple(Composer(own) for own in [talk_only(voice)] if own.intents) + heard)
            for voice in voices
            for heard in [general if voice.language == "ko" else ()]
        ]
        return RankingSource(tuple(askers), negatives)

    def stream(self, seed: int) -> Iterator[Ranking]:
        """Endless, seeded."""
        rng = random.Random(seed)
        while True:
            asker, kind = rng.choice(self.askers), rng.random()
            if asker.talkers and kind < SMALL_TALK:
                yield self._unanswered(asker, asker.line(rng), (), rng)
                continue
            if kind < SMALL_TALK + SOME_WORDS:
                yield self._some_words(asker.voice, rng)
                continue
            item = rng.choice(asker.voice.facts)
            query = noisy(rng.choice(training_lines(item.fact.ask)), rng)
            if kind > 1 - NOT_THERE:
                yield self._unanswered(asker, query, item.fact.gold, rng)
            else:
                wrong = self._near(asker.voice, query, item.fact.gold, self.negatives, rng)
                yield Ranking(query, (passage_text(item.passage), *wrong))

    def _some_words(self, voice: Voice, rng: random.Random) -> Ranking:
        passage = rng.choice(voice.passages)
        query = noisy(some_words(rng.choice(sentences(passage.text)), rng), rng)
        near = self._near(voice, query, (passage.text,), self.negatives, rng)
        return Ranking(query, (passage_text(passage), *near))

    def _unanswered(self, asker: Asker, query: str, golds: Sequence[str], rng: random.Random) -> Ranking:
        return Ranking(query, self._near(asker.voice, query, golds, self.negatives + 1, rng), answered=False)

    def _near(
        self, voice: Voice, query: str, golds: Sequence[str], count: int, rng: random.Random
    ) -> tuple[str, ...]:
        """Passages without the answer, those that look most like the question among them."""
        wrong = [passage for passage in voice.passages if not any(gold in passage.text for gold in golds)]
        drawn = rng.sample(wrong, min(len(wrong), 4 * NEAREST))
        near = sorted(map(passage_text, drawn), key=lambda text: -overlap(query, text))[:NEAREST]
        return tuple(rng.sample(near, min(len(near), count)))


def talk_only(voice: Voice) -> Voice:
    """The character without what its documents say."""
    intents = tuple(intent for intent in voice.intents if intent.category in TALK)
    return replace(voice, intents=intents, seeds=(), facts=(), passages=())


def passage_text(passage: Passage) -> str:
    """As the index holds it: title and text."""
    return f"{passage.title}\n{passage.text}"


def overlap(query: str, text: str) -> float:
    """Share of the question's character pairs that the text has too."""
    pairs = {query[index : index + 2] for index in range(len(query) - 1)}
    return sum(pair in text for pair in pairs) / max(1, len(pairs))


@dataclass(slots=True)
class RerankerTraining:
    """One run."""

    config: RerankerConfig
    tokenizer: Any
    model: Any

    def run(self, source: RankingSource) -> int:
        """Train to the end of the budget; returns the number of steps."""
        config = self.config
        optimiser = Optimiser(self.model, config.matrix_lr, config.learning_rate, 0.01)
        started, step = time.monotonic(), 0
        rankings = source.stream(config.seed)
        while True:
            done = max(step / config.steps, (time.monotonic() - started) / (60 * config.minutes))
            if done >= 1:
                return step
            loss = self._loss([next(rankings) for _ in range(config.questions)])
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
            optimiser.step(min(1.0, done / WARMUP + 0.02) * (1 - 0.98 * done))
            if step % 50 == 0:
                get_logger("reference").info("train", step=step, loss=round(float(loss.detach()), 4))
            step += 1

    def _loss(self, batch: Sequence[Ranking]) -> Tensor:
        """Which passage of a list answers (cross-entropy over the list), and whether each one does (over all).

        The second part makes the score of a single pair mean something: its sigmoid is a probability.
        """
        queries = [item.query for item in batch for _ in item.passages]
        passages = [passage for item in batch for passage in item.passages]
        inputs = self.tokenizer(
            queries,
            passages,
            padding=True,
            truncation="only_second",
            max_length=self.config.length,
            return_tensors="pt",
        )
        scores = self.model(**inputs).logits.view(-1).float()
        answers = [item.answered and place == 0 for item in batch for place in range(len(item.passages))]
        whether = functional.binary_cross_entropy_with_logits(scores, scores.new_tensor(answers, dtype=torch.float))
        lists = scores.split([len(item.passages) for item in batch])
        first = torch.zeros(1, dtype=torch.long)
        which = [
            functional.cross_entropy(list_scores[None], first)
            for item, list_scores in zip(batch, lists, strict=True)
            if item.answered
        ]
        return whether + (torch.stack(which).mean() if which else 0.0)


def build_reranker(base: Path, layers: int, tokenizer: Any) -> Any:
    """A sequence classifier with one label on the embeddings and first ``layers`` blocks of a causal model."""
    from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSequenceClassification

    if not (base / "config.json").is_file():
        raise ConfigurationError(f"{base}: no base model; run `python -m train_jobs.reference base`")
    whole = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    config = AutoConfig.from_pretrained(base)
    config.num_hidden_layers = min(layers, config.num_hidden_layers)
    config.num_labels, config.id2label, config.label2id = 1, {0: "relevance"}, {"relevance": 0}
    config.pad_token_id = tokenizer.pad_token_id  # the score is read at the last token that is none
    model = AutoModelForSequenceClassification.from_config(config, dtype=torch.float32, attn_implementation="eager")
    learned = whole.model.state_dict()
    model.model.load_state_dict({name: learned[name] for name in model.model.state_dict()})
    return model.bfloat16()


def train_reranker(config: RerankerConfig) -> None:
    """Train and save the reranker."""
    torch.set_num_threads(config.threads)
    torch.manual_seed(config.seed)
    settings = get_settings()
    tokenizer = embedder_tokenizer(settings.resolved(config.base), config.length)
    model = build_reranker(settings.resolved(config.base), config.layers, tokenizer)
    training = RerankerTraining(config, tokenizer, model)
    steps = training.run(RankingSource.load(config.negatives))
    save_reranker(model, tokenizer, settings.resolved(config.output), getattr(torch, config.precision))
    get_logger("reference").info("end", steps=steps)


def save_reranker(model: Any, tokenizer: Any, output: Path, precision: torch.dtype) -> None:
    """Write beside ``output`` and swap in; the weights are stored small and read back as float32."""
    with swap_in(output, ("README.md",)) as fresh:
        model.to(precision).save_pretrained(fresh)
        tokenizer.save_pretrained(fresh)
        settings = json.loads((fresh / "config.json").read_text(encoding="utf-8")) | {"dtype": "float32"}
        settings.pop("attn_implementation", None)
        (fresh / "config.json").write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
        (fresh / "model.safetensors").chmod(0o644)
