"""One axis of a sweep, checked: every trial's configuration and data, before anything is started."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from core.errors import ConfigurationError
from core.provenance import refuse_uploaded_copy
from core.settings import Settings
from train_jobs.config import load_config
from train_jobs.packed.batch import best_fit
from train_jobs.qlora.config import QLoraConfig
from train_jobs.qlora.data import Conversations, EncodedRow, Split, load_conversations, prepare_split
from train_jobs.qlora.job import found_base, load_tokenizer
from train_jobs.qlora.publish import Provenance, provenance
from tune_sweeps.axes import RATIO, Point, changed, check_packable, folder_name, points, ratios
from tune_sweeps.config import SweepConfig
from tune_sweeps.memory import adapter_sizes, check_space, check_trials, trial_shapes
from tune_sweeps.ratio import mixed_versions
from tune_sweeps.records import Trial, TrialData

Row = TypeVar("Row")

PACKED_ROWS = 1000
"""Rows that are packed to see how many a sequence holds; enough for a mean."""


@dataclass(frozen=True, slots=True)
class AxisPlan:
    """Everything that one axis needs to run."""

    axis: str
    config: SweepConfig
    training: QLoraConfig
    """The job so far, with the winners of the axes before."""

    points: tuple[Point, ...]
    trials: tuple[Trial, ...]
    data: dict[str, TrialData]
    """By trial; trials with the same rows share them."""

    adapter_mib: dict[str, float]
    """By trial: its adapter's weights, gradients and optimiser state."""

    folder: Path

    @property
    def packed(self) -> bool:
        return runs_packed(self.axis, self.config)

    @property
    def at_once(self) -> int | None:
        """Trials at the same time; ``None``: as many as the devices hold."""
        return slots(self.config) if self.packed else self.config.max_concurrent


def runs_packed(axis: str, config: SweepConfig) -> bool:
    """Whether the axis' trials share a base; bases themselves can only be compared solo."""
    return config.trainable == "packed" and axis != "base_model"


def slots(config: SweepConfig) -> int:
    """Adapters of a pack that really learn at the same time."""
    return min(config.pack.slots, config.max_concurrent or config.pack.slots)


def load_training(config: SweepConfig, settings: Settings) -> QLoraConfig:
    """The job that the sweep starts from."""
    overrides = [f"{key}={json.dumps(value)}" for key, value in _flat(config.training.overrides)]
    return load_config(QLoraConfig, settings.resolved(config.training.config), overrides)


def _flat(values: Mapping[str, object], before: str = "") -> list[tuple[str, object]]:
    found: list[tuple[str, object]] = []
    for key, value in values.items():
        found += _flat(value, f"{before}{key}.") if isinstance(value, Mapping) else [(before + key, value)]
    return found


def sweep_folder(config: SweepConfig, training: QLoraConfig, settings: Settings) -> Path:
    """Where the sweep is kept."""
    root = settings.resolved(config.storage_path) if config.storage_path else settings.home_dir / "sweeps"
    refuse_uploaded_copy(root, "storage_path")
    return root / (config.name or f"{training.character}-{folder_name(config.training.config.stem)}")


def plan_axis(axis: str, config: SweepConfig, training: QLoraConfig, folder: Path, settings: Settings) -> AxisPlan:
    """Check everything that can be checked before a trial starts.

    Raises:
        ConfigurationError: A value makes no valid job, a base lacks the adapted layers or does not fit the memory, or
            the data cannot be had.
    """
    found = points(axis, config, training, settings, _mixed(axis, config, training, settings))
    trials: list[Trial] = []
    for point in found:
        for seed in config.seeds:
            job = trial_config(point.job, config, seed)
            if axis == "epochs" and job.max_steps is not None:
                raise ConfigurationError(
                    "axes.epochs: max_steps decides how long every trial learns; set training.trials.max_steps=null"
                )
            if runs_packed(axis, config):
                check_packable(job)
            name = f"{axis}-{folder_name(point.label)}-s{seed}"
            trials.append(Trial(name=name, value=point.label, seed=seed, config=job, barred=point.barred))
    if len({trial.name for trial in trials}) < len(trials):
        raise ConfigurationError(f"axes.{axis}: two of its values, or two seeds, have the same name")
    data = trial_data(trials, training, config, settings)
    pack = None
    if runs_packed(axis, config):
        trials = [for_pack(trial, data[trial.name]) for trial in trials]
        pack = config.pack.model_copy(update={"slots": slots(config)})
    shapes = trial_shapes(trials, settings)
    check_trials(trials, shapes, pack, config.devices.gpus)
    sizes = adapter_sizes(shapes)
    if not (folder / axis).exists():
        check_space(folder, sizes)
    return AxisPlan(axis, config, training, tuple(found), tuple(trials), data, sizes, folder / axis)


