"""What one adapter of a pack is trained with."""

from __future__ import annotations

from typing import Self

from pydantic import BaseModel, ConfigDict, Field, model_validator


class SlotSettings(BaseModel):
    """One adapter of a pack. What decides its weights is here and in its rows; its neighbours do not."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(min_length=1)
    """What the pack calls it; such as a trial's id."""

    rank: int = Field(ge=1)
    """Rank of the adapter, at most the pack's ``max_rank``."""

    alpha: int = Field(ge=1)
    """Scale of the adapter: ``alpha / rank``."""

    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Dropout in front of the adapter."""

    learning_rate: float = Field(gt=0)
    """Peak rate; it rises over ``warmup`` and falls along a cosine."""

    warmup: float = Field(default=0.05, ge=0, lt=1)
    """Share of the steps over which the rate rises."""

    weight_decay: float = Field(default=0.0, ge=0)
    """Decay of the adapter's weights."""

    max_grad_norm: float = Field(default=1.0, gt=0)
    """Gradients of the adapter are scaled down to this norm."""

    steps: int = Field(ge=1)
    """Optimiser steps of the whole training; the schedule ends with them."""

    rows_per_step: int = Field(ge=1)
    """Conversations per optimiser step, over all its passes."""

    accumulation: int = Field(default=1, ge=1)
    """Passes that a step's conversations are divided into, for memory. The loss is normalised over all of them."""

    seed: int = 0
    """Seed of the first weights, of the order of the rows and of dropout."""

    @model_validator(mode="after")
    def _rows_for_every_pass(self) -> Self:
        if self.accumulation > self.rows_per_step:
            raise ValueError(f"accumulation: {self.accumulation} passes need at least as many rows_per_step")
        return self
