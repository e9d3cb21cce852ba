"""Loading the frozen base."""

from __future__ import annotations

from functools import partial
from typing import Any

from core.errors import ConfigurationError
from train_jobs.qlora.config import QLoraConfig
from train_jobs.qlora.model import load_base


def load_frozen(
    base: str, *, quantize: bool, bf16: bool, attention: str, device: Any, double_quant: bool = True
) -> Any:
    """The base as the fine-tuning job holds it: NF4, with or without double quantisation, or plain.

    Raises:
        ConfigurationError: There is no such model, or it cannot be read.
    """
    settings = {"base_model": base, "bf16": bf16, "attention": attention, "double_quant": double_quant}
    try:
        # Whose adapters they become is nothing to the base.
        config = QLoraConfig.model_validate({"character": "any", "use_gpu": str(device) != "cpu"} | settings)
        model = load_base(config, quantize, str(device))
    except (OSError, ValueError) as error:  # not there; there, but no model
        raise ConfigurationError(f"{base}: no model can be loaded from there ({_first_line(error)})") from error
    # Dropout of the base's own, where it has any, would draw from one generator for all slots.
    return model.eval().requires_grad_(False)


def hold_dequantized(model: Any) -> None:
    """Keep the weights that the 4 bits stand for beside them, in the type they are multiplied in."""
    from bitsandbytes.functional import dequantize_4bit
    from bitsandbytes.nn import Linear4bit

    for layer in model.modules():
        if isinstance(layer, Linear4bit):
            weight = dequantize_4bit(layer.weight.data, layer.weight.quant_state).to(layer.compute_dtype)
            layer.forward = partial(_multiplied, weight, layer.bias)


def _multiplied(weight: Any, bias: Any, inputs: Any) -> Any:
    """bitsandbytes' forward without its first step."""
    from torch.nn.functional import linear

    return linear(inputs.to(weight.dtype), weight, bias).to(inputs.dtype)


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
