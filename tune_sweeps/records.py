"""What is known of a trial: as it was planned, as it was trained, and as it was measured."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from pydantic import Field

from train_jobs.qlora.config import QLoraConfig
from train_jobs.qlora.data import IGNORED, EncodedRow, Messages
from train_jobs.qlora.publish import Provenance
from tune_sweeps.config import Strict


class Trial(Strict):
    """One configuration with one seed."""

    name: str
    """Also the name of its folder."""

    value: str
    """The axis' value as it is shown."""

    seed: int
    config: QLoraConfig
    """Everything that it is trained with."""

    rows_per_step: int = 1
    """Conversations of an optimiser step in a pack; solo, the trainer counts."""

    barred: str = ""
    """Why its value cannot win, though it is tried; empty: it can."""


@dataclass(frozen=True, slots=True)
class TrialData:
    """What a trial learns from and is measured on, in its base's tokens."""

    train: tuple[EncodedRow, ...]
    validation: tuple[EncodedRow, ...]
    prompts: tuple[Messages, ...]
    """Held-out conversations up to the reply that is asked for."""

    origin: Provenance | None = None
    """Which data, base and tokenizer these are."""

    def bits_per_char(self, loss: float) -> float:
        """A validation loss (nats per target token, mean) in bits per character of the replies."""
        tokens = sum(target_tokens(row) for row in self.validation)
        return loss * tokens / (sum(map(reply_chars, self.validation)) * math.log(2))


def target_tokens(row: EncodedRow) -> int:
    """Tokens that the loss is taken of."""
    return sum(label != IGNORED for label in row.labels)


def reply_chars(row: EncodedRow) -> int:
    """Characters that the assistant says in a conversation; at least 1."""
    return max(1, sum(len(item["content"]) for item in row.messages if item["role"] == "assistant"))


class CurvePoint(Strict):
    """One report of a trial."""

    step: int
    progress: float
    """Percent of the trial's steps."""

    validation_loss: float
    """Nats per target token."""

    bits_per_char: float
    train_loss: float | None = None
    learning_rate: float | None = None
    grad_norm: float | None = None
    """Before clipping."""

    tokens_per_s: float | None = None
    """Real tokens per second of optimiser steps; of a pack, the trial's own in its share of that time."""

    seconds: float
    """Training time so far; of a pack, the trial's share of it."""

    memory_mib: float | None = None
    """Highest memory so far: the GPU's allocated, on CPUs the process's resident; of a pack, what the adapter's
    weights, gradients and optimiser state take."""


class TrialRecord(Strict):
    """A trial after the training; one line of ``trials.jsonl``."""

    name: str
    value: str
    seed: int
    status: Literal["finished", "stopped", "failed"]
    """``stopped``: by ASHA."""

    reason: str = ""
    """Why it failed."""

    barred: str = ""
    """Why its value cannot win, though it was tried."""

    curve: tuple[CurvePoint, ...] = ()
    adapter: str | None = None
    """Folder of its last checkpoint, which holds the adapter in PEFT's format."""

    @property
    def seconds(self) -> float:
        return self.curve[-1].seconds if self.curve else 0.0

    @property
    def memory_mib(self) -> float | None:
        return self.curve[-1].memory_mib if self.curve else None


class Measurement(Strict):
    """A finished trial's adapter on the base in 16 bits, as serving has it."""

    trial: str
    losses: tuple[float, ...]
    """Bits per character of each validation conversation, in the order of the data."""

    sentences_kept: int
    """Sentences of the replies in the card's speech level."""

    sentences_judged: int
    """Sentences of the replies that have a speech level."""

    replies_kept: int
    """Replies that break none of the evaluation's rules."""

    replies: tuple[str, ...]
    broken: dict[str, int] = Field(default_factory=dict)
    """How many replies broke each rule."""
