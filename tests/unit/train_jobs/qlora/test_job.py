"""The fine-tuning job up to the point where Ray would start, and what comes after it."""

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from adapters.manifest import AdapterManifest
from core.errors import ConfigurationError
from core.settings import PROJECT_ROOT, Settings, get_settings
from train_jobs.config import load_config
from train_jobs.qlora import job as qlora_job
from train_jobs.qlora.__main__ import main
from train_jobs.qlora.config import QLoraConfig
from train_jobs.qlora.publish import (
    Provenance,
    build_manifest,
    collect_adapter,
    content_hash,
    portable_base,
    samples_page,
)

SMOKE = PROJECT_ROOT / "train_jobs" / "configs" / "smoke.yaml"
ORIGIN = Provenance("base-hash", "tokenizer-hash", "rows.jsonl", "data-hash", "commit")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("ARTISTMIND_HOME", str(tmp_path))
    get_settings.cache_clear()
    yield tmp_path
    get_settings.cache_clear()


@pytest.fixture
def no_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: QLoraConfig) -> None:
        raise AssertionError("Ray was started")

    monkeypatch.setattr(qlora_job, "connect", refuse)


def config(*overrides: str) -> QLoraConfig:
    return load_config(QLoraConfig, SMOKE, overrides)


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("typo=1", "typo: there is no such setting"),
        ("base_model=nowhere", "base_model: there is no 'nowhere'"),
        ("base_model=./nowhere/base", "base_model: there is no"),
        ("base_model=personas", "config.json is missing"),
        ("data.path=/nowhere.jsonl", "/nowhere.jsonl: cannot be read"),
        ("character=nobody", "nobody"),
        ("max_length=16", "leave 0 to learn"),
        ("data.version=haneul@v404", "no data set version 'haneul@v404'"),
        ("target_modules=[q_proj, query]", "has no layer query"),
        ("optimizer=adamw_tourch", "optimizer: there is no 'adamw_tourch'"),
        ("storage_path=nowhere://bucket", "storage_path: nowhere://bucket cannot be used"),
    ],
)
def test_wrong_settings_end_with_2_and_one_line_before_anything_starts(
    home: Path, no_ray: None, capsys: pytest.CaptureFixture[str], override: str, says: str
) -> None:
    assert main(["--config", str(SMOKE), override]) == 2
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert line.startswith("error: ")
    assert says in line
    assert not (home / "training").exists()


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (["publish=true", "rank=32"], "rank: 32 is more than the max_lora_rank of 16"),
        (["use_gpu=true"], "this machine has 0"),
    ],
)
def test_what_the_machine_or_the_server_lacks_ends_with_2(
    home: Path,
    no_ray: None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    overrides: list[str],
    says: str,
) -> None:
    monkeypatch.setattr("train_jobs.qlora.preflight.gpus_gib", list)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    assert main(["--config", str(SMOKE), *overrides]) == 2
    assert says in capsys.readouterr().err.strip().splitlines()[-1]
    assert not (home / "training").exists()


def test_a_length_of_time_that_is_none_is_refused_with_the_arguments(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["--config", str(SMOKE), "--stop-after", "soon"])
    assert caught.value.code == 2
    assert "write 90s, 30m, 10h" in capsys.readouterr().err


