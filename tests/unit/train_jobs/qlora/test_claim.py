"""Which version a run trains, and whose a run's folder is."""

import json
from pathlib import Path

import pytest

from core.errors import ConfigurationError
from core.settings import PROJECT_ROOT
from train_jobs.config import load_config
from train_jobs.qlora.claim import CLAIM, FINISHED, changed_settings, chosen_version
from train_jobs.qlora.config import QLoraConfig, learned_settings

SMOKE = PROJECT_ROOT / "train_jobs" / "configs" / "smoke.yaml"


def config(*overrides: str) -> QLoraConfig:
    return load_config(QLoraConfig, SMOKE, overrides)


def begin(runs: Path, name: str, job: QLoraConfig) -> Path:
    folder = runs / name
    folder.mkdir(parents=True)
    (folder / CLAIM).write_text(json.dumps({**learned_settings(job), "dataset_hash": "x"}), encoding="utf-8")
    return folder


def test_the_next_free_version_is_taken_over_all_roots(tmp_path: Path) -> None:
    for name in ("own/haneul/v1", "own/haneul/v10", "own/haneul/vocal", "shipped/haneul/v11", "own/kelron/v40"):
        (tmp_path / name).mkdir(parents=True)
    roots, runs = (tmp_path / "own", tmp_path / "shipped"), tmp_path / "runs"
    assert chosen_version(roots, config(), runs) == "v12"
    assert chosen_version(roots, config("character=nobody"), runs) == "v1"
    assert chosen_version(roots, config("version=v11"), runs) == "v11"  # not to be published
    with pytest.raises(ConfigurationError, match="haneul/v11 is published already"):
        chosen_version(roots, config("version=v11", "publish=true"), runs)


def test_an_unfinished_run_goes_on_although_others_have_published_since(tmp_path: Path) -> None:
    roots, runs = (tmp_path / "adapters",), tmp_path / "runs"
    (tmp_path / "adapters" / "haneul" / "v7").mkdir(parents=True)
    begin(runs, "haneul-v3", config())
    begin(runs, "haneul-v5", config("learning_rate=1e-4"))
    begin(runs, "haneul-vocal", config())
    newest = begin(runs, "haneul-v4", config("samples=9"))  # which decides nothing
    assert chosen_version(roots, config(), runs) == "v4"
    (newest / FINISHED).touch()
    assert chosen_version(roots, config(), runs) == "v3"
    assert chosen_version(roots, config("max_steps=3"), runs) == "v8"


def test_settings_that_a_claim_does_not_know_yet_had_their_default(tmp_path: Path) -> None:
    claim = begin(tmp_path, "haneul-v1", config()) / CLAIM
    known = json.loads(claim.read_text(encoding="utf-8"))
    del known["dropout"]
    claim.write_text(json.dumps(known), encoding="utf-8")
    assert changed_settings(claim, learned_settings(config()), "haneul") == []
    assert changed_settings(claim, learned_settings(config("dropout=0.1", "rank=2")), "haneul") == ["dropout", "rank"]
