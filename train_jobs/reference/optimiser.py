"""bf16 parameters with fp32 master weights: Muon for the matrices of the blocks, AdamW for the rest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)


def orthogonalised(update: Tensor, steps: int = 4) -> Tensor:
    """The nearest matrix whose singular values are all about one, by Newton-Schulz iteration.

    Works on a stack of equally shaped matrices; in bf16, because only the direction matters.
    """
    a, b, c = NEWTON_SCHULZ
    x = update.bfloat16()
    is_tall = x.shape[-2] > x.shape[-1]
    x = x.mT if is_tall else x
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(steps):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.mT if is_tall else x


@dataclass(frozen=True, slots=True)
class Slot:
    """A parameter of the model, its master in fp32 and, for Muon, its velocity."""

    parameter: Tensor
    master: Tensor
    velocity: Tensor

    @staticmethod
    def of(parameter: Tensor) -> Slot:
        master = parameter.detach().float().clone()
        return Slot(parameter, master, torch.zeros_like(master))


class Optimiser:
    """Steps both groups and copies the masters back into the model."""

    def __init__(self, model: nn.Module, matrix_lr: float, other_lr: float, weight_decay: float) -> None:
        self.matrix_lr = matrix_lr
        self.other_lr = other_lr
        self.weight_decay = weight_decay
        trained = {name: item for name, item in model.named_parameters() if item.requires_grad}
        matrices = {name for name, item in trained.items() if item.ndim == 2 and "embed" not in name}
        self.matrices = [Slot.of(trained[name]) for name in trained if name in matrices]
        self.others = [Slot.of(trained[name]) for name in trained if name not in matrices]
        self.adamw = torch.optim.AdamW(
            [slot.master for slot in self.others], lr=other_lr, betas=(0.9, 0.95), weight_decay=0.0
        )

    @torch.no_grad()
    def step(self, rate: float, momentum: float = 0.95) -> None:
        """One update at ``rate`` times the peak rates; clears the gradients."""
        for group in self._by_shape():
            self._step_matrices(group, rate, momentum)
        for slot in self.others:
            slot.master.grad = None if slot.parameter.grad is None else slot.parameter.grad.float()
        for settings in self.adamw.param_groups:
            settings["lr"] = self.other_lr * rate
        self.adamw.step()
        for slot in self.others:
            slot.parameter.copy_(slot.master)
            slot.parameter.grad = None

    def _by_shape(self) -> list[list[Slot]]:
        """Matrices of one shape together: a stack is orthogonalised in one batched product."""
        groups: dict[torch.Size, list[Slot]] = {}
        for slot in self.matrices:
            groups.setdefault(slot.master.shape, []).append(slot)
        return list(groups.values())

    def _step_matrices(self, group: list[Slot], rate: float, momentum: float) -> None:
        updates = []
        for slot in group:
            gradient = slot.parameter.grad
            assert gradient is not None
            slot.velocity.lerp_(gradient.float(), 1 - momentum)
            updates.append(gradient.float().lerp(slot.velocity, momentum))
            slot.parameter.grad = None
        rows, columns = group[0].master.shape
        scale = self.matrix_lr * rate * max(1.0, rows / columns) ** 0.5
        for slot, update in zip(group, orthogonalised(torch.stack(updates)), strict=True):
            slot.master.mul_(1 - self.matrix_lr * rate * self.weight_decay).add_(update, alpha=-scale)
            slot.parameter.copy_(slot.master)

    def state(self) -> dict[str, Any]:
        """Everything a resumed run needs, the weights included."""
        return {
            "matrices": [(slot.master, slot.velocity) for slot in self.matrices],
            "others": [slot.master for slot in self.others],
            "adamw": self.adamw.state_dict(),
        }

    @torch.no_grad()
    def restore(self, state: dict[str, Any]) -> None:
        """Take over a saved state, weights included."""
        for slot, (master, velocity) in zip(self.matrices, state["matrices"], strict=True):
            slot.master.copy_(master)
            slot.velocity.copy_(velocity)
            slot.parameter.copy_(slot.master)
        for slot, master in zip(self.others, state["others"], strict=True):
            slot.master.copy_(master)
            slot.parameter.copy_(slot.master)
        self.adamw.load_state_dict(state["adamw"])
