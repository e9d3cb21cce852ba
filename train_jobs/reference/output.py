"""Finished models appear as a whole: nobody ever reads half a folder."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def swap_in(output: Path, keep: tuple[str, ...] = ()) -> Iterator[Path]:
    """An empty folder beside ``output`` that takes its place when the block ends well.

    Files named in ``keep`` (the model card) are carried over from the folder that is replaced.
    """
    fresh = output.with_name(f".{output.name}.new")
    old = output.with_name(f".{output.name}.old")
    for leftover in (fresh, old):
        shutil.rmtree(leftover, ignore_errors=True)
    fresh.mkdir(parents=True)
    yield fresh
    for name in keep:
        if (output / name).is_file():
            shutil.copy2(output / name, fresh / name)
    if output.exists():
        output.rename(old)
    fresh.rename(output)
    shutil.rmtree(old, ignore_errors=True)
