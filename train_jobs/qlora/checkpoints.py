"""Which checkpoints of a run are whole, and which one it goes on from.

A worker that has written its part leaves a mark beside it: the names of the part's files. So a checkpoint is known to
be whole wherever its run was killed: while it wrote (a mark is missing), or while it pruned (a file is).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from core.logs import get_logger
from train_jobs.qlora.publish import ADAPTER_WEIGHTS

MARK = "whole-"
"""``whole-<rank>-of-<workers>.json``."""


def mark_whole(checkpoint: Any, part: Path, rank: int, workers: int) -> None:
    """Say that a worker has written its part; the last thing that it writes.

    Args:
        checkpoint: In the run's storage.
        part: The worker's local folder, of which all files are there by now.
        rank: The worker's.
        workers: How many write a part of this checkpoint.
    """
    names = sorted(file.relative_to(part).as_posix() for file in part.rglob("*") if file.is_file())
    with checkpoint.filesystem.open_output_stream(f"{checkpoint.path}/{MARK}{rank}-of-{workers}.json") as stream:
        stream.write(json.dumps(names).encode())


def is_whole(checkpoint: Any) -> bool:
    """Whether every worker's part is there, to its last file."""
    there = _files(checkpoint)
    marks = _marks(there)
    workers = {name.removesuffix(".json").rpartition("-")[2] for name in marks}
    return workers == {str(len(marks))} and all(_named(checkpoint, mark) <= there for mark in marks)


@contextmanager
def last_checkpoint() -> Iterator[str | None]:
    """The folder of the checkpoint to go on from; ``None`` in a run that begins."""
    import ray.train

    named = ray.train.get_checkpoint()
    checkpoint = None if named is None else usable(named)
    if checkpoint is None:
        yield None
        return
    get_logger("qlora").info("resuming", checkpoint=Path(checkpoint.path).name)
    with checkpoint.as_directory() as folder:
        yield folder


def usable(named: Any) -> Any | None:
    """The checkpoint that Ray names, or where that one is not whole the newest whole one beside it.

    ``None`` starts again from the beginning.
    """
    if is_whole(named):
        return named
    siblings = _beside(named)
    found = next(filter(is_whole, siblings), None) or _unmarked([named, *siblings])
    if found is not named:
        get_logger("qlora").warning(
            "last checkpoint is not whole",
            checkpoint=Path(named.path).name,
            instead=Path(found.path).name if found else "the beginning",
        )
    return found


def _unmarked(checkpoints: Sequence[Any]) -> Any | None:
    """Of a run that was begun before there were marks, the first with weights: no more was asked for then."""
    files = [_files(one) for one in checkpoints]
    if any(map(_marks, files)):
        return None
    return next((one for one, there in zip(checkpoints, files, strict=True) if ADAPTER_WEIGHTS in there), None)


def _beside(checkpoint: Any) -> list[Any]:
    """All checkpoints in the run's folder, newest first."""
    from pyarrow.fs import FileSelector
    from ray.train import Checkpoint

    run = Path(checkpoint.path).parent.as_posix()
    paths = [item.path for item in checkpoint.filesystem.get_file_info(FileSelector(run, allow_not_found=True))]
    named = sorted((path for path in paths if Path(path).name.startswith("checkpoint_")), reverse=True)
    return [Checkpoint(path, checkpoint.filesystem) for path in named]


def _files(checkpoint: Any) -> set[str]:
    """Files of a checkpoint, by their path in it; none where it is gone."""
    from pyarrow.fs import FileSelector, FileType

    chosen = FileSelector(checkpoint.path, allow_not_found=True, recursive=True)
    found = checkpoint.filesystem.get_file_info(chosen)
    return {Path(item.path).relative_to(checkpoint.path).as_posix() for item in found if item.type == FileType.File}


def _marks(files: set[str]) -> list[str]:
    return [name for name in files if name.startswith(MARK)]


def _named(checkpoint: Any, mark: str) -> set[str]:
    """The files that a mark names; of a mark that was cut off itself, one that is not there."""
    with checkpoint.filesystem.open_input_stream(f"{checkpoint.path}/{mark}") as stream:
        try:
            return set(json.loads(stream.read()))
        except ValueError:
            return {f"what {mark} names"}
