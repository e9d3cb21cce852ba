"""What happens while the trainer runs: checkpoints go to Ray Train, numbers to the log, the clock stops it.

Imports Transformers on top, so only worker processes import it.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import ray.train
import torch
from transformers import TrainerCallback

from core.errors import SetupError
from core.logs import get_logger
from train_jobs.qlora.checkpoints import mark_whole
from train_jobs.qlora.failures import full_disk_named

SHOWN = ("loss", "eval_loss", "learning_rate", "grad_norm", "tokens", "tokens_per_s", "memory_gib", "epoch")
"""Numbers of the trainer's log that go on to our log and to the tracker."""


def shown(logs: dict[str, Any] | None) -> dict[str, float]:
    """The numbers worth following, out of everything that the trainer logs."""
    return {key: float(logs[key]) for key in SHOWN if logs and key in logs}


class ReportToRay(TrainerCallback):
    """Hands each saved checkpoint to Ray Train, which copies it to the run's storage.

    Every worker reports its own part (random states, ZeRO shards); Ray lays the parts into one checkpoint.
    """

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        # Names sort by time. A step that is reached again after a restart must not write over what Ray has listed.
        name = f"checkpoint_{datetime.now(UTC):%Y-%m-%d_%H-%M-%S.%f}"
        ray.train.report(
            numbers(state),
            checkpoint=ray.train.Checkpoint.from_directory(folder),
            checkpoint_dir_name=name,
            checkpoint_upload_fn=partial(upload, state.global_step),
        )


def upload(step: int, checkpoint: Any, name: str) -> Any:
    """Copy a worker's part to the run's storage, as Ray does by itself, and mark it; of what does not fit nothing
    stays.

    Args:
        step: The step that it was saved at.
        checkpoint: The worker's local part.
        name: What Ray calls the checkpoint. It is the name that rank 0 gave, not the one of this worker.

    Raises:
        SetupError: The disk is full.
    """
    context = ray.train.get_context()
    try:
        with full_disk_named(f"the checkpoint of step {step}"):
            kept = context.get_storage().persist_current_checkpoint(checkpoint, name)
            mark_whole(kept, Path(checkpoint.path), context.get_world_rank(), context.get_world_size())
            return kept
    except SetupError:
        remove_part(name)
        raise


def remove_part(name: str) -> None:
    """Delete what was written of a checkpoint that could not be written whole; the room is needed."""
    storage = ray.train.get_context().get_storage()
    try:
        storage.storage_filesystem.delete_dir(storage.build_checkpoint_path_from_name(name))
    except OSError as error:  # it was not even begun, or it cannot be reached: the error on its way says more
        get_logger("qlora").warning("part of a checkpoint stays", checkpoint=name, error=type(error).__name__)


class LogLine(TrainerCallback):
    """One structured log line per logged step, on rank 0."""

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **_: Any) -> None:
        found = shown(logs)
        if state.is_world_process_zero and {"loss", "eval_loss"} & found.keys():
            get_logger("qlora").info("progress", step=state.global_step, of=state.max_steps, **found)


class Clock(TrainerCallback):
    """Saves every so many minutes, and stops with a checkpoint at the first step after a point in time.

    Clocks of several workers differ: what one of them finds due, all of them do at the same step.
    """

    def __init__(self, stop_at: float | None, save_minutes: float | None) -> None:
        """``stop_at``: seconds since the epoch."""
        self._stop_at = stop_at or float("inf")
        self._save_s = 60 * save_minutes if save_minutes else float("inf")
        self._saved = time.monotonic()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        due = time.time() >= self._stop_at, time.monotonic() - self._saved >= self._save_s
        stop, save = agreed(due, args.device)
        control.should_save = control.should_save or stop or save
        control.should_training_stop = control.should_training_stop or stop

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._saved = time.monotonic()


def agreed(mine: tuple[bool, ...], device: Any) -> tuple[bool, ...]:
    """Whether any worker says yes, for each question; a collective call."""
    if not torch.distributed.is_initialized() or torch.distributed.get_world_size() == 1:
        return mine
    votes = torch.tensor(mine, dtype=torch.int32, device=device)
    torch.distributed.all_reduce(votes, op=torch.distributed.ReduceOp.MAX)
    return tuple(bool(vote) for vote in votes.tolist())


def numbers(state: Any) -> dict[str, float]:
    """The latest value of each logged number."""
    found: dict[str, float] = {"step": state.global_step}
    for entry in state.log_history:
        found.update({key: float(value) for key, value in entry.items() if isinstance(value, int | float)})
    return found
