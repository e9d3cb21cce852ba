"""A small embedder in BGE-M3's format: dense and lexical vectors from one XLM-R encoder, trained contrastively."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from core.logs import get_logger
from core.settings import get_settings
from train_jobs.reference.config import EmbedderConfig
from train_jobs.reference.optimiser import Optimiser
from train_jobs.reference.output import swap_in, write_small
from train_jobs.reference.pairs import Pair, PairSource
from train_jobs.reference.retrieval import Retrieval, evaluate
from train_jobs.reference.tokenizer import END_OF_TEXT, TURN_END, TURN_START, load_tokenizer

WARMUP = 0.05


class Embedder(nn.Module):
    """Encoder with the heads that BGE-M3 has: first state for the dense vector, one weight per token."""

    def __init__(self, config: EmbedderConfig, tokenizer: Any) -> None:
        super().__init__()
        from transformers import XLMRobertaConfig, XLMRobertaModel

        self.encoder = XLMRobertaModel(
            XLMRobertaConfig(
                vocab_size=len(tokenizer),
                hidden_size=config.hidden,
                num_hidden_layers=config.layers,
                num_attention_heads=config.heads,
                intermediate_size=config.inner,
                max_position_embeddings=config.positions,
                type_vocab_size=1,
                hidden_dropout_prob=0.0,
                attention_probs_dropout_prob=0.0,
                # Positions count from the padding id up, so a padding id of 0 leaves all but one row usable.
                pad_token_id=tokenizer.pad_token_id,
                bos_token_id=tokenizer.cls_token_id,
                eos_token_id=tokenizer.sep_token_id,
                attn_implementation="eager",
            )
        )
        self.encoder.pooler.requires_grad_(False)  # never read; there so that loading reports nothing missing
        self.sparse_linear = nn.Linear(config.hidden, 1)
        # Part of the format; left as the identity, because nothing here ranks by token against token.
        self.colbert_linear = nn.Linear(config.hidden, config.hidden).requires_grad_(False)
        nn.init.eye_(self.colbert_linear.weight)
        nn.init.zeros_(self.colbert_linear.bias)

    def forward(self, ids: Tensor, seen: Tensor) -> tuple[Tensor, Tensor]:
        """Unit dense vectors and token weights."""
        states = self.encoder(input_ids=ids, attention_mask=seen).last_hidden_state
        weights = torch.relu(self.sparse_linear(states)).squeeze(-1) * seen
        return functional.normalize(states[:, 0].float(), dim=-1), weights.float()


@dataclass(frozen=True, slots=True)
class Encoded:
    """One side of a batch after the model."""

    dense: Tensor
    lexical: Tensor


@dataclass(slots=True)
class EmbedderTraining:
    """One run."""

    config: EmbedderConfig
    tokenizer: Any
    model: Embedder
    special_ids: Tensor
    started: float = 0.0

    def run(self, source: PairSource) -> int:
        """Train to the end of the budget; returns the number of steps."""
        config = self.config
        optimiser = Optimiser(self.model, config.matrix_lr, config.learning_rate, 0.01)
        self.started = time.monotonic()
        for step, batch in enumerate(source.batches(config.pairs, config.seed)):
            done = max(step / config.steps, (time.monotonic() - self.started) / (60 * config.minutes))
            if done >= 1:
                return step
            loss = self._loss(batch)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
            optimiser.step(min(1.0, done / WARMUP + 0.02) * (1 - 0.98 * done))
            if step % 50 == 0:
                self.log(event="train", step=step, loss=round(float(loss.detach()), 4), done=round(done, 3))
        return 0

    def _loss(self, batch: list[Pair]) -> Tensor:
        """InfoNCE both ways on the dense vectors, and on the lexical match from query to passage."""
        queries = self._encode([pair.query for pair in batch])
        passages = self._encode([pair.passage for pair in batch])
        labels = torch.arange(len(batch))
        dense = queries.dense @ passages.dense.T / self.config.temperature
        lexical = queries.lexical @ passages.lexical.T
        return (
            functional.cross_entropy(dense, labels)
            + functional.cross_entropy(dense.T, labels)
            + self.config.sparse_weight * functional.cross_entropy(lexical, labels)
        )

    def _encode(self, texts: list[str]) -> Encoded:
        inputs = self.tokenizer(
            texts, padding=True, truncation=True, max_length=self.config.length, return_tensors="pt"
        )
        dense, weights = self.model(inputs["input_ids"], inputs["attention_mask"])
        # A token's weight is its largest in the text, as BGE-M3 reads it back.
        lexical = torch.zeros(len(texts), len(self.tokenizer)).scatter_reduce(
            1, inputs["input_ids"], weights, reduce="amax"
        )
        keep = torch.ones(len(self.tokenizer)).index_fill(0, self.special_ids, 0.0)
        return Encoded(dense, lexical * keep)

    def log(self, event: str, **values: Any) -> None:
        """One line to the run's log and to the console."""
        path = get_settings().resolved(self.config.run_dir) / "log.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"event": event, **values}, ensure_ascii=False) + "\n")
        get_logger("reference").info(event, **values)


def embedder_tokenizer(path: Path, positions: int) -> Any:
    """The chat model's tokenizer with marks around every text, and around each of a pair, as XLM-R expects."""
    return marked_tokenizer(load_tokenizer(path).backend_tokenizer, positions)


def marked_tokenizer(raw: Any, positions: int, types: bool = False) -> Any:
    """The chat model's vocabulary with marks around texts; ``types`` tells the second of a pair apart."""
    from tokenizers.processors import TemplateProcessing
    from transformers import PreTrainedTokenizerFast

    second = ":1" if types else ""
    raw.post_processor = TemplateProcessing(
        single=f"{TURN_START} $A {TURN_END}",
        pair=f"{TURN_START} $A {TURN_END} {TURN_END}{second} $B{second} {TURN_END}{second}",
        special_tokens=[(name, raw.token_to_id(name)) for name in (TURN_START, TURN_END)],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=raw,
        cls_token=TURN_START,
        sep_token=TURN_END,
        eos_token=TURN_END,
        pad_token=END_OF_TEXT,
        padding_side="right",
        model_max_length=positions - 2,
        clean_up_tokenization_spaces=False,
        model_input_names=["input_ids", *(["token_type_ids"] if types else []), "attention_mask"],
    )


def train_embedder(config: EmbedderConfig) -> None:
    """Train, save and measure the embedder."""
    torch.set_num_threads(config.threads)
    torch.manual_seed(config.seed)
    settings = get_settings()
    tokenizer = embedder_tokenizer(settings.resolved(config.tokenizer), config.positions)
    specials = torch.tensor([tokenizer.cls_token_id, tokenizer.sep_token_id, tokenizer.pad_token_id])
    model = Embedder(config, tokenizer).bfloat16()
    training = EmbedderTraining(config, tokenizer, model, specials)
    steps = training.run(PairSource.load(config.small_talk))
    output = settings.resolved(config.output)
    save_embedder(training.model, tokenizer, output, getattr(torch, config.precision))
    result: Retrieval = evaluate(str(output))
    training.log(event="end", steps=steps, **asdict(result))


def save_embedder(model: Embedder, tokenizer: Any, output: Path, precision: torch.dtype) -> None:
    """Write beside ``output`` and swap in; the weights are stored small and read back as float32."""
    heads = {"sparse_linear": model.sparse_linear, "colbert_linear": model.colbert_linear}
    with swap_in(output, ("README.md",)) as fresh:
        write_small(model.encoder, tokenizer, fresh, precision)
        for name, head in heads.items():
            torch.save(head.float().state_dict(), fresh / f"{name}.pt")
