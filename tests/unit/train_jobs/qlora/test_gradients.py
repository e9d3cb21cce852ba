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


def test_adapters_multiply_in_bfloat16_and_learn_in_float32() -> None:
    from peft import LoraConfig, get_peft_model

    from train_jobs.qlora.config import QLoraConfig
    from train_jobs.qlora.model import set_adapter_types

    torch.manual_seed(0)
    base = torch.nn.Sequential(torch.nn.Linear(32, 32, bias=False)).to(torch.bfloat16)
    model = get_peft_model(base, LoraConfig(r=4, target_modules=["0"], init_lora_weights=False))
    adapters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    inputs = torch.randn(8, 32, dtype=torch.bfloat16)
    float32 = QLoraConfig(character="any", bf16=False)
    set_adapter_types(model, float32)
    before = model(inputs).float()
    set_adapter_types(model, float32.model_copy(update={"bf16": True}))
    after = model(inputs)
    assert not torch.equal(after.float(), before), "the products were not rounded"
    torch.testing.assert_close(after.float(), before, atol=0.05, rtol=0.05)
    after.float().pow(2).sum().backward()
    assert len(adapters) == 2
    for parameter in adapters:
        assert parameter.grad is not None
        assert parameter.grad.dtype == parameter.dtype == torch.float32
        assert float(parameter.grad.abs().sum()) > 0
