"""Settings of the fine-tuning job."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

Count = Annotated[int, Field(ge=1)]
NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"


class DataConfig(BaseModel):
    """Which conversations are learned: a data set version, a file, or composed ones."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: str | None = None
    """A version that ``artistmind data build`` made, such as ``haneul@v1``; its own split holds."""

    count: int = Field(default=2000, ge=2)
    """Conversations to compose from the character's intents and seeds."""

    seed: int = 0
    """Seed of the composition."""

    path: Path | None = None
    """JSON lines, ``{"messages": [{"role", "content"}, …]}`` each, in place of composed conversations."""

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if self.version and self.path:
            raise ValueError("give a version or a path, not both")
        return self


class QLoraConfig(BaseModel):
    """One fine-tuning run: a character's adapter on a frozen base."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    character: str = Field(pattern=NAME)
    """Whose adapter it becomes; a folder under ``personas/cards``."""

    base_model: str = "base"
    """Name under ``models/``, a local directory, or a hub name."""

    data: DataConfig = DataConfig()
    """What is learned."""

    validation_share: float = Field(default=0.1, gt=0, lt=1)
    """Share of the conversations that is only measured on."""

    max_length: int = Field(default=1024, ge=16)
    """Tokens; longer conversations are left out, never cut."""

    packing: bool = False
    """Put several conversations into one sequence of ``max_length`` tokens; none of them sees another."""

    quantize: bool = True
    """Hold the frozen base in 4 bits (NF4). Off: plain LoRA."""

    double_quant: bool = True
    """Hold the constants of the 4 bits in 8 bits too: 0.05 bytes less for each weight, and a little more work."""

    bf16: bool = True
    """Compute in bfloat16; off: float32, or float16 with ``fp16``."""

    fp16: bool = False
    """Compute in float16 with loss scaling, for GPUs without bfloat16 units such as the T4; needs ``bf16: false``."""

    attention: Literal["sdpa", "eager", "flash_attention_2"] = "sdpa"
    """Attention kernel; ``eager`` is the fastest on CPUs with bfloat16 units."""

    rank: int = Field(default=16, ge=1)
    """Rank of the adapter; the serving engine's ``max_lora_rank`` must not be smaller."""

    alpha: int = Field(default=32, ge=1)
    """Scale of the adapter: ``alpha / rank``."""

    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Dropout in front of the adapter."""

    target_modules: str | tuple[str, ...] = "all-linear"
    """Which layers are adapted; names, or all linear ones but the output layer."""

    learning_rate: float = Field(default=2e-4, gt=0)
    """Peak rate; it rises over ``warmup`` and falls along a cosine."""

    warmup: float = Field(default=0.05, ge=0, lt=1)
    """Share of the steps over which the rate rises."""

    epochs: float = Field(default=1.0, gt=0)
    """Passes over the data, unless ``max_steps`` is set."""

    max_steps: int | None = Field(default=None, ge=1)
    """Optimiser steps, in place of ``epochs``."""

    batch_size: int = Field(default=4, ge=1)
    """Conversations per worker and pass."""

    accumulation: int = Field(default=1, ge=1)
    """Passes per optimiser step."""

    optimizer: str = "adamw_torch"
    """Name as Transformers knows it; ``paged_adamw_8bit`` saves memory on GPUs."""

    weight_decay: float = Field(default=0.0, ge=0)
    """Decay of the adapter's weights."""

    gradient_checkpointing: bool = False
    """Compute activations twice rather than keep them."""

    deepspeed_stage: Literal[0, 2, 3] = 0
    """0: plain data parallelism; 2: DeepSpeed ZeRO-2, which splits gradients and optimiser state; 3: ZeRO-3, which
    splits the base as well (GPUs only, for bases that one GPU cannot hold)."""

    seed: int = 0
    """Seed of the adapter's first weights, the order and the split."""

    num_workers: Count | tuple[Count, Count] = 1
    """Training processes, one per GPU. ``[least, most]``: as many as the cluster has room for. A step learns from
    ``batch_size`` x ``accumulation`` x ``most`` rows (conversations, or packed sequences) whatever their number, as
    fewer of them accumulate over more passes: a range with a number that does not divide ``accumulation`` x ``most``
    is refused. Only the last step of an epoch takes what is left."""

    cpus_per_worker: int = Field(default=2, ge=1)
    """CPU cores, and torch threads, of each process."""

    use_gpu: bool = False
    """Give each process one GPU."""

    gpu_memory_gib: float | None = Field(default=None, gt=0)
    """Memory of each GPU: settings whose estimate does not fit are refused. Unset: what this machine's GPU has."""

    max_failures: int = Field(default=1, ge=0)
    """How often a run that lost a process goes on by itself, from the last checkpoint."""

    log_every: int = Field(default=10, ge=1)
    """Steps between logged losses."""

    save_every: int = Field(default=100, ge=1)
    """Steps between validations and checkpoints."""

    save_minutes: float | None = Field(default=None, gt=0)
    """Minutes between checkpoints, beside those by steps; unset: by steps alone."""

    keep_checkpoints: int = Field(default=2, ge=1)
    """Checkpoints that are kept, the newest ones."""

    samples: int = Field(default=8, ge=0)
    """Held-out prompts that are answered into ``samples.md`` after the training."""

    storage_path: str | Path | None = None
    """Where runs are kept, on every node the same files: a directory or a URI (``file://``, ``s3://``, ``gs://``);
    unset: ``<ARTISTMIND_HOME>/training``."""

    run_name: str | None = Field(default=None, pattern=NAME)
    """The run's folder; the same name goes on from its last checkpoint. Unset: ``<character>-<version>``."""

    version: str | None = Field(default=None, pattern=NAME)
    """Version to publish; unset: the next free ``v<number>``."""

    publish: bool = True
    """Publish the adapter under the adapters' root when the training is over."""

    served_by: Path | None = None
    """The Serve file of the engine that shall load what is published: its ``max_lora_rank`` bounds ``rank``. Unset:
    ``serve_deploy.yaml`` with ``use_gpu``, else ``serve_local.yaml``."""

    tracker: Literal["wandb", "mlflow", "none"] = "wandb"
    """Where numbers go besides the log. MLflow writes into the run's folder, or to ``MLFLOW_TRACKING_URI``."""

    wandb_mode: Literal["online", "offline", "disabled"] = "offline"
    """Weights & Biases; offline runs lie in the run's folder and can be synchronised later."""

    wandb_project: str = "artistmind"
    """Project that the run appears in."""

    wandb_group: str | None = None
    """What the run is shown together with, such as a sweep; unset: the character."""

    wandb_name: str | None = None
    """Name that the run is shown under, such as a sweep's trial; unset: the run's folder."""

    @property
    def dtype(self) -> Literal["bfloat16", "float16", "float32"]:
        """What the base is held and multiplied in, where it is not held in 4 bits."""
        if self.fp16:
            return "float16"
        return "bfloat16" if self.bf16 else "float32"

    @property
    def least_workers(self) -> int:
        return self.num_workers if isinstance(self.num_workers, int) else self.num_workers[0]

    @property
    def most_workers(self) -> int:
        return self.num_workers if isinstance(self.num_workers, int) else self.num_workers[1]

    @model_validator(mode="after")
    def _gpu_only_settings(self) -> Self:
        needs_gpu = {
            f"attention: {self.attention}": self.attention == "flash_attention_2",
            f"optimizer: {self.optimizer}": "8bit" in self.optimizer,
            "fp16: float16": self.fp16,
            f"deepspeed_stage: {self.deepspeed_stage}": self.deepspeed_stage == 3,
            "gpu_memory_gib: a GPU's memory": self.gpu_memory_gib is not None,
        }
        for setting, wanted in needs_gpu.items():
            if wanted and not self.use_gpu:
                raise ValueError(f"{setting} needs use_gpu")
        return self

    @model_validator(mode="after")
    def _fitting_together(self) -> Self:
        if self.fp16 and self.bf16:
            raise ValueError("fp16: set bf16 to false with it; a run computes in one of them")
        if self.fp16 and self.deepspeed_stage:
            raise ValueError("deepspeed_stage: not with fp16, whose loss scaling it would do a second time; use 0")
        if self.deepspeed_stage == 3 and self.samples:
            raise ValueError("samples: set it to 0 with deepspeed_stage 3, whose base lies in parts on all GPUs")
        if self.least_workers > self.most_workers:
            raise ValueError("num_workers: a range is written as [least, most]")
        if self.deepspeed_stage and self.least_workers != self.most_workers:
            raise ValueError(
                "num_workers: DeepSpeed's split state is bound to one number of workers; give one number"
            )
        return self

    @model_validator(mode="after")
    def _same_rows_in_every_step(self) -> Self:
        counts = range(self.least_workers, self.most_workers + 1)
        passes = self.accumulation * self.most_workers
        uneven = [count for count in counts if passes % count]
        if uneven:
            fitting = math.lcm(*counts) // math.gcd(math.lcm(*counts), self.most_workers)
            raise ValueError(
                f"num_workers: a step's {passes} passes (accumulation x {self.most_workers}) cannot be divided among "
                f"{uneven[0]} workers; set accumulation to a multiple of {fitting}, or narrow the range"
            )
        return self


NOT_LEARNED = frozenset(
    {
        "storage_path",
        "run_name",
        "version",
        "publish",
        "samples",
        "max_failures",
        "gpu_memory_gib",
        "served_by",
        "save_minutes",
        "keep_checkpoints",
        "tracker",
        "wandb_mode",
        "wandb_project",
        "wandb_group",
        "wandb_name",
    }
)
"""Settings that do not change what is learned: a run may go on with other ones."""


def learned_settings(config: QLoraConfig) -> dict[str, object]:
    """What decides the weights, as plain JSON values."""
    return config.model_dump(mode="json", exclude=set(NOT_LEARNED))
