"""Settings of a sweep."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from train_jobs.qlora.config import NAME


class Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Training(Strict):
    """The job whose settings are looked for."""

    config: Path
    """A file of ``train_jobs/configs``; relative to the project's root."""

    overrides: dict[str, Any] = {}
    """Settings that replace the file's; ``best.yaml`` keeps them."""

    trials: dict[str, Any] = {}
    """Settings of the trials alone, such as a smaller ``max_steps``; ``best.yaml`` does not keep them."""


class Asha(Strict):
    """Asynchronous successive halving (arXiv 1810.05934): trials that are behind at a rung are stopped."""

    enabled: bool = True
    """Off: every trial runs to its end."""

    metric: Literal["bits_per_char", "validation_loss"] = "bits_per_char"
    """What is compared, the less the better; tokens of two bases' tokenizers cannot be compared, characters can."""

    grace: float = Field(default=25, gt=0, lt=100)
    """Percent of its steps that every trial may do; the first rung."""

    reduction_factor: float = Field(default=2, gt=1)
    """At each rung about one of so many goes on; the next rung is so many times further."""


class Devices(Strict):
    """What one trial, or the one pack, holds; fractions share a device."""

    cpus: float = Field(default=2, gt=0)
    """CPU cores, and, rounded up, torch threads."""

    gpus: float = Field(default=0, ge=0, le=1)
    """Share of a GPU; two trials of 0.5 share one."""


class PackConfig(Strict):
    """One loaded base on which several adapters learn at the same time."""

    slots: int = Field(default=4, ge=1)
    """Adapters that learn at the same time."""

    patience_s: float = Field(default=300, gt=0)
    """Seconds after which a slot is taken from a trial that no longer asks for its next steps."""

    gather_s: float = Field(default=15, ge=0)
    """Seconds that a free slot's next trial is waited for before the others go on without it; what begins later
    lags behind, which costs a round that is not full."""

    cache_dequantized: bool = False
    """Hold the base in 16 bits beside its 4: faster, the same numbers, two bytes more for each weight."""

    bf16_adapters: bool = False
    """Multiply adapters in bfloat16, as the final job does with ``bf16``: faster where there are units for it. Off:
    in float32, which rounds less than the final job."""


class Rule(Strict):
    """How the best configuration is chosen; ``tune_sweeps.score`` says how these are used."""

    speech_slack: float = Field(default=0.05, ge=0, le=1)
    """How far the share of sentences in the card's speech level may lie below the best one's."""

    persona_slack: float = Field(default=0.05, ge=0, le=1)
    """How far the share of replies that break no rule may lie below the best one's."""

    gate_errors: float = Field(default=2, ge=0)
    """A share is out only if it lies so many standard errors, besides the slack, below the best one."""

    tie_errors: float = Field(default=1, ge=0)
    """Losses within so many standard errors of the lowest are a tie."""


class SweepConfig(Strict):
    """One sweep over the settings of a fine-tuning job."""

    training: Training

    name: str | None = Field(default=None, pattern=NAME)
    """The sweep's folder; unset: ``<character>-<name of the training's file>``."""

    axes: dict[str, tuple[Any, ...]] = {
        "learning_rate": (1e-4, 2e-4, 5e-4),
        "ratio": ("6:2:2", "5:3:2", "7:2:1"),
        "base_model": ("base",),
        "rank": (16, 32, 64, 128),
    }
    """Settings of the training with the values to try; ``ratio`` is persona:worldview:safety of the training rows."""

    order: tuple[str, ...] = ("learning_rate", "ratio", "base_model", "rank")
    """In which order ``all`` goes through the axes, each with the winners of those before it."""

    seeds: tuple[int, ...] = Field(default=(0,), min_length=1)
    """Each value is tried once with each; the split of the data does not change with them."""

    alpha_per_rank: int | None = Field(default=2, ge=1)
    """``alpha`` of each trial is so many times its rank, so that a rank is not tried with another scale. ``null``, or
    an axis ``alpha``: the training's own alpha."""

    trainable: Literal["solo", "packed"] = "solo"
    """``solo``: a process and a base for each trial; ``packed``: one base for all. ``base_model`` is always solo."""

    pack: PackConfig = PackConfig()
    devices: Devices = Devices()

    max_concurrent: int | None = Field(default=None, ge=1)
    """Trials at the same time; unset: as many as the devices (or the pack's slots) hold."""

    asha: Asha = Asha()

    report_every: int = Field(default=20, ge=1)
    """Steps between validations; each is reported to Tune, which may stop the trial."""

    validation_rows: int | None = Field(default=256, ge=2)
    """Held-out conversations that every report and the final score are measured on, evenly spread; ``null``: all.
    More of them narrow the margin within which configurations count as equal, and each report takes longer."""

    checkpoint_every: int = Field(default=1, ge=1)
    """Reports between checkpoints; the last one is always kept."""

    max_failures: int = Field(default=0, ge=0)
    """How often a trial is begun again from its checkpoint when its process was lost or it raised."""

    samples: int = Field(default=32, ge=1)
    """Held-out prompts that each finished trial answers for its score."""

    reply_tokens: int = Field(default=96, ge=1)
    """Longest of these replies, in tokens."""

    rule: Rule = Rule()

    served_by: Path | None = None
    """The Serve file of the engine that shall load the winner, such as ``serve_deploy.yaml``: a rank above its
    ``max_lora_rank`` is tried, but cannot win. Unset: that of the training, if its adapter is to be published."""

    storage_path: Path | None = None
    """Where sweeps are kept, on every node the same files; unset: ``<ARTISTMIND_HOME>/sweeps``."""

    wandb_mode: Literal["online", "offline", "disabled"] = "offline"
    """Weights & Biases: one run for each trial, grouped by sweep and axis."""

    wandb_project: str = "artistmind"
    """Project that the runs appear in."""
