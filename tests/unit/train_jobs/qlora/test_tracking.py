"""Trackers: what they get, that a resumed run is the same run, and that none of them ends a training."""

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("trl")

import ray.train

from train_jobs.qlora.config import QLoraConfig
from train_jobs.qlora.tracking import Track, start_tracker

STATE = SimpleNamespace(global_step=3)


@pytest.fixture(autouse=True)
def first_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray.train, "get_context", lambda: SimpleNamespace(get_world_rank=lambda: 0))


def config(**changes: Any) -> QLoraConfig:
    return QLoraConfig(character="haneul", **changes)


def test_numbers_worth_following_are_sent_with_their_step() -> None:
    sent: list[tuple[dict[str, float], int]] = []
    tracker = SimpleNamespace(log=lambda values, step: sent.append((values, step)))
    logs = {"loss": 1.0, "grad_norm": 2.0, "learning_rate": 1e-3, "tokens_per_s": 9.0, "total_flos": 1e9}
    Track(tracker).on_log(None, STATE, None, logs)
    assert sent == [({key: logs[key] for key in ("loss", "learning_rate", "grad_norm", "tokens_per_s")}, 3)]


def test_a_tracker_that_fails_does_not_fail_the_training() -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise ConnectionError("no network")

    broken = Track(SimpleNamespace(log=refuse, finish=refuse))
    broken.on_log(None, STATE, None, {"loss": 1.0})
    broken.on_train_end(None, STATE, None)


@pytest.mark.parametrize("changes", [{"tracker": "none"}, {"wandb_mode": "disabled"}])
def test_no_tracker_is_opened_when_none_is_wanted(changes: dict[str, Any], tmp_path: Path) -> None:
    assert start_tracker(config(**changes), tmp_path) is None


def test_a_package_that_is_not_installed_is_one_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "mlflow", None)
    assert start_tracker(config(tracker="mlflow"), tmp_path) is None
    printed = capsys.readouterr()
    assert (printed.out + printed.err).count("tracker_unavailable") == 1


class FakeMlflow(SimpleNamespace):
    """Notes what MLflow is asked for."""

    def __init__(self) -> None:
        super().__init__(runs=[], metrics=[])
        self.set_tracking_uri = self.set_experiment = self.log_params = lambda *_: None
        self.log_metrics = lambda values, step: self.metrics.append((values, step))
        self.end_run = lambda: None

    def start_run(self, run_id: str | None, run_name: str, tags: dict[str, str]) -> Any:
        self.runs.append((run_id, run_name, tags))
        return SimpleNamespace(info=SimpleNamespace(run_id=run_id or "0123"))


def test_a_resumed_run_goes_on_in_the_same_mlflow_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mlflow = FakeMlflow()
    monkeypatch.setitem(sys.modules, "mlflow", mlflow)
    settings = config(tracker="mlflow", wandb_group="sweep", wandb_name="trial-3")
    for _ in range(2):
        tracker = start_tracker(settings, tmp_path)
        assert tracker is not None
        tracker.log({"loss": 1.0}, step=4)
    assert mlflow.runs == [(None, "trial-3", {"group": "sweep"}), ("0123", "trial-3", {"group": "sweep"})]
    assert mlflow.metrics == [({"loss": 1.0}, 4)] * 2


@pytest.mark.parametrize(("mode", "resume"), [("online", "allow"), ("offline", None)])
def test_a_wandb_run_has_the_folders_id_the_group_and_the_name(
    mode: str, resume: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: dict[str, Any] = {}
    wandb = SimpleNamespace(init=lambda **given: asked.update(given), Settings=lambda **given: given)
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    start_tracker(config(wandb_mode=mode, wandb_group="sweep", wandb_name="trial-3"), tmp_path / "run-7")
    named = {key: asked[key] for key in ("id", "name", "group", "resume", "mode")}
    assert named == {"id": "run-7", "name": "trial-3", "group": "sweep", "resume": resume, "mode": mode}
