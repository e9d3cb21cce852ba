"""A 16-bit model made smaller for serving, calibrated on its character's conversations, and a check of its answers.

``awq`` and ``w8a8`` are llm-compressor's, which lives in an environment of its own (docs/merging.md); ``w8a8-rtn``
rounds without calibration and needs nothing more::

    python -m train_jobs.quantize --model outputs/merged/haneul-v5 --scheme awq --character haneul \
        --out outputs/served/haneul-v5
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from core.contracts import utc_now
from core.errors import ArtistMindError, ConfigurationError, SetupError
from core.logs import get_logger, setup_logging
from core.provenance import code_revision
from core.settings import PROJECT_ROOT, Settings, get_settings
from train_jobs.agreement import (
    Agreement,
    Check,
    add_check_options,
    check_of,
    compare_model,
    conclude,
    load_model,
    positive,
    reference_turns,
)
from train_jobs.merge import PROVENANCE_NAME, check_output, check_space
from train_jobs.qlora.config import DataConfig, QLoraConfig
from train_jobs.qlora.data import Messages, composed_rows, load_conversations, rows_hash
from train_jobs.qlora.publish import content_hash
from train_jobs.reference.output import swap_in

OWN_PYTHON = PROJECT_ROOT / ".venv-quantize" / "bin" / "python"
OWN_ENVIRONMENT = (
    "python3.11 -m venv .venv-quantize && .venv-quantize/bin/pip install -r requirements/quantize.txt "
    "(docs/merging.md; --python names another place)"
)
WITHOUT_CALIBRATION = "w8a8-rtn"
SCHEMES = ("awq", "w8a8", WITHOUT_CALIBRATION)


@dataclass(frozen=True, slots=True)
class Calibration:
    """The conversations that scales and roundings are fitted to."""

    name: str
    """A data set version, or ``composed``."""

    rows: list[list[int]]
    """Token ids of each conversation."""

    digest: str
    """Hash of the conversations."""


class QuantizeOrigin(BaseModel):
    """Where a quantised model comes from."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    made_by: Literal["train_jobs.quantize"] = "train_jobs.quantize"
    """What may write over the folder."""

    model: str
    """Name of the 16-bit model's folder."""

    model_weights: str
    """Hash of its weights."""

    model_origin: dict[str, Any] | None
    """Its own provenance; ``None``: it has none."""

    scheme: str
    """``awq``, ``w8a8`` or ``w8a8-rtn``."""

    quantized_by: str
    """The library and its version."""

    calibration: str | None
    """What it was calibrated on; ``None``: without calibration."""

    calibration_hash: str | None
    """Hash of those conversations."""

    calibration_rows: int
    """How many they were."""

    code_revision: str
    """Commit of the code."""

    created_at: str
    """UTC, ISO 8601."""


def calibration(
    tokenizer: Any, character: str, data: str | None, count: int, max_length: int, settings: Settings
) -> Calibration:
    """``count`` of the character's conversations as tokens, longer ones left out.

    Args:
        tokenizer: The model's.
        character: Whose conversations.
        data: A data set version; ``None`` composes conversations from the character's folder.
        count: How many at most.
        max_length: Tokens of the longest.
        settings: Where versions lie.

    Raises:
        ConfigurationError: No conversation is short enough, or there is no such version or character.
    """
    found = _of_version(character, data, count, settings) if data else composed_rows(character, count, seed=0)
    encoded = [tokenizer.apply_chat_template(row, return_dict=True)["input_ids"] for row in found]
    rows = [list(tokens) for tokens in encoded if len(tokens) <= max_length]
    if not rows:
        raise ConfigurationError(
            f"none of {len(found)} conversations has at most {max_length} tokens: raise --max-length"
        )
    return Calibration(data or "composed", rows, rows_hash(found))


def _of_version(character: str, data: str, count: int, settings: Settings) -> list[Messages]:
    config = QLoraConfig(character=character, data=DataConfig(version=data))
    learned = load_conversations(config, settings).train
    return random.Random(0).sample(learned, min(count, len(learned)))


