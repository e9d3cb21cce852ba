"""What the trials of an axis need: each one's adapter, and memory, which is checked before anything is started."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from core.errors import ConfigurationError
from core.settings import Settings
from train_jobs.qlora.config import QLoraConfig
from train_jobs.qlora.estimate import (
    BYTES,
    LOGIT_COPIES,
    MemoryEstimate,
    Shape,
    estimate,
    overhead,
)
from train_jobs.qlora.job import found_base
from train_jobs.qlora.preflight import check_memory, check_optimizer, gpu_gib, meta_shape
from tune_sweeps.config import PackConfig
from tune_sweeps.records import Trial

BYTES_PER_WEIGHT = 16
"""A trained weight, its gradient and AdamW's two moments, each in 32 bits."""

CHECKPOINTS = 3
"""Of each trial on disk: the two that are kept, and the one that is being written."""

PACK_REMEDY = "lower pack.slots, batch_size or rank, or use trainable=solo, which can do with gradient_checkpointing"


def trial_shapes(trials: Sequence[Trial], settings: Settings) -> dict[str, Shape]:
    """Sizes of each trial's base and adapter, by name. Building a base without weights also finds missing layers."""
    shapes: dict[tuple[object, ...], Shape] = {}
    found: dict[str, Shape] = {}
    for trial in trials:
        config = trial.config
        check_optimizer(config)
        key = (config.base_model, config.rank, config.target_modules)
        if key not in shapes:
            shapes[key] = meta_shape(config, found_base(settings, config.base_model))
        found[trial.name] = shapes[key]
    return found


def adapter_sizes(shapes: Mapping[str, Shape]) -> dict[str, float]:
    """MiB of what each trial trains, by name."""
    return {name: shape.adapter_weights * BYTES_PER_WEIGHT / 2**20 for name, shape in shapes.items()}


def check_trials(
    trials: Sequence[Trial], shapes: Mapping[str, Shape], pack: PackConfig | None, gpu_share: float = 1.0
) -> None:
    """Refuse what does not fit its share of the GPU: a trial in a process of its own, or with ``pack`` as many as
    learn at once.

    Raises:
        ConfigurationError: The estimate is above that share of the GPU's memory.
    """
    if pack:
        room = room_gib(trials[0].config, gpu_share)
        check_memory(pack_estimate([(one.config, shapes[one.name]) for one in trials], pack), room, PACK_REMEDY)
        return
    for trial in trials:
        check_memory(estimate(trial.config, shapes[trial.name]), room_gib(trial.config, gpu_share))


def room_gib(config: QLoraConfig, share: float) -> float | None:
    """A trial's share of the GPU's memory; ``None`` on CPUs and on an unknown cluster."""
    whole = gpu_gib(config)
    return None if whole is None else whole * share


def check_space(folder: Path, adapter_mib: Mapping[str, float]) -> None:
    """Refuse a disk that cannot hold the checkpoints of all trials.

    Raises:
        ConfigurationError: Names the folder, what is free and what is needed.
    """
    needed = CHECKPOINTS * sum(adapter_mib.values()) / 1024
    free = shutil.disk_usage(next(place for place in (folder, *folder.parents) if place.exists())).free / 2**30
    if free < needed:
        raise ConfigurationError(
            f"storage_path: {folder} has {free:.1f} GiB free and the trials' checkpoints need {needed:.1f} GiB: free "
            "some, or choose another place"
        )


def pack_estimate(jobs: Sequence[tuple[QLoraConfig, Shape]], pack: PackConfig) -> MemoryEstimate:
    """Memory of a pack when the largest of its trials learn at once: one base, and of all else the sum.

    A pass holds a batch of each slot. Logits are of the whole vocabulary: the pack does not tile them.

    Args:
        jobs: Each trial's settings with the sizes of the base, which is the same for all, and of its adapter.
        pack: How many learn at once, and whether the base is held in 16 bits as well.
    """
    alone = [_of_slot(config, shape) for config, shape in jobs]
    largest = sorted(alone, key=_without_base, reverse=True)[: pack.slots]
    config, shape = jobs[0]
    held_too = BYTES["bfloat16"] * shape.linear_weights if pack.cache_dequantized and config.quantize else 0
    activations = sum(one.activations for one in largest)
    return MemoryEstimate(
        weights=largest[0].weights + held_too,
        adapter=sum(one.adapter for one in largest),
        gradients=sum(one.gradients for one in largest),
        optimizer=sum(one.optimizer for one in largest),
        activations=activations,
        logits=sum(one.logits for one in largest),
        overhead=overhead(config, activations),
    )


def _of_slot(config: QLoraConfig, shape: Shape) -> MemoryEstimate:
    tokens = config.batch_size * config.max_length
    return replace(estimate(config, shape), logits=LOGIT_COPIES * 4 * tokens * shape.vocabulary)


def _without_base(needed: MemoryEstimate) -> float:
    return needed.total - needed.weights - needed.overhead
