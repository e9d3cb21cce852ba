"""Which version a run trains, and whose a run's folder is."""

import json
from pathlib import Path

import pytest

from adapters.store import AdapterStore
from core.errors import ConfigurationError
from core.settings import PROJECT_ROOT, Settings
from train_jobs.config import load_config
from train_jobs.qlora import storage
from train_jobs.qlora.claim import CLAIM, FINISHED, changed_settings, published_as, refuse_published
from train_jobs.qlora.config import QLoraConfig
from train_jobs.qlora.job import claim_of, planned_version
from train_jobs.qlora.publish import Provenance, build_manifest

SMOKE = PROJECT_ROOT / "train_jobs" / "configs" / "smoke.yaml"
ORIGIN = Provenance("base", "tokenizer", "rows.jsonl", "data", "commit")


def config(*overrides: str) -> QLoraConfig:
    return load_config(QLoraConfig, SMOKE, ["run_name=null", *overrides])


def begin(runs: Path, name: str, job: QLoraConfig, origin: Provenance = ORIGIN) -> Path:
    folder = runs / name
    folder.mkdir(parents=True)
    (folder / CLAIM).write_text(json.dumps(claim_of(job, origin)), encoding="utf-8")
    return folder


def finish(run: Path, weights: bytes = b"weights") -> None:
    (run / "adapter").mkdir()
    (run / "adapter" / "adapter_model.safetensors").write_bytes(weights)
    (run / FINISHED).touch()


def publish(run: Path, job: QLoraConfig, version: str, root: Path) -> None:
    AdapterStore([root]).publish(
        run / "adapter", build_manifest(job, version, ORIGIN, {"steps": 1.0}, run / "adapter")
    )


def version_of(home: Path, *overrides: str) -> str:
    settings = Settings(home=home)
    return planned_version(config(*overrides), ORIGIN, (home / "adapters",), settings)


def test_the_next_free_version_is_taken_over_all_roots(tmp_path: Path) -> None:
    for name in ("own/haneul/v1", "own/haneul/v10", "own/haneul/vocal", "shipped/haneul/v11", "own/kelron/v40"):
        (tmp_path / name).mkdir(parents=True)
    roots, settings = (tmp_path / "own", tmp_path / "shipped"), Settings(home=tmp_path)
    assert planned_version(config(), ORIGIN, roots, settings) == "v12"
    assert planned_version(config("character=nobody"), ORIGIN, roots, settings) == "v1"
    refuse_published(roots, config("version=v11"))  # not to be published
    with pytest.raises(ConfigurationError, match="haneul/v11 is published already"):
        refuse_published(roots, config("version=v11", "publish=true"))


def test_a_run_that_is_not_over_goes_on_although_others_have_published_since(tmp_path: Path) -> None:
    (tmp_path / "adapters" / "haneul" / "v7").mkdir(parents=True)
    runs = tmp_path / "training"
    begin(runs, "haneul-v3", config())
    begin(runs, "haneul-v5", config("learning_rate=1e-4"))
    begin(runs, "haneul-v6", config(), Provenance("base", "tokenizer", "rows.jsonl", "other data", "commit"))
    begin(runs, "haneul-vocal", config())
    (begin(runs, "haneul-v9", config()) / CLAIM).write_text("broken", encoding="utf-8")
    newest = begin(runs, "haneul-v4", config("samples=9"))  # which decides nothing
    assert version_of(tmp_path) == "v4"
    finish(newest)
    assert version_of(tmp_path) == "v3"
    assert version_of(tmp_path, "publish=true") == "v4"  # trained, and still to be published
    publish(newest, config(), "v8", tmp_path / "adapters")
    assert version_of(tmp_path, "publish=true") == "v3"
    assert version_of(tmp_path, "max_steps=3") == "v9"
    assert version_of(tmp_path, "run_name=mine") == "v9"


def test_an_adapter_is_published_as_what_has_its_very_files(tmp_path: Path) -> None:
    run, roots = begin(tmp_path, "haneul-v1", config()), (tmp_path / "adapters",)
    finish(run)
    assert published_as(run / "adapter", config(), roots) is None
    publish(run, config(), "v2", roots[0])
    assert published_as(run / "adapter", config(), roots) == "v2"
    assert published_as(run / "adapter", config("version=v3"), roots) is None
    assert published_as(run / "adapter", config("character=mir"), roots) is None
    (run / "adapter" / "adapter_model.safetensors").write_bytes(b"others")
    assert published_as(run / "adapter", config(), roots) is None


def test_a_run_in_a_bucket_is_found_from_another_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from pyarrow import fs

    found = fs.SubTreeFileSystem(str(tmp_path / "bucket"), fs.LocalFileSystem())
    monkeypatch.setattr(storage, "filesystem", lambda uri: (found, uri.removeprefix("s3://")))
    home = tmp_path / "another machine"
    (home / "adapters" / "haneul" / "v4").mkdir(parents=True)
    here = "storage_path=s3://runs"
    assert version_of(home, here) == "v5"
    run = begin(tmp_path / "bucket" / "runs", "haneul-v4", config(here))
    assert version_of(home, here) == "v4"
    finish(run)
    assert version_of(home, here) == "v5"
    assert version_of(home, here, "publish=true") == "v4"
    assert not (home / "training-remote").exists()


def test_settings_that_a_claim_does_not_know_yet_had_their_default(tmp_path: Path) -> None:
    claim = begin(tmp_path, "haneul-v1", config()) / CLAIM
    known = json.loads(claim.read_text(encoding="utf-8"))
    del known["dropout"]
    claim.write_text(json.dumps(known), encoding="utf-8")
    assert changed_settings(claim, claim_of(config(), ORIGIN), "haneul") == []
    mine = claim_of(config("dropout=0.1", "rank=2"), ORIGIN)
    assert changed_settings(claim, mine, "haneul") == ["dropout", "rank"]
