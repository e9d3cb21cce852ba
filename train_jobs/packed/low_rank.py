"""The low-rank updates of one layer for all slots, as one step of autograd.

Written out for autograd op by op, each slot would add some ten small operations per layer and direction, and as many
copies of its activations in float32; that traffic, not arithmetic, is what LoRA costs (Zhu et al., LoRAFusion,
arXiv:2510.00206). Here products are added where they belong, and inputs are kept as they came, once for all layers
that read them.

Imports Torch on top, so only training processes import it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.autograd.function import once_differentiable


@dataclass(frozen=True, slots=True)
class LowRank:
    """One slot's adapter in one layer, and the tokens it is for."""

    tokens: slice
    """Of the flat token axis; the slices of all slots follow each other and cover it."""

    down: Any
    """A: (rank, in)."""

    up: Any
    """B: (out, rank)."""

    scaling: float
    """``alpha / rank``, and with dropout p ``1 / (1 - p)`` of it: ``kept`` of 16 bits would round that."""

    kept: Any = None
    """Dropout in front of A: (tokens of the slice, in), 0 where an input is dropped, else 1. None: all are kept."""

    def inputs(self, tokens: Any, kind: Any) -> Any:
        """What A reads: the slice, in the type of the products."""
        own = tokens[self.tokens].to(kind)
        return own if self.kept is None else own * self.kept


def add_updates(result: Any, inputs: Any, adapters: Sequence[LowRank], kind: Any) -> Any:
    """``result + scaling · B(A(dropout(inputs)))`` with the adapter that each token belongs to.

    Args:
        result: (…, out), the base's output.
        inputs: (…, in), what the base read.
        adapters: In the order of their slices.
        kind: Type that is multiplied in. Sums are rounded to the type of ``result``.
    """
    weights = [weight for adapter in adapters for weight in (adapter.down, adapter.up)]
    return _AddUpdates.apply(result, inputs, tuple(adapters), kind, *weights)


class _AddUpdates(torch.autograd.Function):
    """The weights are given one by one too: autograd only sees arguments."""

    @staticmethod
    def forward(ctx: Any, result: Any, inputs: Any, adapters: tuple[LowRank, ...], kind: Any, *weights: Any) -> Any:
        output = result.clone(memory_format=torch.contiguous_format)
        tokens, sums = inputs.reshape(-1, inputs.shape[-1]), output.view(-1, output.shape[-1])
        lows = []
        for adapter in adapters:
            # Scaled between A and B, where there are fewest numbers.
            low = (adapter.inputs(tokens, kind) @ adapter.down.to(kind).t()).mul_(adapter.scaling)
            _add_product(sums[adapter.tokens], low, adapter.up.to(kind).t())
            lows.append(low)
        ctx.adapters, ctx.kind = adapters, kind
        ctx.save_for_backward(inputs, *lows, *weights)
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Any) -> tuple[Any, ...]:
        inputs, *saved = ctx.saved_tensors
        tokens, given = inputs.reshape(-1, inputs.shape[-1]), gradient.reshape(-1, gradient.shape[-1])
        of_inputs = torch.empty_like(tokens) if ctx.needs_input_grad[1] else None
        of_weights = []
        for adapter, low in zip(ctx.adapters, saved, strict=False):
            own = given[adapter.tokens].to(ctx.kind)
            of_low = (own @ adapter.up.to(ctx.kind)).mul_(adapter.scaling)
            of_down, of_up = of_low.t() @ adapter.inputs(tokens, ctx.kind), own.t() @ low
            of_weights += [of_down.to(adapter.down.dtype), of_up.to(adapter.up.dtype)]
            if of_inputs is not None:
                passed = of_low @ adapter.down.to(ctx.kind)
                of_inputs[adapter.tokens] = passed if adapter.kept is None else passed * adapter.kept
        back = None if of_inputs is None else of_inputs.view_as(inputs)
        return gradient, back, None, None, *of_weights


def _add_product(target: Any, left: Any, right: Any) -> None:
    """``target += left @ right``, rounded once."""
    if target.dtype == left.dtype:
        target.addmm_(left, right)
    else:
        target.add_(left @ right)
