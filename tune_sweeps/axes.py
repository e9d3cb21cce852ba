"""Axes of a sweep: their names, their values, and the full configuration that each value makes."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from core.errors import ConfigurationError
from core.settings import Settings
from data_pipelines.config import parse_ratio
from train_jobs.qlora.config import NOT_LEARNED, QLoraConfig
from train_jobs.qlora.preflight import max_lora_rank, serve_file, served_rank
from tune_sweeps.config import SweepConfig

RATIO = "ratio"
ALL = "all"
ALIASES = {"lr": "learning_rate"}

SLOT_FIELDS = frozenset(
    {
        "rank",
        "alpha",
        "dropout",
        "learning_rate",
        "warmup",
        "weight_decay",
        "batch_size",
        "accumulation",
        "epochs",
        "max_steps",
        "data",
        RATIO,
    }
)
"""What may differ between adapters on one loaded base."""

PACK_OPTIMIZERS = frozenset({"adamw_torch", "adamw_torch_fused"})
"""Names of what the pack optimises with: AdamW in 32 bits."""

NO_AXES = NOT_LEARNED | {
    "character",
    "seed",
    "num_workers",
    "cpus_per_worker",
    "use_gpu",
    "deepspeed_stage",
    "save_every",
    "log_every",
    "validation_share",
    "max_length",
}
"""Settings that do not change the result, that trials set themselves, or that would change what is measured on."""


@dataclass(frozen=True, slots=True)
class Point:
    """One value of an axis."""

    label: str
    job: QLoraConfig
    """The job that it makes; ``best.yaml`` when it wins."""

    barred: str = ""
    """Why it cannot win, though it is tried: the final job would refuse it. Empty: it can."""


def axis_names() -> list[str]:
    """Everything that can be an axis."""
    return sorted({RATIO, *QLoraConfig.model_fields} - NO_AXES)


def wanted_axes(config: SweepConfig, asked: str) -> list[str]:
    """The axes that a command names, each checked: it exists, and has at least two different values.

    ``all`` leaves out the axes with a single value, which need no sweep.

    Raises:
        ConfigurationError: An axis of the command or of the settings is none, or has no values to compare.
    """
    known = axis_names()
    for name in (*config.axes, *config.order):
        if name not in known:
            raise ConfigurationError(f"axes: {name!r} is no setting that can be swept; there are: {', '.join(known)}")
    for name, values in config.axes.items():
        if len(set(map(label, values))) < len(values):
            raise ConfigurationError(f"axes.{name}: a value is there twice")
    if asked == ALL:
        found = [name for name in config.order if len(config.axes.get(name, ())) > 1]
        if not found:
            raise ConfigurationError("order: none of its axes has two values or more")
        return found
    name = ALIASES.get(asked, asked)
    if name not in known:
        raise ConfigurationError(f"{asked!r} is no axis; there are: {ALL}, lr, {', '.join(known)}")
    if len(config.axes.get(name, ())) < 2:
        raise ConfigurationError(f"axes.{name}: give two values or more to choose from")
    return [name]


def label(value: object) -> str:
    """A value as it is shown."""
    if isinstance(value, Mapping):
        return ",".join(f"{key}={label(one)}" for key, one in value.items())
    return ",".join(map(label, value)) if isinstance(value, list | tuple) else str(value)


def folder_name(text: str) -> str:
    """``text`` as a part of a path: letters, digits and ``._+-`` stay, runs of anything else become ``-``."""
    return re.sub(r"[^A-Za-z0-9._+-]+", "-", text).strip("-.") or "value"


def points(
    axis: str,
    config: SweepConfig,
    training: QLoraConfig,
    settings: Settings,
    mixed: Mapping[str, str] | None = None,
) -> list[Point]:
    """Each value of the axis as a whole job.

    Args:
        axis: A setting's name or ``ratio``.
        config: The sweep.
        training: The job so far.
        settings: Where the Serve file lies.
        mixed: For ``ratio``: the data set version of each value, by label.

    Raises:
        ConfigurationError: A value is none that the job takes, or the server takes the rank of none of them.
    """
    training, limit = served(training, config, settings)
    found = []
    for value in config.axes[axis]:
        change = {"data": {"version": (mixed or {})[label(value)]}} if axis == RATIO else {axis: value}
        job = with_alpha(changed(training, change, f"axes.{axis}"), axis, config.alpha_per_rank)
        above = limit is not None and job.rank > limit
        found.append(Point(label(value), job, f"tried, not servable (max_lora_rank {limit})" if above else ""))
    if all(point.barred for point in found):
        raise ConfigurationError(
            f"axes.{axis}: every rank is above the max_lora_rank {limit} of {serve_file(training)}, so that none can "
            "win: raise it there, add a lower rank, or name another served_by"
        )
    return found


def served(training: QLoraConfig, config: SweepConfig, settings: Settings) -> tuple[QLoraConfig, int | None]:
    """The job for the server that the sweep names, if it names one; and the largest rank that may win.

    Without one the final job's own rule holds, so that it never refuses a winner.
    """
    if config.served_by is None:
        return training, served_rank(training, settings)
    limit = max_lora_rank(settings.resolved(config.served_by))
    return training.model_copy(update={"served_by": config.served_by}), limit


def changed(job: QLoraConfig, change: Mapping[str, Any], place: str) -> QLoraConfig:
    """The job with other settings, validated as a whole."""
    try:
        return QLoraConfig.model_validate({**job.model_dump(exclude_unset=True), **change})
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "settings"
        raise ConfigurationError(f"{place}: {change}: {where}: {first['msg']}") from error


def with_alpha(job: QLoraConfig, axis: str, per_rank: int | None) -> QLoraConfig:
    """``alpha`` follows the rank: the adapter is scaled by alpha / rank, which would act as another learning rate."""
    if per_rank is None or axis == "alpha":
        return job
    return job.model_copy(update={"alpha": per_rank * job.rank})


def ratios(config: SweepConfig) -> dict[str, tuple[int, int, int]]:
    """The axis ``ratio`` as numbers, by label."""
    return {label(value): parse_ratio(str(value)) for value in config.axes[RATIO]}


def check_packed(axes: Sequence[str], config: SweepConfig) -> None:
    """What can differ on one loaded base; ``base_model`` runs solo anyway."""
    if config.trainable == "packed":
        for axis in axes:
            if axis not in SLOT_FIELDS and axis != "base_model":
                raise ConfigurationError(
                    f"trainable: packed trains on one base, and {axis} cannot differ there; use trainable=solo"
                )


def check_own(axes: Sequence[str], config: SweepConfig) -> None:
    """Refuse settings of the trials alone that would replace the axis' values (all trials would be the same), and an
    order of axes in which a later one would replace a winner."""
    own = config.training.trials
    data = own.get("data", {})
    if not isinstance(data, Mapping):
        raise ConfigurationError(f"training.trials.data: {data!r} is no settings; write version, count, seed or path")
    if "alpha" in axes[:-1] and config.alpha_per_rank is not None:
        raise ConfigurationError(
            "alpha_per_rank: in the axes after alpha it would undo the winner; set it to null, or put alpha last"
        )
    for axis in axes:
        if axis in own:
            raise ConfigurationError(f"training.trials.{axis}: {axis} is the axis of this sweep; leave it out")
        if axis == RATIO and {"version", "path"} & data.keys():
            raise ConfigurationError("training.trials.data: the axis ratio sets the version; leave it out")


def check_packable(job: QLoraConfig) -> None:
    """Refuse a trial's settings that the pack could only ignore: best.yaml would name what was never tried.

    Raises:
        ConfigurationError: Names the setting and the remedy.
    """
    only_solo = {
        "fp16": ("false", job.fp16),
        "optimizer": ("adamw_torch", job.optimizer not in PACK_OPTIMIZERS),
        "gradient_checkpointing": ("false", job.gradient_checkpointing),
    }
    for name, (instead, wanted) in only_solo.items():
        if wanted:
            raise ConfigurationError(
                f"{name}: a pack cannot do {name}={label(getattr(job, name))}; use trainable=solo, or try the values "
                f"with training.trials.{name}={instead}"
            )
