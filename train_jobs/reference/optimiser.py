"""bf16 parameters with fp32 master weights: Muon for the matrices of the blocks, AdamW for the rest."""

from __future__ import annotations

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


class Optimiser:
    """Steps both groups and copies the masters back into the model."""

    def __init__(self, model: nn.Module, matrix_lr: float, other_lr: float, weight_decay: float) -> None:
        self.matrix_lr = matrix_lr
        self.weight_decay = weight_decay
        self.matrices: list[tuple[Tensor, Tensor, Tensor]] = []
        self.others: list[tuple[Tensor, Tensor]] = []
        for name, parameter in model.named_parameters():
            master = parameter.detach().float().clone()
            if parameter.ndim == 2 and "embed" not in name:
                self.matrices.append((parameter, master, torch.zeros_like(master)))
            else:
                self.others.append((parameter, master))
        self.adamw = torch.optim.AdamW(
            [master for _, master in self.others], lr=other_lr, betas=(0.9, 0.95), weight_decay=0.0
        )
        self.other_lr = other_lr

    @torch.no_grad()
    def step(self, rate: float, momentum: float = 0.95) -> None:
        """One update at ``rate`` times the peak rates; clears the gradients."""
        for group in self._by_shape():
            self._step_matrices(group, rate, momentum)
        for parameter, master in self.others:
            master.grad = None if parameter.grad is None else parameter.grad.float()
        for settings in self.adamw.param_groups:
            settings["lr"] = self.other_lr * rate
        self.adamw.step()
        for parameter, master in self.others:
            parameter.copy_(master)
            parameter.grad = None

    def _by_shape(self) -> list[list[tuple[Tensor, Tensor, Tensor]]]:
        """Matrices of one shape together: a stack is orthogonalised in one batched product."""
        groups: dict[torch.Size, list[tuple[Tensor, Tensor, Tensor]]] = {}
        for item in self.matrices:
            groups.setdefault(item[1].shape, []).append(item)
        return list(groups.values())

    def _step_matrices(
        self, group: list[tuple[Tensor, Tensor, Tensor]], rate: float, momentum: float
    ) -> None:
        updates = []
        for parameter, _, velocity in group:
            assert parameter.grad is not None
            gradient = parameter.grad.float()
            velocity.lerp_(gradient, 1 - momentum)
            updates.append(gradient.lerp(velocity, momentum))
            parameter.grad = None
        rows, columns = group[0][1].shape
        scale = self.matrix_lr * rate * max(1.0, rows / columns) ** 0.5
        for (parameter, master, _), update in zip(group, orthogonalised(torch.stack(updates)), strict=True):
            master.mul_(1 - self.matrix_lr * rate * self.weight_decay).add_(update, alpha=-scale)
            parameter.copy_(master)

    def state(self) -> dict[str, Any]:
        """Everything a resumed run needs, the weights included."""
        return {
            "matrices": [(master, velocity) for _, master, velocity in self.matrices],
            "others": [master for _, master in self.others],
            "adamw": self.adamw.state_dict(),
        }

    @torch.no_grad()
    def restore(self, state: dict[str, Any]) -> None:
        """Take over a saved state, weights included."""
        for (parameter, master, velocity), (saved, saved_velocity) in zip(
            self.matrices, state["matrices"], strict=True
        ):
            master.copy_(saved)
            velocity.copy_(saved_velocity)
            parameter.copy_(master)
        for (parameter, master), saved in zip(self.others, state["others"], strict=True):
            master.copy_(saved)
            parameter.copy_(master)
        self.adamw.load_state_dict(state["adamw"])
