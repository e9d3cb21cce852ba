"""What a sweep refuses before Ray is touched, and that nobody else writes into its folder meanwhile."""

from pathlib import Path

import pytest

from core.errors import ConfigurationError
from tune_sweeps.cluster import check_devices
from tune_sweeps.config import SweepConfig
from tune_sweeps.sweep import alone_in


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
