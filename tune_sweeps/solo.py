"""A trial in a process of its own: the final job's trainer on one device, without Ray Train."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from core.logs import setup_logging
from core.settings import get_settings
from tune_sweeps.history import History
from tune_sweeps.records import Trial, TrialData


def solo_trial(config: dict[str, Any], trials: dict[str, Trial], data: dict[str, TrialData], every: int) -> None:
    """Tune's function: train one configuration, from its last checkpoint if there is one.

    Args:
        config: ``{"trial": name}``.
        trials: All trials of the axis, by name.
        data: Their conversations, by name.
        every: Reports between checkpoints.
    """
    import torch
    from transformers.utils import logging as transformers_logging

    from tune_sweeps.trainer import ReportToTune, build_trainer

    trial, rows = trials[config["trial"]], data[config["trial"]]
    setup_logging(get_settings())
    transformers_logging.disable_progress_bar()
    torch.set_num_threads(trial.config.cpus_per_worker)
    with TemporaryDirectory(prefix="sweep-") as scratch, last_checkpoint() as folder:
        history = History.of(folder)
        if history.complete:  # interrupted between its last checkpoint and Tune's knowing of it
            report_again(history, folder)
            return
        report = ReportToTune(rows, history)
        trainer = build_trainer(trial.config, rows, Path(scratch), device(), every, report)
        trainer.train(resume_from_checkpoint=folder)


@contextmanager
def last_checkpoint() -> Iterator[str | None]:
    """The folder of the trial's newest checkpoint; ``None`` in one that begins."""
    from ray import tune

    checkpoint = tune.get_checkpoint()
    if checkpoint is None:
        yield None
        return
    with checkpoint.as_directory() as folder:
        yield folder


def report_again(history: History, folder: str | None) -> None:
    """Give Tune the last report of a trial that has nothing more to do."""
    from ray import tune

    checkpoint = tune.Checkpoint.from_directory(folder) if folder else None
    tune.report(history.metrics(), checkpoint=checkpoint)


def device() -> str:
    """The device of this process; Ray shows it only the GPU that it gave to the trial."""
    import torch

    return "cuda:0" if torch.cuda.is_available() else "cpu"


def peak_memory_mib() -> float:
    """The most memory so far: the GPU's allocated, else what the process has resident."""
    import resource

    import torch

    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**20
    # Kibibytes, but bytes on macOS.
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
