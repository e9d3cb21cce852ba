"""What is found before Ray starts: ranks, GPUs, layers, memory and disk; and the shipped settings against it."""

import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("peft")

from core.errors import ConfigurationError
from core.settings import PROJECT_ROOT, get_settings
from train_jobs.config import load_config
from train_jobs.qlora import preflight
from train_jobs.qlora.config import QLoraConfig
from train_jobs.qlora.estimate import GIB, Shape, checkpoint_bytes, estimate, fits_in_16_bits
from train_jobs.qlora.storage import RunStorage

CONFIGS = sorted((PROJECT_ROOT / "train_jobs" / "configs").glob("*.yaml"))
LLAMA_8B = Shape(
    linear_weights=6_979_321_856,
    other_weights=1_050_939_392,
    adapter_weights=41_943_040,
    adapted_inputs=38_912,
    layers=32,
    hidden=4096,
    intermediate=14336,
    queries=4096,
    keys=1024,
    heads=32,
    vocabulary=128_256,
)


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preflight, "gpus_gib", list)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)


def base(config: QLoraConfig) -> str:
    return get_settings().model_path(config.base_model)


def storage(tmp_path: Path) -> RunStorage:
    return RunStorage(str(tmp_path), tmp_path / "run", remote=False)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_shipped_settings_fit_their_hardware_and_say_how_much_they_need(
    path: Path, tmp_path: Path, no_gpu: None
) -> None:
    config = load_config(QLoraConfig, path)
    preflight.check_rank(config, get_settings())
    checked = preflight.check_base(config, base(config), storage(tmp_path))
    said = re.search(r"^# Memory: +about ([\d.]+) GiB", path.read_text(encoding="utf-8"), re.MULTILINE)
    assert said, "the header names the memory"
    assert float(said[1]) == pytest.approx(checked.needed.gib, abs=0.15)


def test_the_base_on_the_meta_device_has_its_published_size(no_gpu: None) -> None:
    config = QLoraConfig(character="haneul", base_model="meta-llama/Llama-3.1-8B-Instruct", rank=16)
    assert preflight.meta_shape(config, config.base_model) == LLAMA_8B


def test_nf4_takes_about_a_quarter_of_16_bits() -> None:
    four = estimate(QLoraConfig(character="haneul"), LLAMA_8B)
    sixteen = estimate(QLoraConfig(character="haneul", quantize=False), LLAMA_8B)
    assert sixteen.weights == 2 * (LLAMA_8B.linear_weights + LLAMA_8B.other_weights)
    assert (four.weights - 2 * LLAMA_8B.other_weights) / LLAMA_8B.linear_weights == pytest.approx(4.127 / 8, abs=1e-4)


def test_without_double_quantisation_each_block_of_64_weights_has_a_32_bit_constant() -> None:
    given = {"character": "haneul", "double_quant": False}
    single = estimate(QLoraConfig.model_validate(given), LLAMA_8B)
    assert (single.weights - 2 * LLAMA_8B.other_weights) / LLAMA_8B.linear_weights == 4.5 / 8
    plain = {**given, "quantize": False}
    assert estimate(QLoraConfig.model_validate(plain), LLAMA_8B) == estimate(
        QLoraConfig(character="haneul", quantize=False), LLAMA_8B
    )


@pytest.mark.parametrize("wanted", [True, False])
def test_double_quantisation_reaches_bitsandbytes(wanted: bool) -> None:
    pytest.importorskip("bitsandbytes")
    from train_jobs.qlora.model import nf4

    assert nf4(QLoraConfig(character="haneul", double_quant=wanted)).bnb_4bit_use_double_quant == wanted


@pytest.mark.parametrize(
    ("more", "less"),
    [
        ({}, {"gradient_checkpointing": True}),
        ({"double_quant": False}, {}),
        ({"dropout": 0.1}, {}),
        ({"attention": "eager"}, {}),
        ({"batch_size": 8}, {"batch_size": 4}),
        ({"max_length": 2048}, {"max_length": 1024}),
        ({"use_gpu": True}, {"use_gpu": True, "optimizer": "paged_adamw_8bit"}),
        (
            {"use_gpu": True, "samples": 0, "num_workers": 4},
            {"use_gpu": True, "samples": 0, "num_workers": 4, "deepspeed_stage": 3},
        ),
    ],
)
def test_the_estimate_moves_with_the_settings(more: dict[str, Any], less: dict[str, Any]) -> None:
    large, small = (estimate(QLoraConfig(character="haneul", **changes), LLAMA_8B) for changes in (more, less))
    assert large.total > small.total


