"""Forward passes in which each slot's tokens go through that slot's adapter, and all tokens through the base at once.

PEFT holds the adapters, but refuses batches of several adapters while training; only that forward is replaced here.
Each slot's low-rank products are matrix products of their own over its slice of the tokens. Padding all adapters to
the greatest rank would make one batched product of them, but ranks of a sweep differ eightfold: for 16, 32, 64 and
128 more than half of it would be zeros, all slots would need the same number of tokens, and a slot's numbers would
depend on its neighbours. This way weights, gradients and optimiser states have their real rank: nothing is masked.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

from core.errors import ConfigurationError
from train_jobs.packed.batch import MixedBatch


@dataclass(frozen=True, slots=True)
class Route:
    """One slot's way through a batch."""

    adapter: str
    """Name of its adapter in PEFT's layers."""

    dropout: float = 0.0
    """0 where nothing is learned."""

    generator: Any = None
    """``torch.Generator`` that its dropout draws from."""


class Router:
    """Tells the layers of one model which batch is on its way and who owns which tokens."""

    def __init__(self, bf16_adapters: bool) -> None:
        self._bf16_adapters = bf16_adapters
        self._batch: MixedBatch | None = None
        self._routes: tuple[Route, ...] = ()

    def send(self, model: Any, batch: MixedBatch, routes: tuple[Route, ...]) -> Any:
        """Logits (targets, vocabulary) of a batch, whose slots take ``routes`` in order."""
        self._batch, self._routes = batch, routes
        # Borders between conversations are found in the positions only where there is no mask and no cache.
        output = model(input_ids=batch.input_ids, position_ids=batch.position_ids, use_cache=False)
        return output.logits[0]

    def install(self, model: Any) -> None:
        """Replace the forward of PEFT's layers, and let the output layer see the targets only.

        Raises:
            ConfigurationError: A target is no linear layer, or it is the output layer.
        """
        from peft.tuners.lora import LoraLayer
        from torch.nn import Linear

        output = model.get_output_embeddings()
        for name, module in model.named_modules():
            if isinstance(module, LoraLayer):
                if module is output or not isinstance(module.base_layer, Linear):
                    raise ConfigurationError(
                        f"target_modules: {name} is no linear layer within the model; leave it out"
                    )
                module.forward = partial(self._forward, module)
        output.register_forward_pre_hook(self._targets_only)

    def _targets_only(self, layer: Any, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        """Most of the vocabulary's product would be spent on tokens whose logits nobody asks for."""
        assert self._batch is not None
        hidden = inputs[0].reshape(-1, inputs[0].shape[-1])
        return (hidden.index_select(0, self._batch.targets).unsqueeze(0),)

    def _forward(self, layer: Any, inputs: Any) -> Any:
        """The base's output and, added to each token's, the update of the slot that it belongs to."""
        import torch

        from train_jobs.packed.low_rank import LowRank, add_updates

        assert self._batch is not None
        if inputs.numel() != len(self._batch.order) * inputs.shape[-1]:
            raise ConfigurationError("target_modules: a layer sees other tokens than the batch has; leave it out")
        adapters = [
            LowRank(
                tokens=self._batch.spans[place],
                down=layer.lora_A[route.adapter].weight,
                up=layer.lora_B[route.adapter].weight,
                scaling=layer.scaling[route.adapter] / (1 - route.dropout),
                kept=self._kept(inputs, place) if route.dropout else None,
            )
            for place, route in enumerate(self._routes)
        ]
        kind = inputs.dtype if self._bf16_adapters else torch.float32
        return add_updates(layer.base_layer(inputs), inputs, adapters, kind)

    def _kept(self, inputs: Any, place: int) -> Any:
        """Dropout from the slot's own generator, drawn token after token as the rows were given: what is dropped
        depends neither on the packing nor on the neighbours."""
        import torch

        assert self._batch is not None
        route, shape = self._routes[place], (self._batch.token_counts[place], inputs.shape[-1])
        kept = torch.empty(shape, dtype=inputs.dtype, device=inputs.device)
        kept.bernoulli_(1 - route.dropout, generator=route.generator)
        return kept[self._batch.order[self._batch.spans[place]]]
