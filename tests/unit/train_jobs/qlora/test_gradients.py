"""The 4-bit base must stay differentiable after it was evaluated on a CPU."""

import pytest

torch = pytest.importorskip("torch")
bitsandbytes = pytest.importorskip("bitsandbytes")


def test_gradients_pass_through_the_base_after_an_evaluation() -> None:
    from train_jobs.qlora.model import keep_differentiable

    torch.manual_seed(0)
    layer = bitsandbytes.nn.Linear4bit(64, 64, bias=False, compute_dtype=torch.bfloat16, quant_type="nf4").to("cpu")
    model = torch.nn.Sequential(layer)
    keep_differentiable(model)
    model.eval()
    with torch.no_grad():
        model(torch.randn(4, 64, dtype=torch.bfloat16))
    model.train()
    inputs = torch.randn(4, 64, dtype=torch.bfloat16, requires_grad=True)
    model(inputs).sum().backward()
    weights = bitsandbytes.functional.dequantize_4bit(layer.weight.data, layer.weight.quant_state)
    assert inputs.grad is not None
    torch.testing.assert_close(inputs.grad[0].float(), weights.float().sum(0), atol=0.05, rtol=0.05)