def test_a_run_that_the_clock_stopped_says_how_to_go_on(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(qlora_job.QLoraJob, "_train", lambda self, stop_at: False)
    assert main(["--config", str(SMOKE), "--stop-after", "1h"]) == 0
    assert "run the same command again to go on" in capsys.readouterr().out


def test_a_time_limit_counts_from_the_start_of_the_command(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stops: list[float] = []

    def train(_: qlora_job.QLoraJob, stop_at: float) -> bool:
        stops.append(stop_at)
        return False

    def slow(config: QLoraConfig, settings: Settings) -> qlora_job.QLoraJob:
        now = time.time()
        monkeypatch.setattr(time, "time", lambda: now + 600)  # so long does it take
        return qlora_job.prepare(config, settings)

    monkeypatch.setattr(qlora_job.QLoraJob, "_train", train)
    monkeypatch.setattr("train_jobs.qlora.__main__.prepare", slow)
    began = time.time()
    assert main(["--config", str(SMOKE), "--stop-after", "1h"]) == 0
    assert 3600 <= stops[0] - began < 3600 + 300


def test_a_published_version_is_refused_before_the_training(home: Path, no_ray: None) -> None:
    (home / "adapters" / "haneul" / "mine").mkdir(parents=True)
    assert main(["--config", str(SMOKE), "version=mine", "publish=true"]) == 2


def test_nothing_is_kept_in_a_submitted_jobs_copy_of_the_code() -> None:
    qlora_job.refuse_uploaded_copy(Path("/srv/artistmind/training"), "storage_path")
    copied = Path("/tmp/ray/session/runtime_resources/working_dir_files/_ray_pkg_0a1b/.artistmind")
    with pytest.raises(ConfigurationError, match="ARTISTMIND_HOME"):
        qlora_job.refuse_uploaded_copy(copied, "storage_path")


def test_a_hub_name_is_left_to_the_hub() -> None:
    assert qlora_job.found_base(Settings(), "meta-llama/Llama-3.1-8B-Instruct") == "meta-llama/Llama-3.1-8B-Instruct"


def test_a_run_name_belongs_to_one_set_of_settings(home: Path) -> None:
    first = qlora_job.prepare(config(), get_settings())
    first._claim_run_dir()
    qlora_job.prepare(config("wandb_mode=offline", "samples=3"), get_settings())._claim_run_dir()
    with pytest.raises(ConfigurationError, match=r"begun with other settings \(learning_rate\)"):
        qlora_job.prepare(config("learning_rate=0.5"), get_settings())._claim_run_dir()


def test_a_setting_that_is_newer_than_the_run_had_its_default_there(home: Path) -> None:
    job = qlora_job.prepare(config(), get_settings())
    job._claim_run_dir()
    path = job.run_dir / "run.json"
    older = json.loads(path.read_text(encoding="utf-8"))
    del older["double_quant"]
    path.write_text(json.dumps(older), encoding="utf-8")
    job._claim_run_dir()
    with pytest.raises(ConfigurationError, match=r"begun with other settings \(double_quant\)"):
        qlora_job.prepare(config("double_quant=false"), get_settings())._claim_run_dir()


def test_a_run_keeps_where_its_adapter_comes_from_also_when_nothing_is_published(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("train_jobs.qlora.publish.code_revision", lambda: "first")
    job = qlora_job.prepare(config(), get_settings())
    job._keep_provenance()
    kept = json.loads((job.run_dir / "provenance.json").read_text(encoding="utf-8"))
    manifest = build_manifest(job.config, "v1", job.origin, {}, job.run_dir).model_dump()
    assert {key: manifest[key] for key in kept} == kept
    assert {"base_revision", "tokenizer_revision", "dataset_hash", "seed", "arguments"} <= kept.keys()
    assert kept["code_revision"] == "first"
    monkeypatch.setattr("train_jobs.qlora.publish.code_revision", lambda: "second")
    qlora_job.prepare(config(), get_settings())._keep_provenance()  # another commit goes on with it
    kept = json.loads((job.run_dir / "provenance.json").read_text(encoding="utf-8"))
    assert kept["code_revision"] == "second"


def finished(*overrides: str) -> qlora_job.QLoraJob:
    """A job whose training is over, and whose adapter is still to be published."""
    job = qlora_job.prepare(config("publish=true", *overrides), get_settings())
    job._claim_run_dir()
    job._adapter_dir.mkdir()
    (job._adapter_dir / "adapter_model.safetensors").write_bytes(b"weights")
    job._metrics_path.write_text('{"steps": 2.0}', encoding="utf-8")
    return job


def test_a_finished_run_is_only_published(home: Path, no_ray: None) -> None:
    job = finished("version=mine")
    job.run()
    published = home / "adapters" / "haneul" / "mine"
    manifest = AdapterManifest.model_validate_json((published / "manifest.json").read_text(encoding="utf-8"))
    assert manifest.metrics == {"steps": 2.0}
    assert manifest.base_revision == content_hash([PROJECT_ROOT / "models" / "base" / "model.safetensors"])
    assert manifest.dataset_hash == job.origin.dataset_hash
    assert manifest.files["adapter_model.safetensors"] == content_hash([published / "adapter_model.safetensors"])


def test_a_run_is_published_once_under_the_number_that_is_free_then(home: Path, no_ray: None) -> None:
    planned = finished("run_name=null")
    version = planned.run_dir.name.removeprefix("haneul-")
    taken = home / "adapters" / "haneul" / version  # by somebody else, meanwhile
    taken.mkdir(parents=True)
    again = qlora_job.prepare(config("publish=true", "run_name=null"), get_settings())
    assert again.run_dir == planned.run_dir
    again.run()
    again.run()
    published = {path.name for path in (home / "adapters" / "haneul").iterdir()} - {taken.name}
    assert published == {f"v{int(version[1:]) + 1}"}
    another = qlora_job.prepare(config("publish=true", "run_name=null"), get_settings())
    assert another.run_dir != planned.run_dir  # that one is over


def test_the_manifest_names_no_place_of_this_machine(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text("{}", encoding="utf-8")
    base = PROJECT_ROOT / "models" / "base"
    settings = config(f"storage_path={tmp_path}", f"base_model={base}", f"data.path={tmp_path}/rows.jsonl")
    manifest = build_manifest(settings, "v1", ORIGIN, {"validation_loss": 1.23456}, tmp_path)
    assert manifest.base_model == "models/base"
    assert manifest.metrics == {"validation_loss": 1.2346}
    assert str(tmp_path) not in manifest.model_dump_json()
    assert str(base) not in manifest.model_dump_json()
    assert manifest.arguments["data"]["path"] == "rows.jsonl"


def test_a_collected_adapter_is_portable(tmp_path: Path) -> None:
    checkpoint = tmp_path / "checkpoint"
    checkpoint.mkdir()
    written = {"base_model_name_or_path": "/srv/models/base", "target_modules": ["v_proj", "q_proj"], "r": 4}
    (checkpoint / "adapter_config.json").write_text(json.dumps(written), encoding="utf-8")
    weights = {"q.lora_A.weight": torch.linspace(-1, 1, 8).reshape(2, 4)}
    save_file(weights, checkpoint / "adapter_model.safetensors")
    (checkpoint / "optimizer.pt").write_bytes(b"state")
    collect_adapter(checkpoint, tmp_path / "adapter", str(PROJECT_ROOT / "models" / "base"))
    assert {file.name for file in (tmp_path / "adapter").iterdir()} == {
        "adapter_config.json",
        "adapter_model.safetensors",
    }
    kept = load_file(tmp_path / "adapter" / "adapter_model.safetensors")["q.lora_A.weight"]
    assert torch.equal(kept, weights["q.lora_A.weight"].to(torch.bfloat16))
    settings = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text(encoding="utf-8"))
    assert settings["base_model_name_or_path"] == "models/base"
    assert settings["target_modules"] == ["q_proj", "v_proj"]


@pytest.mark.parametrize(
    ("base", "name"),
    [
        ("meta-llama/Llama-3.1-8B-Instruct", "meta-llama/Llama-3.1-8B-Instruct"),
        (str(PROJECT_ROOT / "models" / "base"), "models/base"),
        ("/srv/models/other", "other"),
    ],
)
def test_portable_base(base: str, name: str) -> None:
    assert portable_base(base) == name


def test_samples_show_each_prompt_with_its_reply() -> None:
    prompt = [{"role": "system", "content": "card"}, {"role": "user", "content": "안녕\n하늘아"}]
    page = samples_page("haneul/v1", [prompt], ["어서 와!"])
    assert "- user: 안녕 / 하늘아\n- **reply: 어서 와!**" in page
    assert "card" not in page