def test_samples_are_answered_in_16_bits_where_they_fit() -> None:
    config = QLoraConfig(character="haneul", use_gpu=True)
    assert [fits_in_16_bits(config, LLAMA_8B, gib) for gib in (None, 24.0, 16.0)] == [True, True, False]


def test_too_little_gpu_memory_is_one_line_with_the_parts(no_gpu: None, tmp_path: Path) -> None:
    config = load_config(QLoraConfig, PROJECT_ROOT / "train_jobs/configs/final.yaml", ["gpu_memory_gib=8"])
    with pytest.raises(ConfigurationError, match=r"gpu_memory_gib: .*weights 5.3.* of 8.0 GiB") as caught:
        preflight.check_base(config, base(config), storage(tmp_path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("targets", "says"),
    [
        (("q_proj", "query"), "has no layer query; it has down_proj, gate_proj"),
        (("q_proj", "lm_head"), "lm_head is the output layer"),
        (r".*\.query", "does not take the adapter"),
    ],
)
def test_a_layer_that_is_not_there_is_named(targets: Any, says: str) -> None:
    config = QLoraConfig(character="haneul", target_modules=targets)
    with pytest.raises(ConfigurationError, match=re.escape(says) if isinstance(targets, tuple) else says):
        preflight.meta_shape(config, base(config))


def test_a_rank_that_the_server_cannot_load_is_refused(tmp_path: Path) -> None:
    settings = get_settings()
    with pytest.raises(
        ConfigurationError, match=r"rank: 32 is more than the max_lora_rank of 16 in serve_local\.yaml"
    ):
        preflight.check_rank(QLoraConfig(character="haneul", rank=32), settings)
    preflight.check_rank(QLoraConfig(character="haneul", rank=32, publish=False), settings)
    preflight.check_rank(QLoraConfig(character="haneul", rank=64, use_gpu=True), settings)
    with pytest.raises(ConfigurationError, match=r"served_by: .* cannot be read"):
        preflight.check_rank(QLoraConfig(character="haneul", served_by=tmp_path / "none.yaml"), settings)
    (tmp_path / "other.yaml").write_text("a: 1", encoding="utf-8")
    with pytest.raises(ConfigurationError, match="is no Serve file"):
        preflight.check_rank(QLoraConfig(character="haneul", served_by=tmp_path / "other.yaml"), settings)


def test_gpus_that_are_not_there_are_refused_unless_a_cluster_is_asked(
    no_gpu: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = QLoraConfig(character="haneul", use_gpu=True, num_workers=(2, 4), accumulation=3)
    with pytest.raises(ConfigurationError, match="use_gpu: num_workers asks for 2 GPUs and this machine has 0"):
        preflight.check_gpus(config)
    preflight.check_gpus(QLoraConfig(character="haneul"))
    monkeypatch.setenv("RAY_ADDRESS", "auto")
    preflight.check_gpus(config)


def test_a_disk_without_room_for_the_checkpoints_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = QLoraConfig(character="haneul", keep_checkpoints=3)
    room = 4 * checkpoint_bytes(config, LLAMA_8B)
    assert room == 4 * 12 * LLAMA_8B.adapter_weights
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=int(room) - 1))
    with pytest.raises(ConfigurationError, match=r"storage_path: .* has 1\.9 GiB free .* need 1\.9 GiB"):
        storage(tmp_path).require_space(int(room))
    storage(tmp_path).require_space(int(room) - 1)
    replace(storage(tmp_path), remote=True).require_space(int(room))


def test_an_unknown_kind_of_base_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "nonesuch"}', encoding="utf-8")
    with pytest.raises(ConfigurationError, match="base_model: the configuration of") as caught:
        preflight.base_architecture(str(tmp_path))
    assert "\n" not in str(caught.value)


def test_the_parts_of_an_estimate_add_up() -> None:
    needed = estimate(QLoraConfig(character="haneul"), LLAMA_8B)
    parts = (getattr(needed, part) for part in needed.__slots__)
    assert needed.gib == pytest.approx(sum(parts) / GIB)
    assert "weights" in needed.line()
