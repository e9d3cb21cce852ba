"""A small reranker in FlagReranker's format: the embedder's first blocks, read over question and passage together."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from core.errors import ConfigurationError
from core.logs import get_logger
from core.settings import get_settings
from data_pipelines.grammar.facts import GroundedFact
from data_pipelines.grammar.intents import training_lines
from data_pipelines.grammar.voices import Voice, character_voice, characters
from train_jobs.reference.config import RerankerConfig
from train_jobs.reference.embedder import embedder_tokenizer
from train_jobs.reference.optimiser import Optimiser
from train_jobs.reference.output import swap_in
from train_jobs.reference.pairs import noisy

WARMUP = 0.05
NEAREST = 24
"""Hard negatives are drawn from so many passages that share most characters with the question."""


@dataclass(frozen=True, slots=True)
class Ranking:
    """A question and passages, of which the first one answers it."""

    query: str
    passages: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RankingSource:
    """Draws questions on the knowledge bases with passages that do and do not answer them."""

    voices: tuple[Voice, ...]
    negatives: int

    @staticmethod
    def load(negatives: int) -> RankingSource:
        voices = [character_voice(name) for name in characters()]
        return RankingSource(tuple(voice for voice in voices if voice.facts), negatives)

    def stream(self, seed: int) -> Iterator[Ranking]:
        """Endless, seeded."""
        rng = random.Random(seed)
        if not self.voices:
            raise ConfigurationError("no character has a facts.yaml: there is nothing to learn ranking from")
        while True:
            voice = rng.choice(self.voices)
            yield self._ranking(voice, rng.choice(voice.facts), rng)

    def _ranking(self, voice: Voice, item: GroundedFact, rng: random.Random) -> Ranking:
        query = rng.choice(training_lines(item.fact.ask))
        wrong = [
            passage.text for passage in voice.passages if not any(gold in passage.text for gold in item.fact.gold)
        ]
        near = sorted(rng.sample(wrong, min(len(wrong), 4 * NEAREST)), key=lambda text: -overlap(query, text))[
            :NEAREST
        ]
        chosen = rng.sample(near, min(len(near), self.negatives))
        return Ranking(noisy(query, rng), (item.passage.text, *chosen))


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
        """Which of the passages answers: cross-entropy over each question's list."""
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
        losses, start = [], 0
        for item in batch:
            end = start + len(item.passages)
            losses.append(functional.cross_entropy(scores[None, start:end], torch.zeros(1, dtype=torch.long)))
            start = end
        return torch.stack(losses).mean()


def build_reranker(embedder: Path, layers: int) -> Any:
    """A sequence classifier with one label on the embedder's embeddings and first ``layers`` blocks."""
    from transformers import XLMRobertaConfig, XLMRobertaForSequenceClassification, XLMRobertaModel

    if not (embedder / "config.json").is_file():
        raise ConfigurationError(f"{embedder}: no embedder; run `python -m train_jobs.reference embedder`")
    encoder = XLMRobertaModel.from_pretrained(embedder)
    settings = encoder.config.to_dict() | {
        "num_hidden_layers": layers,
        "id2label": {0: "relevance"},
        "dtype": "float32",
    }
    settings["label2id"] = {"relevance": 0}
    model = XLMRobertaForSequenceClassification(XLMRobertaConfig(**settings))
    learned = {name: value for name, value in encoder.state_dict().items() if not name.startswith("pooler")}
    model.roberta.load_state_dict(learned, strict=False)
    return model.bfloat16()


def train_reranker(config: RerankerConfig) -> None:
    """Train and save the reranker."""
    torch.set_num_threads(config.threads)
    torch.manual_seed(config.seed)
    settings = get_settings()
    model = build_reranker(settings.resolved(config.embedder), config.layers)
    tokenizer = embedder_tokenizer(settings.resolved(config.tokenizer), model.config.max_position_embeddings)
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
