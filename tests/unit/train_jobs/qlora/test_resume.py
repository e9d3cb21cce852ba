from pathlib import Path

from train_jobs.qlora.worker import is_whole, older_checkpoint


def checkpoint(run: Path, name: str, whole: bool) -> Path:
    folder = run / f"checkpoint_{name}"
    folder.mkdir()
    if whole:
        (folder / "adapter_model.safetensors").write_bytes(b"weights")
    return folder


def test_a_broken_checkpoint_gives_way_to_the_newest_whole_one(tmp_path):
    checkpoint(tmp_path, "2026-01-01", whole=True)
    newest_whole = checkpoint(tmp_path, "2026-01-02", whole=True)
    broken = checkpoint(tmp_path, "2026-01-03", whole=False)
    assert not is_whole(broken)
    assert older_checkpoint(broken) == str(newest_whole)


def test_a_checkpoint_that_vanished_starts_the_run_again(tmp_path):
    assert older_checkpoint(tmp_path / "checkpoint_2026-01-01") is None
