"""What happens while the trainer runs: checkpoints go to Ray Train, numbers to the log.

Imports Transformers on top, so only worker processes import it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ray.train
from transformers import TrainerCallback

from core.logs import get_logger

KEPT_CHECKPOINTS = 2


class ReportToRay(TrainerCallback):
    """Hands each saved checkpoint to Ray Train, which copies it to the run's folder.

    Every worker reports its own part (random states, ZeRO shards); Ray lays the parts into one checkpoint.
    """

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        ray.train.report(numbers(state), checkpoint=ray.train.Checkpoint.from_directory(folder))


class LogLine(TrainerCallback):
    """One structured log line per logged step, on rank 0."""

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **_: Any) -> None:
        found = {key: logs[key] for key in ("loss", "eval_loss", "learning_rate") if logs and key in logs}
        if state.is_world_process_zero and found:
            get_logger("qlora").info("progress", step=state.global_step, of=state.max_steps, **found)


def numbers(state: Any) -> dict[str, float]:
    """The latest value of each logged number."""
    found: dict[str, float] = {"step": state.global_step}
    for entry in state.log_history:
        found.update({key: float(value) for key, value in entry.items() if isinstance(value, int | float)})
    return found
