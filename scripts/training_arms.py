"""The arms of ``scripts.bench_training``: the same training, run in four ways, each time in a process of its own.

A new process for each run: Ray Train starts one for its worker, and the others must not differ from it by an
allocator that is warm already. Heavy imports stay inside, as the entry imports this module to hand the arms over.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from itertools import pairwise
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from core.errors import ArtistMindError
from core.logs import setup_logging
from core.settings import get_settings
from train_jobs.qlora.config import QLoraConfig
from train_jobs.qlora.job import QLoraJob
from train_jobs.qlora.storage import RunStorage

TRL, JOB, PACKED, RAY = "TRL", "job", "job, packed", "job under Ray Train"
ARMS = (TRL, JOB, PACKED, RAY)

History = Sequence[Mapping[str, Any]]
"""What a trainer logged, an entry a step and some more."""


@dataclass(frozen=True, slots=True)
class Step:
    """One optimiser step."""

    tokens: int
    """Real ones, no padding."""

    seconds: float
    """Validation, checkpoints and loading rows are not in it."""


@dataclass(frozen=True, slots=True)
class Training:
    """What a trainer did."""

    steps: tuple[Step, ...]
    loop_s: float
    """From the trainer's start to its end, all included."""


@dataclass(frozen=True, slots=True)
class Run:
    """One run of one arm."""

    counted: tuple[Step, ...]
    around_s: float
    """Before the trainer began and after it had ended: the process, imports, the base; Ray where it is used."""

    between_s: float
    """In the trainer, but in no step: loading rows, logging, and where there are any validation and checkpoints."""

    @property
    def tokens(self) -> int:
        return sum(step.tokens for step in self.counted)

    @property
    def step_s(self) -> float:
        """Seconds per step."""
        return sum(step.seconds for step in self.counted) / len(self.counted)

    @property
    def tokens_per_s(self) -> float:
        return self.tokens / sum(step.seconds for step in self.counted)


def run_of(training: Training, warm_up: int, total_s: float) -> Run:
    """What counts of a training: all steps but the first ``warm_up``."""
    between = training.loop_s - sum(step.seconds for step in training.steps)
    return Run(training.steps[warm_up:], total_s - training.loop_s, between)


def run_alone(arm: str, job: QLoraJob, warm_up: int) -> Run:
    """One run in a new process.

    Raises:
        ArtistMindError: The process was lost, or the training failed in it.
    """
    began = time.perf_counter()
    try:
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            training = pool.submit(train, arm, job).result()
    except BrokenProcessPool as error:
        raise ArtistMindError(f"{arm}: its process was lost; is there enough memory?") from error
    return run_of(training, warm_up, time.perf_counter() - began)


def train(arm: str, job: QLoraJob) -> Training:
    """Prepare this process as the job prepares its worker's, then train."""
    import torch
    from datasets import disable_progress_bars
    from transformers.utils import logging as transformers_logging

    setup_logging(get_settings())
    transformers_logging.disable_progress_bar()
    disable_progress_bars()
    torch.set_num_threads(job.config.cpus_per_worker)
    ways: dict[str, Callable[[QLoraJob, Path], Training]] = {
        TRL: with_trl,
        JOB: with_our_trainer,
        PACKED: with_our_trainer,
        RAY: under_ray_train,
    }
    # Ray's controller may still write when the driver is through: what it leaves must not fail the run.
    with TemporaryDirectory(prefix="bench-training-", ignore_cleanup_errors=True) as scratch:
        return ways[arm](job, Path(scratch))


