"""Weights & Biases or MLflow, by a setting. Telemetry fails open: it never ends a training.

Imports Transformers on top, so only worker processes import it.
"""

from __future__ import annotations

import importlib
import os
from pathlib import Path
from typing import Any, Protocol

import ray.train
from transformers import TrainerCallback

from core.logs import get_logger
from train_jobs.qlora.callbacks import shown
from train_jobs.qlora.config import QLoraConfig

INIT_TIMEOUT_S = 30
MLFLOW_RUN = "mlflow_run_id"
"""File in the run's folder that names its MLflow run, so that a resumed run goes on in the same one."""


class Tracker(Protocol):
    """One run of a tracker that is open for writing."""

    def log(self, values: dict[str, float], step: int) -> None: ...

    def finish(self) -> None: ...


class Track(TrainerCallback):
    """Sends logged numbers to an open tracker."""

    def __init__(self, tracker: Tracker) -> None:
        self._tracker = tracker

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **_: Any) -> None:
        try:
            self._tracker.log(shown(logs), step=state.global_step)
        except Exception as error:  # whatever the client raises, the training matters more
            get_logger("qlora").warning("tracker_failed", error=type(error).__name__)

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        try:
            self._tracker.finish()
        except Exception as error:  # as above
            get_logger("qlora").warning("tracker_failed", error=type(error).__name__)


def start_tracker(config: QLoraConfig, run_dir: Path) -> Tracker | None:
    """Open the run on world rank 0; ``None`` elsewhere, when none is wanted, and when it cannot be opened."""
    if ray.train.get_context().get_world_rank() != 0:
        return None
    if config.tracker == "none" or (config.tracker == "wandb" and config.wandb_mode == "disabled"):
        return None
    try:
        run_dir.mkdir(parents=True, exist_ok=True)
        return start_wandb(config, run_dir) if config.tracker == "wandb" else MlflowRun(config, run_dir)
    except Exception as error:  # no network, no key, no package: train without it
        reason = " ".join(str(error).split())[:200]
        get_logger("qlora").warning(
            "tracker_unavailable", tracker=config.tracker, error=type(error).__name__, reason=reason
        )
        return None


def start_wandb(config: QLoraConfig, run_dir: Path) -> Any:
    """A W&B run whose id is the run's folder, so that a resumed run goes on in the same one."""
    import wandb

    return wandb.init(
        project=config.wandb_project,
        id=run_dir.name,
        name=config.wandb_name or run_dir.name,
        group=config.wandb_group or config.character,
        mode=config.wandb_mode,
        dir=str(run_dir),
        resume="allow" if config.wandb_mode == "online" else None,
        config=config.model_dump(mode="json"),
        settings=wandb.Settings(console="off", silent=True, init_timeout=INIT_TIMEOUT_S),
    )


class MlflowRun:
    """An MLflow run: files under the run's folder unless ``MLFLOW_TRACKING_URI`` names a server."""

    def __init__(self, config: QLoraConfig, run_dir: Path) -> None:
        mlflow: Any = importlib.import_module("mlflow")  # optional, and untyped where it is not installed
        if not os.environ.get("MLFLOW_TRACKING_URI"):
            mlflow.set_tracking_uri((run_dir / "mlruns").as_uri())
        mlflow.set_experiment(config.wandb_project)
        known = run_dir / MLFLOW_RUN
        run_id = known.read_text(encoding="utf-8").strip() if known.is_file() else None
        tags = {"group": config.wandb_group or config.character}
        run = mlflow.start_run(run_id=run_id, run_name=config.wandb_name or run_dir.name, tags=tags)
        known.write_text(run.info.run_id + "\n", encoding="utf-8")
        if run_id is None:
            mlflow.log_params(config.model_dump(mode="json"))
        self._mlflow = mlflow

    def log(self, values: dict[str, float], step: int) -> None:
        self._mlflow.log_metrics(values, step=step)

    def finish(self) -> None:
        self._mlflow.end_run()
