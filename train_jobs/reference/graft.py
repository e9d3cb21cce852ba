"""Gives a model the circuit that copies: one head that looks one token back, and heads that look it up.

A small model finds this pair of heads late, if at all: each is useless without the other. So it is written
into the least used heads of the first two blocks, fitted by ridge regression on the model's own states, and
training goes on from there. (Olsson et al. 2022, "In-context learning and induction heads", name the circuit.)
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from train_jobs.reference.packing import Batch

FAST_PAIRS = 8
"""Rotary pairs, fastest first, that tell one token back from two."""

SLOW_PAIRS = 12
"""Rotary pairs, slowest last, that hardly turn over a row, so that content can be compared at any distance."""


@dataclass(frozen=True, slots=True)
class GraftSettings:
    """How strongly the circuit is written in."""

    back_sharpness: float = 50.0
    match_sharpness: float = 20.0
    back_share: float = 1.0
    """Norm of what the first head writes, as a share of the residual stream's."""

    boost: float = 12.0
    """What one lookup head adds to the logit of the token it found."""

    lookups: int = 2
    ridge: float = 1e-2


@dataclass(frozen=True, slots=True)
class Rotary:
    """Head size and turning speeds of the model's position encoding."""

    size: int
    speeds: Tensor

    @staticmethod
    def of(model: Any) -> Rotary:
        size = int(model.config.head_dim)
        return Rotary(size, 10000.0 ** (-torch.arange(size // 2) / (size // 2)))

    def one_back(self) -> tuple[Tensor, Tensor]:
        """Query and key whose product is largest, and one, when the key stands one token before."""
        half = self.size // 2
        query, key = torch.zeros(self.size), torch.zeros(self.size)
        query[:FAST_PAIRS] = FAST_PAIRS**-0.5
        key[:FAST_PAIRS] = FAST_PAIRS**-0.5 * self.speeds[:FAST_PAIRS].cos()
        key[half : half + FAST_PAIRS] = FAST_PAIRS**-0.5 * self.speeds[:FAST_PAIRS].sin()
        return query, key

    def slow_rows(self) -> Tensor:
        """Rows of a head in which content is compared."""
        half = self.size // 2
        slow = torch.arange(half - SLOW_PAIRS, half)
        return torch.cat([slow, slow + half])


@torch.no_grad()
def graft(model: Any, batch: Batch, settings: GraftSettings | None = None) -> list[str]:
    """Write the circuit into ``model``, fitted on the states of ``batch``; returns the changed parameters."""
    settings = settings or GraftSettings()
    first, second = model.model.layers[0], model.model.layers[1]
    _write_one_back(model, first, batch, settings)
    for head in _least_used(second.self_attn, Rotary.of(model).size)[: settings.lookups]:
        _write_lookup(model, second, head, batch, settings)
    return [f"model.layers.{index}.self_attn" for index in (0, 1)]


def _write_one_back(model: Any, layer: Any, batch: Batch, settings: GraftSettings) -> None:
    rotary = Rotary.of(model)
    attention = layer.self_attn
    states, residual = _states(model, layer, batch)
    constant = _ridge(states, torch.ones(len(states), 1), settings.ridge).T
    query, key = rotary.one_back()
    strength = (settings.back_sharpness * rotary.size**0.5) ** 0.5
    rows = _rows(_least_used(attention, rotary.size)[0], rotary.size)
    reading = _random_rows(rotary.size, states.shape[1], 1)
    writing = _random_rows(rotary.size, states.shape[1], 2)
    spread = (states @ reading.T).norm(dim=-1).mean()
    attention.q_proj.weight[rows] = (strength * query[:, None] @ constant).bfloat16()
    attention.k_proj.weight[rows] = (strength * key[:, None] @ constant).bfloat16()
    attention.v_proj.weight[rows] = reading.bfloat16()
    gain = settings.back_share * residual.norm(dim=-1).mean() / spread
    attention.o_proj.weight[:, rows] = (gain * writing.T).bfloat16()


def _write_lookup(model: Any, layer: Any, head: int, batch: Batch, settings: GraftSettings) -> None:
    rotary = Rotary.of(model)
    attention = layer.self_attn
    states, _ = _states(model, layer, batch)
    tokens = batch.inputs.reshape(-1)[_used(batch)]
    table = model.model.embed_tokens.weight.float()
    table = table - table[tokens].mean(0)
    table = table / table.norm(dim=-1, keepdim=True).clamp_min(1e-6)
    names = table @ _random_rows(2 * SLOW_PAIRS, table.shape[1], 10 + head).T
    names = names / names.norm(dim=-1, keepdim=True).clamp_min(1e-6)
    before = batch.inputs.roll(1, dims=1).reshape(-1)[_used(batch)]
    rows, slow = _rows(head, rotary.size), rotary.slow_rows()
    strength = (settings.match_sharpness * rotary.size**0.5) ** 0.5
    for projection, seen in ((attention.q_proj, tokens), (attention.k_proj, before)):
        weight = torch.zeros(rotary.size, states.shape[1])
        weight[slow] = strength * _ridge(states, names[seen], settings.ridge).T
        projection.weight[rows] = weight.bfloat16()
    read, strengths, write = torch.linalg.svd(_ridge(states, table[tokens], settings.ridge), full_matrices=False)
    size = rotary.size
    attention.v_proj.weight[rows] = (strengths[:size, None] * read[:, :size].T).bfloat16()
    attention.o_proj.weight[:, rows] = (_gain(model, batch, settings) * write[:size].T).bfloat16()


def _gain(model: Any, batch: Batch, settings: GraftSettings) -> float:
    """How long a vector along a token's embedding must be to raise its logit by ``boost``."""
    with _captured(model.model.norm) as seen:
        model.model(input_ids=batch.inputs, attention_mask=batch.bias, use_cache=False)
    width = seen[0].shape[-1]
    per_unit = width**0.5 / seen[0].float().norm(dim=-1).mean() * model.model.norm.weight.float().mean()
    length = model.model.embed_tokens.weight.float()[batch.inputs.reshape(-1)].norm(dim=-1).mean()
    return float(settings.boost / (per_unit * length))


def _states(model: Any, layer: Any, batch: Batch) -> tuple[Tensor, Tensor]:
    """What the attention of ``layer`` reads, and the residual stream before it, per used token."""
    with _captured(layer.input_layernorm) as seen:
        model.model(input_ids=batch.inputs, attention_mask=batch.bias, use_cache=False)
    residual = seen[0].float().flatten(0, 1)[_used(batch)]
    return layer.input_layernorm(seen[0]).float().flatten(0, 1)[_used(batch)], residual


def _used(batch: Batch) -> Tensor:
    """Tokens with one of their own document before them."""
    same = batch.documents == batch.documents.roll(1, dims=1)
    same[:, 0] = False
    return (same & (batch.documents >= 0)).reshape(-1)


def _least_used(attention: Any, size: int) -> list[int]:
    """Heads by how little they write, least first."""
    weight = attention.o_proj.weight.float() @ torch.eye(attention.o_proj.weight.shape[1])
    values = attention.v_proj.weight.float()
    sizes = [
        float((weight[:, _rows(head, size)] @ values[_rows(head, size)]).norm())
        for head in range(weight.shape[1] // size)
    ]
    return sorted(range(len(sizes)), key=sizes.__getitem__)


def _rows(head: int, size: int) -> slice:
    return slice(head * size, (head + 1) * size)


def _random_rows(count: int, width: int, seed: int) -> Tensor:
    """``count`` orthonormal rows."""
    generator = torch.Generator().manual_seed(seed)
    return torch.linalg.qr(torch.randn(width, count, generator=generator))[0].T


def _ridge(inputs: Tensor, targets: Tensor, share: float) -> Tensor:
    """Least squares with a penalty of ``share`` of the inputs' mean power."""
    gram = inputs.T @ inputs
    penalty = share * gram.diagonal().mean() * torch.eye(gram.shape[0])
    return torch.linalg.solve(gram + penalty, inputs.T @ targets)


@contextmanager
def _captured(module: Any) -> Iterator[list[Tensor]]:
    """The inputs of ``module`` while the block runs."""
    seen: list[Tensor] = []
    hook = module.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    try:
        yield seen
    finally:
        hook.remove()
