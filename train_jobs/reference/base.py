"""The training loop of the base model."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from core.errors import ConfigurationError
from core.logs import get_logger
from core.settings import get_settings
from train_jobs.reference.config import COPYING_FIRST, BaseConfig, Stage
from train_jobs.reference.corpus import Corpus, all_voices, plain_texts
from train_jobs.reference.graft import graft
from train_jobs.reference.model import build_model, save_model
from train_jobs.reference.optimiser import Optimiser
from train_jobs.reference.packing import Batch, Document, collate, fill_row
from train_jobs.reference.probes import Probes, weighted_loss
from train_jobs.reference.tokenizer import load_tokenizer


@dataclass(slots=True)
class Progress:
    """How far the run is; survives a restart."""

    step: int = 0
    tokens: int = 0
    documents: int = 0
    seconds: float = 0.0


def _graft_batch(corpus: Corpus, count: int = 24, length: int = 512) -> Batch:
    """Documents, half of them copy sequences, on whose states the copying circuit is fitted."""
    stream = corpus.stream(0, lambda: 0.5, Stage(until=1, recipe=COPYING_FIRST))
    rows = [[next(stream).cut(length)] for _ in range(count)]
    return collate(rows, length, corpus.tokenizer.pad_token_id)


@dataclass(slots=True)
class BaseTraining:
    """One run: set up once, then ``run``."""

    config: BaseConfig
    tokenizer: Any
    model: Any
    optimiser: Optimiser
    corpus: Corpus
    probes: Probes
    progress: Progress = field(default_factory=Progress)
    saved_at: float = 0.0

    @staticmethod
    def prepare(config: BaseConfig) -> BaseTraining:
        """Load tokenizer and data, build the model, and pick up a checkpoint if asked to."""
        torch.set_num_threads(config.threads)
        settings = get_settings()
        folder = settings.resolved(config.tokenizer or config.output)
        if not (folder / "tokenizer.json").is_file():
            raise ConfigurationError(
                f"{folder}: no tokenizer; set tokenizer=models/base, or run "
                f"`python -m train_jobs.reference tokenizer output={config.output}`"
            )
        tokenizer = load_tokenizer(folder)
        voices = all_voices(config.small_talk)
        corpus = Corpus(
            tokenizer,
            tuple(voices),
            tuple(plain_texts()),
            config.mix,
            config.context_weight,
            config.slot_weight,
            config.seed,
        )
        model = build_model(config.shape, tokenizer, config.seed)
        if config.graft:
            graft(model, _graft_batch(corpus))
        training = BaseTraining(
            config=config,
            tokenizer=tokenizer,
            model=model,
            optimiser=Optimiser(model, config.matrix_lr, config.embedding_lr, config.weight_decay),
            corpus=corpus,
            probes=Probes.of(tokenizer, voices, config.samples, config.probes),
        )
        training.run_dir.mkdir(parents=True, exist_ok=True)
        if config.resume:
            training._restore()
        return training

    @property
    def run_dir(self) -> Path:
        return get_settings().resolved(self.config.run_dir)

    @property
    def done(self) -> float:
        """Progress from 0 to 1 along whichever budget is nearer its end."""
        by_time = self.progress.seconds / (60 * self.config.minutes)
        return min(1.0, max(by_time, self.progress.step / self.config.steps))

    def run(self) -> None:
        """Train to the end of the budget and save the model."""
        parameters = sum(parameter.numel() for parameter in self.model.parameters())
        self._log(event="start", parameters=parameters, config=self.config.model_dump(mode="json"))
        for stage in self.config.stages:
            if self.done < stage.until:
                self._run_stage(stage)
        self._validate()
        self._checkpoint()
        save_model(self.model, self.tokenizer, get_settings().resolved(self.config.output), ("README.md",))
        self._log(event="end", **asdict(self.progress))

    def _run_stage(self, stage: Stage) -> None:
        self.model.train()
        batches = self._batches(stage)
        recent: list[float] = []
        while self.done < stage.until:
            started = time.monotonic()
            batch = next(batches)
            recent.append(self._step(batch))
            self.progress.step += 1
            self.progress.tokens += batch.inputs.numel()
            took = time.monotonic() - started
            self.progress.seconds += took
            if self.progress.step % self.config.log_every == 0:
                speed = round(batch.inputs.numel() / took)
                loss = round(sum(recent) / len(recent), 4)
                self._log(event="train", loss=loss, tokens_per_s=speed, rate=round(self._rate(), 4))
                recent.clear()
            self._now_and_then()

    def _step(self, batch: Batch) -> float:
        generator = torch.Generator().manual_seed(self.config.seed + self.progress.step)
        loss, _ = weighted_loss(self.model, batch, generator)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimiser.step(self._rate())
        return float(loss.detach())

    def _rate(self) -> float:
        """Warm-up, plateau, then a straight line down to ``final_rate``."""
        config, done = self.config, self.done
        if done < config.warmup:
            return max(0.02, done / config.warmup)
        if done < config.decay_from:
            return 1.0
        left = (1 - done) / (1 - config.decay_from)
        return config.final_rate + (1 - config.final_rate) * left

    def _copy_share(self) -> float:
        """Many copy sequences at first, few after a fifth of the run."""
        config = self.config
        return max(config.copy_floor, config.copy_share * (1 - self.done / 0.2))

    def _batches(self, stage: Stage) -> Iterator[Batch]:
        pool: list[Document] = []
        documents = self._counted(self.corpus.stream(self.progress.documents, self._copy_share, stage))
        while True:
            rows = [fill_row(pool, documents, stage.length) for _ in range(stage.rows)]
            yield collate(rows, stage.length, self.tokenizer.pad_token_id)

    def _counted(self, documents: Iterator[Document]) -> Iterator[Document]:
        for document in documents:
            self.progress.documents += 1
            yield document

    def _now_and_then(self) -> None:
        """Validation by steps, checkpoints by the clock; neither counts as training time."""
        if self.progress.step % self.config.eval_every == 0:
            self._validate()
        if self.progress.seconds - self.saved_at > 60 * self.config.checkpoint_minutes:
            self._checkpoint()

    def _validate(self) -> None:
        report = self.probes.run(self.model)
        self._log(
            event="validate",
            val_loss=round(report.loss, 4),
            copied={kind: round(share, 3) for kind, share in report.copied.items()},
            samples=report.samples,
        )

    def _checkpoint(self) -> None:
        """Everything a resumed run needs, written beside the old checkpoint and swapped in."""
        self.saved_at = self.progress.seconds
        path = self.run_dir / "checkpoint.pt"
        fresh = path.with_suffix(".new")
        torch.save({"optimiser": self.optimiser.state(), "progress": asdict(self.progress)}, fresh)
        fresh.replace(path)

    def _restore(self) -> None:
        path = self.run_dir / "checkpoint.pt"
        if not path.is_file():
            raise ConfigurationError(f"{path}: nothing to resume from")
        state = torch.load(path, weights_only=True)
        self.optimiser.restore(state["optimiser"])
        self.progress = Progress(**state["progress"])
        self.saved_at = self.progress.seconds

    def _log(self, event: str, **values: Any) -> None:
        entry = {"event": event, "step": self.progress.step, "tokens": self.progress.tokens}
        entry |= {"seconds": round(self.progress.seconds, 1), **values}
        with (self.run_dir / "log.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry, ensure_ascii=False) + "\n")
        shown = {key: value for key, value in entry.items() if key not in ("config", "samples", "event")}
        get_logger("reference").info(event, **shown)
