"""Weights & Biases. Telemetry fails open: it never ends a training.

Imports Transformers on top, so only worker processes import it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ray.train
from transformers import TrainerCallback

from core.logs import get_logger
from train_jobs.qlora.config import QLoraConfig

INIT_TIMEOUT_S = 30


class LogToWandb(TrainerCallback):
    """Sends logged numbers to an open Weights & Biases run."""

    def __init__(self, run: Any) -> None:
        self._run = run

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **_: Any) -> None:
        try:
            self._run.log(dict(logs or {}), step=state.global_step)
        except Exception as error:  # whatever the client raises, the training matters more
            get_logger("qlora").warning("wandb_failed", error=type(error).__name__)

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        try:
            self._run.finish()
        except Exception as error:  # as above
            get_logger("qlora").warning("wandb_failed", error=type(error).__name__)


def start_wandb(config: QLoraConfig, run_dir: Path) -> Any | None:
    """Open the run on world rank 0; ``None`` elsewhere, when it is disabled, and when it cannot be opened."""
    if config.wandb_mode == "disabled" or ray.train.get_context().get_world_rank() != 0:
        return None
    try:
        import wandb

        return wandb.init(
            project=config.wandb_project,
            id=run_dir.name,
            name=run_dir.name,
            group=config.character,
            mode=config.wandb_mode,
            dir=str(run_dir),
            resume="allow" if config.wandb_mode == "online" else None,
            config=config.model_dump(mode="json"),
            settings=wandb.Settings(console="off", silent=True, init_timeout=INIT_TIMEOUT_S),
        )
    except Exception as error:  # no network, no key, no package: train without it
        get_logger("qlora").warning("wandb_unavailable", error=type(error).__name__)
        return None
