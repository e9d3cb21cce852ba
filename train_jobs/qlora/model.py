"""The frozen base, its tokenizer and the adapter's shape, as every training process loads them."""

from __future__ import annotations

from typing import Any

from core.settings import get_settings
from train_jobs.qlora.config import QLoraConfig


def load_tokenizer(config: QLoraConfig) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(get_settings().model_path(config.base_model))


def load_base(config: QLoraConfig, quantize: bool, device: str | None = None) -> Any:
    """The frozen base, on this Ray Train worker's device unless another one is named."""
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(
        get_settings().model_path(config.base_model),
        dtype=torch_dtype(config),
        attn_implementation=config.attention,
        quantization_config=nf4(config) if quantize else None,
        # ZeRO-3 places the weights itself, a share of each on every worker.
        device_map=None if config.deepspeed_stage == 3 else {"": device or worker_device()},
    )
    keep_differentiable(model)
    return model


def worker_device() -> str:
    """The device that Ray Train gave to this process."""
    import ray.train.torch

    return str(ray.train.torch.get_device())


def torch_dtype(config: QLoraConfig) -> Any:
    import torch

    return getattr(torch, config.dtype)


def nf4(config: QLoraConfig) -> Any:
    """4-bit NormalFloat, its constants in 8 bits with ``double_quant`` (QLoRA, arXiv 2305.14314)."""
    import torch
    from transformers import BitsAndBytesConfig

    dtype = torch_dtype(config)
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=config.double_quant,
        bnb_4bit_compute_dtype=dtype,
        # ZeRO-3 cuts weights of one dtype: the packed nibbles have to look like the model's other weights.
        bnb_4bit_quant_storage=dtype if config.deepspeed_stage == 3 else torch.uint8,
    )


def keep_differentiable(model: Any) -> None:
    """Stop bitsandbytes from repacking 4-bit weights for inference on CPUs.

    The first evaluation would repack them, for good, for a kernel that has no gradient: training would go on
    with only a warning and with gradients that miss every layer but the last.
    """
    from bitsandbytes.nn import Linear4bit

    for module in model.modules():
        if isinstance(module, Linear4bit):
            module.support_avx512bf16_for_cpu = False


def lora_config(config: QLoraConfig) -> Any:
    from peft import LoraConfig

    named = config.target_modules
    return LoraConfig(
        task_type="CAUSAL_LM",
        r=config.rank,
        lora_alpha=config.alpha,
        lora_dropout=config.dropout,
        target_modules=named if isinstance(named, str) else list(named),
    )


def set_adapter_types(model: Any, config: QLoraConfig) -> None:
    """Weights of the adapters in float32; where the base computes in bfloat16, their products are too.

    TRL puts adapters on a 4-bit base into bfloat16, where the small late updates of AdamW round to nothing.
    """
    import torch

    for parameter in model.parameters():
        if parameter.requires_grad and not config.deepspeed_stage:
            parameter.data = parameter.data.to(torch.float32)
    if config.bf16 and not config.use_gpu:  # on GPUs autocast does it
        multiply_in_bfloat16(model)


def multiply_in_bfloat16(model: Any) -> None:
    """Let float32 adapters multiply in bfloat16, as autocast does on GPUs; weights and optimiser stay float32.

    For CPUs, where autocast would slow the base down: 25 steps of haneul's adapter took 16.7 s instead of 18.9.
    """
    import torch
    from peft.tuners.lora import LoraLayer

    class Bfloat16Linear(torch.nn.Linear):
        def forward(self, input: Any) -> Any:
            weight = self.weight.to(torch.bfloat16)
            return torch.nn.functional.linear(input.to(torch.bfloat16), weight)

    for layer in model.modules():
        if isinstance(layer, LoraLayer):
            layer.cast_input_dtype_enabled = False
            for part in (*layer.lora_A.values(), *layer.lora_B.values()):
                part.__class__ = Bfloat16Linear
