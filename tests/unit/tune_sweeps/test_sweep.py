"""What a sweep refuses before Ray is touched, and that nobody else writes into its folder meanwhile."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from core.errors import ConfigurationError
from core.settings import get_settings
from train_jobs.qlora.config import QLoraConfig
from train_jobs.qlora.publish import Provenance
from tune_sweeps import sweep
from tune_sweeps.axes import Point
from tune_sweeps.cluster import check_devices
from tune_sweeps.config import SweepConfig
from tune_sweeps.plan import AxisPlan
from tune_sweeps.records import TrialData
from tune_sweeps.report import BEST, write_best
from tune_sweeps.sweep import alone_in, check_axes, claim

JOB = QLoraConfig(character="haneul")
ORIGIN = Provenance("base", "tokenizer", "rows.jsonl", "data", "commit")


def plan_of(folder: Path, axis: str = "rank", job: QLoraConfig = JOB, **more: Any) -> AxisPlan:
    """A plan with one trial's data; ``more`` are settings of the sweep."""
    config = SweepConfig.model_validate({"training": {"config": "x.yaml"}, **more})
    data = {"a": TrialData((), (), (), ORIGIN)}
    return AxisPlan(axis, config, job, (Point("1", job),), (), data, {}, folder / axis)


def of_origin(plan: AxisPlan, **changes: str) -> AxisPlan:
    return replace(plan, data={"a": TrialData((), (), (), replace(ORIGIN, **changes))})


def test_a_folder_belongs_to_one_set_of_settings_data_and_base(tmp_path: Path) -> None:
    plan = plan_of(tmp_path)
    claim(plan)
    kept = json.loads((plan.folder / "sweep.json").read_text(encoding="utf-8"))
    assert (kept["dataset_hash"], kept["base_revision"], kept["tokenizer_revision"]) == (
        ["data"],
        ["base"],
        ["tokenizer"],
    )
    claim(plan)
    claim(plan_of(tmp_path, devices={"cpus": 1}, served_by="serve_deploy.yaml"))
    with pytest.raises(ConfigurationError, match=r"other settings \(samples\)"):
        claim(plan_of(tmp_path, samples=3))
    with pytest.raises(ConfigurationError, match=r"other settings \(max_failures\)"):  # Tune keeps its own
        claim(plan_of(tmp_path, max_failures=3))
    for name in ("dataset_hash", "base_revision", "tokenizer_revision"):
        with pytest.raises(ConfigurationError, match=rf"other settings \({name}\)"):
            claim(of_origin(plan, **{name: "another"}))


def test_a_sweep_goes_on_after_the_code_was_mended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweep, "code_revision", lambda: "first")
    plan = plan_of(tmp_path)
    claim(plan)
    monkeypatch.setattr(sweep, "code_revision", lambda: "second")
    claim(of_origin(plan, code_revision="second"))
    assert json.loads((plan.folder / "sweep.json").read_text(encoding="utf-8"))["code_revision"] == "first"


def test_other_settings_are_refused_while_nothing_is_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each axis is compared with the winners of those before it, as it was begun with them."""

    def plan(axis: str, config: SweepConfig, training: QLoraConfig, folder: Path, _: object) -> AxisPlan:
        return plan_of(folder, axis, training, **config.model_dump(exclude_unset=True, exclude={"training"}))

    def check(resume: bool = True, **more: Any) -> None:
        config = SweepConfig.model_validate({"training": {"config": "x.yaml"}, **more})
        check_axes(["learning_rate", "rank"], config, JOB, tmp_path, get_settings(), resume)

    monkeypatch.setattr(sweep, "plan_axis", plan)
    winner = JOB.model_copy(update={"learning_rate": 1e-5})
    claim(plan_of(tmp_path, "learning_rate"))
    write_best(tmp_path / "learning_rate" / BEST, "winner", winner)
    claim(plan_of(tmp_path, "rank", winner))
    check()
    with pytest.raises(ConfigurationError, match=r"learning_rate was begun with other settings \(samples\)"):
        check(samples=3)
    with pytest.raises(ConfigurationError, match="go on with --resume"):
        check(resume=False)
    write_best(tmp_path / "learning_rate" / BEST, "winner", JOB)
    with pytest.raises(ConfigurationError, match=r"rank was begun with other settings \(training\.learning_rate\)"):
        check()


def test_a_sweep_that_runs_is_not_joined_and_its_end_frees_the_folder(tmp_path: Path) -> None:
    folder = tmp_path / "sweeps" / "try"
    with alone_in(folder), pytest.raises(ConfigurationError, match="sweep try is running"), alone_in(folder):
        pass
    with alone_in(folder):
        pass


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(ConfigurationError, match=r"storage_path: .* cannot be written"), alone_in(tmp_path / "file"):
        pass


def test_a_gpu_that_is_not_there_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr("tune_sweeps.cluster.gpus_gib", list)
    training = {"config": "x.yaml"}
    check_devices(SweepConfig.model_validate({"training": training}))
    on_gpu = SweepConfig.model_validate({"training": training, "devices": {"gpus": 0.5}})
    with pytest.raises(ConfigurationError, match="this machine has no GPU"):
        check_devices(on_gpu)
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:6379")
    check_devices(on_gpu)
