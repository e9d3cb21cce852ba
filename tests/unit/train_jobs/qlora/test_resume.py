from pathlib import Path

import pytest

pytest.importorskip("ray.train")

from ray.train import Checkpoint

from train_jobs.qlora.worker import is_whole, older_checkpoint


def checkpoint(run: Path, name: str, whole: bool) -> Checkpoint:
    folder = run / f"checkpoint_{name}"
    folder.mkdir()
    if whole:
        (folder / "adapter_model.safetensors").write_bytes(b"weights")
    return Checkpoint.from_directory(folder)


def test_a_broken_checkpoint_gives_way_to_the_newest_whole_one(tmp_path: Path) -> None:
    checkpoint(tmp_path, "2026-01-01", whole=True)
    newest_whole = checkpoint(tmp_path, "2026-01-02", whole=True)
    broken = checkpoint(tmp_path, "2026-01-03", whole=False)
    assert is_whole(newest_whole)
    assert not is_whole(broken)
    found = older_checkpoint(broken)
    assert found is not None
    assert found.path == newest_whole.path


def test_a_checkpoint_that_vanished_starts_the_run_again(tmp_path: Path) -> None:
    gone = Checkpoint.from_directory(tmp_path / "checkpoint_2026-01-01")
    assert not is_whole(gone)
    assert older_checkpoint(gone) is None
