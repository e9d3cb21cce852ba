"""What can be wrong with a run, found before Ray starts: the rank, the GPUs, the base's layers, memory and disk.

The base is built on the ``meta`` device, without weights, so that its layers are the real ones and not a guess. Hub
models whose sizes lie in ``train_jobs/configs/shapes`` need no network for it.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from core.errors import ConfigurationError
from core.settings import PROJECT_ROOT, Settings
from train_jobs.qlora.config import QLoraConfig
from train_jobs.qlora.estimate import GIB, MemoryEstimate, Shape, checkpoint_bytes, estimate, fits_in_16_bits
from train_jobs.qlora.storage import RunStorage

SHAPES = PROJECT_ROOT / "train_jobs" / "configs" / "shapes"
SERVED_LOCALLY, SERVED_ON_GPUS = Path("serve_local.yaml"), Path("serve_deploy.yaml")
LESS_MEMORY = "lower batch_size, max_length or rank, or turn gradient_checkpointing on"


def check_machine(config: QLoraConfig, settings: Settings) -> None:
    """Refuse a rank that the server cannot load, and GPUs that are not there."""
    check_rank(config, settings)
    check_gpus(config)


@dataclass(frozen=True, slots=True)
class Checked:
    """What the check of a base found out."""

    needed: MemoryEstimate
    samples_in_4_bits: bool
    """Whether the held-out prompts have to be answered on the 4-bit base, because the 16-bit one does not fit."""


def check_base(config: QLoraConfig, base: str, storage: RunStorage) -> Checked:
    """Build the base without weights, put the adapter on it, and see whether memory and disk suffice.

    Raises:
        ConfigurationError: A target module is missing, or the estimate does not fit.
    """
    check_optimizer(config)
    shape = meta_shape(config, base)
    needed = estimate(config, shape)
    room = gpu_gib(config)
    check_memory(needed, room)
    # One more than is kept: the oldest goes when the newest is whole.
    storage.require_space(int((config.keep_checkpoints + 1) * checkpoint_bytes(config, shape)))
    return Checked(needed, config.quantize and not fits_in_16_bits(config, shape, room))


def check_rank(config: QLoraConfig, settings: Settings) -> None:
    """An adapter that is published must fit into the engine that serves it."""
    most = served_rank(config, settings)
    if most is not None and config.rank > most:
        raise ConfigurationError(
            f"rank: {config.rank} is more than the max_lora_rank of {most} in {serve_file(config).name}: raise it "
            "there, lower rank, or name another served_by"
        )


def serve_file(config: QLoraConfig) -> Path:
    """The Serve file of the engine that shall load the adapter."""
    return config.served_by or (SERVED_ON_GPUS if config.use_gpu else SERVED_LOCALLY)


def served_rank(config: QLoraConfig, settings: Settings) -> int | None:
    """The largest rank that the job may have; ``None``: any, as for an adapter that is not published."""
    file = settings.resolved(serve_file(config))
    if not config.publish or (config.served_by is None and not file.is_file()):
        return None
    return max_lora_rank(file)


def max_lora_rank(file: Path) -> int | None:
    """The largest adapter that the engine of a Serve file loads; ``None`` when the file does not say."""
    try:
        found = yaml.safe_load(file.read_text(encoding="utf-8"))
        generators = [(app.get("args") or {}).get("generator") or {} for app in found["applications"]]
        ranks = [int(generator["max_lora_rank"]) for generator in generators if "max_lora_rank" in generator]
    except OSError as error:
        raise ConfigurationError(f"served_by: {file} cannot be read ({error.strerror})") from error
    except (yaml.YAMLError, KeyError, TypeError, AttributeError, ValueError) as error:
        raise ConfigurationError(f"served_by: {file} is no Serve file of the chat graph") from error
    return min(ranks, default=None)


def check_gpus(config: QLoraConfig) -> None:
    """On one machine: as many GPUs as workers. A cluster is asked by Ray, which may have to start nodes first."""
    if not config.use_gpu or os.environ.get("RAY_ADDRESS"):
        return
    found = len(gpus_gib())
    if found < config.least_workers:
        raise ConfigurationError(
            f"use_gpu: num_workers asks for {config.least_workers} GPUs and this machine has {found}: lower "
            "num_workers, set use_gpu=false, or submit the job to a cluster"
        )


def gpus_gib() -> list[float]:
    """Memory of each of this machine's GPUs."""
    import torch

    return [torch.cuda.get_device_properties(index).total_memory / GIB for index in range(torch.cuda.device_count())]


