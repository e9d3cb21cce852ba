"""Which version a run trains, and whose a run's folder is."""

import json
from pathlib import Path

import pytest

from core.errors import ConfigurationError
from core.settings import PROJECT_ROOT, Settings
from train_jobs.config import load_config
from train_jobs.qlora import storage
from train_jobs.qlora.claim import CLAIM, FINISHED, PUBLISHED, changed_settings, chosen_version
from train_jobs.qlora.config import QLoraConfig, learned_settings

SMOKE = PROJECT_ROOT / "train_jobs" / "configs" / "smoke.yaml"


def config(*overrides: str) -> QLoraConfig:
    return load_config(QLoraConfig, SMOKE, overrides)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path)


def begin(runs: Path, name: str, job: QLoraConfig) -> Path:
    folder = runs / name
    folder.mkdir(parents=True)
    (folder / CLAIM).write_text(json.dumps({**learned_settings(job), "dataset_hash": "x"}), encoding="utf-8")
    return folder


def test_the_next_free_version_is_taken_over_all_roots(tmp_path: Path, settings: Settings) -> None:
    for name in ("own/haneul/v1", "own/haneul/v10", "own/haneul/vocal", "shipped/haneul/v11", "own/kelron/v40"):
        (tmp_path / name).mkdir(parents=True)
    roots = (tmp_path / "own", tmp_path / "shipped")
    assert chosen_version(roots, config(), settings) == "v12"
    assert chosen_version(roots, config("character=nobody"), settings) == "v1"
    assert chosen_version(roots, config("version=v11"), settings) == "v11"  # not to be published
    with pytest.raises(ConfigurationError, match="haneul/v11 is published already"):
        chosen_version(roots, config("version=v11", "publish=true"), settings)


def test_a_run_that_is_not_over_goes_on_although_others_have_published_since(
    tmp_path: Path, settings: Settings
) -> None:
    roots = (tmp_path / "adapters",)
    (tmp_path / "adapters" / "haneul" / "v7").mkdir(parents=True)
    begin(tmp_path / "training", "haneul-v3", config())
    begin(tmp_path / "training", "haneul-v5", config("learning_rate=1e-4"))
    begin(tmp_path / "training", "haneul-vocal", config())
    newest = begin(tmp_path / "training", "haneul-v4", config("samples=9"))  # which decides nothing
    assert chosen_version(roots, config(), settings) == "v4"
    (newest / FINISHED).touch()
    assert chosen_version(roots, config(), settings) == "v3"
    assert chosen_version(roots, config("publish=true"), settings) == "v4"  # trained, and still to be published
    (newest / PUBLISHED).touch()
    assert chosen_version(roots, config("publish=true"), settings) == "v3"
    assert chosen_version(roots, config("max_steps=3"), settings) == "v8"


def test_a_run_in_a_bucket_is_found_from_another_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from pyarrow import fs

    found = fs.SubTreeFileSystem(str(tmp_path / "bucket"), fs.LocalFileSystem())
    monkeypatch.setattr(storage, "filesystem", lambda uri: (found, uri.removeprefix("s3://")))
    roots, machine = (tmp_path / "adapters",), Settings(home=tmp_path / "another machine")
    (roots[0] / "haneul" / "v4").mkdir(parents=True)
    job = config("storage_path=s3://runs")
    assert chosen_version(roots, job, machine) == "v5"
    run = begin(tmp_path / "bucket" / "runs", "haneul-v4", job)
    assert chosen_version(roots, job, machine) == "v4"
    (run / FINISHED).touch()
    assert chosen_version(roots, job, machine) == "v5"


def test_settings_that_a_claim_does_not_know_yet_had_their_default(tmp_path: Path) -> None:
    claim = begin(tmp_path, "haneul-v1", config()) / CLAIM
    known = json.loads(claim.read_text(encoding="utf-8"))
    del known["dropout"]
    claim.write_text(json.dumps(known), encoding="utf-8")
    assert changed_settings(claim, learned_settings(config()), "haneul") == []
    assert changed_settings(claim, learned_settings(config("dropout=0.1", "rank=2")), "haneul") == ["dropout", "rank"]
