"""One adapter in training: its rows in their order, its optimiser, its schedule."""

from __future__ import annotations

import copy
import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from core.errors import ConfigurationError
from train_jobs.packed.settings import SlotSettings
from train_jobs.qlora.data import IGNORED, EncodedRow

SlotState = dict[str, Any]
"""All that a slot needs to go on: plain values and tensors, so that ``torch.load(weights_only=True)`` reads it.

``settings`` (but the name), ``rows`` (how many there are), ``step``, ``weights`` by PEFT's names, ``optimizer``,
``schedule`` and ``generator`` (dropout's).
"""


@dataclass(frozen=True, slots=True)
class StepResult:
    """What one optimiser step of a slot did."""

    step: int
    """Steps done, this one included."""

    loss: float
    """Mean cross-entropy over the step's target tokens, in nats, before the update."""

    learning_rate: float
    """The rate of this step."""

    grad_norm: float
    """Before clipping."""

    tokens: int
    """Real tokens that the slot read in this step; padding does not count."""

    finished: bool
    """This was the last step."""


def rows_of_step(count: int, per_step: int, seed: int, step: int) -> tuple[int, ...]:
    """Indices of the rows of a step, counted from 0.

    Each pass over the data has an order of its own. It follows from the arguments alone, so a resumed run and one
    beside others see the same rows. A step that reaches the end of a pass goes on with the next one.
    """
    places = range(step * per_step, (step + 1) * per_step)
    return tuple(_epoch_order(count, seed, place // count)[place % count] for place in places)


@lru_cache(maxsize=64)
def _epoch_order(count: int, seed: int, epoch: int) -> tuple[int, ...]:
    return tuple(random.Random(f"{seed}/{epoch}").sample(range(count), count))


def target_count(rows: Sequence[EncodedRow]) -> int:
    """Tokens that are learned; a row's first token is nobody's successor (Transformers' ``num_items_in_batch``)."""
    return sum(label != IGNORED for row in rows for label in row.labels[1:])


def check_rows(rows: Sequence[EncodedRow], kind: str, max_length: int) -> None:
    """Refuse rows that do not fit or from which nothing is learned."""
    for place, row in enumerate(rows):
        if len(row.input_ids) > max_length:
            raise ConfigurationError(
                f"{kind} row {place}: {len(row.input_ids)} tokens are more than max_length {max_length}; leave it out"
            )
        if not target_count([row]):
            raise ConfigurationError(f"{kind} row {place}: no token of it is learned; leave it out")


class Slot:
    """An adapter and all that belongs to it alone."""

    def __init__(
        self,
        settings: SlotSettings,
        adapter: str,
        weights: Mapping[str, Any],
        train: Sequence[EncodedRow],
        validation: Sequence[EncodedRow],
    ) -> None:
        """``adapter``: its name in PEFT's layers; ``weights``: its parameters by the names that PEFT saves."""
        import torch
        from transformers import get_cosine_schedule_with_warmup

        self.settings = settings
        self.adapter = adapter
        self.weights = dict(weights)
        self.step = 0
        self._train = tuple(train)
        # Rows of like length together: a pass over them has little padding.
        self._validation = tuple(sorted(validation, key=lambda row: len(row.input_ids)))
        parameters = list(self.weights.values())
        self.generator = torch.Generator(parameters[0].device).manual_seed(settings.seed)
        self._optimizer = torch.optim.AdamW(
            parameters, lr=settings.learning_rate, weight_decay=settings.weight_decay, fused=True
        )
        warmup = math.ceil(settings.steps * settings.warmup)
        self._schedule = get_cosine_schedule_with_warmup(self._optimizer, warmup, settings.steps)

    @property
    def finished(self) -> bool:
        return self.step >= self.settings.steps

    def next_passes(self) -> list[list[EncodedRow]]:
        """The rows of the coming step, divided into its passes; none of them is empty."""
        settings = self.settings
        places = rows_of_step(len(self._train), settings.rows_per_step, settings.seed, self.step)
        rows = [self._train[place] for place in places]
        return [rows[first :: settings.accumulation] for first in range(settings.accumulation)]

    def validation_passes(self) -> list[list[EncodedRow]]:
        """All validation rows, no more at once than in a training pass: what trains fits in memory."""
        size = math.ceil(self.settings.rows_per_step / self.settings.accumulation)
        rows = self._validation
        return [list(rows[start : start + size]) for start in range(0, len(rows), size)]

    def update(self, loss: float, tokens: int) -> StepResult:
        """Clip, step, and move on along the schedule; the gradients are there already."""
        from torch.nn.utils import clip_grad_norm_

        norm = clip_grad_norm_(self.weights.values(), self.settings.max_grad_norm)
        rate = self._schedule.get_last_lr()[0]
        self._optimizer.step()
        self._schedule.step()
        self.drop_gradients()
        self.step += 1
        return StepResult(self.step, loss, float(rate), float(norm), tokens, self.finished)

    def drop_gradients(self) -> None:
        """Forget them, such as those of a step that failed between its passes."""
        self._optimizer.zero_grad()

    def state(self) -> SlotState:
        """A copy that later steps do not change."""
        return copy.deepcopy(
            {
                "settings": self.settings.model_dump(exclude={"name"}),
                "rows": len(self._train),
                "step": self.step,
                "weights": {name: weight.detach() for name, weight in self.weights.items()},
                "optimizer": self._optimizer.state_dict(),
                "schedule": self._schedule.state_dict(),
                "generator": self.generator.get_state(),
            }
        )

    def load(self, state: SlotState) -> None:
        """Go on from a state of the same settings, which ``check_state`` has compared."""
        import torch

        with torch.no_grad():
            for name, weight in self.weights.items():
                weight.copy_(state["weights"][name])
        self._optimizer.load_state_dict(copy.deepcopy(state["optimizer"]))
        self._schedule.load_state_dict(state["schedule"])
        self.generator.set_state(state["generator"].cpu())
        self.step = state["step"]


def check_state(state: SlotState, settings: SlotSettings, rows: int) -> None:
    """Refuse a state that belongs to other settings or other data."""
    wanted = settings.model_dump(exclude={"name"})
    other = sorted(key for key, value in wanted.items() if state["settings"].get(key) != value)
    if other:
        raise ConfigurationError(
            f"{settings.name}: the state is of another {', '.join(other)}; start from the beginning"
        )
    if state["rows"] != rows:
        raise ConfigurationError(
            f"{settings.name}: the state is of {state['rows']} training rows, not of {rows}; give the same data"
        )