def gpu_gib(config: QLoraConfig) -> float | None:
    """Memory of the smallest GPU, as the settings or this machine say; ``None`` on CPUs and on an unknown cluster."""
    if not config.use_gpu:
        return None
    known = [config.gpu_memory_gib] if config.gpu_memory_gib else []
    known += [] if os.environ.get("RAY_ADDRESS") else gpus_gib()
    return min(known, default=None)


def check_memory(needed: MemoryEstimate, room_gib: float | None, remedy: str = LESS_MEMORY) -> None:
    """Refuse what will not fit, and say what to do about it."""
    if room_gib is not None and needed.gib > room_gib:
        raise ConfigurationError(
            f"gpu_memory_gib: a process needs about {needed.gib:.1f} GiB ({needed.line()}) of {room_gib:.1f} GiB: "
            f"{remedy}"
        )


def meta_shape(config: QLoraConfig, base: str) -> Shape:
    """Sizes of the base and of its adapter, from a model without weights.

    Args:
        base: A local base's folder, or a hub name.
    """
    import torch
    from peft import get_peft_model
    from peft.tuners.lora import LoraLayer
    from transformers import AutoModelForCausalLM

    from train_jobs.qlora.model import lora_config

    architecture = base_architecture(base)
    try:
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(architecture)
        head = model.get_output_embeddings()
        check_targets(config, model, head)
        linears = [m for m in model.modules() if isinstance(m, torch.nn.Linear) and m is not head]
        linear_weights = sum(module.weight.numel() for module in linears)
        other_weights = sum(p.numel() for p in model.parameters()) - linear_weights
        adapted = get_peft_model(model, lora_config(config), low_cpu_mem_usage=True)
    except ValueError as error:
        reason = " ".join(str(error).split())[:200]
        raise ConfigurationError(f"target_modules: {base} does not take the adapter: {reason}") from error
    inputs = sum(m.in_features for m in adapted.modules() if isinstance(m, LoraLayer))
    head_size = (
        getattr(architecture, "head_dim", None) or architecture.hidden_size // architecture.num_attention_heads
    )
    return Shape(
        linear_weights=linear_weights,
        other_weights=other_weights,
        adapter_weights=sum(p.numel() for p in adapted.parameters() if p.requires_grad),
        adapted_inputs=inputs // architecture.num_hidden_layers,
        layers=architecture.num_hidden_layers,
        hidden=architecture.hidden_size,
        intermediate=architecture.intermediate_size,
        queries=architecture.num_attention_heads * head_size,
        keys=architecture.num_key_value_heads * head_size,
        heads=architecture.num_attention_heads,
        vocabulary=architecture.vocab_size,
    )


def check_optimizer(config: QLoraConfig) -> None:
    """A name that Transformers does not know would fail in the worker only."""
    from transformers.training_args import OptimizerNames

    known = sorted(each.value for each in OptimizerNames)
    if config.optimizer not in known:
        raise ConfigurationError(f"optimizer: there is no {config.optimizer!r}; there are: {', '.join(known)}")


def check_targets(config: QLoraConfig, model: Any, head: Any) -> None:
    """Each named layer must be there: PEFT is content when one of several is. The output layer is not adapted."""
    if isinstance(config.target_modules, str):
        return  # PEFT's own words: all-linear, or a pattern that it looks up itself
    names = {name.rpartition(".")[2]: module for name, module in model.named_modules()}
    paths = [name for name, _ in model.named_modules()]
    for target in config.target_modules:
        if not any(path == target or path.endswith(f".{target}") for path in paths):
            linear = sorted(name for name, module in names.items() if hasattr(module, "in_features"))
            raise ConfigurationError(
                f"target_modules: {config.base_model} has no layer {target}; it has {', '.join(linear)}"
            )
        if names.get(target) is head:
            raise ConfigurationError(f"target_modules: {target} is the output layer, which is not adapted")


def base_architecture(base: str) -> Any:
    """A base's configuration: from its folder, from the sizes that ship, else from the hub."""
    from transformers import AutoConfig

    shipped = SHAPES / f"{base.rpartition('/')[2]}.json"
    try:
        if not Path(base).is_dir() and shipped.is_file():
            return AutoConfig.for_model(**json.loads(shipped.read_text(encoding="utf-8")))
        return AutoConfig.from_pretrained(base)
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ConfigurationError(f"base_model: the configuration of {base} cannot be loaded: {reason}") from error
