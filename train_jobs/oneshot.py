"""Quantise a model with llm-compressor, calibrated on token sequences.

Runs in llm-compressor's own environment, whose Transformers is older than ours, and therefore imports nothing of
ours. ``train_jobs.quantize`` starts it::

    <its python> -m train_jobs.oneshot --model DIR --scheme awq --calibration rows.jsonl --out DIR
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

SMOOTHING_STRENGTH = 0.8
"""How much of the activations' outliers goes into the weights; the value of llm-compressor's own W8A8 recipes."""

GROUP_SIZES = (128, 64, 32)
"""Weights that share one 4-bit scale, in the order of preference; vLLM's kernels know these."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m train_jobs.oneshot", description=__doc__.splitlines()[0])
    parser.add_argument("--model", required=True)
    parser.add_argument("--scheme", required=True, choices=("awq", "w8a8"))
    parser.add_argument("--calibration", type=Path, required=True, help='JSON lines, {"input_ids": […]} each')
    parser.add_argument("--out", required=True)
    options = parser.parse_args()
    lines = options.calibration.read_text(encoding="utf-8").splitlines()
    quantize(options.model, options.scheme, [json.loads(line)["input_ids"] for line in lines], options.out)
    return 0


def quantize(path: str, scheme: str, rows: list[list[int]], out: str) -> None:
    """Write the model in ``path`` to ``out``, quantised, in the compressed-tensors format."""
    from datasets import Dataset
    from llmcompressor import oneshot
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(path, dtype="auto")
    do_not_pin_without_accelerator()
    oneshot(
        model=model,
        dataset=Dataset.from_list([{"input_ids": row, "attention_mask": [1] * len(row)} for row in rows]),
        recipe=awq_recipe(model) if scheme == "awq" else w8a8_recipe(),
        num_calibration_samples=len(rows),
        shuffle_calibration_samples=False,
        max_seq_length=max(map(len, rows)),
    )
    model.save_pretrained(out, save_compressed=True)


def w8a8_recipe() -> list[Any]:
    """SmoothQuant (arXiv 2211.10438), then GPTQ (arXiv 2210.17323): 8-bit channels, 8-bit tokens."""
    from llmcompressor.modifiers.gptq import GPTQModifier
    from llmcompressor.modifiers.transform import SmoothQuantModifier

    return [
        SmoothQuantModifier(smoothing_strength=SMOOTHING_STRENGTH),
        GPTQModifier(targets="Linear", scheme="W8A8", ignore=["lm_head"]),
    ]


def awq_recipe(model: Any) -> list[Any]:
    """AWQ (arXiv 2306.00978): 4-bit weights in groups with a zero point, 16-bit activations."""
    from compressed_tensors.quantization import QuantizationArgs, QuantizationScheme
    from llmcompressor.modifiers.quantization import QuantizationModifier
    from llmcompressor.modifiers.transform import AWQModifier

    weights = QuantizationArgs(
        num_bits=4, type="int", strategy="group", group_size=group_size(model), symmetric=False
    )
    scheme = QuantizationScheme(targets=["Linear"], weights=weights)
    return [
        AWQModifier(duo_scaling="both"),
        QuantizationModifier(config_groups={"group_0": scheme}, ignore=["lm_head"]),
    ]


def group_size(model: Any) -> int:
    """The largest group that divides the rows of every quantised layer."""
    from torch.nn import Linear

    layers = {
        name: layer for name, layer in model.named_modules() if isinstance(layer, Linear) and "lm_head" not in name
    }
    for size in GROUP_SIZES:
        if all(layer.in_features % size == 0 for layer in layers.values()):
            return size
    odd = next(name for name, layer in layers.items() if layer.in_features % GROUP_SIZES[-1])
    raise SystemExit(f"error: {odd} cannot be cut into groups of {GROUP_SIZES[-1]}; use another scheme")


def do_not_pin_without_accelerator() -> None:
    """llm-compressor 0.14's AWQ pins its cache for copies to a GPU, which raises where there is none."""
    import torch
    from llmcompressor.pipelines.cache import IntermediatesCache

    if not torch.accelerator.is_available():
        IntermediatesCache.pin_memory = lambda *_, **__: None


if __name__ == "__main__":
    raise SystemExit(main())
