"""Quantising for real, on a random Llama of two layers; with llm-compressor where its environment is there."""

import json
from pathlib import Path
from typing import Any

import pytest

from core.errors import ConfigurationError, SetupError
from core.settings import PROJECT_ROOT, Settings
from data_pipelines.grammar.voices import characters
from train_jobs.agreement import AGREEMENT_NAME
from train_jobs.merge import PROVENANCE_NAME
from train_jobs.qlora.publish import content_hash
from train_jobs.quantize import OWN_PYTHON, SCHEMES, QuantizeOrigin, calibration, llm_compressor, main, own_python

torch = pytest.importorskip("torch")
pytest.importorskip("compressed_tensors")

SHORT = ("--character", "haneul", "--prompts", "2", "--reply-tokens", "8", "--samples", "6", "--max-length", "2048")


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(PROJECT_ROOT / "models" / "base")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory, tokenizer: Any) -> Path:
    from transformers import LlamaConfig, LlamaForCausalLM

    folder = tmp_path_factory.mktemp("whole") / "micro"
    torch.manual_seed(0)
    shape = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=2048,
        tie_word_embeddings=True,
        initializer_range=0.2,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    LlamaForCausalLM(shape).to(torch.bfloat16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    (folder / PROVENANCE_NAME).write_text('{"adapter": "haneul/v1"}', encoding="utf-8")
    return folder


def weights(folder: Path) -> dict[str, Any]:
    from safetensors.torch import load_file

    return load_file(folder / "model.safetensors")


LAYER = "model.layers.1.mlp.down_proj"


def test_rounding_to_nearest_keeps_every_weight_within_half_a_step(model: Path, tmp_path: Path) -> None:
    out = tmp_path / "small"
    assert main(["--model", str(model), "--scheme", "w8a8-rtn", "--out", str(out), *SHORT]) == 0
    whole, small = weights(model), weights(out)
    steps, scale = small[f"{LAYER}.weight"], small[f"{LAYER}.weight_scale"].float()
    assert steps.dtype == torch.int8
    assert scale.shape == (64, 1)
    error = (steps.float() * scale - whole[f"{LAYER}.weight"].float()).abs()
    # A scale is kept in bfloat16: over 127 steps its rounding adds up to half a step more.
    assert bool((error <= scale * 1.01).all())
    assert error.mean() > 0
    assert small["model.embed_tokens.weight"].dtype == torch.bfloat16


def test_a_quantised_folder_says_where_it_comes_from_and_how_well_it_answers(model: Path, tmp_path: Path) -> None:
    out = tmp_path / "small"
    assert main(["--model", str(model), "--scheme", "w8a8-rtn", "--out", str(out), *SHORT]) == 0
    origin = QuantizeOrigin.model_validate_json((out / PROVENANCE_NAME).read_text(encoding="utf-8"))
    assert origin.model_weights == content_hash([model / "model.safetensors"])
    assert (origin.model, origin.scheme, origin.calibration) == ("micro", "w8a8-rtn", None)
    assert origin.model_origin == {"adapter": "haneul/v1"}
    config = json.loads((out / "config.json").read_text(encoding="utf-8"))["quantization_config"]
    assert (config["quant_method"], config["format"], config["ignore"]) == (
        "compressed-tensors",
        "int-quantized",
        ["lm_head"],
    )
    agreement = json.loads((out / AGREEMENT_NAME).read_text(encoding="utf-8"))
    assert agreement["candidate"] == "w8a8-rtn of micro"
    assert 0.5 < agreement["agreeing_tokens"] <= 1
    assert {file.name for file in out.iterdir()} >= {
        "generation_config.json",
        "chat_template.jinja",
        "tokenizer.json",
    }


@pytest.mark.slow
@pytest.mark.skipif(not OWN_PYTHON.is_file(), reason="needs llm-compressor's environment, see docs/merging.md")
@pytest.mark.parametrize("scheme", ["awq", "w8a8"])
def test_llm_compressor_calibrates_on_the_character_s_conversations(scheme: str, model: Path, tmp_path: Path) -> None:
    out = tmp_path / "small"
    assert main(["--model", str(model), "--scheme", scheme, "--out", str(out), *SHORT]) == 0
    origin = QuantizeOrigin.model_validate_json((out / PROVENANCE_NAME).read_text(encoding="utf-8"))
    assert (origin.calibration, origin.calibration_rows) == ("composed", 6)
    stored = f"{LAYER}.weight_packed" if scheme == "awq" else f"{LAYER}.weight"
    assert weights(out)[stored].dtype == (torch.int32 if scheme == "awq" else torch.int8)


def test_calibration_is_the_character_s_own_talk_in_the_model_s_template(tokenizer: Any) -> None:
    found = calibration(tokenizer, "haneul", None, count=5, max_length=2048, settings=Settings())
    assert len(found.rows) == 5
    assert all(row[0] == tokenizer.convert_tokens_to_ids("<|im_start|>") for row in found.rows)
    again = calibration(tokenizer, "haneul", None, count=5, max_length=2048, settings=Settings())
    assert again.digest == found.digest
    assert calibration(tokenizer, "kelron", None, 5, 2048, Settings()).digest != found.digest


def test_long_conversations_are_left_out_and_none_left_is_an_error(tokenizer: Any) -> None:
    lengths = [len(row) for row in calibration(tokenizer, "haneul", None, 20, 2048, Settings()).rows]
    limit = sorted(lengths)[10]
    kept = calibration(tokenizer, "haneul", None, 20, limit, Settings()).rows
    assert [len(row) for row in kept] == [length for length in lengths if length <= limit]
    with pytest.raises(ConfigurationError, match="raise --max-length"):
        calibration(tokenizer, "haneul", None, 20, 3, Settings())


@pytest.mark.parametrize("scheme", SCHEMES)
def test_only_calibrated_schemes_need_the_other_environment(scheme: str, tmp_path: Path) -> None:
    if scheme == "w8a8-rtn":
        assert own_python(scheme, tmp_path / "nowhere") is None
        return
    with pytest.raises(SetupError, match=r"-m venv .* -r requirements/quantize\.txt") as caught:
        own_python(scheme, tmp_path / "nowhere")
    assert "\n" not in str(caught.value)


def test_the_environment_that_is_named_is_used_as_it_is(tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.touch()
    link = tmp_path / "link"
    link.symlink_to(python)
    assert own_python("awq", link) == link


def test_a_failing_llm_compressor_leaves_nothing_at_the_output(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = tmp_path / "python"
    broken.write_text('#!/bin/sh\n[ "$1" = -c ] && echo 0.14.0.1 && exit\nexit 3\n', encoding="utf-8")
    broken.chmod(0o755)
    arguments = ["--model", str(model), "--scheme", "awq", "--python", str(broken), "--out", str(tmp_path / "small")]
    assert main([*arguments, *SHORT]) == 1
    assert "exit code 3" in capsys.readouterr().err
    assert not (tmp_path / "small").exists()


def test_an_interpreter_without_llm_compressor_is_refused(tmp_path: Path) -> None:
    for text in ("#!/bin/sh\nexit 1\n", "no program"):
        python = tmp_path / "python"
        python.write_text(text, encoding="utf-8")
        python.chmod(0o755)
        with pytest.raises(SetupError, match="has no llm-compressor"):
            llm_compressor(python)


def test_a_quantised_model_and_a_missing_one_are_refused(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "config.json").write_text('{"quantization_config": {}}', encoding="utf-8")
    for folder, says in ((tmp_path, "is quantised already"), (tmp_path / "nowhere", "no folder with a model")):
        assert main(["--model", str(folder), "--scheme", "w8a8-rtn", "--out", str(tmp_path / "out"), *SHORT]) == 2
        assert says in capsys.readouterr().err


def test_every_character_has_conversations_to_calibrate_on(tokenizer: Any) -> None:
    assert all(calibration(tokenizer, name, None, 2, 4096, Settings()).rows for name in characters())