def with_trl(job: QLoraJob, scratch: Path) -> Training:
    """TRL's own trainer, collator and order of rows. Ours are the settings and the clock, a callback."""
    from transformers import AutoModelForCausalLM, PrinterCallback
    from trl import SFTTrainer

    from train_jobs.qlora.model import load_tokenizer, lora_config, nf4, torch_dtype
    from train_jobs.qlora.worker import as_dataset, training_arguments

    config = job.config
    arguments = training_arguments(config, scratch)  # the job's settings in TRL's words: they cannot differ
    arguments.eval_strategy = arguments.save_strategy = "no"
    arguments.eval_on_start = False
    clock = step_clock()
    trainer = SFTTrainer(
        model=AutoModelForCausalLM.from_pretrained(
            job.base,
            dtype=torch_dtype(config),
            attn_implementation=config.attention,
            quantization_config=nf4(config) if config.quantize else None,
            device_map={"": device(config)},
        ),
        args=arguments,
        train_dataset=as_dataset(job.split.train),
        processing_class=load_tokenizer(config),
        peft_config=lora_config(config),
        callbacks=[clock],
    )
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    history = trainer.state.log_history
    return Training(trl_steps(history, clock.seconds_by_step), loop_seconds(history))


def with_our_trainer(job: QLoraJob, scratch: Path) -> Training:
    """The job's trainer as a sweep's trial builds it, without Ray Train; it only logs."""
    from train_jobs.qlora.callbacks import LogLine
    from tune_sweeps.records import TrialData
    from tune_sweeps.trainer import build_trainer

    rows = TrialData(job.split.train, job.split.validation, prompts=())
    report: Any = LogLine()  # in place of what reports to Tune
    trainer = build_trainer(job.config, rows, scratch, device(job.config), every=1, report=report)
    trainer.args.eval_on_start = True  # as the job does
    trainer.train()
    history = trainer.state.log_history
    return Training(job_steps(history), loop_seconds(history))


def under_ray_train(job: QLoraJob, scratch: Path) -> Training:
    """The whole job, with a Ray of its own; all it leaves goes with the scratch folder."""
    os.environ.pop("RAY_ADDRESS", None)  # another machine's steps are no comparison
    placed = replace(job, storage=RunStorage(str(scratch), scratch / "run", remote=False))
    placed.run()
    lines = (placed.run_dir / "history.jsonl").read_text(encoding="utf-8").splitlines()
    history = [json.loads(line) for line in lines]
    return Training(job_steps(history), loop_seconds(history))


def device(config: QLoraConfig) -> str:
    """The device of an arm without Ray, as Ray Train would choose it."""
    return "cuda:0" if config.use_gpu else "cpu"


def step_clock() -> Any:
    """A callback that measures steps as the job's trainer does, and keeps each of them."""
    from train_jobs.qlora.trainer import StepWatch

    class StepClock(StepWatch):
        def __init__(self) -> None:
            super().__init__()
            self.seconds_by_step: list[float] = []

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            before = self.seconds
            super().on_step_end(args, state, control)
            self.seconds_by_step.append(self.seconds - before)

    return StepClock()


def job_steps(history: History) -> tuple[Step, ...]:
    """Steps out of the job's log of every step: its tokens so far, and its tokens/s since the last entry."""
    entries = [entry for entry in history if "tokens_per_s" in entry]
    added = new_tokens([entry["tokens"] for entry in entries])
    return tuple(Step(tokens, tokens / entry["tokens_per_s"]) for tokens, entry in zip(added, entries, strict=True))


def trl_steps(history: History, seconds: Sequence[float]) -> tuple[Step, ...]:
    """Steps out of TRL's log of every step, which counts the tokens that are no padding, and a clock's seconds."""
    added = new_tokens([entry["num_tokens"] for entry in history if "loss" in entry])
    return tuple(Step(tokens, spent) for tokens, spent in zip(added, seconds, strict=True))


def new_tokens(so_far: Sequence[float]) -> list[int]:
    """What each entry of a running count added."""
    return [round(after - before) for before, after in pairwise([0, *so_far])]


def loop_seconds(history: History) -> float:
    """From the trainer's start to its end, as it logs it at the end."""
    return float(next(entry["train_runtime"] for entry in reversed(history) if "train_runtime" in entry))
