"""Which failures are told in one line and never tried again; lengths of time."""

import errno
import pickle
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("ray.train")

import ray.train
from pyarrow import fs
from ray.train import ControllerError, WorkerGroupError

from core.errors import ArtistMindError, SetupError, TrainingDiverged
from train_jobs.qlora.callbacks import ReportToRay
from train_jobs.qlora.duration import UNITS, parse_duration
from train_jobs.qlora.failures import StopOnOurErrors, full_disk_named, is_full_disk, our_error


def test_our_errors_end_a_run_and_others_leave_it_to_ray() -> None:
    callback = StopOnOurErrors()
    callback.after_exception(None, {0: RuntimeError("a process was lost")})
    with pytest.raises(TrainingDiverged, match="step 3"):
        callback.after_exception(None, {0: RuntimeError("collateral"), 1: TrainingDiverged("step 3: nan")})


def test_our_error_is_found_under_what_ray_raises() -> None:
    diverged = TrainingDiverged("step 3: nan")
    assert our_error(ControllerError(diverged)) is diverged
    other = our_error(WorkerGroupError("Traceback\n  deep\nValueError: odd\nTry something else\n", {}))
    assert type(other) is ArtistMindError
    assert str(other) == "the training failed: ValueError: odd; see the log above"


def test_a_worker_without_memory_is_told_what_to_lower() -> None:
    said = str(our_error(WorkerGroupError("torch.OutOfMemoryError: CUDA out of memory. Tried\nto allocate", {})))
    assert "lower batch_size or max_length" in said
    assert "\n" not in said


def test_our_error_survives_the_way_between_processes() -> None:
    back = pickle.loads(pickle.dumps(TrainingDiverged("step 3: nan")))
    assert (type(back), str(back)) == (TrainingDiverged, "step 3: nan")


@pytest.mark.parametrize(
    ("error", "full"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), True),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), True),
        (RuntimeError("I/O error: No space left on device (os error 28)"), True),
        (OSError(errno.EIO, "Input/output error"), False),
        (ValueError("odd"), False),
    ],
)
def test_a_full_disk_is_known_whichever_library_meets_it(error: Exception, full: bool) -> None:
    assert is_full_disk(error) == full
    with pytest.raises(SetupError if full else type(error)), full_disk_named("the checkpoint of step 4"):
        raise error


def test_a_checkpoint_that_does_not_fit_is_one_line_and_leaves_the_older_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    older = run / "checkpoint_2026-01-01"
    older.mkdir(parents=True)

    def report(metrics: Any, checkpoint: Any, checkpoint_dir_name: str, checkpoint_upload_fn: Any) -> None:
        checkpoint_upload_fn(checkpoint, "checkpoint_of_rank_0")  # as Ray does: all ranks write under rank 0's name

    def persist(checkpoint: Any, name: str) -> None:
        (run / name).mkdir()
        (run / name / "half").write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    storage = SimpleNamespace(
        storage_filesystem=fs.LocalFileSystem(),
        build_checkpoint_path_from_name=lambda name: str(run / name),
        persist_current_checkpoint=persist,
    )
    monkeypatch.setattr(ray.train, "report", report)
    monkeypatch.setattr(ray.train, "get_context", lambda: SimpleNamespace(get_storage=lambda: storage))
    state = SimpleNamespace(global_step=40, log_history=[])
    (tmp_path / "checkpoint-40").mkdir()
    with pytest.raises(SetupError, match="the checkpoint of step 40 could not be written: no space left") as caught:
        ReportToRay().on_save(SimpleNamespace(output_dir=str(tmp_path)), state, None)
    assert "\n" not in str(caught.value)
    assert list(run.iterdir()) == [older]


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("30m", 1800), ("10h", 36000), ("1h30m", 5400)])
def test_lengths_of_time(text: str, seconds: int) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "10", "h", "0s", "-1h", "1.5h", "10 h", "30m1h", "ten"])
def test_what_is_no_length_of_time_is_told(text: str) -> None:
    with pytest.raises(ValueError, match="write 90s, 30m, 10h"):
        parse_duration(text)


@given(st.lists(st.integers(0, 99), min_size=4, max_size=4).filter(any))
def test_parts_of_a_length_of_time_add_up(numbers: list[int]) -> None:
    text = "".join(f"{number}{unit}" for number, unit in zip(numbers, UNITS, strict=True))
    assert parse_duration(text) == sum(n * s for n, s in zip(numbers, UNITS.values(), strict=True))