def _mixed(axis: str, config: SweepConfig, training: QLoraConfig, settings: Settings) -> dict[str, str] | None:
    if axis != RATIO:
        return None
    if training.data.version is None:
        raise ConfigurationError(
            "axes.ratio: only a data set version can be mixed anew: build one (`artistmind data build "
            f"{training.character}`) and set training.overrides.data.version"
        )
    return mixed_versions(training.data.version, ratios(config), settings)


def trial_config(job: QLoraConfig, config: SweepConfig, seed: int) -> QLoraConfig:
    """The job as one trial trains it: on one device, in its own place, nothing published.

    A job of several workers keeps its batch: what they see in a step is accumulated.
    """
    data = {**job.data.model_dump(exclude_unset=True), **config.training.trials.get("data", {})}
    job = changed(job, {**config.training.trials, "data": data}, "training.trials")
    own = {
        "seed": seed,
        "num_workers": 1,
        "accumulation": job.accumulation * job.most_workers,
        "deepspeed_stage": 0,
        "cpus_per_worker": math.ceil(config.devices.cpus),
        "use_gpu": config.devices.gpus > 0,
        "save_every": config.report_every,
        "log_every": min(job.log_every, config.report_every),
        "publish": False,
        "run_name": None,
        "version": None,
        "tracker": "none",
        "wandb_mode": "disabled",
    }
    return changed(job, own, "training.trials")


def trial_data(
    trials: Sequence[Trial], training: QLoraConfig, sweep: SweepConfig, settings: Settings
) -> dict[str, TrialData]:
    """Each trial's conversations, encoded for its base.

    The split follows the job's seed, not the trials', and of the validation side only what fits every trial is kept:
    all are measured on the same conversations. Prompts are held-out conversations too, evenly spread; the sets under
    ``evaluation/`` play no part, because what is chosen by a set cannot be judged by it any more.
    """
    conversations: dict[str, Conversations] = {}
    splits: dict[str, Split] = {}
    origins: dict[str, Provenance] = {}
    keys: dict[str, str] = {}
    for trial in trials:
        config = trial.config
        source = config.data.model_dump_json()
        if source not in conversations:
            same_split = config.model_copy(update={"seed": training.seed})
            conversations[source] = load_conversations(same_split, settings)
        key = keys[trial.name] = f"{source} {config.base_model} {config.max_length}"
        if key not in splits:
            base = found_base(settings, config.base_model)
            tokenizer = load_tokenizer(base)
            origins[key] = provenance(base, tokenizer, conversations[source])
            splits[key] = prepare_split(tokenizer, conversations[source], config.max_length)
    shared = _shared([[json.dumps(row.messages) for row in split.validation] for split in splits.values()])
    measured, asked = evenly(shared, sweep.validation_rows), evenly(shared, sweep.samples)
    by_key: dict[str, TrialData] = {}
    for key, split in splits.items():
        held_out = {json.dumps(row.messages): row for row in split.validation}
        validation = tuple(held_out[one] for one in measured)
        prompts = tuple(held_out[one].messages[:-1] for one in asked)
        by_key[key] = TrialData(split.train, validation, prompts, origins[key])
    return {trial.name: by_key[keys[trial.name]] for trial in trials}


def per_sequence(rows: Sequence[EncodedRow], max_length: int) -> float:
    """Conversations that a packed sequence holds on average; found on some of the rows."""
    some = evenly(rows, PACKED_ROWS)
    return len(some) / len(best_fit([len(row.input_ids) for row in some], max_length))


def evenly(rows: Sequence[Row], count: int | None) -> tuple[Row, ...]:
    """So many of the rows, evenly spread over all; all of them where there are no more, or for ``None``."""
    if count is None or count >= len(rows):
        return tuple(rows)
    return tuple(rows[place * len(rows) // count] for place in range(count))


def _shared(sides: Sequence[Sequence[str]]) -> list[str]:
    """What is on every side, once each, in the order of the first."""
    everywhere = set(sides[0]).intersection(*sides[1:])
    if not everywhere:
        raise ConfigurationError("data: no validation conversation fits every trial; raise max_length")
    return [one for one in dict.fromkeys(sides[0]) if one in everywhere]


def for_pack(trial: Trial, data: TrialData) -> Trial:
    """The trial with the rows of a step and the number of steps, which solo the trainer works out.

    A job that packs counts sequences: as many conversations as fit into them on average are the same amount.
    """
    config = trial.config
    sequences = config.batch_size * config.accumulation
    rows = round(sequences * (per_sequence(data.train, config.max_length) if config.packing else 1))
    steps = config.max_steps or math.ceil(config.epochs * len(data.train) / rows)
    config = config.model_copy(update={"max_steps": steps})
    return trial.model_copy(update={"config": config, "rows_per_step": rows})
