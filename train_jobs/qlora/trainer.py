"""TRL's trainer with what a run of days needs: an order that survives a restart, honest speed, no loss that is NaN.

Imports Transformers on top, so only worker processes import it.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import torch
from torch.utils.data import Sampler
from transformers import TrainerCallback, TrainerState
from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_pt_utils import get_length_grouped_indices
from trl import SFTTrainer

from core.errors import TrainingDiverged
from train_jobs.qlora.data import IGNORED, Messages
from train_jobs.qlora.failures import full_disk_named
from train_jobs.qlora.packing import Batch, conversations, real_tokens

GIB = 1024**3
SHOWN_ROWS = 8
SHOWN_WORDS = 6


class EpochOrder(Sampler[int]):
    """Rows of like length together, in an order that follows from the seed and the epoch alone.

    The order that Transformers draws follows from the global random state, which depends on how often dropout drew
    before: a run that goes on within its second epoch would see other rows than one that was never interrupted.
    """

    def __init__(self, lengths: list[int], rows_per_step: int, seed: int) -> None:
        self._lengths = lengths
        self._rows_per_step = rows_per_step
        self._seed = seed
        self.epoch = 0

    def __len__(self) -> int:
        return len(self._lengths)

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(self._seed * 1_000_003 + self.epoch)
        return iter(get_length_grouped_indices(self._lengths, self._rows_per_step, generator=generator))


class StepWatch(TrainerCallback):
    """Tells the order which epoch begins, and measures the time that optimiser steps take."""

    def __init__(self) -> None:
        self.order: EpochOrder | None = None
        self.seconds = 0.0
        """In steps so far; validation, checkpoints and loading rows are not counted."""

        self.batches: list[Batch] = []
        """What the step at hand has seen, to be named when it fails."""

        self.began: float | None = None
        self._step_began = 0.0

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.began = time.monotonic()

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if self.order:
            self.order.epoch = int(state.epoch or 0)

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._step_began = time.monotonic()
        self.batches.clear()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.seconds += time.monotonic() - self._step_began


class PersonaTrainer(SFTTrainer):
    """Adds to each logged loss ``tokens`` (real ones, of all workers, since this process began), ``tokens_per_s`` and
    ``memory_gib`` (the peak on the GPU, else the process's resident memory).

    Raises:
        TrainingDiverged: The loss or the gradient is not finite; names the step and its conversations.
        SetupError: A checkpoint could not be written because the disk is full.
    """

    def __init__(self, *, rows: Any, rows_per_step: int, **arguments: Any) -> None:
        """``rows``: the conversations as they were before packing; ``rows_per_step``: of all workers together."""
        self._rows = rows
        self._rows_per_step = rows_per_step
        self._watch = StepWatch()
        self._real_tokens = 0
        self._logged = (0, 0.0)
        self._measured: list[tuple[float, int]] = []
        super().__init__(**arguments)
        self.add_callback(self._watch)

    def is_over(self, checkpoint: str) -> bool:
        """Whether nothing is left to learn; ``train`` would make one more step to find that out."""
        state = TrainerState.load_from_json(str(Path(checkpoint) / TRAINER_STATE_NAME))
        # DeepSpeed's parts of a checkpoint are only put together by its own start.
        return state.global_step >= state.max_steps and not self.is_deepspeed_enabled

    def take_over(self, checkpoint: str) -> None:
        """Be what a finished run was at its end."""
        self.state = TrainerState.load_from_json(str(Path(checkpoint) / TRAINER_STATE_NAME))
        self._load_from_checkpoint(checkpoint)
        self.callback_handler.on_train_end(self.args, self.state, self.control)  # the tracker's run is over, too

    def minutes(self) -> float:
        """Since this process began to train, all included."""
        return (time.monotonic() - self._watch.began) / 60 if self._watch.began else 0.0

    def tokens_per_s(self) -> float:
        """Real tokens of all workers per second of optimiser steps; a collective call."""
        mine = torch.tensor(float(self._real_tokens), dtype=torch.float64, device=self.accelerator.device)
        return float(self.accelerator.reduce(mine, "sum")) / max(self._watch.seconds, 1e-9)

    def _get_train_sampler(self, train_dataset: Any = None) -> EpochOrder:
        rows = self.train_dataset if train_dataset is None else train_dataset
        lengths = [len(ids) for ids in rows["input_ids"]]
        self._watch.order = EpochOrder(lengths, self._rows_per_step, self.args.seed)
        return self._watch.order

    def compute_loss(
        self, model: Any, inputs: Batch, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        batch = dict(inputs)
        found = super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        if self.model.training:
            self._watch.batches.append(batch)
            self._real_tokens += real_tokens(batch)
            loss = found[0] if return_outputs else found
            if not torch.isfinite(loss).all():
                raise self._diverged(f"the loss is {float(loss.detach())}")
        return found

    def prediction_step(self, model: Any, inputs: Batch, *options: Any, **more: Any) -> Any:
        self._leave_out_repeated(inputs)
        targets = int((inputs["labels"][..., 1:] != IGNORED).sum())
        found = super().prediction_step(model, inputs, *options, **more)
        self._measured.append((float(found[0]) * targets, targets))
        return found

    def _leave_out_repeated(self, inputs: Batch) -> None:
        """Of the last batches, the rows that Accelerate adds from the beginning so that all workers have as many."""
        last = self.accelerator.gradient_state
        if last.end_of_dataloader and last.remainder > 0 and "attention_mask" in inputs:
            rows = len(inputs["labels"])
            inputs["labels"][max(0, last.remainder - rows * self.accelerator.process_index) :] = IGNORED

    def evaluation_loop(self, *options: Any, metric_key_prefix: str = "eval", **more: Any) -> Any:
        """The loss per target token. Transformers averages the means of the batches, which is another number for each
        size of batches."""
        self._measured.clear()
        output = super().evaluation_loop(*options, metric_key_prefix=metric_key_prefix, **more)
        mine = torch.tensor(self._measured, dtype=torch.float64).sum(0).to(self.accelerator.device)
        nats, targets = self.accelerator.reduce(mine, "sum").tolist()
        output.metrics[f"{metric_key_prefix}_loss"] = nats / targets
        return output

    def _clip_grad_norm(self, model: Any) -> Any:
        norm = super()._clip_grad_norm(model)
        # Loss scaling meets infinite gradients on purpose and skips their step.
        if norm is not None and not self.args.fp16 and not torch.isfinite(torch.as_tensor(norm)):
            raise self._diverged(f"the gradient's norm is {float(norm)}")
        return norm

    def _diverged(self, what: str) -> TrainingDiverged:
        names = named_rows([ids for batch in self._watch.batches for ids in conversations(batch)], self._rows)
        return TrainingDiverged(
            f"step {self.state.global_step + 1}: {what} over {'; '.join(names) or 'no row of the data'}; look at "
            "these conversations, or lower learning_rate"
        )

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        with full_disk_named(f"the checkpoint of step {self.state.global_step}"):
            super()._save_checkpoint(model, trial)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        if "loss" in logs:
            tokens, seconds = self._real_tokens, self._watch.seconds
            before, began = self._logged
            self._logged = (tokens, seconds)
            mine = torch.tensor([tokens, tokens - before], dtype=torch.float64, device=self.accelerator.device)
            all_tokens, new_tokens = self.accelerator.reduce(mine, "sum").tolist()
            logs["tokens"] = all_tokens
            logs["tokens_per_s"] = new_tokens / max(seconds - began, 1e-9)
            logs["memory_gib"] = memory_gib()
        super().log(logs, start_time)


def memory_gib() -> float:
    """The GPU's peak so far, else this process's resident memory."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / GIB
    return psutil.Process().memory_info().rss / GIB


def named_rows(wanted: list[list[int]], rows: Any) -> list[str]:
    """Each conversation by its row and the first words of its first user turn; unknown ones are left out."""
    places = {tuple(ids): index for index, ids in enumerate(rows["input_ids"])}
    found = [places[tuple(ids)] for ids in wanted if tuple(ids) in places]
    names = [f"row {index} ({first_words(rows[index]['messages'])})" for index in found[:SHOWN_ROWS]]
    return names + ([f"and {len(found) - SHOWN_ROWS} more"] if len(found) > SHOWN_ROWS else [])


def first_words(messages: Messages) -> str:
    """The beginning of what the user says first."""
    said = next((item["content"] for item in messages if item["role"] == "user"), "")
    return " ".join(said.split()[:SHOWN_WORDS])
