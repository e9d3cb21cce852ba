"""Settings of the fine-tuning job."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

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

    quantize: bool = True
    """Hold the frozen base in 4 bits (NF4, double quantisation). Off: plain LoRA."""

    bf16: bool = True
    """Compute in bfloat16; off: float32."""

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

    deepspeed_stage: Literal[0, 2] = 0
    """0: plain data parallelism; 2: DeepSpeed ZeRO-2, which splits gradients and optimiser state."""

    seed: int = 0
    """Seed of the adapter's first weights, the order and the split."""

    num_workers: int = Field(default=1, ge=1)
    """Training processes; one per GPU."""

    cpus_per_worker: int = Field(default=2, ge=1)
    """CPU cores, and torch threads, of each process."""

    use_gpu: bool = False
    """Give each process one GPU."""

    max_failures: int = Field(default=1, ge=0)
    """How often a run that lost a process goes on by itself, from the last checkpoint."""

    log_every: int = Field(default=10, ge=1)
    """Steps between logged losses."""

    save_every: int = Field(default=100, ge=1)
    """Steps between validations and checkpoints."""

    samples: int = Field(default=8, ge=0)
    """Held-out prompts that are answered into ``samples.md`` after the training."""

    storage_path: Path | None = None
    """Where runs are kept, on every node the same files; unset: ``<ARTISTMIND_HOME>/training``."""

    run_name: str | None = Field(default=None, pattern=NAME)
    """The run's folder; the same name goes on from its last checkpoint. Unset: ``<character>-<version>``."""

    version: str | None = Field(default=None, pattern=NAME)
    """Version to publish; unset: the next free ``v<number>``."""

    publish: bool = True
    """Publish the adapter under the adapters' root when the training is over."""

    wandb_mode: Literal["online", "offline", "disabled"] = "offline"
    """Weights & Biases; offline runs lie in the run's folder and can be synchronised later."""

    wandb_project: str = "artistmind"
    """Project that the run appears in."""

    @model_validator(mode="after")
    def _gpu_only_settings(self) -> Self:
        if not self.use_gpu and self.attention == "flash_attention_2":
            raise ValueError("attention: flash_attention_2 needs use_gpu")
        if not self.use_gpu and "8bit" in self.optimizer:
            raise ValueError(f"optimizer: {self.optimizer} needs use_gpu")
        return self


NOT_LEARNED = frozenset(
    {"storage_path", "run_name", "version", "publish", "wandb_mode", "wandb_project", "samples", "max_failures"}
)
"""Settings that do not change what is learned: a run may go on with other ones."""


def learned_settings(config: QLoraConfig) -> dict[str, object]:
    """What decides the weights, as plain JSON values."""
    return config.model_dump(mode="json", exclude=set(NOT_LEARNED))