def round_to_nearest(model: Any, folder: Path) -> None:
    """Write the model with 8-bit weights, a scale for each output channel, and 8-bit activations scaled as they come.

    The scheme that vLLM calls INT8 W8A8. Nothing is calibrated: the weights are rounded to the nearest step
    (``max |w| / 127.5`` of their channel), the activations' scales are found for each token while serving.
    """
    from compressed_tensors.compressors import ModelCompressor
    from compressed_tensors.quantization import (
        QuantizationConfig,
        apply_quantization_config,
        preset_name_to_scheme,
    )
    from compressed_tensors.quantization.utils import calculate_qparams, is_module_quantized

    scheme = preset_name_to_scheme("W8A8", ["Linear"])
    apply_quantization_config(model, QuantizationConfig(config_groups={"group_0": scheme}, ignore=["lm_head"]))
    for layer in filter(is_module_quantized, model.modules()):
        low, high = layer.weight.aminmax(dim=1, keepdim=True)
        scale, _ = calculate_qparams(low, high, layer.quantization_scheme.weights)
        layer.weight_scale.data.copy_(scale)
    compressor = ModelCompressor.from_pretrained_model(model)
    compressor.compress_model(model)
    model.save_pretrained(folder)
    compressor.update_config(str(folder))


def run_llm_compressor(python: Path, model: str, scheme: str, rows: Sequence[list[int]], folder: Path) -> None:
    """Quantise in llm-compressor's own environment; what it says goes to the terminal.

    Raises:
        ArtistMindError: It failed.
    """
    with TemporaryDirectory(prefix="calibration-") as scratch:
        lines = Path(scratch) / "rows.jsonl"
        lines.write_text("".join(json.dumps({"input_ids": row}) + "\n" for row in rows), encoding="utf-8")
        command = [str(python), "-m", "train_jobs.oneshot", "--model", model, "--scheme", scheme]
        command += ["--calibration", str(lines), "--out", str(folder)]
        # Its progress bars are thousands of lines where nobody watches them.
        quiet = {} if sys.stderr.isatty() else {"TQDM_DISABLE": "1"}
        done = subprocess.run(command, cwd=PROJECT_ROOT, env={**os.environ, **quiet}, check=False)
    if done.returncode:
        raise ArtistMindError(
            f"llm-compressor failed ({scheme}, exit code {done.returncode}): its last lines say why"
        )


def own_python(scheme: str, named: Path | None) -> Path | None:
    """The interpreter that has llm-compressor; ``None`` where the scheme needs none.

    Raises:
        SetupError: There is no such environment; says how to make it.
    """
    if scheme == WITHOUT_CALIBRATION:
        return None
    python = (named or OWN_PYTHON).absolute()  # not resolved: the link is what makes it that environment's
    if not python.is_file():
        raise SetupError(
            f"{scheme} needs llm-compressor in an environment of its own, and {python} is none: "
            f"{OWN_ENVIRONMENT}; {WITHOUT_CALIBRATION} needs none"
        )
    return python


