"""Which checkpoint a run goes on from when the newest one was left half written or half deleted."""

from pathlib import Path

import pytest

pytest.importorskip("ray.train")

from ray.train import Checkpoint

from train_jobs.qlora.checkpoints import is_whole, mark_whole, usable


def part(scratch: Path, *names: str) -> Path:
    """A worker's local folder with files of these names."""
    for name in names:
        (scratch / name).parent.mkdir(parents=True, exist_ok=True)
        (scratch / name).write_bytes(b"content")
    return scratch


def checkpoint(run: Path, name: str, marks: tuple[int, ...] = (0,), workers: int = 1) -> Checkpoint:
    """A checkpoint with its weights, marked by some of its workers."""
    folder = part(run / f"checkpoint_{name}", "adapter_model.safetensors", "optimizer.pt", "shards/0.pt")
    found = Checkpoint.from_directory(folder)
    source = part(run.parent / f"part-{name}", "adapter_model.safetensors", "optimizer.pt", "shards/0.pt")
    for rank in marks:
        mark_whole(found, source, rank, workers)
    return found


def test_a_checkpoint_is_whole_when_each_worker_has_marked_its_part(tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert is_whole(checkpoint(run, "one"))
    assert is_whole(checkpoint(run, "both", marks=(0, 1), workers=2))
    assert not is_whole(checkpoint(run, "first", marks=(0,), workers=2))
    assert not is_whole(checkpoint(run, "none", marks=()))


@pytest.mark.parametrize("lost", ["adapter_model.safetensors", "optimizer.pt", "shards/0.pt", "whole-0-of-1.json"])
def test_a_checkpoint_of_which_any_file_is_gone_is_not_whole(lost: str, tmp_path: Path) -> None:
    found = checkpoint(tmp_path / "run", "2026-01-01")
    (Path(found.path) / lost).unlink()
    assert not is_whole(found)


def test_a_mark_that_was_cut_off_is_none(tmp_path: Path) -> None:
    found = checkpoint(tmp_path / "run", "2026-01-01")
    (Path(found.path) / "whole-0-of-1.json").write_text('["optimizer', encoding="utf-8")
    assert not is_whole(found)


def test_a_broken_checkpoint_gives_way_to_the_newest_whole_one(tmp_path: Path) -> None:
    run = tmp_path / "run"
    checkpoint(run, "2026-01-01")
    newest_whole = checkpoint(run, "2026-01-02")
    broken = checkpoint(run, "2026-01-03", marks=())
    assert usable(newest_whole) is newest_whole
    found = usable(broken)
    assert found is not None
    assert found.path == newest_whole.path


def test_a_checkpoint_that_vanished_starts_the_run_again(tmp_path: Path) -> None:
    assert usable(Checkpoint.from_directory(tmp_path / "run" / "checkpoint_2026-01-01")) is None


def test_a_run_from_before_there_were_marks_goes_on_from_the_checkpoint_that_ray_names(tmp_path: Path) -> None:
    run = tmp_path / "run"
    named = checkpoint(run, "2026-01-01", marks=())
    checkpoint(run, "2026-01-02", marks=())  # written, but Ray had not heard of it
    assert usable(named) is named
    (Path(named.path) / "adapter_model.safetensors").unlink()
    found = usable(named)
    assert found is not None
    assert Path(found.path).name == "checkpoint_2026-01-02"
