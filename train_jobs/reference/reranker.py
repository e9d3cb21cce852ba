"""A small reranker in FlagReranker's format: an encoder over question and passage together.

It starts from weights that compare the two (``matching.py``). Neither the embedder's blocks nor the base's learnt
that by themselves in eight minutes (docs/log.md).
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from core.errors import ConfigurationError
from core.logs import get_logger
from core.settings import get_settings
from train_jobs.reference.config import RerankerConfig
from train_jobs.reference.embedder import marked_tokenizer
from train_jobs.reference.matching import build_matcher
from train_jobs.reference.optimiser import Optimiser
from train_jobs.reference.output import swap_in, write_small
from train_jobs.reference.rankings import Ranking, RankingSource
from train_jobs.reference.retrieval import evaluate_reranker

WARMUP = 0.05


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


def reranker_tokenizer(embedder: Path, positions: int) -> Any:
    """The embedder's tokenizer, which also says which of the two texts a token is of."""
    from transformers import AutoTokenizer

    if not (embedder / "tokenizer.json").is_file():
        raise ConfigurationError(f"{embedder}: no embedder; run `python -m train_jobs.reference embedder`")
    return marked_tokenizer(AutoTokenizer.from_pretrained(embedder).backend_tokenizer, positions, types=True)


def word_vectors(embedder: Path) -> Tensor:
    """The embedder's table, tokens × width."""
    from transformers import AutoModel

    vectors: Tensor = AutoModel.from_pretrained(embedder).get_input_embeddings().weight.detach().float()
    return vectors


def train_reranker(config: RerankerConfig) -> None:
    """Train and save the reranker."""
    torch.set_num_threads(config.threads)
    torch.manual_seed(config.seed)
    settings = get_settings()
    embedder = settings.resolved(config.embedder)
    tokenizer = reranker_tokenizer(embedder, config.positions)
    model = build_matcher(word_vectors(embedder), tokenizer, config.layers, config.positions).bfloat16()
    training = RerankerTraining(config, tokenizer, model)
    steps = training.run(RankingSource.load(config.negatives))
    output = settings.resolved(config.output)
    save_reranker(model, tokenizer, output, getattr(torch, config.precision))
    get_logger("reference").info("end", steps=steps, **asdict(evaluate_reranker(str(output))))


def save_reranker(model: Any, tokenizer: Any, output: Path, precision: torch.dtype) -> None:
    """Write beside ``output`` and swap in; the weights are stored small and read back as float32."""
    with swap_in(output, ("README.md",)) as fresh:
        write_small(model, tokenizer, fresh, precision)
