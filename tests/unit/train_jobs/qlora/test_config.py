"""Settings of the fine-tuning job: what is accepted, and how wrong ones are told."""

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from core.errors import ConfigurationError
from train_jobs.config import load_config
from train_jobs.qlora.config import QLoraConfig, learned_settings

CONFIGS = Path(__file__).parents[4] / "train_jobs" / "configs"
SHIPPED = sorted(CONFIGS.glob("*.yaml"))
ON_GPUS = {"final", "llama31-8b", "mistral-7b", "solar-10.7b", "bllossom-8b", "kelron-14b-2xT4"}


@pytest.fixture
def minimal(tmp_path: Path) -> Path:
    path = tmp_path / "run.yaml"
    path.write_text("character: haneul\n", encoding="utf-8")
    return path


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_shipped_configs_are_valid(path: Path) -> None:
    config = load_config(QLoraConfig, path)
    assert config.use_gpu == (path.stem in ON_GPUS)


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_shipped_configs_begin_with_purpose_hardware_memory_and_their_own_command(path: Path) -> None:
    head = path.read_text(encoding="utf-8").splitlines()[:4]
    assert [line.split(":")[0] for line in head] == ["# Purpose", "# Hardware", "# Memory", "# Command"]
    assert head[3].endswith(f"python -m train_jobs.qlora --config train_jobs/configs/{path.name}")


def test_all_configs_ship() -> None:
    assert {path.stem for path in SHIPPED} >= {"haneul", "kelron", "smoke", "local", *ON_GPUS}


def test_the_final_settings_are_the_promised_ones() -> None:
    final = load_config(QLoraConfig, CONFIGS / "final.yaml")
    assert (final.rank, final.alpha, final.dropout, final.epochs) == (64, 128, 0.05, 3)
    assert (final.batch_size, final.accumulation, final.quantize) == (4, 8, True)


def test_a_gpu_without_bfloat16_computes_in_float16() -> None:
    assert load_config(QLoraConfig, CONFIGS / "kelron-14b-2xT4.yaml").dtype == "float16"
    assert load_config(QLoraConfig, CONFIGS / "final.yaml").dtype == "bfloat16"


@pytest.mark.parametrize(("given", "least", "most"), [("2", 2, 2), ("[1, 2]", 1, 2), ("[4, 4]", 4, 4)])
def test_workers_are_a_number_or_a_range(minimal: Path, given: str, least: int, most: int) -> None:
    config = load_config(QLoraConfig, minimal, [f"num_workers={given}"])
    assert (config.least_workers, config.most_workers) == (least, most)


@given(least=st.integers(1, 6), more=st.integers(0, 5), accumulation=st.integers(1, 24))
def test_a_range_holds_only_workers_that_can_share_a_step(least: int, more: int, accumulation: int) -> None:
    most = least + more
    settings = {"character": "haneul", "num_workers": (least, most), "accumulation": accumulation}
    if all(accumulation * most % workers == 0 for workers in range(least, most + 1)):
        QLoraConfig.model_validate(settings)
        return
    with pytest.raises(ValidationError, match="set accumulation to a multiple of") as caught:
        QLoraConfig.model_validate(settings)
    said = re.search(r"a multiple of (\d+)", str(caught.value))
    assert said
    QLoraConfig.model_validate(settings | {"accumulation": 2 * int(said[1])})


@pytest.mark.parametrize("character", ["haneul", "kelron"])
def test_shipped_adapters_fit_the_engines_rank(character: str) -> None:
    config = load_config(QLoraConfig, CONFIGS / f"{character}.yaml")
    assert (config.character, config.rank, config.quantize) == (character, 16, True)


def test_overrides_replace_plain_and_nested_settings(minimal: Path) -> None:
    config = load_config(QLoraConfig, minimal, ["learning_rate=2e-3", "data.count=7", "version=v9"])
    assert (config.learning_rate, config.data.count, config.version) == (0.002, 7, "v9")


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("lerning_rate=1", "lerning_rate: there is no such setting"),
        ("data.cuont=1", "data.cuont: there is no such setting"),
        ("rank=0", "rank: "),
        ("rank", "key=value"),
        ("=3", "key=value"),
        ("character.name=x", "character holds no settings"),
        ("rank=[", "not YAML"),
        ("run_name=../up", "run_name: "),
        ("deepspeed_stage=1", "deepspeed_stage: "),
        ("deepspeed_stage=3", "deepspeed_stage: 3 needs use_gpu"),
        ("num_workers=[4, 1]", "num_workers: a range is written as [least, most]"),
        ("num_workers=[0, 1]", "num_workers"),
        ("num_workers=[1, 4]", "cannot be divided among 3 workers; set accumulation to a multiple of 3"),
        ("fp16=true", "fp16: float16 needs use_gpu"),
        ("gpu_memory_gib=16", "gpu_memory_gib: a GPU's memory needs use_gpu"),
        ("tracker=tensorboard", "tracker: "),
        ("keep_checkpoints=0", "keep_checkpoints: "),
        ("save_minutes=0", "save_minutes: "),
        ("optimizer=paged_adamw_8bit", "needs use_gpu"),
        ("attention=flash_attention_2", "needs use_gpu"),
    ],
)
def test_a_wrong_setting_is_one_line_that_names_it(minimal: Path, override: str, says: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load_config(QLoraConfig, minimal, [override])
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (["use_gpu=true", "fp16=true"], "fp16: set bf16 to false"),
        (["use_gpu=true", "fp16=true", "bf16=false", "deepspeed_stage=2"], "deepspeed_stage: not with fp16"),
        (["deepspeed_stage=2", "num_workers=[1, 2]"], "bound to one number of workers"),
        (["use_gpu=true", "deepspeed_stage=3"], "samples: set it to 0"),
    ],
)
def test_settings_that_do_not_go_together_are_told(minimal: Path, overrides: list[str], says: str) -> None:
    with pytest.raises(ConfigurationError, match=says):
        load_config(QLoraConfig, minimal, overrides)


@pytest.mark.parametrize("text", ["a: [", "- list", "a: {b: c"])
def test_a_file_that_is_no_mapping_is_one_line(tmp_path: Path, text: str) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigurationError) as caught:
        load_config(QLoraConfig, path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"nowhere\.yaml"):
        load_config(QLoraConfig, tmp_path / "nowhere.yaml")


def test_where_a_run_is_kept_is_not_part_of_what_it_learns(minimal: Path) -> None:
    here = load_config(QLoraConfig, minimal, ["storage_path=/a", "publish=false", "wandb_mode=disabled"])
    there = load_config(QLoraConfig, minimal, ["storage_path=/b", "version=v3"])
    faster = load_config(QLoraConfig, minimal, ["learning_rate=1"])
    assert learned_settings(here) == learned_settings(there) != learned_settings(faster)