def llm_compressor(python: Path) -> str:
    """The library and the version of it that an interpreter has.

    Raises:
        SetupError: It has none; says how to make an environment with it.
    """
    asked = "from importlib.metadata import version; print(version('llmcompressor'))"
    try:
        done = subprocess.run([str(python), "-c", asked], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise SetupError(f"{python} has no llm-compressor: {OWN_ENVIRONMENT}") from error
    return f"llmcompressor=={done.stdout.strip()}"


def quantize(
    model: str, scheme: str, python: Path | None, data: Calibration | None, out: Path, check: Check
) -> Agreement:
    """Write the quantised model, its provenance and its agreement with the 16-bit one.

    The folder appears at ``out`` when everything in it is written and the agreement is high enough.

    Args:
        model: Folder of the 16-bit model.
        scheme: One of ``SCHEMES``.
        python: llm-compressor's interpreter; ``None`` with ``w8a8-rtn``.
        data: What to calibrate on; ``None`` with ``w8a8-rtn``.
        out: Folder that takes the quantised model.
        check: How the agreement is measured.

    Raises:
        SetupError: The interpreter has no llm-compressor.
        ArtistMindError: llm-compressor failed, or fewer tokens agree than demanded.
    """
    from transformers import AutoTokenizer

    tool = llm_compressor(python) if python else f"compressed-tensors=={version('compressed-tensors')}"
    tokenizer = AutoTokenizer.from_pretrained(model)
    whole = load_model(model, check.device)
    turns = reference_turns(whole, tokenizer, check)
    with swap_in(out) as folder:
        if python and data:
            del whole
            run_llm_compressor(python, model, scheme, data.rows, folder)
        else:
            round_to_nearest(whole, folder)
            del whole
        tokenizer.save_pretrained(folder)
        (folder / PROVENANCE_NAME).write_text(
            origin_of(model, scheme, tool, data).model_dump_json(indent=2) + "\n", encoding="utf-8"
        )
        name = Path(model).name
        found = compare_model(turns, name, folder, check.device, name=f"{scheme} of {name}")
        return conclude(found, folder, check.minimum)


def origin_of(model: str, scheme: str, tool: str, data: Calibration | None) -> QuantizeOrigin:
    """The provenance of a model that was just quantised."""
    parent = Path(model) / PROVENANCE_NAME
    return QuantizeOrigin(
        model=Path(model).name,
        model_weights=content_hash(list(Path(model).glob("*.safetensors"))),
        model_origin=json.loads(parent.read_text(encoding="utf-8")) if parent.is_file() else None,
        scheme=scheme,
        quantized_by=tool,
        calibration=data.name if data else None,
        calibration_hash=data.digest if data else None,
        calibration_rows=len(data.rows) if data else 0,
        code_revision=code_revision(),
        created_at=utc_now().isoformat(timespec="seconds"),
    )


def whole_model(text: str, settings: Settings) -> str:
    """The folder of a 16-bit model.

    Raises:
        ConfigurationError: It is no folder with a model, or the model is quantised already.
    """
    folder = Path(settings.model_path(text))
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"--model {text}: no folder with a model (config.json)") from error
    if "quantization_config" in config:
        raise ConfigurationError(f"--model {text} is quantised already: give the 16-bit one")
    return str(folder.resolve())


def parser() -> argparse.ArgumentParser:
    described = argparse.ArgumentParser(prog="python -m train_jobs.quantize", description=__doc__.splitlines()[0])
    described.add_argument("--model", required=True, help="folder of a 16-bit model, such as train_jobs.merge writes")
    described.add_argument("--scheme", required=True, choices=SCHEMES)
    described.add_argument("--out", type=Path, required=True, help="folder that takes the quantised model")
    described.add_argument("--data", help="data set version to calibrate on; unset: conversations are composed")
    described.add_argument("--samples", type=positive, default=256, help="conversations to calibrate on")
    described.add_argument("--max-length", type=positive, default=2048, help="tokens of the longest of them")
    described.add_argument("--python", type=Path, help="llm-compressor's interpreter, see docs/merging.md")
    add_check_options(described)
    return described


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse, quantise, check. 2: the settings are wrong and nothing was written; 1: it failed, or its check did."""
    options = parser().parse_args(arguments)
    try:
        settings = get_settings()
        setup_logging(settings)
        run(options, settings)
    except ArtistMindError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2 if isinstance(error, ConfigurationError) else 1
    return 0


def run(options: argparse.Namespace, settings: Settings) -> Agreement:
    """Check the settings, then quantise."""
    from transformers import AutoTokenizer

    out = options.out.resolve()
    check_output(out, QuantizeOrigin)
    python = own_python(options.scheme, options.python)
    model = whole_model(options.model, settings)
    check_space(out, model)
    data = None
    if python:
        tokenizer = AutoTokenizer.from_pretrained(model)
        data = calibration(tokenizer, options.character, options.data, options.samples, options.max_length, settings)
        get_logger("quantize").info("calibration", rows=len(data.rows), tokens=sum(map(len, data.rows)))
    return quantize(model, options.scheme, python, data, out, check_of(options, options.character))


if __name__ == "__main__":
    raise SystemExit(main())
