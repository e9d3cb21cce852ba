"""The written-out gradients of the low-rank updates."""

from typing import Any

import pytest

torch = pytest.importorskip("torch")

RANKS = (1, 3)
SPANS = (slice(0, 4), slice(4, 6))


def adapters(weights: tuple[Any, ...], kept: Any = None) -> list[Any]:
    from train_jobs.packed.low_rank import LowRank

    pairs = zip(weights[::2], weights[1::2], strict=True)
    masks = (kept, None)
    return [
        LowRank(SPANS[slot], down, up, scaling=0.5 + slot, kept=masks[slot]) for slot, (down, up) in enumerate(pairs)
    ]


def tensors(dtype: Any, learn: bool = True) -> tuple[Any, Any, tuple[Any, ...]]:
    """The base's output (2, 3, 4), what it read (2, 3, 5), and A and B of each slot."""
    torch.manual_seed(0)
    weights = [torch.randn(*shape, dtype=dtype) for rank in RANKS for shape in ((rank, 5), (4, rank))]
    result, inputs = torch.randn(2, 3, 4, dtype=dtype), torch.randn(2, 3, 5, dtype=dtype)
    for tensor in (result, inputs, *weights):
        tensor.requires_grad_(learn)
    return result, inputs, tuple(weights)


@pytest.mark.parametrize("dropped", [False, True])
def test_gradients_are_those_of_finite_differences(dropped: bool) -> None:
    from train_jobs.packed.low_rank import add_updates

    kept = (torch.rand(4, 5) < 0.5).double() if dropped else None
    result, inputs, weights = tensors(torch.float64)

    def updated(result: Any, inputs: Any, *weights: Any) -> Any:
        return add_updates(result, inputs, adapters(weights, kept), torch.float64)

    assert torch.autograd.gradcheck(updated, (result, inputs, *weights))


def test_each_token_gets_the_update_of_its_own_slot() -> None:
    from train_jobs.packed.low_rank import add_updates

    result, inputs, weights = tensors(torch.float64, learn=False)
    found = add_updates(result, inputs, adapters(weights), torch.float64).view(6, 4)
    for slot, span in enumerate(SPANS):
        down, up = weights[2 * slot : 2 * slot + 2]
        own = inputs.view(6, 5)[span] @ down.t() @ up.t() * (0.5 + slot)
        torch.testing.assert_close(found[span], result.view(6, 4)[span] + own)


def test_float32_products_on_bfloat16_are_rounded_once() -> None:
    from train_jobs.packed.low_rank import add_updates

    result, inputs, weights = tensors(torch.float32, learn=False)
    coarse, read = result.bfloat16(), inputs.bfloat16()
    found = add_updates(coarse, read, adapters(weights), torch.float32)
    exact = add_updates(coarse.float(), read.float(), adapters(weights), torch.float32)
    assert found.dtype == torch.bfloat16
    assert torch.equal(found, exact.bfloat16())
